//! What it costs to find what governs a call, and to go through the whole stack.
//!
//! `cargo bench -p outrigger --features governance`. Medians of many short rounds, interleaved;
//! compare the rows, not the machine.

use std::{
    hint::black_box,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Waker},
    thread,
    time::Duration,
};

use outrigger::{Format, Governance, PolicySet};
use outrigger_core::{MethodRef, Rejection};
use tokio::time::Instant;
use tower::{Layer, Service, service_fn};

const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

const ALL: &str = "
defaults:
  timeout: 5s
  attempt_timeout: 2s
  rate_limit: {rate: 1000000, burst: 1000000}
  concurrency_limit: 100
  client_throttle: {}
  circuit_breaker: {}
  retry: {mode: failure, idempotent: true}
";

fn set(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).expect("valid")
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn namer<'a>(_call: &'a &'static str) -> Option<MethodRef<'a>> {
    Some(GET)
}

/// Calls of one service value again and again.
fn calls<S>(mut service: S) -> impl FnMut()
where
    S: Service<&'static str, Response = &'static str, Error = Rejection>,
{
    move || call(&mut service)
}

/// Calls of a clone each, as servers make them.
fn calls_of_clones<S>(service: S) -> impl FnMut()
where
    S: Service<&'static str, Response = &'static str, Error = Rejection> + Clone,
{
    move || call(&mut service.clone())
}

fn call<S>(service: &mut S)
where
    S: Service<&'static str, Response = &'static str, Error = Rejection>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let call = pin!(service.call(black_box("Get")));
    assert!(call.poll(&mut cx).is_ready());
}

fn ns_of(work: &mut dyn FnMut()) -> f64 {
    const TIMES: u32 = 2_000;
    let began = Instant::now();
    (0..TIMES).for_each(|_| work());
    began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}

/// What is measured, and one call of it.
struct Row<'a>(&'static str, Box<dyn FnMut() + 'a>);

impl<'a> Row<'a> {
    fn new(name: &'static str, work: impl FnMut() + 'a) -> Self {
        Self(name, Box::new(work))
    }
}

fn medians(rows: &mut [Row<'_>]) {
    let mut rounds = vec![Vec::new(); rows.len()];
    for _ in 0..301 {
        for (row, times) in rows.iter_mut().zip(&mut rounds) {
            times.push(ns_of(&mut row.1));
        }
    }
    for (row, times) in rows.iter().zip(&mut rounds) {
        times.sort_by(f64::total_cmp);
        println!("{:44} {:7.1} ns", row.0, times[times.len() / 2]);
    }
}

fn rows() -> Vec<Row<'static>> {
    let inner = || service_fn(|call| std::future::ready(Ok::<_, Rejection>(call)));
    let governed = Governance::new(set(ALL));
    let nothing = Governance::new(set("{}"));
    let disabled = Governance::new(set(&format!("{ALL}  enforcement: disabled\n")));
    let whole = governed.client(namer).layer(inner());
    let looked_up = governed.clone();
    let mut rows = vec![
        Row::new("a bare service", calls(inner())),
        Row::new("a read of the clock", || _ = black_box(Instant::now())),
        Row::new("finding what governs a method", move || drop(black_box(looked_up.method(GET)))),
        Row::new("a stack that no policy governs", calls(nothing.client(namer).layer(inner()))),
        Row::new("a stack of disabled policies", calls(disabled.client(namer).layer(inner()))),
        Row::new("a stack of all seven policies", calls(whole.clone())),
        Row::new("a clone of it for each call", calls_of_clones(whole)),
    ];
    for (name, policies) in ONE_EACH {
        let governance = Governance::new(set(policies));
        rows.push(Row::new(name, calls(governance.client(namer).layer(inner()))));
    }
    rows
}

const ONE_EACH: [(&str, &str); 7] = [
    ("only timeout", "defaults: {timeout: 5s}"),
    ("only rate_limit", "defaults: {rate_limit: {rate: 1000000, burst: 1000000}}"),
    ("only concurrency_limit", "defaults: {concurrency_limit: 100}"),
    ("only client_throttle", "defaults: {client_throttle: {}}"),
    ("only retry", "defaults: {retry: {mode: failure, idempotent: true}}"),
    ("only circuit_breaker", "defaults: {circuit_breaker: {}}"),
    ("only attempt_timeout", "defaults: {attempt_timeout: 2s}"),
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut rows = rows();
    // `NAME TIMES` only makes so many calls, for a profiler to count.
    if let (Some(name), Some(times)) = (arguments.next(), arguments.next()) {
        let row = rows.iter_mut().find(|row| row.0 == name).expect("the name of a row");
        let times: u32 = times.parse().expect("a number");
        return (0..times).for_each(|_| row.1());
    }
    medians(&mut rows);
    while_sets_are_swapped();
}

fn while_sets_are_swapped() {
    let governed = Governance::new(set(ALL));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let sets = [set(ALL), set("{}")];
            let mut next = sets.iter().cycle();
            while !is_over.load(Ordering::Relaxed) {
                governed.replace(next.next().expect("endless").clone());
                thread::park_timeout(Duration::from_micros(20));
            }
        });
        let looked_up = governed.clone();
        let (began, before) = (Instant::now(), governed.version());
        medians(&mut [Row::new("finding it while sets are swapped in", move || {
            drop(black_box(looked_up.method(GET)));
        })]);
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let sets = (governed.version() - before) as f64;
        println!("at {:.0} sets a second", sets / began.elapsed().as_secs_f64());
        is_over.store(true, Ordering::Relaxed);
    });
}
