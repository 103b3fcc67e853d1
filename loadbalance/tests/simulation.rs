//! Marks for picking and ejecting, as deterministic simulations.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a test's own figures and helpers"
)]

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
async fn two_choices_come_within_3_percent_of_the_closed_form() {
    // M/M/1, a thousand hosts, mean sojourn in service times (Mitzenmacher).
    for (load, expected) in [(0.7, 1.61), (0.9, 2.61)] {
        let policy = || BalancePolicy::builder().picker(Picker::least_pending()).ejection(None);
        let balancers = balancers(policy, 1_000, 1);
        let simulation =
            Simulation { balancers, workers: 1, rate: 1_000.0 * load, until: 70.0, seed: 3 };
        let calls = simulation.run(1_000, |_, _| Serves::Within(1.0), &[]).await;
        let steady: Vec<f64> =
            calls.iter().filter(|call| call.at > 25.0).map(|call| call.took).collect();
        let mean = steady.iter().sum::<f64>() / steady.len() as f64;
        assert!((mean / expected - 1.0).abs() < 0.03, "load {load}: {mean}, {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_slow_host_of_ten_does_not_lift_the_p99_above_60_ms_with_1_and_20_callers() {
    for callers in [1, 20] {
        let calls = one_slow_host(BalancePolicy::builder, callers).await;
        let p99 = quantile(calls.iter().copied(), 0.99);
        assert!(p99 <= 0.060, "{callers} callers: {p99}");
        let slow = share(&calls, 0, 15.0, 45.0);
        assert!(slow < 0.01, "{callers} callers: {slow} of the calls to the slow host");
        // It comes back within 15 s of its recovery.
        let back = share(&calls, 0, 60.0, 70.0);
        assert!(back >= 0.08, "{callers} callers: {back} of the calls, 15 s after it healed");
    }
}

#[tokio::test(start_paused = true)]
async fn one_host_that_fails_fast_gets_less_than_its_share_and_a_thousandth_of_calls_fails() {
    let with_penalty_only = || BalancePolicy::builder().ejection(None);
    let pending_only = || BalancePolicy::builder().picker(Picker::least_pending()).ejection(None);
    let ejecting_only = || BalancePolicy::builder().picker(Picker::WeightedRandom);
    let policies: [&dyn Fn() -> BalancePolicyBuilder; 4] =
        [&BalancePolicy::builder, &with_penalty_only, &pending_only, &ejecting_only];
    for (n, policy) in policies.iter().enumerate() {
        let serves =
            |host, _| if host == 0 { Serves::FailsIn(0.001) } else { Serves::Within(0.01) };
        let balancers = balancers(policy, 10, 1);
        let simulation = Simulation { balancers, workers: 2, rate: 1_400.0, until: 60.0, seed: 2 };
        let calls = simulation.run(10, serves, &[]).await;
        let errors = calls.iter().filter(|call| call.failed).count() as f64 / calls.len() as f64;
        assert!(errors <= 0.001, "policy {n}: {errors}");
        for second in 0..60 {
            let at = f64::from(second);
            let share = share(&calls, 0, at, at + 1.0);
            assert!(share <= 0.1, "policy {n}, second {second}: {share}");
        }
    }
}

/// Ten hosts, and an eleventh that joins at second 20, eight times slower at first, as fast as the
/// others after 10 s.
async fn a_cold_host_joins(policy: impl Fn() -> BalancePolicyBuilder) -> Vec<Call> {
    let serves = |host, now: f64| {
        let slowness =
            if host == 10 { 8.0 - 7.0 * ((now - 20.0) / 10.0).clamp(0.0, 1.0) } else { 1.0 };
        Serves::Within(0.01 * slowness)
    };
    let join = |balancers: &[Balance<usize>]| {
        for balance in balancers {
            balance.insert(Endpoint::new("host-10", 10));
        }
    };
    let balancers = balancers(policy, 10, 1);
    let simulation = Simulation { balancers, workers: 2, rate: 1_200.0, until: 40.0, seed: 5 };
    let calls = simulation.run(11, serves, &[(20.0, &join)]).await;
    calls.into_iter().filter(|call| call.at >= 20.0).collect()
}

#[tokio::test(start_paused = true)]
async fn slow_start_keeps_a_cold_host_from_hurting() {
    let slow_start = SlowStartPolicy::new(Duration::from_secs(30));
    let random = || BalancePolicy::builder().picker(Picker::WeightedRandom);
    let without = a_cold_host_joins(random).await;
    let p99 = quantile(without.iter().copied(), 0.99);
    assert!(p99 > 0.5, "the scenario hurts without slow start: {p99}");

    let with = a_cold_host_joins(|| random().slow_start(slow_start)).await;
    let p99 = quantile(with.iter().copied(), 0.99);
    assert!(p99 <= 0.075, "weighted random: p99 {p99}");

    let two = || BalancePolicy::builder().picker(Picker::least_pending()).slow_start(slow_start);
    let with = a_cold_host_joins(two).await;
    let p999 = quantile(with.iter().copied(), 0.999);
    assert!(p999 <= 0.110, "two choices: p99.9 {p999}");
}

#[tokio::test(start_paused = true)]
async fn the_share_of_a_new_host_follows_the_curve() {
    let policy = BalancePolicy::builder()
        .picker(Picker::WeightedRandom)
        .slow_start(SlowStartPolicy::new(Duration::from_secs(30)));
    let balance = balance(policy, 9, 1);
    balance.insert(Endpoint::new("new", 9));
    let mut age = 0;
    for (at, expected) in [(0, 0.1), (5, 5.0 / 30.0), (15, 0.5), (27, 0.9), (30, 1.0)] {
        tokio::time::advance(Duration::from_secs(at - age)).await;
        age = at;
        let mut picks = 0.0;
        for _ in 0..40_000 {
            picks += f64::from(u8::from(balance.pick().unwrap().key() == "new"));
        }
        let share = expected / (9.0 + expected);
        let deviation = f64::sqrt(40_000.0 * share * (1.0 - share));
        assert!((picks - 40_000.0 * share).abs() < 4.0 * deviation, "{age} s: {picks}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_in_which_all_are_new_does_not_ramp() {
    let policy = BalancePolicy::builder().slow_start(SlowStartPolicy::new(Duration::from_secs(30)));
    let balance = balance(policy, 5, 1);
    balance.replace((5..8).map(|host| Endpoint::new(format!("host-{host}"), host)));
    for endpoint in balance.status().endpoints {
        assert_eq!(endpoint.state, outrigger_loadbalance::EndpointState::Healthy);
    }
}
