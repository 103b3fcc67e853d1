//! Retries.

#![forbid(unsafe_code)]

mod backoff;
mod budget;
mod chain;
mod timeout;

mod sync;

pub use backoff::{Backoff, Jitter, Waits};
pub use budget::{
    RetryBudget, RetryBudgetPolicy, RetryBudgetPolicyBuilder, RetryBudgetSnapshot, RetryShare,
};
pub use chain::{Chain, ChainScope};
pub use timeout::{
    CarryDeadline, ChooseTimeout, FromRequest, InContext, NoDeadline, Now, PerMethodTimeout,
    TimeoutEvent, TimeoutFuture, TimeoutLayer, TimeoutPolicy, TimeoutPolicyBuilder, TimeoutService,
};

#[cfg(feature = "http")]
pub use timeout::GrpcDeadline;
