//! Makes the figures of the crate's documentation: balance and disruption of the hashing pickers,
//! the cost of a call, the time of a build, the slowest pick while endpoints change.
//!
//! `cargo run --release -p outrigger-loadbalance --example figures`
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures to print"
)]

use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use outrigger_core::Rejection;
use outrigger_loadbalance::{
    Balance, BalancePolicy, BalanceService, Endpoint, HashKey, Picker, WithoutKey,
};
use tokio::time::Instant;
use tower::Service;

#[derive(Clone, Copy)]
struct Host(usize);

impl Service<u64> for Host {
    type Response = usize;
    type Error = Rejection;
    type Future = Ready<Result<usize, Rejection>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: u64) -> Self::Future {
        ready(Ok(self.0))
    }
}

type Keyed = fn(&u64) -> Option<HashKey>;

#[expect(clippy::trivially_copy_pass_by_ref, clippy::unnecessary_wraps, reason = "a `HashBy`")]
fn key(n: &u64) -> Option<HashKey> {
    Some(HashKey::of(n.to_le_bytes()))
}

fn ring(points_per_weight: u32, load_bound: Option<f64>) -> Picker {
    Picker::ConsistentHash { points_per_weight, load_bound, without_key: WithoutKey::Random }
}

fn hosts(from: usize, to: usize) -> impl Iterator<Item = Endpoint<Host>> {
    (from..to).map(|host| Endpoint::new(format!("host-{host}"), Host(host)))
}

fn balance(picker: Picker, n: usize) -> Balance<Host> {
    let balance = Balance::new(BalancePolicy::builder().picker(picker).build().expect("valid"));
    balance.replace(hosts(0, n));
    balance
}

type Called = BalanceService<
    Host,
    outrigger_core::ErrorsAreFailures,
    outrigger_core::OnResponse,
    outrigger_core::NoContext,
    Keyed,
>;

fn service(balance: &Balance<Host>) -> Called {
    BalanceService::new(balance.clone()).hash_by(key as Keyed)
}

fn call(service: &mut Called, n: u64) -> usize {
    let future = pin!(service.call(n));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(host)) => host,
        _ => usize::MAX,
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("quality") => quality(),
        Some("calls") => calls(),
        Some("lookups") => lookups(),
        Some("builds") => builds(),
        Some("churn") => churn(),
        _ => [quality as fn(), calls, lookups, builds, churn].iter().for_each(|figure| figure()),
    }
}

/// Balance over a million keys, and how many keys another endpoint gets when one leaves.
fn quality() {
    const KEYS: u64 = 1_000_000;
    println!("| picker | endpoints | max / mean | keys moved when 1 leaves (least possible) |");
    println!("| --- | --- | --- | --- |");
    for n in [100, 1_000] {
        let pickers = [
            ("ring, 100 points", ring(100, None)),
            ("ring, 160 points", ring(160, None)),
            ("ring, 1000 points", ring(1_000, None)),
            ("bounded ring, 100 points, 1.25", ring(100, Some(1.25))),
            ("Maglev, 65 537", Picker::maglev()),
            ("Maglev, 655 373", large_maglev()),
        ];
        for (name, picker) in pickers {
            let bounded = matches!(picker, Picker::ConsistentHash { load_bound: Some(_), .. });
            let balance = balance(picker, n);
            let owners = |balance: &Balance<Host>| -> Vec<usize> {
                let mut held = Vec::new();
                let mut owners = Vec::new();
                for at in 0..KEYS {
                    let Ok(mut picked) = balance.pick_by(HashKey::of(at.to_le_bytes())) else {
                        continue;
                    };
                    owners.push(picked.service().0);
                    // A bound looks at calls in flight.
                    if bounded {
                        held.push(picked);
                    }
                }
                owners
            };
            let before = owners(&balance);
            let mut loads = vec![0_u64; n];
            for host in &before {
                loads[*host] += 1;
            }
            let max = loads.iter().max().copied().unwrap_or(0) as f64 * n as f64 / KEYS as f64;
            balance.remove("host-7");
            let after = owners(&balance);
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let (moved, least) = (moved as f64 / 1e4, loads[7] as f64 / 1e4);
            println!("| {name} | {n} | {max:.3} | {moved:.2} % ({least:.2} %) |");
        }
    }
}

fn large_maglev() -> Picker {
    Picker::Maglev { table_size: 655_373, without_key: WithoutKey::Random }
}

/// The cost of a whole call on a service that does nothing, by one thread and by two.
fn calls() {
    println!("| picker | endpoints | 1 thread, ns | 2 threads, ns a call |");
    println!("| --- | --- | --- | --- |");
    for (name, picker) in [
        ("weighted random", Picker::WeightedRandom),
        ("round robin", Picker::RoundRobin),
        ("least pending", Picker::least_pending()),
        ("peak EWMA", Picker::peak_ewma()),
        ("ring, 160 points", ring(160, None)),
        ("Maglev", Picker::maglev()),
    ] {
        for n in [10, 100, 1_000, 10_000] {
            let balance = balance(picker.clone(), n);
            let one = per_call(&[service(&balance)]);
            let two = per_call(&[service(&balance), service(&balance)]);
            println!("| {name} | {n} | {one:.0} | {two:.0} |");
        }
    }
}

/// The cost of finding whose a key is, without a call: its hash, the look-up, a clone of the
/// owner's name.
fn lookups() {
    const KEYS: u64 = 100_000;
    println!("| picker | endpoints | look-up alone, ns |");
    println!("| --- | --- | --- |");
    for (name, picker) in [("ring, 160 points", ring(160, None)), ("Maglev", Picker::maglev())] {
        for n in [10, 100, 1_000] {
            let balance = balance(picker.clone(), n);
            let once = |turn: u64| {
                let began = Instant::now();
                for at in turn * KEYS..(turn + 1) * KEYS {
                    black_box(balance.owner_of(HashKey::of(at.to_le_bytes())));
                }
                began.elapsed().as_nanos() as f64 / KEYS as f64
            };
            println!("| {name} | {n} | {:.0} |", (0..50).map(once).fold(f64::MAX, f64::min));
        }
    }
}

/// Nanoseconds of wall time per call, the best of five.
fn per_call(services: &[Called]) -> f64 {
    const CALLS: u64 = 1_000_000;
    let once = || {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for (thread, service) in (0..).zip(services) {
                let mut service = service.clone();
                scope.spawn(move || {
                    for n in 0..CALLS {
                        black_box(call(&mut service, n.wrapping_mul(7) + thread));
                    }
                });
            }
        });
        began.elapsed().as_nanos() as f64 / (CALLS * services.len() as u64) as f64
    };
    (0..5).map(|_| once()).fold(f64::MAX, f64::min)
}

/// The time from a change of one endpoint to the new index.
fn builds() {
    println!("| endpoints | weighted random | ring, 100 points | Maglev 65 537 | Maglev 655 373 |");
    println!("| --- | --- | --- | --- | --- |");
    for n in [10, 100, 1_000, 10_000, 100_000] {
        let times = [Picker::WeightedRandom, ring(100, None), Picker::maglev(), large_maglev()]
            .map(|picker| {
                let balance = balance(picker, n);
                let times = (0..3).map(|weight| {
                    let began = Instant::now();
                    balance.reweight([("host-7", weight + 2)]);
                    began.elapsed()
                });
                times.min().unwrap_or_default()
            });
        let [random, ring, maglev, large] = times;
        println!("| {n} | {random:.2?} | {ring:.2?} | {maglev:.2?} | {large:.2?} |");
    }
}

/// The slowest of 100 000 calls while 10 000 endpoints change ten times a second.
fn churn() {
    let balance = balance(Picker::WeightedRandom, 10_000);
    let is_over = AtomicBool::new(false);
    let (slowest, changes) = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut changes = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                balance.reweight([("host-7", changes % 5 + 1)]);
                changes += 1;
                std::thread::park_timeout(Duration::from_millis(100));
            }
            changes
        });
        let mut service = service(&balance);
        let mut slowest: Vec<Duration> = Vec::new();
        for n in 0..100_000_u64 {
            let began = Instant::now();
            black_box(call(&mut service, n));
            slowest.push(began.elapsed());
            std::thread::park_timeout(Duration::from_micros(20));
        }
        is_over.store(true, Ordering::Relaxed);
        slowest.sort_unstable();
        (slowest, changing.join().unwrap_or_default())
    });
    let at = |share: f64| slowest[(slowest.len() as f64 * share) as usize];
    println!(
        "10 000 endpoints, {changes} changes: p50 {:.2?}, p99 {:.2?}, p99.99 {:.2?}, slowest {:.2?}",
        at(0.5),
        at(0.99),
        at(0.9999),
        slowest[slowest.len() - 1],
    );
}
