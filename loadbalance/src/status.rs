use std::time::Duration;

use crate::{engine::Stamp, snapshot::Shared};

/// What a balancer's endpoints do at a moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BalanceStatus {
    /// Each endpoint, in the order of their keys.
    pub endpoints: Vec<EndpointStatus>,
    /// Whether so few are healthy that ejections are disregarded.
    pub is_panicking: bool,
}

/// What an endpoint does at a moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Its key.
    pub key: String,
    /// Its weight.
    pub weight: u32,
    /// Its zone, if it has one.
    pub zone: Option<String>,
    /// Whether it gets calls.
    pub state: EndpointState,
    /// Calls in flight on it, by this balancer.
    pub in_flight: u64,
    /// Calls that succeeded since it joined.
    pub successes: u64,
    /// Calls that failed since it joined.
    pub failures: u64,
    /// Calls that failed in a row, up to the last one.
    pub failures_in_row: u32,
    /// The mean over recent successful calls that were measured; `None` before the first.
    pub latency: Option<Duration>,
}

impl EndpointStatus {
    /// The share of successes among successes and failures; `None` before the first.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn success_rate(&self) -> Option<f64> {
        let calls = self.successes + self.failures;
        (calls > 0).then(|| self.successes as f64 / calls as f64)
    }
}

/// Whether an endpoint gets calls.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum EndpointState {
    /// As its weight says.
    Healthy,
    /// Fewer than its weight says, growing with time.
    Starting {
        /// The share of its weight.
        share: f64,
    },
    /// Fewer than its weight says where the picker avoids who fails, else as its weight says: its
    /// last calls failed, too few or too recently for an ejection.
    Failing,
    /// As its weight says, until its next failure: it has just returned.
    OnProbation,
    /// None.
    Ejected {
        /// Until it returns.
        remaining: Duration,
    },
}

impl BalanceStatus {
    pub(crate) fn of<S>(shared: &Shared<S>, now: Stamp) -> Self {
        let policy = shared.policy();
        let mut endpoints = Vec::new();
        shared.for_each(|info, node| {
            let ramp = policy.slow_start().zip(node.ramp_from());
            let share = ramp.map_or(1.0, |(slow_start, from)| slow_start.share(now.since(from)));
            let ejected = node.ejected_until().filter(|until| now < *until);
            let state = match ejected {
                Some(until) => EndpointState::Ejected { remaining: until.since(now) },
                None if node.failures_in_row() > 0 => EndpointState::Failing,
                None if share < 1.0 => EndpointState::Starting { share },
                None if node.is_on_probation() => EndpointState::OnProbation,
                None => EndpointState::Healthy,
            };
            let tally = node.tally();
            endpoints.push(EndpointStatus {
                key: info.key().to_owned(),
                weight: info.weight_value(),
                zone: info.zone_name().map(str::to_owned),
                state,
                in_flight: node.in_flight(),
                successes: tally.successes,
                failures: tally.failures,
                failures_in_row: node.failures_in_row(),
                latency: node.mean_latency(),
            });
        });
        Self { endpoints, is_panicking: shared.fleet.is_panicking() }
    }
}
