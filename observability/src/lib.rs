//! Metrics, traces, events and a live page for any tower service and for Outrigger's layers.
//!
//! - [`ObserveLayer`] looks on at calls and attempts, at a client and at a server: how many, how
//!   long, how they ended, how many are under way. A call that is dropped is *cancelled*, one that a
//!   layer refused is *refused*; over HTTP and gRPC a call lasts until its body is over.
//! - [`GovernanceMetrics`] turns what breakers, limits, retries and balancers tell into metrics.
//! - With the feature `tracing`, calls and attempts are spans, `SpanEvents` tells the decisions of
//!   governance as their events, and `StateLog` logs changes of state.
//! - A [`Tracer`] is told of each call, for a system of your own.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "metrics")] {
//! use metrics_exporter_prometheus::PrometheusBuilder;
//! use outrigger_observability::{FacadeMeter, ObserveLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let recorder = PrometheusBuilder::new().with_recommended_naming(true).build_recorder();
//! let scrape = recorder.handle();
//! let layer = ObserveLayer::client().target("shop").meter(FacadeMeter::with_recorder(recorder));
//! let service = ServiceBuilder::new()
//!     .layer(layer)
//!     .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));
//!
//! assert_eq!(service.oneshot(1).await?, 2);
//! let text = scrape.render();
//! assert!(text.contains("rpc_client_call_duration_seconds"));
//! assert!(text.contains(r#"outrigger_outcome="success""#));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! # }
//! ```
//!
//! # Defaults
//!
//! | setting | default | unit | source |
//! | --- | --- | --- | --- |
//! | `meter`, `tracer`, `spans`, `propagate` | none: nothing is installed by itself | | |
//! | `max_series` | 1000, with one overflow for each outcome among them | series of a metric | ours |
//! | `system`, `target`, peer | none | | OpenTelemetry's `rpc.system.name`, `server.address` |
//! | buckets of calls | [`names::RPC_BUCKETS`] | s | OpenTelemetry |
//! | buckets of attempts | [`names::GRPC_BUCKETS`] | s | gRFC A66 |
//! | lines of `StateLog` | 10 | per second | ours |
//!
//! # Metrics
//!
//! The table is [`names::ALL`]; a Prometheus server sees [`Metric::prometheus_name`]. A dashboard
//! and alert rules for it are in the crate's folder `dashboards`.
//!
//! | metric | kind | unit | what it says |
//! | --- | --- | --- | --- |
//! | `rpc.client.call.duration` | histogram | `s` | How long calls took, retries and all, until their bodies ended. |
//! | `rpc.server.call.duration` | histogram | `s` | How long a server took for calls, until their bodies ended. |
//! | `outrigger.client.calls.in_flight` | up-down | `{call}` | Calls of a client that are under way. |
//! | `outrigger.server.calls.in_flight` | up-down | `{call}` | Calls that a server works on. |
//! | `outrigger.client.attempts.in_flight` | up-down | `{attempt}` | Attempts that are under way. |
//! | `grpc.client.attempt.started` | counter | `{attempt}` | Attempts that were begun, where gRPC is spoken. |
//! | `grpc.client.attempt.duration` | histogram | `s` | How long attempts took, where gRPC is spoken. |
//! | `outrigger.client.attempt.started` | counter | `{attempt}` | Attempts that were begun, where gRPC is not spoken. |
//! | `outrigger.client.attempt.duration` | histogram | `s` | How long attempts took, where gRPC is not spoken. |
//! | `grpc.client.call.retries` | histogram | `{retry}` | Retries of calls that were retried, where gRPC is spoken. |
//! | `grpc.client.call.transparent_retries` | histogram | `{transparent_retry}` | Transparent retries of calls that were retried so, where gRPC is spoken. |
//! | `grpc.client.call.hedges` | histogram | `{hedge}` | Backup requests of calls that had any, where gRPC is spoken. |
//! | `outrigger.rejections` | counter | `{call}` | Calls that a layer refused or cut short; in shadow, those that it would have. |
//! | `outrigger.circuit_breaker.state` | gauge | `{circuit}` | Whether a circuit is in a state: 1, or 0. |
//! | `outrigger.circuit_breaker.transitions` | counter | `{transition}` | Changes of circuits from one state to another. |
//! | `outrigger.circuit_breaker.probes_lost` | counter | `{probe}` | Probes that ran over their limit and lost their place. |
//! | `outrigger.limit.value` | gauge | `{permit}` | What a limit allows: calls at once, tokens per period. |
//! | `outrigger.limit.in_use` | gauge | `{permit}` | What is used of a limit: calls in flight, tokens taken. |
//! | `outrigger.limit.waiting` | gauge | `{call}` | Calls that wait at a limit. |
//! | `outrigger.limit.wait.duration` | histogram | `s` | How long calls waited at a limit before they passed; in shadow, would have waited. |
//! | `outrigger.retry.attempts` | counter | `{attempt}` | Attempts that the retry layer sent; in shadow, those that it would have. |
//! | `outrigger.retry.results` | counter | `{attempt}` | Attempts that ended by themselves, by what they turned out to be. |
//! | `outrigger.retry.backups` | counter | `{attempt}` | Backup requests that gave the answer (`won`) or were cancelled for it (`lost`). |
//! | `outrigger.retry.stopped` | counter | `{call}` | Calls that were not repeated though it would have been wanted. |
//! | `outrigger.retry.wait.duration` | histogram | `s` | How long retries waited before they were sent. |
//! | `outrigger.retry.budget.left` | gauge | `{attempt}` | Further attempts that a retry budget still allows. |
//! | `outrigger.retry.budget.used` | gauge | `{attempt}` | Further attempts in the window of a retry budget, sent or waiting. |
//! | `outrigger.balancer.endpoints` | gauge | `{endpoint}` | Endpoints of a balancer by state. |
//! | `outrigger.endpoint.calls` | counter | `{call}` | Calls that a balancer sent to an endpoint and that ended. |
//! | `outrigger.endpoint.in_flight` | gauge | `{call}` | Calls in flight on an endpoint. |
//! | `outrigger.endpoint.latency` | gauge | `s` | The mean latency of an endpoint, as its balancer sees it. |
//! | `outrigger.endpoint.changes` | counter | `{change}` | Changes of a balancer's endpoints. |
//! | `outrigger.endpoint.ejections` | counter | `{ejection}` | Ejections of endpoints; in shadow, those that would have been. |
//! | `outrigger.endpoint.connect_failures` | counter | `{call}` | Calls that could not be sent to an endpoint and went on to another. |
//! | `outrigger.balancer.panic` | gauge | `{balancer}` | Whether so few endpoints are healthy that ejections are disregarded: 1, or 0. |
//! | `outrigger.discovery.updates_refused` | counter | `{update}` | Updates of a discovery source that were not used. |
//! | `outrigger.policy.reloads` | counter | `{reload}` | Replacements of policies, applied or refused. |
//!
//! # Cancelling
//!
//! Dropping a call's future, or the body of a good response before its end, ends the call as
//! `cancelled`: it is no longer in flight, and its duration counts. A panic ends it as a `failure`
//! with the error type `panic`.
//!
//! # What it costs
//!
//! A call of a known method allocates nothing and takes no lock of ours. Behind the facade,
//! `metrics-exporter-prometheus` allocates a block for every 64 values of a histogram series, and
//! keeps them until it is scraped or its upkeep runs.
//!
//! # What it does not do
//!
//! It brings no exporter, no SDK and no subscriber. Metrics do not depend on whether a trace is
//! sampled.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `circuitbreak`, `loadbalance`, `ratelimit`, `retry` | the events and handles of that crate |
//! | `http`, `tonic` | `.http()`, `.grpc()`: judge by status, follow the body |
//! | `diagnosis` | `Diagnosis`, and `DiagnosisService`: a snapshot and a live page of all that governs |
//! | `metrics` | `FacadeMeter`: instruments of the `metrics` facade |
//! | `opentelemetry` | `OtelMeter`: instruments of OpenTelemetry |
//! | `tracing` | spans, `SpanEvents`, `StateLog` |
//! | `tracing-opentelemetry` | `propagate`: W3C trace contexts and baggage |

#![forbid(unsafe_code)]

mod meter;
pub mod names;

mod contained;
#[cfg(feature = "diagnosis")]
mod diagnosis;
mod governance;
mod observe;
mod trace;
mod tracer;

pub use contained::Contained;
#[cfg(feature = "diagnosis")]
pub use diagnosis::{
    BalancerRow, BreakerRow, BudgetRow, CannotChange, Change, Diagnose, Diagnosis, DiagnosisBody,
    DiagnosisFuture, DiagnosisService, EndpointRow, EventRow, LimitRow, Part, Snapshot, StepRow,
    TripRow,
};
pub use governance::{GovernanceMetrics, Watched};
#[cfg(feature = "tracing")]
pub use governance::{SpanEvents, StateLog};
#[cfg(feature = "metrics")]
pub use meter::FacadeMeter;
#[cfg(feature = "opentelemetry")]
pub use meter::OtelMeter;
pub use meter::{Count, CountUpDown, Kind, Label, Meter, Metric, Record, Set, prometheus_label};
pub use observe::{
    CallEnd, CallOutcome, Carrier, Named, ObserveFuture, ObserveLayer, ObserveService, PendingCall,
    Plain, Protocol, ReadStatus, Side, Status,
};
#[cfg(feature = "http")]
pub use observe::{Grpc, Http};
pub use tracer::{CallStart, Tracer};
