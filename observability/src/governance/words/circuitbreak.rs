use outrigger_circuitbreak::{Cause, State, TripRule};

/// The stable word for a state.
pub(crate) const fn state_word(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half_open",
        State::ForcedOpen => "forced_open",
        _ => "other",
    }
}

/// The stable word for a cause.
pub(crate) const fn cause_word(cause: Cause) -> &'static str {
    match cause {
        Cause::Tripped(TripRule::ErrorRate) => "error_rate",
        Cause::Tripped(TripRule::ErrorCount) => "error_count",
        Cause::Tripped(TripRule::ConsecutiveFailures) => "consecutive_failures",
        Cause::Tripped(TripRule::ConsecutiveFailuresLasting) => "consecutive_failures_lasting",
        Cause::Tripped(TripRule::SlowCalls) => "slow_calls",
        Cause::Tripped(_) => "custom",
        Cause::CooledDown => "cooled_down",
        Cause::Recovered => "recovered",
        Cause::ProbeFailed => "probe_failed",
        Cause::ByHand => "by_hand",
        _ => "other",
    }
}

/// The word in the [`Rejection`](outrigger_core::Rejection) that a circuit in this state makes.
pub(crate) const fn refusal(state: State) -> &'static str {
    match state {
        State::HalfOpen => "circuit_half_open",
        State::ForcedOpen => "circuit_forced_open",
        _ => "circuit_open",
    }
}
