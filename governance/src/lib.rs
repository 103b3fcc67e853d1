//! Governance for any tower service: one policy per method, changed while traffic flows.
//!
//! A policy file says how each method is governed; [`Governance`] holds it, and gives a client and a
//! server their layers in the right order. The file is followed while calls run, all or nothing:
//! what is wrong in it is said with line and column, and the policies before it stay in force.
//!
//! ```
//! # #[cfg(not(feature = "governance"))]
//! # fn main() {}
//! # #[cfg(feature = "governance")]
//! use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
//!
//! # #[cfg(feature = "governance")]
//! use outrigger::{Format, Governance, PolicySet, core::MethodRef};
//! # #[cfg(feature = "governance")]
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! # #[cfg(feature = "governance")]
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let policies = "
//!     defaults:
//!       timeout: 1s
//!       circuit_breaker: {error_rate: {rate: 0.5, minimum_calls: 20}}
//!     services:
//!       shop.Cart:
//!         retry_budget: 10%
//!         methods:
//!           Get: {retry: {mode: failure, idempotent: true, backoff: none}}
//!     ";
//!     let governance = Governance::new(PolicySet::parse("policies.yaml", policies, Format::Yaml)?);
//!
//!     // A service of any protocol, whose requests say their method. It fails the first time.
//!     let is_down = Arc::new(AtomicBool::new(true));
//!     fn name<'a>(request: &'a (&'static str, u32)) -> Option<MethodRef<'a>> {
//!         Some(MethodRef { service: "shop.Cart", method: request.0 })
//!     }
//!     let client = ServiceBuilder::new().layer(governance.client(name)).service_fn(move |_| {
//!         let fails = is_down.swap(false, Ordering::Relaxed);
//!         async move { if fails { Err(BoxError::from("down")) } else { Ok("2 apples") } }
//!     });
//!     assert_eq!(client.oneshot(("Get", 7)).await?, "2 apples");
//!     Ok(())
//! }
//! ```
//!
//! It needs `outrigger` with the feature `governance`, `tower` with `util`, and `tokio` with `rt` and
//! `macros`.
//!
//! # Transports
//!
//! | over | it is | feature | shown by the example |
//! | --- | --- | --- | --- |
//! | `tonic`'s channel and server | `tonic_channel()`, `grpc_server()` | `tonic` | `tonic` |
//! | a balancer of `tonic`'s channels, too | `tonic_client()` | `tonic` | `quickstart` |
//! | gRPC by anything else | `grpc_client()`, `grpc_server()` | `http` | |
//! | `axum` | `http_server(namer)` | `http` | `axum` |
//! | `hyper`, and any client of `http::Request` | `http_client(namer)` | `hyper` or `http` | `hyper_client` |
//! | `reqwest` | `http_client(namer)`, between four conversions | `hyper` | `reqwest` |
//! | Volo's Thrift | `volo_client()`, `volo_server()` | `volo` | `volo` |
//! | any other request type | `client(namer)`, `server(namer)` | | the one above |
//!
//! The examples lie in `examples/`; each is a page of code.
//!
//! # The file
//!
//! JSON, YAML or TOML, of one shape. `defaults` are for every method, `services` for those of a
//! service, `methods` below a service for one. They are merged field by field, the most exact last.
//! `templates` hold settings that a scope takes over with `use: NAME`, below its own. `retry: off`
//! takes a policy away. `retry_budget` and `balance` may also stand at the top level, and are then
//! those of the `defaults`: each service has a budget of its own. Keys may be written in `snake_case`
//! or `lowerCamelCase`.
//!
//! | setting | what it holds | short form | of |
//! | --- | --- | --- | --- |
//! | `timeout` | `outrigger_retry::TimeoutPolicy`, over all attempts | `1s` | method |
//! | `attempt_timeout` | the same, for one attempt | `400ms` | method |
//! | `retry` | `outrigger_retry::RetryPolicy` | | method |
//! | `retry_budget` | `outrigger_retry::RetryBudgetPolicy`, or `{percent, minRetriesPerSecond, ttl}` | `10%` | service |
//! | `circuit_breaker` | `outrigger_circuitbreak::CircuitBreakerPolicy` | | method |
//! | `rate_limit` | `outrigger_ratelimit::RateLimitPolicy` | `100/s`, with a burst of as many | method, server |
//! | `concurrency_limit` | `outrigger_ratelimit::ConcurrencyLimitPolicy` | `100` | method, server |
//! | `adaptive_limit` | `outrigger_ratelimit::AdaptiveLimitPolicy`, in the place of a `concurrency_limit` | `vegas`, `gradient2`, `aimd` | method, server |
//! | `client_throttle` | `outrigger_ratelimit::ClientThrottlePolicy` | `2.0` | method |
//! | `balance` | `outrigger_loadbalance::BalancePolicy`, for `Governance::balance` | | service |
//! | `criticality` | one of `sheddable`, `sheddable_plus`, `critical`, `critical_plus` | | method |
//! | `enforcement` | `enforced`, `shadow` or `disabled`, for all policies of a scope that state none | | all |
//! | `connection_limit` | `outrigger_ratelimit::ConnectionLimitPolicy`, for `Governance::connections` | `1000` | server |
//!
//! What is in each policy, with defaults and units, is in the crates' own pages. What nobody states
//! does not act: there is no silent time-out and no breaker that nobody asked for.
//!
//! A fixed and an adaptive limit stand in each other's place: of the two the more exact scope's
//! counts, and one scope cannot state both. A `concurrency_limit` with an `algorithm` is adaptive.
//!
//! A **gRPC service config** is such a file as it stands: `methodConfig` with `timeout`,
//! `retryPolicy` and `hedgingPolicy`, `retryThrottling`, `loadBalancingConfig`; with gRPC's
//! precedence (the most exact entry counts alone), its cutting of `maxAttempts` to 5, and its
//! refusal of a name that stands twice. Names of resilience4j (`slidingWindowType`,
//! `failureRateThreshold`, ...), Envoy (`tokenBucket`, `maxRequests`) and gRFC A50
//! (`baseEjectionTime`, ...) are understood where they stand. `KitexConfig` takes over Kitex's
//! governance documents.
//!
//! Kitex's own forms, and what maps to what, are on the page of [`KitexConfig`].
//!
//! # In an editor
//!
//! `governance/policies.schema.json` is the JSON schema of such a file, in either form: an editor
//! completes names, shows what a setting is with its default, and marks what is wrong. The program
//! `outrigger schema` prints it, and the feature `schema` has it as `PolicySet::schema`. With a copy
//! beside the policies:
//!
//! | editor | how it knows |
//! | --- | --- |
//! | VS Code and others with `yaml-language-server`, YAML | the first line `# yaml-language-server: $schema=policies.schema.json` |
//! | the same, JSON | `"$schema": "./policies.schema.json"` in the file, which the reader leaves alone |
//! | Taplo and Even Better TOML, TOML | the first line `#:schema ./policies.schema.json` |
//!
//! A schema sees one scope at a time, so it lets pass what is only missing or does not go together:
//! `outrigger check` knows the whole.
//!
//! # While traffic flows
//!
//! - `Governance::follow_file` follows a file, however it is replaced; `follow` follows a stream;
//!   `replace` and `load` are calls.
//! - A call keeps the time-outs and the retry policy that it began with. The state of circuits,
//!   limits and budgets is shared by nature: they go on by the new policy, and a policy that did not
//!   change keeps them untouched.
//! - `Governance::switch` enforces, shadows or disables by hand, over what any file says.
//! - Who observes is told `PolicyEvent::Replaced`, `Switched`, and `Refused` with the reason.
//!
//! # Looking on
//!
//! `governance.tonic_client().observe(ObserveLayer::client()..)` counts and times each call and each
//! attempt by method and outcome, and makes them spans whose context is passed on, as the given
//! layer says (features `metrics`, `opentelemetry`, `tracing`, `tracing-opentelemetry`); likewise
//! for a server. Without it nobody looks on, and nothing is paid. What governance decides is told
//! to the observer of `Governance::with_observer`: `GovernanceMetrics`, `SpanEvents`, `StateLog`
//! and `Diagnosis` of `observability` are such observers, and so is a pair of two.
//!
//! # The program `outrigger`
//!
//! With the feature `cli`: `outrigger check FILE` shows everything that is wrong in a file, and
//! `outrigger explain FILE SERVICE/METHOD` prints the policies of a method, and where each value
//! comes from. `outrigger schema` prints the schema for editors.
//!
//! # What it does not do
//!
//! It makes no connections: a `Balance` or a channel stands below the client's layers. It does not
//! persist anything.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `governance` | policy files, their reload, the composed stacks; and the four crates below |
//! | `circuitbreak`, `loadbalance`, `observability`, `ratelimit`, `retry` | the crate of that name, as a module |
//! | `diagnosis`, `metrics`, `opentelemetry`, `tracing`, `tracing-opentelemetry` | `observability` with that feature; with `governance`, its metrics, logs and page know what governs |
//! | `http` | HTTP requests and responses |
//! | `hyper` | `http`, and what the errors of hyper's clients say about whether a call was sent |
//! | `volo` | `governance`, and its stacks for Volo's Thrift clients and servers |
//! | `tonic` | `http`, and stacks over `tonic` channels |
//! | `schema` | `governance`, and the JSON schema of policy files |
//! | `cli` | `schema`, and the program `outrigger` |

#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "governance"),
    expect(rustdoc::broken_intra_doc_links, reason = "the page names what the features add")
)]

#[cfg(feature = "governance")]
mod at_hand;
#[cfg(feature = "governance")]
mod current;
#[cfg(feature = "governance")]
mod document;
#[cfg(feature = "governance")]
mod event;
#[cfg(feature = "governance")]
mod fallback;
#[cfg(feature = "governance")]
mod follow;
#[cfg(feature = "governance")]
mod governance;
#[cfg(feature = "governance")]
mod method;
#[cfg(all(feature = "governance", feature = "observability"))]
mod observed;
#[cfg(feature = "governance")]
mod part;
#[cfg(feature = "governance")]
mod problem;
#[cfg(feature = "schema")]
mod schema;
#[cfg(feature = "governance")]
mod set;
#[cfg(feature = "governance")]
mod shared;
#[cfg(feature = "governance")]
mod stack;
#[cfg(feature = "governance")]
mod state;
#[cfg(feature = "volo")]
pub mod volo;

pub use outrigger_core as core;

#[cfg(feature = "circuitbreak")]
pub use outrigger_circuitbreak as circuitbreak;
#[cfg(feature = "loadbalance")]
pub use outrigger_loadbalance as loadbalance;
#[cfg(feature = "observability")]
pub use outrigger_observability as observability;
#[cfg(feature = "ratelimit")]
pub use outrigger_ratelimit as ratelimit;
#[cfg(feature = "retry")]
pub use outrigger_retry as retry;

#[cfg(all(feature = "governance", feature = "http"))]
pub use self::stack::{GrpcWire, HttpWire};
#[cfg(all(feature = "governance", feature = "tonic"))]
pub use self::stack::{LeaveForTonic, TonicChannelWire, TonicWire};
#[cfg(all(feature = "governance", feature = "observability"))]
pub use self::stack::{ObservedBy, ObservedWire};
#[cfg(feature = "governance")]
pub use self::{
    event::{ObserveGovernance, PolicyEvent},
    fallback::{FallbackFuture, FallbackLayer, FallbackService},
    follow::PolicyFile,
    governance::Governance,
    method::{Explained, MethodPolicy, PolicyKind, ServicePolicy},
    problem::{InvalidPolicies, Problem},
    set::{Format, KitexConfig, LoadError, PolicySet, ServerPolicy},
    stack::{
        AnyRequest, AttemptStack, ClientLayer, ClientStack, EitherLimit, EitherPermit, EitherWait,
        Enter, EnterFuture, Envelope, Governed, HoldContext, InEnvelope, Inner, KeptGoverned,
        Leave, LeaveFuture, OfAttempt, OfCall, OfMethod, OfServer, ServerLayer, ServerStack, Wire,
        WithRequest,
    },
    state::MethodState,
};
