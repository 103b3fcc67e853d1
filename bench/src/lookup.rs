//! `lookup`: finding what governs a method, quiet and while other sets are swapped in.

use std::{
    hint::{black_box, spin_loop},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use outrigger::{Format, Governance, PolicySet};
use outrigger_core::MethodRef;

use crate::{
    kit::{Clock, Spread, float, nanos},
    row::Report,
};

pub(crate) const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

/// Look-ups between two looks at the clock.
const TIMES: u64 = 2_000;
/// A new set is put in force so often: 10 000 times a second.
const PACE: Duration = Duration::from_micros(100);

/// All policies of a client; `{timeout}` is what differs between two sets.
fn set(timeout: &str, enforcement: &str) -> PolicySet {
    let text = format!(
        "
defaults:
  timeout: {timeout}
  attempt_timeout: 2s
  rate_limit: {{rate: 1000000, burst: 1000000}}
  concurrency_limit: 1000000
  client_throttle: {{}}
  circuit_breaker: {{}}
  retry: {{mode: failure, idempotent: true}}
  enforcement: {enforcement}
"
    );
    PolicySet::parse("policies.yaml", &text, Format::Yaml).expect("the settings are in order")
}

pub(crate) fn all_policies() -> PolicySet {
    set("5s", "enforced")
}

pub(crate) fn all_disabled() -> PolicySet {
    set("5s", "disabled")
}

#[repr(align(128))]
struct Apart(AtomicBool);

fn times(mut look_up: impl FnMut()) -> f64 {
    let began = Clock::now();
    (0..TIMES).for_each(|_| look_up());
    nanos(began.elapsed()) / float(TIMES)
}

/// What another thread does meanwhile.
#[derive(Clone, Copy)]
enum Meanwhile<'a> {
    Nothing,
    /// Waits as busily as who swaps sets in: where two threads share a core, that alone is felt.
    Spins,
    Swaps(&'a [PolicySet; 2]),
}

/// Swaps sets in at the pace, by turns, until it is over.
fn keep_busy(governance: &Governance, meanwhile: Meanwhile<'_>, is_over: &AtomicBool) {
    let mut due = Clock::now();
    for turn in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        if let Meanwhile::Swaps(sets) = meanwhile {
            governance.replace(sets[turn % 2].clone());
        }
        due += PACE;
        while Clock::now() < due && !is_over.load(Ordering::Relaxed) {
            spin_loop();
        }
    }
}

/// What was measured while sets were swapped in by another thread, or none.
struct Measured {
    /// Of a look-up as a stack makes it.
    ns: Spread,
    /// Of one whose state is kept, and let go.
    kept_ns: Spread,
    sets_per_second: f64,
}

fn measure(meanwhile: Meanwhile<'_>, rounds: usize) -> Measured {
    let governance = Governance::new(all_policies());
    let is_over = Box::new(Apart(AtomicBool::new(false)));
    let is_over = &is_over.0;
    let (mut ns, mut kept_ns) = (Vec::new(), Vec::new());
    let mut sets_per_second = 0.0;
    thread::scope(|scope| {
        let swaps = matches!(meanwhile, Meanwhile::Swaps(_));
        if !matches!(meanwhile, Meanwhile::Nothing) {
            scope.spawn(|| keep_busy(&governance, meanwhile, is_over));
        }
        while swaps && governance.version() == 0 {
            thread::yield_now();
        }
        let (began, before) = (Clock::now(), governance.version());
        // On a busy machine the other thread may not have had its turn in so many rounds.
        let waits = || swaps && governance.version() == before;
        while ns.len() < rounds || waits() {
            ns.push(times(|| governance.with_method(black_box(GET), |state| _ = black_box(state))));
            kept_ns.push(times(|| drop(black_box(governance.method(black_box(GET))))));
        }
        let swapped = float(governance.version() - before);
        sets_per_second = swapped / began.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
    });
    Measured { ns: Spread::of(&mut ns), kept_ns: Spread::of(&mut kept_ns), sets_per_second }
}

/// How many sets one thread can put in force in a second.
fn most(sets: &[PolicySet; 2], rounds: usize) -> f64 {
    let governance = Governance::new(all_policies());
    drop(governance.method(GET));
    let began = Clock::now();
    for set in sets.iter().cycle().take(rounds * 10) {
        governance.replace(set.clone());
    }
    float(rounds as u64 * 10) / began.elapsed().as_secs_f64()
}

pub(crate) fn run(quick: bool) -> Report {
    let rounds = if quick { 501 } else { 5_001 };
    let mut report = Report::new("lookup");
    report.note("Finding what governs a method and letting it go, while another thread puts other");
    report
        .note("sets in force: 10 000 a second are aimed at. Medians of rounds of 2 000 look-ups.");
    report.note("most_sets: how many one thread can put in force when it does nothing else.");
    report.note("kept: with a share in the state taken and let go; a stack takes none.");
    report.note("another thread spins: waits as busily as who swaps, and swaps nothing.");
    for (name, meanwhile) in
        [("quiet", Meanwhile::Nothing), ("another thread spins", Meanwhile::Spins)]
    {
        let measured = measure(meanwhile, rounds);
        let metrics = [
            ("ns_per_lookup", measured.ns.median, "ns"),
            ("ns_per_kept", measured.kept_ns.median, "ns"),
        ];
        report.line(name, "outrigger", &metrics);
    }
    let swapped = [
        ("equal sets", [all_policies(), all_policies()]),
        ("another time-out", [all_policies(), set("6s", "enforced")]),
        ("all policies and none", [all_policies(), PolicySet::default()]),
    ];
    for (name, sets) in &swapped {
        let measured = measure(Meanwhile::Swaps(sets), rounds);
        let metrics = [
            ("ns_per_lookup", measured.ns.median, "ns"),
            ("ns_per_kept", measured.kept_ns.median, "ns"),
            ("sets_per_second", measured.sets_per_second, "1/s"),
            ("most_sets_per_second", most(sets, rounds), "1/s"),
        ];
        report.line(name, "outrigger", &metrics);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_swapped_in_while_it_is_measured() {
        let sets = [all_policies(), PolicySet::default()];
        let Measured { ns, kept_ns, sets_per_second } = measure(Meanwhile::Swaps(&sets), 11);
        assert!(sets_per_second > 0.0 && ns.median > 0.0 && kept_ns.median > 0.0);
    }
}
