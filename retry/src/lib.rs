//! What retries stand on: time-outs, an exact retry budget, back-offs. The retry layer itself is not
//! there yet.
//!
//! - [`TimeoutLayer`] cuts calls short that run too long, honours a deadline that came with the
//!   request, and passes it on less what is spent. It touches no timer for a call whose answer is
//!   there at the first poll.
//! - [`RetryBudget`] says how many further attempts the calls of a callee may cost. Its promise is
//!   exact: attempts never exceed calls times one plus the ratio, plus the reserve, whatever the
//!   interleaving. A share is taken before the wait for it begins, and given back when the attempt
//!   is never sent.
//! - [`Backoff`] says how long to wait before a retry, with full, equal or decorrelated jitter.
//! - [`LatencyQuantile`] is a live quantile of the latencies of the last seconds, in fixed memory,
//!   that cutting the tail does not blind: the wait before a backup request.
//! - [`Chain`] tells the calls that a server makes whether the call it serves is itself a retry,
//!   and when that must be over.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use outrigger_core::{Rejection, RejectionKind};
//! use outrigger_retry::TimeoutLayer;
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let mut orders = ServiceBuilder::new()
//!     .layer(TimeoutLayer::after(Duration::from_millis(250)))
//!     .service_fn(|_: &str| std::future::pending::<Result<(), BoxError>>());
//!
//! let error = orders.ready().await?.call("place").await.unwrap_err();
//! let rejection: &Rejection = error.downcast_ref().expect("cut short");
//! assert_eq!(rejection.kind(), RejectionKind::DeadlineExceeded);
//! assert!(rejection.was_sent(), "it may have been executed");
//! # Ok(())
//! # }
//! ```
//!
//! A loop of one's own spends the budget like this:
//!
//! ```
//! use outrigger_retry::RetryBudget;
//!
//! let budget = RetryBudget::default();
//! budget.record_call();
//! // The first attempt failed. The share is held while the back-off lasts.
//! let share = budget.try_acquire().expect("the reserve allows one");
//! share.send();
//! assert!(budget.try_acquire().is_none(), "10 % of one call, and the reserve is used");
//! ```
//!
//! # Defaults
//!
//! | setting | default | unit | source |
//! | --- | --- | --- | --- |
//! | [`TimeoutPolicy`]: `timeout` | none of its own | | the user's to say |
//! | `honour_request` | true: the earlier of the two counts | | gRPC deadlines |
//! | [`RetryBudgetPolicy`]: `ratio` | 0.1 | of the calls | Kitex, Linkerd |
//! | `window` | 10 | s | Finagle |
//! | `reserve` | 1 in a window | attempts | a reserve of 10 a second keeps a storm of 100 clients alive |
//!
//! # Events
//!
//! | event | when |
//! | --- | --- |
//! | [`TimedOut`](TimeoutEvent::TimedOut) | a call was cut short, or would have been in shadow |
//! | [`TooLate`](TimeoutEvent::TooLate) | a call came after its deadline and was not sent |
//!
//! # Cancelling
//!
//! Dropping a call's future drops the inner one and its timer. Dropping a [`RetryShare`] gives it
//! back: the attempt was never sent.
//!
//! # What it does not do
//!
//! It does not retry, hedge or replay requests yet.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `http` | `grpc-timeout` honoured and passed on, the context in a request's extensions |
//! | `tonic` | `http`, and refusals as `tonic::Status` |
//! | `serde` | policies from files |

#![forbid(unsafe_code)]

mod backoff;
mod budget;
mod chain;
mod pushback;
mod quantile;
mod replay;
mod retry;
mod sent;
mod timeout;

mod sync;

pub use backoff::{Backoff, Jitter, JitterSeeds, Waits};
pub use budget::{
    RetryBudget, RetryBudgetPolicy, RetryBudgetPolicyBuilder, RetryBudgetSnapshot, RetryShare,
};
pub use chain::{Chain, ChainScope};
pub use pushback::Pushback;
pub use quantile::{LatencyQuantile, QuantileDelay};
pub use replay::{ByClone, CloneRequest};
pub use retry::{
    Advice, AttemptKind, BackupDelay, ChooseRetry, GrpcCodes, MethodRetries, OneRetry, Plain,
    Protocol, Retry, RetryBuilder, RetryEvent, RetryFuture, RetryLayer, RetryMode, RetryPolicy,
    RetryPolicyBuilder, RetryService, StopReason,
};
pub use sent::Sent;
pub use timeout::{
    CarryDeadline, ChooseTimeout, FromRequest, InContext, NoDeadline, Now, PerMethodTimeout,
    TimeoutEvent, TimeoutFuture, TimeoutLayer, TimeoutPolicy, TimeoutPolicyBuilder, TimeoutService,
};

#[cfg(feature = "http")]
pub use timeout::GrpcDeadline;
