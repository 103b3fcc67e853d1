//! Limits for any tower service: how many calls at once, how many in a time, how many connections.
//!
//! | what | choose it when | handle | layer |
//! | --- | --- | --- | --- |
//! | so many calls at once (Kitex's `ConcurrencyLimiter`) | you know how many the service bears, by a load test | [`ConcurrencyLimit`], [`ConcurrencyLimitPanel`] | [`ConcurrencyLimitLayer`] |
//! | as many calls at once as the callee has room for | what it bears changes, or nobody measured it; try it in shadow first | [`AdaptiveLimit`], [`AdaptiveLimitPanel`] | [`AdaptiveLimitLayer`] |
//! | so many calls in a time (Kitex's `RateLimiter`) | a contract or a quota says so | [`RateLimit`], [`RateLimitPanel`] | [`RateLimitLayer`] |
//! | so many connections at once (Kitex's `MaxConnections`) | a connection itself costs: memory, file handles | [`ConnectionLimit`] | [`ConnectionLimitLayer`] |
//! | on the client, only so many calls as the callee accepts (SRE book) | the callee refuses by itself, and refusing costs it something | [`ClientThrottle`], [`ClientThrottlePanel`] | [`ClientThrottleLayer`] |
//!
//! - A call beyond a limit is refused at once, or waits its turn in a bounded queue: by default it
//!   is refused.
//! - Being ready takes nothing: a place or a token is taken in `call`, never in `poll_ready`.
//! - A place comes back when the call is over, over HTTP when its body is, or when it is dropped.
//! - The inner service's error type stays; it says by `From<Rejection>` how it reports a refusal.
//! - Neither an admitted nor a refused call allocates, and an admitted one takes no lock.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use outrigger_core::Rejection;
//! use outrigger_ratelimit::{RateLimitLayer, RateLimitPolicy};
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let policy = RateLimitPolicy::builder().rate(100).burst(2).build()?;
//! let mut orders = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(policy))
//!     .service_fn(|name: &'static str| async move { Ok::<_, BoxError>(name) });
//!
//! orders.ready().await?.call("one").await?;
//! orders.ready().await?.call("two").await?;
//! let error = orders.ready().await?.call("three").await.unwrap_err();
//! let rejection: &Rejection = error.downcast_ref().expect("refused, not sent");
//! assert_eq!(rejection.reason(), "rate_reached");
//! assert_eq!(rejection.retry_after(), Some(Duration::from_millis(10)));
//! # Ok(())
//! # }
//! ```
//!
//! On an axum `Router` a limit is its layer and the layer that answers for it: 429 with
//! `Retry-After`, or `RESOURCE_EXHAUSTED` with pushback for gRPC.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use outrigger_core::{Rejection, RejectionResponseLayer};
//! use outrigger_ratelimit::{ConcurrencyLimitLayer, ConcurrencyLimitPolicy};
//! use tower::ServiceBuilder;
//!
//! let limit = ConcurrencyLimitLayer::new(ConcurrencyLimitPolicy::default()).http();
//! let router: Router = Router::new().route("/", get(|| async { "hello" })).layer(
//!     ServiceBuilder::new()
//!         .layer(RejectionResponseLayer::new())
//!         .layer(limit)
//!         .map_err(Rejection::from),
//! );
//! # let _ = router;
//! # }
//! ```
//!
//! # Defaults
//!
//! | policy | setting | default | source |
//! | --- | --- | --- | --- |
//! | [`ConcurrencyLimitPolicy`] | `enforcement` | `enforced` | |
//! | | `limit` | 1 024 calls | Envoy's `max_requests` |
//! | | `max_waiting` | 0 calls: refuse at once | Kitex |
//! | | `max_wait` | 1 s | ours |
//! | | `order` | `fifo` | |
//! | | `shed_waiting` | `off`; constants of Facebook and DAGOR at hand | |
//! | | `critical_reserve` | 0.1 of the limit, lent while unused | ours |
//! | | `retry_after` | none: a limit on concurrency cannot know | |
//! | [`AdaptiveLimitPolicy`] | `enforcement` | `enforced` | as all policies of this crate |
//! | | `algorithm` | `vegas` | failsafe-go, Cinnamon |
//! | | `initial_limit` | 20 calls | concurrency-limits, failsafe-go |
//! | | `min_limit` | 1 call | failsafe-go |
//! | | `max_limit` | 1 000 calls | concurrency-limits' Vegas |
//! | | `min_window` | 250 ms, and four times the latency | ours |
//! | | `max_window` | 30 s | failsafe-go, Cinnamon |
//! | | `min_samples` | 50 calls; up to eight times where latencies vary much | failsafe-go |
//! | | `tolerated_drops` | 0.01, or what is usual | ours |
//! | | `cut_short` | `ignored`: a cancel says nothing about the callee | ours |
//! | | `max_waiting` | 0 calls: refuse at once | Kitex |
//! | | `max_wait` | 1 s | ours |
//! | | `critical_reserve` | 0.1 of the limit | ours |
//! | [`RateLimitPolicy`] | `enforcement` | `enforced` | |
//! | | `rate`, `period` | 100 tokens in 1 s | ours |
//! | | `burst` | 1 token | ours: no second burst in the first period |
//! | | `max_waiting` | 0 calls: refuse at once | Kitex |
//! | | `max_wait` | 1 s | ours |
//! | [`ConnectionLimit`] | `beyond` | refuse | Kitex |
//! | [`ClientThrottlePolicy`] | `enforcement` | `enforced` | |
//! | | `k` | 2 calls sent for each that is accepted | SRE book, chapter 21 |
//! | | `window` | 2 min | SRE book, chapter 21 |
//! | | `min_requests` | 5 calls before any is refused | go-zero's `protection` |
//! | | `cut_short` | `ignored`: a cancel says nothing about the callee | |
//! | a panel | capacity | 10 000 keys | ours |
//!
//! A policy sits behind [`Live`](outrigger_core::Live) and can be replaced while calls run: places
//! stay taken and tokens stay spent. A smaller limit lets the excess drain.
//!
//! # Events
//!
//! Told to an observer ([`Observe`](outrigger_core::Observe)) with the limit's name, after the
//! fact and with nothing locked.
//!
//! | event | when |
//! | --- | --- |
//! | [`ConcurrencyLimitEvent::Refused`] | a call got no place, or would have got none in shadow; with the [reason](ConcurrencyRefusal) |
//! | [`ConcurrencyLimitEvent::Waited`] | a call got its place after a wait |
//! | [`ConcurrencyLimitEvent::WouldWait`] | in shadow, a call passed that would have waited |
//! | [`AdaptiveLimitEvent::Changed`] | the limit is another one; with the [reason](LimitChange) |
//! | [`AdaptiveLimitEvent::Refused`], `Waited`, `WouldWait` | as with a fixed limit |
//! | [`RateLimitEvent::Refused`] | a call got no tokens, or would have got none in shadow; with the [reason](RateRefusal) |
//! | [`RateLimitEvent::Waited`] | a call got its tokens after a wait |
//! | [`RateLimitEvent::WouldWait`] | in shadow, a call passed that would have waited |
//! | [`ClientThrottleEvent::Refused`] | a call was refused here, or would have been in shadow; with the probability and the counts |
//!
//! # Waiting
//!
//! More critical calls ([`Criticality`](outrigger_core::Criticality)) go first, and take the place
//! of the least critical in a full queue; among equals the first. A call that waits holds an inner
//! service that is not ready yet, so it keeps nothing from others. A call whose deadline
//! (`.context(..)`, `.http()`) would pass before its turn is refused at once, and one whose
//! deadline has passed is never begun.
//!
//! # Criticality
//!
//! With a queue critical calls go first and no place stays empty. Without one a share of the
//! places is kept for them while they come (`critical_reserve`), and each place that is kept costs
//! its share of the goodput; the fewer places, the more chance weighs. In simulated time, calls of
//! 20 ms at random times, less critical ones for 1.2 times what the places can do:
//!
//! | `limit` | `max_waiting` | `critical_reserve` | critical load | critical calls served | goodput |
//! | --- | --- | --- | --- | --- | --- |
//! | 20 | 60 | | 0.3 of the places | 100.00 % | 100.0 % |
//! | 20 | 60 | | 0.8 | 100.00 % | 100.0 % |
//! | 100 | 0 | 0.1 | 0.3 | 99.92 % | 90.2 % |
//! | 400 | 0 | 0.05 | 0.3 | 99.92 % | 95.3 % |
//! | 400 | 0 | 0.2 | 0.8 | 99.89 % | 85.8 % |
//!
//! To make the table: `cargo test -p outrigger-ratelimit --test criticality -- --nocapture`. Where
//! critical calls are most of the load, or places few, let calls wait.
//!
//! A server reads the class from a header (`CriticalityHeader`), and a client writes it there
//! (`PassOnCriticalityLayer`, both with the feature `http`).
//!
//! # The adaptive limit
//!
//! An [`AdaptiveLimit`] finds by itself how many calls the callee has room for, and follows when
//! that changes: from how latency and calls in flight go together it tells a queue from slow work
//! ([`AdaptiveLimit`] says how), and a [`Limiter`] says what follows for the limit. In simulated
//! time, before a server whose capacity is halved and doubled: with latencies that vary little
//! (evenly from 0.5 to 1.5 of the mean) the limit is on average 0.8 to 1.4 times the capacity from
//! ten seconds after a change on, by each algorithm. It settles above the capacity rather than at
//! it, since what noise may explain is not yet taken for a queue; the more latencies vary, the
//! further off it may be, and for longer.
//!
//! For every algorithm, latencies that vary little, much or by cache hits, slower work, failures,
//! bursts and light load: `cargo run --release -p outrigger-ratelimit --example adaptive`. What goes
//! badly there are mostly phases after the work became slower, where the limit stays low for tens
//! of seconds, and caches that answer most calls: there set `min_limit` to what the callee surely
//! bears.
//!
//! It starts at `initial_limit`, and while a callee is overloaded from the start it cannot know
//! what is normal: start below what the callee can do. In two hours of saturation the limit stays
//! within 15 % of its mean, and time-outs are never learnt as normal: a callee that hangs is at the
//! minimum after five rounds of them.
//!
//! # The client throttle
//!
//! A call is refused before it is sent with the probability
//! `max(0, (requests - k * accepts) / (requests + 1))`, of the calls of its own
//! [`Criticality`](outrigger_core::Criticality) in the window. What is refused here stays in
//! `requests`; Envoy leaves it out, and sends 3.24 times the capacity where this sends 2. A call
//! counts when it is over, so that a slow start is no overload.
//!
//! What counts as *not accepted* is up to the classifier ([`ClientThrottleLayer`] says how). By
//! default it is every error; with `.http()` and `.grpc()` only what speaks of overload
//! (`OverloadStatus`).
//!
//! A small `k` spares the callee and comes back slowly, as what is sent grows at most `k` times in
//! a window. At 200 calls a second and a window of 2 min, in simulated time:
//!
//! | `k` | sent / capacity at 10x overload | back after it | back after 5 min of outage | the same with a window of 10 s |
//! | --- | --- | --- | --- | --- |
//! | 1.1 | 1.11 | 1375 s | 4360 s | 235 s |
//! | 1.5 | 1.51 | 270 s | 1335 s | 100 s |
//! | 2 | 1.99 | 130 s | 860 s | 70 s |
//!
//! Back is when at most one call in a hundred is refused here, after the callee can take them all
//! again. To make the table: `cargo test -p outrigger-ratelimit --test throttle capacity --
//! --nocapture`. Where whole outages are likely, choose a short window, or put a circuit breaker
//! before it.
//!
//! # Cancelling
//!
//! Dropping a call's future, or the body of its response, gives its place back; one that waits
//! leaves the queue and hands its turn on. Tokens of a call that waited come back when it is
//! dropped before it began; once it has begun they are spent.
//!
//! # Cost
//!
//! Concurrency and rate limits stand beside those of `tower`, `tower-resilience` and `governor` in
//! `bench/RESULTS.md`. `cargo bench -p outrigger-ratelimit --bench limits` measures the adaptive limit
//! and the client throttle as well, in one run with tower's concurrency limit and governor's bare
//! check. An adaptive limit looks at the clock twice for a call that it counts, and keeps the counts
//! of its window; a rate limit, which also says how long to wait, and a client throttle look once.
//!
//! # What it does not do
//!
//! It does not share a limit between processes, and a client throttle sees
//! little where each client calls rarely: such a callee must refuse by itself.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `http` | `.http()` and `.grpc()`: follow the body, read the context; a criticality header; `RateLimit` headers |
//! | `tonic` | `http`, refusals as `tonic::Status`, limited connections for `serve_with_incoming` |
//! | `axum` | `http`, limited listeners for `axum::serve` |
//! | `serde` | policies from files |
//! | `schema` | `serde`, and JSON schemas of these policies |

#![forbid(unsafe_code)]

mod adaptive;
mod concurrency;
mod connection;
mod rate;
mod throttle;

mod criticality;
mod keys;
mod panel;
mod settings;
mod sync;
mod waiters;
mod weak;

pub use adaptive::{
    AdaptiveChoice, AdaptiveLimit, AdaptiveLimitBuilder, AdaptiveLimitEvent, AdaptiveLimitLayer,
    AdaptiveLimitPanel, AdaptiveLimitPolicy, AdaptiveLimitPolicyBuilder, AdaptiveLimitStatus,
    AdaptivePermit, AdaptiveWait, Aimd, Gradient2, KeyedAdaptive, LimitAlgorithm, LimitChange,
    LimitSample, Limiter, Relay, Vegas, WeakAdaptiveLimit, WeakAdaptiveLimitPanel,
};
pub use concurrency::{
    Acquire, Asking, ChooseLimit, ConcurrencyLimit, ConcurrencyLimitBuilder, ConcurrencyLimitEvent,
    ConcurrencyLimitFuture, ConcurrencyLimitLayer, ConcurrencyLimitPanel, ConcurrencyLimitPolicy,
    ConcurrencyLimitPolicyBuilder, ConcurrencyLimitService, ConcurrencyRefusal, Entry,
    KeyedConcurrency, LearnResult, Permit, ShedWaiting, Wait, WaitOrder, WeakConcurrencyLimit,
    WeakConcurrencyLimitPanel,
};
pub use connection::{
    BeyondLimit, ConnectionLimit, ConnectionLimitLayer, ConnectionLimitPolicy, IncomingConnections,
    LimitedIo, LimitedListener, LimitedMakeFuture, LimitedMakeService, LimitedService,
    WeakConnectionLimit,
};
pub use criticality::{FromContext, ReadCriticality};
pub use keys::{ByKey, ByMethod};
pub use rate::{
    ChooseRateLimit, KeyedRate, OneToken, PriceOf, RateLimit, RateLimitBuilder, RateLimitEvent,
    RateLimitFuture, RateLimitLayer, RateLimitPanel, RateLimitPolicy, RateLimitPolicyBuilder,
    RateLimitService, RateRefusal, Waiting, WeakRateLimit, WeakRateLimitPanel,
};

pub use throttle::{
    ChooseThrottle, ClientThrottle, ClientThrottleBuilder, ClientThrottleEvent,
    ClientThrottleFuture, ClientThrottleLayer, ClientThrottlePanel, ClientThrottlePolicy,
    ClientThrottlePolicyBuilder, ClientThrottleService, CutShort, KeyedThrottle, PendingAnswer,
    THROTTLED, ThrottleCounts, ThrottlePermit, WeakClientThrottle, WeakClientThrottlePanel,
};

#[cfg(feature = "http")]
pub use criticality::{CriticalityHeader, PassOnCriticality, PassOnCriticalityLayer};
#[cfg(feature = "http")]
pub use rate::{FindRateLimit, RateLimitHeaders, RateLimitHeadersFuture, RateLimitHeadersLayer};
#[cfg(feature = "http")]
pub use throttle::OverloadStatus;

pub(crate) use keys::{DEFAULT_CAPACITY, LAYER, OTHER};
