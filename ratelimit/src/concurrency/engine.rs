//! The rule: counts places, and keeps those in order who wait for one. Knows neither tower nor
//! async nor the clock.

mod queue;
mod shed;

#[cfg(all(test, outrigger_loom))]
mod loom;

use std::task::Waker;

use outrigger_core::{Criticality, Enforcement};
use tokio::time::Instant;

pub(crate) use self::queue::Verdict;
use self::queue::{CLASSES, Queue};
use crate::{
    ConcurrencyLimitPolicy, ConcurrencyRefusal,
    sync::{AtomicU8, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};

/// The places of one limit.
#[derive(Debug)]
pub(crate) struct Gate {
    /// How many calls run, and in the upper half how many wait. One word, so that a place that
    /// comes back sees who waits, and who begins to wait sees that no place is free.
    places: AtomicU64,
    limit: AtomicU32,
    enforcement: AtomicU8,
    /// [`WAITS`] and [`SAYS_WHEN`], as the policy has it.
    kinds: AtomicU8,
    /// One bit for each class that has ever asked.
    classes: AtomicU8,
    /// How many places the least critical class leaves free while more critical calls come.
    reserve: AtomicU32,
    /// Until when calls of this class are expected, in nanoseconds after `start`.
    expected_until: [AtomicU64; CLASSES],
    start: Instant,
    queue: Mutex<Queue>,
}

const ONE_WAITING: u64 = 1 << 32;
/// How long a reserve is kept for the calls of a class after the last one came near the limit.
const EXPECTED_FOR_NS: u64 = 1_000_000_000;

/// Calls may wait.
const WAITS: u8 = 1;
/// Refused calls are told when to come back.
const SAYS_WHEN: u8 = 2;

const fn in_flight(places: u64) -> u32 {
    (places & 0xffff_ffff) as u32
}

const fn waiting(places: u64) -> u32 {
    (places >> 32) as u32
}

/// What a call says of itself.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Asking {
    /// How much the call matters.
    pub criticality: Criticality,
    /// When the call must be over.
    pub deadline: Option<Instant>,
}

/// What a call is told that did not get in at once.
#[derive(Debug)]
pub(crate) enum Answer {
    In,
    /// It waits, under this key. The waker is of one who was displaced.
    Waits(usize, Option<Waker>),
    Refused(ConcurrencyRefusal),
}

/// What handing out came to.
#[derive(Debug)]
pub(crate) enum HandOut {
    /// About one waiter, who is to be woken when nothing is locked. There may be more to do.
    Decided(Option<Waker>),
    /// There is nobody, or no place.
    Over,
}

impl Gate {
    pub(crate) fn new(policy: &ConcurrencyLimitPolicy, start: Instant) -> Self {
        let gate = Self {
            places: AtomicU64::new(0),
            limit: AtomicU32::new(policy.limit()),
            enforcement: AtomicU8::new(0),
            kinds: AtomicU8::new(0),
            classes: AtomicU8::new(0),
            reserve: AtomicU32::new(0),
            expected_until: [(); CLASSES].map(|()| AtomicU64::new(0)),
            start,
            queue: Mutex::new(Queue::new(policy)),
        };
        gate.set_hot(policy);
        gate
    }

    /// Takes a place if one is free and nobody has to go first. What every call tries first.
    pub(crate) fn try_enter(&self, criticality: Criticality) -> bool {
        let bit = 1 << criticality as u8;
        let classes = self.classes.load(Ordering::Relaxed);
        if classes != bit {
            self.note_class(classes, bit);
            // Who matters less leaves a reserve, which takes a look at the clock.
            let is_mixed = !(classes | bit).is_power_of_two();
            if is_mixed
                && in_flight(self.places.load(Ordering::Relaxed)) >= self.limit_with_reserve()
            {
                return false;
            }
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let mut places = self.places.load(Ordering::Relaxed);
        loop {
            if waiting(places) > 0 || in_flight(places) >= limit {
                return false;
            }
            // `Acquire` pairs with the `Release` in `leave`: what a place's last holder did is
            // seen by its next.
            match self.places.compare_exchange_weak(
                places,
                places + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => places = seen,
            }
        }
    }

    /// Whether a call for which [`try_enter`](Self::try_enter) found no place is refused whatever it
    /// is: there is none, no call may wait, and all matter alike. Takes neither a lock nor a look at the clock.
    pub(crate) fn refuses_all_alike(&self) -> bool {
        self.kinds.load(Ordering::Relaxed) & WAITS == 0
            && self.in_flight() >= self.limit()
            && self.classes.load(Ordering::Relaxed).is_power_of_two()
    }

    /// Whether refused calls are told when to come back.
    pub(crate) fn has_retry_after(&self) -> bool {
        self.kinds.load(Ordering::Relaxed) & SAYS_WHEN != 0
    }

    fn note_class(&self, classes: u8, bit: u8) {
        if classes & bit == 0 {
            self.classes.fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn limit_with_reserve(&self) -> u32 {
        let limit = self.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.reserve.load(Ordering::Relaxed))
    }

    /// Decides about a call for which [`try_enter`](Self::try_enter) found no place.
    pub(crate) fn enter(&self, asking: Asking, may_wait: bool, now: Instant) -> Answer {
        if asking.deadline.is_some_and(|deadline| deadline <= now) {
            return Answer::Refused(ConcurrencyRefusal::DeadlinePassed);
        }
        let class = asking.criticality as usize;
        let ceiling = self.ceiling(class, now);
        let mut queue = self.lock();
        let ceiling = if queue.allows_waiting() { self.limit() } else { ceiling };
        let has_waiters = queue.has_waiters_before(class);
        loop {
            let places = self.places.load(Ordering::Relaxed);
            if !has_waiters && in_flight(places) < ceiling {
                if self.change(places, places + 1) {
                    return Answer::In;
                }
                continue;
            }
            if !queue.allows_waiting() || !may_wait {
                let kept = in_flight(places) < self.limit() && !has_waiters;
                return Answer::Refused(if kept {
                    ConcurrencyRefusal::KeptForCritical
                } else {
                    ConcurrencyRefusal::LimitReached
                });
            }
            let count = waiting(places);
            if let Err(refusal) = queue.may_wait(class, asking.deadline, count, now) {
                return Answer::Refused(refusal);
            }
            // The one who is displaced was counted already.
            let fewer = queue.is_full(count);
            if self.change(places, if fewer { places } else { places + ONE_WAITING }) {
                let displaced = if fewer { queue.displace(class) } else { None };
                return Answer::Waits(queue.push(class, asking.deadline, now), displaced);
            }
        }
    }

    fn change(&self, from: u64, to: u64) -> bool {
        // Under the lock of the queue, whose holders see each other; `Acquire` as above.
        self.places.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Up to where this class may fill the places.
    fn ceiling(&self, class: usize, now: Instant) -> u32 {
        let limit = self.limit();
        let reserve = self.reserve.load(Ordering::Relaxed);
        if reserve == 0 || self.classes.load(Ordering::Relaxed).is_power_of_two() {
            return limit;
        }
        let now_ns = u64::try_from(now.saturating_duration_since(self.start).as_nanos());
        let now_ns = now_ns.unwrap_or(u64::MAX);
        let until = now_ns.saturating_add(EXPECTED_FOR_NS);
        self.expected_until[class].store(until, Ordering::Relaxed);
        let above = &self.expected_until[class + 1..];
        if !above.iter().any(|until| until.load(Ordering::Relaxed) > now_ns) {
            return limit;
        }
        let thirds = u32::try_from(CLASSES - 1 - class).unwrap_or(0);
        limit.saturating_sub(reserve.saturating_mul(thirds).div_ceil(3)).max(1)
    }

    /// Gives a place back. Says whether somebody waits for it; then
    /// [`hand_out`](Self::hand_out) until nobody can be let in.
    #[must_use]
    #[inline]
    pub(crate) fn leave(&self) -> bool {
        let before = self.places.fetch_sub(1, Ordering::Release);
        debug_assert!(in_flight(before) > 0, "every place is given back exactly once");
        waiting(before) > 0
    }

    /// Decides about one waiter, if one can be let in or must be refused.
    pub(crate) fn hand_out(&self, now: Instant) -> HandOut {
        let mut queue = self.lock();
        let enforced = self.enforcement() == Enforcement::Enforced;
        if enforced && self.in_flight() >= self.limit() {
            return HandOut::Over;
        }
        let Some(key) = queue.next() else { return HandOut::Over };
        if !enforced {
            self.places.fetch_sub(ONE_WAITING, Ordering::Relaxed);
            return HandOut::Decided(queue.decide(key, Verdict::Free));
        }
        if let Some(refusal) = queue.refusal_of(key, now) {
            self.places.fetch_sub(ONE_WAITING, Ordering::Relaxed);
            return HandOut::Decided(queue.decide(key, Verdict::Refused(refusal)));
        }
        if !self.take_for_waiter() {
            return HandOut::Over;
        }
        let waited = now.saturating_duration_since(queue.waiters.get(key).since);
        let waker = queue.decide(key, Verdict::Place(waited));
        queue.note_grant(now);
        HandOut::Decided(waker)
    }

    /// Refuses one waiter, if there is one, as if it came only now and might not wait.
    pub(crate) fn turn_away(&self) -> HandOut {
        let mut queue = self.lock();
        let Some(key) = queue.next() else { return HandOut::Over };
        self.places.fetch_sub(ONE_WAITING, Ordering::Relaxed);
        let refused = Verdict::Refused(ConcurrencyRefusal::LimitReached);
        HandOut::Decided(queue.decide(key, refused))
    }

    /// Turns one who waits into one who runs. Places may come back meanwhile, but none is taken
    /// while somebody waits, but under the lock.
    fn take_for_waiter(&self) -> bool {
        loop {
            let places = self.places.load(Ordering::Relaxed);
            if in_flight(places) >= self.limit() {
                return false;
            }
            if self.change(places, places + 1 - ONE_WAITING) {
                return true;
            }
        }
    }

    /// What became of a waiter; a waiter who has a verdict must not ask again.
    pub(crate) fn verdict(&self, key: usize, waker: Waker) -> Verdict {
        let (verdict, old) = {
            let mut queue = self.lock();
            let verdict = queue.waiters.get(key).verdict;
            match verdict {
                Verdict::None => (verdict, queue.waiters.set_waker(key, waker)),
                _ => (verdict, queue.waiters.forget(key)),
            }
        };
        drop(old);
        verdict
    }

    /// Ends a wait from the waiter's side. What was decided before it could.
    pub(crate) fn give_up(&self, key: usize) -> Verdict {
        let (verdict, old) = {
            let mut queue = self.lock();
            let verdict = queue.waiters.get(key).verdict;
            if verdict == Verdict::None {
                queue.waiters.unlink(key);
                self.places.fetch_sub(ONE_WAITING, Ordering::Relaxed);
            }
            (verdict, queue.waiters.forget(key))
        };
        drop(old);
        verdict
    }

    /// Acts by `policy` from now on. Then [`hand_out`](Self::hand_out) until nobody can be let in.
    pub(crate) fn set_policy(&self, policy: &ConcurrencyLimitPolicy) {
        self.lock().set_policy(policy);
        self.limit.store(policy.limit(), Ordering::Relaxed);
        self.set_hot(policy);
    }

    /// Lets so many calls run from now on, whatever the policy says. Then
    /// [`hand_out`](Self::hand_out) until nobody can be let in.
    pub(crate) fn set_limit(&self, limit: u32, critical_reserve: f64) {
        self.limit.store(limit, Ordering::Relaxed);
        let waits = self.kinds.load(Ordering::Relaxed) & WAITS != 0;
        self.set_reserve(limit, critical_reserve, waits);
    }

    fn set_reserve(&self, limit: u32, share: f64, waits: bool) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of it"
        )]
        let reserve = (f64::from(limit) * share).ceil() as u32;
        self.reserve.store(if waits { 0 } else { reserve }, Ordering::Relaxed);
    }

    fn set_hot(&self, policy: &ConcurrencyLimitPolicy) {
        self.set_reserve(policy.limit(), policy.critical_reserve(), policy.max_waiting() > 0);
        let waits = if policy.max_waiting() > 0 { WAITS } else { 0 };
        let says_when = if policy.retry_after().is_some() { SAYS_WHEN } else { 0 };
        self.kinds.store(waits | says_when, Ordering::Relaxed);
        self.enforcement.store(policy.enforcement() as u8, Ordering::Release);
    }

    pub(crate) fn enforcement(&self) -> Enforcement {
        match self.enforcement.load(Ordering::Acquire) {
            0 => Enforcement::Enforced,
            1 => Enforcement::Shadow,
            _ => Enforcement::Disabled,
        }
    }

    #[inline]
    pub(crate) fn is_disabled(&self) -> bool {
        self.enforcement.load(Ordering::Acquire) == Enforcement::Disabled as u8
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        in_flight(self.places.load(Ordering::Relaxed))
    }

    pub(crate) fn waiting(&self) -> u32 {
        waiting(self.places.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
