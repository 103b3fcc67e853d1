#[cfg(feature = "tracing")]
mod events;
mod family;
#[cfg(feature = "tracing")]
mod log;
mod metrics;
mod watch;
pub(crate) mod words;

#[cfg(feature = "circuitbreak")]
mod circuitbreak;
#[cfg(feature = "loadbalance")]
mod loadbalance;
#[cfg(feature = "ratelimit")]
mod ratelimit;
#[cfg(feature = "retry")]
mod retry;
#[cfg(feature = "retry")]
mod usual;

#[cfg(feature = "tracing")]
pub use self::{events::SpanEvents, log::StateLog};
pub use self::{metrics::GovernanceMetrics, watch::Watched};
