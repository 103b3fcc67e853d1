//! The words of gRPC and Envoy, as the schema describes them. The reader translates them into the
//! settings of the crates; these types are never made.
#![expect(dead_code, reason = "only their shape is looked at")]

use outrigger_core::DurationInFile;
use schemars::JsonSchema;
use serde_json::Value;

/// A name of `methodConfig`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Name {
    /// The service, with its package. Empty: every service.
    service: Option<String>,
    /// The method. Empty: every method of the service.
    method: Option<String>,
}

/// Written as a number, or in a string as protobuf's JSON allows.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum Written<T> {
    Number(T),
    Text(String),
}

/// A status code of gRPC, by name or number.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Code {
    Name(String),
    Number(u8),
}

/// gRFC A6.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "GrpcRetryPolicy")]
pub(super) struct RetryPolicy {
    /// The first attempt counts: from 2; what is above 5 is cut to it.
    #[schemars(extend("minimum" = 2))]
    max_attempts: Written<u32>,
    /// The first wait, give or take a fifth.
    initial_backoff: DurationInFile,
    /// The longest wait.
    max_backoff: DurationInFile,
    /// What a wait is multiplied by for the next.
    backoff_multiplier: Written<f64>,
    /// The codes that are retried, at least one.
    #[schemars(length(min = 1))]
    retryable_status_codes: Vec<Code>,
}

/// gRFC A6.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "GrpcHedgingPolicy")]
pub(super) struct HedgingPolicy {
    /// The first attempt counts: from 2; what is above 5 is cut to it.
    #[schemars(extend("minimum" = 2))]
    max_attempts: Written<u32>,
    /// How long to wait before the next attempt. None: all are sent at once.
    hedging_delay: Option<DurationInFile>,
    /// The codes that do not end the call.
    non_fatal_status_codes: Option<Vec<Code>>,
}

/// A backup request by a live quantile of the method's latency.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Hedging {
    /// The quantile, such as 0.95.
    delay_quantile: Option<f64>,
    /// The shortest wait.
    min_delay: Option<DurationInFile>,
    /// The longest wait.
    max_delay: Option<DurationInFile>,
    /// What share of the service's calls further attempts may be: its retry budget.
    max_extra_load: Option<f64>,
    /// Whether the method may be executed more than once: backup requests ask for it.
    idempotent: Option<bool>,
    /// How many further attempts a call may make: at most 2.
    retries: Option<u32>,
}

/// Envoy's token bucket.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct TokenBucket {
    /// How many calls may begin at once after a pause.
    max_tokens: Option<u32>,
    /// How many calls may begin in each interval.
    tokens_per_fill: Option<u32>,
    /// The interval.
    fill_interval: Option<DurationInFile>,
}

/// A retry budget in Finagle's words.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct PercentBudget {
    /// Further attempts in percent of the calls.
    #[schemars(range(min = 0, max = 100))]
    percent: Option<f64>,
    /// How many further attempts a second are allowed however few the calls.
    min_retries_per_second: Option<f64>,
    /// How far back calls count.
    ttl: Option<DurationInFile>,
}

/// gRFC A6.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RetryThrottling {
    /// The tokens to begin with: 1 to 1000. Attempts are allowed while more than half are left.
    #[schemars(extend("minimum" = 1, "maximum" = 1_000))]
    max_tokens: Written<u32>,
    /// What a success adds. A failure takes one.
    token_ratio: Written<f64>,
}

/// A table with the name of one policy. Those that are not named here are skipped.
#[derive(JsonSchema)]
pub(super) struct LoadBalancing {
    /// All calls to one endpoint (gRFC A62).
    pick_first: Option<Value>,
    /// One endpoint after the other.
    round_robin: Option<Value>,
    /// By the load that the endpoints report (gRFC A58).
    weighted_round_robin: Option<Value>,
    /// The one of two with fewer calls in flight.
    least_request_experimental: Option<Value>,
    /// By a key of the request, on a ring.
    ring_hash_experimental: Option<Value>,
    /// Ejection around another policy (gRFC A50).
    outlier_detection_experimental: Option<Value>,
}

/// gRFC A50, the rule on the success rate.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct SuccessRateEjection {
    /// In thousandths: so many standard deviations below the mean.
    stdev_factor: Option<f64>,
    /// In percent; 0 takes the rule out.
    enforcement_percentage: Option<f64>,
    /// How many endpoints with enough calls the rule needs.
    minimum_hosts: Option<u32>,
    /// How many calls an endpoint needs.
    request_volume: Option<u32>,
}

/// gRFC A50, the rule on the share of failures.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct FailurePercentageEjection {
    /// In percent.
    threshold: Option<f64>,
    /// In percent; 0 takes the rule out.
    enforcement_percentage: Option<f64>,
    /// How many endpoints with enough calls the rule needs.
    minimum_hosts: Option<u32>,
    /// How many calls an endpoint needs.
    request_volume: Option<u32>,
}
