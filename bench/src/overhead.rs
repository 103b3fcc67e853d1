//! `overhead`: the time and the heap of one call through each layer, ours and the peers'.

mod other_peers;
mod ours;
pub(crate) mod tower_layers;
pub(crate) mod tower_resilience;

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::{
    kit::{Case, Cloned, inner, measure, runtime},
    row::Report,
};

/// A time that does not end while anything is measured.
pub(crate) const HOUR: Duration = Duration::from_hours(1);
/// A limit that no case comes near.
pub(crate) const PLENTY: u32 = 1_000_000;

pub(crate) fn cases(runtime: &Runtime) -> Vec<Case> {
    let _inside = runtime.enter();
    let mut cases = vec![Case::new("bare", "bare", Cloned(inner()))];
    cases.extend(ours::cases());
    cases.extend(tower_layers::cases());
    cases.extend(tower_resilience::cases());
    cases.extend(other_peers::cases());
    // Stable: a name's first system is ours.
    let mut names: Vec<&str> = Vec::new();
    for case in &cases {
        if !names.contains(&case.name) {
            names.push(case.name);
        }
    }
    let names: Vec<&str> = names;
    cases.sort_by_key(|case| names.iter().position(|&name| name == case.name));
    cases
}

pub(crate) fn run(quick: bool) -> Report {
    let (rounds, turn) = if quick { (31, 500) } else { (301, 1_000) };
    let runtime = runtime();
    let mut cases = cases(&runtime);
    measure(&mut cases, &runtime, rounds, Duration::from_micros(turn));
    let mut report = Report::new("overhead");
    report.note("One call on one thread over an inner service that is ready at once.");
    report.note(
        "ns_per_call: median of the rounds; p10 and p90 are its spread; over_bare: less `bare`.",
    );
    report.note("Heap: by the counting allocator, which makes an allocation 1 to 2 ns slower.");
    report.note("pingora-load-balancing does not build without cmake; its ring stands for it.");
    let mut bare = f64::NAN;
    for case in &mut cases {
        let spread = case.spread();
        let (allocs, bytes) = case.heap(&runtime);
        if case.name == "bare" {
            bare = spread.median;
        }
        let metrics = [
            ("ns_per_call", spread.median, "ns"),
            ("p10_ns", spread.p10, "ns"),
            ("p90_ns", spread.p90, "ns"),
            ("over_bare_ns", spread.median - bare, "ns"),
            ("allocs_per_call", allocs, "allocations"),
            ("bytes_per_call", bytes, "bytes"),
        ];
        report.line(case.name, case.system, &metrics);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_layers_allocate_nothing_on_the_success_path_nor_on_the_refusal_path() {
        let runtime = runtime();
        let mut cases = cases(&runtime);
        let ours = cases.iter_mut().filter(|case| case.system == "outrigger");
        for case in ours {
            assert_eq!(case.heap(&runtime), (0.0, 0.0), "{}", case.name);
        }
    }
}
