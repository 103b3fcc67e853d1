use std::{fmt, sync::Arc, time::Duration};

use outrigger_core::{
    Enforcement, Idle, Live, Moment, Observe, Outcome, Rejection, stripe_count, thread_number,
};
use tokio::time::Instant;

use super::{
    builder::AdaptiveLimitBuilder,
    choose::AdaptiveWait,
    event::{AdaptiveLimitEvent, LimitChange},
    limiter::Limiter,
    permit::AdaptivePermit,
    policy::AdaptiveLimitPolicy,
    state::{State, Windows},
    weak::WeakAdaptiveLimit,
};
use crate::{
    Asking, ConcurrencyLimit, ConcurrencyLimitEvent, ConcurrencyRefusal, CutShort, Entry,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError, TryLockError},
};

/// As many calls at once as the callee has room for, shared by all clones of this handle. Works
/// with tower and without.
///
/// After each window the algorithm of the policy ([`LimitAlgorithm`](crate::LimitAlgorithm)) says
/// the next limit, by how much longer calls took than normal and how many were dropped.
///
/// **Normal** is the latency while no call has to queue. Below its capacity a callee does more
/// calls at once in the same time each; above it they only take longer. failsafe-go and Uber's
/// Cinnamon tell the two apart by correlating, over the last 50 windows, the calls in flight with
/// throughput and with latency. Here the knee that fits these windows best is sought, and the
/// normal latency is kept for as long as it explains them: above the capacity they bear any, so a
/// queue that stays is not learnt. Where even the fewest calls had a queue, the normal latency is
/// guessed 13 % lower until there is none. A latency that does not fit what was learnt is that of
/// another callee, and learning begins anew; if that callee is overloaded from its first window on,
/// a part of its queue may be taken for normal for some time. Time-outs and drops have no part in
/// it.
///
/// **Noise.** A window's mean is known to `spread / sqrt(calls)`, where the spread is measured: 0.3
/// of the mean where latencies vary by half, 1 where they are exponential, more where a cache
/// answers nine calls of ten. A window takes as many calls more as calls vary more than exponential
/// ones, eight times `min_samples` at most; the latency of the last windows is smoothed by a Kalman
/// filter; and only what is above normal by 1.95 standard errors is taken for a queue. The limit
/// falls by at most a third before windows have shown that fewer calls are done faster.
///
/// **Drops** that come whatever the limit, from a replica that is broken or by the callers' own
/// mistakes, are no overload: their share over about the last 20 windows is usual, and what counts is
/// what is more than chance adds to it ([`LimitSample::is_dropping`](crate::LimitSample::is_dropping)).
/// Half of the calls and more are never usual.
///
/// **To measure**, calls are let in and never kept out: after 15 windows at the limit in which it
/// did not grow, it is raised for three windows by 7 % to 25 %, as much as the noise demands.
///
/// ```
/// use outrigger_core::Outcome;
/// use outrigger_ratelimit::{AdaptiveLimit, AdaptiveLimitPolicy};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = AdaptiveLimit::new(AdaptiveLimitPolicy::builder().initial_limit(1).build()?);
///
/// let permit = limit.try_acquire()?;
/// assert_eq!(limit.try_acquire().unwrap_err().reason(), "limit_reached");
/// permit.finish(Outcome::Success);
/// assert_eq!(limit.status().limit, 1);
/// # Ok(())
/// # }
/// ```
pub struct AdaptiveLimit<O = ()> {
    /// One for each stripe of threads: a call clones its thread's, so that the count of owners is
    /// not written by two threads.
    pub(super) stripes: Arc<[Arc<Stripe<O>>]>,
}

/// Alone on its cache lines, count of owners and all.
#[repr(align(128))]
pub(super) struct Stripe<O> {
    pub(super) shared: Arc<Shared<O>>,
    pub(super) index: usize,
}

pub(super) struct Shared<O> {
    pub(super) places: ConcurrencyLimit<Relay<O>>,
    pub(super) windows: Windows,
    pub(super) policy: Live<AdaptiveLimitPolicy>,
    /// The version of the policy that is acted by, from 1; 0 makes it look again.
    pub(super) applied: AtomicU64,
    pub(super) state: Mutex<State>,
    pub(super) make_limiter: Option<MakeLimiter>,
    pub(super) observer: Arc<O>,
    pub(super) tell: Tell<O>,
}

/// How the observer is told where nothing is known of its type.
pub(super) type Tell<O> = fn(&O, &str, &AdaptiveLimitEvent);

pub(super) type MakeLimiter = Arc<dyn Fn() -> Box<dyn Limiter> + Send + Sync>;

/// Tells the observer of an adaptive limit what its places do. Named only in types.
pub struct Relay<O>(pub(super) Arc<O>);

impl<O: Observe<AdaptiveLimitEvent>> Observe<ConcurrencyLimitEvent> for Relay<O> {
    fn observe(&self, key: &str, event: &ConcurrencyLimitEvent) {
        use ConcurrencyLimitEvent as Of;
        let event = match *event {
            Of::Refused { reason, criticality, in_flight, limit, shadow } => {
                AdaptiveLimitEvent::Refused { reason, criticality, in_flight, limit, shadow }
            }
            Of::Waited { wait, criticality } => AdaptiveLimitEvent::Waited { wait, criticality },
            Of::WouldWait { criticality } => AdaptiveLimitEvent::WouldWait { criticality },
        };
        self.0.observe(key, &event);
    }
}

impl<O> fmt::Debug for Relay<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

/// What an adaptive limit is at.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveLimitStatus {
    /// How many calls may run.
    pub limit: u32,
    /// How many do.
    pub in_flight: u32,
    /// How many wait for a place.
    pub waiting: u32,
    /// How long a call takes while none has to queue; none before the first window.
    pub normal_latency: Option<Duration>,
}

impl AdaptiveLimit {
    /// A limit with this policy, or with one that is shared and replaced elsewhere.
    #[must_use]
    pub fn new(policy: impl Into<Live<AdaptiveLimitPolicy>>) -> Self {
        Self::builder(policy).build()
    }

    /// Starts a limit with a name, an observer or an algorithm of the user's own.
    #[must_use]
    pub fn builder(policy: impl Into<Live<AdaptiveLimitPolicy>>) -> AdaptiveLimitBuilder {
        AdaptiveLimitBuilder {
            policy: policy.into(),
            name: None,
            observer: Arc::new(()),
            tell: <() as Observe<AdaptiveLimitEvent>>::observe,
            make_limiter: None,
            stripes: stripe_count(),
        }
    }
}

impl<O: Observe<AdaptiveLimitEvent>> AdaptiveLimit<O> {
    /// Asks for a place and never waits for one. Tell with the permit how the call went.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with a word of [`ConcurrencyRefusal`] as its
    /// reason.
    pub fn try_acquire(&self) -> Result<AdaptivePermit<O>, Rejection> {
        self.try_acquire_for(Asking::default())
    }

    /// As [`try_acquire`](Self::try_acquire), for a call that says what it is.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_acquire_for(&self, asking: Asking) -> Result<AdaptivePermit<O>, Rejection> {
        self.try_acquire_at(asking, Moment::now())
    }

    /// As [`try_acquire_for`](Self::try_acquire_for), where the time is known.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_acquire_at(
        &self,
        asking: Asking,
        now: Instant,
    ) -> Result<AdaptivePermit<O>, Rejection> {
        let stripe = self.stripe();
        let shared = &*stripe.shared;
        shared.follow_policy();
        match shared.places.try_acquire_for(asking) {
            Ok(place) => {
                let began = shared.counted(stripe).map(|stripe| (stripe, now));
                Ok(AdaptivePermit::new(began, place, ()))
            }
            Err(rejection) => {
                shared.refused(stripe, &rejection);
                Err(rejection)
            }
        }
    }

    /// Asks for a place for a call that `classifier` will judge, for a layer or a
    /// [`ChooseLimit`](crate::ChooseLimit) of one's own: the permit learns the call's result.
    pub fn enter_with<C>(
        &self,
        asking: Asking,
        classifier: C,
    ) -> Entry<AdaptivePermit<O, C>, AdaptiveWait<O, C>> {
        let stripe = self.stripe();
        let shared = &*stripe.shared;
        shared.follow_policy();
        match shared.places.enter(asking) {
            Entry::Admitted(place) => {
                let began = shared.counted(stripe).map(|stripe| (stripe, Moment::now()));
                Entry::Admitted(AdaptivePermit::new(began, place, classifier))
            }
            Entry::Waiting(wait) => {
                shared.windows.tally(stripe.index).refused();
                Entry::Waiting(AdaptiveWait::new(wait, Arc::clone(stripe), classifier))
            }
            Entry::Refused(rejection) => {
                shared.refused(stripe, &rejection);
                Entry::Refused(rejection)
            }
        }
    }

    /// Asks for a place, and waits for one as long as the policy allows.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the turn, or the place, to the next who waits.
    pub async fn acquire(&self, asking: Asking) -> Result<AdaptivePermit<O>, Rejection> {
        match self.enter_with(asking, ()) {
            Entry::Admitted(permit) => Ok(permit),
            Entry::Waiting(wait) => wait.await,
            Entry::Refused(rejection) => Err(rejection),
        }
    }

    fn stripe(&self) -> &Arc<Stripe<O>> {
        &self.stripes[thread_number() & (self.stripes.len() - 1)]
    }
}

impl<O> AdaptiveLimit<O> {
    /// What the limit is at. Reads a few words and never waits.
    #[must_use]
    pub fn status(&self) -> AdaptiveLimitStatus {
        let Shared { places, windows, .. } = self.shared();
        AdaptiveLimitStatus {
            limit: places.limit(),
            in_flight: places.in_flight().saturating_add(windows.beyond()),
            waiting: places.waiting(),
            normal_latency: windows.normal_latency(),
        }
    }

    /// The limit's name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared().places.name()
    }

    /// The policy, to read or to replace: the next call acts by it. What was learnt is kept, in
    /// the new bounds.
    #[must_use]
    pub fn policy(&self) -> &Live<AdaptiveLimitPolicy> {
        &self.shared().policy
    }

    /// A limit like this one, with its policy, name, observer and algorithm, that has learnt
    /// nothing.
    #[must_use]
    pub fn separate(&self) -> Self {
        self.to_builder().build()
    }

    pub(super) fn to_builder(&self) -> AdaptiveLimitBuilder<O> {
        let Shared { policy, observer, tell, make_limiter, .. } = self.shared();
        let name = self.name();
        AdaptiveLimitBuilder {
            policy: policy.clone(),
            name: (!name.is_empty()).then(|| name.into()),
            observer: Arc::clone(observer),
            tell: *tell,
            make_limiter: make_limiter.clone(),
            stripes: self.stripes.len(),
        }
    }

    fn shared(&self) -> &Shared<O> {
        &self.stripes[0].shared
    }
}

impl<O> AdaptiveLimit<O> {
    /// Acts by a replaced policy at once, rather than with the next call. Waits for a window that is
    /// being ended, so a [`Limiter`] must not call it.
    pub fn refresh(&self) {
        let shared = self.shared();
        if !shared.is_up_to_date() {
            shared.apply_policy(shared.state.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// A handle that does not keep the limit alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakAdaptiveLimit<O> {
        WeakAdaptiveLimit::new(&self.stripes)
    }

    pub(super) const fn from_shared(stripes: Arc<[Arc<Stripe<O>>]>) -> Self {
        Self { stripes }
    }
}

impl<O> Shared<O> {
    /// `None` for a call that counts for nothing.
    fn counted(&self, stripe: &Arc<Stripe<O>>) -> Option<Arc<Stripe<O>>> {
        (self.places.enforcement() != Enforcement::Disabled).then(|| Arc::clone(stripe))
    }

    /// A call whose deadline had passed says nothing of the limit.
    fn refused(&self, stripe: &Stripe<O>, rejection: &Rejection) {
        if rejection.reason() != ConcurrencyRefusal::DeadlinePassed.reason() {
            self.windows.tally(stripe.index).refused();
        }
    }

    /// How many calls run with it.
    pub(super) fn began(&self, stripe: usize, is_beyond: bool) -> u32 {
        if is_beyond {
            self.windows.pass_beyond();
        }
        let in_flight = self.in_flight();
        self.windows.tally(stripe).saw(in_flight);
        in_flight
    }

    /// A call is over that took so long, and had so many in flight when it began.
    pub(super) fn ended(
        &self,
        stripe: usize,
        outcome: Outcome,
        (latency, in_flight): (Duration, u32),
        now: Instant,
    ) {
        let tally = self.windows.tally(stripe);
        match outcome {
            Outcome::Success => tally.succeeded(latency, in_flight),
            Outcome::Failure | Outcome::Timeout => tally.dropped(),
            Outcome::Ignored => return,
        }
        if self.windows.may_end(now) {
            self.end_window(now);
        }
    }

    pub(super) fn was_cut_short(&self, stripe: usize) {
        if self.policy.load().cut_short() == CutShort::NotAccepted {
            self.ended(stripe, Outcome::Timeout, (Duration::ZERO, 0), Moment::now());
        }
    }

    /// A call that was let pass beyond the limit is over.
    pub(super) fn left(&self, is_beyond: bool) {
        if is_beyond {
            self.windows.leave_beyond();
        }
    }

    fn in_flight(&self) -> u32 {
        self.places.in_flight().saturating_add(self.windows.beyond())
    }

    /// Who finds another one at it leaves it to that one.
    #[cold]
    fn end_window(&self, now: Instant) {
        let (from, decision) = {
            let Some(mut state) = self.try_state() else { return };
            let from = state.places();
            let Some(decision) = state.end_window(&self.windows, now) else { return };
            self.places.set_limit(decision.places, state.policy().critical_reserve());
            (from, decision)
        };
        self.places.let_in();
        self.tell_change(from, decision.places, decision.reason);
    }

    fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn is_up_to_date(&self) -> bool {
        self.applied.load(Ordering::Acquire) == self.policy.version() + 1
    }

    /// Brings the limit up to date if the policy was replaced. Costs two atomic loads if not. Does
    /// not wait for a window that is being ended, with a limiter of the user's: the next call will.
    fn follow_policy(&self) {
        if !self.is_up_to_date() {
            self.follow_if_free();
        }
    }

    #[cold]
    fn follow_if_free(&self) {
        if let Some(state) = self.try_state() {
            self.apply_policy(state);
        }
    }

    /// One at a time, so that an older policy never comes after a newer one.
    fn apply_policy(&self, mut state: MutexGuard<'_, State>) {
        let version = self.policy.version() + 1;
        let policy = *self.policy.get();
        let from = state.places();
        let to = state.set_policy(policy);
        // A window that was to last long by the old policy does not hold up the new one.
        self.windows.end_by(Instant::now() + policy.max_window());
        self.places.policy().replace(policy.places(to));
        self.applied.store(version, Ordering::Release);
        drop(state);
        self.places.refresh();
        self.tell_change(from, to, LimitChange::Policy);
    }

    fn tell_change(&self, from: u32, to: u32, reason: LimitChange) {
        if from != to {
            let event = AdaptiveLimitEvent::Changed { from, to, reason };
            (self.tell)(&self.observer, self.places.name(), &event);
        }
    }
}

impl<O> Clone for AdaptiveLimit<O> {
    fn clone(&self) -> Self {
        Self { stripes: Arc::clone(&self.stripes) }
    }
}

impl<O> fmt::Debug for AdaptiveLimit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimit")
            .field("name", &self.name())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// A limit with nobody inside.
impl<O> Idle for AdaptiveLimit<O> {
    fn is_idle(&self) -> bool {
        let status = self.status();
        status.in_flight == 0 && status.waiting == 0
    }
}
