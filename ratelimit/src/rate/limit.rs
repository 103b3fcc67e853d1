use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use outrigger_core::{Enforcement, Idle, Live, Moment, Observe, Rejection};
use tokio::time::Instant;

use super::{
    engine::{Bucket, Shortage},
    event::{RateLimitEvent, RateRefusal},
    policy::RateLimitPolicy,
    queue::Queue,
    weak::WeakRateLimit,
};
use crate::{
    LAYER,
    sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, Ordering, PoisonError},
};

/// So many calls in a time, shared by all clones of this handle. Works with tower and without.
///
/// ```
/// use outrigger_ratelimit::{RateLimit, RateLimitPolicy};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = RateLimit::new(RateLimitPolicy::builder().rate(100).burst(2).build()?);
///
/// limit.try_acquire(2)?;
/// let rejection = limit.try_acquire(1).unwrap_err();
/// assert_eq!(rejection.reason(), "rate_reached");
/// assert_eq!(rejection.retry_after(), Some(std::time::Duration::from_millis(10)));
/// # Ok(())
/// # }
/// ```
pub struct RateLimit<O = ()> {
    shared: Arc<Shared<O>>,
}

pub(super) struct Shared<O> {
    bucket: Bucket,
    queue: Queue,
    policy: Live<RateLimitPolicy>,
    enforcement: AtomicU8,
    /// Whether calls may wait.
    waits: AtomicBool,
    /// The version of the policy that the bucket acts by, from 1; 0 makes it look again.
    applied: AtomicU64,
    applying: Mutex<()>,
    observer: Arc<O>,
    name: Option<Arc<str>>,
}

/// Makes a [`RateLimit`].
#[derive(Clone, Debug)]
pub struct RateLimitBuilder<O = ()> {
    policy: Live<RateLimitPolicy>,
    name: Option<Arc<str>>,
    observer: Arc<O>,
}

/// What a call is told that asks for tokens.
#[derive(Debug)]
pub(crate) enum RateEntry<O: Observe<RateLimitEvent>> {
    Admitted,
    Waiting(RateWait<O>),
    Refused(Rejection),
}

impl RateLimit {
    /// A limit with this policy and a full bucket.
    #[must_use]
    pub fn new(policy: impl Into<Live<RateLimitPolicy>>) -> Self {
        Self::builder(policy).build()
    }

    /// Starts a limit with a name or an observer.
    #[must_use]
    pub fn builder(policy: impl Into<Live<RateLimitPolicy>>) -> RateLimitBuilder {
        RateLimitBuilder { policy: policy.into(), name: None, observer: Arc::new(()) }
    }
}

impl<O> RateLimitBuilder<O> {
    /// Names the limit in refusals and events. Default: no name.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tells `observer` what the limit does. Default: nobody.
    #[must_use]
    pub fn observe<P>(self, observer: P) -> RateLimitBuilder<P>
    where
        P: Observe<RateLimitEvent>,
    {
        self.observe_shared(Arc::new(observer))
    }

    pub(super) fn observe_shared<P>(self, observer: Arc<P>) -> RateLimitBuilder<P> {
        let Self { policy, name, .. } = self;
        RateLimitBuilder { policy, name, observer }
    }

    /// Makes the limit, with a full bucket.
    #[must_use]
    pub fn build(self) -> RateLimit<O> {
        let Self { policy, name, observer } = self;
        let first = policy.get();
        let shared = Shared {
            bucket: Bucket::new(first.quota(), Instant::now()),
            queue: Queue::new(),
            policy,
            enforcement: AtomicU8::new(first.enforcement() as u8),
            waits: AtomicBool::new(first.max_waiting() > 0),
            applied: AtomicU64::new(0),
            applying: Mutex::new(()),
            observer,
            name,
        };
        RateLimit { shared: Arc::new(shared) }
    }
}

impl<O: Observe<RateLimitEvent>> RateLimit<O> {
    /// Takes `cost` tokens and never waits for them. No permit: tokens come back with time.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with a word of [`RateRefusal`] as its reason and the exact time until there
    /// are enough.
    pub fn try_acquire(&self, cost: u32) -> Result<(), Rejection> {
        match self.ask(cost, None, false) {
            RateEntry::Refused(rejection) => Err(rejection),
            RateEntry::Admitted | RateEntry::Waiting(_) => Ok(()),
        }
    }

    #[inline]
    pub(crate) fn enter(&self, cost: u32, deadline: Option<Instant>) -> RateEntry<O> {
        self.ask(cost, deadline, true)
    }

    /// Takes `cost` tokens, and waits for them as long as the policy and `deadline` allow.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue; tokens that it was given already come back.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire), and at once: a wait once begun ends well.
    pub async fn acquire(&self, cost: u32, deadline: Option<Instant>) -> Result<(), Rejection> {
        match self.enter(cost, deadline) {
            RateEntry::Admitted => Ok(()),
            RateEntry::Waiting(wait) => {
                wait.await;
                Ok(())
            }
            RateEntry::Refused(rejection) => Err(rejection),
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: moves are what costs beside the bucket")]
    fn ask(&self, cost: u32, deadline: Option<Instant>, may_wait: bool) -> RateEntry<O> {
        let shared = &*self.shared;
        shared.follow_policy();
        let enforcement = shared.enforcement();
        if enforcement == Enforcement::Disabled {
            return RateEntry::Admitted;
        }
        let now = Moment::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return self.refuse(RateRefusal::NoTimeToWait, cost, None);
        }
        let shortage = if shared.queue.waiting() > 0 {
            Shortage::For(Duration::ZERO)
        } else {
            match shared.bucket.take(cost, now) {
                Ok(()) => return RateEntry::Admitted,
                Err(Shortage::For(wait)) if !shared.waits.load(Ordering::Acquire) => {
                    return self.refuse(RateRefusal::RateReached, cost, Some(wait));
                }
                Err(shortage) => shortage,
            }
        };
        if shortage == Shortage::Ever || cost > shared.bucket.burst() {
            return self.refuse(RateRefusal::CostExceedsBurst, cost, None);
        }
        if !may_wait || enforcement == Enforcement::Shadow {
            return self.refuse_or_shadow(cost, deadline, may_wait, now);
        }
        self.queue_up(cost, deadline, now)
    }

    #[inline(never)]
    fn queue_up(&self, cost: u32, deadline: Option<Instant>, now: Instant) -> RateEntry<O> {
        let shared = &*self.shared;
        let policy = shared.policy.load();
        let judge = |waiting, queued| {
            let wait = shared.wait_behind(queued, cost, now);
            let time_left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            judge(&policy, waiting, wait, time_left).map_err(|reason| (reason, wait))
        };
        match shared.queue.join(cost, judge) {
            Ok(key) => {
                RateEntry::Waiting(RateWait { limit: self.clone(), key: Some(key), since: now })
            }
            Err((reason, wait)) => self.refuse(reason, cost, Some(wait)),
        }
    }

    #[cold]
    fn refuse_or_shadow(
        &self,
        cost: u32,
        deadline: Option<Instant>,
        may_wait: bool,
        now: Instant,
    ) -> RateEntry<O> {
        let shared = &*self.shared;
        let wait = shared.wait_behind(shared.queue.queued_cost(), cost, now);
        let policy = shared.policy.load();
        let time_left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        let judged = match judge(&policy, shared.queue.waiting(), wait, time_left) {
            Ok(()) if may_wait => Ok(()),
            Ok(()) => Err(RateRefusal::RateReached),
            Err(reason) => Err(reason),
        };
        match judged {
            Ok(()) => {
                shared.tell(&RateLimitEvent::WouldWait { wait });
                RateEntry::Admitted
            }
            Err(reason) => self.refuse(reason, cost, Some(wait)),
        }
    }

    #[cold]
    fn refuse(
        &self,
        reason: RateRefusal,
        cost: u32,
        retry_after: Option<Duration>,
    ) -> RateEntry<O> {
        let shared = &*self.shared;
        let shadow = shared.enforcement() == Enforcement::Shadow;
        shared.tell(&RateLimitEvent::Refused { reason, cost, retry_after, shadow });
        if shadow {
            return RateEntry::Admitted;
        }
        let mut rejection = if reason == RateRefusal::NoTimeToWait {
            Rejection::deadline_exceeded(LAYER, reason.reason())
        } else {
            Rejection::exhausted(LAYER, reason.reason())
        };
        if let Some(name) = &shared.name {
            rejection = rejection.with_key(Arc::clone(name));
        }
        RateEntry::Refused(match retry_after {
            Some(wait) => rejection.with_retry_after(wait),
            None => rejection,
        })
    }
}

impl<O> RateLimit<O> {
    /// How many whole tokens there are.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.shared.bucket.tokens(Instant::now())
    }

    /// How long until the bucket is full again.
    #[must_use]
    pub fn full_in(&self) -> Duration {
        self.shared.bucket.full_in(Instant::now())
    }

    /// How long until the next whole token is there; nothing when the bucket is full.
    #[must_use]
    pub fn next_in(&self) -> Duration {
        self.shared.bucket.next_in(Instant::now())
    }

    /// How many calls wait for tokens.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.shared.queue.waiting()
    }

    /// The limit's name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// The policy, to read or to replace. Tokens that were spent stay spent. It is seen by the next
    /// call, or by [`refresh`](Self::refresh).
    #[must_use]
    pub fn policy(&self) -> &Live<RateLimitPolicy> {
        &self.shared.policy
    }

    /// Acts by a replaced policy at once, rather than with the next call.
    pub fn refresh(&self) {
        self.shared.follow_policy();
    }

    /// A limit like this one, with its policy, name and observer but a full bucket of its own.
    #[must_use]
    pub fn separate(&self) -> Self {
        self.to_builder().build()
    }

    /// A handle that does not keep the limit alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakRateLimit<O> {
        WeakRateLimit::new(&self.shared)
    }

    pub(super) const fn from_shared(shared: Arc<Shared<O>>) -> Self {
        Self { shared }
    }

    pub(super) fn to_builder(&self) -> RateLimitBuilder<O> {
        let Shared { policy, name, observer, .. } = &*self.shared;
        let (policy, name) = (policy.clone(), name.clone());
        RateLimitBuilder { policy, name, observer: Arc::clone(observer) }
    }
}

impl<O> Shared<O> {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn enforcement(&self) -> Enforcement {
        match self.enforcement.load(Ordering::Acquire) {
            0 => Enforcement::Enforced,
            1 => Enforcement::Shadow,
            _ => Enforcement::Disabled,
        }
    }

    /// Brings the bucket up to date if the policy was replaced. Costs two atomic loads if not.
    fn follow_policy(&self) {
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
            let policy = self.policy.get();
            self.bucket.set_quota(policy.quota(), Instant::now());
            self.waits.store(policy.max_waiting() > 0, Ordering::Release);
            self.enforcement.store(policy.enforcement() as u8, Ordering::Release);
            self.applied.store(version, Ordering::Release);
        }
        self.queue.nudge();
    }

    /// How long a call of this cost has to wait behind what is queued.
    fn wait_behind(&self, queued: u64, cost: u32, now: Instant) -> Duration {
        let tokens = queued.saturating_add(u64::from(cost));
        let full = self.bucket.time_for(u64::from(self.bucket.burst()));
        let needed = self.bucket.full_in(now).saturating_add(self.bucket.time_for(tokens));
        needed.saturating_sub(full)
    }
}

/// Whether a call may wait so long behind so many.
fn judge(
    policy: &RateLimitPolicy,
    waiting: u32,
    wait: Duration,
    time_left: Option<Duration>,
) -> Result<(), RateRefusal> {
    if policy.max_waiting() == 0 {
        Err(RateRefusal::RateReached)
    } else if waiting >= policy.max_waiting() {
        Err(RateRefusal::QueueFull)
    } else if wait > policy.max_wait() {
        Err(RateRefusal::WaitTooLong)
    } else if time_left.is_some_and(|left| wait > left) {
        Err(RateRefusal::NoTimeToWait)
    } else {
        Ok(())
    }
}

impl<O: Observe<RateLimitEvent>> Shared<O> {
    fn tell(&self, event: &RateLimitEvent) {
        self.observer.observe(self.name(), event);
    }
}

/// Waits for tokens. Needs tokio's timer.
pub(crate) struct RateWait<O: Observe<RateLimitEvent>> {
    limit: RateLimit<O>,
    key: Option<usize>,
    since: Instant,
}

impl<O: Observe<RateLimitEvent>> Future for RateWait<O> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.key else { return Poll::Ready(()) };
        let shared = &*self.limit.shared;
        shared.follow_policy();
        let (waker, enforcement) = (cx.waker().clone(), shared.enforcement());
        if !shared.queue.poll(key, waker, &shared.bucket, enforcement) {
            return Poll::Pending;
        }
        let wait = Instant::now().saturating_duration_since(self.since);
        shared.tell(&RateLimitEvent::Waited { wait });
        self.key = None;
        Poll::Ready(())
    }
}

impl<O: Observe<RateLimitEvent>> Drop for RateWait<O> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let Shared { queue, bucket, .. } = &*self.limit.shared;
        if let Some(cost) = queue.leave(key) {
            bucket.give_back(cost);
            queue.nudge();
        }
    }
}

impl<O: Observe<RateLimitEvent>> fmt::Debug for RateWait<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateWait").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<O> Clone for RateLimit<O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<O> fmt::Debug for RateLimit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("name", &self.name())
            .field("policy", &self.shared.policy.load())
            .finish_non_exhaustive()
    }
}

/// A full bucket.
impl<O> Idle for RateLimit<O> {
    fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.full_in().is_zero()
    }
}
