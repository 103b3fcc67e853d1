//! What stands for settings of the crates: short forms, and the words of others.

/// Settings where a single value stands for a table with one field: the setting, and the field.
pub(crate) const SHORT: [(&str, &str); 7] = [
    ("timeout", "timeout"),
    ("attempt_timeout", "timeout"),
    ("connection_limit", "limit"),
    ("concurrency_limit", "limit"),
    ("adaptive_limit", "algorithm"),
    ("rate_limit", "rate"),
    ("client_throttle", "k"),
];

/// What gRPC states of a channel, and nothing here acts on.
pub(crate) const CHANNELS_OWN: [&str; 3] =
    ["wait_for_ready", "max_request_message_bytes", "max_response_message_bytes"];

/// A word of gRPC, resilience4j or Envoy for a setting of ours.
pub(crate) struct Word {
    /// The table in which it stands; empty for a scope.
    pub(crate) section: &'static str,
    pub(crate) theirs: &'static str,
    /// The setting, below a table of its own if that is a path of two.
    pub(crate) ours: &'static str,
    pub(crate) form: Form,
}

/// How the value is written under their name.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Same,
    Percent,
    /// resilience4j's window, of which two words speak together.
    Window,
    WindowType,
}

const fn word(section: &'static str, theirs: &'static str, ours: &'static str, form: Form) -> Word {
    Word { section, theirs, ours, form }
}

const BREAKER: &str = "circuit_breaker";

pub(crate) const WORDS: [Word; 26] = [
    word("", "per_attempt_timeout", "attempt_timeout", Form::Same),
    // resilience4j
    word(BREAKER, "sliding_window_size", "", Form::Window),
    word(BREAKER, "sliding_window_type", "", Form::WindowType),
    word(BREAKER, "minimum_number_of_calls", "error_rate.minimum_calls", Form::Same),
    word(BREAKER, "failure_rate_threshold", "error_rate.rate", Form::Percent),
    word(BREAKER, "slow_call_rate_threshold", "slow_calls.rate", Form::Percent),
    word(BREAKER, "slow_call_duration_threshold", "slow_calls.duration", Form::Same),
    word(BREAKER, "wait_duration_in_open_state", "cool_down", Form::Same),
    word(BREAKER, "permitted_number_of_calls_in_half_open_state", "max_probes", Form::Same),
    word(BREAKER, "max_wait_duration_in_half_open_state", "probe_limit", Form::Same),
    word("concurrency_limit", "max_concurrent_calls", "limit", Form::Same),
    word("concurrency_limit", "max_wait_duration", "max_wait", Form::Same),
    word("adaptive_limit", "limit", "max_limit", Form::Same),
    word("adaptive_limit", "max_concurrent_calls", "max_limit", Form::Same),
    word("adaptive_limit", "max_wait_duration", "max_wait", Form::Same),
    word("rate_limit", "limit_for_period", "rate", Form::Same),
    word("rate_limit", "limit_refresh_period", "period", Form::Same),
    // Envoy
    word("concurrency_limit", "max_requests", "limit", Form::Same),
    word("concurrency_limit", "max_pending_requests", "max_waiting", Form::Same),
    word("token_bucket", "max_tokens", "burst", Form::Same),
    word("token_bucket", "tokens_per_fill", "rate", Form::Same),
    word("token_bucket", "fill_interval", "period", Form::Same),
    // gRFC A50
    word("balance", "outlier_detection", "ejection", Form::Same),
    word("ejection", "base_ejection_time", "base_time", Form::Same),
    word("ejection", "max_ejection_time", "max_time", Form::Same),
    word("ejection", "max_ejection_percent", "max_ejected", Form::Percent),
];
