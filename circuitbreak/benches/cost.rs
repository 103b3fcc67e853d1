//! What a circuit breaker costs for each call, beside its peers.
//!
//! `cargo bench -p outrigger-circuitbreak --bench cost` prints one table; `-- closed` only the rows
//! with that word in their name. All cases take turns in short rounds,
//! so that a busy machine troubles them alike: compare the rows of one run, not of two.
//!
//! - *ns per call* is the median round, on one thread, with an inner service that is ready at once.
//! - *two threads* is the throughput of two threads that share the breaker, as a multiple of one
//!   thread's, each by its median round; rounds in which the two were not
//!   under way together nearly all the time do not count, and `-` says that there was no other. The row
//!   of the clock says what the machine itself can give: its reads share nothing.

use std::{
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use failsafe::CircuitBreaker as _;
use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy, CircuitBreakerPolicyBuilder,
};
use outrigger_core::{MethodRef, Outcome, Rejection};
use tower::{Layer, Service, service_fn};

#[expect(clippy::disallowed_types, reason = "measures real time")]
type Clock = std::time::Instant;

/// How many calls a case makes before the next has its turn: about a tenth of a millisecond.
const TURN: u32 = 2_000;
/// The same for each of two threads: long enough that both are under way most of the time.
const TURN_OF_TWO: u32 = 20_000;
const MILLION: u32 = 1_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

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
    let ours = |policy| tower(CircuitBreakerLayer::new(build(policy)).layer(inner()));
    let refusing = |name: &str| tower(CircuitBreakerLayer::from_handle(open(name)).layer(inner()));
    vec![
        Case::new("bare service_fn", tower(inner())),
        Case::new("a read of the clock", |number| {
            black_box((number, Clock::now()));
        }),
        Case::new("closed, time window", ours(policy())),
        Case::new("closed, slow-call rule", ours(policy().slow_calls(HOUR, 0.5, 100))),
        Case::new("closed, count window", ours(policy().count_window(100))),
        Case::new("closed, a breaker per method", per_method()),
        Case::new("closed, without tower", plain(policy(), Outcome::Success, 0)),
        Case::new("refusal", refusing("")),
        Case::new("refusal with a name", refusing("shop.Orders/Place")),
        Case::new("failure, 1 000 000 calls in time window", failures(policy(), MILLION)),
        Case::new("failure, count window of 10", failures(policy().count_window(10), 10)),
        Case::new(
            "failure, count window of 1 000 000",
            failures(policy().count_window(MILLION), MILLION),
        ),
        few_failures(),
        Case::new("snapshot, 10 calls in time window", snapshot(10)),
        Case::new("snapshot, 1 000 000 calls in time window", snapshot(MILLION)),
        Case::new("recloser, closed", recloser(false)),
        Case::new("recloser, refusal", recloser(true)),
        Case::new("failsafe, closed", failsafe(false)),
        Case::new("failsafe, refusal", failsafe(true)),
    ]
}

/// A time window that loses nothing while it is measured.
fn policy() -> CircuitBreakerPolicyBuilder {
    CircuitBreakerPolicy::builder().time_window(HOUR)
}

fn build(policy: CircuitBreakerPolicyBuilder) -> CircuitBreakerPolicy {
    policy.build().expect("the settings are in order")
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

fn per_method() -> impl FnMut(u64) + Clone + Send + 'static {
    fn name(_request: &u64) -> Option<MethodRef<'_>> {
        MethodRef::from_grpc_path("/shop.Orders/Place")
    }
    tower(CircuitBreakerLayer::per_method(build(policy()), name).layer(inner()))
}

fn open(name: &str) -> CircuitBreaker {
    let policy = build(policy().consecutive_failures(1).cool_down(HOUR));
    let breaker = CircuitBreaker::builder(policy);
    let breaker = if name.is_empty() { breaker } else { breaker.name(name) }.build();
    record(&breaker, Outcome::Failure);
    breaker
}

fn record(breaker: &CircuitBreaker, outcome: Outcome) {
    breaker.try_acquire().expect("closed").record(outcome);
}

/// Calls by hand, with so many of them in the window at the start.
fn plain(
    policy: CircuitBreakerPolicyBuilder,
    outcome: Outcome,
    before: u32,
) -> impl FnMut(u64) + Clone + Send + 'static {
    let breaker = CircuitBreaker::new(build(policy));
    (0..before).for_each(|_| record(&breaker, outcome));
    move |number| {
        black_box(number);
        record(&breaker, outcome);
    }
}

/// Failures under a rule that is looked at each time and never opens the circuit.
fn failures(
    policy: CircuitBreakerPolicyBuilder,
    before: u32,
) -> impl FnMut(u64) + Clone + Send + 'static {
    plain(policy.no_error_rate().error_count(u32::MAX), Outcome::Failure, before)
}

/// Failures in a window that is emptied before each turn.
fn few_failures() -> Case {
    let policy = build(policy().no_error_rate().error_count(u32::MAX));
    let breaker = CircuitBreaker::new(policy);
    let emptied = breaker.clone();
    let fail = move |number| {
        black_box(number);
        record(&breaker, Outcome::Failure);
    };
    let case = Case::new("failure, few calls in time window", fail);
    Case { prepare: Box::new(move || emptied.reset()), ..case }
}

fn snapshot(calls: u32) -> impl FnMut(u64) + Clone + Send + 'static {
    let breaker = CircuitBreaker::new(build(policy()));
    (0..calls).for_each(|_| record(&breaker, Outcome::Success));
    move |number| {
        black_box((number, breaker.snapshot()));
    }
}

fn recloser(is_open: bool) -> impl FnMut(u64) + Clone + Send + 'static {
    let breaker = recloser::Recloser::custom().closed_len(100).open_wait(HOUR).build();
    if is_open {
        (0..200).for_each(|_| drop(breaker.call(|| Err::<(), _>(()))));
    }
    let breaker = Arc::new(breaker);
    move |number| {
        let result = breaker.call(|| Ok::<_, ()>(black_box(number)));
        black_box(result.is_ok());
    }
}

fn failsafe(is_open: bool) -> impl FnMut(u64) + Clone + Send + 'static {
    let backoff = failsafe::backoff::constant(HOUR);
    let window = Duration::from_secs(10);
    let rule = failsafe::failure_policy::success_rate_over_time_window(0.5, 200, window, backoff);
    let breaker = failsafe::Config::new().failure_policy(rule).build();
    if is_open {
        (0..400).for_each(|_| drop(breaker.call(|| Err::<(), _>(()))));
    }
    move |number| {
        let result = breaker.call(|| Ok::<_, ()>(black_box(number)));
        black_box(result.is_ok());
    }
}

/// A row of the table.
struct Case {
    name: &'static str,
    /// Done before each turn, and not measured.
    prepare: Box<dyn FnMut()>,
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
            prepare: Box::new(|| ()),
            call: Box::new(call),
            turns: Vec::new(),
            turns_of_one: Vec::new(),
            turns_of_two: Vec::new(),
        }
    }

    fn take_turn(&mut self) {
        (self.prepare)();
        let [begin, end] = self.call.run(TURN);
        self.turns.push(end - begin);
    }

    fn take_turn_of_two(&mut self) {
        (self.prepare)();
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
