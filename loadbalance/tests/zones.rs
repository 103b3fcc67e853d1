//! Zones, reported load, subsets: who is preferred, and by how much.
#![expect(clippy::unwrap_used, reason = "a test's own figures and helpers")]

use std::{collections::HashMap, time::Duration};

use outrigger_core::Outcome;
use outrigger_loadbalance::{
    Balance, BalancePolicy, BalancePolicyBuilder, BalanceService, EjectionPolicy, Endpoint,
    LoadReport, Picker, SubsetPolicy, ZonePolicy,
};
use tower::ServiceExt;

fn policy() -> BalancePolicyBuilder {
    BalancePolicy::builder().picker(Picker::WeightedRandom).seed(4)
}

/// Three zones of ten hosts each, seen by a caller in `local`.
fn seen_from(local: &str) -> Balance<(char, usize)> {
    let rules = EjectionPolicy::builder().max_ejected(0.9).consecutive_failures(1).jitter(0.0);
    let builder = policy().zones(ZonePolicy::prefer(local)).ejection(rules.build().unwrap());
    let balance = Balance::new(builder.build().unwrap());
    balance.replace("abc".chars().flat_map(|zone| {
        (0..10).map(move |host| {
            Endpoint::new(format!("{zone}{host}"), (zone, host)).zone(zone.to_string())
        })
    }));
    balance
}

/// How many of `calls` calls went to each host, where the hosts that `are_down` fail.
fn drive(
    balances: &[Balance<(char, usize)>],
    calls: usize,
    are_down: impl Fn(char, usize) -> bool,
) -> HashMap<(char, usize), f64> {
    let mut loads = HashMap::new();
    for n in 0..calls {
        let mut picked = balances[n % balances.len()].pick().unwrap();
        let host = *picked.service();
        *loads.entry(host).or_default() += 1.0;
        let is_down = are_down(host.0, host.1);
        picked.record(if is_down { Outcome::Failure } else { Outcome::Success });
    }
    loads
}

fn of_zone(loads: &HashMap<(char, usize), f64>, zone: char) -> f64 {
    loads.iter().filter(|((of, _), _)| *of == zone).map(|(_, load)| load).sum()
}

#[tokio::test(start_paused = true)]
async fn calls_stay_in_their_zone_while_it_has_the_capacity() {
    let balances = [seen_from("a")];
    assert!(of_zone(&drive(&balances, 3_000, |_, _| false), 'a') >= 3_000.0);
    // 8 of 10 are above 71 %: still all.
    let down = |zone, host| zone == 'a' && host < 2;
    drive(&balances, 3_000, down);
    assert!(of_zone(&drive(&balances, 3_000, down), 'a') >= 3_000.0);
}

#[tokio::test(start_paused = true)]
async fn a_zone_short_of_healthy_capacity_spills_over_in_proportion() {
    let balances = [seen_from("a")];
    let down = |zone, host| zone == 'a' && host < 5;
    drive(&balances, 3_000, down);
    let loads = drive(&balances, 10_000, down);
    // Half are healthy: good for 1.4 · 0.5 = 70 % of what the zone owes.
    let stays = of_zone(&loads, 'a') / 10_000.0;
    assert!((stays - 0.7).abs() < 0.02, "{stays}");
    let (b, c) = (of_zone(&loads, 'b'), of_zone(&loads, 'c'));
    assert!((b / c - 1.0).abs() < 0.1, "{b} and {c}");
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_zone_overloads_nobody_while_71_percent_are_healthy() {
    let balances = ["a", "b", "c"].map(seen_from);
    // Zone a is down to 2, others whole: 22 of 30, 73 %.
    let down = |zone, host| zone == 'a' && host < 8;
    drive(&balances, 9_000, down);
    let loads = drive(&balances, 60_000, down);
    let fair = 60_000.0 / 22.0;
    let most = loads.values().copied().fold(0.0, f64::max);
    assert!(most <= 1.4 * fair * 1.1, "{most}, fair {fair}");
    assert!(of_zone(&loads, 'a') > 0.0, "what is left of it is used");
}

#[tokio::test(start_paused = true)]
async fn callers_in_a_zone_without_hosts_are_served_by_the_others() {
    let balances = [seen_from("d")];
    let loads = drive(&balances, 9_000, |_, _| false);
    for zone in ['a', 'b', 'c'] {
        assert!((of_zone(&loads, zone) / 3_000.0 - 1.0).abs() < 0.1);
    }
}

#[tokio::test(start_paused = true)]
async fn picks_follow_reported_load_after_the_blackout_and_forget_stale_reports() {
    let balance = Balance::new(policy().picker(Picker::reported()).build().unwrap());
    balance.replace(["strong", "weak", "silent"].map(|key| Endpoint::new(key, ())));
    let report = |key, qps| {
        assert!(balance.report(key, &LoadReport { qps, eps: 0.0, utilization: 0.5 }));
    };
    let shares = || {
        let mut picks = HashMap::new();
        for _ in 0..12_000 {
            *picks.entry(balance.pick().unwrap().key().to_owned()).or_insert(0.0) += 1.0 / 12_000.0;
        }
        ["strong", "weak", "silent"].map(|key| picks.get(key).copied().unwrap_or(0.0))
    };
    let near = |shares: [f64; 3], expected: [f64; 3]| {
        assert!(shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.02), "{shares:?}");
    };
    report("strong", 300.0);
    report("weak", 100.0);
    near(shares(), [1.0 / 3.0; 3]);

    for _ in 0..11 {
        tokio::time::advance(Duration::from_secs(1)).await;
        report("strong", 300.0);
        report("weak", 100.0);
    }
    // Weights 600 and 200; who is silent has their mean.
    near(shares(), [0.5, 1.0 / 6.0, 1.0 / 3.0]);

    tokio::time::advance(Duration::from_secs(181)).await;
    near(shares(), [1.0 / 3.0; 3]);
    assert!(!balance.report("nobody", &LoadReport::default()));
}

#[tokio::test(start_paused = true)]
async fn reported_weights_are_kept_to_a_turn_and_not_only_on_average() {
    let balance = Balance::new(policy().picker(Picker::reported()).seed(5).build().unwrap());
    balance.replace(["a", "b", "c"].map(|key| Endpoint::new(key, ())));
    for _ in 0..12 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for (key, qps) in [("a", 400.0), ("b", 200.0), ("c", 100.0)] {
            balance.report(key, &LoadReport { qps, eps: 0.0, utilization: 0.5 });
        }
    }
    // Some calls take the weights over.
    (0..10).for_each(|_| drop(balance.pick().unwrap()));
    let mut picks = HashMap::new();
    for made in 1_u32..=2_100 {
        *picks.entry(balance.pick().unwrap().key().to_owned()).or_insert(0.0) += 1.0;
        for (key, share) in [("a", 4.0 / 7.0), ("b", 2.0 / 7.0), ("c", 1.0 / 7.0)] {
            let had: f64 = picks.get(key).copied().unwrap_or(0.0);
            let due = f64::from(made) * share;
            // Drawing by chance would be off by some twenty.
            assert!((had - due).abs() <= 2.5, "{key}: {had} of {due}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_too_large_for_one_look_takes_its_weights_over_bit_by_bit() {
    let balance = Balance::new(policy().picker(Picker::reported()).build().unwrap());
    let keys: Vec<String> = (0..500).map(|n| format!("host-{n}")).collect();
    balance.replace(keys.iter().map(|key| Endpoint::new(key.as_str(), ())));
    for _ in 0..12 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for (n, key) in keys.iter().enumerate() {
            let qps = if n < 250 { 300.0 } else { 100.0 };
            balance.report(key, &LoadReport { qps, eps: 0.0, utilization: 0.5 });
        }
    }
    (0..20).for_each(|_| drop(balance.pick().unwrap()));
    let strong = (0..4_000).filter(|_| {
        let picked = balance.pick().unwrap();
        picked.key()["host-".len()..].parse::<u32>().unwrap() < 250
    });
    let strong = strong.count();
    assert!((2_900..=3_100).contains(&strong), "{strong} of 4000, due 3000");
}

#[tokio::test(start_paused = true)]
async fn only_the_subset_is_used() {
    let builder = policy().subset(SubsetPolicy::by_index(3, 5));
    let balance = Balance::new(builder.build().unwrap());
    balance.replace((0..100).map(|n| Endpoint::new(format!("host-{n}"), ())));
    let mut met = std::collections::BTreeSet::new();
    met.extend((0..1_000).map(|_| balance.pick().unwrap().key().to_owned()));
    assert_eq!(met.len(), 5);
}

/// A host that cannot be reached.
#[derive(Clone)]
struct Reached(bool);

impl tower::Service<()> for Reached {
    type Response = ();
    type Error = tower::BoxError;
    type Future = std::future::Ready<Result<(), tower::BoxError>>;

    fn poll_ready(
        &mut self,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), tower::BoxError>> {
        std::task::Poll::Ready(if self.0 { Ok(()) } else { Err("cannot be reached".into()) })
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_the_own_zone_fails_no_call_though_few_of_it_may_be_ejected() {
    let policy = policy().zones(ZonePolicy::prefer("a"));
    let balance = Balance::new(policy.build().unwrap());
    balance.replace("abc".chars().flat_map(|zone| {
        (0..10).map(move |host| {
            let service = Reached(zone != 'a');
            Endpoint::new(format!("{zone}{host}"), service).zone(zone.to_string())
        })
    }));
    let service = BalanceService::new(balance);
    for _ in 0..1_000 {
        service.clone().oneshot(()).await.unwrap();
    }
}
