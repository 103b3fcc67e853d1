//! The layers of tower-resilience.

use std::{
    future::{Future as _, pending},
    task::{Context, Waker},
    time::Duration,
};

use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};
use tower_resilience_hedge::HedgeLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::{RetryBudgetBuilder, RetryLayer};
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::{HOUR, PLENTY};
use crate::kit::{Calls, Case, Cloned, Fault, failing, inner, runtime};

pub(super) fn cases() -> Vec<Case> {
    let times = TimeLimiterLayer::builder().timeout_duration(HOUR).build();
    let hedge = HedgeLayer::builder().delay(HOUR).max_hedged_attempts(2).build();
    vec![
        case("breaker_closed", Cloned(breaker().layer(inner()))),
        time_window(),
        case("breaker_refusal", Cloned(open())),
        case("concurrency_limit", Cloned(bulkhead(PLENTY as usize).layer(inner()))),
        case("concurrency_refusal", Cloned(full())),
        case("rate_limit", Cloned(rate(PLENTY as usize * 1_000))),
        case("rate_refusal", Cloned(used_up())),
        case("timeout", Cloned(times.layer(inner()))),
        case("retry_first_ok", Cloned(retry::<u64, Fault>().layer(inner()))),
        case("backup_armed", Cloned(hedge.layer(inner()))),
        case("client_stack_no_observe", Cloned(stack(inner()))),
    ]
}

fn case(name: &'static str, calls: impl Calls + 'static) -> Case {
    Case::new(name, "tower-resilience", calls)
}

type Breaker = CircuitBreakerLayer<tower_resilience_circuitbreaker::DefaultClassifier>;

/// With a window of 100 calls, its default kind.
fn breaker() -> Breaker {
    let builder = CircuitBreakerLayer::builder().failure_rate_threshold(0.5);
    builder.sliding_window_size(100).build().expect("in order")
}

/// With a window of 10 s, as ours; it grows as long as it is measured, so its cost does too.
fn time_window() -> Case {
    let builder = CircuitBreakerLayer::builder().failure_rate_threshold(0.5);
    let builder = builder.sliding_window_type(SlidingWindowType::TimeBased);
    let builder = builder.sliding_window_duration(Duration::from_millis(1));
    let layer = builder.build().expect("in order");
    case("breaker_closed_time_window_1ms", Cloned(layer.layer(inner())))
}

fn open() -> impl Service<u64, Response = u64, Error: Send> + Clone + Send + 'static {
    let builder = CircuitBreakerLayer::builder().failure_rate_threshold(0.5);
    let builder = builder.sliding_window_size(10).minimum_number_of_calls(10);
    let layer = builder.wait_duration_in_open(HOUR).build().expect("in order");
    let service = layer.layer(failing());
    Cloned(service.clone()).run(&runtime(), 100);
    service
}

fn bulkhead(places: usize) -> BulkheadLayer {
    BulkheadLayer::builder()
        .max_concurrent_calls(places)
        .reject_when_full()
        .build()
        .expect("in order")
}

/// All its places are taken for good.
fn full() -> impl Service<u64, Response = u64, Error: Send> + Clone + Send + 'static {
    let service = bulkhead(1).layer(service_fn(|_: u64| pending::<Result<u64, Fault>>()));
    let mut for_ever = Box::pin(service.clone().oneshot(0));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(for_ever.as_mut().poll(&mut cx).is_pending());
    std::mem::forget(for_ever);
    service
}

fn limiter(calls: usize) -> RateLimiterLayer {
    let builder = RateLimiterLayer::builder().limit_for_period(calls);
    builder.refresh_period(HOUR).timeout_duration(Duration::ZERO).build().expect("in order")
}

fn rate(calls: usize) -> impl Service<u64, Response = u64, Error: Send> + Clone + Send + 'static {
    limiter(calls).layer(inner())
}

/// Its one permit is gone.
fn used_up() -> impl Service<u64, Response = u64, Error: Send> + Clone + Send + 'static {
    let service = rate(1);
    Cloned(service.clone()).run(&runtime(), 2);
    service
}

fn retry<R, E>() -> RetryLayer<u64, R, E> {
    let budget = RetryBudgetBuilder::new().token_bucket().build().expect("in order");
    RetryLayer::builder().max_attempts(3).fixed_backoff(HOUR).budget(budget).build()
}

/// A limit, retries under a budget, a breaker and a time-out.
pub(crate) fn stack<S>(
    service: S,
) -> impl Service<u64, Response = S::Response, Error: Send, Future: Send> + Clone + Send + 'static
where
    S: Service<u64, Response: Send, Error: std::error::Error + Send, Future: Send>
        + Clone
        + Send
        + 'static,
{
    ServiceBuilder::new()
        .layer(bulkhead(PLENTY as usize))
        .layer(retry())
        .layer(breaker())
        .layer(TimeLimiterLayer::builder().timeout_duration(HOUR).build())
        .service(service)
}
