//! Time-outs, retries and backup requests for any tower service, under one honest budget.
//!
//! - [`RetryLayer`] sends a call again that failed, or sends a second attempt beside one that is
//!   late (a backup request, also called a hedge), or both. The first *acceptable* answer wins and
//!   the other attempts are cancelled at once.
//! - [`RetryBudget`] says how many further attempts the calls of a callee may cost. Its promise is
//!   exact: attempts never exceed calls times one plus the ratio, plus the reserve, whatever the
//!   interleaving. A share is taken before the wait for it begins, and given back when the attempt
//!   is never sent.
//! - [`TimeoutLayer`] cuts calls short that run too long, honours a deadline that came with the
//!   request, and passes it on less what is spent. It touches no timer for a call whose answer is
//!   there at the first poll.
//! - [`LatencyQuantile`] is a live quantile of the latencies of the last seconds, in fixed memory,
//!   that cutting the tail does not blind: the wait before a backup request.
//! - [`Chain`] tells the calls that a server makes whether the call it serves is itself a retry,
//!   and when that must be over, so that retries do not multiply from hop to hop.
//!
//! # Example
//!
//! One call in fifty of this service hangs. A second attempt after 10 ms saves them, and costs no
//! more than one call in ten:
//!
//! ```
//! use std::time::Duration;
//!
//! use outrigger_retry::{RetryLayer, RetryPolicy};
//! use tokio::time::{Instant, sleep};
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let policy = RetryPolicy::backup(Duration::from_millis(10)).idempotent(true).build()?;
//! let mut stock = ServiceBuilder::new().layer(RetryLayer::new(policy)).service_fn(|item: u32| {
//!     static ATTEMPTS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
//!     let attempt = ATTEMPTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
//!     async move {
//!         sleep(Duration::from_millis(if attempt % 50 == 49 { 60_000 } else { 5 })).await;
//!         Ok::<_, BoxError>(item)
//!     }
//! });
//!
//! for item in 0..200 {
//!     let begin = Instant::now();
//!     assert_eq!(stock.ready().await?.call(item).await?, item);
//!     assert!(begin.elapsed() <= Duration::from_millis(15));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Retries of what failed, by method, with a budget that all methods share:
//!
//! ```
//! use outrigger_core::{Live, Method, MethodRef, PerMethod};
//! use outrigger_retry::{RetryLayer, RetryPolicy};
//!
//! struct Call { method: &'static str }
//!
//! # fn main() -> Result<(), outrigger_core::InvalidPolicy> {
//! let reads = RetryPolicy::failure().idempotent(true).build()?;
//! let policies = PerMethod::new(Live::new(RetryPolicy::default()))
//!     .with_method(Method::new("shop.Stock", "Get"), Live::new(reads));
//! let name = |call: &Call| Some(MethodRef { service: "shop.Stock", method: call.method });
//! let retries = RetryLayer::per_method(policies, name);
//! # let _ = retries;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does to a fleet
//!
//! Simulated with these layers (`cargo test -p outrigger-retry --release --test simulation --
//! --nocapture`). A service of which 99 % of the answers take at most 13 ms and the slowest 60, the
//! published figure of Kitex's backup requests:
//!
//! | backup after | p50 ms | p99 | p99.9 | p99.99 | max | extra calls |
//! | --- | ---: | ---: | ---: | ---: | ---: | ---: |
//! | none | 8.0 | 13.0 | 54.0 | 60.0 | 60.0 | 0.00 % |
//! | fixed 13 ms | 8.0 | 13.0 | 25.0 | 26.0 | 53.0 | 0.93 % |
//! | live p99 | 8.0 | 13.0 | 27.0 | 34.0 | 55.0 | 0.88 % |
//!
//! A fleet whose backends all slow down by 1.8 for a while, with a budget of 5 % in each second:
//!
//! | during the slowdown | p99 ms | most extra attempts in a second |
//! | --- | ---: | ---: |
//! | none | 540 | 0.0 % |
//! | live p95, budget 5 % | 63 | 5.0 % |
//!
//! A hundred clients with three retries, whose attempts fail by chance:
//!
//! | attempts that fail | plain retries: calls failed, load | 10 % budget: calls failed, load |
//! | ---: | ---: | ---: |
//! | 1 % | 0.00 %, 1.010 | 0.00 %, 1.010 |
//! | 5 % | 0.00 %, 1.054 | 0.08 %, 1.053 |
//! | 10 % | 0.02 %, 1.111 | 2.16 %, 1.087 |
//! | 30 % | 0.87 %, 1.421 | 22.74 %, 1.106 |
//! | 100 % | 100.00 %, 4.000 | 100.00 %, 1.110 |
//!
//! # What is sent again
//!
//! | what is known of an attempt | sent again |
//! | --- | --- |
//! | it never left this process (a refusal by a layer further in, no connection) | yes |
//! | the peer says that it did not process it (`REFUSED_STREAM`, `GOAWAY`) | yes, once at no cost |
//! | it failed or timed out, and may have been executed | only if the method is declared `idempotent` |
//! | its gRPC status is one of `retryable_status_codes` | yes |
//! | the caller's own mistake (`Outcome::Ignored`) | no, it is the answer |
//! | refused by an open circuit | no |
//! | the call serves one that is itself a retry | no: chain stop |
//!
//! # Defaults
//!
//! | setting | default | unit | source |
//! | --- | --- | --- | --- |
//! | [`TimeoutPolicy`]: `timeout` | none of its own | | the user's to say |
//! | `honour_request` | true: the earlier of the two counts | | gRPC deadlines |
//! | [`RetryPolicy`]: `retries` | 2 (failure), 1 (backup, mixed) | attempts | Kitex |
//! | `backoff` | exponential, 25 to 250, full jitter (failure); none (mixed) | ms | Envoy; AWS |
//! | `idempotent` | false | | what may have been executed is not repeated |
//! | `retry_timeouts`, `chain_stop` | true | | Kitex |
//! | `max_duration` | none | | |
//! | `max_pushback` | 10 | s | |
//! | `min_time_left` | 1 | ms | |
//! | [`QuantileDelay`]: `min_samples` | 100 in the last 5 s | attempts | |
//! | `floor`, `ceiling` | 1, 60 000 | ms | Finagle's 1 ms |
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
//! | [`AttemptSent`](RetryEvent::AttemptSent) | an attempt was sent, or would have been in shadow |
//! | [`AttemptEnded`](RetryEvent::AttemptEnded) | an attempt ended, with its outcome |
//! | [`RetryScheduled`](RetryEvent::RetryScheduled) | a retry waits |
//! | [`BackupWon`](RetryEvent::BackupWon), [`BackupLost`](RetryEvent::BackupLost) | a backup request gave the answer, or was cancelled |
//! | [`BudgetExhausted`](RetryEvent::BudgetExhausted) | the budget refused a further attempt |
//! | [`ReplayImpossible`](RetryEvent::ReplayImpossible) | the request could not be sent again |
//! | [`Stopped`](RetryEvent::Stopped) | no further attempt is made, and why |
//!
//! # Cancelling
//!
//! Dropping a call's future drops all its attempts and its timers. Dropping a [`RetryShare`], or a
//! call whose retry waits, gives the share back: the attempt was never sent. An attempt that was
//! sent stays counted. Attempts that are cancelled count in the live quantile as 'at least this
//! long'.
//!
//! # What it does not do
//!
//! It does not decide what is idempotent: a method is repeated after it may have been executed only
//! if its policy says so. It does not choose the endpoint: a balancer that reads the
//! [`AttemptContext`](outrigger_core::AttemptContext) sends each attempt elsewhere. A stream is
//! repeated only while no answer has begun.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `http` | `.http()` and `.grpc()`: bodies kept for a retry, deadlines, pushback, marks of retries; `ChainLayer` for servers |
//! | `hyper` | `http`, and what the errors of hyper and of HTTP/2 say about whether a call was sent |
//! | `tonic` | `hyper`, refusals as `tonic::Status`, and `ReplayTonic` for its channels |
//! | `serde` | policies from files |
//! | `schema` | `serde`, and JSON schemas of these policies |

#![forbid(unsafe_code)]

mod backoff;
mod budget;
mod chain;
#[cfg(feature = "http")]
mod peek;
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
    WeakRetryBudget,
};
pub use chain::{Chain, ChainScope};
pub use pushback::Pushback;
pub use quantile::{LatencyQuantile, QuantileDelay};
pub use replay::{ByClone, CloneRequest};
pub use retry::{
    Advice, AttemptKind, BackupDelay, ChooseRetry, CurrentRetry, GrpcCodes, MethodRetries,
    OneRetry, Plain, Protocol, Retry, RetryBuilder, RetryEvent, RetryFuture, RetryLayer, RetryMode,
    RetryPolicy, RetryPolicyBuilder, RetryService, StopReason,
};
pub use sent::Sent;
pub use timeout::{
    CarryDeadline, ChooseTimeout, FromRequest, InContext, NoDeadline, Now, PerMethodTimeout,
    ReadTimeout, TimeoutEvent, TimeoutFuture, TimeoutLayer, TimeoutPolicy, TimeoutPolicyBuilder,
    TimeoutService,
};

#[cfg(feature = "tonic")]
pub use replay::{CloneTonic, KeptTonic, ReplayTonic};
#[cfg(feature = "http")]
pub use timeout::GrpcDeadline;
#[cfg(feature = "http")]
pub use {
    chain::{ChainFuture, ChainLayer, ChainService},
    peek::{Peek, PeekedBody},
    replay::{BodyLost, KeptRequest, Replay, ReplayBody},
    retry::{Grpc, Http},
};
