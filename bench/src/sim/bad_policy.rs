//! `bad_policy`: policies that should not have been pushed, while calls run. Source row: R24.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use fastrand::Rng;
use outrigger::{Format, Governance, PolicySet};
use outrigger_core::MethodRef;
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep, sleep_until},
};
use tower::{BoxError, Layer, ServiceExt, service_fn};

use super::{MS, Workers, open_load, share, simulate};
use crate::row::Report;

/// `Read` is well but for three calls of a hundred, `Report` is dead, `Import` has a hundred tokens
/// an hour.
const GOOD: &str = "
defaults: {timeout: 1s, attempt_timeout: 200ms}
services:
  shop.Cart:
    retry_budget: 10%
    methods:
      Read: {retry: {mode: failure, idempotent: true, backoff: none}}
      Report: {circuit_breaker: {consecutive_failures: 5, cool_down: 1h, cool_down_jitter: 0}}
      Import: {rate_limit: {rate: 100, burst: 100, period: 1h}}
";

/// What is pushed, and what a client makes of it that takes what it can read.
struct Push {
    name: &'static str,
    file: String,
    readable: String,
}

fn pushes() -> [Push; 7] {
    let whole = |name, file: String| Push { name, readable: file.clone(), file };
    let harmful = |from, to| GOOD.replace(from, to);
    let limit_of_1 = harmful("{retry:", "{concurrency_limit: 1, retry:");
    let impossible = harmful("consecutive_failures: 5", "error_rate: {rate: 1.5}");
    let circuit = "circuit_breaker: {consecutive_failures: 5, cool_down: 1h, cool_down_jitter: 0}";
    [
        whole("as it was", GOOD.to_owned()),
        Push {
            name: "a file that cannot be read",
            file: GOOD.replace("services:", "services: ["),
            readable: "defaults: {}".to_owned(),
        },
        Push { name: "a policy that cannot be", file: impossible, readable: harmful(circuit, "") },
        whole("attempts of 1 ms", harmful("attempt_timeout: 200ms", "attempt_timeout: 1ms")),
        whole("rolled back", GOOD.to_owned()),
        whole("a limit of 1", limit_of_1),
        whole("rolled back again", GOOD.to_owned()),
    ]
}

type Call = &'static str;

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn name(call: &Call) -> Option<MethodRef<'_>> {
    Some(MethodRef { service: "shop.Cart", method: call })
}

/// What happened after a push and before the next.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    is_refused: bool,
    read: u64,
    read_well: u64,
    /// Attempts that came to the method that is dead.
    at_report: u64,
    imported: u64,
    /// Calls that are not over when all should be.
    unfinished: u64,
}

/// Who takes a push.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    /// Ours: a whole set, or none of it.
    Governed,
    /// What can be read, and all state begins anew.
    Naive,
}

fn set(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).expect("a valid set")
}

impl Client {
    /// Says whether it refused.
    fn take(self, governance: &RefCell<Governance>, push: &Push) -> bool {
        match self {
            Self::Governed => {
                let governance = governance.borrow();
                governance.replace_text("policies.yaml", &push.file, Format::Yaml).is_err()
            }
            Self::Naive => {
                governance.replace(Governance::new(set(&push.readable)));
                false
            }
        }
    }
}

/// The parts of a run, and which of them is now.
#[derive(Clone, Default)]
struct Book {
    parts: Rc<RefCell<Vec<Seen>>>,
    now: Rc<Cell<usize>>,
}

impl Book {
    fn note(&self, part: usize, note: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.parts.borrow_mut().get_mut(part) {
            note(seen);
        }
    }
}

fn play(client: Client, seconds: u64) -> Vec<Seen> {
    simulate(async move {
        let pushes = pushes();
        let book = Book::default();
        book.parts.borrow_mut().resize(pushes.len(), Seen::default());
        let governance = Rc::new(RefCell::new(Governance::new(set(GOOD))));
        let begin = Instant::now();
        let lasts = Duration::from_secs(seconds);
        let until = begin + lasts * u32::try_from(pushes.len()).unwrap_or(u32::MAX);
        let loads = [("Read", 300.0, 1), ("Report", 20.0, 2), ("Import", 20.0, 3)];
        let server = server(&book);
        let loads = loads.map(|(method, per_second, seed)| {
            let (server, book, governance) = (server.clone(), book.clone(), Rc::clone(&governance));
            spawn_local(async move {
                open_load(per_second, until, &mut Rng::with_seed(seed), |_| {
                    let client = governance.borrow().client(name).layer(server.clone());
                    let (book, part) = (book.clone(), book.now.get());
                    let is_read = u64::from(method == "Read");
                    book.note(part, |seen| {
                        (seen.read, seen.unfinished) = (seen.read + is_read, seen.unfinished + 1);
                    });
                    async move {
                        let is_well = client.oneshot(method).await.is_ok();
                        book.note(part, |seen| {
                            seen.unfinished -= 1;
                            seen.read_well += is_read * u64::from(is_well);
                            seen.imported += u64::from(method == "Import" && is_well);
                        });
                    }
                })
                .await;
            })
        });
        for (part, push) in pushes.iter().enumerate().skip(1) {
            sleep_until(begin + lasts * u32::try_from(part).unwrap_or(u32::MAX)).await;
            let is_refused = client.take(&governance, push);
            book.now.set(part);
            book.note(part, |seen| seen.is_refused = is_refused);
        }
        for load in loads {
            load.await.expect("no panic");
        }
        book.parts.take()
    })
}

fn server(
    book: &Book,
) -> impl tower::Service<Call, Response = (), Error = BoxError, Future: 'static> + Clone + 'static {
    let (book, workers) = (book.clone(), Workers::new(20, 10 * MS, 4));
    let rng = Rc::new(RefCell::new(Rng::with_seed(6)));
    service_fn(move |call: Call| {
        let is_dead = call == "Report";
        book.note(book.now.get(), |seen| seen.at_report += u64::from(is_dead));
        let fails = rng.borrow_mut().f64() < 0.03;
        let workers = workers.clone();
        async move {
            if is_dead {
                sleep(60_000 * MS).await;
            }
            workers.work().await?;
            if fails { Err(BoxError::from("failed")) } else { Ok(()) }
        }
    })
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("bad_policy");
    let seconds = if quick { 5 } else { 30 };
    let played = [(Client::Governed, "outrigger"), (Client::Naive, "takes what it gets")]
        .map(|(client, system)| (system, play(client, seconds)));
    for (part, push) in pushes().iter().enumerate() {
        for (system, seen) in &played {
            let seen = seen[part];
            report.line(
                push.name,
                system,
                &[
                    ("set_refused", f64::from(u8::from(seen.is_refused)), "1"),
                    ("read_served", share(seen.read_well, seen.read), "1"),
                    ("calls_to_the_dead_method_per_s", share(seen.at_report, seconds), "calls/s"),
                    ("imported_of_100_an_hour", share(seen.imported, 1), "calls"),
                    ("calls_lost", share(seen.unfinished, 1), "calls"),
                ],
            );
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_set_is_refused_whole_and_a_harmful_one_hurts_until_it_is_rolled_back() {
        let seen = play(Client::Governed, 10);
        let refused: Vec<bool> = seen.iter().map(|seen| seen.is_refused).collect();
        assert_eq!(refused, [false, true, true, false, false, false, false]);
        for (part, seen) in seen.iter().enumerate() {
            let served = share(seen.read_well, seen.read);
            let is_harmful = part == 3 || part == 5;
            assert_eq!(served < 0.9, is_harmful, "part {part}: {seen:?}");
            assert!(is_harmful || served >= 0.995, "part {part}: {seen:?}");
            assert_eq!(seen.unfinished, 0, "part {part}");
            // The circuit opened in the first part and stays so; the bucket stays empty.
            assert!(
                part == 0 || (seen.at_report, seen.imported) == (0, 0),
                "part {part}: {seen:?}"
            );
        }
        let naive = play(Client::Naive, 10);
        // Where attempts may last, what is not kept is spent anew.
        let anew = [1, 2, 4, 6].map(|part| naive[part]);
        assert!(anew.iter().all(|seen| seen.imported > 50 && seen.at_report > 0), "{anew:?}");
    }
}
