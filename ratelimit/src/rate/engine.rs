//! The rule: `governor`'s generic cell rate algorithm over a state of ours, so that the quota can
//! change without a second burst, and so that what was spent for a call that never began comes
//! back. Knows neither tower nor async nor the clock.

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};
use tokio::time::Instant;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A bucket of tokens.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// The theoretical arrival time of GCRA: when the bucket will be full again, in nanoseconds
    /// after `start`.
    full_at: AtomicU64,
    start: Instant,
    /// Odd while the quota below is being changed.
    version: AtomicU64,
    ns_per_token: AtomicU64,
    burst: AtomicU32,
}

/// Why there are no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// There will be enough after so long.
    For(Duration),
    /// The bucket never holds as many.
    Ever,
}

/// The reading of the clock that a call has made, as governor's clock. The first look is
/// governor's own when a limiter begins: that is the bucket's beginning.
#[derive(Clone)]
struct Reading {
    now: Nanos,
    begun: Cell<bool>,
}

impl Clock for Reading {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        if self.begun.replace(true) { self.now } else { Nanos::from(0) }
    }
}

/// The bucket's time, as governor's state.
struct FullAt<'a>(&'a AtomicU64);

impl StateStore for FullAt<'_> {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let (result, next) = decide((seen != 0).then(|| Nanos::from(seen)))?;
            match self.0.compare_exchange_weak(
                seen,
                next.into(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(result),
                Err(other) => seen = other,
            }
        }
    }
}

impl Bucket {
    pub(crate) fn new(quota: Quota, start: Instant) -> Self {
        Self {
            full_at: AtomicU64::new(0),
            start,
            version: AtomicU64::new(0),
            ns_per_token: AtomicU64::new(nanos(quota.replenish_interval())),
            burst: AtomicU32::new(quota.burst_size().get()),
        }
    }

    /// Takes `cost` tokens, or says how long it will be until there are as many.
    pub(crate) fn take(&self, cost: u32, now: Instant) -> Result<(), Shortage> {
        let Some(cost) = NonZeroU32::new(cost) else { return Ok(()) };
        let now = self.reading(now);
        let clock = Reading { now, begun: Cell::new(false) };
        let limiter: RateLimiter<_, _, _, NoOpMiddleware<Nanos>> =
            RateLimiter::new(self.quota(), FullAt(&self.full_at), clock);
        match limiter.check_n(cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(Shortage::For(not_until.wait_time_from(now))),
            Err(_too_much) => Err(Shortage::Ever),
        }
    }

    /// Gives tokens back that a call took and will not use.
    pub(crate) fn give_back(&self, cost: u32) {
        let spent = self.ns_per_token().saturating_mul(u64::from(cost));
        let earlier = |full_at: u64| Some(full_at.saturating_sub(spent));
        let _ = self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, earlier);
    }

    /// Changes the quota. Tokens that were spent stay spent: as many are missing from the new
    /// bucket as were missing from the old one, up to all. One change at a time.
    pub(crate) fn set_quota(&self, quota: Quota, now: Instant) {
        let ns_now: u64 = self.reading(now).into();
        let (old, new) = (self.ns_per_token(), nanos(quota.replenish_interval()));
        let most = new.saturating_mul(u64::from(quota.burst_size().get()));
        self.version.fetch_add(1, Ordering::AcqRel);
        self.ns_per_token.store(new, Ordering::Release);
        self.burst.store(quota.burst_size().get(), Ordering::Release);
        self.version.fetch_add(1, Ordering::AcqRel);
        let converted = |full_at: u64| {
            // A full one stays as it is: a call that has looked at the clock before takes from it.
            if full_at <= ns_now {
                return None;
            }
            let missing = u128::from(full_at.saturating_sub(ns_now));
            let missing = missing * u128::from(new) / u128::from(old.max(1));
            let missing = u64::try_from(missing).unwrap_or(u64::MAX).min(most);
            Some(ns_now.saturating_add(missing))
        };
        let _ = self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, converted);
    }

    /// How many whole tokens there are now.
    pub(crate) fn tokens(&self, now: Instant) -> u32 {
        let ns_now: u64 = self.reading(now).into();
        let missing = self.full_at.load(Ordering::Acquire).saturating_sub(ns_now);
        let spent = missing.div_ceil(self.ns_per_token().max(1));
        u64::from(self.burst()).saturating_sub(spent).try_into().unwrap_or(0)
    }

    /// How long until the bucket is full.
    pub(crate) fn full_in(&self, now: Instant) -> Duration {
        let ns_now: u64 = self.reading(now).into();
        Duration::from_nanos(self.full_at.load(Ordering::Acquire).saturating_sub(ns_now))
    }

    /// How long until there is one whole token more than now.
    pub(crate) fn next_in(&self, now: Instant) -> Duration {
        let ns_now: u64 = self.reading(now).into();
        let missing = self.full_at.load(Ordering::Acquire).saturating_sub(ns_now);
        let ns = self.ns_per_token().max(1);
        Duration::from_nanos(if missing == 0 { 0 } else { (missing - 1) % ns + 1 })
    }

    pub(crate) fn time_for(&self, tokens: u64) -> Duration {
        Duration::from_nanos(self.ns_per_token().saturating_mul(tokens))
    }

    pub(crate) fn burst(&self) -> u32 {
        self.burst.load(Ordering::Acquire)
    }

    fn ns_per_token(&self) -> u64 {
        self.ns_per_token.load(Ordering::Acquire)
    }

    /// Never half of an old quota and half of a new one.
    fn quota(&self) -> Quota {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let (ns, burst) = (self.ns_per_token(), self.burst());
            let unchanged = before == self.version.load(Ordering::Acquire);
            if unchanged && before.is_multiple_of(2) {
                let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
                let period = Duration::from_nanos(ns.max(1));
                return Quota::with_period(period).expect("longer than zero").allow_burst(burst);
            }
            std::hint::spin_loop();
        }
    }

    /// A time before the beginning counts as the beginning.
    fn reading(&self, now: Instant) -> Nanos {
        // One more than the time that passed, since governor takes 0 for never.
        let passed = nanos(now.saturating_duration_since(self.start));
        Nanos::from(passed.saturating_add(1).min(u64::MAX / 4))
    }
}

/// In 64 bits, since it stands on every call's way.
fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos())).min(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn quota(ns: u64, burst: u32) -> Quota {
        let burst = NonZeroU32::new(burst).unwrap();
        Quota::with_period(Duration::from_nanos(ns)).unwrap().allow_burst(burst)
    }

    fn bucket(per_second: u64, burst: u32) -> (Bucket, Instant) {
        let start = Instant::now();
        (Bucket::new(quota(1_000_000_000 / per_second, burst), start), start)
    }

    #[test]
    fn the_wait_is_exact_and_the_token_is_there_after_it() {
        let (bucket, start) = bucket(100, 1);
        assert_eq!(bucket.take(1, start), Ok(()));
        assert_eq!(bucket.take(1, start + 3 * MS), Err(Shortage::For(7 * MS)));
        assert_eq!(bucket.take(1, start + 9 * MS), Err(Shortage::For(MS)));
        assert_eq!(bucket.next_in(start + 9 * MS), MS);
        assert_eq!(bucket.next_in(start + 10 * MS), Duration::ZERO);
        assert_eq!(bucket.take(1, start + 10 * MS), Ok(()));
    }

    #[test]
    fn a_batch_of_ten_costs_ten_and_more_than_the_bucket_holds_is_never_there() {
        let (bucket, start) = bucket(10, 10);
        assert_eq!(bucket.take(10, start), Ok(()));
        assert_eq!(bucket.take(10, start), Err(Shortage::For(Duration::from_secs(1))));
        assert_eq!(bucket.take(11, start), Err(Shortage::Ever));
        assert_eq!(bucket.take(0, start), Ok(()));
    }

    #[test]
    fn a_full_bucket_is_full_for_a_call_that_looked_at_the_clock_before_a_change() {
        let (bucket, start) = bucket(100, 1);
        bucket.set_quota(quota(10_000_000, 1), start + MS);
        assert_eq!(bucket.take(1, start), Ok(()));
    }

    #[test]
    fn a_changed_quota_gives_no_second_burst_and_blocks_nobody() {
        let (bucket, start) = bucket(10, 10);
        let late = start + Duration::from_secs(100);
        assert_eq!(bucket.take(7, late), Ok(()));
        bucket.set_quota(quota(10_000_000, 10), late);
        assert_eq!(bucket.tokens(late), 3, "seven are spent");
        assert_eq!(bucket.take(4, late), Err(Shortage::For(10 * MS)));
        bucket.set_quota(quota(100_000_000, 5), late);
        assert_eq!(bucket.take(1, late), Err(Shortage::For(100 * MS)), "at most all are spent");
        assert_eq!(bucket.take(1, late + 100 * MS), Ok(()), "admitted within one period");
    }

    #[test]
    fn a_full_bucket_stays_full_through_a_change() {
        let (bucket, start) = bucket(10, 10);
        let late = start + Duration::from_secs(100);
        bucket.set_quota(quota(1_000_000_000, 3), late);
        assert_eq!(bucket.take(3, late), Ok(()));
        assert_eq!(bucket.take(1, late), Err(Shortage::For(Duration::from_secs(1))));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_never_fills_above_the_burst() {
        let (bucket, start) = bucket(10, 10);
        assert_eq!(bucket.take(10, start), Ok(()));
        bucket.give_back(4);
        assert_eq!(bucket.tokens(start), 4);
        bucket.give_back(40);
        assert_eq!(bucket.tokens(start), 10);
        assert_eq!(bucket.take(11, start), Err(Shortage::Ever));
        assert_eq!(bucket.take(10, start), Ok(()));
        assert!(bucket.take(1, start).is_err());
    }

    #[test]
    fn a_clock_that_goes_back_or_far_ahead_mints_no_tokens_and_does_not_panic() {
        let start = Instant::now() + Duration::from_secs(10);
        let bucket = Bucket::new(quota(100_000_000, 2), start);
        let before = start - Duration::from_secs(5);
        assert_eq!(bucket.take(2, before), Ok(()));
        assert!(bucket.take(1, before).is_err());
        assert!(bucket.take(1, start).is_err());
        let far = start + Duration::from_secs(10 * 365 * 86_400);
        assert_eq!(bucket.take(2, far), Ok(()));
        assert!(bucket.take(1, far).is_err());
        assert!(bucket.take(1, start).is_err(), "and back again");
    }

    #[test]
    fn ten_seconds_of_two_hammering_threads_admit_rate_times_time_and_the_burst() {
        let (bucket, start) = bucket(10_000, 50);
        let clock = std::sync::atomic::AtomicU64::new(0);
        let end = 10_000_000_000_u64;
        let hammer = || {
            let mut admitted = 0_u64;
            loop {
                let now = clock.fetch_add(9_700, Ordering::Relaxed);
                if now > end {
                    return admitted;
                }
                admitted += u64::from(bucket.take(1, start + Duration::from_nanos(now)).is_ok());
            }
        };
        let admitted = std::thread::scope(|scope| {
            let other = scope.spawn(hammer);
            hammer() + other.join().unwrap()
        });
        let expected = 10_000 * 10 + 50;
        assert!(admitted.abs_diff(expected) * 1_000 < expected, "{admitted}");
    }
}
