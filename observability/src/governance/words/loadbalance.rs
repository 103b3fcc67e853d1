use outrigger_loadbalance::{EjectionRule, RefusedUpdate};

/// The stable word for a rule of ejection.
pub(crate) const fn rule_word(rule: EjectionRule) -> &'static str {
    match rule {
        EjectionRule::ConsecutiveFailures => "consecutive_failures",
        EjectionRule::Probation => "probation",
        EjectionRule::ErrorRate => "error_rate",
        EjectionRule::SuccessRateDeviation => "success_rate_deviation",
        EjectionRule::Latency => "latency",
        _ => "other",
    }
}

/// The stable word for what was wrong with an update.
pub(crate) const fn refused_word(cause: RefusedUpdate) -> &'static str {
    match cause {
        RefusedUpdate::Empty => "empty",
        RefusedUpdate::Failed => "failed",
        _ => "other",
    }
}
