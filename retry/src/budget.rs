mod engine;
mod ledger;
mod policy;

#[cfg(all(test, outrigger_loom))]
mod loom;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use outrigger_core::{Idle, Live, Moment, stripe_count, thread_number};

pub use self::policy::{RetryBudgetPolicy, RetryBudgetPolicyBuilder};
use self::{
    engine::Engine,
    policy::{Ratio, Rule},
};

/// Limits further attempts, retries and backup requests alike, to a share of the calls.
///
/// Make one for each callee and let all its layers share it; clones are handles to the same
/// budget. Within any window there are at most as many further attempts as the ratio gives for the
/// calls of that window, plus the reserve: exactly, however many threads.
///
/// ```
/// use outrigger_retry::{RetryBudget, RetryBudgetPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), outrigger_core::InvalidPolicy> {
/// let budget = RetryBudget::new(RetryBudgetPolicy::builder().ratio(0.2).reserve(0).build()?);
/// (0..10).for_each(|_| budget.record_call());
///
/// let waiting = budget.try_acquire().expect("the first of two");
/// budget.try_acquire().expect("the second of two").send();
/// assert!(budget.try_acquire().is_none(), "a waiting retry holds its share");
///
/// drop(waiting); // It is never sent, so another may be.
/// assert!(budget.try_acquire().is_some());
/// # Ok(())
/// # }
/// ```
///
/// A throttle ([`RetryBudgetPolicy::throttling`]) is gRPC's rule: a bucket of tokens that failures
/// empty and successes fill.
///
/// # What it costs
///
/// A call adds one to a counter of its thread. Where there are many calls, the clock is read for one
/// of 32, and a call may count as some hundredths of the window younger than it is; where there are
/// few, it is read for each. Each call counts once. Asking for an attempt takes a lock for a few
/// instructions.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: Live<RetryBudgetPolicy>,
    engine: Engine,
    /// The policy's version when it was last looked at, and in the lowest bit whether it was a
    /// throttle: so that a success need not load the policy.
    seen: AtomicU64,
}

impl RetryBudget {
    /// Makes a budget.
    #[must_use]
    pub fn new(policy: impl Into<Live<RetryBudgetPolicy>>) -> Self {
        let engine = Engine::new(stripe_count(), Moment::now());
        let seen = AtomicU64::new(u64::MAX);
        Self { shared: Arc::new(Shared { policy: policy.into(), engine, seen }) }
    }

    /// A budget that refuses nothing.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(RetryBudgetPolicy::unlimited())
    }

    /// The policy, to read and to replace. Counts and tokens are kept.
    #[must_use]
    pub fn policy(&self) -> &Live<RetryBudgetPolicy> {
        &self.shared.policy
    }

    /// Counts a call: once, however many attempts it makes.
    #[inline]
    pub fn record_call(&self) {
        if self.shared.engine.record_call(thread_number()) {
            self.collect();
        }
    }

    /// Apart, since it is for one call of many.
    #[cold]
    fn collect(&self) {
        if let Rule::Ratio(rule) = self.rule() {
            self.shared.engine.collect(Moment::now(), &rule);
        }
    }

    /// An attempt succeeded. Matters to a throttle only.
    #[inline]
    pub fn record_success(&self) {
        if self.is_throttle() {
            self.refill();
        }
    }

    #[cold]
    fn refill(&self) {
        if let Rule::Throttle(rule) = self.rule() {
            self.shared.engine.throttle_success(&rule);
        }
    }

    /// An attempt failed in a way that could be retried, whether it is or not. Matters to a
    /// throttle only.
    pub fn record_failure(&self) {
        if let Rule::Throttle(rule) = self.rule() {
            self.shared.engine.throttle_failure(&rule);
        }
    }

    /// Takes the share of one more attempt; `None` when the budget is exhausted.
    #[must_use]
    pub fn try_acquire(&self) -> Option<RetryShare> {
        let is_allowed = match self.rule() {
            Rule::Ratio(rule) => {
                let is_held = self.shared.engine.try_hold(Moment::now(), &rule);
                return is_held.then(|| RetryShare { of: Some(Arc::clone(&self.shared)) });
            }
            Rule::Throttle(rule) => self.shared.engine.throttle_allows(&rule),
            Rule::Unlimited => true,
        };
        is_allowed.then_some(RetryShare { of: None })
    }

    /// What the budget has seen and has left.
    #[must_use]
    pub fn snapshot(&self) -> RetryBudgetSnapshot {
        match self.rule() {
            Rule::Ratio(rule) => {
                let (calls, attempts, waiting) = self.shared.engine.counts(Moment::now(), &rule);
                RetryBudgetSnapshot { calls, attempts, waiting, tokens: None }
            }
            Rule::Throttle(rule) => {
                #[expect(clippy::cast_precision_loss, reason = "at most a million")]
                let tokens = Some(self.shared.engine.tokens(&rule) as f64 / policy::MILLI as f64);
                RetryBudgetSnapshot { tokens, ..RetryBudgetSnapshot::default() }
            }
            Rule::Unlimited => RetryBudgetSnapshot::default(),
        }
    }

    /// Whether two handles are of the same budget.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// A handle that does not keep the budget alive: for who only looks on.
    ///
    /// ```
    /// use outrigger_retry::RetryBudget;
    ///
    /// let budget = RetryBudget::default();
    /// let weak = budget.downgrade();
    /// assert!(weak.upgrade().is_some());
    ///
    /// drop(budget);
    /// assert!(weak.upgrade().is_none());
    /// ```
    #[must_use]
    pub fn downgrade(&self) -> WeakRetryBudget {
        WeakRetryBudget { shared: Arc::downgrade(&self.shared) }
    }

    #[inline]
    fn is_throttle(&self) -> bool {
        let version = self.shared.policy.version();
        let seen = self.shared.seen.load(Ordering::Relaxed);
        let seen = if seen >> 1 == version { seen } else { self.look_again(version) };
        seen & 1 == 1
    }

    #[cold]
    fn look_again(&self, version: u64) -> u64 {
        let seen = version << 1 | u64::from(matches!(self.rule(), Rule::Throttle(_)));
        self.shared.seen.store(seen, Ordering::Relaxed);
        seen
    }

    fn rule(&self) -> Rule {
        self.shared.policy.load().rule
    }
}

/// Nobody else has a handle to it or holds a share of it. What it has counted comes back within its
/// window.
impl Idle for RetryBudget {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(RetryBudgetPolicy::default())
    }
}

/// A [`RetryBudget`] that it does not keep alive.
#[derive(Clone, Debug)]
pub struct WeakRetryBudget {
    shared: Weak<Shared>,
}

impl WeakRetryBudget {
    /// The budget, while anybody else has a handle to it or holds a share of it.
    #[must_use]
    pub fn upgrade(&self) -> Option<RetryBudget> {
        self.shared.upgrade().map(|shared| RetryBudget { shared })
    }
}

/// The share of one further attempt. Dropping it gives it back: the attempt was never sent.
#[derive(Debug)]
#[must_use = "a share that is dropped is given back"]
pub struct RetryShare {
    /// `None` for a budget that has nothing to give back to, and once it is sent.
    of: Option<Arc<Shared>>,
}

impl RetryShare {
    /// The attempt is sent. Its share is used until the window has passed.
    pub fn send(mut self) {
        if let Some(shared) = self.of.take() {
            // A rule that was replaced in between counts in steps of its own.
            let rule = match shared.policy.load().rule {
                Rule::Ratio(rule) => rule,
                Rule::Throttle(_) | Rule::Unlimited => Ratio::default(),
            };
            shared.engine.send(Moment::now(), &rule);
        }
    }
}

impl Drop for RetryShare {
    fn drop(&mut self) {
        if let Some(shared) = self.of.take() {
            shared.engine.give_back();
        }
    }
}

/// What a [`RetryBudget`] has seen and has left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RetryBudgetSnapshot {
    /// Calls in the window.
    pub calls: u64,
    /// Further attempts that were sent in the window.
    pub attempts: u64,
    /// Further attempts that wait to be sent.
    pub waiting: u64,
    /// Tokens left, of a throttle.
    pub tokens: Option<f64>,
}
