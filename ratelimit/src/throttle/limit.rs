use std::{fmt, sync::Arc};

use fastrand::Rng;
use outrigger_core::{
    Criticality, Enforcement, Idle, Live, Moment, Observe, Rejection, stripe_count, thread_number,
};
use tokio::time::Instant;

use super::{
    engine::{Engine, Refusal, ThrottleCounts},
    event::{ClientThrottleEvent, THROTTLED},
    permit::ThrottlePermit,
    policy::ClientThrottlePolicy,
    weak::WeakClientThrottle,
};
use crate::{
    LAYER,
    sync::{AtomicU64, Mutex, Ordering, PoisonError},
};

/// Sends only so many calls as the callee accepts, shared by all clones of this handle. Works with
/// tower and without.
///
/// ```
/// use outrigger_core::Criticality;
/// use outrigger_ratelimit::{ClientThrottle, ClientThrottlePolicy};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), outrigger_core::Rejection> {
/// let throttle = ClientThrottle::builder(ClientThrottlePolicy::default()).seed(1).build();
/// for _ in 0..5 {
///     throttle.try_acquire(Criticality::Critical)?.not_accepted();
/// }
/// assert_eq!(throttle.refusal_probability(Criticality::Critical), 5.0 / 6.0);
/// assert_eq!(throttle.refusal_probability(Criticality::CriticalPlus), 0.0);
/// # Ok(())
/// # }
/// ```
pub struct ClientThrottle<O = ()> {
    /// One for each stripe of threads: a call clones its thread's, so that the count of owners is
    /// not written by two threads.
    stripes: Arc<[Arc<Stripe<O>>]>,
}

/// Alone on its cache lines, count of owners and all.
#[repr(align(128))]
pub(super) struct Stripe<O> {
    pub(super) shared: Arc<Shared<O>>,
}

pub(super) struct Shared<O> {
    pub(super) engine: Engine,
    policy: Live<ClientThrottlePolicy>,
    /// The version of the policy that the engine acts by, from 1; 0 makes it look again.
    applied: AtomicU64,
    applying: Mutex<()>,
    observer: Arc<O>,
    name: Option<Arc<str>>,
    seed: Option<u64>,
}

/// Makes a [`ClientThrottle`].
#[derive(Clone, Debug)]
pub struct ClientThrottleBuilder<O = ()> {
    policy: Live<ClientThrottlePolicy>,
    name: Option<Arc<str>>,
    observer: Arc<O>,
    seed: Option<u64>,
    stripes: usize,
}

impl ClientThrottle {
    /// A throttle with this policy, or with one that is shared and replaced elsewhere.
    #[must_use]
    pub fn new(policy: impl Into<Live<ClientThrottlePolicy>>) -> Self {
        Self::builder(policy).build()
    }

    /// Starts a throttle with a name, an observer or a seed.
    #[must_use]
    pub fn builder(policy: impl Into<Live<ClientThrottlePolicy>>) -> ClientThrottleBuilder {
        let (observer, stripes) = (Arc::new(()), stripe_count());
        ClientThrottleBuilder { policy: policy.into(), name: None, observer, seed: None, stripes }
    }
}

impl<O> ClientThrottleBuilder<O> {
    /// Names the throttle in refusals and events. Default: no name.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tells `observer` what the throttle does. Default: nobody.
    #[must_use]
    pub fn observe<P>(self, observer: P) -> ClientThrottleBuilder<P>
    where
        P: Observe<ClientThrottleEvent>,
    {
        self.observe_shared(Arc::new(observer))
    }

    pub(super) fn observe_shared<P>(self, observer: Arc<P>) -> ClientThrottleBuilder<P> {
        let Self { policy, name, seed, stripes, .. } = self;
        ClientThrottleBuilder { policy, name, observer, seed, stripes }
    }

    /// Draws lots from this seed. Default: a random one.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// For one of many throttles: smaller, and threads that share it share its count of owners.
    pub(super) const fn single_stripe(mut self) -> Self {
        self.stripes = 1;
        self
    }

    /// Makes the throttle, with nothing counted.
    #[must_use]
    pub fn build(self) -> ClientThrottle<O> {
        let Self { policy, name, observer, seed, stripes } = self;
        let start = seed.unwrap_or_else(|| Rng::new().u64(..));
        let shared = Arc::new(Shared {
            engine: Engine::new(&policy.load(), start, Instant::now()),
            policy,
            applied: AtomicU64::new(0),
            applying: Mutex::new(()),
            observer,
            name,
            seed,
        });
        let stripe = |_| Arc::new(Stripe { shared: Arc::clone(&shared) });
        ClientThrottle { stripes: (0..stripes).map(stripe).collect() }
    }
}

impl<O: Observe<ClientThrottleEvent>> ClientThrottle<O> {
    /// Asks whether a call may be sent. Say with the permit whether it was accepted.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with the reason [`THROTTLED`].
    pub fn try_acquire(&self, criticality: Criticality) -> Result<ThrottlePermit<O>, Rejection> {
        let stripe = &self.stripes[thread_number() & (self.stripes.len() - 1)];
        let shared = &*stripe.shared;
        shared.follow_policy();
        let enforcement = shared.engine.enforcement();
        if enforcement == Enforcement::Disabled {
            return Ok(ThrottlePermit::uncounted());
        }
        if let Err(refusal) = shared.engine.admit(criticality, Moment::now()) {
            let shadow = enforcement == Enforcement::Shadow;
            shared.tell_refused(refusal, criticality, shadow);
            if !shadow {
                return Err(shared.rejection());
            }
        }
        Ok(ThrottlePermit::counted(Arc::clone(stripe), criticality))
    }
}

impl<O> ClientThrottle<O> {
    /// What the window holds of the calls of this class.
    #[must_use]
    pub fn counts(&self, criticality: Criticality) -> ThrottleCounts {
        self.shared().engine.counts(criticality, Instant::now())
    }

    /// How likely the next call of this class is refused, from 0 to 1.
    #[must_use]
    pub fn refusal_probability(&self, criticality: Criticality) -> f64 {
        self.shared().engine.probability(self.counts(criticality))
    }

    /// The throttle's name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared().name()
    }

    /// The policy, to read or to replace: the next call acts by it. Counts are kept.
    #[must_use]
    pub fn policy(&self) -> &Live<ClientThrottlePolicy> {
        &self.shared().policy
    }

    /// Acts by a replaced policy at once, rather than with the next call.
    pub fn refresh(&self) {
        self.shared().follow_policy();
    }

    /// A throttle like this one, with its policy, name, seed and observer but counts of its own.
    #[must_use]
    pub fn separate(&self) -> Self {
        self.to_builder().build()
    }

    pub(super) fn to_builder(&self) -> ClientThrottleBuilder<O> {
        let Shared { policy, observer, name, seed, .. } = self.shared();
        let (policy, name, seed) = (policy.clone(), name.clone(), *seed);
        let stripes = self.stripes.len();
        ClientThrottleBuilder { policy, name, observer: Arc::clone(observer), seed, stripes }
    }

    /// A handle that does not keep the throttle alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakClientThrottle<O> {
        WeakClientThrottle::new(&self.stripes)
    }

    pub(super) const fn from_shared(stripes: Arc<[Arc<Stripe<O>>]>) -> Self {
        Self { stripes }
    }

    fn shared(&self) -> &Shared<O> {
        &self.stripes[0].shared
    }
}

impl<O> Shared<O> {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Brings the engine up to date if the policy was replaced. Costs two atomic loads if not.
    fn follow_policy(&self) {
        let version = self.policy.version() + 1;
        if self.applied.load(Ordering::Acquire) != version {
            self.apply_policy();
        }
    }

    /// One at a time, so that an older policy never comes after a newer one.
    #[cold]
    fn apply_policy(&self) {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.policy.version() + 1;
        self.engine.set_policy(&self.policy.load(), Instant::now());
        self.applied.store(version, Ordering::Release);
    }
}

impl<O: Observe<ClientThrottleEvent>> Shared<O> {
    #[cold]
    fn rejection(&self) -> Rejection {
        let rejection = Rejection::exhausted(LAYER, THROTTLED);
        match &self.name {
            Some(name) => rejection.with_key(Arc::clone(name)),
            None => rejection,
        }
    }

    #[cold]
    fn tell_refused(&self, refusal: Refusal, criticality: Criticality, shadow: bool) {
        let Refusal { probability, counts: ThrottleCounts { requests, accepts } } = refusal;
        let event =
            ClientThrottleEvent::Refused { criticality, probability, requests, accepts, shadow };
        self.observer.observe(self.name(), &event);
    }
}

impl<O> Clone for ClientThrottle<O> {
    fn clone(&self) -> Self {
        Self { stripes: Arc::clone(&self.stripes) }
    }
}

impl<O> fmt::Debug for ClientThrottle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientThrottle")
            .field("name", &self.name())
            .field("policy", &self.shared().policy.load())
            .finish_non_exhaustive()
    }
}

/// A throttle whose window is empty.
impl<O> Idle for ClientThrottle<O> {
    fn is_idle(&self) -> bool {
        Criticality::ALL.iter().all(|class| self.counts(*class) == ThrottleCounts::default())
    }
}
