//! What all methods of a service share, and what a whole server shares.

use outrigger_core::{Idle, Live};
use outrigger_loadbalance::BalancePolicy;
use outrigger_ratelimit::{
    AdaptiveLimit, BeyondLimit, ConcurrencyLimit, ConnectionLimitPolicy, RateLimit,
};
use outrigger_retry::RetryBudget;

use crate::{
    ObserveGovernance, PolicySet,
    state::{Adapting, Off, replace_changed},
};

/// What all methods of a service share.
pub(crate) struct ServiceState {
    pub(crate) budget: RetryBudget,
    pub(crate) balance: Live<BalancePolicy>,
}

impl ServiceState {
    pub(crate) fn new(name: &str, set: &PolicySet) -> Self {
        let (budget, balance) = set.service(name).in_force();
        Self { budget: RetryBudget::new(budget), balance: Live::new(balance) }
    }

    pub(crate) fn follow(&self, name: &str, set: &PolicySet) {
        let (budget, balance) = set.service(name).in_force();
        replace_changed(self.budget.policy(), budget);
        replace_changed(&self.balance, balance);
    }
}

/// Not idle while a method draws on the budget, or a balancer follows the policy: another would be
/// made beside it.
impl Idle for ServiceState {
    fn is_idle(&self) -> bool {
        self.budget.is_idle() && self.balance.is_alone()
    }
}

/// What a whole server shares.
pub(crate) struct ServerState<O> {
    pub(crate) concurrency: ConcurrencyLimit<O>,
    has_concurrency: bool,
    pub(crate) adaptive: Adapting<O>,
    pub(crate) rate: RateLimit<O>,
    has_rate: bool,
}

impl<O> ServerState<O> {
    /// The adaptive limit that its calls ask: none, or one that is not disabled.
    pub(crate) fn adapting(&self) -> Option<&AdaptiveLimit<O>> {
        self.adaptive.acting()
    }

    /// The concurrency limit, if the set states one.
    #[cfg(feature = "diagnosis")]
    pub(crate) fn stated_concurrency(&self) -> Option<&ConcurrencyLimit<O>> {
        Some(&self.concurrency).filter(|_| self.has_concurrency)
    }

    /// The rate limit, if the set states one.
    #[cfg(feature = "diagnosis")]
    pub(crate) fn stated_rate(&self) -> Option<&RateLimit<O>> {
        Some(&self.rate).filter(|_| self.has_rate)
    }
}

impl<O: ObserveGovernance> ServerState<O> {
    /// What the set states, with the running state of `old`.
    pub(crate) fn follow(old: Option<&Self>, set: &PolicySet, off: &Off<O>, observer: &O) -> Self {
        let policy = set.server();
        let has_concurrency = policy.concurrency_limit().is_some();
        let has_rate = policy.rate_limit().is_some();
        let concurrency = match (policy.concurrency_limit(), old) {
            (None, _) => off.concurrency().clone(),
            (Some(policy), Some(old)) if old.has_concurrency => {
                replace_changed(old.concurrency.policy(), *policy);
                old.concurrency.clone()
            }
            (Some(policy), _) => {
                ConcurrencyLimit::builder(*policy).name("server").observe(observer.clone()).build()
            }
        };
        let rate = match (policy.rate_limit(), old) {
            (None, _) => off.rate().clone(),
            (Some(policy), Some(old)) if old.has_rate => {
                replace_changed(old.rate.policy(), *policy);
                old.rate.clone()
            }
            (Some(policy), _) => {
                RateLimit::builder(*policy).name("server").observe(observer.clone()).build()
            }
        };
        let adaptive = old.map(|old| &old.adaptive);
        let adaptive =
            Adapting::follow(adaptive, policy.adaptive_limit().copied(), "server", observer);
        Self { concurrency, has_concurrency, adaptive, rate, has_rate }
    }
}

/// Without a limit all are let in, but counted for one that may come.
pub(crate) fn connections_of(set: &PolicySet) -> ConnectionLimitPolicy {
    let stated = set.server().connection_limit().copied();
    stated.unwrap_or_else(|| {
        ConnectionLimitPolicy::new(u32::MAX, BeyondLimit::Refuse).expect("a limit is at least 1")
    })
}
