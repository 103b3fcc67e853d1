//! A clonable, lock-free balancer over any tower service.
//!
//! [`Balance`] holds endpoints and decides who gets the next call; [`BalanceService`] is the tower
//! service over it, the innermost of a stack: a retry outside of it goes to another endpoint by
//! itself. Both are `Clone + Send + Sync`. A pick takes no lock, sends nothing through a channel and
//! allocates nothing; endpoints and index are an immutable snapshot that is built aside and swapped
//! in when something changes.
//!
//! - [`Picker`]: weighted random, round robins, least pending, peak EWMA, reported load, consistent
//!   hash with bounded loads, Maglev, or one of your own ([`Pick`]).
//! - Connection failover: an endpoint that does not become ready has been sent nothing, so the call
//!   goes on to another one; that is no retry.
//! - [`EjectionPolicy`]: endpoints that fail, or do worse than the others, are left out for a while.
//! - [`SlowStartPolicy`], [`ZonePolicy`], [`SubsetPolicy`].
//! - [`Discovery`]: endpoints from a [`Resolver`]: a fixed list, DNS, a file, your own registry; or
//!   from a stream of tower's (`follow`).
//!
//! # Example
//!
//! ```
//! use outrigger_loadbalance::{Balance, BalancePolicy, BalanceService, Endpoint, Picker};
//! use tower::{BoxError, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let reach = |host: &'static str| {
//!     service_fn(move |request: u32| async move { Ok::<_, BoxError>((host, request)) })
//! };
//! let policy = BalancePolicy::builder().picker(Picker::SmoothWeightedRoundRobin).build()?;
//! let balance = Balance::new(policy);
//! balance.insert(Endpoint::new("10.0.0.7:443", reach("small")));
//! balance.insert(Endpoint::new("10.0.0.8:443", reach("big")).weight(3));
//!
//! let mut service = BalanceService::new(balance.clone());
//! let mut of_big = 0;
//! for request in 0..40 {
//!     let (host, _) = service.ready().await?.call(request).await?;
//!     of_big += usize::from(host == "big");
//! }
//! assert_eq!(of_big, 30);
//!
//! // Endpoints come and go while calls are made.
//! balance.remove("10.0.0.8:443");
//! assert_eq!(service.ready().await?.call(1).await?, ("small", 1));
//! assert_eq!(balance.status().endpoints.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Over HTTP and gRPC a call is over when its body is: choose [`BalanceService`]`::http` or `grpc`.
//!
//! # Defaults
//!
//! | setting | default | unit | source |
//! | --- | --- | --- | --- |
//! | `enforcement` | enforced | | speaks of ejection |
//! | `picker` | peak EWMA, decay 10 s, failure penalty 5 s | | Finagle |
//! | `failover_picks` | 2 | picks after the first | |
//! | `connect_timeout` | 1 | s | Finagle |
//! | `ejection.consecutive_failures` | 5 | in a row | Envoy |
//! | `ejection.failing_for` | 30 | s, with 2 failures in a row at least | the first ejection's time |
//! | `ejection.error_rate`, `error_rate_volume` | 0.5, 50 | share, calls in an interval | Kitex, gRPC A50 |
//! | `ejection.deviation`, `deviation_volume` | 1.9, 100 | standard deviations, calls | gRPC A50 |
//! | `ejection.latency`, `latency_volume` | off, 100 | times the median, calls | |
//! | `ejection.min_endpoints` | 5 | for the rules that compare | gRPC A50 |
//! | `ejection.interval`, `base_time`, `max_time` | 10, 30, 300 | s | gRPC A50 |
//! | `ejection.jitter` | 0.1 | share of the time | |
//! | `ejection.max_ejected` | 0.1, but one always, the last never | share of the endpoints | gRPC A50 |
//! | `ejection.panic_threshold` | 0.5 | share that is healthy | Envoy |
//! | `ejection.probation_successes` | 2 | | Kitex |
//! | `slow_start`, `zones`, `subset` | off | | |
//! | slow start: `aggression`, `min_share` | 1, 0.1 | | Envoy |
//! | zones: `over_provisioning` | 1.4 | times the healthy weight | Envoy |
//! | consistent hash: points, `load_bound` | 100 per weight, none (usual: 1.25) | | Kitex; Mirrokni et al. |
//! | Maglev: `table_size` | 65 537 | slots | Maglev |
//! | reported load: blackout, expiration | 10, 180 | s | gRPC A58 |
//! | weight of an endpoint | 1 | | |
//! | [`Discovery`]: `every`, `at_least`, `timeout` | 5, 1, 5 | s | Kitex |
//!
//! # Hashing: balance and disruption
//!
//! A million keys; made by
//! `cargo run --release -p outrigger-loadbalance --example figures -- quality`.
//!
//! | picker | endpoints | max / mean | keys moved when 1 leaves (least possible) |
//! | --- | --- | --- | --- |
//! | ring, 100 points | 100 | 1.222 | 1.00 % (1.00 %) |
//! | ring, 160 points | 100 | 1.234 | 1.00 % (1.00 %) |
//! | ring, 1000 points | 100 | 1.105 | 0.97 % (0.97 %) |
//! | bounded ring, 100 points, 1.25 | 100 | 1.220 | 1.02 % (1.00 %) |
//! | Maglev, 65 537 | 100 | 1.024 | 1.54 % (0.99 %) |
//! | Maglev, 655 373 | 100 | 1.033 | 1.14 % (1.00 %) |
//! | ring, 100 points | 1000 | 1.338 | 0.10 % (0.10 %) |
//! | ring, 160 points | 1000 | 1.280 | 0.10 % (0.10 %) |
//! | ring, 1000 points | 1000 | 1.166 | 0.10 % (0.10 %) |
//! | bounded ring, 100 points, 1.25 | 1000 | 1.250 | 0.18 % (0.10 %) |
//! | Maglev, 65 537 | 1000 | 1.118 | 0.69 % (0.10 %) |
//! | Maglev, 655 373 | 1000 | 1.111 | 0.43 % (0.10 %) |
//!
//! A key is hashed by xxHash64 with seed 0, and so is an endpoint's key. Point `n` of an endpoint is
//! output `n` of `SplitMix64` from its hash; a key belongs to the first point at or after its hash.
//! On the ring the upper 32 bits of either count, as many as ketama's rings have; of points at the
//! same place the endpoint whose key comes first has it. So the mapping is the same in every process,
//! on every platform and in every version. Removing an endpoint from the ring moves its own keys
//! only, and a changed weight moves keys from or to that endpoint only. Maglev moves a few more; its
//! look-up costs the same however many endpoints there are.
//!
//! # What a change costs
//!
//! An index is built by whoever changes the endpoints, beside the one in use, and swapped in: no
//! pick waits for a build, however long it takes. From a change of one weight to the new index, on
//! two busy cores; made by `cargo run --release -p outrigger-loadbalance --example figures -- builds`
//! (`-- churn`: while 10 000 endpoints change ten times a second, the slowest of 100 000 calls took
//! 141 µs):
//!
//! | endpoints | weighted random | ring, 100 points | Maglev 65 537 | Maglev 655 373 |
//! | --- | --- | --- | --- | --- |
//! | 10 | 2.5 µs | 80 µs | 1.5 ms | 57 ms |
//! | 100 | 11 µs | 0.6 ms | 1.8 ms | 54 ms |
//! | 1 000 | 87 µs | 26 ms | 1.9 ms | 76 ms |
//! | 10 000 | 1.1 ms | 0.46 s | 3.4 ms | 71 ms |
//! | 100 000 | 85 ms | 7.3 s | 0.14 s | 0.23 s |
//!
//! # Threads
//!
//! Calls are counted in lanes, up to eight, and threads that run together are in different ones: by
//! itself a pick writes no cache line that another thread reads. Two choices must know the calls in
//! flight of all threads, so a call that waits is shown to them: one line of its endpoint is
//! written when it first waits and when it ends. A call that is answered at once is never shown. A
//! load bound holds at every moment, so each of its picks writes two lines that all share.
//!
//! # Events
//!
//! [`Balance::observe`] takes who is told. Observers run with no lock held.
//!
//! | event | key | when |
//! | --- | --- | --- |
//! | [`Added`](BalanceEvent::Added), [`Reweighted`](BalanceEvent::Reweighted) | endpoint | it joined, its weight changed |
//! | [`Removed`](BalanceEvent::Removed), then [`Drained`](BalanceEvent::Drained) | endpoint | it was taken out, its last call is over |
//! | [`Ejected`](BalanceEvent::Ejected), [`Returned`](BalanceEvent::Returned) | endpoint | a rule spoke, its time is over |
//! | [`PanicEntered`](BalanceEvent::PanicEntered), [`PanicLeft`](BalanceEvent::PanicLeft) | empty | too few are healthy, enough again |
//! | [`ConnectFailed`](BalanceEvent::ConnectFailed) | endpoint | a call went on since it was not ready |
//! | [`NoEndpoint`](BalanceEvent::NoEndpoint) | empty | a call was refused |
//! | [`UpdateRefused`](BalanceEvent::UpdateRefused) | resolver's target | an update was empty, late or failed |
//!
//! # What cancelling does
//!
//! A call that is dropped, before it is polled, while its endpoint connects, while it is answered or
//! while its body is read, is taken off its endpoint's count at once. It counts neither as success
//! nor as failure, and in the latency only as "took at least this long". Dropping a [`Discovery`]
//! leaves the endpoints as they are.
//!
//! # What it does not do
//!
//! - It retries nothing that was sent, and has no health checks of its own: calls are the check.
//! - It spawns nothing. [`Discovery::run`] is a future for you to spawn.
//! - It refuses with `no_endpoint` when there is none, instead of waiting for one.
//! - A replaced picker, local zone or subset is taken over with the next update of the endpoints or
//!   by [`Balance::refresh`]; the other settings by the next call.
//! - Ejection is per balancer: what others see of an endpoint is not known here.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `http` | `BalanceService::http`, `grpc`, `HeaderKey` |
//! | `tonic` | `http`, `TonicEndpoint`: tonic's channels, connected before they take a request |
//! | `hyper` | `http`, `HyperEndpoint`: hyper's pooled client |
//! | `orca` | `http`, `LoadReport::from_headers`: load that endpoints report in trailers, by itself, or in headers |
//! | `discover` | `follow`: any stream of tower's discovery |
//! | `dns` | `DnsResolver`: A and AAAA, or SRV |
//! | `file` | `FileResolver` |
//! | `serde` | `Deserialize` and `Serialize` for [`BalancePolicy`] |
//! | `schema` | `serde`, and JSON schemas of these policies |

#![forbid(unsafe_code)]

mod balance;
mod call;
mod discovery;
mod endpoint;
mod engine;
mod event;
mod future;
mod hash;
mod held;
mod picker;
mod policy;
mod report;
mod roster;
mod service;
mod snapshot;
mod status;
mod sync;
mod transport;
mod weak;

pub use balance::{Balance, Picked};
#[cfg(feature = "dns")]
pub use discovery::DnsResolver;
#[cfg(feature = "discover")]
pub use discovery::follow;
pub use discovery::{Difference, Discovery, Resolution, ResolveError, Resolver, StaticResolver};
#[cfg(feature = "file")]
pub use discovery::{FileResolver, MalformedFile};
pub use endpoint::{Endpoint, EndpointInfo};
pub use engine::{
    EjectionPolicy, EjectionPolicyBuilder, SlowStartPolicy, SubsetPolicy, ZonePolicy,
};
pub use event::{BalanceEvent, EjectionRule, RefusedUpdate};
pub use future::BalanceFuture;
#[cfg(feature = "http")]
pub use hash::HeaderKey;
pub use hash::{HashBy, HashKey, NoKey};
pub use held::HeldCall;
pub use picker::{BuildPicker, Candidates, Pick, PickEntry};
pub use policy::{
    BalancePolicy, BalancePolicyBuilder, CustomPicker, Picker, ReportedPolicy, WithoutKey,
};
pub use report::LoadReport;
pub use service::BalanceService;
pub use status::{BalanceStatus, EndpointState, EndpointStatus};
pub use transport::{Connect, ConnectFailed, Lazy};
#[cfg(feature = "hyper")]
pub use transport::{HyperConnect, HyperEndpoint, HyperFuture, HyperService};
#[cfg(feature = "tonic")]
pub use transport::{TonicChannel, TonicConnect, TonicEndpoint, TonicFuture};
pub use weak::WeakBalance;
