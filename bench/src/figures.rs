//! `figures`: the tables worth a picture, drawn as SVG and PNG.

mod plot;

use std::{fs, path::Path};

use outrigger_ratelimit::LimitAlgorithm;
use plotters::prelude::*;

use self::plot::{Axis, COLOURS, Drawn, Line, area, axes, legend, lines, png, text};
use crate::{
    row::{Row, read},
    sim::{limit, storm, tail},
};

/// The figure of a group.
pub(crate) fn of(group: &str) -> Option<&'static str> {
    Some(match group {
        "overhead" => "overhead.svg",
        "pick" => "pick.svg",
        "tail" => "tail.svg",
        "storm" => "storm.svg",
        "limit" => "limit.svg",
        "window" => "window.svg",
        _ => return None,
    })
}

/// Draws one figure into a file.
type Draw<'a> = &'a dyn Fn(&Path) -> Drawn;

/// Draws all figures into `folder`; those of measurements from the rows of `file`.
pub(crate) fn draw(file: &Path, folder: &Path) -> Drawn {
    fs::create_dir_all(folder)?;
    let rows = read(file)?;
    let draw: [(&str, Draw<'_>); 6] = [
        ("tail.svg", &draw_tail),
        ("storm.svg", &draw_storm),
        ("limit.svg", &draw_limit),
        ("overhead.svg", &|file| draw_overhead(file, &rows)),
        ("pick.svg", &|file| draw_pick(file, &rows)),
        ("window.svg", &|file| draw_window(file, &rows)),
    ];
    for (name, draw) in draw {
        let file = folder.join(name);
        draw(&file)?;
        png(&file)?;
    }
    Ok(())
}

/// The share of calls that take longer than so many milliseconds.
fn draw_tail(file: &Path) -> Drawn {
    let names = ["no backup request", "after 13 ms", "after the live p99"];
    let of = |(name, (_, policy)): (&str, (&str, _))| {
        let played = tail::play(policy, 200);
        let points = (0..=80).map(|step| {
            let exponent = f64::from(step) / 20.0;
            (played.latencies.quantile(1.0 - 10_f64.powf(-exponent)), -exponent)
        });
        (name.to_owned(), points.collect())
    };
    let all: Vec<Line> = names.into_iter().zip(tail::policies()).map(of).collect();
    let axes =
        [Axis::plain("ms", 0.0..70.0), Axis::powers("share of calls that take longer", -4.0..0.0)];
    let title = "Calls that take longer, with and without backup requests";
    lines(file, title, axes, (SeriesLabelPosition::UpperRight, &all))
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
    let axes =
        [Axis::plain("s", 0.0..120.0), Axis::plain("calls answered in 500 ms", 0.0..1_100.0)];
    let title = "A server at a fifth of its capacity from 30 s to 40 s";
    lines(file, title, axes, (SeriesLabelPosition::UpperRight, &all))
}

/// The adaptive limit before a server whose capacity is halved and doubled, at 1.5 times its load.
fn draw_limit(file: &Path) -> Drawn {
    let points = limit::series(LimitAlgorithm::default());
    let of = |value: fn(&limit::Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|point| (point.at_s, value(point))).collect()
    };
    let most = points.iter().map(|point| point.limit).fold(0.0, f64::max);
    let all = [
        ("limit".to_owned(), of(|point| point.limit)),
        ("capacity of the server".to_owned(), of(|point| point.capacity)),
    ];
    let axes = [Axis::plain("s", 0.0..300.0), Axis::plain("calls at once", 0.0..most * 1.25)];
    let title = "The adaptive limit before a server whose capacity changes, at 1.5 times its load";
    lines(file, title, axes, (SeriesLabelPosition::UpperLeft, &all))
}

/// The points of one system, by a number in the name of each row.
fn points(
    rows: &[Row],
    (group, system, metric): (&str, &str, &str),
    number: impl Fn(&str) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let rows = rows
        .iter()
        .filter(|row| row.group == group && row.system == system && row.metric == metric);
    let points = rows.filter_map(|row| Some((number(&row.name)?, row.value.max(1.0).log10())));
    points.collect()
}

fn draw_window(file: &Path, rows: &[Row]) -> Drawn {
    let power = |name: &str| name.strip_prefix("10^")?.split(' ').next()?.parse().ok();
    let of = |system: &str| {
        (system.to_owned(), points(rows, ("window", system, "ns_per_record"), power))
    };
    let all: Vec<Line> = ["tower-resilience", "outrigger"].map(of).into();
    let axes = [Axis::powers("calls in the window", 1.0..6.0), Axis::powers("ns", 1.0..5.0)];
    let title = "A call through a breaker, by calls in its window of time";
    lines(file, title, axes, (SeriesLabelPosition::UpperRight, &all))
}

fn draw_pick(file: &Path, rows: &[Row]) -> Drawn {
    const SHOWN: [(&str, &str, &str); 6] = [
        ("weighted_random", "bare", "weighted random, scanned as Kitex does"),
        ("weighted_random", "outrigger", "weighted random"),
        ("p2c", "tower", "tower: p2c, a whole call"),
        ("p2c", "outrigger", "least of two"),
        ("ring", "outrigger", "ring"),
        ("ring", "hashring", "hashring: ring, look-up alone"),
    ];
    let of = |(picker, system, words): (&str, &str, &str)| {
        let number = |name: &str| {
            let (own, endpoints) = name.rsplit_once('_')?;
            let endpoints: f64 = endpoints.parse().ok()?;
            (own == picker).then(|| endpoints.log10())
        };
        (words.to_owned(), points(rows, ("pick", system, "ns_per_pick"), number))
    };
    let all: Vec<Line> = SHOWN.map(of).into();
    let axes = [Axis::powers("endpoints", 1.0..5.0), Axis::powers("ns for a pick", 0.0..5.0)];
    let title = "What a pick costs, by the number of endpoints";
    lines(file, title, axes, (SeriesLabelPosition::UpperLeft, &all))
}

/// What a layer costs above a bare call, of all systems that have it.
fn draw_overhead(file: &Path, rows: &[Row]) -> Drawn {
    const LAYERS: [&str; 6] = [
        "breaker_closed",
        "concurrency_limit",
        "rate_limit",
        "timeout",
        "retry_first_ok",
        "client_stack_no_observe",
    ];
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
    let root = area(file);
    let (x, y) = (Axis::plain("", 0.0..6.0), Axis::powers("ns", 0.0..4.0));
    let mut chart = axes(&root, "What a layer costs above a bare call", &x, &y)?;
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
        let words = layer.trim_end_matches("_no_observe").replace('_', " ");
        text(&words, (f64::from(number) + 0.12, -0.2))
    });
    chart.draw_series(names)?;
    legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    root.present()?;
    Ok(())
}
