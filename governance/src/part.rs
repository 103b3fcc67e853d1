//! The parts of what governs: the handles of what policies state.

use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy};
use outrigger_core::{Enforcement, Idle, Live};
use outrigger_ratelimit::{
    AdaptiveLimit, AdaptiveLimitPolicy, ClientThrottle, ClientThrottlePolicy, ConcurrencyLimit,
    ConcurrencyLimitPolicy, RateLimit, RateLimitPolicy,
};

use crate::ObserveGovernance;

/// A handle, if a policy states one. What it has learnt outlives a time of being disabled.
pub(crate) struct Part<H> {
    handle: Option<H>,
    /// Whether calls ask it: one that is disabled costs them no more than this.
    acts: bool,
}

impl<H> Part<H> {
    /// What calls ask: none, or one that is not disabled.
    #[inline]
    pub(crate) fn acting(&self) -> Option<&H> {
        self.handle.as_ref().filter(|_| self.acts)
    }

    pub(crate) const fn handle(&self) -> Option<&H> {
        self.handle.as_ref()
    }
}

impl<H: Idle> Part<H> {
    pub(crate) fn is_idle(&self) -> bool {
        self.handle.as_ref().is_none_or(Idle::is_idle)
    }
}

impl<H> Part<H> {
    /// What `policy` states, with what `old` has learnt.
    pub(crate) fn follow<O>(
        old: Option<&Self>,
        policy: Option<&H::Policy>,
        name: &str,
        observer: &O,
    ) -> Self
    where
        H: Make<O>,
        O: Clone,
    {
        let Some(policy) = policy.cloned() else { return Self { handle: None, acts: false } };
        let acts = H::enforcement_of(&policy) != Enforcement::Disabled;
        let handle = match old.and_then(Self::handle) {
            Some(handle) => {
                replace_changed(handle.live(), policy);
                handle.clone()
            }
            None => H::make(policy, name, observer.clone()),
        };
        Self { handle: Some(handle), acts }
    }
}

/// A handle that is made from a policy, and follows it.
pub(crate) trait Make<O: Clone>: Clone {
    type Policy: Clone + PartialEq;

    fn make(policy: Self::Policy, name: &str, observer: O) -> Self;

    fn live(&self) -> &Live<Self::Policy>;

    fn enforcement_of(policy: &Self::Policy) -> Enforcement;
}

macro_rules! make {
    ($($handle:ident: $policy:ty,)+) => { $(
        impl<O: ObserveGovernance> Make<O> for $handle<O> {
            type Policy = $policy;

            fn make(policy: $policy, name: &str, observer: O) -> Self {
                $handle::builder(policy).name(name).observe(observer).build()
            }

            fn live(&self) -> &Live<$policy> {
                self.policy()
            }

            fn enforcement_of(policy: &$policy) -> Enforcement {
                policy.enforcement()
            }
        }
    )+ };
}

make! {
    AdaptiveLimit: AdaptiveLimitPolicy,
    CircuitBreaker: CircuitBreakerPolicy,
    ClientThrottle: ClientThrottlePolicy,
    ConcurrencyLimit: ConcurrencyLimitPolicy,
    RateLimit: RateLimitPolicy,
}

/// Replaces a policy that changed. One that did not keeps what was made of it.
pub(crate) fn replace_changed<P: PartialEq>(live: &Live<P>, policy: P) {
    if **live.load() != policy {
        live.replace(policy);
    }
}
