#![doc = "Metrics, traces, events and a live page for Outrigger's layers."]
#![forbid(unsafe_code)]

mod meter;
pub mod names;

mod contained;
mod governance;
mod observe;
mod trace;
mod tracer;

pub use contained::Contained;
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
