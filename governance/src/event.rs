use std::sync::Arc;

use outrigger_circuitbreak::CircuitBreakerEvent;
use outrigger_core::Observe;
use outrigger_ratelimit::{
    AdaptiveLimitEvent, ClientThrottleEvent, ConcurrencyLimitEvent, RateLimitEvent,
};
use outrigger_retry::{RetryEvent, TimeoutEvent};

/// What became of a set of policies. The key it is told with is the name of its source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PolicyEvent {
    /// A set is in force.
    Replaced {
        /// How many sets and switches were in force before.
        version: u64,
    },
    /// Something was switched by hand.
    Switched {
        /// How many sets and switches were in force before.
        version: u64,
    },
    /// A set was refused; the one before it stays in force.
    Refused {
        /// Everything that is wrong with it.
        reason: Arc<str>,
    },
}

macro_rules! observe_all {
    ($($event:ty),+ $(,)?) => {
        /// Whoever can be told all that governance does, on any thread. Implemented for all who
        /// can.
        pub trait ObserveGovernance:
            Clone + Send + Sync + 'static $(+ Observe<$event>)+
        {
        }

        impl<O> ObserveGovernance for O
        where
            O: Clone + Send + Sync + 'static $(+ Observe<$event>)+
        {
        }
    };
}

observe_all!(
    AdaptiveLimitEvent,
    CircuitBreakerEvent,
    ClientThrottleEvent,
    ConcurrencyLimitEvent,
    PolicyEvent,
    RateLimitEvent,
    RetryEvent,
    TimeoutEvent,
);
