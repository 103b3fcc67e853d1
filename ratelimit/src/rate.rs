//! So many calls in a time.

mod policy;

mod engine;
mod event;
mod queue;

mod limit;
mod panel;
mod weak;

mod future;
#[cfg(feature = "http")]
mod headers;
mod layer;
mod service;

pub use event::{RateLimitEvent, RateRefusal};
pub use future::{RateLimitFuture, Waiting};
pub use layer::{ChooseRateLimit, KeyedRate, OneToken, PriceOf, RateLimitLayer};
pub use limit::{RateLimit, RateLimitBuilder};
pub use panel::RateLimitPanel;
pub use policy::{RateLimitPolicy, RateLimitPolicyBuilder};
pub use service::RateLimitService;
pub use weak::{WeakRateLimit, WeakRateLimitPanel};

#[cfg(feature = "http")]
pub use headers::{FindRateLimit, RateLimitHeaders, RateLimitHeadersFuture, RateLimitHeadersLayer};
