//! The rule: which further attempt may be made. Knows no clock, no observer, no policy handle.

use tokio::time::Instant;

use super::{
    ledger::Ledger,
    policy::{MILLI, Ratio, Throttle},
};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// Counts calls without a shared cache line, and hands out shares under a lock.
#[derive(Debug)]
pub(super) struct Engine {
    stripes: Box<[Stripe]>,
    /// A stripe is collected when this many calls came through it.
    batch: AtomicU64,
    ledger: Mutex<Ledger>,
    /// Of the throttle, in thousandths.
    tokens: AtomicU64,
}

/// Calls that the ledger does not know of yet. Alone on its cache line, and on the one that is
/// fetched with it.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    calls: AtomicU64,
}

/// The most calls that a stripe gathers. With many calls a second the clock is read for few of them;
/// with few calls, for each.
const MOST_IN_BATCH: u64 = 32;

impl Engine {
    /// `stripes` is a power of two, so that choosing one needs no division.
    pub(super) fn new(stripes: usize, now: Instant) -> Self {
        debug_assert!(stripes.is_power_of_two(), "{stripes} stripes");
        let stripe = |_| Stripe { calls: AtomicU64::new(0) };
        Self {
            stripes: (0..stripes).map(stripe).collect(),
            batch: AtomicU64::new(1),
            ledger: Mutex::new(Ledger::new(now)),
            tokens: AtomicU64::new(u64::MAX),
        }
    }

    /// Counts a call. Says whether it is time to [`collect`](Self::collect).
    #[inline]
    pub(super) fn record_call(&self, thread: usize) -> bool {
        let Some(stripe) = self.stripes.get(thread & (self.stripes.len() - 1)) else {
            return false;
        };
        let calls = stripe.calls.fetch_add(1, Ordering::Relaxed) + 1;
        calls >= self.batch.load(Ordering::Relaxed)
    }

    /// Brings the calls of all stripes into the ledger.
    pub(super) fn collect(&self, now: Instant, rule: &Ratio) {
        drop(self.collected(now, rule));
    }

    /// Holds a share for one more attempt, if there is one.
    pub(super) fn try_hold(&self, now: Instant, rule: &Ratio) -> bool {
        self.collected(now, rule).try_hold(rule)
    }

    /// The attempt is not sent.
    pub(super) fn give_back(&self) {
        self.lock().give_back();
    }

    /// The attempt is sent.
    pub(super) fn send(&self, now: Instant, rule: &Ratio) {
        self.lock().send(now, rule);
    }

    /// Calls in the window, attempts sent in it, attempts waiting.
    pub(super) fn counts(&self, now: Instant, rule: &Ratio) -> (u64, u64, u64) {
        self.collected(now, rule).counts()
    }

    fn collected(&self, now: Instant, rule: &Ratio) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.lock();
        let calls = self.stripes.iter().map(|stripe| stripe.calls.swap(0, Ordering::Relaxed)).sum();
        if let Some(batch) = ledger.add_calls(calls, now, rule) {
            self.batch.store(batch.clamp(1, MOST_IN_BATCH), Ordering::Relaxed);
        }
        ledger
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the throttle allows an attempt: while more than half of its tokens are left.
    pub(super) fn throttle_allows(&self, rule: &Throttle) -> bool {
        self.tokens(rule) > rule.max_milli / 2
    }

    /// A success adds its share of a token.
    pub(super) fn throttle_success(&self, rule: &Throttle) {
        // Looked at first: a full bucket, as it mostly is, is not written to.
        if self.tokens(rule) < rule.max_milli {
            self.change_tokens(rule, |tokens| tokens.saturating_add(rule.gain_milli));
        }
    }

    /// A failure that could be retried takes a token.
    pub(super) fn throttle_failure(&self, rule: &Throttle) {
        self.change_tokens(rule, |tokens| tokens.saturating_sub(MILLI));
    }

    /// In thousandths. A bucket that was never used, or was larger before, is full.
    pub(super) fn tokens(&self, rule: &Throttle) -> u64 {
        self.tokens.load(Ordering::Relaxed).min(rule.max_milli)
    }

    fn change_tokens(&self, rule: &Throttle, change: impl Fn(u64) -> u64) {
        let update = |tokens: u64| Some(change(tokens.min(rule.max_milli)).min(rule.max_milli));
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }
}
