//! `cascade`: three tiers, each asks the next; the last loses half of its capacity for ten seconds.

use std::{cell::RefCell, rc::Rc};

use fastrand::Rng;
use outrigger_core::Rejection;
use outrigger_ratelimit::{ConcurrencyLimitLayer, ConcurrencyLimitPolicy};
use outrigger_retry::{
    Backoff, Chain, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy, TimeoutLayer,
};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep_until},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use super::{MS, Workers, open_load, share, simulate};
use crate::row::Report;

const PER_SECOND: f64 = 700.0;
const ILL: std::ops::Range<usize> = 15..25;
const SECONDS: usize = 50;

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    calls: u64,
    good: u64,
    at_leaf: u64,
}

type Book = Rc<RefCell<Vec<Second>>>;

fn note(book: &Book, begin: Instant, note: impl FnOnce(&mut Second)) {
    let second = usize::try_from(begin.elapsed().as_secs()).unwrap_or(usize::MAX);
    if let Some(second) = book.borrow_mut().get_mut(second) {
        note(second);
    }
}

/// A caller of `inner`: two retries, each attempt of at most half a second.
fn tier<S>(
    inner: S,
    is_governed: bool,
) -> impl Service<(), Response = (), Error = BoxError, Future: 'static> + Clone + 'static
where
    S: Service<(), Response = (), Error = BoxError, Future: 'static> + Clone + 'static,
{
    let policy = RetryPolicy::failure().idempotent(true).retries(2).backoff(Backoff::None);
    let budget = if is_governed {
        RetryBudget::new(RetryBudgetPolicy::default())
    } else {
        RetryBudget::unlimited()
    };
    let attempts = service_fn(move |()| {
        let inner = inner.clone();
        // Whoever is asked by a retry does not retry further.
        let is_retry = is_governed && Chain::current().is_retry();
        let answer = spawn_local(Chain::default().with_retry(is_retry).scope(inner.oneshot(())));
        async move { answer.await? }
    });
    let timeout = TimeoutLayer::after(500 * MS).layer(attempts);
    RetryLayer::new(policy.build().expect("a valid policy")).budget(budget).layer(timeout)
}

fn play(is_governed: bool) -> Vec<Second> {
    simulate(async move {
        let book: Book = Rc::new(RefCell::new(vec![Second::default(); SECONDS]));
        let begin = Instant::now();
        let workers = Workers::new(10, 10 * MS, 4);
        let ill = workers.clone();
        spawn_local(async move {
            sleep_until(begin + Duration::from_secs(ILL.start as u64)).await;
            ill.take(20 * MS);
            sleep_until(begin + Duration::from_secs(ILL.end as u64)).await;
            ill.take(10 * MS);
        });
        let noted = Rc::clone(&book);
        let work = service_fn(move |()| {
            note(&noted, begin, |second| second.at_leaf += 1);
            workers.work()
        });
        let limit = if is_governed { 20 } else { 1_000_000 };
        let limit = ConcurrencyLimitPolicy::builder().limit(limit).build().expect("valid");
        let leaf = ConcurrencyLimitLayer::new(limit).layer(work);
        let leaf = service_fn(move |()| {
            let answer = leaf.clone().oneshot(());
            async move {
                let is_refusal = |error: &BoxError| Rejection::find(&**error).is_some();
                answer.await.map_err(|error: BoxError| {
                    if is_refusal(&error) { BoxError::from("busy") } else { error }
                })
            }
        });
        let front = tier(tier(leaf, is_governed), is_governed);
        let until = begin + Duration::from_secs(SECONDS as u64);
        open_load(PER_SECOND, until, &mut Rng::with_seed(8), |_| {
            note(&book, begin, |second| second.calls += 1);
            let (front, book) = (front.clone(), Rc::clone(&book));
            async move {
                if front.oneshot(()).await.is_ok() {
                    note(&book, begin, |second| second.good += 1);
                }
            }
        })
        .await;
        book.take()
    })
}

fn sum(book: &[Second], seconds: std::ops::Range<usize>, of: fn(&Second) -> u64) -> u64 {
    book[seconds].iter().map(of).sum()
}

fn good(book: &[Second], seconds: std::ops::Range<usize>) -> f64 {
    share(sum(book, seconds.clone(), |s| s.good), sum(book, seconds, |s| s.calls))
}

pub(crate) fn run(_quick: bool) -> Report {
    let mut report = Report::new("cascade");
    report.note("700 calls a second through two tiers that retry twice each; the last tier can do");
    report.note("1 000, and from 15 s to 25 s half of that. Attempts time out after 500 ms.");
    for (name, is_governed) in [
        ("plain retries at each tier", false),
        ("budgets, chain stop, limit 20 at the last tier", true),
    ] {
        let book = play(is_governed);
        let during = sum(&book, ILL, |s| s.calls);
        report.line(
            name,
            "outrigger",
            &[
                ("served_during", good(&book, ILL), "1"),
                ("served_5_to_15_s_after", good(&book, 30..40), "1"),
                ("begun_at_last_tier_per_call", share(sum(&book, ILL, |s| s.at_leaf), during), "1"),
            ],
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_at_half_capacity_does_its_half_and_recovers() {
        let (with, without) = (play(true), play(false));
        assert!(good(&with, ILL) >= 0.6, "{}", good(&with, ILL));
        assert!(good(&with, 30..40) >= 0.99, "{}", good(&with, 30..40));
        assert!(good(&without, 30..40) < 0.5, "{}", good(&without, 30..40));
    }
}
