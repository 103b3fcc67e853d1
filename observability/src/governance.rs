mod family;
mod metrics;
mod watch;

#[cfg(feature = "circuitbreak")]
mod circuitbreak;
#[cfg(feature = "loadbalance")]
mod loadbalance;
#[cfg(feature = "ratelimit")]
mod ratelimit;
#[cfg(feature = "retry")]
mod retry;

pub use self::{metrics::GovernanceMetrics, watch::Watched};
