use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{CircuitBreaker, CircuitBreakerPanel, breaker::Stripe, panel::Shared};

/// A [`CircuitBreaker`] that it does not keep alive: for who only looks on.
///
/// ```
/// use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy};
///
/// let breaker = CircuitBreaker::new(CircuitBreakerPolicy::default());
/// let weak = breaker.downgrade();
/// assert!(weak.upgrade().is_some());
///
/// drop(breaker);
/// assert!(weak.upgrade().is_none());
/// ```
pub struct WeakCircuitBreaker<O = ()> {
    stripes: Weak<[Arc<Stripe<O>>]>,
}

impl<O> WeakCircuitBreaker<O> {
    pub(crate) fn new(stripes: &Arc<[Arc<Stripe<O>>]>) -> Self {
        Self { stripes: Arc::downgrade(stripes) }
    }

    /// The circuit breaker, while anybody else has a handle to it.
    #[must_use]
    pub fn upgrade(&self) -> Option<CircuitBreaker<O>> {
        self.stripes.upgrade().map(CircuitBreaker::from_stripes)
    }
}

impl<O> Clone for WeakCircuitBreaker<O> {
    fn clone(&self) -> Self {
        Self { stripes: Weak::clone(&self.stripes) }
    }
}

impl<O> fmt::Debug for WeakCircuitBreaker<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakCircuitBreaker").finish_non_exhaustive()
    }
}

/// A [`CircuitBreakerPanel`] that it does not keep alive: for who only looks on.
pub struct WeakCircuitBreakerPanel<K, O = ()> {
    shared: Weak<Shared<K, O>>,
}

impl<K, O> WeakCircuitBreakerPanel<K, O> {
    pub(crate) fn new(shared: &Arc<Shared<K, O>>) -> Self {
        Self { shared: Arc::downgrade(shared) }
    }

    /// The panel, while anybody else has a handle to it.
    #[must_use]
    pub fn upgrade(&self) -> Option<CircuitBreakerPanel<K, O>> {
        self.shared.upgrade().map(CircuitBreakerPanel::from_shared)
    }
}

impl<K, O> Clone for WeakCircuitBreakerPanel<K, O> {
    fn clone(&self) -> Self {
        Self { shared: Weak::clone(&self.shared) }
    }
}

impl<K, O> fmt::Debug for WeakCircuitBreakerPanel<K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakCircuitBreakerPanel").finish_non_exhaustive()
    }
}
