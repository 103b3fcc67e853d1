/// Tells what governance decided as events of the span that it happens in: give it to each layer
/// as its observer.
///
/// The events are `tracing` events of the level `DEBUG` with the target `outrigger::events`. Where
/// spans go to OpenTelemetry, they are span events; while no subscriber asks for them, one costs a
/// look at an atomic.
///
/// Together with metrics it is a tuple: `.observe((metrics, SpanEvents))`.
///
/// | message | of | fields |
/// | --- | --- | --- |
/// | `attempt sent`, `attempt ended` | retries | `attempt`, `kind`, `shadow`; `outcome` |
/// | `retry scheduled` | retries | `attempt`, `wait_ms` |
/// | `backup won`, `backup lost` | retries | `attempt` |
/// | `no further attempt` | retries | `reason` |
/// | `call refused` | breakers, limits, balancers, time-outs | `layer`, `reason`, `shadow` |
/// | `waited` | limits | `wait_ms`, `shadow` |
/// | `circuit changed` | breakers | `from`, `to`, `cause` |
/// | `probe lost` | breakers | |
/// | `endpoint ejected`, `connect failed` | balancers | `endpoint`, `reason` |
///
/// Each has `key`, the name of the breaker, limit or method, where it has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanEvents;

#[cfg(any(
    feature = "circuitbreak",
    feature = "loadbalance",
    feature = "ratelimit",
    feature = "retry"
))]
macro_rules! span_event {
    ($key:expr, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        tracing::event!(
            target: "outrigger::events",
            tracing::Level::DEBUG,
            key = Some($key).filter(|key| !key.is_empty()),
            $($field = $value,)*
            $message,
        )
    };
}

#[cfg(feature = "circuitbreak")]
mod circuitbreak {
    use outrigger_circuitbreak::CircuitBreakerEvent;
    use outrigger_core::Observe;

    use super::SpanEvents;
    use crate::governance::words::{cause_word, refusal, state_word};

    impl Observe<CircuitBreakerEvent> for SpanEvents {
        fn observe(&self, key: &str, event: &CircuitBreakerEvent) {
            match *event {
                CircuitBreakerEvent::StateChanged(change) => span_event!(
                    key,
                    "circuit changed",
                    from = state_word(change.from),
                    to = state_word(change.to),
                    cause = cause_word(change.cause),
                ),
                CircuitBreakerEvent::Refused { state, shadow, .. } => {
                    let (layer, reason) = ("circuitbreak", refusal(state));
                    span_event!(
                        key,
                        "call refused",
                        layer = layer,
                        reason = reason,
                        shadow = shadow
                    );
                }
                CircuitBreakerEvent::ProbeLost => span_event!(key, "probe lost"),
                _ => {}
            }
        }
    }
}

#[cfg(any(feature = "ratelimit", feature = "retry"))]
fn millis(wait: std::time::Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(feature = "ratelimit")]
mod ratelimit {
    use outrigger_core::Observe;
    use outrigger_ratelimit::{
        AdaptiveLimitEvent, ClientThrottleEvent, ConcurrencyLimitEvent, RateLimitEvent,
    };

    use super::{SpanEvents, millis};

    const LAYER: &str = "ratelimit";

    impl Observe<ConcurrencyLimitEvent> for SpanEvents {
        fn observe(&self, key: &str, event: &ConcurrencyLimitEvent) {
            match *event {
                ConcurrencyLimitEvent::Refused { reason, shadow, .. } => {
                    refused(key, reason.reason(), shadow);
                }
                ConcurrencyLimitEvent::Waited { wait, .. } => {
                    span_event!(key, "waited", wait_ms = millis(wait), shadow = false);
                }
                ConcurrencyLimitEvent::WouldWait { .. } => {
                    span_event!(key, "waited", shadow = true);
                }
                _ => {}
            }
        }
    }

    impl Observe<AdaptiveLimitEvent> for SpanEvents {
        fn observe(&self, key: &str, event: &AdaptiveLimitEvent) {
            match *event {
                AdaptiveLimitEvent::Refused { reason, shadow, .. } => {
                    refused(key, reason.reason(), shadow);
                }
                AdaptiveLimitEvent::Waited { wait, .. } => {
                    span_event!(key, "waited", wait_ms = millis(wait), shadow = false);
                }
                AdaptiveLimitEvent::WouldWait { .. } => {
                    span_event!(key, "waited", shadow = true);
                }
                _ => {}
            }
        }
    }

    impl Observe<ClientThrottleEvent> for SpanEvents {
        fn observe(&self, key: &str, event: &ClientThrottleEvent) {
            if let ClientThrottleEvent::Refused { shadow, .. } = *event {
                refused(key, outrigger_ratelimit::THROTTLED, shadow);
            }
        }
    }

    impl Observe<RateLimitEvent> for SpanEvents {
        fn observe(&self, key: &str, event: &RateLimitEvent) {
            match *event {
                RateLimitEvent::Refused { reason, shadow, .. } => {
                    refused(key, reason.reason(), shadow);
                }
                RateLimitEvent::Waited { wait } => {
                    span_event!(key, "waited", wait_ms = millis(wait), shadow = false);
                }
                RateLimitEvent::WouldWait { wait } => {
                    span_event!(key, "waited", wait_ms = millis(wait), shadow = true);
                }
                _ => {}
            }
        }
    }

    fn refused(key: &str, reason: &'static str, shadow: bool) {
        span_event!(key, "call refused", layer = LAYER, reason = reason, shadow = shadow);
    }
}

#[cfg(feature = "loadbalance")]
mod loadbalance {
    use outrigger_core::Observe;
    use outrigger_loadbalance::BalanceEvent;

    use super::SpanEvents;
    use crate::governance::words::rule_word;

    impl Observe<BalanceEvent> for SpanEvents {
        fn observe(&self, endpoint: &str, event: &BalanceEvent) {
            match *event {
                BalanceEvent::Ejected { rule, enforced, .. } => span_event!(
                    "",
                    "endpoint ejected",
                    endpoint = endpoint,
                    reason = rule_word(rule),
                    shadow = !enforced,
                ),
                BalanceEvent::ConnectFailed { timed_out } => {
                    let reason = if timed_out { "timed_out" } else { "not_ready" };
                    span_event!("", "connect failed", endpoint = endpoint, reason = reason);
                }
                BalanceEvent::NoEndpoint => {
                    let (layer, reason) = ("loadbalance", "no_endpoint");
                    span_event!("", "call refused", layer = layer, reason = reason, shadow = false);
                }
                _ => {}
            }
        }
    }
}

#[cfg(feature = "retry")]
mod retry {
    use outrigger_core::Observe;
    use outrigger_retry::{RetryEvent, TimeoutEvent};

    use super::{SpanEvents, millis};
    use crate::governance::words::{kind_word, outcome_word, stop_word};

    impl Observe<TimeoutEvent> for SpanEvents {
        fn observe(&self, key: &str, event: &TimeoutEvent) {
            let (reason, shadow) = match *event {
                TimeoutEvent::TimedOut { shadow, .. } => ("timed_out", shadow),
                TimeoutEvent::TooLate { shadow } => ("deadline_passed", shadow),
                _ => return,
            };
            span_event!(key, "call refused", layer = "timeout", reason = reason, shadow = shadow);
        }
    }

    impl Observe<RetryEvent> for SpanEvents {
        fn observe(&self, key: &str, event: &RetryEvent) {
            match *event {
                RetryEvent::AttemptSent { number, kind, shadow } => span_event!(
                    key,
                    "attempt sent",
                    attempt = number,
                    kind = kind_word(kind),
                    shadow = shadow,
                ),
                RetryEvent::AttemptEnded { number, outcome } => {
                    let outcome = outcome_word(outcome);
                    span_event!(key, "attempt ended", attempt = number, outcome = outcome);
                }
                RetryEvent::RetryScheduled { number, wait } => {
                    span_event!(key, "retry scheduled", attempt = number, wait_ms = millis(wait));
                }
                RetryEvent::BackupWon { number } => {
                    span_event!(key, "backup won", attempt = number);
                }
                RetryEvent::BackupLost { number } => {
                    span_event!(key, "backup lost", attempt = number);
                }
                RetryEvent::BudgetExhausted { .. } => stopped(key, "budget_exhausted"),
                RetryEvent::ReplayImpossible => stopped(key, "replay_impossible"),
                RetryEvent::Stopped { reason } => stopped(key, stop_word(reason)),
                _ => {}
            }
        }
    }

    fn stopped(key: &str, reason: &'static str) {
        span_event!(key, "no further attempt", reason = reason);
    }
}
