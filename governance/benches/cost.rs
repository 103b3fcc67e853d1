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

fn calls<S>(mut service: S) -> impl FnMut()
where
    S: Service<&'static str, Response = &'static str, Error = Rejection>,
{
    move || {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let call = pin!(service.call(black_box("Get")));
        assert!(call.poll(&mut cx).is_ready());
    }
}

fn ns_of(work: &mut dyn FnMut()) -> f64 {
    const TIMES: u32 = 2_000;
    let began = Instant::now();
    (0..TIMES).for_each(|_| work());
    began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}

/// What is measured, and one call of it.
type Row<'a> = (&'static str, Box<dyn FnMut() + 'a>);

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

fn main() {
    let inner = || service_fn(|call| std::future::ready(Ok::<_, Rejection>(call)));
    let governed = Governance::new(set(ALL));
    let nothing = Governance::new(set("{}"));
    let disabled = Governance::new(set(&format!("{ALL}  enforcement: disabled\n")));
    let looked_up = governed.clone();
    medians(&mut [
        ("a bare service", Box::new(calls(inner()))),
        ("finding what governs a method", Box::new(move || drop(black_box(looked_up.method(GET))))),
        ("a stack that no policy governs", Box::new(calls(nothing.client(namer).layer(inner())))),
        ("a stack of disabled policies", Box::new(calls(disabled.client(namer).layer(inner())))),
        ("a stack of all seven policies", Box::new(calls(governed.client(namer).layer(inner())))),
    ]);

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
        medians(&mut [(
            "finding it while sets are swapped in",
            Box::new(move || drop(black_box(looked_up.method(GET)))),
        )]);
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let sets = (governed.version() - before) as f64;
        println!("at {:.0} sets a second", sets / began.elapsed().as_secs_f64());
        is_over.store(true, Ordering::Relaxed);
    });
}
