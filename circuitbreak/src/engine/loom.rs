//! Every interleaving of two threads at the edges where a breaker could go wrong.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use loom::thread;
use outrigger_core::Outcome;
use tokio::time::Instant;

use super::{Engine, Recorded};
use crate::{CircuitBreakerPolicy, CircuitBreakerPolicyBuilder, State};

const COOL_DOWN: Duration = Duration::from_secs(5);

fn engine(policy: CircuitBreakerPolicyBuilder, start: Instant) -> Arc<Engine> {
    let policy = policy.cool_down_jitter(0.0).build().unwrap();
    Arc::new(Engine::new(Arc::new(policy), start, 2, Rng::with_seed(1)))
}

fn touchy() -> CircuitBreakerPolicyBuilder {
    CircuitBreakerPolicy::builder().consecutive_failures(1)
}

/// Records a result. `true` when it changed the state.
fn record(engine: &Engine, stripe: usize, outcome: Outcome, now: Instant) -> bool {
    let ticket = engine.admit_closed().unwrap();
    matches!(engine.record(stripe, &ticket, outcome, now), Recorded::Changed(_))
}

/// Runs `work` on two threads at once, as stripe 0 and 1.
fn on_two_threads<R: 'static>(work: impl Fn(usize) -> R + Send + Sync + 'static) -> [R; 2] {
    let work = Arc::new(work);
    [0, 1]
        .map(|stripe| {
            let work = Arc::clone(&work);
            thread::spawn(move || work(stripe))
        })
        .map(|thread| thread.join().unwrap())
}

/// Two callers ask at once after the cool-down: one becomes the probe, and opens the circuit half.
fn one_of_two_callers_becomes_the_probe(policy: fn() -> CircuitBreakerPolicyBuilder) {
    loom::model(move || {
        let start = Instant::now();
        let engine = engine(policy(), start);
        assert!(record(&engine, 0, Outcome::Failure, start));
        let shared = Arc::clone(&engine);
        let admitted = on_two_threads(move |_| {
            let admission = shared.admit(start + COOL_DOWN);
            (admission.decision.is_ok(), admission.change.is_some())
        });
        assert_eq!(admitted.iter().filter(|(passes, _)| *passes).count(), 1);
        assert_eq!(admitted.iter().filter(|(_, changed)| *changed).count(), 1);
        assert_eq!(engine.state(), State::HalfOpen);
    });
}

#[test]
fn loom_one_of_two_callers_becomes_the_probe_of_an_interval() {
    one_of_two_callers_becomes_the_probe(|| touchy().max_probes(2));
}

#[test]
fn loom_one_of_two_callers_takes_the_only_place() {
    one_of_two_callers_becomes_the_probe(|| touchy().probe_interval(Duration::ZERO));
}

#[test]
fn loom_two_failures_open_the_circuit_once() {
    loom::model(|| {
        let start = Instant::now();
        let engine = engine(CircuitBreakerPolicy::builder().consecutive_failures(2), start);
        let tickets = [(); 2].map(|()| std::sync::Mutex::new(engine.admit_closed()));
        let shared = Arc::clone(&engine);
        let changed = on_two_threads(move |stripe| {
            let ticket = tickets[stripe].lock().unwrap().take().unwrap();
            let recorded = shared.record(stripe, &ticket, Outcome::Failure, start);
            matches!(recorded, Recorded::Changed(_))
        });
        assert_eq!(changed.iter().filter(|changed| **changed).count(), 1);
        assert_eq!(engine.generation(), 1);
    });
}

#[test]
fn loom_a_success_that_races_a_change_of_state_is_not_counted_after_it() {
    loom::model(|| {
        let start = Instant::now();
        let engine = engine(touchy(), start);
        let late = std::sync::Mutex::new(engine.admit_closed());
        let shared = Arc::clone(&engine);
        on_two_threads(move |stripe| {
            if stripe == 0 {
                let ticket = late.lock().unwrap().take().unwrap();
                shared.record(stripe, &ticket, Outcome::Success, start);
            } else {
                shared.reset();
            }
        });
        assert_eq!(engine.counts(start).calls, 0);
    });
}

#[test]
fn loom_no_success_is_lost_or_counted_twice_when_the_window_moves_on() {
    loom::model(|| {
        let start = Instant::now();
        let engine = engine(CircuitBreakerPolicy::builder(), start);
        let later = start + Duration::from_secs(1);
        let shared = Arc::clone(&engine);
        on_two_threads(move |stripe| record(&shared, stripe, Outcome::Success, later));
        assert_eq!(engine.counts(later).calls, 2);
        assert_eq!(engine.counts(later + Duration::from_secs(10)).calls, 0);
    });
}

#[test]
fn loom_a_success_ends_the_streak_before_or_after_a_failure_but_never_half() {
    loom::model(|| {
        let start = Instant::now();
        let engine = engine(CircuitBreakerPolicy::builder().consecutive_failures(3), start);
        assert!(!record(&engine, 0, Outcome::Failure, start));
        let shared = Arc::clone(&engine);
        on_two_threads(move |stripe| {
            let outcome = [Outcome::Success, Outcome::Failure][stripe];
            record(&shared, stripe, outcome, start)
        });
        // The streak is 0 or 1 now: at least two more failures are needed.
        assert!(!record(&engine, 0, Outcome::Failure, start));
        assert_eq!(engine.state(), State::Closed);
    });
}

#[test]
fn loom_a_probe_that_is_dropped_while_another_asks_frees_one_place() {
    loom::model(|| {
        let start = Instant::now();
        let engine = engine(touchy().probe_interval(Duration::ZERO), start);
        assert!(record(&engine, 0, Outcome::Failure, start));
        let now = start + COOL_DOWN;
        let probe = std::sync::Mutex::new(engine.admit(now).decision.ok());
        let shared = Arc::clone(&engine);
        let [_, second] = on_two_threads(move |stripe| {
            if stripe == 0 {
                let ticket = probe.lock().unwrap().take().unwrap();
                shared.abandon(stripe, &ticket, now);
                None
            } else {
                shared.admit(now).decision.ok()
            }
        });
        let third = engine.admit(now).decision.ok();
        assert!(second.is_some() ^ third.is_some(), "one place, one probe");
    });
}
