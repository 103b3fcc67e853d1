use std::{fmt, sync::Arc};

use outrigger_core::{
    Criticality, Enforcement, Idle, Live, Moment, Observe, Rejection, stripe_count, thread_number,
};
use tokio::time::Instant;

use super::{
    engine::{Answer, Asking, Gate, HandOut, Verdict},
    event::{ConcurrencyLimitEvent, ConcurrencyRefusal},
    permit::Permit,
    policy::ConcurrencyLimitPolicy,
    wait::{Acquire, Wait},
    weak::WeakConcurrencyLimit,
};
use crate::{
    LAYER,
    sync::{AtomicU64, Mutex, Ordering, PoisonError},
};

/// So many calls at once, shared by all clones of this handle. Works with tower and without.
///
/// ```
/// use outrigger_ratelimit::{ConcurrencyLimit, ConcurrencyLimitPolicy};
///
/// let policy = ConcurrencyLimitPolicy::builder().limit(1).build()?;
/// let limit = ConcurrencyLimit::new(policy);
///
/// let permit = limit.try_acquire()?;
/// assert_eq!(limit.try_acquire().unwrap_err().reason(), "limit_reached");
/// drop(permit);
/// assert!(limit.try_acquire().is_ok());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct ConcurrencyLimit<O = ()> {
    /// One for each stripe of threads: a call clones its thread's, so that the count of owners is
    /// not written by two threads.
    stripes: Arc<[Arc<Stripe<O>>]>,
}

/// Alone on its cache lines, count of owners and all.
#[repr(align(128))]
pub(crate) struct Stripe<O> {
    pub(super) shared: Arc<Shared<O>>,
}

pub(crate) struct Shared<O> {
    pub(super) gate: Gate,
    policy: Live<ConcurrencyLimitPolicy>,
    /// The version of the policy that the gate acts by, from 1; 0 makes it look again.
    applied: AtomicU64,
    applying: Mutex<()>,
    observer: Arc<O>,
    name: Option<Arc<str>>,
}

/// Makes a [`ConcurrencyLimit`].
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitBuilder<O = ()> {
    policy: Live<ConcurrencyLimitPolicy>,
    name: Option<Arc<str>>,
    observer: Arc<O>,
    stripes: usize,
}

/// What a call is told that asks for a place.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "in, waiting or out is all there is")]
pub enum Entry<P, W> {
    /// It has one.
    Admitted(P),
    /// It waits for one.
    Waiting(W),
    /// It gets none.
    Refused(Rejection),
}

impl ConcurrencyLimit {
    /// A limit with this policy, or with one that is shared and replaced elsewhere.
    #[must_use]
    pub fn new(policy: impl Into<Live<ConcurrencyLimitPolicy>>) -> Self {
        Self::builder(policy).build()
    }

    /// Starts a limit with a name or an observer.
    #[must_use]
    pub fn builder(policy: impl Into<Live<ConcurrencyLimitPolicy>>) -> ConcurrencyLimitBuilder {
        let observer = Arc::new(());
        let stripes = stripe_count();
        ConcurrencyLimitBuilder { policy: policy.into(), name: None, observer, stripes }
    }
}

impl<O> ConcurrencyLimitBuilder<O> {
    /// Names the limit in refusals and events. Default: no name.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tells `observer` what the limit does. Default: nobody.
    #[must_use]
    pub fn observe<P>(self, observer: P) -> ConcurrencyLimitBuilder<P>
    where
        P: Observe<ConcurrencyLimitEvent>,
    {
        self.observe_shared(Arc::new(observer))
    }

    pub(crate) fn observe_shared<P>(self, observer: Arc<P>) -> ConcurrencyLimitBuilder<P> {
        let Self { policy, name, stripes, .. } = self;
        ConcurrencyLimitBuilder { policy, name, observer, stripes }
    }

    /// For one of many limits: smaller, and threads that share it share its count of owners.
    pub(crate) const fn single_stripe(mut self) -> Self {
        self.stripes = 1;
        self
    }

    /// Makes the limit, with nobody inside.
    #[must_use]
    pub fn build(self) -> ConcurrencyLimit<O> {
        let Self { policy, name, observer, stripes } = self;
        let shared = Arc::new(Shared {
            gate: Gate::new(&policy.load(), Instant::now()),
            policy,
            applied: AtomicU64::new(0),
            applying: Mutex::new(()),
            observer,
            name,
        });
        let stripe = |_| Arc::new(Stripe { shared: Arc::clone(&shared) });
        ConcurrencyLimit { stripes: (0..stripes).map(stripe).collect() }
    }
}

impl<O: Observe<ConcurrencyLimitEvent>> ConcurrencyLimit<O> {
    /// Asks for a place and never waits for one.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with a word of [`ConcurrencyRefusal`] as its reason.
    pub fn try_acquire(&self) -> Result<Permit<O>, Rejection> {
        self.try_acquire_for(Asking::default())
    }

    /// As [`try_acquire`](Self::try_acquire), for a call that says what it is.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_acquire_for(&self, asking: Asking) -> Result<Permit<O>, Rejection> {
        match self.ask(asking, false) {
            Entry::Admitted(permit) => Ok(permit),
            Entry::Refused(rejection) => Err(rejection),
            Entry::Waiting(_) => unreachable!("it was not allowed to wait"),
        }
    }

    /// Asks for a place, and waits for one as long as the policy allows.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the turn, or the place, to the next who waits.
    pub fn acquire(&self, asking: Asking) -> Acquire<O> {
        Acquire::new(self.enter(asking))
    }

    /// Asks for a place, with waiting told apart from the rest.
    #[must_use]
    #[inline]
    pub fn enter(&self, asking: Asking) -> Entry<Permit<O>, Wait<O>> {
        self.ask(asking, true)
    }

    /// The way of nearly all calls, small enough to be put where it is called.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: a third of the cost is moves")]
    fn ask(&self, asking: Asking, may_wait: bool) -> Entry<Permit<O>, Wait<O>> {
        let stripe = self.stripe();
        let shared = &*stripe.shared;
        shared.follow_policy();
        if shared.gate.is_disabled() {
            return Entry::Admitted(Permit::uncounted());
        }
        if asking.deadline.is_none() && shared.gate.try_enter(asking.criticality) {
            return Entry::Admitted(Permit::counted(Arc::clone(stripe)));
        }
        self.ask_further(asking, may_wait)
    }

    /// For a call that could not just go in.
    #[inline(never)]
    fn ask_further(&self, asking: Asking, may_wait: bool) -> Entry<Permit<O>, Wait<O>> {
        let stripe = self.stripe();
        let shared = &*stripe.shared;
        let has_no_deadline = asking.deadline.is_none();
        if shared.gate.enforcement() == Enforcement::Shadow {
            return Entry::Admitted(self.shadow(asking, may_wait));
        }
        if has_no_deadline && shared.gate.refuses_all_alike() {
            let refusal = ConcurrencyRefusal::LimitReached;
            return Entry::Refused(shared.refuse(refusal, asking.criticality));
        }
        let now = Moment::now();
        match shared.gate.enter(asking, may_wait, now) {
            Answer::In => Entry::Admitted(Permit::counted(Arc::clone(stripe))),
            Answer::Waits(key, displaced) => {
                if let Some(waker) = displaced {
                    waker.wake();
                }
                Entry::Waiting(Wait::new(Arc::clone(stripe), key, asking, now))
            }
            Answer::Refused(refusal) => Entry::Refused(shared.refuse(refusal, asking.criticality)),
        }
    }

    /// Lets a call pass, and tells what would have become of it.
    #[cold]
    fn shadow(&self, asking: Asking, may_wait: bool) -> Permit<O> {
        let stripe = self.stripe();
        let shared = &*stripe.shared;
        let criticality = asking.criticality;
        match shared.gate.enter(asking, false, Moment::now()) {
            Answer::In => return Permit::counted(Arc::clone(stripe)),
            Answer::Refused(ConcurrencyRefusal::LimitReached)
                if may_wait && shared.policy.load().max_waiting() > 0 =>
            {
                shared.tell(&ConcurrencyLimitEvent::WouldWait { criticality });
            }
            Answer::Refused(reason) => shared.tell_refused(reason, criticality, true),
            Answer::Waits(..) => {}
        }
        Permit::uncounted()
    }

    fn stripe(&self) -> &Arc<Stripe<O>> {
        &self.stripes[thread_number() & (self.stripes.len() - 1)]
    }
}

impl<O> ConcurrencyLimit<O> {
    /// How many calls run. Reads one word and never waits.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.shared().gate.in_flight()
    }

    /// How many calls may run at once at present.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.shared().follow_policy();
        self.shared().gate.limit()
    }

    pub(crate) fn enforcement(&self) -> Enforcement {
        self.shared().gate.enforcement()
    }

    /// Lets so many calls run, until the policy is replaced. Then [`let_in`](Self::let_in).
    pub(crate) fn set_limit(&self, limit: u32, critical_reserve: f64) {
        self.shared().gate.set_limit(limit, critical_reserve);
    }

    /// Lets in who can be let in of those that wait.
    pub(crate) fn let_in(&self) {
        if self.waiting() > 0 {
            self.shared().let_in();
        }
    }

    /// Refuses those that wait.
    pub(crate) fn turn_away(&self) {
        decide_all(|| self.shared().gate.turn_away());
    }

    /// How many calls wait for a place.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.shared().gate.waiting()
    }

    /// The limit's name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared().name()
    }

    /// The policy, to read or to replace. What it allows is seen by the next call; to let those
    /// in that wait already, call [`refresh`](Self::refresh).
    #[must_use]
    pub fn policy(&self) -> &Live<ConcurrencyLimitPolicy> {
        &self.shared().policy
    }

    /// A limit like this one, with its policy, name and observer but places of its own.
    #[must_use]
    pub fn separate(&self) -> Self {
        let Shared { policy, observer, name, .. } = self.shared();
        let (policy, name) = (policy.clone(), name.clone());
        let stripes = self.stripes.len();
        ConcurrencyLimitBuilder { policy, name, observer: Arc::clone(observer), stripes }.build()
    }

    /// Acts by a replaced policy at once, rather than with the next call: who waits is let in if
    /// there is room now.
    pub fn refresh(&self) {
        self.shared().follow_policy();
    }

    /// A handle that does not keep the limit alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakConcurrencyLimit<O> {
        WeakConcurrencyLimit::new(&self.stripes)
    }

    pub(super) const fn from_shared(stripes: Arc<[Arc<Stripe<O>>]>) -> Self {
        Self { stripes }
    }

    pub(crate) fn to_builder(&self) -> ConcurrencyLimitBuilder<O> {
        let Shared { policy, observer, name, .. } = self.shared();
        let (policy, name) = (policy.clone(), name.clone());
        let stripes = self.stripes.len();
        ConcurrencyLimitBuilder { policy, name, observer: Arc::clone(observer), stripes }
    }

    fn shared(&self) -> &Shared<O> {
        &self.stripes[0].shared
    }
}

/// Wakes each waiter who is decided about, with nothing locked.
fn decide_all(mut decide: impl FnMut() -> HandOut) {
    while let HandOut::Decided(waker) = decide() {
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<O> Shared<O> {
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(super) fn policy(&self) -> &Live<ConcurrencyLimitPolicy> {
        &self.policy
    }

    /// Brings the gate up to date if the policy was replaced. Costs two atomic loads if not.
    pub(super) fn follow_policy(&self) {
        let version = self.policy.version() + 1;
        if self.applied.load(Ordering::Acquire) != version {
            self.apply_policy();
        }
    }

    /// One at a time, so that an older policy never comes after a newer one.
    #[cold]
    fn apply_policy(&self) {
        {
            let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
            let version = self.policy.version() + 1;
            self.gate.set_policy(&self.policy.load());
            self.applied.store(version, Ordering::Release);
        }
        self.let_in();
    }

    /// Lets in who can be let in of those that wait.
    pub(super) fn let_in(&self) {
        decide_all(|| self.gate.hand_out(Instant::now()));
    }

    #[inline]
    pub(super) fn leave(&self) {
        if self.gate.leave() {
            self.hand_on();
        }
    }

    /// A place came back that somebody waits for.
    #[cold]
    fn hand_on(&self) {
        self.follow_policy();
        self.let_in();
    }

    /// Gives back what a waiter has that nobody will take.
    pub(super) fn give_up(&self, key: usize) {
        if let Verdict::Place(_) = self.gate.give_up(key) {
            self.leave();
        }
    }
}

impl<O: Observe<ConcurrencyLimitEvent>> Shared<O> {
    #[cold]
    pub(super) fn refuse(&self, reason: ConcurrencyRefusal, criticality: Criticality) -> Rejection {
        self.tell_refused(reason, criticality, false);
        let mut rejection = if reason.is_of_deadline() {
            Rejection::deadline_exceeded(LAYER, reason.reason())
        } else {
            Rejection::exhausted(LAYER, reason.reason())
        };
        if let Some(name) = &self.name {
            rejection = rejection.with_key(Arc::clone(name));
        }
        match self.gate.has_retry_after().then(|| self.policy.load().retry_after()).flatten() {
            Some(wait) if !reason.is_of_deadline() => rejection.with_retry_after(wait),
            _ => rejection,
        }
    }

    fn tell_refused(&self, reason: ConcurrencyRefusal, criticality: Criticality, shadow: bool) {
        let (in_flight, limit) = (self.gate.in_flight(), self.gate.limit());
        let event =
            ConcurrencyLimitEvent::Refused { reason, criticality, in_flight, limit, shadow };
        self.tell(&event);
    }

    pub(super) fn tell(&self, event: &ConcurrencyLimitEvent) {
        self.observer.observe(self.name(), event);
    }
}

impl<O> Clone for ConcurrencyLimit<O> {
    fn clone(&self) -> Self {
        Self { stripes: Arc::clone(&self.stripes) }
    }
}

impl<O> fmt::Debug for ConcurrencyLimit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimit")
            .field("name", &self.name())
            .field("limit", &self.shared().gate.limit())
            .field("in_flight", &self.in_flight())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// A limit with nobody inside.
impl<O> Idle for ConcurrencyLimit<O> {
    fn is_idle(&self) -> bool {
        self.in_flight() == 0 && self.waiting() == 0
    }
}
