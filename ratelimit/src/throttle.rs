//! Only so many calls as the callee accepts: the client's own refusals under overload.

mod policy;

mod engine;
mod event;

mod limit;
mod panel;
mod permit;
mod weak;

mod choose;
mod future;
mod layer;
mod service;

#[cfg(feature = "http")]
mod overload;

pub use choose::{ChooseThrottle, KeyedThrottle};
pub use engine::ThrottleCounts;
pub use event::{ClientThrottleEvent, THROTTLED};
pub use future::{ClientThrottleFuture, PendingAnswer};
pub use layer::ClientThrottleLayer;
pub use limit::{ClientThrottle, ClientThrottleBuilder};
pub use panel::ClientThrottlePanel;
pub use permit::ThrottlePermit;
pub use policy::{ClientThrottlePolicy, ClientThrottlePolicyBuilder, CutShort};
pub use service::ClientThrottleService;

#[cfg(feature = "http")]
pub use overload::OverloadStatus;
pub use weak::{WeakClientThrottle, WeakClientThrottlePanel};
