//! `figures`: the tables worth a picture, drawn as SVG.

use std::{error::Error, fs, path::Path};

use plotters::prelude::*;

use crate::{
    row::{Row, read},
    sim::{storm, tail},
};

type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (860, 420);
const COLOURS: [RGBColor; 4] =
    [RGBColor(179, 38, 30), RGBColor(11, 117, 104), RGBColor(217, 154, 28), RGBColor(70, 90, 140)];
const FONT: (&str, u32) = ("sans-serif", 15);

/// The figure of a group.
pub(crate) fn of(group: &str) -> Option<&'static str> {
    Some(match group {
        "overhead" => "overhead.svg",
        "tail" => "tail.svg",
        "storm" => "storm.svg",
        "window" => "window.svg",
        _ => return None,
    })
}

/// Draws all figures into `folder`; those of measurements from the rows of `file`.
pub(crate) fn draw(file: &Path, folder: &Path) -> Drawn {
    fs::create_dir_all(folder)?;
    let rows = read(file)?;
    draw_tail(&folder.join("tail.svg"))?;
    draw_storm(&folder.join("storm.svg"))?;
    draw_overhead(&folder.join("overhead.svg"), &rows)?;
    draw_window(&folder.join("window.svg"), &rows)
}

/// A line with its name.
type Line = (String, Vec<(f64, f64)>);

fn lines(
    file: &Path,
    (title, x, y): (&str, &str, &str),
    (x_range, y_range): (std::ops::Range<f64>, std::ops::Range<f64>),
    lines: &[Line],
) -> Drawn {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(x_range, y_range)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(x)
        .y_desc(y)
        .label_style(FONT)
        .axis_desc_style(FONT)
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font(FONT)
        .draw()?;
    root.present()?;
    Ok(())
}

/// Which share of the calls takes longer than so many milliseconds.
fn draw_tail(file: &Path) -> Drawn {
    let names = ["no backup request", "after 13 ms", "after the live p99"];
    let of = |(name, (_, policy)): (&str, (&str, _))| {
        let played = tail::play(policy, 200);
        let points = (0..=80).map(|step| {
            let exponent = f64::from(step) / 20.0;
            (played.latencies.quantile(1.0 - 10_f64.powf(-exponent)), exponent)
        });
        (name.to_owned(), points.map(|(ms, exponent)| (exponent, ms)).collect())
    };
    let all: Vec<Line> = names.into_iter().zip(tail::policies()).map(of).collect();
    let words = (
        "Latency by quantile, with and without backup requests",
        "nines of the quantile: 2 is p99, 4 is p99.99",
        "ms",
    );
    lines(file, words, (0.0..4.0, 0.0..90.0), &all)
}

fn draw_storm(file: &Path) -> Drawn {
    let shown =
        ["1 attempt", "4 attempts at once", "budget 10 % and concurrency limit 20, 100 clients"];
    let of = |fleet: storm::Fleet| {
        let book = storm::play(fleet);
        let points = book.iter().zip(0_u32..);
        #[expect(clippy::cast_precision_loss, reason = "few calls")]
        let points = points.map(|(second, at)| (f64::from(at), second.good as f64)).collect();
        (fleet.name.to_owned(), points)
    };
    let fleets = storm::fleets().into_iter().filter(|fleet| shown.contains(&fleet.name));
    let all: Vec<Line> = fleets.map(of).collect();
    let words =
        ("A server at a fifth of its capacity from 30 s to 40 s", "s", "calls answered in 500 ms");
    lines(file, words, (0.0..120.0, 0.0..1_000.0), &all)
}

fn draw_window(file: &Path, rows: &[Row]) -> Drawn {
    let of = |system: &str| {
        let rows = rows.iter().filter(|row| row.group == "window" && row.system == system);
        let power = |row: &Row| row.name.trim_start_matches("10^").split(' ').next()?.parse().ok();
        let points = rows.filter_map(|row| Some((power(row)?, row.value.max(1.0).log10())));
        (system.to_owned(), points.collect())
    };
    let all: Vec<Line> = ["tower-resilience", "outrigger"].map(of).into();
    let words = (
        "A call through a breaker, by calls in its window of time",
        "calls in the window: powers of ten",
        "ns: powers of ten",
    );
    lines(file, words, (1.0..6.0, 0.0..5.0), &all)
}

/// What a layer costs above a bare call, of all systems that have it.
fn draw_overhead(file: &Path, rows: &[Row]) -> Drawn {
    const LAYERS: [&str; 5] =
        ["breaker_closed", "concurrency_limit", "rate_limit", "timeout", "retry_first_ok"];
    const SYSTEMS: [&str; 3] = ["tower-resilience", "outrigger", "tower"];
    let value = |name: &str, system: &str| {
        let is = |row: &&Row| {
            row.group == "overhead"
                && row.name == name
                && row.system == system
                && row.metric == "over_bare_ns"
        };
        rows.iter().find(is).map(|row| row.value.max(1.0))
    };
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("What a layer costs above a bare call, ns, powers of ten", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..5.0, 0.0..4.0)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .disable_x_mesh()
        .x_labels(0)
        .label_style(FONT)
        .draw()?;
    for ((system, colour), place) in SYSTEMS.into_iter().zip(COLOURS).zip(0_u32..) {
        let bars = LAYERS.iter().zip(0_u32..).filter_map(|(layer, number)| {
            let left = f64::from(number) + 0.1 + 0.27 * f64::from(place);
            let height = value(layer, system)?.log10();
            Some(Rectangle::new([(left, 0.0), (left + 0.25, height)], colour.filled()))
        });
        chart
            .draw_series(bars)?
            .label(system)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    let names = LAYERS.iter().zip(0_u32..).map(|(layer, number)| {
        Text::new((*layer).to_owned(), (f64::from(number) + 0.15, -0.12), FONT)
    });
    chart.draw_series(names)?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font(FONT)
        .draw()?;
    root.present()?;
    Ok(())
}
