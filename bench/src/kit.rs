//! How calls are timed and their heap is counted: one way for all systems.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Ready, ready},
    hint::black_box,
    sync::{Arc, Barrier},
    time::Duration,
};

use outrigger_core::Rejection;
use tokio::runtime::Runtime;
use tower::{Service, ServiceExt, service_fn};

#[expect(clippy::disallowed_types, reason = "measures real time, also when tokio's is paused")]
pub(crate) type Clock = std::time::Instant;

/// The error of all inner services: small and cheap to clone, since some peers ask for that.
#[derive(Clone, Debug)]
pub(crate) struct Fault;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fault")
    }
}

impl Error for Fault {}

impl From<Rejection> for Fault {
    fn from(_: Rejection) -> Self {
        Self
    }
}

impl From<Infallible> for Fault {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The service below every layer: its answer is there at once.
pub(crate) type Inner = tower::util::ServiceFn<fn(u64) -> Ready<Result<u64, Fault>>>;

pub(crate) fn inner() -> Inner {
    fn answer(number: u64) -> Ready<Result<u64, Fault>> {
        ready(Ok(number))
    }
    service_fn(answer)
}

/// The same, but it fails always.
pub(crate) fn failing() -> Inner {
    fn answer(_number: u64) -> Ready<Result<u64, Fault>> {
        ready(Err(Fault))
    }
    service_fn(answer)
}

/// A runtime like that of a client with one thread.
pub(crate) fn runtime() -> Runtime {
    let builder = tokio::runtime::Builder::new_current_thread().enable_all().build();
    builder.expect("the system has what a runtime needs")
}

/// A runtime with a thread of its own for tasks that layers spawn, such as a buffer's.
pub(crate) fn runtime_of_two() -> Runtime {
    let builder =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    builder.expect("the system has what a runtime needs")
}

/// Calls that can be made again and again.
pub(crate) trait Calls: Send {
    /// Makes so many calls and says how long they took.
    fn run(&mut self, runtime: &Runtime, calls: u64) -> Duration;
    /// The same calls on a clone that shares what a clone shares; `None` if it cannot be cloned.
    fn twin(&self) -> Option<Box<dyn Calls>>;
}

async fn call_service<S: Service<u64>>(service: &mut S, calls: u64) -> Duration {
    let begin = Clock::now();
    for number in 0..calls {
        if let Ok(service) = service.ready().await {
            let result = service.call(black_box(number)).await;
            black_box(result.is_ok());
        }
    }
    begin.elapsed()
}

/// Calls of a service that can be cloned.
pub(crate) struct Cloned<S>(pub(crate) S);

impl<S: Service<u64> + Clone + Send + 'static> Calls for Cloned<S> {
    fn run(&mut self, runtime: &Runtime, calls: u64) -> Duration {
        runtime.block_on(call_service(&mut self.0, calls))
    }

    fn twin(&self) -> Option<Box<dyn Calls>> {
        Some(Box::new(Self(self.0.clone())))
    }
}

/// Calls of a service that cannot be cloned.
pub(crate) struct Single<S>(pub(crate) S);

impl<S: Service<u64> + Send> Calls for Single<S> {
    fn run(&mut self, runtime: &Runtime, calls: u64) -> Duration {
        runtime.block_on(call_service(&mut self.0, calls))
    }

    fn twin(&self) -> Option<Box<dyn Calls>> {
        None
    }
}

/// Calls of a closure.
pub(crate) struct Plain<F>(pub(crate) F);

impl<F: FnMut(u64) + Clone + Send + 'static> Calls for Plain<F> {
    fn run(&mut self, runtime: &Runtime, calls: u64) -> Duration {
        let _inside = runtime.enter();
        let begin = Clock::now();
        for number in 0..calls {
            (self.0)(black_box(number));
        }
        begin.elapsed()
    }

    fn twin(&self) -> Option<Box<dyn Calls>> {
        Some(Box::new(Self(self.0.clone())))
    }
}

/// One line of a table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) system: &'static str,
    calls: Box<dyn Calls>,
    /// How many calls take about a turn's time.
    per_turn: u64,
    ns: Vec<f64>,
}

impl Case {
    pub(crate) fn new(
        name: &'static str,
        system: &'static str,
        calls: impl Calls + 'static,
    ) -> Self {
        Self { name, system, calls: Box::new(calls), per_turn: 1, ns: Vec::new() }
    }

    /// Makes so many calls.
    pub(crate) fn make(&mut self, runtime: &Runtime, calls: u64) {
        self.calls.run(runtime, calls);
    }

    /// Warms up and finds out how many calls a turn has.
    fn settle(&mut self, runtime: &Runtime, turn: Duration) {
        let mut calls = 64;
        loop {
            let took = self.calls.run(runtime, calls);
            if took * 4 >= turn || calls >= 1 << 20 {
                let share = turn.as_secs_f64() / took.as_secs_f64().max(1e-9);
                self.per_turn = scaled(calls, share).max(16);
                return;
            }
            calls *= 2;
        }
    }

    /// The first turn of two warms the caches that the other cases have cooled.
    fn take_turn(&mut self, runtime: &Runtime) {
        self.calls.run(runtime, self.per_turn);
        let took = self.calls.run(runtime, self.per_turn);
        self.ns.push(nanos(took) / float(self.per_turn));
    }

    /// Nanoseconds per call.
    pub(crate) fn spread(&mut self) -> Spread {
        Spread::of(&mut self.ns)
    }

    /// Heap allocations and bytes per call.
    pub(crate) fn heap(&mut self, runtime: &Runtime) -> (f64, f64) {
        const CALLS: u64 = 1_000;
        self.calls.run(runtime, CALLS);
        let info = allocation_counter::measure(|| {
            black_box(self.calls.run(runtime, CALLS));
        });
        // What the runtime itself allocates to begin is no call's.
        let per_call = |count: u64| (float(count) / float(CALLS) * 100.0).round() / 100.0;
        (per_call(info.count_total), per_call(info.bytes_total))
    }

    /// Calls per microsecond of one thread, and of two that share what a clone shares.
    ///
    /// The second is `None` where there is no clone, or the two were not under way together.
    pub(crate) fn throughput(&mut self, runtime: &Runtime, calls: u64) -> (f64, Option<f64>) {
        let rate = |calls: u64, took: Duration| float(calls) * 1e3 / nanos(took);
        let alone = rate(calls, self.calls.run(runtime, calls));
        let Some(mut twin) = self.calls.twin() else { return (alone, None) };
        let start = Arc::new(Barrier::new(2));
        let timed = |calls_of: &mut dyn Calls| {
            start.wait();
            let begin = Clock::now();
            calls_of.run(runtime, calls);
            (begin, Clock::now())
        };
        let [one, two] = std::thread::scope(|scope| {
            let there = scope.spawn(|| timed(&mut *twin));
            [timed(&mut *self.calls), there.join().expect("does not panic")]
        });
        let whole = one.1.max(two.1) - one.0.min(two.0);
        let together = one.1.min(two.1).saturating_duration_since(one.0.max(two.0));
        (alone, (together > whole * 8 / 10).then(|| rate(2 * calls, whole)))
    }

    pub(crate) const fn per_turn(&self) -> u64 {
        self.per_turn
    }
}

/// Lets all cases take turns, round after round, so that a busy machine troubles them alike.
/// `after_round` belongs to none of them.
pub(crate) fn measure(
    cases: &mut [Case],
    runtime: &Runtime,
    (rounds, turn): (u32, Duration),
    after_round: impl Fn(),
) {
    for case in &mut *cases {
        case.settle(runtime, turn);
    }
    for _ in 0..rounds {
        for case in &mut *cases {
            case.take_turn(runtime);
        }
        after_round();
    }
}

/// A median, and where the middle four fifths lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) p10: f64,
    pub(crate) median: f64,
    pub(crate) p90: f64,
}

impl Spread {
    pub(crate) fn of(samples: &mut [f64]) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        let at = |tenths: usize| samples.get(samples.len() * tenths / 10).copied();
        let at = |tenths| at(tenths).unwrap_or(f64::NAN);
        Self { p10: at(1), median: at(5), p90: at(9) }
    }
}

/// Well-mixed bits of a number: keys that are met once each.
pub(crate) const fn mixed(number: u64) -> u64 {
    let bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// As precise as a figure to be read needs.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

pub(crate) const fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of calls, positive and small"
)]
pub(crate) fn scaled(count: u64, share: f64) -> u64 {
    (float(count) * share) as u64
}
