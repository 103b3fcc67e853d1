//! The limits under the laws of a tower layer.

use std::time::Duration;

use outrigger_core::{Enforcement, ErrorsAreFailures, OnResponse};
use outrigger_ratelimit::{
    AdaptiveLimitLayer, AdaptiveLimitPolicy, AdaptiveLimitPolicyBuilder, ClientThrottleFuture,
    ClientThrottleLayer, ClientThrottlePolicy, ConcurrencyLimitFuture, ConcurrencyLimitLayer,
    ConcurrencyLimitPolicy, ConcurrencyLimitPolicyBuilder, Permit, RateLimitFuture, RateLimitLayer,
    RateLimitPolicy, Wait,
};
use outrigger_testing::{Scripted, ScriptedFuture, laws};
use tower::BoxError;

fn concurrency(policy: ConcurrencyLimitPolicyBuilder) -> impl Fn() -> ConcurrencyLimitLayer {
    move || ConcurrencyLimitLayer::new(policy.build().expect("a valid policy"))
}

#[test]
fn the_concurrency_limit_keeps_the_laws_whatever_its_enforcement() {
    let policy = ConcurrencyLimitPolicy::builder();
    laws::all(concurrency(policy));
    laws::all(concurrency(policy.max_waiting(10)));
    laws::all(concurrency(policy.enforcement(Enforcement::Shadow)));
    laws::all(concurrency(policy.enforcement(Enforcement::Disabled)));
    let policy = policy.build().expect("a valid policy");
    laws::all(|| ConcurrencyLimitLayer::per_key(policy, |request: &u32| request % 3));
}

#[test]
fn the_rate_limit_keeps_the_laws_whatever_its_enforcement() {
    let policy = RateLimitPolicy::builder().rate(1_000).period(Duration::from_secs(1)).burst(1_000);
    for enforcement in [Enforcement::Enforced, Enforcement::Shadow, Enforcement::Disabled] {
        let policy = policy.enforcement(enforcement).build().expect("a valid policy");
        laws::all(|| RateLimitLayer::new(policy));
        laws::all(|| RateLimitLayer::per_key(policy, |request: &u32| request % 3));
    }
}

#[test]
fn the_client_throttle_keeps_the_laws_whatever_its_enforcement() {
    for enforcement in [Enforcement::Enforced, Enforcement::Shadow, Enforcement::Disabled] {
        // So generous that the failures that the laws are about are let through.
        let policy = ClientThrottlePolicy::builder().min_requests(u32::MAX);
        let policy = policy.enforcement(enforcement).build().expect("a valid policy");
        laws::all(|| ClientThrottleLayer::new(policy));
        laws::all(|| ClientThrottleLayer::per_key(policy, |request: &u32| request % 3));
    }
}

#[test]
fn the_futures_are_small_and_go_anywhere() {
    type Concurrency = ConcurrencyLimitFuture<Scripted, u32, Permit, Wait, OnResponse>;
    type Rate = RateLimitFuture<Scripted, u32, ()>;
    type Throttle =
        ClientThrottleFuture<ScriptedFuture, (), ErrorsAreFailures, OnResponse, BoxError>;
    laws::is_send_and_at_most::<Concurrency>(size_of::<ScriptedFuture>() + 320);
    laws::is_send_and_at_most::<Rate>(size_of::<ScriptedFuture>() + 96);
    laws::is_send_and_at_most::<Throttle>(size_of::<ScriptedFuture>() + 32);
}

#[test]
fn calls_that_wait_keep_the_laws_of_waiting() {
    let one_at_a_time =
        || concurrency(ConcurrencyLimitPolicy::builder().limit(1).max_waiting(1_000));
    laws::a_dropped_waiter_hands_its_turn_on(one_at_a_time());
    laws::a_waiter_parks_no_place_below(one_at_a_time());
    laws::waiters_are_served_in_order_and_without_a_stampede(one_at_a_time(), 500);
}

#[test]
fn the_adaptive_limit_keeps_the_laws_whatever_its_enforcement() {
    let policy = AdaptiveLimitPolicy::builder();
    let layer = |policy: AdaptiveLimitPolicyBuilder| {
        move || AdaptiveLimitLayer::new(policy.build().expect("a valid policy"))
    };
    laws::all(layer(policy));
    laws::all(layer(policy.max_waiting(10)));
    laws::all(layer(policy.enforcement(Enforcement::Shadow)));
    laws::all(layer(policy.enforcement(Enforcement::Disabled)));
    let policy = policy.build().expect("a valid policy");
    laws::all(|| AdaptiveLimitLayer::per_key(policy, |request: &u32| request % 3));
}

#[cfg(feature = "http")]
#[test]
fn places_are_held_to_the_end_of_the_body() {
    let concurrency = concurrency(ConcurrencyLimitPolicy::builder());
    laws::http::all(|| concurrency().http());
    laws::http::all(|| AdaptiveLimitLayer::new(AdaptiveLimitPolicy::default()).http());
    laws::http::all(|| AdaptiveLimitLayer::new(AdaptiveLimitPolicy::default()).grpc());
}
