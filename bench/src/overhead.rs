//! `overhead`: the time and the heap of one call through each layer, ours and the peers'.

mod disabled;
#[cfg(feature = "peers")]
mod metered;
#[cfg(feature = "peers")]
mod other_peers;
pub(crate) mod ours;
#[cfg(feature = "peers")]
pub(crate) mod tower_layers;
#[cfg(feature = "peers")]
pub(crate) mod tower_resilience;

#[cfg(feature = "peers")]
use std::io;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::runtime::Runtime;

use crate::kit::{Case, Cloned, inner};
#[cfg(feature = "peers")]
use crate::{
    kit::{measure, runtime},
    row::Report,
};

/// A time that does not end while anything is measured.
pub(crate) const HOUR: Duration = Duration::from_hours(1);
/// A limit that no case comes near.
pub(crate) const PLENTY: u32 = 1_000_000;

/// Installs the recorder of this process, and gives what it is told that a scrape is over.
pub(crate) fn install_recorder() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the only one");
    handle
}

/// A call without any layer, which every other is compared with.
pub(crate) fn bare() -> Case {
    Case::new("bare", "bare", Cloned(inner()))
}

/// Who records no metrics: all of one name together, ours first.
pub(crate) fn cases(runtime: &Runtime) -> Vec<Case> {
    let _inside = runtime.enter();
    let mut cases = vec![bare()];
    cases.extend(ours::cases());
    #[cfg(feature = "peers")]
    {
        cases.extend(tower_layers::cases());
        cases.extend(tower_resilience::cases());
        cases.extend(other_peers::cases());
    }
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

#[cfg(feature = "peers")]
pub(crate) fn run(quick: bool) -> io::Result<Report> {
    let (rounds, turn) = if quick { (31, 500) } else { (301, 1_000) };
    let runtime = runtime();
    let recorder = install_recorder();
    let mut cases = if cfg!(feature = "peer-metrics") {
        let _inside = runtime.enter();
        let mut cases = vec![bare()];
        cases.extend(metered::cases());
        cases
    } else {
        cases(&runtime)
    };
    // The recorder keeps every value until it is scraped or told.
    let after_round = || recorder.run_upkeep();
    measure(&mut cases, &runtime, (rounds, Duration::from_micros(turn)), after_round);
    let mut report = Report::new("overhead");
    report.note("One call on one thread over an inner service that is ready at once.");
    report.note(
        "ns_per_call: median of the rounds; p10 and p90 are its spread; over_bare: less `bare`.",
    );
    report.note("Heap: by the counting allocator, which makes an allocation 1 to 2 ns slower.");
    report.note("pingora-load-balancing does not build without cmake; its ring stands for it.");
    report.note("Rows with metrics are of one further program, with those of tower-resilience on.");
    tell(&mut report, &mut cases, &runtime);
    if !cfg!(feature = "peer-metrics") {
        report.append(metered::of_another_build(quick)?);
    }
    Ok(report)
}

#[cfg(feature = "peers")]
fn tell(report: &mut Report, cases: &mut [Case], runtime: &Runtime) {
    let mut bare = f64::NAN;
    for case in cases {
        let spread = case.spread();
        let (allocs, bytes) = case.heap(runtime);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::runtime;

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
