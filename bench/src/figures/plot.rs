//! How a figure is drawn: as SVG, and from that as PNG.

use std::{error::Error, fs, ops::Range, path::Path, sync::Arc};

use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg,
};

pub(super) type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (860, 430);
const FONT: (&str, u32) = ("sans-serif", 15);
const TITLE: (&str, u32) = ("sans-serif", 19);
/// Told apart by those who see no red and green, too.
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(194, 65, 12),
    RGBColor(0, 114, 128),
    RGBColor(230, 159, 0),
    RGBColor(86, 100, 190),
    RGBColor(90, 90, 90),
    RGBColor(190, 110, 180),
];

/// An axis: what it shows, from where to where.
pub(super) struct Axis {
    pub(super) words: &'static str,
    pub(super) range: Range<f64>,
    /// The numbers are powers of ten.
    pub(super) powers: bool,
}

impl Axis {
    pub(super) const fn plain(words: &'static str, range: Range<f64>) -> Self {
        Self { words, range, powers: false }
    }

    pub(super) const fn powers(words: &'static str, range: Range<f64>) -> Self {
        Self { words, range, powers: true }
    }

    fn label(&self, number: f64) -> String {
        match (self.powers, 10_f64.powf(number)) {
            (false, _) => format!("{number}"),
            (true, value) if value >= 1e6 => format!("{} M", value / 1e6),
            (true, value) if value >= 1e3 => format!("{} k", value / 1e3),
            (true, value) => format!("{value}"),
        }
    }
}

/// A line with its name.
pub(super) type Line = (String, Vec<(f64, f64)>);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An empty figure with its axes. Where the x axis is given no words, it gets no numbers.
pub(super) fn axes<'a, 'b>(
    root: &'a Area<'b>,
    title: &str,
    x: &Axis,
    y: &Axis,
) -> Result<Chart<'a, 'b>, Box<dyn Error>> {
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(root)
        .caption(title, TITLE)
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(66)
        .build_cartesian_2d(x.range.clone(), y.range.clone())?;
    let mut mesh = chart.configure_mesh();
    let (x_label, y_label) = (|number: &f64| x.label(*number), |number: &f64| y.label(*number));
    mesh.light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc(x.words)
        .y_desc(y.words)
        .label_style(FONT)
        .axis_desc_style(FONT)
        .x_label_formatter(&x_label)
        .y_label_formatter(&y_label);
    if x.powers {
        mesh.x_labels(whole(&x.range));
    }
    if y.powers {
        mesh.y_labels(whole(&y.range));
    }
    if x.words.is_empty() {
        mesh.disable_x_mesh().x_labels(0);
    }
    mesh.draw()?;
    Ok(chart)
}

/// As many labels as there are whole numbers.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few")]
fn whole(range: &Range<f64>) -> usize {
    (range.end - range.start) as usize + 1
}

pub(super) fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, place: SeriesLabelPosition) -> Drawn {
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(200, 200, 200))
        .label_font(FONT)
        .draw()?;
    Ok(())
}

pub(super) fn area(file: &Path) -> Area<'_> {
    SVGBackend::new(file, SIZE).into_drawing_area()
}

pub(super) fn text(words: &str, at: (f64, f64)) -> Text<'static, (f64, f64), String> {
    Text::new(words.to_owned(), at, FONT)
}

pub(super) fn lines(
    file: &Path,
    title: &str,
    [x, y]: [Axis; 2],
    (place, lines): (SeriesLabelPosition, &[Line]),
) -> Drawn {
    let root = area(file);
    let mut chart = axes(&root, title, &x, &y)?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    legend(&mut chart, place)?;
    root.present()?;
    Ok(())
}

/// Draws an SVG as PNG beside it, with twice as many points in each direction.
pub(super) fn png(svg: &Path) -> Drawn {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.set_sans_serif_family("Ubuntu");
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(&fs::read_to_string(svg)?, &options)?;
    let mut picture = Pixmap::new(SIZE.0 * 2, SIZE.1 * 2).ok_or("a picture has a size")?;
    resvg::render(&tree, Transform::from_scale(2.0, 2.0), &mut picture.as_mut());
    picture.save_png(svg.with_extension("png"))?;
    Ok(())
}
