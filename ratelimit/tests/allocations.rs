//! Neither an admitted nor a refused call allocates.

use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Waker},
};

use allocation_counter::measure;
use outrigger_core::{Criticality, Rejection};
use outrigger_ratelimit::{
    AdaptiveLimitLayer, AdaptiveLimitPolicy, ClientThrottleLayer, ClientThrottlePolicy,
    ConcurrencyLimitLayer, ConcurrencyLimitPolicy, RateLimitLayer, RateLimitPolicy, ThrottlePermit,
};
use tokio::runtime::Builder;
use tower::{Layer, Service, service_fn};

fn inner()
-> impl Service<(), Response = (), Error = Rejection, Future = Ready<Result<(), Rejection>>> + Clone
{
    service_fn(|()| ready(Ok(())))
}

/// How many of a thousand calls passed, and how many allocations they made.
fn thousand<S: Service<(), Response = (), Error = Rejection>>(service: &mut S) -> (usize, u64) {
    let mut passed = 0;
    let info = measure(|| {
        for _ in 0..1_000 {
            let mut call = pin!(service.call(()));
            let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            passed += usize::from(matches!(poll, std::task::Poll::Ready(Ok(()))));
        }
    });
    (passed, info.count_total)
}

/// How many allocations a thousand calls make that wait and are given up, after two like them: a
/// queue keeps the timer of the call before until it has the next.
fn waits<S: Service<(), Response = (), Error = Rejection>>(service: &mut S) -> u64 {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("the system has what a runtime needs");
    let _inside = runtime.enter();
    let mut wait = || {
        let call = pin!(service.call(()));
        assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    };
    wait();
    wait();
    measure(|| (0..1_000).for_each(|_| wait())).count_total
}

#[test]
fn a_wait_for_a_place_allocates_nothing_once_there_were_some() {
    let policy = ConcurrencyLimitPolicy::builder().limit(1).max_waiting(1).build();
    let layer = ConcurrencyLimitLayer::new(policy.expect("valid"));
    let _held = layer.handle().try_acquire();
    assert_eq!(waits(&mut layer.layer(inner())), 0);
}

#[test]
fn a_wait_for_tokens_allocates_nothing_once_there_were_some() {
    let policy = RateLimitPolicy::builder().rate(1).burst(1).max_waiting(1);
    let mut service = RateLimitLayer::new(policy.build().expect("valid")).layer(inner());
    drop(service.call(()));
    assert_eq!(waits(&mut service), 0);
}

#[test]
fn the_concurrency_limit_allocates_nothing_on_admit_and_on_refuse() {
    let policy = ConcurrencyLimitPolicy::builder().limit(1).build().expect("valid");
    let layer = ConcurrencyLimitLayer::new(policy);
    let mut service = layer.layer(inner());
    assert_eq!(thousand(&mut service), (1_000, 0));
    let _held = layer.handle().try_acquire();
    assert_eq!(thousand(&mut service), (0, 0));
}

#[test]
fn the_rate_limit_allocates_nothing_on_admit_and_on_refuse() {
    let policy = RateLimitPolicy::builder().rate(1).burst(1_001).build().expect("valid");
    let mut service = RateLimitLayer::new(policy).layer(inner());
    drop(service.call(())); // A thread's first look at a live policy makes its place there.
    assert_eq!(thousand(&mut service), (1_000, 0));
    assert_eq!(thousand(&mut service), (0, 0));
}

#[test]
fn limits_by_key_allocate_nothing_for_a_key_that_is_known() {
    let policy = RateLimitPolicy::builder().rate(1).burst(1_001).build().expect("valid");
    let mut service = RateLimitLayer::per_key(policy, |(): &()| 7_u32).layer(inner());
    drop(service.call(()));
    assert_eq!(thousand(&mut service), (1_000, 0));
}

#[test]
fn the_client_throttle_allocates_nothing_on_admit_and_on_refuse() {
    let layer = ClientThrottleLayer::new(ClientThrottlePolicy::default());
    let mut service = layer.layer(inner());
    // A class makes its place with its first call.
    drop(service.call(()));
    assert_eq!(thousand(&mut service), (1_000, 0));
    for _ in 0..100_000 {
        let asked = layer.handle().try_acquire(Criticality::Critical);
        let _ = asked.map(ThrottlePermit::not_accepted);
    }
    let (passed, allocations) = thousand(&mut service);
    assert!(passed < 1_000, "most are refused");
    assert_eq!(allocations, 0);
}

#[test]
fn the_adaptive_limit_allocates_nothing_on_admit_and_on_refuse() {
    let policy = AdaptiveLimitPolicy::builder().initial_limit(1).max_limit(1);
    let layer = AdaptiveLimitLayer::new(policy.build().expect("valid"));
    let mut service = layer.layer(inner());
    drop(service.call(())); // A thread's first look at a live policy makes its place there.
    assert_eq!(thousand(&mut service), (1_000, 0));
    let _held = layer.handle().try_acquire();
    assert_eq!(thousand(&mut service), (0, 0));
}
