//! A retry storm, simulated with the real layers: a server that loses four fifths of its capacity
//! for ten seconds.
//!
//! Ten workers of 10 ms serve 700 calls a second; each attempt times out after 500 ms, and the
//! server does not see that. Plain retries keep it down for ever; a budget at the clients and a
//! concurrency limit at the server bring it back at once. `cargo test -p outrigger-examples
//! --release --test storm -- --nocapture` prints the table. Same seed, same figures.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{cell::RefCell, rc::Rc, time::Duration};

use fastrand::Rng;
use outrigger_core::Rejection;
use outrigger_ratelimit::{ConcurrencyLimitLayer, ConcurrencyLimitPolicy};
use outrigger_retry::{
    Backoff, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy, TimeoutLayer,
};
use tokio::{
    sync::Semaphore,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const WORKERS: usize = 10;
const PER_SECOND: f64 = 700.0;
const SECONDS: usize = 120;
const BROWN_OUT: std::ops::Range<usize> = 30..40;

/// What happened in each second.
#[derive(Clone, Default)]
struct Book(Rc<RefCell<Vec<Second>>>);

#[derive(Clone, Copy, Default)]
struct Second {
    calls: u32,
    attempts: u32,
    good: u32,
}

impl Book {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![Second::default(); SECONDS * 2])))
    }

    fn note(&self, begin: Instant, note: impl FnOnce(&mut Second)) {
        let second = usize::try_from(begin.elapsed().as_secs()).unwrap();
        if let Some(second) = self.0.borrow_mut().get_mut(second) {
            note(second);
        }
    }

    fn good_per_second(&self, seconds: std::ops::Range<usize>) -> f64 {
        let count = f64::from(u32::try_from(seconds.len()).unwrap());
        let good: u32 = self.0.borrow()[seconds].iter().map(|second| second.good).sum();
        f64::from(good) / count
    }

    fn attempts_per_call(&self) -> f64 {
        let book = self.0.borrow();
        let sum = |of: fn(&Second) -> u32| f64::from(book[30..50].iter().map(of).sum::<u32>());
        sum(|second| second.attempts) / sum(|second| second.calls)
    }

    /// Seconds after the brown-out until three in a row serve 95 % of what is offered in them.
    fn recovery(&self) -> Option<usize> {
        let book = self.0.borrow();
        let is_good = |second: &Second| f64::from(second.good) >= 0.95 * f64::from(second.calls);
        let mut threes = book[BROWN_OUT.end..SECONDS].windows(3);
        threes.position(|three| three.iter().all(is_good))
    }
}

/// How a fleet of clients calls the server.
struct Fleet {
    clients: usize,
    policy: RetryPolicy,
    budget: Option<RetryBudgetPolicy>,
    /// How many calls the server takes at a time.
    limit: Option<u32>,
}

fn storm(fleet: &Fleet) -> Book {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.unwrap(), play(fleet))
}

async fn play(fleet: &Fleet) -> Book {
    let (begin, book) = (Instant::now(), Book::new());
    let server = server(fleet.limit, begin);
    let clients: Vec<_> = (0..fleet.clients)
        .map(|client| {
            let budget = fleet.budget.map_or_else(RetryBudget::unlimited, RetryBudget::new);
            let retry = RetryLayer::new(fleet.policy).budget(budget).seed(client as u64);
            let (server, book) = (server.clone(), book.clone());
            let attempts = service_fn(move |()| {
                book.note(begin, |second| second.attempts += 1);
                server.clone().oneshot(())
            });
            retry.layer(TimeoutLayer::after(Duration::from_millis(500)).layer(attempts))
        })
        .collect();
    let mut rng = Rng::with_seed(1);
    let mut at = begin;
    let end = begin + Duration::from_secs(SECONDS as u64);
    loop {
        at += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / PER_SECOND);
        if at >= end {
            return book;
        }
        sleep_until(at).await;
        book.note(begin, |second| second.calls += 1);
        let (mut client, book) = (clients[rng.usize(..clients.len())].clone(), book.clone());
        spawn_local(async move {
            if client.ready().await.unwrap().call(()).await.is_ok() {
                book.note(begin, |second| second.good += 1);
            }
        });
    }
}

/// A server whose work goes on when the caller has given up.
fn server(
    limit: Option<u32>,
    begin: Instant,
) -> impl Service<(), Response = (), Error = BoxError, Future: 'static> + Clone {
    let workers = Rc::new(Semaphore::new(WORKERS));
    let rng = Rc::new(RefCell::new(Rng::with_seed(9)));
    let work = service_fn(move |()| {
        let (workers, rng) = (Rc::clone(&workers), Rc::clone(&rng));
        async move {
            let _worker = workers.acquire().await.unwrap();
            let second = usize::try_from(begin.elapsed().as_secs()).unwrap();
            let slow = if BROWN_OUT.contains(&second) { 5.0 } else { 1.0 };
            let takes = -0.01 * (1.0 - rng.borrow_mut().f64()).ln() * slow;
            sleep(Duration::from_secs_f64(takes)).await;
            Ok::<_, BoxError>(())
        }
    });
    let policy = ConcurrencyLimitPolicy::builder().limit(limit.unwrap_or(1_000_000));
    let limited = ConcurrencyLimitLayer::new(policy.build().unwrap()).layer(work);
    service_fn(move |()| {
        let mut limited = limited.clone();
        let (answer, answered) = tokio::sync::oneshot::channel();
        spawn_local(async move {
            let result = limited.ready().await.unwrap().call(()).await;
            // The wire carries no `Rejection`, only that the server is busy.
            let result = result.map_err(|error| match Rejection::find(&*error) {
                Some(_) => BoxError::from("busy"),
                None => error,
            });
            let _ = answer.send(result);
        });
        async move { answered.await.unwrap() }
    })
}

fn retries(retries: u32, backoff: Backoff) -> RetryPolicy {
    let policy = RetryPolicy::failure().idempotent(true).retries(retries).backoff(backoff);
    policy.build().unwrap()
}

#[test]
fn plain_retries_never_recover_and_ours_do_at_once() {
    let jitter = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(1));
    let at_once = retries(3, Backoff::None);
    let ten = Some(RetryBudgetPolicy::default());
    let fleet = |clients, policy, budget, limit| Fleet { clients, policy, budget, limit };
    let rows = [
        ("1 attempt", fleet(1, RetryPolicy::off(), None, None)),
        ("4 attempts at once", fleet(1, at_once, None, None)),
        ("4 attempts, full jitter", fleet(1, retries(3, jitter), None, None)),
        ("budget 10 %", fleet(1, at_once, ten, None)),
        ("concurrency limit 20", fleet(1, at_once, None, Some(20))),
        ("budget + limit, 1 client", fleet(1, at_once, ten, Some(20))),
        ("budget + limit, 100 clients", fleet(100, at_once, ten, Some(20))),
        ("budget + limit, 1 000 clients", fleet(1_000, at_once, ten, Some(20))),
    ];
    println!("| | good/s during | 60-70 s | 100-115 s | attempts per call | recovery |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, fleet) in rows {
        let book = storm(&fleet);
        let during = book.good_per_second(BROWN_OUT);
        let late = book.good_per_second(100..115);
        let (attempts, recovery) = (book.attempts_per_call(), book.recovery());
        let said = recovery.map_or("never".to_owned(), |seconds| format!("{seconds} s"));
        let middle = book.good_per_second(60..70);
        println!("| {name} | {during:.0} | {middle:.0} | {late:.0} | {attempts:.2} | {said} |");
        let is_plain = name.starts_with("4 attempts");
        assert!(!is_plain || recovery.is_none() && late < 1.0, "{name}: plain retries recover");
        if name.starts_with("budget + limit") {
            assert!(during >= 190.0, "{name}: {during} served during the brown-out");
            assert!(recovery.is_some_and(|seconds| seconds <= 1), "{name}: recovery {said}");
            // 1.10 to two digits: each process has its reserve beside its share.
            assert!(attempts < 1.105, "{name}: {attempts} attempts per call");
        }
    }
}
