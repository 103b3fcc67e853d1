//! The running state of a method, and how it follows the policies.

use std::sync::{
    Arc, Mutex, PoisonError, TryLockError,
    atomic::{AtomicBool, Ordering},
};

use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy};
use outrigger_core::{Criticality, Enforcement, Idle, Live, Method, MethodRef};
use outrigger_ratelimit::{
    AdaptiveLimit, ClientThrottle, ClientThrottlePolicy, ConcurrencyLimit, ConcurrencyLimitPolicy,
    RateLimit, RateLimitPolicy,
};
use outrigger_retry::{CurrentRetry, OneRetry, Retry, RetryBudget, RetryPolicy, TimeoutPolicy};

use crate::{
    MethodPolicy, ObserveGovernance,
    at_hand::{Id, Place, give_back},
    part::{Part, replace_changed},
};

/// The name of calls that say no method: the word of OpenTelemetry's conventions.
pub(crate) const OTHER: MethodRef<'static> = MethodRef { service: "_OTHER", method: "_OTHER" };

/// The stand-in for calls without a method has no policy of its own.
pub(crate) fn named(method: &Method) -> Option<MethodRef<'_>> {
    Some(method.as_ref()).filter(|name| *name != OTHER)
}

/// What governs one call, from its begin to its end: it never changes under a call.
///
/// The handles in it are shared by all calls of the method. What a policy file leaves out is shown
/// as a handle that is disabled. What is disabled calls do not ask, whatever policy is put into its
/// handle past the [`Governance`](crate::Governance).
pub struct MethodState<O = ()> {
    pub(crate) method: Method,
    pub(crate) policy: Arc<MethodPolicy>,
    pub(crate) version: u64,
    governance: Id,
    /// Where threads have it at hand, and how they put it there.
    pub(crate) place: Place,
    pub(crate) give_back: fn(Arc<Self>),
    pub(crate) timeout: TimeoutPolicy,
    pub(crate) attempt_timeout: TimeoutPolicy,
    retry: Option<OneRetry<O>>,
    pub(crate) breaker: Part<CircuitBreaker<O>>,
    pub(crate) concurrency: Part<ConcurrencyLimit<O>>,
    pub(crate) adaptive: Part<AdaptiveLimit<O>>,
    pub(crate) rate: Part<RateLimit<O>>,
    pub(crate) throttle: Part<ClientThrottle<O>>,
    pub(crate) criticality: Option<Criticality>,
    off: Arc<Off<O>>,
    /// It gave way to other methods or to newer policies: whoever has it at hand looks its method up
    /// again, and whoever has it still puts it at hand no more.
    gave_way: AtomicBool,
    /// It was found at hand, where the table of methods sees nothing of it.
    used: AtomicBool,
}

impl<O> MethodState<O> {
    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The method, if the calls say one.
    #[cfg(feature = "observability")]
    pub(crate) fn named(&self) -> Option<MethodRef<'_>> {
        named(&self.method)
    }

    /// Whether it is what governs its method under the policies of this version.
    #[inline]
    pub(crate) fn is_in_force(&self, governance: Id, version: u64) -> bool {
        self.governance == governance && self.version == version && !self.gave_way()
    }

    pub(crate) fn gave_way(&self) -> bool {
        self.gave_way.load(Ordering::Relaxed)
    }

    /// Counts as a look-up of its method, so that it gives way no sooner for being at hand.
    #[inline]
    pub(crate) fn mark_used(&self) {
        // Looked at first, so that its cache line stays shared between the threads that call it.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// The policies that govern it.
    #[must_use]
    pub fn policy(&self) -> &MethodPolicy {
        &self.policy
    }

    /// Its retries, if a policy states any.
    #[must_use]
    pub fn retry(&self) -> Option<&Retry<O>> {
        self.retry.as_ref().map(OneRetry::retry)
    }

    /// Its retries as a call takes them along.
    #[inline]
    pub(crate) fn current_retry(&self) -> Option<CurrentRetry<O>> {
        self.retry.as_ref().map(|retry| retry.current().clone())
    }

    /// Its circuit breaker.
    #[must_use]
    pub fn circuit_breaker(&self) -> &CircuitBreaker<O> {
        self.breaker.handle().unwrap_or(&self.off.breaker)
    }

    /// Its concurrency limit.
    #[must_use]
    pub fn concurrency_limit(&self) -> &ConcurrencyLimit<O> {
        self.concurrency.handle().unwrap_or(&self.off.concurrency)
    }

    /// Its adaptive limit, if a policy states one.
    #[must_use]
    pub const fn adaptive_limit(&self) -> Option<&AdaptiveLimit<O>> {
        self.adaptive.handle()
    }

    /// Its rate limit.
    #[must_use]
    pub fn rate_limit(&self) -> &RateLimit<O> {
        self.rate.handle().unwrap_or(&self.off.rate)
    }

    /// Its client throttle.
    #[must_use]
    pub fn client_throttle(&self) -> &ClientThrottle<O> {
        self.throttle.handle().unwrap_or(&self.off.throttle)
    }
}

impl<O> std::fmt::Debug for MethodState<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("MethodState");
        shown.field("method", &self.method).field("version", &self.version).finish_non_exhaustive()
    }
}

/// The handles of what no policy asks for: they let everything pass.
pub(crate) struct Off<O> {
    breaker: CircuitBreaker<O>,
    concurrency: ConcurrencyLimit<O>,
    rate: RateLimit<O>,
    throttle: ClientThrottle<O>,
}

const DISABLED: Enforcement = Enforcement::Disabled;

impl<O: ObserveGovernance> Off<O> {
    pub(crate) fn new(observer: &O) -> Self {
        let rate = RateLimitPolicy::default().with_enforcement(DISABLED);
        Self {
            breaker: CircuitBreaker::builder(
                CircuitBreakerPolicy::default().with_enforcement(DISABLED),
            )
            .observe(observer.clone())
            .build(),
            concurrency: ConcurrencyLimit::builder(
                ConcurrencyLimitPolicy::default().with_enforcement(DISABLED),
            )
            .observe(observer.clone())
            .build(),
            rate: RateLimit::builder(rate).observe(observer.clone()).build(),
            throttle: ClientThrottle::builder(
                ClientThrottlePolicy::default().with_enforcement(DISABLED),
            )
            .observe(observer.clone())
            .build(),
        }
    }
}

/// A method's place among all: its state as it is now.
pub(crate) struct Slot<O> {
    pub(crate) state: Live<MethodState<O>>,
    changing: Mutex<()>,
}

impl<O> Slot<O> {
    pub(crate) fn new(state: MethodState<O>) -> Self {
        Self { state: Live::new(state), changing: Mutex::new(()) }
    }

    /// Makes the state follow newer policies, one thread at a time: waits its turn if `waits`, and
    /// else leaves it to who is at it. Gives the state before back, for the caller to drop where no
    /// lock is held: with it go handles that are the user's to watch.
    pub(crate) fn follow(
        &self,
        waits: bool,
        next: impl FnOnce(&MethodState<O>) -> Option<MethodState<O>>,
    ) -> Option<Arc<MethodState<O>>> {
        let _one_at_a_time = match self.changing.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::WouldBlock) if !waits => return None,
            Err(_) => self.changing.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let old = self.state.get();
        if let Some(state) = next(&old) {
            self.state.replace(state);
            old.gave_way.store(true, Ordering::Relaxed);
        }
        Some(old)
    }

    /// Nobody is governed by it any more: a call that has it gives it back to no thread.
    pub(crate) fn retire(&self) {
        self.state.load().gave_way.store(true, Ordering::Relaxed);
    }
}

/// Not idle: what a holder of the state, an open circuit, a used limit or an emptied bucket would
/// lose. A thread that has it at hand is a holder: there are few of those, and they find no more of
/// it than others.
impl<O> Idle for Slot<O> {
    fn is_idle(&self) -> bool {
        let state = self.state.load();
        Arc::strong_count(&state) == 1
            && state.breaker.is_idle()
            && state.concurrency.is_idle()
            && state.adaptive.is_idle()
            && state.rate.is_idle()
            && state.throttle.is_idle()
    }

    fn was_used(&self) -> bool {
        self.state.load().used.swap(false, Ordering::Relaxed)
    }

    /// When it is dropped is up to the map, so that is too late to say so.
    fn evicted(&self) {
        // Not while it follows newer policies: the state that comes of that must know as well.
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.retire();
    }
}

/// What a state is made from.
pub(crate) struct Making<'a, O> {
    pub(crate) governance: Id,
    pub(crate) policy: Arc<MethodPolicy>,
    pub(crate) version: u64,
    pub(crate) budget: RetryBudget,
    pub(crate) off: &'a Arc<Off<O>>,
    pub(crate) observer: &'a O,
}

impl<O: ObserveGovernance> Making<'_, O> {
    /// The state of `method`, with the running state of `old` wherever it still makes sense.
    pub(crate) fn state(self, method: &Method, old: Option<&MethodState<O>>) -> MethodState<O> {
        let Self { governance, policy, version, budget, off, observer } = self;
        let none = || TimeoutPolicy::default().with_enforcement(DISABLED);
        let carried = |flag: fn(&MethodState<O>) -> &AtomicBool| {
            AtomicBool::new(old.is_some_and(|old| flag(old).load(Ordering::Relaxed)))
        };
        macro_rules! follow {
            ($field:ident, $section:ident) => {
                Part::follow(
                    old.map(|old| &old.$field),
                    policy.$section.as_ref(),
                    method.as_str(),
                    observer,
                )
            };
        }
        MethodState {
            timeout: policy.timeout.unwrap_or_else(none),
            attempt_timeout: policy.attempt_timeout.unwrap_or_else(none),
            retry: retry(old, policy.retry, method, budget, observer),
            breaker: follow!(breaker, circuit_breaker),
            concurrency: follow!(concurrency, concurrency_limit),
            adaptive: follow!(adaptive, adaptive_limit),
            rate: follow!(rate, rate_limit),
            throttle: follow!(throttle, client_throttle),
            criticality: policy.criticality,
            off: Arc::clone(off),
            place: governance.place_of(method.as_ref()),
            give_back: give_back::<O>,
            method: method.clone(),
            policy,
            version,
            governance,
            gave_way: carried(|old| &old.gave_way),
            used: carried(|old| &old.used),
        }
    }
}

/// Calls in flight keep the policy that they began with; the latencies are kept.
fn retry<O: ObserveGovernance>(
    old: Option<&MethodState<O>>,
    policy: Option<RetryPolicy>,
    method: &Method,
    budget: RetryBudget,
    observer: &O,
) -> Option<OneRetry<O>> {
    let policy = policy.filter(|policy| policy.enforcement() != DISABLED)?;
    let present = old.and_then(|old| old.retry.as_ref());
    let Some(present) = present.filter(|retry| retry.retry().budget().ptr_eq(&budget)) else {
        let builder = Retry::builder(policy).name(method.as_str()).budget(budget);
        return Some(OneRetry::new(builder.observe(observer.clone()).build()));
    };
    let mut retry = present.clone();
    replace_changed(retry.retry().policy(), policy);
    retry.refresh();
    Some(retry)
}
