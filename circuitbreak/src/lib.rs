//! x
#![forbid(unsafe_code)]
mod policy;

mod engine;
mod event;

mod breaker;
mod builder;
mod panel;
mod permit;
mod snapshot;

mod choose;
mod future;
mod layer;
mod service;

mod sync;

pub use breaker::CircuitBreaker;
pub use builder::CircuitBreakerBuilder;
pub use choose::{ByKey, ByMethod, ChooseBreaker, KeyedBy};
pub use event::{Cause, CircuitBreakerEvent, State, StateChange, WindowCounts};
pub use future::{CircuitBreakerFuture, PendingOutcome};
pub use layer::CircuitBreakerLayer;
pub use panel::{CircuitBreakerPanel, CircuitBreakerPanelBuilder};
pub use permit::Permit;
pub use policy::{
    Abandoned, CircuitBreakerPolicy, CircuitBreakerPolicyBuilder, TripRule, WindowShape,
};
pub use service::CircuitBreakerService;
pub use snapshot::CircuitBreakerSnapshot;
