//! What all methods of a service share, and what a whole server shares.

use outrigger_core::{Idle, Live};
use outrigger_loadbalance::BalancePolicy;
use outrigger_ratelimit::{
    AdaptiveLimit, BeyondLimit, ConcurrencyLimit, ConnectionLimitPolicy, RateLimit,
};
use outrigger_retry::RetryBudget;

use crate::{
    ObserveGovernance, PolicySet,
    part::{Part, replace_changed},
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
    pub(crate) concurrency: Part<ConcurrencyLimit<O>>,
    pub(crate) adaptive: Part<AdaptiveLimit<O>>,
    pub(crate) rate: Part<RateLimit<O>>,
}

impl<O: ObserveGovernance> ServerState<O> {
    /// What the set states, with the running state of `old`.
    pub(crate) fn follow(old: Option<&Self>, set: &PolicySet, observer: &O) -> Self {
        const NAME: &str = "server";
        let policy = set.server();
        Self {
            concurrency: Part::follow(
                old.map(|old| &old.concurrency),
                policy.concurrency_limit(),
                NAME,
                observer,
            ),
            adaptive: Part::follow(
                old.map(|old| &old.adaptive),
                policy.adaptive_limit(),
                NAME,
                observer,
            ),
            rate: Part::follow(old.map(|old| &old.rate), policy.rate_limit(), NAME, observer),
        }
    }
}

/// Without a limit all are let in, but counted for one that may come.
pub(crate) fn connections_of(set: &PolicySet) -> ConnectionLimitPolicy {
    let stated = set.server().connection_limit().copied();
    stated.unwrap_or_else(|| {
        ConnectionLimitPolicy::new(u32::MAX, BeyondLimit::Refuse).expect("a limit is at least 1")
    })
}
