use std::time::Duration;

use outrigger_core::Enforcement;

use crate::{State, TripRule, WindowCounts};

/// A circuit at one moment. Made by
/// [`CircuitBreaker::snapshot`](crate::CircuitBreaker::snapshot).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitBreakerSnapshot {
    /// Where the circuit stands.
    pub state: State,
    /// How often it has changed.
    pub generation: u64,
    /// Whether its policy acts.
    pub enforcement: Enforcement,
    /// The calls in the window.
    pub counts: WindowCounts,
    /// How much of the cool-down is left, while the circuit is open.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub cool_down_left: Option<Duration>,
    /// Which rule opened it last, and the calls that were in the window then.
    pub last_trip: Option<(TripRule, WindowCounts)>,
}
