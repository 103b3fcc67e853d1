//! Marks for picking and ejecting, as deterministic simulations.

#[path = "support/simulation.rs"]
mod simulation;

use std::time::Duration;

use outrigger_loadbalance::{
    Balance, BalancePolicy, BalancePolicyBuilder, Endpoint, Picker, SlowStartPolicy,
};
use simulation::{Call, Serves, Simulation, quantile, share};

fn balance(policy: BalancePolicyBuilder, hosts: usize, seed: u64) -> Balance<usize> {
    let balance = Balance::new(policy.seed(seed).build().unwrap());
    balance.replace((0..hosts).map(|host| Endpoint::new(format!("host-{host}"), host)));
    balance
}

fn balancers(
    policy: impl Fn() -> BalancePolicyBuilder,
    hosts: usize,
    callers: u64,
) -> Vec<Balance<usize>> {
    (0..callers).map(|seed| balance(policy(), hosts, seed)).collect()
}

/// Ten hosts of two workers at 10 ms a call; host 0 is ten times slower from second 15 to 45.
async fn one_slow_host(policy: impl Fn() -> BalancePolicyBuilder, callers: u64) -> Vec<Call> {
    let serves = |host, now| {
        let is_slow = host == 0 && (15.0..45.0).contains(&now);
        Serves::Within(if is_slow { 0.1 } else { 0.01 })
    };
    let balancers = balancers(policy, 10, callers);
    Simulation { balancers, workers: 2, rate: 1_000.0, until: 75.0, seed: 1 }
        .run(10, serves, &[])
        .await
}

#[tokio::test(start_paused = true)]
async fn probe_decay() {
    for decay in [10, 5, 3, 2] {
        for callers in [1, 20] {
            let policy = || {
                BalancePolicy::builder().picker(Picker::PeakEwma {
                    decay: Duration::from_secs(decay),
                    failure_penalty: Duration::from_secs(5),
                })
            };
            let calls = one_slow_host(policy, callers).await;
            let p99 = quantile(calls.iter().copied(), 0.99);
            let slow = quantile(
                calls.iter().copied().filter(|call| (15.0..45.0).contains(&call.at)),
                0.99,
            );
            println!(
                "decay {decay} callers {callers}: p99 {p99:.4} in slow {slow:.4} share slow {:.4} after 50-55 {:.4} 55-60 {:.4} 60-65 {:.4} {:.4}",
                share(&calls, 0, 15.0, 45.0),
                share(&calls, 0, 50.0, 55.0),
                share(&calls, 0, 55.0, 60.0),
                share(&calls, 0, 60.0, 65.0),
                share(&calls, 0, 65.0, 75.0),
            );
        }
    }
}
