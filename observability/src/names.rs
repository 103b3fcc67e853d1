//! The metrics that this crate exports, with their labels: one table that the documentation, the
//! dashboards, the alert rules and the tests use.
//!
//! Names, units and buckets are those of OpenTelemetry's conventions for RPC, and of gRFC A66 for
//! attempts where gRPC is spoken. What neither knows begins with `outrigger`.

use crate::meter::Kind::{Counter, Gauge, Histogram, UpDown};
use crate::meter::{Kind, Metric};

/// Seconds: the buckets that OpenTelemetry's conventions give for durations of calls.
pub const RPC_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Seconds: the buckets of gRFC A66 for latencies.
pub const GRPC_BUCKETS: &[f64] = &[
    0.0, 1e-5, 5e-5, 1e-4, 3e-4, 6e-4, 8e-4, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 8e-3, 0.01, 0.013,
    0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5,
    0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

/// The buckets of gRFC A96 for counts of retries within one call.
pub const RETRY_BUCKETS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0];

/// `rpc.system.name`: `grpc`, or what the layer was told.
pub const SYSTEM: &str = "rpc.system.name";
/// `rpc.method`: the full name, `pkg.Service/Method`.
pub const METHOD: &str = "rpc.method";
/// `rpc.status_code`: the name of the gRPC status, or the number of the HTTP status.
pub const STATUS_CODE: &str = "rpc.status_code";
/// `error.type`: on anything but a success the status code, the reason of a refusal, or a word.
pub const ERROR_TYPE: &str = "error.type";
/// `server.address`: the logical target of a client.
pub const SERVER_ADDRESS: &str = "server.address";
/// `network.peer.address`: the key of the endpoint, where a layer observes one endpoint.
pub const PEER: &str = "network.peer.address";
/// `outrigger.outcome`: see [`CallOutcome`](crate::CallOutcome).
pub const OUTCOME: &str = "outrigger.outcome";
/// `grpc.method`: as [`METHOD`], by gRPC's own name.
pub const GRPC_METHOD: &str = "grpc.method";
/// `grpc.target`: as [`SERVER_ADDRESS`], by gRPC's own name.
pub const GRPC_TARGET: &str = "grpc.target";
/// `grpc.status`: the name of the status.
pub const GRPC_STATUS: &str = "grpc.status";
/// `otel.metric.overflow`: `true` on the series that stands for all beyond the cap.
pub const OVERFLOW: &str = "otel.metric.overflow";
/// `outrigger.key`: the name of the breaker, limit, budget or balancer.
pub const KEY: &str = "outrigger.key";
/// `outrigger.layer`: which crate's layer.
pub const LAYER: &str = "outrigger.layer";
/// `outrigger.reason`: the stable word for why.
pub const REASON: &str = "outrigger.reason";
/// `outrigger.enforcement`: `enforced`, or `shadow` for what would have been done.
pub const ENFORCEMENT: &str = "outrigger.enforcement";
/// `outrigger.state`: a breaker's or an endpoint's state.
pub const STATE: &str = "outrigger.state";
/// `outrigger.state.from`: the state that a breaker left.
pub const FROM: &str = "outrigger.state.from";
/// `outrigger.kind`: `first`, `retry`, `backup` or `transparent`; of limits, what is limited.
pub const SORT: &str = "outrigger.kind";
/// `outrigger.result`: what came of it.
pub const RESULT: &str = "outrigger.result";

/// The value of [`METHOD`] for calls that name none.
pub const UNNAMED: &str = "_OTHER";
/// The value of [`METHOD`] and [`KEY`] on the series that stands for all beyond the cap.
pub const OTHER: &str = "_other";

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident = $kind:expr, $path:literal, $unit:literal,
        [$($label:expr),* $(,)?], $buckets:expr;)+) => {
        $(
            $(#[doc = $help])+
            pub const $name: &Metric = &Metric {
                name: $path,
                kind: $kind,
                unit: $unit,
                help: concat!($($help),+).trim_ascii(),
                labels: &[$($label),*],
                buckets: $buckets,
            };
        )+

        /// Every metric that this crate exports, in the order of its documentation.
        pub const ALL: &[&Metric] = &[$($name),+];
    };
}

metrics! {
    /// How long calls took, retries and all, until their bodies ended.
    CLIENT_DURATION = Histogram, "rpc.client.call.duration", "s",
        [SYSTEM, METHOD, SERVER_ADDRESS, STATUS_CODE, ERROR_TYPE, OUTCOME, OVERFLOW], RPC_BUCKETS;
    /// How long a server took for calls, until their bodies ended.
    SERVER_DURATION = Histogram, "rpc.server.call.duration", "s",
        [SYSTEM, METHOD, SERVER_ADDRESS, STATUS_CODE, ERROR_TYPE, OUTCOME, OVERFLOW], RPC_BUCKETS;
    /// Calls of a client that are under way.
    CLIENT_IN_FLIGHT = UpDown, "outrigger.client.calls.in_flight", "{call}",
        [SYSTEM, METHOD, SERVER_ADDRESS, OVERFLOW], &[];
    /// Calls that a server works on.
    SERVER_IN_FLIGHT = UpDown, "outrigger.server.calls.in_flight", "{call}",
        [SYSTEM, METHOD, SERVER_ADDRESS, OVERFLOW], &[];
    /// Attempts that are under way.
    ATTEMPTS_IN_FLIGHT = UpDown, "outrigger.client.attempts.in_flight", "{attempt}",
        [SYSTEM, METHOD, SERVER_ADDRESS, PEER, OVERFLOW], &[];
    /// Attempts that were begun, where gRPC is spoken.
    GRPC_ATTEMPT_STARTED = Counter, "grpc.client.attempt.started", "{attempt}",
        [GRPC_METHOD, GRPC_TARGET, PEER, OVERFLOW], &[];
    /// How long attempts took, where gRPC is spoken.
    GRPC_ATTEMPT_DURATION = Histogram, "grpc.client.attempt.duration", "s",
        [GRPC_METHOD, GRPC_TARGET, PEER, GRPC_STATUS, ERROR_TYPE, OUTCOME, OVERFLOW], GRPC_BUCKETS;
    /// Attempts that were begun, where gRPC is not spoken.
    ATTEMPT_STARTED = Counter, "outrigger.client.attempt.started", "{attempt}",
        [SYSTEM, METHOD, SERVER_ADDRESS, PEER, OVERFLOW], &[];
    /// How long attempts took, where gRPC is not spoken.
    ATTEMPT_DURATION = Histogram, "outrigger.client.attempt.duration", "s",
        [SYSTEM, METHOD, SERVER_ADDRESS, PEER, STATUS_CODE, ERROR_TYPE, OUTCOME, OVERFLOW],
        GRPC_BUCKETS;
    /// Retries of calls that were retried, where gRPC is spoken.
    GRPC_CALL_RETRIES = Histogram, "grpc.client.call.retries", "{retry}",
        [GRPC_METHOD, GRPC_TARGET, OVERFLOW], RETRY_BUCKETS;
    /// Transparent retries of calls that were retried so, where gRPC is spoken.
    GRPC_CALL_TRANSPARENT_RETRIES = Histogram, "grpc.client.call.transparent_retries",
        "{transparent_retry}", [GRPC_METHOD, GRPC_TARGET, OVERFLOW], RETRY_BUCKETS;
    /// Backup requests of calls that had any, where gRPC is spoken.
    GRPC_CALL_HEDGES = Histogram, "grpc.client.call.hedges", "{hedge}",
        [GRPC_METHOD, GRPC_TARGET, OVERFLOW], RETRY_BUCKETS;
    /// Calls that a layer refused or cut short; in shadow, those that it would have.
    REJECTIONS = Counter, "outrigger.rejections", "{call}",
        [LAYER, KEY, REASON, ENFORCEMENT, OVERFLOW], &[];
    /// Whether a circuit is in a state: 1, or 0.
    BREAKER_STATE = Gauge, "outrigger.circuit_breaker.state", "{circuit}",
        [KEY, STATE, OVERFLOW], &[];
    /// Changes of circuits from one state to another.
    BREAKER_TRANSITIONS = Counter, "outrigger.circuit_breaker.transitions", "{transition}",
        [KEY, FROM, STATE, REASON, OVERFLOW], &[];
    /// Probes that ran over their limit and lost their place.
    BREAKER_PROBES_LOST = Counter, "outrigger.circuit_breaker.probes_lost", "{probe}",
        [KEY, OVERFLOW], &[];
    /// What a limit allows: calls at once, tokens per period.
    LIMIT = Gauge, "outrigger.limit.value", "{permit}", [KEY, SORT, OVERFLOW], &[];
    /// What is used of a limit: calls in flight, tokens taken.
    LIMIT_IN_USE = Gauge, "outrigger.limit.in_use", "{permit}", [KEY, SORT, OVERFLOW], &[];
    /// Calls that wait at a limit.
    LIMIT_WAITING = Gauge, "outrigger.limit.waiting", "{call}", [KEY, SORT, OVERFLOW], &[];
    /// How long calls waited at a limit before they passed; in shadow, would have waited.
    LIMIT_WAIT = Histogram, "outrigger.limit.wait.duration", "s",
        [KEY, SORT, ENFORCEMENT, OVERFLOW], GRPC_BUCKETS;
    /// Attempts that the retry layer sent; in shadow, those that it would have.
    RETRY_ATTEMPTS = Counter, "outrigger.retry.attempts", "{attempt}",
        [KEY, SORT, ENFORCEMENT, OVERFLOW], &[];
    /// Attempts that ended by themselves, by what they turned out to be.
    RETRY_RESULTS = Counter, "outrigger.retry.results", "{attempt}",
        [KEY, RESULT, OVERFLOW], &[];
    /// Backup requests that gave the answer (`won`) or were cancelled for it (`lost`).
    RETRY_BACKUPS = Counter, "outrigger.retry.backups", "{attempt}",
        [KEY, RESULT, OVERFLOW], &[];
    /// Calls that were not repeated though it would have been wanted.
    RETRY_STOPPED = Counter, "outrigger.retry.stopped", "{call}",
        [KEY, REASON, OVERFLOW], &[];
    /// How long retries waited before they were sent.
    RETRY_WAIT = Histogram, "outrigger.retry.wait.duration", "s",
        [KEY, OVERFLOW], GRPC_BUCKETS;
    /// Further attempts that a retry budget still allows.
    RETRY_BUDGET_LEFT = Gauge, "outrigger.retry.budget.left", "{attempt}",
        [KEY, OVERFLOW], &[];
    /// Further attempts in the window of a retry budget, sent or waiting.
    RETRY_BUDGET_USED = Gauge, "outrigger.retry.budget.used", "{attempt}",
        [KEY, OVERFLOW], &[];
    /// Endpoints of a balancer by state.
    ENDPOINTS = Gauge, "outrigger.balancer.endpoints", "{endpoint}",
        [KEY, STATE, OVERFLOW], &[];
    /// Calls that a balancer sent to an endpoint and that ended.
    ENDPOINT_CALLS = Counter, "outrigger.endpoint.calls", "{call}",
        [KEY, PEER, RESULT, OVERFLOW], &[];
    /// Calls in flight on an endpoint.
    ENDPOINT_IN_FLIGHT = Gauge, "outrigger.endpoint.in_flight", "{call}",
        [KEY, PEER, OVERFLOW], &[];
    /// The mean latency of an endpoint, as its balancer sees it.
    ENDPOINT_LATENCY = Gauge, "outrigger.endpoint.latency", "s", [KEY, PEER, OVERFLOW], &[];
    /// Changes of a balancer's endpoints.
    ENDPOINT_CHANGES = Counter, "outrigger.endpoint.changes", "{change}",
        [KEY, RESULT, OVERFLOW], &[];
    /// Ejections of endpoints; in shadow, those that would have been.
    EJECTIONS = Counter, "outrigger.endpoint.ejections", "{ejection}",
        [KEY, PEER, REASON, ENFORCEMENT, OVERFLOW], &[];
    /// Calls that could not be sent to an endpoint and went on to another.
    CONNECT_FAILURES = Counter, "outrigger.endpoint.connect_failures", "{call}",
        [KEY, PEER, REASON, OVERFLOW], &[];
    /// Whether so few endpoints are healthy that ejections are disregarded: 1, or 0.
    BALANCER_PANIC = Gauge, "outrigger.balancer.panic", "{balancer}", [KEY, OVERFLOW], &[];
    /// Updates of a discovery source that were not used.
    UPDATES_REFUSED = Counter, "outrigger.discovery.updates_refused", "{update}",
        [KEY, REASON, OVERFLOW], &[];
    /// Replacements of policies, applied or refused.
    POLICY_RELOADS = Counter, "outrigger.policy.reloads", "{reload}",
        [KEY, RESULT, OVERFLOW], &[];
}

/// The metric of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| metric.name == name).copied()
}

/// The metrics of one kind: exporters are told the buckets of histograms, for example.
pub fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Metric> {
    ALL.iter().filter(move |metric| metric.kind == kind).copied()
}
