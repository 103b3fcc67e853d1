use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Logs changes of state, and no more lines than a limit allows: give it to breakers and balancers
/// as their observer.
///
/// The lines are `tracing` events with the target `outrigger::log`: `WARN` for what is bad news, an
/// opened circuit or an ejected endpoint, `INFO` for the rest. A line stands in the span of the call
/// that caused the change, so it carries the same ids. What single calls met with is not logged.
///
/// At most 10 lines in each second, by default; the next line that passes tells in `left_out` how
/// many did not. Clones share the limit.
///
/// ```
/// # #[cfg(feature = "circuitbreak")] {
/// use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy};
/// use outrigger_observability::StateLog;
///
/// let log = StateLog::default();
/// let breaker = CircuitBreaker::builder(CircuitBreakerPolicy::default())
///     .observe(log.clone())
///     .build();
/// (0..1_000).for_each(|_| {
///     breaker.force_open();
///     breaker.reset();
/// });
/// assert!(log.left_out() > 1_900);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StateLog {
    lines: Arc<Lines>,
}

#[derive(Debug)]
struct Lines {
    most: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    second: Option<Instant>,
    written: u32,
    left_out: u64,
    left_out_untold: u64,
}

impl StateLog {
    /// At most so many lines in each second. 0 is taken as 1.
    #[must_use]
    pub fn new(lines_per_second: u32) -> Self {
        let most = lines_per_second.max(1);
        Self { lines: Arc::new(Lines { most, state: Mutex::default() }) }
    }

    /// How many lines were left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.lines.state.lock().unwrap_or_else(PoisonError::into_inner).left_out
    }

    /// Logs that a set of policies from `source` is in force, or why it was refused.
    pub fn policy_reloaded(&self, source: &str, refused: Option<&str>) {
        let Some(left_out) = self.take() else { return };
        macro_rules! line {
            ($level:ident, $message:literal) => {
                tracing::event!(
                    target: "outrigger::log",
                    tracing::Level::$level,
                    source = Some(source).filter(|source| !source.is_empty()),
                    reason = refused,
                    left_out,
                    $message,
                )
            };
        }
        if refused.is_some() {
            line!(WARN, "policies refused, those before stay in force");
        } else {
            line!(INFO, "policies replaced");
        }
    }

    /// Whether a line may be written; and how many could not since the last.
    fn take(&self) -> Option<u64> {
        self.lines.take(Instant::now())
    }
}

impl Default for StateLog {
    fn default() -> Self {
        Self::new(10)
    }
}

impl Lines {
    fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over =
            |second: Instant| now.saturating_duration_since(second) >= Duration::from_secs(1);
        if state.second.is_none_or(is_over) {
            state.second = Some(now);
            state.written = 0;
        }
        if state.written >= self.most {
            state.left_out = state.left_out.saturating_add(1);
            state.left_out_untold = state.left_out_untold.saturating_add(1);
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out_untold))
    }
}

#[cfg(any(feature = "ratelimit", feature = "retry"))]
macro_rules! of_single_calls {
    ($($event:ty),+ $(,)?) => {
        $(
            /// Says nothing: what single calls meet with is not logged.
            impl outrigger_core::Observe<$event> for StateLog {
                fn observe(&self, _key: &str, _event: &$event) {}
            }
        )+
    };
}

#[cfg(feature = "ratelimit")]
of_single_calls!(
    outrigger_ratelimit::AdaptiveLimitEvent,
    outrigger_ratelimit::ClientThrottleEvent,
    outrigger_ratelimit::ConcurrencyLimitEvent,
    outrigger_ratelimit::RateLimitEvent,
);
#[cfg(feature = "retry")]
of_single_calls!(outrigger_retry::RetryEvent, outrigger_retry::TimeoutEvent);

#[cfg(feature = "circuitbreak")]
mod circuitbreak {
    use outrigger_circuitbreak::{CircuitBreakerEvent, State};
    use outrigger_core::Observe;

    use super::StateLog;
    use crate::governance::words::{cause_word, state_word};

    macro_rules! line {
        ($level:ident, $key:expr, $change:expr, $left_out:expr) => {
            tracing::event!(
                target: "outrigger::log",
                tracing::Level::$level,
                key = $key,
                from = state_word($change.from),
                to = state_word($change.to),
                cause = cause_word($change.cause),
                calls = $change.counts.calls,
                errors = $change.counts.errors(),
                left_out = $left_out,
                "circuit changed",
            )
        };
    }

    impl Observe<CircuitBreakerEvent> for StateLog {
        fn observe(&self, key: &str, event: &CircuitBreakerEvent) {
            let CircuitBreakerEvent::StateChanged(change) = event else { return };
            let Some(left_out) = self.take() else { return };
            if matches!(change.to, State::Open | State::ForcedOpen) {
                line!(WARN, key, change, left_out);
            } else {
                line!(INFO, key, change, left_out);
            }
        }
    }
}

#[cfg(feature = "loadbalance")]
mod loadbalance {
    use outrigger_core::Observe;
    use outrigger_loadbalance::BalanceEvent;

    use super::StateLog;
    use crate::governance::words::{refused_word, rule_word};

    macro_rules! line {
        ($level:ident, $endpoint:expr, $reason:expr, $left_out:expr, $message:literal) => {
            tracing::event!(
                target: "outrigger::log",
                tracing::Level::$level,
                endpoint = Some($endpoint).filter(|endpoint| !endpoint.is_empty()),
                reason = $reason,
                left_out = $left_out,
                $message,
            )
        };
    }

    impl Observe<BalanceEvent> for StateLog {
        fn observe(&self, endpoint: &str, event: &BalanceEvent) {
            // What single calls met with is not logged.
            if matches!(event, BalanceEvent::NoEndpoint | BalanceEvent::ConnectFailed { .. }) {
                return;
            }
            let Some(left_out) = self.take() else { return };
            let none = None::<&str>;
            match *event {
                BalanceEvent::Added { .. } => {
                    line!(INFO, endpoint, none, left_out, "endpoint added");
                }
                BalanceEvent::Removed { .. } => {
                    line!(INFO, endpoint, none, left_out, "endpoint removed");
                }
                BalanceEvent::Ejected { rule, enforced: true, .. } => {
                    line!(WARN, endpoint, rule_word(rule), left_out, "endpoint ejected");
                }
                BalanceEvent::Ejected { rule, .. } => {
                    line!(INFO, endpoint, rule_word(rule), left_out, "endpoint would be ejected");
                }
                BalanceEvent::Returned => {
                    line!(INFO, endpoint, none, left_out, "endpoint returned");
                }
                BalanceEvent::PanicEntered { .. } => {
                    line!(WARN, endpoint, none, left_out, "too few endpoints are healthy");
                }
                BalanceEvent::PanicLeft { .. } => {
                    line!(INFO, endpoint, none, left_out, "enough endpoints are healthy again");
                }
                BalanceEvent::UpdateRefused { cause } => {
                    line!(WARN, endpoint, refused_word(cause), left_out, "endpoints not updated");
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_tells_what_was_left_out() {
        let log = StateLog::new(2);
        let start = Instant::now();
        let take = |ms| log.lines.take(start + Duration::from_millis(ms));
        assert_eq!([0, 1, 2, 999].map(take), [Some(0), Some(0), None, None]);
        assert_eq!(take(1_000), Some(2));
        assert_eq!(take(1_001), Some(0));
        assert_eq!(log.left_out(), 2);
    }
}
