//! `sporadic`: ten thousand clients that call once a minute, and a server that cannot serve them
//! all. Source row: R26.

use std::{cell::Cell, rc::Rc};

use fastrand::Rng;
use outrigger_ratelimit::{
    ClientThrottle, ClientThrottleLayer, ClientThrottlePolicy, ConcurrencyLimitLayer,
    ConcurrencyLimitPolicy,
};
use outrigger_retry::{
    Backoff, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy, TimeoutLayer,
};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep_until},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use super::{MS, Workers, share, simulate};
use crate::row::Report;

/// 100 calls a second; the clients make 167.
const MEAN: Duration = Duration::from_millis(10);
const CAPACITY: u64 = 100;
const MINUTE: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug)]
struct Governed {
    name: &'static str,
    throttle: bool,
    budget: bool,
    limit: bool,
}

const fn rows() -> [Governed; 5] {
    const fn row(name: &'static str, throttle: bool, budget: bool, limit: bool) -> Governed {
        Governed { name, throttle, budget, limit }
    }
    [
        row("nothing", false, false, false),
        row("a throttle in each client", true, false, false),
        row("a retry budget in each client", false, true, false),
        row("a limit in the server", false, false, true),
        row("all three", true, true, true),
    ]
}

#[derive(Clone, Debug, Default)]
struct Book {
    calls: Rc<Cell<u64>>,
    attempts: Rc<Cell<u64>>,
    good: Rc<Cell<u64>>,
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// What the clients saw in so many minutes.
fn play(governed: Governed, clients: u64, minutes: u32) -> Book {
    simulate(async move {
        let book = Book::default();
        // A fleet of a tenth has a server of a tenth.
        let mean = MEAN.mul_f64(10_000.0 / f64::from(u32::try_from(clients).unwrap_or(u32::MAX)));
        let workers = Workers::new(1, mean, 3);
        let limit = ConcurrencyLimitPolicy::builder().limit(2).max_waiting(20);
        let limit = limit.max_wait(500 * MS).build().expect("a valid policy");
        let limit = governed.limit.then(|| ConcurrencyLimitLayer::new(limit));
        let server =
            ServiceBuilder::new().option_layer(limit).service(service_fn(move |()| workers.work()));
        let attempts = Rc::clone(&book.attempts);
        // The server works on when a caller has given up.
        let server = service_fn(move |()| {
            add(&attempts);
            let answer = spawn_local(server.clone().oneshot(()));
            async move { answer.await?.map_err(|_| BoxError::from("busy")) }
        });
        let retry = RetryPolicy::failure().idempotent(true).retries(3).backoff(Backoff::None);
        let retry = retry.build().expect("a valid policy");
        let begin = Instant::now();
        let client = |seed: u64| {
            let throttle = governed.throttle.then(|| {
                let throttle = ClientThrottle::builder(ClientThrottlePolicy::default());
                ClientThrottleLayer::from_handle(throttle.seed(seed).build())
            });
            let budget = if governed.budget {
                RetryBudget::new(RetryBudgetPolicy::default())
            } else {
                RetryBudget::unlimited()
            };
            let service = ServiceBuilder::new()
                .layer(RetryLayer::new(retry).budget(budget).seed(seed))
                .option_layer(throttle)
                .layer(TimeoutLayer::after(2_000 * MS))
                .service(server.clone());
            let book = book.clone();
            let first = begin + MINUTE.mul_f64(Rng::with_seed(seed).f64());
            spawn_local(async move {
                for minute in 0..minutes {
                    sleep_until(first + minute * MINUTE).await;
                    add(&book.calls);
                    if service.clone().oneshot(()).await.is_ok() {
                        add(&book.good);
                    }
                }
            })
        };
        for client in (0..clients).map(client).collect::<Vec<_>>() {
            client.await.expect("no panic");
        }
        book
    })
}

/// Calls answered, as a share of what the server can do.
fn goodput(book: &Book, clients: u64, minutes: u32) -> f64 {
    let capacity = CAPACITY * clients / 10_000 * 60 * u64::from(minutes);
    share(book.good.get(), capacity)
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("sporadic");
    let (clients, minutes) = if quick { (1_000, 2) } else { (10_000, 5) };
    for row in rows() {
        let book = play(row, clients, minutes);
        report.line(
            row.name,
            "outrigger",
            &[
                ("goodput", goodput(&book, clients, minutes), "1"),
                ("served", share(book.good.get(), book.calls.get()), "1"),
                ("attempts_per_call", share(book.attempts.get(), book.calls.get()), "1"),
            ],
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_see_too_little_are_shed_by_the_server_without_loss_of_capacity() {
        let (clients, minutes) = (1_000, 3);
        for row in rows() {
            let book = play(row, clients, minutes);
            let goodput = goodput(&book, clients, minutes);
            assert_eq!(goodput >= 0.95, row.limit, "{}: {goodput}", row.name);
        }
    }
}
