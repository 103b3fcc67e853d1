//! `priorities`: critical calls and a flood of prefetches before one server. Source row: H13.

use std::{cell::RefCell, rc::Rc};

use fastrand::Rng;
use outrigger_core::Criticality;
use outrigger_ratelimit::{Asking, ConcurrencyLimit, ConcurrencyLimitPolicy};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep_until},
};

use super::{Latencies, MS, Workers, open_load, share, simulate};
use crate::row::Report;

/// 1 000 calls a second: of the 10 ms of a call half a one is what tokio's timers round up.
const WORKERS: usize = 10;
const MEAN: Duration = Duration::from_micros(9_500);
/// Where an answer is of no use any more.
const PATIENCE: Duration = Duration::from_millis(500);
const BEFORE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    None,
    /// All alike.
    Plain,
    /// This share of the places is the critical calls' while they come.
    Reserve(f64),
    /// A queue, in which critical calls go first.
    Priority,
}

#[derive(Debug)]
pub(crate) struct Seen {
    critical: f64,
    prefetch: f64,
    critical_p99_ms: f64,
    goodput: f64,
}

#[derive(Debug, Default)]
struct Book {
    /// Calls, and those answered in time; prefetches, then critical ones.
    calls: [(u64, u64); 2],
    critical: Vec<Duration>,
}

fn places(limit: Limit) -> ConcurrencyLimit {
    let policy = ConcurrencyLimitPolicy::builder();
    let policy = match limit {
        Limit::None => policy.limit(1_000_000),
        Limit::Plain => policy.limit(20),
        Limit::Reserve(share) => policy.limit(20).critical_reserve(share),
        // No more wait than can be served in time.
        Limit::Priority => policy.limit(20).max_waiting(40).max_wait(50 * MS),
    };
    ConcurrencyLimit::new(policy.build().expect("a valid policy"))
}

/// For ten seconds 300 critical calls and 100 prefetches a second, then twelve times as many
/// prefetches; what is seen is the flood.
pub(crate) fn play(limit: Limit, seconds: u64) -> Seen {
    simulate(async move {
        let workers = Workers::new(WORKERS, MEAN, 5);
        let places = places(limit);
        let book = Rc::new(RefCell::new(Book::default()));
        let begin = Instant::now();
        let flood = begin + BEFORE;
        let until = flood + Duration::from_secs(seconds);
        let load = |is_critical: bool, per_second: f64, from: Instant, seed: u64| {
            let (workers, places, book) = (workers.clone(), places.clone(), Rc::clone(&book));
            spawn_local(async move {
                sleep_until(from).await;
                open_load(per_second, until, &mut Rng::with_seed(seed), |_| {
                    let (workers, places) = (workers.clone(), places.clone());
                    let book = Rc::clone(&book);
                    let mut asking = Asking::default();
                    asking.criticality = match limit {
                        Limit::Reserve(_) | Limit::Priority if !is_critical => {
                            Criticality::Sheddable
                        }
                        _ => Criticality::Critical,
                    };
                    async move {
                        let sent = Instant::now();
                        let kind = usize::from(is_critical);
                        let counts = sent >= flood;
                        book.borrow_mut().calls[kind].0 += u64::from(counts);
                        let Ok(_place) = places.acquire(asking).await else { return };
                        let is_done = workers.work().await.is_ok();
                        if counts && is_done && sent.elapsed() <= PATIENCE {
                            let mut book = book.borrow_mut();
                            book.calls[kind].1 += 1;
                            if is_critical {
                                book.critical.push(sent.elapsed());
                            }
                        }
                    }
                })
                .await;
            })
        };
        let loads = [
            load(true, 300.0, begin, 1),
            load(false, 100.0, begin, 2),
            load(false, 1_100.0, flood, 3),
        ];
        for load in loads {
            load.await.expect("no panic");
        }
        let Book { calls: [(prefetches, fetched), (criticals, served)], critical } = book.take();
        Seen {
            critical: share(served, criticals),
            prefetch: share(fetched, prefetches),
            critical_p99_ms: Latencies::of(critical).quantile(0.99),
            goodput: share(served + fetched, seconds * 1_000),
        }
    })
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("priorities");
    for (name, limit, published) in [
        ("no limit", Limit::None, [0.032, 0.031, 487.0]),
        ("limit 20, all alike", Limit::Plain, [0.664, 0.667, 56.0]),
        ("limit 20, 30 % kept for critical", Limit::Reserve(0.3), [0.996, 0.58, 55.0]),
        ("limit 20, 40 wait, critical first", Limit::Priority, [1.0, 0.55, 49.0]),
    ] {
        let seen = play(limit, if quick { 5 } else { 30 });
        report.line(
            name,
            "outrigger",
            &[
                ("critical_served", seen.critical, "1"),
                ("prefetch_served", seen.prefetch, "1"),
                ("critical_p99_ms", seen.critical_p99_ms, "ms"),
                ("goodput", seen.goodput, "1"),
                ("published_critical", published[0], "1"),
                ("published_prefetch", published[1], "1"),
                ("published_p99_ms", published[2], "ms"),
            ],
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_calls_are_served_and_no_capacity_is_lost() {
        let [none, plain, priority] =
            [Limit::None, Limit::Plain, Limit::Priority].map(|limit| play(limit, 15));
        assert!(none.critical < 0.2, "{none:?}");
        assert!(plain.critical < 0.9, "{plain:?}");
        assert!(priority.critical >= 0.999 && priority.goodput >= 0.95, "{priority:?}");
    }
}
