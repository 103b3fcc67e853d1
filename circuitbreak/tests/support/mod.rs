//! What the tests of the breaker share.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test file uses its share, and a test says by panicking what went wrong"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerEvent, CircuitBreakerPolicy, CircuitBreakerPolicyBuilder, State,
    StateChange,
};
use outrigger_core::{Observe, Outcome};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// Kitex's default.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(5);
/// Kitex's default.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// The defaults with no jitter, so that times are exact.
pub(crate) fn exact() -> CircuitBreakerPolicyBuilder {
    CircuitBreakerPolicy::builder().cool_down_jitter(0.0)
}

/// A breaker that opens at the first failure.
pub(crate) fn touchy() -> CircuitBreakerPolicyBuilder {
    exact().consecutive_failures(1)
}

pub(crate) fn breaker(policy: CircuitBreakerPolicyBuilder) -> CircuitBreaker {
    CircuitBreaker::new(policy.build().unwrap())
}

/// Makes one call that must be let through.
#[track_caller]
pub(crate) fn call<O: Observe<CircuitBreakerEvent>>(breaker: &CircuitBreaker<O>, outcome: Outcome) {
    breaker.try_acquire().expect("the call passes").record(outcome);
}

#[track_caller]
pub(crate) fn calls<O: Observe<CircuitBreakerEvent>>(
    breaker: &CircuitBreaker<O>,
    n: usize,
    outcome: Outcome,
) {
    (0..n).for_each(|_| call(breaker, outcome));
}

/// How many failures in a row it takes to open the circuit, up to `most`.
pub(crate) fn failures_to_open(breaker: &CircuitBreaker, most: usize) -> Option<usize> {
    (1..=most).find(|_| {
        call(breaker, Outcome::Failure);
        breaker.state() == State::Open
    })
}

pub(crate) async fn pass(duration: Duration) {
    tokio::time::advance(duration).await;
}

/// Opens a breaker that opens at the first failure, and lets its cool-down pass.
pub(crate) async fn cooled_down<O: Observe<CircuitBreakerEvent>>(breaker: &CircuitBreaker<O>) {
    call(breaker, Outcome::Failure);
    assert_eq!(breaker.state(), State::Open);
    pass(COOL_DOWN).await;
}

/// Remembers every event.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(String, CircuitBreakerEvent)>>>);

impl Log {
    pub(crate) fn events(&self) -> Vec<CircuitBreakerEvent> {
        self.0.lock().unwrap().iter().map(|(_, event)| *event).collect()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn changes(&self) -> Vec<StateChange> {
        let change = |event| match event {
            CircuitBreakerEvent::StateChanged(change) => Some(change),
            _ => None,
        };
        self.events().into_iter().filter_map(change).collect()
    }

    /// The states entered, in order.
    pub(crate) fn states(&self) -> Vec<State> {
        self.changes().iter().map(|change| change.to).collect()
    }
}

impl Observe<CircuitBreakerEvent> for Log {
    fn observe(&self, key: &str, event: &CircuitBreakerEvent) {
        self.0.lock().unwrap().push((key.to_owned(), *event));
    }
}
