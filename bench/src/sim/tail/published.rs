//! The workloads of H5 with their figures.

use outrigger_retry::{QuantileDelay, RetryBudget, RetryBudgetPolicy, RetryPolicy};

use super::{Closed, SLOWER, Takes, backup};
use crate::sim::MS;

pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) load: Closed,
    pub(super) policy: RetryPolicy,
    pub(super) budget: RetryBudget,
    /// p99, p99.9, share above 500 ms, extra calls.
    pub(super) published: [f64; 4],
}

const NONE: f64 = f64::NAN;

pub(super) fn rows() -> Vec<Row> {
    let live = |quantile| backup(QuantileDelay::of(quantile));
    let row = |name, load, policy, budget: Option<f64>, published| {
        let budget = budget.map_or_else(RetryBudget::unlimited, |ratio| {
            let policy = RetryBudgetPolicy::builder().ratio(ratio).build();
            RetryBudget::new(policy.expect("a valid policy"))
        });
        Row { name, load, policy, budget, published }
    };
    let hedge = Closed { takes: Takes::Lognormal, fan_out: 1, calls: 50_000, in_flight: 20 };
    let leaf = Closed { takes: Takes::Leaf, fan_out: 1, calls: 100_000, in_flight: 20 };
    let tree = Closed { takes: Takes::Leaf, fan_out: 100, calls: 3_000, in_flight: 10 };
    let off = RetryPolicy::off();
    let (ten, twenty) = (backup(SLOWER * 10 * MS), backup(SLOWER * 20 * MS));
    vec![
        row("lognormal: none", hedge, off, None, [64.3, 104.5, NONE, NONE]),
        row("lognormal: after 10 ms", hedge, ten, None, [17.4, 46.5, NONE, 0.074]),
        row("lognormal: live p90", hedge, live(0.9), None, [15.6, 46.7, NONE, 0.1]),
        row(
            "lognormal: live p90, budget 10 %",
            hedge,
            live(0.9),
            Some(0.1),
            [17.0, 59.4, NONE, 0.089],
        ),
        row(
            "lognormal: live p95, budget 5 %",
            hedge,
            live(0.95),
            Some(0.05),
            [31.5, 61.6, NONE, 0.0475],
        ),
        row("leaf: none", leaf, off, None, [NONE, 1_079.0, NONE, NONE]),
        row("leaf: after 20 ms", leaf, twenty, None, [NONE, 34.0, NONE, 0.0099]),
        row("leaf: live p95", leaf, live(0.95), None, [NONE, 28.7, NONE, 0.0506]),
        row("fan-out 100: none", tree, off, None, [NONE, NONE, 0.634, NONE]),
        row("fan-out 100: after 20 ms", tree, twenty, None, [NONE, NONE, 0.0104, 0.01]),
        row("fan-out 100: live p95", tree, live(0.95), None, [NONE, NONE, 0.0104, 0.051]),
    ]
}
