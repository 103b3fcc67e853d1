//! `hot_key`: consistent hash with and without bounded loads. Source rows: H11, R15.

use std::{cell::RefCell, rc::Rc};

use fastrand::Rng;
use outrigger_loadbalance::{
    Balance, BalancePolicy, BalanceService, Endpoint, HashKey, Picker, WithoutKey,
};
use tokio::time::{Duration, Instant};
use tower::ServiceExt;

use super::{Latencies, MS, instance::Instance, open_load, share, simulate};
use crate::row::Report;

const HOSTS: usize = 10;
const KEYS: usize = 10_000;
/// Of the calls that end: the share of one key.
const HOT: f64 = 0.3;

fn picker(load_bound: Option<f64>) -> Picker {
    Picker::ConsistentHash { points_per_weight: 160, load_bound, without_key: WithoutKey::Refuse }
}

fn balance<S: Clone>(load_bound: Option<f64>, services: impl IntoIterator<Item = S>) -> Balance<S> {
    let policy = BalancePolicy::builder().picker(picker(load_bound)).seed(1);
    let balance = Balance::new(policy.build().expect("a valid policy"));
    let hosts = services.into_iter().enumerate();
    balance.replace(hosts.map(|(host, service)| Endpoint::new(format!("host-{host}"), service)));
    balance
}

/// Keys by rank: the `n`-th is `n^exponent` times rarer than the first.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=u32::try_from(KEYS).unwrap_or(u32::MAX)).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self(weights.collect())
    }

    fn draw(&self, rng: &mut Rng) -> usize {
        let at = rng.f64() * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|sum| *sum < at)
    }
}

fn key(number: usize) -> HashKey {
    HashKey::of(format!("key-{number}"))
}

/// Where requests are placed that never end.
#[derive(Debug)]
struct Placed {
    max_over_mean: f64,
    off_first: f64,
    /// The most that a host ever had, of what its bound allowed at that moment.
    of_bound: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn place(exponent: f64, load_bound: Option<f64>, requests: usize) -> Placed {
    simulate(async move {
        let (first, bounded) = (balance(None, 0..HOSTS), balance(load_bound, 0..HOSTS));
        let zipf = Zipf::new(exponent);
        let mut rng = Rng::with_seed(11);
        let (mut loads, mut held) = ([0_usize; HOSTS], Vec::with_capacity(requests));
        let (mut off_first, mut of_bound) = (0_u64, 0.0_f64);
        for total in 0..requests {
            let key = key(zipf.draw(&mut rng));
            let mut picked = bounded.pick_by(key).expect("there are hosts");
            let host = *picked.service();
            let mut at_first = first.pick_by(key).expect("there are hosts");
            off_first += u64::from(host != *at_first.service());
            loads[host] += 1;
            if let Some(bound) = load_bound {
                let cap = (bound * (total + 1) as f64 / HOSTS as f64).ceil();
                of_bound = of_bound.max(loads[host] as f64 / cap);
            }
            held.push(picked);
        }
        let most = loads.into_iter().max().unwrap_or(0) as f64;
        let of_bound = if load_bound.is_some() { of_bound } else { f64::NAN };
        Placed {
            max_over_mean: most * HOSTS as f64 / requests as f64,
            off_first: share(off_first, requests as u64),
            of_bound,
        }
    })
}

/// What calls saw that end.
#[derive(Debug)]
struct Served {
    p99_ms: f64,
    max_over_mean: f64,
    within_second: f64,
}

/// 1 000 calls a second for ten hosts of two workers of 10 ms, three of ten for one key.
fn serve(picker: Option<f64>, seconds: u64) -> Served {
    simulate(async move {
        let rng = Rc::new(RefCell::new(Rng::with_seed(3)));
        let hosts: Vec<_> = (0..HOSTS).map(|_| Instance::new(2, 10 * MS, &rng)).collect();
        let service = BalanceService::new(balance(picker, hosts.clone()))
            .hash_by(|number: &usize| Some(key(*number)));
        let zipf = Zipf::new(1.2);
        let taken = Rc::new(RefCell::new(Vec::new()));
        let until = Instant::now() + Duration::from_secs(seconds);
        open_load(1_000.0, until, &mut Rng::with_seed(5), |rng| {
            let number = if rng.f64() < HOT { 0 } else { zipf.draw(rng) };
            let (service, taken) = (service.clone(), Rc::clone(&taken));
            async move {
                let begin = Instant::now();
                service.oneshot(number).await.expect("it answers");
                taken.borrow_mut().push(begin.elapsed());
            }
        })
        .await;
        let asked: Vec<u64> = hosts.iter().map(Instance::take_asked).collect();
        let most = asked.iter().max().copied().unwrap_or(0);
        let latencies = Latencies::of(taken.take());
        Served {
            p99_ms: latencies.quantile(0.99),
            max_over_mean: share(most * HOSTS as u64, asked.iter().sum()),
            within_second: 1.0 - latencies.share_above(1_000 * MS),
        }
    })
}

/// H11: the keys' distribution, the bound, max over mean, share off the first host.
const PUBLISHED: [(&str, f64, Option<f64>, f64, f64); 12] = [
    ("zipf 1.0, no bound", 1.0, None, 2.29, 0.0),
    ("zipf 1.0, bound 2.0", 1.0, Some(2.0), 2.0, 0.029),
    ("zipf 1.0, bound 1.5", 1.0, Some(1.5), 1.5, 0.079),
    ("zipf 1.0, bound 1.25", 1.0, Some(1.25), 1.25, 0.109),
    ("zipf 1.0, bound 1.1", 1.0, Some(1.1), 1.1, 0.164),
    ("zipf 1.2, no bound", 1.2, None, 3.38, 0.0),
    ("zipf 1.2, bound 2.0", 1.2, Some(2.0), 2.0, 0.138),
    ("zipf 1.2, bound 1.5", 1.2, Some(1.5), 1.5, 0.192),
    ("zipf 1.2, bound 1.25", 1.2, Some(1.25), 1.25, 0.241),
    ("zipf 1.2, bound 1.1", 1.2, Some(1.1), 1.1, 0.312),
    ("uniform, no bound", 0.0, None, 1.103, 0.0),
    ("uniform, bound 1.25", 0.0, Some(1.25), f64::NAN, 0.001),
];

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("hot_key");
    for (name, exponent, bound, max_over_mean, off_first) in PUBLISHED {
        let placed = place(exponent, bound, if quick { 2_000 } else { 20_000 });
        report.line(
            name,
            "outrigger",
            &[
                ("max_over_mean", placed.max_over_mean, "1"),
                ("off_first_host", placed.off_first, "1"),
                ("most_of_bound_ever", placed.of_bound, "1"),
                ("published_max_over_mean", max_over_mean, "1"),
                ("published_off_first", off_first, "1"),
            ],
        );
    }
    for (name, bound) in [
        ("three of ten calls for one key, no bound", None),
        ("three of ten calls for one key, bound 1.25", Some(1.25)),
    ] {
        let served = serve(bound, if quick { 5 } else { 60 });
        report.line(
            name,
            "outrigger",
            &[
                ("max_over_mean", served.max_over_mean, "1"),
                ("p99_ms", served.p99_ms, "ms"),
                ("served_in_1_s", served.within_second, "1"),
            ],
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_at_every_moment_and_moves_few() {
        let [free, bounded] = [None, Some(1.25)].map(|bound| place(1.0, bound, 20_000));
        assert!(free.max_over_mean > 1.8, "{free:?}");
        assert!(bounded.of_bound <= 1.0, "{bounded:?}");
        assert!(bounded.max_over_mean <= 1.251 && bounded.off_first <= 0.16, "{bounded:?}");
    }

    #[test]
    fn a_hot_key_hurts_nobody_where_loads_are_bounded() {
        let [free, bounded] = [None, Some(1.25)].map(|bound| serve(bound, 10));
        assert!(free.p99_ms > 1_000.0, "{free:?}");
        assert!(bounded.p99_ms <= 100.0, "{bounded:?}");
    }
}
