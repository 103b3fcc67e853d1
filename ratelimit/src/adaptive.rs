//! As many calls at once as the callee has room for, found by how it answers.

mod policy;

mod engine;
mod event;
mod guard;
mod limiter;
mod state;
mod window;

mod builder;
mod limit;
mod permit;

mod choose;
mod layer;
mod panel;
mod weak;

pub use builder::AdaptiveLimitBuilder;
pub use choose::{AdaptiveChoice, AdaptiveWait, KeyedAdaptive};
pub use event::{AdaptiveLimitEvent, LimitChange};
pub use layer::AdaptiveLimitLayer;
pub use limit::{AdaptiveLimit, AdaptiveLimitStatus, Relay};
pub use limiter::{Aimd, Gradient2, LimitSample, Limiter, Vegas};
pub use panel::AdaptiveLimitPanel;
pub use permit::AdaptivePermit;
pub use policy::{AdaptiveLimitPolicy, AdaptiveLimitPolicyBuilder, LimitAlgorithm};
pub use weak::{WeakAdaptiveLimit, WeakAdaptiveLimitPanel};
