//! The time-out and the retry under the laws of a tower layer.

use std::time::Duration;

use outrigger_core::Enforcement;
use outrigger_retry::{
    QuantileDelay, RetryLayer, RetryPolicy, RetryPolicyBuilder, TimeoutLayer, TimeoutPolicy,
};
use outrigger_testing::{Script, laws};

const ALL: [Enforcement; 3] = [Enforcement::Enforced, Enforcement::Shadow, Enforcement::Disabled];
const HOUR: Duration = Duration::from_secs(3_600);

fn an_hour(enforcement: Enforcement) -> impl Fn() -> TimeoutLayer {
    let policy = TimeoutPolicy::after(HOUR);
    move || TimeoutLayer::new(policy.with_enforcement(enforcement))
}

fn retry(policy: RetryPolicyBuilder, enforcement: Enforcement) -> impl Fn() -> RetryLayer {
    let policy = policy.enforcement(enforcement).build().expect("it can be");
    move || RetryLayer::new(policy)
}

#[test]
fn a_timeout_keeps_the_laws_whatever_its_enforcement() {
    for enforcement in ALL {
        laws::all(an_hour(enforcement));
    }
    laws::waiting_costs_no_polls(an_hour(Enforcement::Enforced), Duration::from_secs(60));
}

#[test]
fn a_timeout_needs_nothing_of_the_inner_service_but_that_it_is_one() {
    laws::needs_only_a_service(an_hour(Enforcement::Enforced), &Script::default());
}

#[test]
fn a_timeout_allocates_nothing_for_a_call() {
    laws::a_call_allocates_nothing(an_hour(Enforcement::Enforced));
}

#[test]
fn a_failure_retry_keeps_the_laws_whatever_its_enforcement() {
    for enforcement in ALL {
        laws::all(retry(RetryPolicy::failure(), enforcement));
    }
}

#[test]
fn a_retry_of_idempotent_calls_keeps_the_laws() {
    laws::all(retry(RetryPolicy::failure().idempotent(true), Enforcement::Enforced));
}

#[test]
fn a_backup_request_keeps_the_laws_whatever_its_enforcement() {
    for enforcement in ALL {
        laws::all(retry(RetryPolicy::backup(HOUR).idempotent(true), enforcement));
        laws::all(retry(RetryPolicy::mixed(HOUR).idempotent(true), enforcement));
    }
    let hour = retry(RetryPolicy::backup(HOUR).idempotent(true), Enforcement::Enforced);
    laws::waiting_costs_no_polls(hour, Duration::from_secs(60));
}

#[test]
fn a_backup_request_by_a_live_quantile_keeps_the_laws() {
    let quantile = RetryPolicy::backup(QuantileDelay::of(0.99)).idempotent(true);
    laws::all(retry(quantile, Enforcement::Enforced));
}

#[test]
fn a_retry_needs_of_the_inner_service_only_that_it_is_clonable() {
    let layer = retry(RetryPolicy::failure(), Enforcement::Enforced);
    laws::needs_only_a_clonable_service(layer, &Script::default());
}

#[test]
fn a_layer_applied_twice_shares_and_separate_ones_do_not() {
    let layer = || RetryLayer::new(RetryPolicy::default());
    let one = layer();
    assert!(one.handle().ptr_eq(one.clone().handle()));
    assert!(!one.handle().ptr_eq(one.separate().handle()));
    assert!(!one.handle().budget().ptr_eq(one.separate().handle().budget()));
    assert!(one.handle().policy().ptr_eq(one.separate().handle().policy()));
}

#[test]
fn a_first_attempt_that_succeeds_allocates_nothing() {
    laws::a_call_allocates_nothing(retry(RetryPolicy::failure(), Enforcement::Enforced));
    for delay in [HOUR, Duration::from_millis(1)] {
        let backup = RetryPolicy::backup(delay).idempotent(true);
        laws::a_call_allocates_nothing(retry(backup, Enforcement::Enforced));
    }
    let quantile = RetryPolicy::mixed(QuantileDelay::of(0.99)).idempotent(true);
    laws::a_call_allocates_nothing(retry(quantile, Enforcement::Enforced));
}
