use std::sync::Arc;

use fastrand::Rng;
use outrigger_core::{Live, Observe};

use crate::{CircuitBreaker, CircuitBreakerEvent, CircuitBreakerPolicy};

/// Makes a [`CircuitBreaker`].
#[derive(Clone, Debug)]
pub struct CircuitBreakerBuilder<O = ()> {
    policy: Live<CircuitBreakerPolicy>,
    name: Option<Arc<str>>,
    observer: Arc<O>,
    seed: Option<u64>,
}

impl CircuitBreakerBuilder {
    pub(crate) fn new(policy: Live<CircuitBreakerPolicy>) -> Self {
        Self { policy, name: None, observer: Arc::new(()), seed: None }
    }
}

impl<O> CircuitBreakerBuilder<O> {
    /// Names the circuit in refusals and events. Default: no name.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tells `observer` what the breaker does. Default: nobody.
    #[must_use]
    pub fn observe<P>(self, observer: P) -> CircuitBreakerBuilder<P>
    where
        P: Observe<CircuitBreakerEvent>,
    {
        self.observe_shared(Arc::new(observer))
    }

    pub(crate) fn observe_shared<P>(self, observer: Arc<P>) -> CircuitBreakerBuilder<P> {
        let Self { policy, name, seed, .. } = self;
        CircuitBreakerBuilder { policy, name, observer, seed }
    }

    /// Draws the jitter of the cool-downs from this seed. Default: a random one.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the breaker, closed.
    #[must_use]
    pub fn build(self) -> CircuitBreaker<O> {
        let Self { policy, name, observer, seed } = self;
        let rng = seed.map_or_else(Rng::new, Rng::with_seed);
        CircuitBreaker::from_parts(policy, name, observer, rng)
    }
}
