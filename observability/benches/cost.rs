//! What looking on costs for each call.
//!
//! `cargo bench -p outrigger-observability --all-features --bench cost` prints one table;
//! `-- spans` only the rows with that word in their name. All cases take turns in short rounds, so
//! that a busy machine troubles them alike: compare the rows of one run, not of two.
//!
//! - *ns per call* is the median round, on one thread, with an inner service that is ready at once.
//! - *two threads* is the throughput of two threads that share the layer, as a multiple of one
//!   thread's, each by its median round; rounds in which the two were not under way together nearly
//!   all the time do not count, and `-` says that there was no other. The row of the clock says what
//!   the machine itself can give: its reads share nothing.

use std::{
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use outrigger_core::{MethodRef, Rejection};
use outrigger_observability::{FacadeMeter, ObserveLayer};
use tower::{Layer, Service, service_fn};

#[expect(clippy::disallowed_types, reason = "measures real time")]
type Clock = std::time::Instant;

/// How many calls a case makes before the next has its turn: about a tenth of a millisecond.
const TURN: u32 = 2_000;
/// The same for each of two threads: long enough that both are under way most of the time.
const TURN_OF_TWO: u32 = 20_000;

fn main() {
    // Without `--bench`, as `cargo test` runs it, one round shows that all cases work.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let (rounds, rounds_of_two) = if is_bench { (500, 100) } else { (1, 1) };
    let (mut cases, handle) = cases();
    cases.retain(|case| only.as_ref().is_none_or(|only| case.name.contains(only)));
    for round in 0..rounds {
        cases.iter_mut().for_each(Case::take_turn);
        // As a scrape does: the recorder keeps every value until then.
        if round % 10 == 0 {
            handle.run_upkeep();
        }
    }
    for _ in 0..rounds_of_two {
        cases.iter_mut().for_each(Case::take_turn_of_two);
        handle.run_upkeep();
    }
    println!("{:<44}{:>12}{:>14}", "", "ns per call", "two threads");
    cases.iter_mut().for_each(Case::print);
}

fn cases() -> (Vec<Case>, PrometheusHandle) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the only one");
    let counter = metrics::counter!("bare.counter");
    let histogram = metrics::histogram!("bare.histogram");
    let gauge = metrics::gauge!("bare.gauge");
    let metered = |layer: ObserveLayer| layer.meter(FacadeMeter::new());
    let cases = vec![
        Case::new("bare service_fn", tower(inner())),
        Case::new("a read of the clock", |number| {
            black_box((number, Clock::now()));
        }),
        Case::new("the recorder's counter", move |number| counter.increment(number & 1)),
        Case::new("the recorder's histogram", move |_| histogram.record(0.001)),
        Case::new("the recorder's gauge, up and down", move |_| {
            gauge.increment(1.0);
            gauge.decrement(1.0);
        }),
        Case::new("counter! with two labels", |number| {
            metrics::counter!("bare.labels", "rpc.method" => "shop.Orders/Place", "outcome" => "ok")
                .increment(number & 1);
        }),
        Case::new("nothing installed", tower(ObserveLayer::client().layer(inner()))),
        Case::new("client", tower(metered(ObserveLayer::client()).layer(inner()))),
        Case::new(
            "client, method named",
            tower(metered(ObserveLayer::client()).name_methods(name).layer(inner())),
        ),
        Case::new(
            "attempt, method named",
            tower(metered(ObserveLayer::attempt()).name_methods(name).layer(inner())),
        ),
        Case::new(
            "spans, nobody listens",
            tower(ObserveLayer::client().spans().name_methods(name).layer(inner())),
        ),
    ];
    (cases, handle)
}

fn name(_request: &u64) -> Option<MethodRef<'_>> {
    MethodRef::from_grpc_path("/shop.Orders/Place")
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
