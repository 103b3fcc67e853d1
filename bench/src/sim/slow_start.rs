//! `slow_start`: a cold instance joins. Source rows: H12, R12.

use std::time::Duration;

use outrigger_loadbalance::{
    Balance, BalancePolicy, BalancePolicyBuilder, Endpoint, Picker, SlowStartPolicy,
};
use tokio::time::advance;

use super::{
    hosts::{Call, HOSTS, Serves, Simulation, balance, quantile},
    share, simulate,
};
use crate::row::Report;

const WINDOW: Duration = Duration::from_secs(30);

/// An eleventh host joins at second 20, eight times slower at first, as fast as all after 10 s.
fn join_cold(policy: BalancePolicyBuilder) -> Vec<Call> {
    simulate(async move {
        let serves = |host, now: f64| {
            let ramp = ((now - 20.0) / 10.0).clamp(0.0, 1.0);
            let slowness = if host == HOSTS { 8.0 - 7.0 * ramp } else { 1.0 };
            Serves::Within(0.01 * slowness)
        };
        let join = |balancers: &[Balance<usize>]| {
            balancers[0].insert(Endpoint::new("cold", HOSTS));
        };
        let balancers = vec![balance(policy, 0)];
        let simulation = Simulation { balancers, workers: 2, rate: 1_200.0, until: 40.0, seed: 5 };
        let calls = simulation.run(HOSTS + 1, serves, &[(20.0, &join)]).await;
        calls.into_iter().filter(|call| call.at >= 20.0).collect()
    })
}

fn random() -> BalancePolicyBuilder {
    BalancePolicy::builder().picker(Picker::WeightedRandom)
}

fn two_choices() -> BalancePolicyBuilder {
    BalancePolicy::builder().picker(Picker::least_pending())
}

fn ramp(aggression: f64) -> SlowStartPolicy {
    SlowStartPolicy::new(WINDOW).aggression(aggression).expect("a valid policy")
}

/// Which part of a full share a tenth host gets at an age, of so many picks.
fn share_at(age: Duration, picks: u32) -> f64 {
    simulate(async move {
        let policy = random().slow_start(ramp(1.0)).seed(1).build().expect("a valid policy");
        let balance = Balance::new(policy);
        balance.replace((1..HOSTS).map(|host| Endpoint::new(format!("host-{host}"), host)));
        balance.insert(Endpoint::new("new", 0));
        advance(age).await;
        let is_new = |_: &u32| balance.pick().is_ok_and(|picked| picked.key() == "new");
        let new = (0..picks).filter(is_new).count();
        let share = share(new as u64, picks.into());
        // Of weight w beside nine of weight 1 it gets w / (9 + w).
        9.0 * share / (1.0 - share)
    })
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("slow_start");
    let unknown = f64::NAN;
    for (name, policy, p99, p999) in [
        ("weighted random", random(), 4_956.0, 5_149.0),
        ("weighted random, slow start", random().slow_start(ramp(1.0)), 66.0, 130.0),
        ("weighted random, slow start, aggression 2", random().slow_start(ramp(2.0)), 150.0, 394.0),
        ("two choices", two_choices(), 58.0, 167.0),
        ("two choices, slow start", two_choices().slow_start(ramp(1.0)), 51.0, 101.0),
        ("peak EWMA", BalancePolicy::builder(), unknown, unknown),
        ("peak EWMA, slow start", BalancePolicy::builder().slow_start(ramp(1.0)), unknown, unknown),
    ] {
        let calls = join_cold(policy);
        let of = |q| quantile(calls.iter().copied(), q) * 1e3;
        report.line(
            name,
            "outrigger",
            &[
                ("p99_ms", of(0.99), "ms"),
                ("p999_ms", of(0.999), "ms"),
                ("published_p99_ms", p99, "ms"),
                ("published_p999_ms", p999, "ms"),
            ],
        );
    }
    for age in [0_u32, 5, 10, 15, 20, 25, 30] {
        let expected = (f64::from(age) / WINDOW.as_secs_f64()).max(0.1);
        let measured =
            share_at(Duration::from_secs(age.into()), if quick { 1_000 } else { 400_000 });
        let metrics = [("share", measured, "1"), ("share_by_formula", expected, "1")];
        report.line(&format!("share after {age} s"), "outrigger", &metrics);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_start_keeps_a_cold_host_from_hurting() {
        let of = |policy, q| quantile(join_cold(policy).into_iter(), q);
        assert!(of(random(), 0.99) > 0.5);
        assert!(of(random().slow_start(ramp(1.0)), 0.99) <= 0.075);
        assert!(of(two_choices().slow_start(ramp(1.0)), 0.999) <= 0.110);
    }

    #[test]
    fn the_share_grows_by_the_formula() {
        for (age, expected) in [(0, 0.1), (15, 0.5), (30, 1.0)] {
            let share = share_at(Duration::from_secs(age), 100_000);
            assert!((share - expected).abs() <= 0.05, "{age} s: {share}");
        }
    }
}
