//! What calls allocate: nothing.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    fmt,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerEvent, CircuitBreakerLayer, CircuitBreakerPolicy,
    CircuitBreakerPolicyBuilder, State,
};
use outrigger_core::{Method, MethodRef, Outcome, Rejection};
use tower::{Layer, Service, service_fn, util::ServiceFn};

/// A user's own error, as enums hold a refusal: without a box.
#[derive(Debug)]
enum Error {
    Refused(Rejection),
    Failed,
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Error {}

fn policy() -> CircuitBreakerPolicyBuilder {
    CircuitBreakerPolicy::builder()
}

fn breaker(policy: CircuitBreakerPolicyBuilder) -> CircuitBreaker {
    CircuitBreaker::new(policy.build().unwrap())
}

fn layer(policy: CircuitBreakerPolicyBuilder) -> CircuitBreakerLayer {
    CircuitBreakerLayer::from_handle(breaker(policy))
}

/// Answers at once: even numbers with themselves, odd ones with an error.
fn answer(number: u64) -> Ready<Result<u64, Error>> {
    ready(if number.is_multiple_of(2) { Ok(number) } else { Err(Error::Failed) })
}

/// Polls once, which is enough for an inner service that answers at once.
fn call<S: Service<u64>>(service: &mut S, number: u64) -> Result<S::Response, S::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match pin!(service.call(number)).poll(&mut cx) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the inner service answers at once"),
    }
}

/// How often memory was asked for in a thousand rounds of `work`, after a first one.
fn allocations(mut work: impl FnMut()) -> u64 {
    work();
    allocation_counter::measure(|| (0..1_000).for_each(|_| work())).count_total
}

/// How often memory was asked for in a thousand calls that go well, after a first one.
fn allocations_of_calls<L>(layer: &L) -> u64
where
    L: Layer<ServiceFn<fn(u64) -> Ready<Result<u64, Error>>>>,
    L::Service: Service<u64, Response = u64, Error = Error>,
{
    let mut service = layer.layer(service_fn(answer as _));
    allocations(|| assert_eq!(call(&mut service, 2).unwrap(), 2))
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1_000);
}

#[test]
fn a_call_on_a_closed_circuit_allocates_nothing() {
    assert_eq!(allocations_of_calls(&layer(policy())), 0, "time window");
    assert_eq!(allocations_of_calls(&layer(policy().count_window(100))), 0, "count window");
    let slow = policy().slow_calls(Duration::from_secs(1), 0.5, 10);
    assert_eq!(allocations_of_calls(&layer(slow)), 0, "slow-call rule");
}

#[test]
fn an_observer_costs_no_allocation() {
    static EVENTS: AtomicU64 = AtomicU64::new(0);
    let count = |_: &str, _: &CircuitBreakerEvent| {
        EVENTS.fetch_add(1, Ordering::Relaxed);
    };
    let layer = layer(policy()).observe(count);
    assert_eq!(allocations_of_calls(&layer), 0);
    layer.handle().force_open();
    let mut service = layer.layer(service_fn(answer));
    let refused = || drop(call(&mut service, 2).unwrap_err());
    assert_eq!(allocations(refused), 0);
    assert_eq!(EVENTS.load(Ordering::Relaxed), 1_002, "one change, and each refusal");
}

#[test]
fn a_failure_allocates_nothing() {
    for policy in [policy(), policy().count_window(100)] {
        let layer = layer(policy.no_error_rate().error_count(u32::MAX));
        let mut service = layer.layer(service_fn(answer));
        let fail = || assert!(matches!(call(&mut service, 1), Err(Error::Failed)));
        assert_eq!(allocations(fail), 0);
    }
}

#[test]
fn a_refusal_allocates_nothing() {
    let policy = policy().consecutive_failures(1).build().unwrap();
    let unnamed = CircuitBreaker::new(policy.clone());
    let named = CircuitBreaker::builder(policy).name("shop.Orders/Place").build();
    for breaker in [unnamed, named] {
        breaker.try_acquire().unwrap().record(Outcome::Failure);
        let mut service =
            CircuitBreakerLayer::from_handle(breaker.clone()).layer(service_fn(answer));
        let refused = || match call(&mut service, 2) {
            Err(Error::Refused(rejection)) => {
                assert_eq!(rejection.reason(), "circuit_open");
                assert_eq!(rejection.key().unwrap_or_default(), breaker.name());
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(allocations(refused), 0, "{breaker:?}");
    }
}

#[test]
fn a_known_method_finds_its_breaker_without_an_allocation() {
    fn name(_request: &u64) -> Option<MethodRef<'_>> {
        MethodRef::from_grpc_path("/shop.Orders/Place")
    }
    let layer = CircuitBreakerLayer::per_method(policy().build().unwrap(), name);
    assert_eq!(allocations_of_calls(&layer), 0);
    let method = Method::new("shop.Orders", "Place");
    layer.handle().get(&method).unwrap().force_open();
    let mut service = layer.layer(service_fn(answer));
    assert_eq!(allocations(|| drop(call(&mut service, 2).unwrap_err())), 0, "refused");
}

/// A recovery makes room for its probes once; the next ones find it there.
#[test]
fn a_circuit_that_opens_and_closes_again_and_again_keeps_its_memory() {
    let policy = policy().consecutive_failures(1).cool_down(SHORT).cool_down_jitter(0.0);
    let breaker = breaker(policy.probe_interval(Duration::ZERO).successes_to_close(1));
    let round_trip = || {
        breaker.try_acquire().unwrap().record(Outcome::Failure);
        let probe = loop {
            if let Ok(permit) = breaker.try_acquire() {
                break permit;
            }
        };
        probe.record(Outcome::Success);
        assert_eq!(breaker.state(), State::Closed);
    };
    assert_eq!(allocations(round_trip), 0);
}

/// As short as a cool-down can be: it is over at the next look at the clock.
const SHORT: Duration = Duration::from_nanos(1);

#[tokio::test(start_paused = true)]
async fn a_million_calls_over_many_windows_leave_the_memory_as_it_was() {
    let step = Duration::from_millis(1);
    let policy = policy().time_window(Duration::from_millis(100));
    let breaker = breaker(policy.no_error_rate().error_count(u32::MAX));
    let warm_up = 20_000;
    for number in 0..warm_up {
        record_one(&breaker, number);
        if number.is_multiple_of(100) {
            tokio::time::advance(step).await;
        }
    }
    let (mut count, mut bytes) = (0, 0);
    for _ in 0..10_000 {
        let info = allocation_counter::measure(|| {
            (0..100).for_each(|number| record_one(&breaker, number));
        });
        count += info.count_total;
        bytes += info.bytes_current;
        tokio::time::advance(step).await;
    }
    assert_eq!((count, bytes), (0, 0));
    let counts = breaker.snapshot().counts;
    assert_eq!((counts.calls, counts.failures), (99 * 100, 99 * 10), "only the last window");
}

fn record_one(breaker: &CircuitBreaker, number: u64) {
    let outcome = if number.is_multiple_of(10) { Outcome::Failure } else { Outcome::Success };
    breaker.try_acquire().unwrap().record(outcome);
}
