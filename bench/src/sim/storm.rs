//! `storm`: a server loses four fifths of its capacity for ten seconds, and plain retries keep it
//! down for ever after. Source row: H1, workload MS-1.

use std::{cell::RefCell, ops::Range, rc::Rc};

use fastrand::Rng;
use outrigger_ratelimit::{ConcurrencyLimitLayer, ConcurrencyLimitPolicy};
use outrigger_retry::{
    Backoff, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy, TimeoutLayer,
};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use super::{MS, Workers, open_load, share, simulate};
use crate::row::Report;

const PER_SECOND: f64 = 700.0;
const WORKERS: usize = 10;
const BROWN_OUT: Range<usize> = 30..40;

/// What happened in each second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Second {
    pub(crate) calls: u64,
    pub(crate) attempts: u64,
    pub(crate) good: u64,
}

/// How a fleet of clients calls the server.
#[derive(Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) name: &'static str,
    clients: usize,
    retries: u32,
    budget: Option<RetryBudgetPolicy>,
    limit: Option<u32>,
}

pub(crate) fn fleets() -> Vec<Fleet> {
    let ten = Some(RetryBudgetPolicy::default());
    let fleet =
        |name, clients, retries, budget, limit| Fleet { name, clients, retries, budget, limit };
    vec![
        fleet("no retries", 1, 0, None, None),
        fleet("3 plain retries", 1, 3, None, None),
        fleet("3 retries, budget 10 %", 1, 3, ten, None),
        fleet("concurrency limit 20", 1, 3, None, Some(20)),
        fleet("budget and limit, 1 client", 1, 3, ten, Some(20)),
        fleet("budget and limit, 100 clients", 100, 3, ten, Some(20)),
        fleet("budget and limit, 1 000 clients", 1_000, 3, ten, Some(20)),
    ]
}

type Book = Rc<RefCell<Vec<Second>>>;

fn note(book: &Book, begin: Instant, note: impl FnOnce(&mut Second)) {
    let second = usize::try_from(begin.elapsed().as_secs()).unwrap_or(usize::MAX);
    if let Some(second) = book.borrow_mut().get_mut(second) {
        note(second);
    }
}

pub(crate) fn play(fleet: Fleet, seconds: usize) -> Vec<Second> {
    simulate(async move {
        let book: Book = Rc::new(RefCell::new(vec![Second::default(); seconds]));
        let begin = Instant::now();
        let workers = Workers::new(WORKERS, 10 * MS, 9);
        let browned = workers.clone();
        spawn_local(async move {
            tokio::time::sleep_until(begin + Duration::from_secs(BROWN_OUT.start as u64)).await;
            browned.take(50 * MS);
            tokio::time::sleep_until(begin + Duration::from_secs(BROWN_OUT.end as u64)).await;
            browned.take(10 * MS);
        });
        let clients = clients(fleet, &workers, &book, begin);
        let until = begin + Duration::from_secs(seconds as u64);
        open_load(PER_SECOND, until, &mut Rng::with_seed(1), |rng| {
            note(&book, begin, |second| second.calls += 1);
            let (client, book) = (clients[rng.usize(..clients.len())].clone(), Rc::clone(&book));
            async move {
                if client.oneshot(()).await.is_ok() {
                    note(&book, begin, |second| second.good += 1);
                }
            }
        })
        .await;
        book.take()
    })
}

fn clients(
    fleet: Fleet,
    workers: &Workers,
    book: &Book,
    begin: Instant,
) -> Vec<impl Service<(), Response = (), Error = BoxError, Future: 'static> + Clone + 'static> {
    let work = workers.clone();
    let limit = ConcurrencyLimitPolicy::builder().limit(fleet.limit.unwrap_or(1_000_000));
    let limit = ConcurrencyLimitLayer::new(limit.build().expect("a valid policy"));
    let server = limit.layer(service_fn(move |()| work.work()));
    let client = |number: usize| {
        let budget = fleet.budget.map_or_else(RetryBudget::unlimited, RetryBudget::new);
        let policy = match fleet.retries {
            0 => RetryPolicy::off(),
            retries => RetryPolicy::failure()
                .idempotent(true)
                .retries(retries)
                .backoff(Backoff::None)
                .build()
                .expect("a valid policy"),
        };
        let (server, book) = (server.clone(), Rc::clone(book));
        let attempts = service_fn(move |()| {
            note(&book, begin, |second| second.attempts += 1);
            // The server does not see that a caller gives up, and says no more than that it is busy.
            let answer = spawn_local(server.clone().oneshot(()));
            async move { answer.await?.map_err(|_| BoxError::from("busy")) }
        });
        let timeout = TimeoutLayer::after(500 * MS).layer(attempts);
        RetryLayer::new(policy).budget(budget).seed(number as u64).layer(timeout)
    };
    (0..fleet.clients).map(client).collect()
}

/// Calls answered in these seconds, in each.
fn good(book: &[Second], seconds: Range<usize>) -> f64 {
    let count = seconds.len() as u64;
    share(book[seconds].iter().map(|second| second.good).sum(), count)
}

fn attempts_per_call(book: &[Second]) -> f64 {
    let sum = |of: fn(&Second) -> u64| book[30..50].iter().map(of).sum();
    share(sum(|second| second.attempts), sum(|second| second.calls))
}

/// Seconds after the brown-out until three in a row serve 95 % of their calls.
fn recovery(book: &[Second]) -> Option<u32> {
    let is_good = |second: &Second| share(second.good, second.calls) >= 0.95;
    let after = book[BROWN_OUT.end..].windows(3).position(|three| three.iter().all(is_good));
    after.and_then(|seconds| u32::try_from(seconds).ok())
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = Report::new("storm");
    report.note("10 workers of 10 ms, 700 calls a second; from 30 s to 40 s each call takes five");
    report
        .note("times as long. Attempts time out after 500 ms. No recovery: never within the run.");
    let seconds = if quick { 70 } else { 120 };
    for fleet in fleets() {
        let book = play(fleet, seconds);
        report.line(
            fleet.name,
            "outrigger",
            &[
                ("good_per_s_during", good(&book, BROWN_OUT), "calls/s"),
                ("good_per_s_after", good(&book, seconds - 15..seconds - 5), "calls/s"),
                ("attempts_per_call", attempts_per_call(&book), "1"),
                ("recovery_s", recovery(&book).map_or(f64::NAN, f64::from), "s"),
            ],
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_retries_never_recover_and_a_budget_with_a_limit_does_at_once() {
        for fleet in fleets() {
            let book = play(fleet, 120);
            let (during, attempts) = (good(&book, BROWN_OUT), attempts_per_call(&book));
            if fleet.name == "3 plain retries" {
                assert_eq!(recovery(&book), None, "{}", fleet.name);
            }
            if fleet.budget.is_some() && fleet.limit.is_some() {
                assert!(recovery(&book).is_some_and(|seconds| seconds <= 1), "{}", fleet.name);
                assert!(during >= 190.0 && attempts < 1.105, "{}: {during} {attempts}", fleet.name);
            }
        }
    }
}
