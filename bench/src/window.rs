//! `window`: what it costs to record a call, by how many calls are in the window already.

use std::time::Duration;

use outrigger_circuitbreak::{CircuitBreakerLayer, CircuitBreakerPolicy};
use tower::Layer;
use tower_resilience_circuitbreaker::{
    CircuitBreakerLayer as PeersCircuitBreakerLayer, SlidingWindowType,
};

use crate::{
    kit::{Calls, Cloned, Spread, float, inner, nanos, runtime},
    row::Report,
};

/// Nothing leaves the window while it is measured.
const WINDOW: Duration = Duration::from_mins(10);
const RECORDS: u64 = 200;

fn ours() -> impl Calls {
    let policy = CircuitBreakerPolicy::builder().time_window(WINDOW).error_rate(0.5, 20);
    Cloned(CircuitBreakerLayer::new(policy.build().expect("a valid policy")).layer(inner()))
}

fn peer() -> impl Calls {
    let builder = PeersCircuitBreakerLayer::builder().failure_rate_threshold(0.5);
    let builder = builder.sliding_window_type(SlidingWindowType::TimeBased);
    let layer = builder.sliding_window_duration(WINDOW).build().expect("in order");
    Cloned(layer.layer(inner()))
}

/// Nanoseconds for a call when there are about `calls` in the window, less those of a bare call.
fn cost(make: impl Fn() -> Box<dyn Calls>, calls: u64, rounds: u32) -> f64 {
    let runtime = runtime();
    let mut samples: Vec<f64> = Vec::new();
    let mut bare = Vec::new();
    let mut nothing = Cloned(inner());
    let mut breaker = make();
    breaker.run(&runtime, calls);
    let mut in_window = calls;
    for _ in 0..rounds {
        let records = RECORDS.min(calls);
        samples.push(nanos(breaker.run(&runtime, records)) / float(records));
        bare.push(nanos(nothing.run(&runtime, records)) / float(records));
        in_window += records;
        if in_window > calls + calls / 2 {
            breaker = make();
            breaker.run(&runtime, calls);
            in_window = calls;
        }
    }
    Spread::of(&mut samples).median - Spread::of(&mut bare).median
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = Report::new("window");
    report.note("Nanoseconds of a call through a breaker with a window of time, less a bare call,");
    report.note(
        "by calls in the window. The peer looks at all of them; beyond 10^4 it takes too long.",
    );
    let rounds = if quick { 51 } else { 501 };
    for power in 1..=6 {
        let calls = 10_u64.pow(power);
        let name = format!("10^{power} calls");
        let ns = cost(|| Box::new(ours()), calls, rounds);
        report.line(&name, "outrigger", &[("ns_per_record", ns, "ns")]);
        if power <= 4 {
            let ns = cost(|| Box::new(peer()), calls, if power < 4 { rounds } else { 11 });
            report.line(&name, "tower-resilience", &[("ns_per_record", ns, "ns")]);
        }
    }
    report
}
