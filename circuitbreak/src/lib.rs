//! A three-state circuit breaker for any tower service: one, or one for each key.
//!
//! [`CircuitBreakerLayer`] counts how calls end. When too many fail, or take too long, it opens the
//! circuit: calls are refused at once, which spares the callee and the caller's time. After a
//! cool-down it lets a few probes through, and closes the circuit when they succeed.
//!
//! - A permit carries the generation that admitted it: a result from an earlier state neither
//!   opens nor closes the circuit.
//! - A probe's place comes back when its future is dropped or panics, and after a limit when it
//!   never ends. However many callers wait, exactly as many probes pass as the policy allows.
//! - The inner service's error type stays; it says by `From<Rejection>` how it reports a refusal.
//! - A call on a closed circuit takes no lock and allocates nothing.
//!
//! # Example
//!
//! ```
//! use outrigger_circuitbreak::{CircuitBreakerLayer, CircuitBreakerPolicy, State};
//! use outrigger_core::Rejection;
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let policy = CircuitBreakerPolicy::builder().consecutive_failures(3).build()?;
//! let layer = CircuitBreakerLayer::new(policy);
//! let breaker = layer.handle().clone();
//! let mut orders = ServiceBuilder::new()
//!     .layer(layer)
//!     .service_fn(|_: &str| async { Err::<(), BoxError>("connection refused".into()) });
//!
//! for _ in 0..3 {
//!     orders.ready().await?.call("place").await.unwrap_err();
//! }
//! assert_eq!(breaker.state(), State::Open);
//!
//! let error = orders.ready().await?.call("place").await.unwrap_err();
//! let rejection: &Rejection = error.downcast_ref().expect("refused, not sent");
//! assert_eq!(rejection.reason(), "circuit_open");
//! assert!(rejection.retry_after().is_some());
//! # Ok(())
//! # }
//! ```
//!
//! Over HTTP a response is only the head. With the feature `http`, `.http()` and `.grpc()` judge
//! by status and follow the body to its end, where gRPC's status stands. A breaker for each method
//! is [`CircuitBreakerLayer::per_method`], for any other key [`CircuitBreakerLayer::per_key`].
//! Without tower, see [`CircuitBreaker`].
//!
//! Before a tonic channel, make the channel's error a `tonic::Status` below the layer (feature
//! `tonic`), so that a refusal reaches the caller as `UNAVAILABLE` with its pushback; a boxed
//! refusal would be `UNKNOWN`:
//!
//! ```
//! # #[cfg(feature = "tonic")] {
//! use outrigger_circuitbreak::{CircuitBreakerLayer, CircuitBreakerPolicy};
//! use tonic::{Status, transport::{Error, Endpoint}};
//! use tower::ServiceBuilder;
//!
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # let _inside = runtime.enter();
//! let channel = Endpoint::from_static("http://[::1]:50051").connect_lazy();
//! let governed = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(CircuitBreakerPolicy::default()).grpc())
//!     .map_err(|error: Error| Status::from_error(error.into()))
//!     .service(channel);
//! # let _ = governed;
//! # }
//! ```
//!
//! # The states
//!
//! | state | a call | leaves it |
//! | --- | --- | --- |
//! | [`Closed`](State::Closed) | passes and counts | when a trip rule is met |
//! | [`Open`](State::Open) | is refused, with the time left | when the cool-down is over, with the first call after it |
//! | [`HalfOpen`](State::HalfOpen) | is a probe, if there is a place; else it is refused | when enough probes succeed, or one fails |
//! | [`ForcedOpen`](State::ForcedOpen) | is refused | when it is reset by hand |
//!
//! # Defaults
//!
//! Any of the trip rules opens the circuit. A rule is looked at after a failed or slow call.
//!
//! | setting | default | source |
//! | --- | --- | --- |
//! | `enforcement` | `enforced` | |
//! | `time_window`, `window_buckets` | 10 s in 100 steps | Kitex |
//! | `count_window` | off | resilience4j's other kind |
//! | `error_rate` | 0.5 of at least 200 calls | Kitex |
//! | `error_count`, `consecutive_failures`, `consecutive_failures_lasting` | off | Kitex's other trip functions |
//! | `slow_calls` | off | resilience4j |
//! | `trip_when` | off | the user's own rule |
//! | `cool_down` | 5 s | Kitex |
//! | `cool_down_growth`, `max_cool_down` | 1 (none), 60 s | |
//! | `cool_down_jitter` | 0.5: prolongs a cool-down by up to a half | resilience4j's randomised wait |
//! | `probe_interval` | 200 ms | Kitex |
//! | `max_probes` | 1 at once | |
//! | `successes_to_close` | 2 | Kitex |
//! | `probe_limit` | 30 s | ours; without one a lost probe is for ever |
//! | `abandoned` | `ignored` | a cancel says nothing about the callee |
//! | capacity of a panel | 10 000 keys | ours |
//!
//! A policy sits behind [`Live`](outrigger_core::Live) and can be replaced while calls run: the
//! state stays, and so do the counts while the window keeps its shape.
//!
//! # Events
//!
//! Told to an observer ([`Observe`](outrigger_core::Observe)) with the breaker's name, after the
//! fact and with nothing locked.
//!
//! | event | when |
//! | --- | --- |
//! | [`StateChanged`](CircuitBreakerEvent::StateChanged) | once for each change, with its cause and the window's counts |
//! | [`Refused`](CircuitBreakerEvent::Refused) | a call was refused, or would have been in shadow |
//! | [`ProbeLost`](CircuitBreakerEvent::ProbeLost) | a probe ran over its limit and lost its place |
//!
//! # Cancelling
//!
//! Dropping a call's future drops the inner one and gives the permit back. What the call counts as
//! is a setting: nothing (the default), a failure, or a slow call. A probe's place is free for the
//! very next call. A response body that is dropped before its end counts by its head: the caller
//! has seen enough.
//!
//! # What it costs
//!
//! No allocation, and no lock for a call that succeeds. A time window needs one look at the clock
//! for each call, a rule on slow calls a second one, a count window none but a short lock.
//! Counting is striped by thread. A failed call takes a lock for a few instructions. A breaker's
//! memory does not depend on the number of calls: with the default window at most about 7 KiB on
//! two processors, and 256 bytes more for each further stripe (two to a processor, 64 at most).
//!
//! # What it does not do
//!
//! It does not retry, does not answer in the callee's place (fallback is another layer), and does
//! not time calls out: a time-out further in is seen as its error, one further out as a drop.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `http` | `.http()` and `.grpc()`: judge by status, follow the body |
//! | `tonic` | `http`, and refusals as `tonic::Status` |
//! | `serde` | policies from files, snapshots to anywhere |
//! | `schema` | `serde`, and JSON schemas of these policies |

#![forbid(unsafe_code)]

mod policy;

mod engine;
mod event;

mod breaker;
mod builder;
mod panel;
mod permit;
mod snapshot;
mod weak;

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
pub use weak::{WeakCircuitBreaker, WeakCircuitBreakerPanel};
