//! What Kitex's own tests of its breaker show, and the weak points of it that must not be ours.

mod support;

use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPanel, CircuitBreakerPolicy, State};
use outrigger_core::{Enforcement, Outcome};
use support::*;

#[tokio::test(start_paused = true)]
async fn half_of_a_thousand_opens_it_exactly_at_the_thousandth_sample() {
    let breaker = breaker(exact().error_rate(0.5, 1_000));
    calls(&breaker, 499, Outcome::Timeout);
    calls(&breaker, 500, Outcome::Success);
    assert_eq!(breaker.state(), State::Closed);
    call(&breaker, Outcome::Failure);
    assert_eq!(breaker.state(), State::Open);
    let (_, counts) = breaker.snapshot().last_trip.unwrap();
    assert_eq!(counts.error_rate(), Some(0.5));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_in_a_row_then_a_relapse_then_a_recovery() {
    let breaker = breaker(exact().no_error_rate().consecutive_failures(1_000));
    calls(&breaker, 999, Outcome::Failure);
    assert_eq!(breaker.state(), State::Closed);
    call(&breaker, Outcome::Failure);
    assert_eq!(breaker.state(), State::Open);

    pass(COOL_DOWN).await;
    call(&breaker, Outcome::Failure);
    assert_eq!(breaker.state(), State::Open);

    pass(COOL_DOWN).await;
    call(&breaker, Outcome::Success);
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.try_acquire().is_err());
    pass(PROBE_INTERVAL).await;
    call(&breaker, Outcome::Success);
    assert_eq!(breaker.state(), State::Closed);

    calls(&breaker, 100, Outcome::Timeout);
    call(&breaker, Outcome::Success);
    calls(&breaker, 999, Outcome::Timeout);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn successes_do_not_reset_a_threshold() {
    let breaker = breaker(exact().no_error_rate().error_count(1_000));
    for _ in 0..999 {
        call(&breaker, Outcome::Failure);
        call(&breaker, Outcome::Success);
    }
    assert_eq!(failures_to_open(&breaker, 10), Some(1));
}

#[tokio::test(start_paused = true)]
async fn of_fifty_callers_after_the_cool_down_the_first_passes() {
    let breaker = breaker(touchy());
    cooled_down(&breaker).await;
    let passes: Vec<_> = (0..50).map(|_| breaker.try_acquire()).collect();
    assert!(passes[0].is_ok());
    assert!(passes[1..].iter().all(Result::is_err));
}

#[tokio::test(start_paused = true)]
async fn the_default_suite_trips_at_200_time_outs_and_can_be_switched_off_and_on() {
    let panel = CircuitBreakerPanel::<&str>::new(exact().build().unwrap());
    let breaker = panel.breaker(&"from/to/method");
    calls(&breaker, 200, Outcome::Timeout);
    assert!((200..300).all(|_| breaker.try_acquire().is_err()));

    let switch = |to| panel.policy().update(|policy| policy.clone().with_enforcement(to));
    switch(Enforcement::Disabled);
    calls(&breaker, 100, Outcome::Timeout);
    switch(Enforcement::Enforced);
    pass(COOL_DOWN).await;
    call(&breaker, Outcome::Success);
    assert!(breaker.try_acquire().is_err());
    assert!(breaker.try_acquire().is_err());
    pass(PROBE_INTERVAL).await;
    call(&breaker, Outcome::Success);
    calls(&breaker, 100, Outcome::Success);
}

#[tokio::test(start_paused = true)]
async fn lower_thresholds_act_at_run_time() {
    let breaker = breaker(exact());
    calls(&breaker, 90, Outcome::Success);
    breaker.policy().replace(exact().error_rate(0.1, 100).build().unwrap());
    assert_eq!(failures_to_open(&breaker, 20), Some(10));
}

/// Kitex lets up to 64 of 64 callers through in one interval; see `behaviour.rs` for the herd of
/// ten thousand and for threads.
#[tokio::test(start_paused = true)]
async fn the_probe_interval_is_no_door_for_a_herd() {
    let breaker = breaker(touchy().max_probes(64));
    cooled_down(&breaker).await;
    for _ in 0..5 {
        let herd: Vec<_> = (0..64).filter_map(|_| breaker.try_acquire().ok()).collect();
        assert_eq!(herd.len(), 1);
        pass(PROBE_INTERVAL).await;
    }
}

/// In Kitex two late successes of calls sent before the trip close the breaker.
#[tokio::test(start_paused = true)]
async fn late_successes_from_before_the_trip_do_not_close_it() {
    let breaker = breaker(touchy());
    let late: Vec<_> = (0..2).map(|_| breaker.try_acquire().unwrap()).collect();
    cooled_down(&breaker).await;
    let _probe = breaker.try_acquire().unwrap();
    for permit in late {
        permit.record(Outcome::Success);
    }
    assert_eq!(breaker.state(), State::HalfOpen);
}

/// In Kitex the time of a streak is kept over a reset, and counts from 1970 without one.
#[tokio::test(start_paused = true)]
async fn a_reset_ends_the_time_of_a_streak() {
    let breaker = breaker(exact().consecutive_failures_lasting(2, 3 * SECOND));
    call(&breaker, Outcome::Failure);
    pass(3 * SECOND).await;
    breaker.reset();
    calls(&breaker, 100, Outcome::Failure);
    assert_eq!(breaker.state(), State::Closed);
}

/// In Kitex a cancel by the client is a time-out to the breaker.
#[tokio::test(start_paused = true)]
async fn a_cancel_by_the_client_counts_for_nothing() {
    let breaker = CircuitBreaker::new(CircuitBreakerPolicy::default());
    (0..1_000).for_each(|_| drop(breaker.try_acquire()));
    assert_eq!(breaker.snapshot().counts.calls, 0);
    assert_eq!(breaker.state(), State::Closed);
}
