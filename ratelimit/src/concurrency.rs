//! So many calls at once.

mod policy;

pub(crate) mod engine;
mod event;

mod limit;
mod panel;
mod permit;
mod wait;
mod weak;

mod choose;
mod future;
mod layer;
mod service;

pub use choose::{ChooseLimit, KeyedConcurrency, LearnResult};
pub use engine::Asking;
pub use event::{ConcurrencyLimitEvent, ConcurrencyRefusal};
pub use future::ConcurrencyLimitFuture;
pub use layer::ConcurrencyLimitLayer;
pub use limit::{ConcurrencyLimit, ConcurrencyLimitBuilder, Entry};
pub use panel::ConcurrencyLimitPanel;
pub use permit::Permit;
pub use policy::{ConcurrencyLimitPolicy, ConcurrencyLimitPolicyBuilder, ShedWaiting, WaitOrder};
pub use service::ConcurrencyLimitService;
pub use wait::{Acquire, Wait};
pub use weak::{WeakConcurrencyLimit, WeakConcurrencyLimitPanel};
