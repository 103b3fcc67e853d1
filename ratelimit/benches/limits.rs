//! What the limits cost for each call, beside their peers.
//!
//! `cargo bench -p outrigger-ratelimit --bench limits` prints one table; `-- rate` only the rows
//! with that word in their name. All cases take turns in short rounds, so that a busy machine
//! troubles them alike: compare the rows of one run, not of two.
//!
//! - *ns per call* is the median round, on one thread, with an inner service that is ready at once.
//! - *two threads* is the throughput of two threads that share the limit, as a multiple of one
//!   thread's, each by its median round; rounds in which the two were not under way together nearly
//!   all the time do not count, and `-` says that there was no other.

use std::{
    future::{Ready, ready},
    hint::black_box,
    num::NonZeroU32,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use governor::{Quota, RateLimiter, clock::MonotonicClock};
use outrigger_core::{Criticality, Rejection};
use outrigger_ratelimit::{
    AdaptiveLimitLayer, AdaptiveLimitPolicy, ClientThrottle, ClientThrottleLayer,
    ClientThrottlePolicy, ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitPolicy, Permit,
    RateLimit, RateLimitLayer, RateLimitPolicy,
};
use tower::{
    Layer, Service, limit::ConcurrencyLimitLayer as TowerConcurrencyLimitLayer, service_fn,
};

#[expect(clippy::disallowed_types, reason = "measures real time")]
type Clock = std::time::Instant;

/// How many calls a case makes before the next has its turn: about a tenth of a millisecond.
const TURN: u32 = 2_000;
/// The same for each of two threads: long enough that both are under way most of the time.
const TURN_OF_TWO: u32 = 20_000;
/// So many tokens that none of the cases uses them up.
const PLENTY: u32 = 1_000_000_000;

fn main() {
    // Without `--bench`, as `cargo test` runs it, one round shows that all cases work.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let (rounds, rounds_of_two) = if is_bench { (1_000, 100) } else { (1, 1) };
    let mut cases = cases();
    cases.retain(|case| only.as_ref().is_none_or(|only| case.name.contains(only)));
    for _ in 0..rounds {
        cases.iter_mut().for_each(Case::take_turn);
    }
    for _ in 0..rounds_of_two {
        cases.iter_mut().for_each(Case::take_turn_of_two);
    }
    println!("{:<44}{:>12}{:>14}", "", "ns per call", "two threads");
    cases.iter_mut().for_each(Case::print);
}

fn cases() -> Vec<Case> {
    vec![
        Case::new("bare service_fn", tower(inner())),
        Case::new("a read of the clock", |number| {
            black_box((number, Clock::now()));
        }),
        Case::new("concurrency, admitted", concurrency(1_024, 0)),
        Case::new("concurrency, refused", concurrency(1, 1)),
        Case::new("concurrency, without tower", bare_concurrency()),
        Case::new("tower's concurrency limit", towers_concurrency()),
        Case::new("adaptive, admitted", adaptive()),
        Case::new("rate, admitted", rate(1_000_000, PLENTY)),
        Case::new("rate, refused", rate(1, 1)),
        Case::new("rate, without tower", bare_rate()),
        Case::new("governor, admitted", governor(1_000_000, PLENTY)),
        Case::new("governor, refused", governor(1, 1)),
        Case::new("client throttle, admitted", throttle(0)),
        Case::new("client throttle, refused", throttle(1_000_000)),
    ]
}

fn inner() -> impl Service<u64, Response = u64, Error = Rejection> + Clone + Send + 'static {
    fn answer(number: u64) -> Ready<Result<u64, Rejection>> {
        ready(Ok(number))
    }
    service_fn(answer)
}

/// Calls of a service that answers at once.
fn tower<S>(mut service: S) -> impl FnMut(u64) + Clone + Send + 'static
where
    S: Service<u64> + Clone + Send + 'static,
{
    move |number| {
        let mut cx = Context::from_waker(Waker::noop());
        let is_ready = service.poll_ready(&mut cx).is_ready();
        let response = pin!(service.call(black_box(number)));
        let Poll::Ready(result) = response.poll(&mut cx) else {
            unreachable!("the inner service answers at once")
        };
        black_box((is_ready, result.is_ok()));
    }
}

fn concurrency_policy(limit: u32) -> ConcurrencyLimitPolicy {
    ConcurrencyLimitPolicy::builder().limit(limit).build().expect("a valid policy")
}

/// A limit of which so many places are taken.
fn concurrency(limit: u32, taken: u32) -> impl FnMut(u64) + Clone + Send + 'static {
    let limit = ConcurrencyLimit::new(concurrency_policy(limit));
    let held: Arc<Vec<Permit>> =
        Arc::new((0..taken).map(|_| limit.try_acquire().expect("there is room")).collect());
    let mut call = tower(ConcurrencyLimitLayer::from_handle(limit).layer(inner()));
    move |number| {
        let _ = &held;
        call(number);
    }
}

fn bare_concurrency() -> impl FnMut(u64) + Clone + Send + 'static {
    let limit = ConcurrencyLimit::new(concurrency_policy(1_024));
    move |number| {
        black_box(number);
        drop(limit.try_acquire().expect("there is room"));
    }
}

/// Windows are ended as they come.
fn adaptive() -> impl FnMut(u64) + Clone + Send + 'static {
    tower(AdaptiveLimitLayer::new(AdaptiveLimitPolicy::default()).layer(inner()))
}

fn towers_concurrency() -> impl FnMut(u64) + Clone + Send + 'static {
    tower(TowerConcurrencyLimitLayer::new(1_024).layer(inner()))
}

fn rate_limit(rate: u32, burst: u32) -> RateLimit {
    let policy = RateLimitPolicy::builder().rate(rate).burst(burst).build();
    RateLimit::new(policy.expect("a valid policy"))
}

fn rate(rate: u32, burst: u32) -> impl FnMut(u64) + Clone + Send + 'static {
    tower(RateLimitLayer::from_handle(rate_limit(rate, burst)).layer(inner()))
}

fn bare_rate() -> impl FnMut(u64) + Clone + Send + 'static {
    let limit = rate_limit(1_000_000, PLENTY);
    move |number| {
        black_box((number, limit.try_acquire(1).is_ok()));
    }
}

/// Without its wait: governor makes that when it is asked for.
fn governor(rate: u32, burst: u32) -> impl FnMut(u64) + Clone + Send + 'static {
    let positive = |number| NonZeroU32::new(number).expect("above zero");
    let quota = Quota::per_second(positive(rate)).allow_burst(positive(burst));
    let limiter = Arc::new(RateLimiter::direct_with_clock(quota, MonotonicClock));
    move |number| {
        black_box((number, limiter.check().is_ok()));
    }
}

/// A throttle that has seen so many calls fail.
fn throttle(not_accepted: u32) -> impl FnMut(u64) + Clone + Send + 'static {
    let window = Duration::from_secs(3_600);
    let policy = ClientThrottlePolicy::builder().window(window).build().expect("a valid policy");
    let throttle = ClientThrottle::builder(policy).seed(1).build();
    for _ in 0..not_accepted {
        if let Ok(permit) = throttle.try_acquire(Criticality::Critical) {
            permit.not_accepted();
        }
    }
    tower(ClientThrottleLayer::from_handle(throttle).layer(inner()))
}

/// A row of the table.
struct Case {
    name: &'static str,
    /// Makes so many calls, and says when it began and ended.
    call: Box<dyn Calls>,
    turns: Vec<Duration>,
    /// The same with [`TURN_OF_TWO`] calls.
    turns_of_one: Vec<Duration>,
    /// With as many calls on each of two threads.
    turns_of_two: Vec<Duration>,
}

impl Case {
    fn new(name: &'static str, call: impl FnMut(u64) + Clone + Send + 'static) -> Self {
        Self {
            name,
            call: Box::new(call),
            turns: Vec::new(),
            turns_of_one: Vec::new(),
            turns_of_two: Vec::new(),
        }
    }

    fn take_turn(&mut self) {
        let [begin, end] = self.call.run(TURN);
        self.turns.push(end - begin);
    }

    fn take_turn_of_two(&mut self) {
        let [begin, end] = self.call.run(TURN_OF_TWO);
        self.turns_of_one.push(end - begin);
        let mut other = self.call.twin();
        let start = Barrier::new(2);
        let turns = thread::scope(|scope| {
            let there = scope.spawn(|| {
                start.wait();
                other.run(TURN_OF_TWO)
            });
            start.wait();
            [self.call.run(TURN_OF_TWO), there.join().expect("does not panic")]
        });
        let [begins, ends] = [0, 1].map(|side| turns.map(|turn| turn[side]));
        let both = ends[0].max(ends[1]) - begins[0].min(begins[1]);
        let together = ends[0].min(ends[1]).saturating_duration_since(begins[0].max(begins[1]));
        if together > both * 9 / 10 {
            self.turns_of_two.push(both);
        }
    }

    fn print(&mut self) {
        let ns = median(&mut self.turns) * 1e9 / f64::from(TURN);
        let two_threads = 2.0 * median(&mut self.turns_of_one) / median(&mut self.turns_of_two);
        let two_threads =
            if two_threads.is_nan() { "-".to_owned() } else { format!("{two_threads:.2}x") };
        println!("{:<44}{ns:>12.1}{two_threads:>14}", self.name);
    }
}

/// In seconds; not a number if there is none.
fn median(turns: &mut [Duration]) -> f64 {
    turns.sort_unstable();
    turns.get(turns.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

/// Calls to be made again and again, here or on another thread.
trait Calls: Send {
    fn run(&mut self, calls: u32) -> [Clock; 2];
    fn twin(&self) -> Box<dyn Calls>;
}

impl<F: FnMut(u64) + Clone + Send + 'static> Calls for F {
    fn run(&mut self, calls: u32) -> [Clock; 2] {
        let begin = Clock::now();
        (0..calls.into()).for_each(&mut *self);
        [begin, Clock::now()]
    }

    fn twin(&self) -> Box<dyn Calls> {
        Box::new(self.clone())
    }
}
