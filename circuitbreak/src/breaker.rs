use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use outrigger_core::{
    Enforcement, Idle, Live, Moment, Observe, Rejection, stripe_count, thread_number,
};
use tokio::time::Instant;

use crate::{
    CircuitBreakerBuilder, CircuitBreakerEvent, CircuitBreakerPolicy, CircuitBreakerSnapshot,
    Permit, State, StateChange, WeakCircuitBreaker, WindowCounts,
    engine::{Admission, Engine, Recorded, Refusal, Ticket},
};

/// The word by which this crate's refusals say who refused.
const LAYER: &str = "circuitbreak";

/// One circuit, shared by all clones of this handle. Works with tower and without.
///
/// ```
/// use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy, State};
/// use outrigger_core::Outcome;
///
/// let policy = CircuitBreakerPolicy::builder().consecutive_failures(2).build()?;
/// let breaker = CircuitBreaker::new(policy);
///
/// for _ in 0..2 {
///     let permit = breaker.try_acquire()?;
///     permit.record(Outcome::Failure);
/// }
/// assert_eq!(breaker.state(), State::Open);
/// assert_eq!(breaker.try_acquire().unwrap_err().reason(), "circuit_open");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct CircuitBreaker<O = ()> {
    /// One for each stripe of threads: a call clones its thread's, so that the count of owners is
    /// not written by two threads.
    stripes: Arc<[Arc<Stripe<O>>]>,
}

/// On cache lines of its own, count of owners and all.
#[repr(align(64))]
pub(crate) struct Stripe<O> {
    pub(crate) index: usize,
    /// A copy for each stripe: refusals take it along, and its owners are counted too.
    name: Option<Arc<str>>,
    pub(crate) shared: Arc<Shared<O>>,
}

pub(crate) struct Shared<O> {
    pub(crate) engine: Engine,
    policy: Live<CircuitBreakerPolicy>,
    /// Set for a key of a panel that has a policy of its own.
    own_policy: OnceLock<Live<CircuitBreakerPolicy>>,
    /// The version of the policy that the engine acts by, from 1; 0 makes it look again.
    applied: AtomicU64,
    applying: Mutex<()>,
    observer: Arc<O>,
    name: Option<Arc<str>>,
}

impl CircuitBreaker {
    /// A closed circuit with this policy, or with one that is shared and replaced elsewhere.
    #[must_use]
    pub fn new(policy: impl Into<Live<CircuitBreakerPolicy>>) -> Self {
        Self::builder(policy).build()
    }

    /// Starts a circuit with a name, an observer or a seed.
    #[must_use]
    pub fn builder(policy: impl Into<Live<CircuitBreakerPolicy>>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(policy.into())
    }
}

impl<O> CircuitBreaker<O> {
    pub(crate) fn from_parts(
        policy: Live<CircuitBreakerPolicy>,
        name: Option<Arc<str>>,
        observer: Arc<O>,
        rng: Rng,
    ) -> Self {
        // Twice as many, since a runtime has other threads beside its workers.
        let stripes = 2 * stripe_count();
        let shared = Arc::new(Shared {
            engine: Engine::new(policy.get(), Instant::now(), stripes, rng),
            policy,
            own_policy: OnceLock::new(),
            applied: AtomicU64::new(0),
            applying: Mutex::new(()),
            observer,
            name,
        });
        let stripe = |index| {
            let name = shared.name.as_deref().map(Arc::from);
            Arc::new(Stripe { index, name, shared: Arc::clone(&shared) })
        };
        Self { stripes: (0..stripes).map(stripe).collect() }
    }

    /// A closed circuit like this one, with its policy, name and observer but a state of its own.
    #[must_use]
    pub fn separate(&self) -> Self {
        let Shared { name, observer, .. } = self.shared();
        Self::from_parts(self.policy().clone(), name.clone(), Arc::clone(observer), Rng::new())
    }
}

impl<O: Observe<CircuitBreakerEvent>> CircuitBreaker<O> {
    /// Asks whether a call may pass.
    ///
    /// Give the permit the call's outcome; a permit that is dropped without one belongs to a call
    /// that was abandoned.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with reason `circuit_open`, `circuit_half_open` or `circuit_forced_open`;
    /// an open circuit says how long it will stay so.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: a third of the cost is moves")]
    pub fn try_acquire(&self) -> Result<Permit<O>, Rejection> {
        let stripe = &self.stripes[thread_number() & (self.stripes.len() - 1)];
        let shared = &*stripe.shared;
        shared.follow_policy();
        if shared.engine.is_disabled() {
            return Ok(Permit::uncounted());
        }
        if let Some(mut ticket) = shared.engine.admit_closed() {
            if shared.engine.wants_latency() {
                shared.engine.start(&mut ticket, Moment::now());
            }
            return Ok(Permit::counted(ticket, Arc::clone(stripe)));
        }
        Self::try_acquire_not_closed(stripe)
    }

    /// Apart, so that what a call on a closed circuit needs can be compiled into the caller.
    #[inline(never)]
    fn try_acquire_not_closed(stripe: &Arc<Stripe<O>>) -> Result<Permit<O>, Rejection> {
        let shared = &*stripe.shared;
        let enforcement = shared.engine.enforcement();
        let now = Moment::now();
        let refusal = match shared.engine.refuse_before_gate(now) {
            Some(refusal) => refusal,
            None => match shared.tell_admission(shared.engine.admit(now)) {
                Ok(mut ticket) => {
                    shared.engine.start(&mut ticket, now);
                    return Ok(Permit::counted(ticket, Arc::clone(stripe)));
                }
                Err(refusal) => refusal,
            },
        };
        shared.tell_refusal(refusal, enforcement);
        if enforcement == Enforcement::Shadow {
            return Ok(Permit::uncounted());
        }
        Err(refusal.into_rejection(stripe.name.as_ref()))
    }

    /// Refuses every call until [`reset`](Self::reset). A shadowed or disabled policy still lets
    /// them pass.
    pub fn force_open(&self) {
        self.shared().tell_change(self.shared().engine.force_open());
    }

    /// Closes the circuit and forgets its counts and trips; calls under way count for nothing.
    pub fn reset(&self) {
        self.shared().tell_change(self.shared().engine.reset());
    }
}

impl<O> CircuitBreaker<O> {
    /// Where the circuit stands. Reads one word and never waits.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared().engine.state()
    }

    /// How much of the cool-down is left, while the circuit is open. Never waits.
    #[must_use]
    pub fn cool_down_left(&self) -> Option<Duration> {
        self.shared().engine.cool_down_left(Instant::now())
    }

    /// All there is to know of the circuit at this moment.
    ///
    /// Holds up no call that succeeds; a failure that ends at this very moment waits for the few
    /// numbers to be copied.
    #[must_use]
    pub fn snapshot(&self) -> CircuitBreakerSnapshot {
        let engine = &self.shared().engine;
        let now = Instant::now();
        CircuitBreakerSnapshot {
            state: engine.state(),
            generation: engine.generation(),
            enforcement: self.policy().load().enforcement(),
            counts: engine.counts(now),
            cool_down_left: engine.cool_down_left(now),
            last_trip: engine.last_trip(),
        }
    }

    /// The calls in the window in at most `most` steps of equal length, oldest first. A step of a
    /// time window in which nobody called is empty; a window of calls has as many steps as it fills.
    ///
    /// Holds up who fails at this very moment as [`snapshot`](Self::snapshot) does.
    ///
    /// ```
    /// use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy};
    /// use outrigger_core::Outcome;
    ///
    /// let breaker = CircuitBreaker::new(CircuitBreakerPolicy::default());
    /// breaker.try_acquire()?.record(Outcome::Failure);
    ///
    /// let steps = breaker.window(10.try_into()?);
    /// assert_eq!(steps.len(), 10, "of a second each, by default");
    /// assert_eq!(steps.last().unwrap().failures, 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn window(&self, most: NonZeroUsize) -> Vec<WindowCounts> {
        self.shared().engine.window(Instant::now(), most)
    }

    /// The policy, to read or to replace; the circuit acts by it from the next call on.
    ///
    /// Replacing keeps the state, and the counts too when the window's shape stays.
    #[must_use]
    pub fn policy(&self) -> &Live<CircuitBreakerPolicy> {
        self.shared().live()
    }

    /// The circuit's name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared().name()
    }

    /// A handle that does not keep the circuit alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakCircuitBreaker<O> {
        WeakCircuitBreaker::new(&self.stripes)
    }

    pub(crate) const fn from_stripes(stripes: Arc<[Arc<Stripe<O>>]>) -> Self {
        Self { stripes }
    }

    /// Lets the circuit follow `policy` instead of the one that it was made with.
    pub(crate) fn follow(&self, policy: Live<CircuitBreakerPolicy>) {
        if self.shared().own_policy.set(policy).is_ok() {
            self.shared().applied.store(0, Ordering::Release);
        }
    }

    fn shared(&self) -> &Shared<O> {
        &self.stripes[0].shared
    }
}

impl<O> Shared<O> {
    fn live(&self) -> &Live<CircuitBreakerPolicy> {
        self.own_policy.get().unwrap_or(&self.policy)
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

impl<O: Observe<CircuitBreakerEvent>> Shared<O> {
    /// Brings the engine up to date if the policy was replaced. Costs two atomic loads if not.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: a third of the cost is moves")]
    fn follow_policy(&self) {
        let live = self.live();
        let version = live.version() + 1;
        if self.applied.load(Ordering::Acquire) != version {
            self.apply_policy();
        }
    }

    /// One at a time, so that an older policy never comes after a newer one.
    #[cold]
    fn apply_policy(&self) {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live();
        let version = live.version() + 1;
        self.engine.set_policy(live.get(), Instant::now());
        self.applied.store(version, Ordering::Release);
    }

    /// Tells what an admission brought with it, and hands on the decision.
    fn tell_admission(&self, admission: Admission) -> Result<Ticket, Refusal> {
        self.tell_change(admission.change);
        if admission.probe_lost {
            self.tell(&CircuitBreakerEvent::ProbeLost);
        }
        admission.decision
    }

    fn tell_refusal(&self, refusal: Refusal, enforcement: Enforcement) {
        let Refusal { state, retry_after } = refusal;
        let shadow = enforcement == Enforcement::Shadow;
        self.tell(&CircuitBreakerEvent::Refused { state, retry_after, shadow });
    }

    pub(crate) fn tell_recorded(&self, recorded: Recorded, now: Instant) {
        match recorded {
            Recorded::Nothing => {}
            Recorded::Changed(change) => self.tell_change(Some(change)),
            Recorded::Ask(question) => self.tell_change(self.engine.ask(&question, now)),
        }
    }

    fn tell_change(&self, change: Option<StateChange>) {
        if let Some(change) = change {
            self.tell(&CircuitBreakerEvent::StateChanged(change));
        }
    }

    fn tell(&self, event: &CircuitBreakerEvent) {
        self.observer.observe(self.name(), event);
    }
}

impl<O> Clone for CircuitBreaker<O> {
    fn clone(&self) -> Self {
        Self { stripes: Arc::clone(&self.stripes) }
    }
}

impl<O> fmt::Debug for CircuitBreaker<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Refusal {
    fn into_rejection(self, name: Option<&Arc<str>>) -> Rejection {
        let reason = match self.state {
            State::ForcedOpen => "circuit_forced_open",
            State::HalfOpen => "circuit_half_open",
            State::Open | State::Closed => "circuit_open",
        };
        let mut rejection = Rejection::unavailable(LAYER, reason);
        if let Some(name) = name {
            rejection = rejection.with_key(Arc::clone(name));
        }
        match self.retry_after {
            Some(wait) => rejection.with_retry_after(wait),
            None => rejection,
        }
    }
}

/// A closed circuit that has nothing to lose but counts.
impl<O> Idle for CircuitBreaker<O> {
    fn is_idle(&self) -> bool {
        self.state() == State::Closed
    }
}
