//! Each of our layers alone, with its policy disabled: what a layer costs that is there and does
//! nothing.

use outrigger_circuitbreak::{CircuitBreakerLayer, CircuitBreakerPolicy};
use outrigger_core::Enforcement::Disabled;
use outrigger_ratelimit::{
    ClientThrottleLayer, ClientThrottlePolicy, ConcurrencyLimitLayer, ConcurrencyLimitPolicy,
    RateLimitLayer, RateLimitPolicy,
};
use outrigger_retry::{RetryLayer, RetryPolicy, TimeoutLayer, TimeoutPolicy};
use tower::Layer;

use super::{HOUR, ours::case};
use crate::kit::{Case, Cloned, inner};

pub(super) fn cases() -> Vec<Case> {
    let breaker = CircuitBreakerPolicy::default().with_enforcement(Disabled);
    let concurrency = ConcurrencyLimitPolicy::default().with_enforcement(Disabled);
    let rate = RateLimitPolicy::default().with_enforcement(Disabled);
    let throttle = ClientThrottlePolicy::default().with_enforcement(Disabled);
    let timeout = TimeoutPolicy::after(HOUR).with_enforcement(Disabled);
    let retry = RetryPolicy::default().with_enforcement(Disabled);
    vec![
        case("breaker_disabled", Cloned(CircuitBreakerLayer::new(breaker).layer(inner()))),
        case(
            "concurrency_disabled",
            Cloned(ConcurrencyLimitLayer::new(concurrency).layer(inner())),
        ),
        case("rate_disabled", Cloned(RateLimitLayer::new(rate).layer(inner()))),
        case("throttle_disabled", Cloned(ClientThrottleLayer::new(throttle).layer(inner()))),
        case("timeout_disabled", Cloned(TimeoutLayer::new(timeout).layer(inner()))),
        case("retry_disabled", Cloned(RetryLayer::new(retry).layer(inner()))),
    ]
}
