//! `grey`: one host of ten is slow, fails fast, or fails three calls of ten; and a cold host joins.
//! Source rows: H9, R7 to R9, H12.

#[path = "../../../loadbalance/tests/support/simulation.rs"]
mod hosts;

use std::{cell::Cell, time::Duration};

use outrigger_loadbalance::{
    Balance, BalancePolicy, BalancePolicyBuilder, Endpoint, Picker, SlowStartPolicy,
};

use self::hosts::{Call, Serves, Simulation, quantile, share};
use super::simulate;
use crate::row::Report;

const HOSTS: usize = 10;

fn balance(policy: BalancePolicyBuilder) -> Balance<usize> {
    let balance = Balance::new(policy.seed(1).build().expect("a valid policy"));
    balance.replace((0..HOSTS).map(|host| Endpoint::new(format!("host-{host}"), host)));
    balance
}

type Make = fn() -> BalancePolicyBuilder;

fn policies() -> [(&'static str, Make); 4] {
    [
        ("round robin", || BalancePolicy::builder().picker(Picker::RoundRobin).ejection(None)),
        ("weighted random, ejection", || BalancePolicy::builder().picker(Picker::WeightedRandom)),
        ("least pending, ejection", || BalancePolicy::builder().picker(Picker::least_pending())),
        ("peak EWMA, ejection (default)", BalancePolicy::builder),
    ]
}

/// What is wrong with host 0.
#[derive(Clone, Copy, Debug)]
enum Ill {
    Slow,
    FailsFast,
    FailsSome,
}

fn play(policy: Make, ill: Ill, until: f64) -> Vec<Call> {
    simulate(async move {
        let number = Cell::new(0_u32);
        let serves = |host: usize, _: f64| match ill {
            _ if host != 0 => Serves::Within(0.01),
            Ill::Slow => Serves::Within(0.1),
            Ill::FailsFast => Serves::FailsIn(0.001),
            Ill::FailsSome => {
                number.set(number.get() + 1);
                if number.get() % 10 < 3 { Serves::FailsIn(0.01) } else { Serves::Within(0.01) }
            }
        };
        let balancers = vec![balance(policy())];
        let simulation = Simulation { balancers, workers: 2, rate: 1_000.0, until, seed: 2 };
        simulation.run(HOSTS, serves, &[]).await
    })
}

/// An eleventh host joins at second 20, eight times slower at first, as fast as all after 10 s.
fn join_cold(policy: impl Fn() -> BalancePolicyBuilder) -> Vec<Call> {
    simulate(async move {
        let serves = |host, now: f64| {
            let ramp = ((now - 20.0) / 10.0).clamp(0.0, 1.0);
            let slowness = if host == HOSTS { 8.0 - 7.0 * ramp } else { 1.0 };
            Serves::Within(0.01 * slowness)
        };
        let join = |balancers: &[Balance<usize>]| {
            balancers[0].insert(Endpoint::new("cold", HOSTS));
        };
        let balancers = vec![balance(policy())];
        let simulation = Simulation { balancers, workers: 2, rate: 1_200.0, until: 40.0, seed: 5 };
        let calls = simulation.run(HOSTS + 1, serves, &[(20.0, &join)]).await;
        calls.into_iter().filter(|call| call.at >= 20.0).collect()
    })
}

fn errors(calls: &[Call]) -> f64 {
    super::share(calls.iter().filter(|call| call.failed).count() as u64, calls.len() as u64)
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = Report::new("grey");
    let until = if quick { 20.0 } else { 60.0 };
    report.note("Ten hosts of two workers, 10 ms a call, 1 000 calls a second; host 0 is ill.");
    report.note("A fair share is 0.1. Last: an eleventh host joins that is cold for 10 s.");
    for (illness, ill) in
        [("slow", Ill::Slow), ("fails in 1 ms", Ill::FailsFast), ("fails 30 %", Ill::FailsSome)]
    {
        for (name, policy) in policies() {
            let calls = play(policy, ill, until);
            report.line(
                &format!("{illness}: {name}"),
                "outrigger",
                &[
                    ("p99_ms", quantile(calls.iter().copied(), 0.99) * 1e3, "ms"),
                    ("errors", errors(&calls), "1"),
                    ("share_of_ill_host", share(&calls, 0, 0.0, until), "1"),
                ],
            );
        }
    }
    let slow_start = SlowStartPolicy::new(Duration::from_secs(30));
    let random = || BalancePolicy::builder().picker(Picker::WeightedRandom);
    for (name, calls) in [
        ("cold: weighted random", join_cold(random)),
        ("cold: weighted random, slow start", join_cold(move || random().slow_start(slow_start))),
    ] {
        let p99 = quantile(calls.iter().copied(), 0.99) * 1e3;
        report.line(name, "outrigger", &[("p99_ms", p99, "ms")]);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_fails_fast_attracts_nobody_and_a_slow_one_holds_nobody_up() {
        let default = BalancePolicy::builder;
        assert!(errors(&play(default, Ill::FailsFast, 20.0)) <= 0.003);
        let slow = play(default, Ill::Slow, 20.0);
        assert!(quantile(slow.iter().copied(), 0.99) <= 0.060);
        assert!(share(&slow, 0, 0.0, 20.0) < 0.02);
    }

    #[test]
    fn slow_start_keeps_a_cold_host_from_hurting() {
        let random = || BalancePolicy::builder().picker(Picker::WeightedRandom);
        let slow_start = SlowStartPolicy::new(Duration::from_secs(30));
        let with = join_cold(move || random().slow_start(slow_start));
        assert!(quantile(with.iter().copied(), 0.99) <= 0.075);
        assert!(quantile(join_cold(random).iter().copied(), 0.99) > 0.5);
    }
}
