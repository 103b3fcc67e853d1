//! `cascade`: three tiers, each asks the next; the last loses half of its capacity for ten seconds.
//! Source rows: R18, H20.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

use fastrand::Rng;
use outrigger_core::{AttemptContext, CarryContext, Criticality, Rejection};
use outrigger_ratelimit::{ConcurrencyLimitLayer, ConcurrencyLimitPolicy};
use outrigger_retry::{
    Backoff, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy, TimeoutLayer,
};
use tokio::{
    task::spawn_local,
    time::{Duration, Instant, sleep_until},
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{MS, Workers, open_load, share, simulate};
use crate::row::Report;

const PER_SECOND: f64 = 700.0;
/// Of these calls.
const CRITICAL: f64 = 0.3;
const ILL: Range<usize> = 15..25;
const SECONDS: usize = 50;

/// What the tiers have.
#[derive(Clone, Copy, Debug, Default)]
struct Governed {
    name: &'static str,
    budget: bool,
    chain_stop: bool,
    limit: bool,
}

const fn rows() -> [Governed; 4] {
    let nothing = Governed {
        name: "plain retries at each tier",
        budget: false,
        chain_stop: false,
        limit: false,
    };
    let chain = Governed { name: "and chain stop", chain_stop: true, ..nothing };
    let budget = Governed { name: "and budgets", budget: true, ..chain };
    let limit = Governed { name: "and a limit of 20 with a short queue", limit: true, ..budget };
    [nothing, chain, budget, limit]
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    calls: u64,
    good: u64,
    critical: u64,
    critical_good: u64,
    /// Attempts that reached the last tier, that it began, and that it did for nobody.
    at_leaf: u64,
    begun: u64,
    in_vain: u64,
}

/// A call of a user, as it goes from tier to tier.
#[derive(Clone, Debug)]
struct Call {
    criticality: Criticality,
    is_over: Rc<Cell<bool>>,
    context: AttemptContext,
}

/// Finds the context in the call.
#[derive(Clone, Copy, Debug)]
struct InCall;

impl CarryContext<Call> for InCall {
    fn context<'a>(&self, call: &'a Call) -> Option<&'a AttemptContext> {
        Some(&call.context)
    }

    fn set_context(&self, call: &mut Call, context: AttemptContext) {
        call.context = context;
    }
}

#[derive(Clone)]
struct Book {
    begin: Instant,
    seconds: Rc<RefCell<Vec<Second>>>,
}

impl Book {
    fn note(&self, note: impl FnOnce(&mut Second)) {
        let second = usize::try_from(self.begin.elapsed().as_secs()).unwrap_or(usize::MAX);
        if let Some(second) = self.seconds.borrow_mut().get_mut(second) {
            note(second);
        }
    }
}

/// A caller of `inner`: two retries, each attempt of at most half a second.
fn tier<S>(
    inner: S,
    governed: Governed,
) -> impl Service<Call, Response = (), Error = BoxError, Future: 'static> + Clone + 'static
where
    S: Service<Call, Response = (), Error = BoxError, Future: 'static> + Clone + 'static,
{
    let policy = RetryPolicy::failure().idempotent(true).retries(2).backoff(Backoff::None);
    let budget = if governed.budget {
        RetryBudget::new(RetryBudgetPolicy::default())
    } else {
        RetryBudget::unlimited()
    };
    let attempts = service_fn(move |mut call: Call| {
        // What a transport does: whoever is asked by a retry is told so, and does not retry.
        let mut context = AttemptContext::default();
        context.caller_is_retry = governed.chain_stop && call.context.is_retry();
        call.context = context;
        let answer = spawn_local(inner.clone().oneshot(call));
        async move { answer.await? }
    });
    let timeout = TimeoutLayer::after(500 * MS).layer(attempts);
    let retry = RetryLayer::new(policy.build().expect("a valid policy"));
    retry.budget(budget).carry(InCall).layer(timeout)
}

/// The last tier, and what it does for nobody.
fn leaf(
    governed: Governed,
    workers: &Workers,
    book: &Book,
) -> impl Service<Call, Response = (), Error = BoxError, Future: 'static> + Clone + 'static {
    let (noted, workers) = (book.clone(), workers.clone());
    let work = service_fn(move |call: Call| {
        noted.note(|second| second.begun += 1);
        let (noted, work) = (noted.clone(), workers.work());
        // It works on when its caller has given up.
        let work = spawn_local(async move {
            let done = work.await;
            noted.note(|second| second.in_vain += u64::from(call.is_over.get()));
            done
        });
        async move { work.await? }
    });
    let limit = ConcurrencyLimitPolicy::builder().limit(20).max_waiting(20).max_wait(100 * MS);
    let limit = limit.build().expect("a valid policy");
    let limit = governed.limit.then(|| {
        ConcurrencyLimitLayer::new(limit).criticality(|call: &Call| Some(call.criticality))
    });
    let limited = ServiceBuilder::new().option_layer(limit).service(work);
    let book = book.clone();
    service_fn(move |call: Call| {
        book.note(|second| second.at_leaf += 1);
        let answer = limited.clone().oneshot(call);
        async move {
            let is_refusal = |error: &BoxError| Rejection::find(&**error).is_some();
            answer.await.map_err(
                |error: BoxError| {
                    if is_refusal(&error) { BoxError::from("busy") } else { error }
                },
            )
        }
    })
}

fn play(governed: Governed) -> Vec<Second> {
    simulate(async move {
        let seconds = Rc::new(RefCell::new(vec![Second::default(); SECONDS]));
        let begin = Instant::now();
        let book = Book { begin, seconds: Rc::clone(&seconds) };
        let workers = Workers::new(10, 10 * MS, 4);
        let ill = workers.clone();
        spawn_local(async move {
            sleep_until(begin + Duration::from_secs(ILL.start as u64)).await;
            ill.take(20 * MS);
            sleep_until(begin + Duration::from_secs(ILL.end as u64)).await;
            ill.take(10 * MS);
        });
        let front = tier(tier(leaf(governed, &workers, &book), governed), governed);
        let until = begin + Duration::from_secs(SECONDS as u64);
        open_load(PER_SECOND, until, &mut Rng::with_seed(8), |rng| {
            let is_critical = rng.f64() < CRITICAL;
            book.note(|second| {
                second.calls += 1;
                second.critical += u64::from(is_critical);
            });
            let criticality =
                if is_critical { Criticality::Critical } else { Criticality::Sheddable };
            let is_over = Rc::new(Cell::new(false));
            let context = AttemptContext::default();
            let call = Call { criticality, is_over: Rc::clone(&is_over), context };
            let (front, book) = (front.clone(), book.clone());
            async move {
                let is_good = front.oneshot(call).await.is_ok();
                is_over.set(true);
                book.note(|second| {
                    second.good += u64::from(is_good);
                    second.critical_good += u64::from(is_good && is_critical);
                });
            }
        })
        .await;
        seconds.take()
    })
}

fn ratio(
    book: &[Second],
    seconds: Range<usize>,
    part: fn(&Second) -> u64,
    of: fn(&Second) -> u64,
) -> f64 {
    let sum = |of: fn(&Second) -> u64| book[seconds.clone()].iter().map(of).sum();
    share(sum(part), sum(of))
}

fn good(book: &[Second], seconds: Range<usize>) -> f64 {
    ratio(book, seconds, |s| s.good, |s| s.calls)
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("cascade");
    for governed in rows().into_iter().skip(if quick { 2 } else { 0 }) {
        let book = play(governed);
        let during = |part, of| ratio(&book, ILL, part, of);
        report.line(
            governed.name,
            "outrigger",
            &[
                ("served_during", during(|s| s.good, |s| s.calls), "1"),
                ("critical_served_during", during(|s| s.critical_good, |s| s.critical), "1"),
                ("served_5_to_15_s_after", good(&book, 30..40), "1"),
                ("sent_to_last_tier_per_call", during(|s| s.at_leaf, |s| s.calls), "1"),
                ("begun_at_last_tier_per_call", during(|s| s.begun, |s| s.calls), "1"),
                ("done_for_nobody", during(|s| s.in_vain, |s| s.begun), "1"),
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
        let [nothing, chain, _, all] = rows();
        let (without, chain, with) = (play(nothing), play(chain), play(all));
        assert!(good(&with, ILL) >= 0.6, "{}", good(&with, ILL));
        assert!(good(&with, 30..40) >= 0.99, "{}", good(&with, 30..40));
        assert!(good(&without, 30..40) < 0.5, "{}", good(&without, 30..40));
        let critical = ratio(&with, ILL, |s| s.critical_good, |s| s.critical);
        assert!(critical >= 0.995, "{critical}");
        let begun = ratio(&with, ILL, |s| s.begun, |s| s.calls);
        let in_vain = ratio(&with, ILL, |s| s.in_vain, |s| s.begun);
        let sent = |book: &[Second]| ratio(book, ILL, |s| s.at_leaf, |s| s.calls);
        assert!(sent(&chain) < 0.8 * sent(&without), "{} of {}", sent(&chain), sent(&without));
        assert!(begun <= 1.1 && in_vain <= 0.01, "{begun} {in_vain}");
    }
}
