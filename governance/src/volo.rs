//! Volo's Thrift clients and servers under a [`Governance`](crate::Governance).
//!
//! Volo's services are `motore`'s: asked by `&self`, with a context beside the request, and without
//! readiness. [`Governance::volo_client`](crate::Governance::volo_client) and
//! [`volo_server`](crate::Governance::volo_server) are `motore` layers that put the same stacks
//! around them as around tower's services:
//!
//! ```
//! use outrigger::{Format, Governance, PolicySet, core::RejectionKind, volo::rejection};
//! use volo::{Layer, Service, context::{Context, Endpoint, Role, RpcInfo}, service::service_fn};
//! use volo_thrift::{ClientError, context::{ClientContext, Config}};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let policies = "services: {shop.cart: {methods: {Get: {rate_limit: {rate: 1, burst: 1, period: 1h}}}}}";
//! let governance = Governance::new(PolicySet::parse("policies.yaml", policies, Format::Yaml)?);
//!
//! // In a program: `CartClientBuilder::new("shop.cart").layer_outer(governance.volo_client())`.
//! async fn answer(_: &mut ClientContext, user: u32) -> Result<Option<u32>, ClientError> {
//!     Ok(Some(user))
//! }
//! let client = governance.volo_client().layer(service_fn(answer));
//!
//! let callee = Endpoint::new("shop.cart".into());
//! let info = RpcInfo::new(Role::Client, "Get".into(), Endpoint::default(), callee, Config::new());
//! let mut cx = ClientContext::new(1, info, pilota::thrift::TMessageType::Call);
//! assert_eq!(client.call(&mut cx, 7).await?, Some(7));
//! let refused = client.call(&mut cx, 7).await.unwrap_err();
//! assert_eq!(rejection(&refused).unwrap().kind(), RejectionKind::Exhausted);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # What a policy finds
//!
//! | of a policy | in Volo |
//! | --- | --- |
//! | service | the callee's service name, as given to the client's builder; on a server as `TTHeader` says it, else the service of the IDL, else empty |
//! | method | `rpc_info().method()` |
//! | `timeout`, `attempt_timeout` | cut the call; the time that is left goes to the server in `TTHeader`, as its RPC time-out |
//! | failure | by [`ThriftOutcome`], unless [`classify`](VoloClientLayer::classify) says otherwise |
//! | was it sent? | not when it was refused here, or when the connection was |
//!
//! # Attempts and contexts
//!
//! The first attempt has the caller's own `ClientContext`. A further one has it too when the one
//! before it is over: with its tags and extensions, a new sequence number, fresh statistics, and
//! the address as the caller gave it, so that Volo's balancer picks anew. A backup request runs
//! beside the first attempt and has a context of its own, without tags and extensions, since those
//! cannot be copied; when it wins, the caller's context takes its address and statistics.
//!
//! Further attempts carry Kitex's mark of retries, the persistent metainfo `RetryReq`, and a call
//! that came in with it is not retried. On a server, calls of Volo's and tonic's clients made by a
//! handler end when the handler's own call must (`outrigger_retry::Chain`).
//!
//! # What is different
//!
//! - The error type is Volo's. A refusal becomes a [`ClientError::Transport`] that [`rejection`]
//!   finds again, or by [`refuse_with`](VoloClientLayer::refuse_with) what you make of it. On a
//!   server it becomes an application exception, of kind `INTERNAL_ERROR`: Thrift knows no better.
//! - Put it in by `layer_outer`: outside of Volo's balancer, so that each attempt has its own pick.
//!   Leave the builder's `retry_count` at 0, or attempts multiply. An `rpc_timeout` of the client or
//!   of a call cuts each attempt, besides the policies.
//! - `around_attempts` is not there: `layer_inner` stands around each attempt. Nor are `observe` and
//!   `around_calls`: a layer of Volo's outside of this one sees each call. What governance decides is
//!   told to the observer of [`Governance::with_observer`](crate::Governance::with_observer) as
//!   everywhere.
//! - The stack is made for each call, out of handles: Volo's futures borrow their service and
//!   context, so a stack that outlives the call would have to box every one of them.
//!
//! [`ClientError::Transport`]: volo_thrift::ClientError::Transport

mod attempt;
mod call;
mod client;
mod error;
mod outcome;
mod server;

pub use self::{
    client::{VoloClientLayer, VoloClientService},
    error::rejection,
    outcome::ThriftOutcome,
    server::{VoloServerLayer, VoloServerService},
};
