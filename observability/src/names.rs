//! The metrics that this crate exports, with their labels: one table that the documentation, the
//! dashboards, the alert rules and the tests use.
//!
//! Names, units and buckets are those of OpenTelemetry's conventions for RPC, and of gRFC A66 for
//! attempts where gRPC is spoken. What neither knows begins with `outrigger`.

use crate::meter::Kind::{Counter, Histogram, UpDown};
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
/// `outrigger.kind`: `first`, `retry` or `backup`.
pub const ATTEMPT_KIND: &str = "outrigger.kind";
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
