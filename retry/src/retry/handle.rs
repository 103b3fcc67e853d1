use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use outrigger_core::{Live, Observe};
use tokio::time::Instant;

use super::{RetryEvent, RetryPolicy};
use crate::{JitterSeeds, LatencyQuantile, RetryBudget};

/// What the retries of a method share: the policy, the budget, the latencies.
///
/// Clones are handles to the same. `O` is told what happens.
pub struct Retry<O = ()> {
    shared: Arc<Shared<O>>,
}

struct Shared<O> {
    name: Arc<str>,
    policy: Live<RetryPolicy>,
    budget: RetryBudget,
    /// Made when a policy first asks for a quantile: it takes some 30 KB.
    latencies: OnceLock<LatencyQuantile>,
    seeds: Arc<JitterSeeds>,
    observer: Arc<O>,
}

impl Retry {
    /// Retries by this policy, with a budget of their own.
    #[must_use]
    pub fn new(policy: impl Into<Live<RetryPolicy>>) -> Self {
        Self::builder(policy).build()
    }

    /// Starts to describe a handle.
    #[must_use]
    pub fn builder(policy: impl Into<Live<RetryPolicy>>) -> RetryBuilder {
        RetryBuilder {
            name: Arc::from(""),
            policy: policy.into(),
            budget: RetryBudget::default(),
            seeds: Arc::new(JitterSeeds::random()),
            observer: Arc::new(()),
        }
    }
}

impl<O> Retry<O> {
    /// The policy, to read or to replace.
    #[must_use]
    pub fn policy(&self) -> &Live<RetryPolicy> {
        &self.shared.policy
    }

    /// The budget that retries and backup requests draw on.
    #[must_use]
    pub fn budget(&self) -> &RetryBudget {
        &self.shared.budget
    }

    /// The latencies that a backup request waits by; empty while no policy asks for a quantile.
    #[must_use]
    pub fn latencies(&self) -> &LatencyQuantile {
        self.shared.latencies.get_or_init(|| LatencyQuantile::new(Instant::now()))
    }

    /// What it is called in events.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether two handles are of the same retries.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Another with the same settings, budget and observer.
    #[must_use]
    pub fn to_builder(&self) -> RetryBuilder<O> {
        RetryBuilder {
            name: Arc::clone(&self.shared.name),
            policy: self.shared.policy.clone(),
            budget: self.shared.budget.clone(),
            seeds: Arc::clone(&self.shared.seeds),
            observer: Arc::clone(&self.shared.observer),
        }
    }

    pub(super) fn seeds(&self) -> &JitterSeeds {
        &self.shared.seeds
    }
}

impl<O: Observe<RetryEvent>> Retry<O> {
    pub(super) fn tell(&self, event: RetryEvent) {
        self.shared.observer.observe(&self.shared.name, &event);
    }
}

impl<O> Clone for Retry<O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<O> fmt::Debug for Retry<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("name", &self.shared.name)
            .field("policy", &self.shared.policy)
            .field("budget", &self.shared.budget.snapshot())
            .finish_non_exhaustive()
    }
}

/// Makes a [`Retry`]. What is not set keeps its default.
#[derive(Debug)]
pub struct RetryBuilder<O = ()> {
    name: Arc<str>,
    policy: Live<RetryPolicy>,
    budget: RetryBudget,
    seeds: Arc<JitterSeeds>,
    observer: Arc<O>,
}

impl<O> Clone for RetryBuilder<O> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            policy: self.policy.clone(),
            budget: self.budget.clone(),
            seeds: Arc::clone(&self.seeds),
            observer: Arc::clone(&self.observer),
        }
    }
}

impl<O> RetryBuilder<O> {
    pub(super) fn policy(mut self, policy: Live<RetryPolicy>) -> Self {
        self.policy = policy;
        self
    }

    /// What it is called in events, such as the method. Default: empty.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The budget to draw on. Default: one of its own; share one between all methods of a callee.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Draws the jitter of back-offs from this seed on. Default: at random.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.seeds(Arc::new(JitterSeeds::new(seed)))
    }

    /// Draws the jitter of back-offs from a sequence that others draw from too.
    #[must_use]
    pub fn seeds(mut self, seeds: Arc<JitterSeeds>) -> Self {
        self.seeds = seeds;
        self
    }

    /// Tells `observer` what the retries do.
    #[must_use]
    pub fn observe<P: Observe<RetryEvent>>(self, observer: P) -> RetryBuilder<P> {
        self.observe_shared(Arc::new(observer))
    }

    /// Tells an observer that others tell too.
    #[must_use]
    pub fn observe_shared<P: Observe<RetryEvent>>(self, observer: Arc<P>) -> RetryBuilder<P> {
        let Self { name, policy, budget, seeds, .. } = self;
        RetryBuilder { name, policy, budget, seeds, observer }
    }

    /// Makes the handle.
    #[must_use]
    pub fn build(self) -> Retry<O> {
        let Self { name, policy, budget, seeds, observer } = self;
        let latencies = OnceLock::new();
        Retry { shared: Arc::new(Shared { name, policy, budget, latencies, seeds, observer }) }
    }
}
