//! Ten hosts with workers under balancers: the workload of H9 and H12, shared with the balancer's
//! own simulations.

#[path = "../../../loadbalance/tests/support/simulation.rs"]
mod simulation;

use outrigger_loadbalance::{Balance, BalancePolicyBuilder, Endpoint};

pub(crate) use self::simulation::{Call, Serves, Simulation, quantile, share};

pub(crate) const HOSTS: usize = 10;

/// A balancer over the ten.
pub(crate) fn balance(policy: BalancePolicyBuilder, seed: u64) -> Balance<usize> {
    let balance = Balance::new(policy.seed(seed).build().expect("a valid policy"));
    balance.replace((0..HOSTS).map(|host| Endpoint::new(format!("host-{host}"), host)));
    balance
}
