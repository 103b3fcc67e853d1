//! Ejecting endpoints, and letting them return.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test's own figures and helpers"
)]

#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::{collections::BTreeSet, time::Duration};

use outrigger_core::Outcome;
use outrigger_loadbalance::{
    Balance, BalanceEvent, BalancePolicy, EjectionPolicy, EjectionPolicyBuilder, EjectionRule,
    Endpoint, EndpointState, Picker, SlowStartPolicy,
};
use support::Log;

/// Endpoints "0", "1", … in turn.
fn balance(rules: EjectionPolicyBuilder, endpoints: usize, log: &Log) -> Balance<()> {
    let rules = rules.build().unwrap();
    let builder = BalancePolicy::builder().picker(Picker::RoundRobin).ejection(rules).seed(3);
    let balance = log.attach(Balance::new(builder.build().unwrap()));
    balance.replace((0..endpoints).map(|n| Endpoint::new(format!("{n:03}"), ())));
    balance
}

/// Only the rules that look at a whole interval.
fn interval_rules() -> EjectionPolicyBuilder {
    EjectionPolicy::builder().consecutive_failures(0).max_ejected(1.0).panic_threshold(0.0)
}

/// `calls` calls; an endpoint fails when `fails` says so for its number and a random number.
fn drive(balance: &Balance<()>, calls: usize, mut fails: impl FnMut(usize) -> bool) -> usize {
    let mut failed = 0;
    for _ in 0..calls {
        let picked = balance.pick().unwrap();
        let fails = fails(picked.key().parse().unwrap());
        failed += usize::from(fails);
        picked.record(if fails { Outcome::Failure } else { Outcome::Success });
    }
    failed
}

async fn next_interval(balance: &Balance<()>) {
    tokio::time::advance(Duration::from_secs(10)).await;
    balance.sweep();
}

fn ejected(balance: &Balance<()>) -> BTreeSet<String> {
    let is_out = |state| matches!(state, EndpointState::Ejected { .. });
    let endpoints = balance.status().endpoints.into_iter();
    endpoints.filter(|endpoint| is_out(endpoint.state)).map(|endpoint| endpoint.key).collect()
}

fn rules_that_spoke(log: &Log) -> Vec<EjectionRule> {
    let rule = |(_, event)| match event {
        BalanceEvent::Ejected { rule, .. } => Some(rule),
        _ => None,
    };
    log.take().into_iter().filter_map(rule).collect()
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_eject_and_a_success_in_between_starts_over() {
    let log = Log::default();
    let balance = balance(EjectionPolicy::builder(), 3, &log);
    let mut failures = 0;
    drive(&balance, 30, |host| {
        failures += usize::from(host == 0);
        host == 0 && failures % 5 != 0
    });
    assert!(ejected(&balance).is_empty(), "never five in a row");
    drive(&balance, 30, |host| host == 0);
    assert_eq!(ejected(&balance), ["000".to_owned()].into());
    assert_eq!(rules_that_spoke(&log), [EjectionRule::ConsecutiveFailures]);
    assert_eq!(drive(&balance, 300, |host| host == 0), 0, "no call while it is ejected");
}

#[tokio::test(start_paused = true)]
async fn ejections_grow_are_jittered_and_shrink_again_with_health() {
    let log = Log::default();
    let rules = EjectionPolicy::builder().consecutive_failures(1).jitter(0.1);
    let balance = balance(rules, 5, &log);
    let mut durations = Vec::new();
    for _ in 0..12 {
        drive(&balance, 20, |host| host == 2);
        for (_, event) in log.take() {
            if let BalanceEvent::Ejected { duration, .. } = event {
                durations.push(duration.as_secs_f64());
                tokio::time::advance(duration).await;
            }
        }
        drive(&balance, 1, |_| false);
    }
    assert_eq!(durations.len(), 12);
    for (times, duration) in (1..).zip(&durations) {
        let base = (30.0 * f64::from(times)).min(300.0);
        assert!((base..=base * 1.1).contains(duration), "{times}: {duration}");
    }
    let distinct: BTreeSet<u64> =
        durations[9..].iter().map(|duration| (duration * 1e6) as u64).collect();
    assert!(distinct.len() > 1, "jittered: {durations:?}");

    // Four healthy intervals take four off.
    tokio::time::advance(Duration::from_secs(40)).await;
    drive(&balance, 20, |_| false);
    drive(&balance, 20, |host| host == 2);
    let last = log.take().into_iter().find_map(|(_, event)| match event {
        BalanceEvent::Ejected { duration, .. } => Some(duration.as_secs_f64()),
        _ => None,
    });
    assert!((270.0..=300.0).contains(&last.unwrap()), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn on_probation_one_failure_ejects_again_and_two_successes_end_it() {
    let log = Log::default();
    let balance = balance(EjectionPolicy::builder(), 3, &log);
    drive(&balance, 30, |host| host == 0);
    tokio::time::advance(Duration::from_secs(34)).await;
    log.take();
    drive(&balance, 3, |host| host == 0);
    assert_eq!(log.take()[0], ("000".to_owned(), BalanceEvent::Returned));
    assert_eq!(ejected(&balance).len(), 1, "one failure on probation");
    tokio::time::advance(Duration::from_secs(70)).await;
    drive(&balance, 3, |_| false);
    assert_eq!(balance.status().endpoints[0].state, EndpointState::OnProbation);
    drive(&balance, 6, |_| false);
    assert_eq!(balance.status().endpoints[0].state, EndpointState::Healthy);
    drive(&balance, 3, |host| host == 0);
    assert!(ejected(&balance).is_empty(), "trusted again");
}

#[tokio::test(start_paused = true)]
async fn a_returning_endpoint_starts_slowly() {
    let log = Log::default();
    let builder = BalancePolicy::builder()
        .picker(Picker::WeightedRandom)
        .slow_start(SlowStartPolicy::new(Duration::from_secs(30)))
        .seed(3);
    let balance = log.attach(Balance::new(builder.build().unwrap()));
    balance.replace((0..3).map(|n| Endpoint::new(format!("{n:03}"), ())));
    drive(&balance, 100, |host| host == 0);
    tokio::time::advance(Duration::from_secs(34)).await;
    balance.sweep();
    assert_eq!(balance.status().endpoints[0].state, EndpointState::Starting { share: 0.1 });
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds_after_the_ejection_and_the_last_host_stays() {
    for (hosts, share) in [
        (1, 0.1),
        (1, 1.0),
        (2, 0.5),
        (2, 1.0),
        (3, 0.1),
        (3, 0.5),
        (3, 0.67),
        (10, 0.1),
        (10, 0.5),
    ] {
        let log = Log::default();
        let rules = EjectionPolicy::builder().max_ejected(share).panic_threshold(0.0);
        let balance = balance(rules, hosts, &log);
        let cap = ((share * hosts as f64 + 1e-9) as usize).max(1).min(hosts - 1);
        for _ in 0..20 {
            drive(&balance, 10 * hosts, |_| true);
            assert!(ejected(&balance).len() <= cap, "{hosts} hosts, {share}");
        }
        assert_eq!(ejected(&balance).len(), cap, "{hosts} hosts, {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_everybody_fails_panic_balances_over_all() {
    let log = Log::default();
    let rules = EjectionPolicy::builder().max_ejected(0.9);
    let balance = balance(rules, 10, &log);
    drive(&balance, 400, |_| true);
    assert!(balance.status().is_panicking);
    let entered = |event: &BalanceEvent| matches!(event, BalanceEvent::PanicEntered { .. });
    assert_eq!(log.count(entered), 1);
    let mut met = BTreeSet::new();
    drive(&balance, 200, |host| {
        met.insert(host);
        false
    });
    assert_eq!(met.len(), 10, "the ejected get calls too");
    tokio::time::advance(Duration::from_secs(34)).await;
    drive(&balance, 1, |_| false);
    assert!(!balance.status().is_panicking);
    assert_eq!(log.count(|event| matches!(event, BalanceEvent::PanicLeft { .. })), 1);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_30_percent_is_ejected_within_two_intervals() {
    let log = Log::default();
    let balance = balance(EjectionPolicy::builder(), 10, &log);
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..2 {
        drive(&balance, 2_000, |host| rng.f64() < if host == 4 { 0.3 } else { 0.01 });
        next_interval(&balance).await;
    }
    drive(&balance, 10, |_| false);
    assert_eq!(ejected(&balance), ["004".to_owned()].into());
    // The runs of five in a row that chance makes may come first; the interval's rule is enough.
    let log = Log::default();
    let balance = self::balance(interval_rules(), 10, &log);
    for _ in 0..2 {
        drive(&balance, 2_000, |host| rng.f64() < if host == 4 { 0.3 } else { 0.01 });
        next_interval(&balance).await;
    }
    assert_eq!(rules_that_spoke(&log), [EjectionRule::SuccessRateDeviation]);
}

#[tokio::test(start_paused = true)]
async fn no_healthy_host_is_ejected_in_an_hour_of_1_percent_errors() {
    let log = Log::default();
    let balance = balance(EjectionPolicy::builder(), 10, &log);
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..360 {
        drive(&balance, 1_500, |_| rng.f64() < 0.01);
        next_interval(&balance).await;
    }
    assert_eq!(rules_that_spoke(&log), []);
}

/// How many of `bad` equally bad hosts the deviation rule finds among `hosts`.
async fn found(hosts: usize, bad: usize) -> usize {
    let log = Log::default();
    let balance = balance(interval_rules().error_rate(None), hosts, &log);
    drive(&balance, hosts, |_| true);
    next_interval(&balance).await;
    let mut turns = vec![0_u32; hosts];
    drive(&balance, 200 * hosts, |host| {
        turns[host] += 1;
        host < bad && turns[host] % 5 < 2
    });
    next_interval(&balance).await;
    rules_that_spoke(&log).len()
}

#[tokio::test(start_paused = true)]
async fn the_deviation_rule_finds_exactly_as_many_as_its_factor_allows() {
    // Factor 1.9: blind from 1 / (1 + 1.9²) = 21.7 % on, and below 5 hosts.
    for (hosts, most) in [(4, 0), (5, 1), (6, 1), (10, 2), (20, 4), (100, 21)] {
        for bad in 1..=most {
            assert_eq!(found(hosts, bad).await, bad, "{bad} of {hosts}");
        }
        assert_eq!(found(hosts, most + 1).await, 0, "{} of {hosts}", most + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_deviation_rule_is_blind_the_error_rate_acts_and_the_cap_holds() {
    for bad in [2, 3, 5] {
        let log = Log::default();
        let rules = interval_rules().max_ejected(0.4).panic_threshold(0.5);
        let balance = balance(rules, 10, &log);
        let mut rng = fastrand::Rng::with_seed(bad as u64);
        for _ in 0..6 {
            drive(&balance, 2_000, |host| host < bad && rng.f64() < 0.8);
            next_interval(&balance).await;
            assert!(ejected(&balance).len() <= 4);
        }
        assert_eq!(ejected(&balance).len(), bad.min(4));
        assert!(rules_that_spoke(&log).contains(&EjectionRule::ErrorRate));
        drive(&balance, 1, |_| false);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_much_slower_than_the_median_is_ejected_when_the_rule_is_on() {
    let log = Log::default();
    let balance = balance(interval_rules().latency(3.0).latency_volume(20), 5, &log);
    drive(&balance, 5, |_| true);
    next_interval(&balance).await;
    for _ in 0..150 {
        let picked = balance.pick().unwrap();
        let took = if picked.key() == "003" { 40 } else { 10 };
        tokio::time::advance(Duration::from_millis(took)).await;
        picked.record(Outcome::Success);
    }
    next_interval(&balance).await;
    assert_eq!(ejected(&balance), ["003".to_owned()].into());
    assert_eq!(rules_that_spoke(&log), [EjectionRule::Latency]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_host_is_ejected_by_the_calls_alone_where_none_ever_fails() {
    let log = Log::default();
    let balance = balance(interval_rules().latency(3.0).latency_volume(20), 5, &log);
    // 150 calls take 2.4 s, and an interval 10 s.
    for _ in 0..1_500 {
        let picked = balance.pick().unwrap();
        let took = if picked.key() == "003" { 40 } else { 10 };
        tokio::time::advance(Duration::from_millis(took)).await;
        picked.record(Outcome::Success);
    }
    assert_eq!(rules_that_spoke(&log), [EjectionRule::Latency]);
}

#[tokio::test(start_paused = true)]
async fn cancelled_and_ignored_calls_eject_nobody() {
    let log = Log::default();
    let balance = balance(EjectionPolicy::builder(), 3, &log);
    for _ in 0..1_000 {
        drop(balance.pick().unwrap());
        balance.pick().unwrap().record(Outcome::Ignored);
    }
    next_interval(&balance).await;
    assert!(ejected(&balance).is_empty());
}

#[tokio::test(start_paused = true)]
async fn endless_times_do_not_panic() {
    let log = Log::default();
    let rules = EjectionPolicy::builder()
        .consecutive_failures(1)
        .base_time(Duration::MAX)
        .max_time(Duration::MAX)
        .interval(Duration::MAX);
    let balance = balance(rules, 3, &log);
    drive(&balance, 9, |host| host == 0);
    next_interval(&balance).await;
    assert_eq!(ejected(&balance).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_that_the_picker_avoids_is_shown_as_failing_and_ejected_all_the_same() {
    let log = Log::default();
    // The defaults: peak EWMA, ejection after five failures in a row.
    let balance = log.attach(Balance::new(BalancePolicy::builder().seed(3).build().unwrap()));
    balance.replace((0..4).map(|n| Endpoint::new(format!("{n:03}"), ())));
    for _ in 0..12_000 {
        let picked = balance.pick().unwrap();
        let is_dead = picked.key() == "000";
        tokio::time::advance(Duration::from_millis(10)).await;
        picked.record(if is_dead { Outcome::Failure } else { Outcome::Success });
        let dead = &balance.status().endpoints[0];
        assert_eq!(u64::from(dead.failures_in_row), dead.failures, "nothing is forgotten");
        match dead.state {
            EndpointState::Ejected { .. } => {
                assert!(dead.failures < 5, "found out before the fifth failure");
                assert_eq!(rules_that_spoke(&log), [EjectionRule::ConsecutiveFailures]);
                return;
            }
            state if dead.failures > 0 => assert_eq!(state, EndpointState::Failing),
            state => assert_eq!(state, EndpointState::Healthy),
        }
    }
    panic!("not ejected in two minutes: {:?}", balance.status());
}
