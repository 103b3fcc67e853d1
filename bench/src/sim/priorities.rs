//! `priorities`: critical calls and a flood of prefetches before one server. Source row: H13.

use std::{cell::RefCell, rc::Rc};

use fastrand::Rng;
use outrigger_core::Criticality;
use outrigger_ratelimit::{Asking, ConcurrencyLimit, ConcurrencyLimitPolicy};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant},
};

use super::{Latencies, MS, Workers, open_load, share, simulate};
use crate::row::Report;

const WORKERS: usize = 20;
/// 1 000 calls a second.
const MEAN: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    None,
    /// All alike.
    Plain,
    /// Critical calls first.
    Priority,
}

#[derive(Debug)]
pub(crate) struct Seen {
    critical: f64,
    prefetch: f64,
    critical_p99_ms: f64,
    goodput: f64,
}

pub(crate) fn play(limit: Limit, seconds: u64) -> Seen {
    simulate(async move {
        let workers = Workers::new(WORKERS, MEAN, 5);
        let policy = match limit {
            Limit::None => ConcurrencyLimitPolicy::builder().limit(1_000_000),
            _ => ConcurrencyLimitPolicy::builder().limit(20).max_waiting(60).max_wait(500 * MS),
        };
        let places = ConcurrencyLimit::new(policy.build().expect("a valid policy"));
        let book = Rc::new(RefCell::new([(0_u64, 0_u64); 2]));
        let latencies = Rc::new(RefCell::new(Vec::new()));
        let begin = Instant::now();
        let until = begin + Duration::from_secs(seconds);
        let load = |is_critical: bool, per_second: f64, seed: u64| {
            let (workers, places) = (workers.clone(), places.clone());
            let (book, latencies) = (Rc::clone(&book), Rc::clone(&latencies));
            spawn_local(async move {
                open_load(per_second, until, &mut Rng::with_seed(seed), |_| {
                    let (workers, places) = (workers.clone(), places.clone());
                    let (book, latencies) = (Rc::clone(&book), Rc::clone(&latencies));
                    let mut asking = Asking::default();
                    asking.criticality = match limit {
                        Limit::Priority if !is_critical => Criticality::Sheddable,
                        _ => Criticality::Critical,
                    };
                    async move {
                        let sent = Instant::now();
                        let kind = usize::from(is_critical);
                        book.borrow_mut()[kind].0 += 1;
                        let Ok(_place) = places.acquire(asking).await else { return };
                        let is_done = workers.work().await.is_ok();
                        // The caller gives up after half a second.
                        if is_done && sent.elapsed() <= 500 * MS {
                            book.borrow_mut()[kind].1 += 1;
                            if is_critical {
                                latencies.borrow_mut().push(sent.elapsed());
                            }
                        }
                    }
                })
                .await;
            })
        };
        let critical = load(true, 300.0, 1);
        let prefetch = load(false, 1_200.0, 2);
        critical.await.expect("no panic");
        prefetch.await.expect("no panic");
        let [(prefetches, fetched), (criticals, served)] = *book.borrow();
        Seen {
            critical: share(served, criticals),
            prefetch: share(fetched, prefetches),
            critical_p99_ms: Latencies::of(latencies.take()).quantile(0.99),
            goodput: share(served + fetched, seconds * 1_000),
        }
    })
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = Report::new("priorities");
    report.note("A server for 1 000 calls a second gets 300 critical ones and 1 200 prefetches;");
    report.note("an answer after 500 ms is of no use.");
    for (name, limit) in [
        ("no limit", Limit::None),
        ("limit 20, 60 wait, all alike", Limit::Plain),
        ("the same, critical first", Limit::Priority),
    ] {
        let seen = play(limit, if quick { 10 } else { 60 });
        report.line(
            name,
            "outrigger",
            &[
                ("critical_served", seen.critical, "1"),
                ("prefetch_served", seen.prefetch, "1"),
                ("critical_p99_ms", seen.critical_p99_ms, "ms"),
                ("goodput", seen.goodput, "1"),
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
            [Limit::None, Limit::Plain, Limit::Priority].map(|limit| play(limit, 20));
        assert!(none.critical < 0.2, "{none:?}");
        assert!(plain.critical < 0.9, "{plain:?}");
        assert!(priority.critical >= 0.999 && priority.goodput >= 0.95, "{priority:?}");
    }
}
