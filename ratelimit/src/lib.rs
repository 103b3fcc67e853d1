//! Limits for any tower service.

#![forbid(unsafe_code)]

mod concurrency;
mod connection;
mod rate;

mod criticality;
mod keys;
mod settings;
mod stripe;
mod sync;
mod waiters;

pub use concurrency::{
    Acquire, Asking, ChooseLimit, ConcurrencyLimit, ConcurrencyLimitBuilder, ConcurrencyLimitEvent,
    ConcurrencyLimitFuture, ConcurrencyLimitLayer, ConcurrencyLimitPanel, ConcurrencyLimitPolicy,
    ConcurrencyLimitPolicyBuilder, ConcurrencyLimitService, ConcurrencyRefusal, Entry,
    KeyedConcurrency, LearnResult, Permit, ShedWaiting, Wait, WaitOrder,
};
pub use connection::{
    BeyondLimit, ConnectionLimit, ConnectionLimitLayer, IncomingConnections, LimitedIo,
    LimitedListener, LimitedMakeFuture, LimitedMakeService, LimitedService,
};
pub use criticality::{FromContext, ReadCriticality};
pub use keys::{ByKey, ByMethod};
pub use rate::{
    ChooseRateLimit, KeyedRate, OneToken, PriceOf, RateLimit, RateLimitBuilder, RateLimitEvent,
    RateLimitFuture, RateLimitLayer, RateLimitPanel, RateLimitPolicy, RateLimitPolicyBuilder,
    RateLimitService, RateRefusal, Waiting,
};

#[cfg(feature = "http")]
pub use criticality::CriticalityHeader;

pub(crate) use keys::{DEFAULT_CAPACITY, LAYER, OTHER};
