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
