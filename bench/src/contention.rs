//! `contention`: what a second thread on the same layer value brings.

use crate::{
    kit::{Spread, measure, runtime_of_two},
    overhead,
    row::Report,
};
use std::time::Duration;

/// Throughput with one and with two threads that share the layer.
pub(crate) fn run(quick: bool) -> Report {
    let (rounds, turn) = if quick { (15, 2) } else { (31, 6) };
    let turn = Duration::from_millis(turn);
    let runtime = runtime_of_two();
    let mut cases = overhead::cases(&runtime);
    measure(&mut cases, &runtime, (1, turn), || ());
    let mut samples = vec![(Vec::new(), Vec::new()); cases.len()];
    for _ in 0..rounds {
        for (case, (one, two)) in cases.iter_mut().zip(&mut samples) {
            let calls = case.per_turn();
            let (alone, together) = case.throughput(&runtime, calls);
            one.push(alone);
            two.extend(together);
        }
    }
    let mut report = Report::new("contention");
    report.note("Calls in a microsecond, by the median round; speedup is two threads over one.");
    report.note("No figure for two: it cannot be cloned, or the two never ran side by side.");
    for (case, (mut one, mut two)) in cases.into_iter().zip(samples) {
        let [one, two] = [Spread::of(&mut one).median, Spread::of(&mut two).median];
        report.line(case.name, case.system, &[("calls_per_us_1", one, "calls/us")]);
        if two.is_finite() {
            let metrics = [("calls_per_us_2", two, "calls/us"), ("speedup", two / one, "x")];
            report.line(case.name, case.system, &metrics);
        }
    }
    report
}
