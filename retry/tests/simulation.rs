//! What backup requests and budgets do to a whole fleet, under paused time: the figures on the front
//! page. `cargo test -p outrigger-retry --release --test simulation -- --nocapture` prints them.
//!
//! Same seed, same figures.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use fastrand::Rng;
use outrigger_retry::{
    Backoff, QuantileDelay, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy,
};
use tokio::{
    sync::Semaphore,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

/// Runs a simulation on one thread whose time passes only while all wait.
fn simulate<T>(simulation: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.unwrap(), simulation)
}

/// The latencies of calls, sorted.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among some 100 000 calls"
    )]
    fn quantile(&self, quantile: f64) -> f64 {
        let rank = (self.0.len() as f64 * quantile).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1].as_secs_f64() * 1_000.0
    }

    fn max(&self) -> f64 {
        self.quantile(1.0)
    }
}

/// Sends calls at random moments, so many a second, and takes their latencies.
async fn load<S>(service: S, per_second: f64, calls: usize, seed: u64) -> Latencies
where
    S: Service<(), Error = BoxError> + Clone + 'static,
{
    let mut rng = Rng::with_seed(seed);
    let taken = Rc::new(RefCell::new(Vec::with_capacity(calls)));
    let mut at = Instant::now();
    let mut under_way = VecDeque::new();
    for _ in 0..calls {
        at += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / per_second);
        sleep_until(at).await;
        let (mut service, taken) = (service.clone(), Rc::clone(&taken));
        under_way.push_back(spawn_local(async move {
            let begin = Instant::now();
            let answer = service.ready().await.unwrap().call(()).await;
            if answer.is_ok() {
                taken.borrow_mut().push(begin.elapsed());
            }
        }));
    }
    for call in under_way {
        call.await.unwrap();
    }
    Latencies::of(taken.take())
}

/// A service of which 99 % of the answers take at most 13 ms, and the slowest 60: the published
/// figure of Kitex's backup requests.
fn kitex_latency(rng: &mut Rng) -> Duration {
    let ms = if rng.f64() < 0.99 { 1.0 + 12.0 * rng.f64() } else { 13.0 + 47.0 * rng.f64() };
    Duration::from_secs_f64(ms / 1_000.0)
}

struct Tail {
    latencies: Latencies,
    extra: f64,
}

fn tail(policy: RetryPolicy, calls: usize) -> Tail {
    simulate(async move {
        let attempts = Rc::new(Cell::new(0_usize));
        let rng = Rc::new(RefCell::new(Rng::with_seed(13)));
        let counted = Rc::clone(&attempts);
        let server = service_fn(move |()| {
            counted.set(counted.get() + 1);
            let takes = kitex_latency(&mut rng.borrow_mut());
            async move {
                sleep(takes).await;
                Ok::<_, BoxError>(())
            }
        });
        let service = RetryLayer::new(policy).layer(server);
        let latencies = load(service, 1_000.0, calls, 7).await;
        #[expect(clippy::cast_precision_loss, reason = "some 100 000 calls")]
        let extra = attempts.get() as f64 / calls as f64 - 1.0;
        Tail { latencies, extra }
    })
}

fn backup(delay: impl Into<outrigger_retry::BackupDelay>) -> RetryPolicy {
    RetryPolicy::backup(delay).idempotent(true).build().unwrap()
}

#[test]
fn a_backup_request_cuts_the_tail_for_one_call_in_a_hundred() {
    let calls = 100_000;
    let rows = [
        ("none", tail(RetryPolicy::off(), calls)),
        ("fixed", tail(backup(13 * MS), calls)),
        ("quantile", tail(backup(QuantileDelay::of(0.99)), calls)),
    ];
    println!("| backup after | p50 ms | p99 | p99.9 | p99.99 | max | extra calls |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (name, Tail { latencies, extra }) in &rows {
        let q = |quantile| latencies.quantile(quantile);
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} % |",
            q(0.5),
            q(0.99),
            q(0.999),
            q(0.9999),
            latencies.max(),
            extra * 100.0
        );
    }
    let [none, fixed, quantile] = rows.map(|(_, tail)| tail);
    assert!(none.latencies.quantile(0.999) > 50.0, "the tail is there");
    for (name, tail) in [("fixed", fixed), ("quantile", quantile)] {
        let p999 = tail.latencies.quantile(0.999);
        assert!(p999 <= 2.0 * 13.0 + 1.0, "{name}: p99.9 is {p999} ms");
        assert!(tail.extra <= 0.012, "{name}: {} extra calls", tail.extra);
    }
}

/// 100 clients of 10 calls a second for a minute; each attempt fails by chance. Failed calls count
/// from when the first window is full: before, a budget of a share has little to share.
fn failing(share: f64, policy: RetryPolicy, ratio: Option<f64>) -> (f64, f64) {
    const CLIENTS: u32 = 100;
    const CALLS: u32 = 600;
    const FIRST_WINDOW: u32 = 100;
    simulate(async move {
        let rng = Rc::new(RefCell::new(Rng::with_seed(2)));
        let (attempts, failed) = (Rc::new(Cell::new(0_u32)), Rc::new(Cell::new(0_u32)));
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let (rng, attempts) = (Rc::clone(&rng), Rc::clone(&attempts));
            let server = service_fn(move |()| {
                attempts.set(attempts.get() + 1);
                let fails = rng.borrow_mut().f64() < share;
                async move { if fails { Err(BoxError::from("failed")) } else { Ok(()) } }
            });
            let budget = ratio.map_or_else(RetryBudget::unlimited, |ratio| {
                let policy = RetryBudgetPolicy::builder().ratio(ratio);
                RetryBudget::new(policy.build().unwrap())
            });
            let layer = RetryLayer::new(policy).budget(budget).seed(u64::from(client));
            let (mut service, failed) = (layer.layer(server), Rc::clone(&failed));
            clients.push(spawn_local(async move {
                for call in 0..CALLS {
                    sleep(100 * MS).await;
                    let answer = service.ready().await.unwrap().call(()).await;
                    let counts = answer.is_err() && call >= FIRST_WINDOW;
                    failed.set(failed.get() + u32::from(counts));
                }
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
        let calls = f64::from(CLIENTS * CALLS);
        let judged = f64::from(CLIENTS * (CALLS - FIRST_WINDOW));
        (f64::from(failed.get()) / judged, f64::from(attempts.get()) / calls)
    })
}

#[test]
fn the_load_stays_within_the_budget_at_every_failure_rate() {
    let retries = RetryPolicy::failure().idempotent(true).retries(3).backoff(Backoff::None);
    let retries = retries.build().unwrap();
    println!(
        "| attempts that fail | plain retries: calls failed, load | 10 % budget: calls failed, load |"
    );
    println!("| ---: | ---: | ---: |");
    for share in [0.01, 0.05, 0.1, 0.3, 0.5, 1.0] {
        let (plain_failed, plain_load) = failing(share, retries, None);
        let (failed, load) = failing(share, retries, Some(0.1));
        println!(
            "| {:.0} % | {:.2} %, {plain_load:.3} | {:.2} %, {load:.3} |",
            share * 100.0,
            plain_failed * 100.0,
            failed * 100.0
        );
        assert!(load <= 1.11, "at {share} failures the load is {load}");
        assert!(share > 0.05 || failed <= 0.001, "at {share} failures {failed} of the calls fail");
    }
}

/// After The Tail at Scale (Dean and Barroso, CACM 2013), but with nobody who is fast: ten backends
/// of eight workers, of which all slow down by 1.8 for twenty seconds.
struct Slowdown {
    p99: f64,
    /// The largest share of extra attempts in any second.
    most_extra: f64,
}

#[expect(clippy::too_many_lines, reason = "one workload, told from begin to end")]
fn slowdown(policy: RetryPolicy, ratio: f64) -> Slowdown {
    const BACKENDS: usize = 10;
    const WORKERS: usize = 8;
    const PER_SECOND: f64 = 3_660.0;
    const SECONDS: usize = 60;
    simulate(async move {
        let begin = Instant::now();
        let rng = Rc::new(RefCell::new(Rng::with_seed(3)));
        let backends: Rc<Vec<_>> = Rc::new(
            (0..BACKENDS).map(|_| Rc::new((Semaphore::new(WORKERS), Cell::new(0_u32)))).collect(),
        );
        let attempts = Rc::new(RefCell::new(vec![0_u32; SECONDS * 4]));
        let counted = Rc::clone(&attempts);
        let server = service_fn(move |()| {
            let now = begin.elapsed();
            counted.borrow_mut()[usize::try_from(now.as_secs()).unwrap()] += 1;
            let mut rng = rng.borrow_mut();
            // Two choices, as the workload has it.
            let (one, other) = (rng.usize(..BACKENDS), rng.usize(..BACKENDS));
            let is_less = backends[one].1.get() <= backends[other].1.get();
            let backend = Rc::clone(&backends[if is_less { one } else { other }]);
            let ms = if rng.f64() < 0.99 { -8.0 * (1.0 - rng.f64()).ln() } else { 300.0 };
            let slow = if (20..40).contains(&now.as_secs()) { 1.8 } else { 1.0 };
            async move {
                struct Pending<'a>(&'a Cell<u32>);
                impl Drop for Pending<'_> {
                    fn drop(&mut self) {
                        self.0.set(self.0.get() - 1);
                    }
                }
                backend.1.set(backend.1.get() + 1);
                let _pending = Pending(&backend.1);
                let _worker = backend.0.acquire().await.unwrap();
                sleep(Duration::from_secs_f64(ms * slow / 1_000.0)).await;
                Ok::<_, BoxError>(())
            }
        });
        // A window of a second, since the promise is about every second.
        let second = Duration::from_secs(1);
        let budget = RetryBudgetPolicy::builder().ratio(ratio).window(second).reserve(0);
        let budget = budget.build().unwrap();
        let service = RetryLayer::new(policy).budget(RetryBudget::new(budget)).layer(server);
        let calls = Rc::new(RefCell::new(vec![0_u32; SECONDS * 4]));
        let slow = Rc::new(RefCell::new(Vec::new()));
        let (counted, taken) = (Rc::clone(&calls), Rc::clone(&slow));
        let watched = service_fn(move |()| {
            let second = usize::try_from(begin.elapsed().as_secs()).unwrap();
            counted.borrow_mut()[second] += 1;
            let (mut service, taken) = (service.clone(), Rc::clone(&taken));
            async move {
                let begin = Instant::now();
                let answer = service.ready().await.unwrap().call(()).await;
                if (20..40).contains(&second) {
                    taken.borrow_mut().push(begin.elapsed());
                }
                answer
            }
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let all = (PER_SECOND * 45.0) as usize;
        load(watched, PER_SECOND, all, 5).await;
        let share = |second: usize| {
            let calls = f64::from(calls.borrow()[second]);
            f64::from(attempts.borrow()[second]) / calls - 1.0
        };
        let most_extra = (1..44).map(share).fold(0.0, f64::max);
        Slowdown { p99: Latencies::of(slow.take()).quantile(0.99), most_extra }
    })
}

#[test]
fn a_shared_slowdown_is_not_made_worse_by_backup_requests() {
    let none = slowdown(RetryPolicy::off(), 0.0);
    let quantile = RetryPolicy::backup(QuantileDelay::of(0.95)).idempotent(true).build().unwrap();
    let hedged = slowdown(quantile, 0.05);
    println!("| during the slowdown | p99 ms | most extra attempts in a second |");
    println!("| --- | ---: | ---: |");
    println!("| none | {:.0} | {:.1} % |", none.p99, none.most_extra * 100.0);
    println!("| live p95, budget 5 % | {:.0} | {:.1} % |", hedged.p99, hedged.most_extra * 100.0);
    assert!(hedged.p99 <= none.p99 / 4.0, "p99 {} against {}", hedged.p99, none.p99);
    assert!(hedged.most_extra <= 0.055, "{} extra attempts in a second", hedged.most_extra);
}
