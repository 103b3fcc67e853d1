use outrigger_core::Outcome;
use outrigger_retry::{AttemptKind, StopReason};

/// The stable word for why an attempt was sent.
pub(crate) const fn kind_word(kind: AttemptKind) -> &'static str {
    match kind {
        AttemptKind::First => "first",
        AttemptKind::Retry => "retry",
        AttemptKind::Backup => "backup",
        AttemptKind::Transparent => "transparent",
        _ => "other",
    }
}

/// The stable word for an outcome.
pub(crate) const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Timeout => "timeout",
        Outcome::Ignored => "ignored",
    }
}

/// The stable word for why no further attempt is made.
pub(crate) const fn stop_word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::MaxRetries => "max_retries",
        StopReason::NoTimeLeft => "no_time_left",
        StopReason::ChainStop => "chain_stop",
        StopReason::Pushback => "pushback",
        StopReason::CircuitOpen => "circuit_open",
        StopReason::NotIdempotent => "not_idempotent",
        StopReason::ReplayImpossible => "replay_impossible",
        StopReason::NotReady => "not_ready",
        _ => "other",
    }
}
