use std::time::Duration;

use crate::TripRule;

/// Where a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused until the cool-down is over.
    Open,
    /// A few calls pass as probes; the others are refused.
    HalfOpen,
    /// Calls are refused until [`reset`](crate::CircuitBreaker::reset) by hand.
    ForcedOpen,
}

/// The calls in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a user's own rule is tested with counts made up")]
pub struct WindowCounts {
    /// All calls that count: not those ignored.
    pub calls: u64,
    /// Calls that failed, those that timed out not among them.
    pub failures: u64,
    /// Calls that timed out.
    pub timeouts: u64,
    /// Calls that took as long as a slow call or longer, however they ended.
    pub slow: u64,
}

impl WindowCounts {
    /// Calls that failed or timed out.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        self.failures + self.timeouts
    }

    /// The share of calls that failed or timed out; `None` while there are no calls.
    #[must_use]
    pub fn error_rate(&self) -> Option<f64> {
        share(self.errors(), self.calls)
    }

    /// The share of slow calls; `None` while there are no calls.
    #[must_use]
    pub fn slow_rate(&self) -> Option<f64> {
        share(self.slow, self.calls)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn share(part: u64, calls: u64) -> Option<f64> {
    (calls > 0).then(|| part as f64 / calls as f64)
}

/// What a circuit breaker did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CircuitBreakerEvent {
    /// The circuit changed its state. Told exactly once for each change.
    StateChanged(StateChange),
    /// A call was refused; or, in shadow, would have been.
    Refused {
        /// The state that refused it.
        state: State,
        /// How long the circuit stays as it is at least, if that is known.
        retry_after: Option<Duration>,
        /// Whether the call passed all the same.
        shadow: bool,
    },
    /// A probe did not end within its limit, and another call took its place.
    ProbeLost,
}

/// A circuit's change from one state to another.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct StateChange {
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// The calls in the window that was left; over with the change.
    pub counts: WindowCounts,
    /// How long the circuit will be open, when it opens by itself.
    pub cool_down: Option<Duration>,
    /// Counts the changes of this circuit, from 1: observers may be told out of order.
    pub generation: u64,
}

/// Why a circuit changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// A trip rule opened it.
    Tripped(TripRule),
    /// The cool-down is over, and a call became the first probe.
    CooledDown,
    /// Enough probes succeeded.
    Recovered,
    /// A probe failed, timed out, or was slow.
    ProbeFailed,
    /// Somebody forced it open or reset it.
    ByHand,
}
