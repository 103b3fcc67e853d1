//! The clients: one channel, with nothing and with each system's layers around it.

use std::net::SocketAddr;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use outrigger::{Format, Governance, PolicySet};
use outrigger_circuitbreak::{CircuitBreakerLayer, CircuitBreakerPolicy};
use outrigger_core::GrpcStatus;
use outrigger_examples::greeter;
use outrigger_observability::{FacadeMeter, GovernanceMetrics, ObserveLayer};
use outrigger_ratelimit::{ConcurrencyLimitLayer, ConcurrencyLimitPolicy};
use outrigger_retry::{Grpc, OneRetry, ReplayTonic, RetryLayer, RetryPolicy, TimeoutLayer};
use tokio::runtime::Runtime;
use tonic::{
    Status,
    body::Body,
    client::GrpcService,
    transport::{Channel, Endpoint},
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{Case, Client};
use crate::overhead::{HOUR, PLENTY, tower_layers, tower_resilience};

/// The layers of `client_stack`, as a policy file says them.
const POLICIES: &str = "
defaults:
  attempt_timeout: 1h
  concurrency_limit: 1000000
  circuit_breaker: {}
  retry: {mode: failure, idempotent: true}
";

/// Layers around a channel: they see requests of HTTP.
#[derive(Clone)]
struct AroundChannel<S>(S);

impl<S, B> Client for AroundChannel<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S: Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    B: http_body::Body<Error: Into<BoxError>> + Send + 'static,
    for<'a> &'a mut S: GrpcService<Body, ResponseBody = B, Future: Send>,
{
    async fn ask(&mut self, number: u64) -> bool {
        greeter::greet(&mut self.0, number).await.is_ok()
    }
}

/// Layers around a whole call: they see the message. tower's and tower-resilience's retries want a
/// request that can be cloned, which one of tonic's cannot.
#[derive(Clone)]
struct AroundCall<S>(S);

impl<S> Client for AroundCall<S>
where
    S: Service<u64, Error: Send, Future: Send> + Clone + Send + 'static,
    S::Response: Send,
{
    async fn ask(&mut self, number: u64) -> bool {
        match self.0.ready().await {
            Ok(service) => service.call(number).await.is_ok(),
            Err(_) => false,
        }
    }
}

/// A call as a service.
fn call(
    channel: &Channel,
) -> impl Service<u64, Response = greeter::Reply, Error = Status, Future: Send> + Clone + Send + 'static
{
    let channel = channel.clone();
    service_fn(move |number| greeter::greet(channel.clone(), number))
}

/// All clients over one connection, and who is to be told that a scrape is over.
pub(super) fn all(runtime: &Runtime, server: SocketAddr) -> (Vec<Case>, PrometheusHandle) {
    let _inside = runtime.enter();
    let endpoint = Endpoint::from_shared(format!("http://{server}")).expect("an address is a URI");
    let channel = endpoint.tcp_nodelay(true).connect_lazy();
    let recorder = PrometheusBuilder::new().build_recorder();
    let scrape = recorder.handle();
    let meter = std::sync::Arc::new(FacadeMeter::with_recorder(recorder));
    let status = |error: tonic::transport::Error| Status::from_error(error.into());
    let fallible = channel.clone().map_err(status);
    let set = PolicySet::parse("policies.yaml", POLICIES, Format::Yaml).expect("valid");
    let governance = Governance::new(set.clone());
    let metrics = GovernanceMetrics::new(meter.clone());
    let told = Governance::with_observer(set, metrics);
    let composed = ServiceBuilder::new().layer(governance.tonic_client()).service(fallible.clone());
    let observed = ServiceBuilder::new()
        .layer(ObserveLayer::client().meter(meter).grpc())
        .layer(told.tonic_client())
        .service(fallible.clone());
    let by_hand = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(concurrency()).grpc())
        .layer(retry())
        .layer(CircuitBreakerLayer::new(CircuitBreakerPolicy::default()).grpc())
        .layer(TimeoutLayer::after(HOUR).grpc())
        .service(fallible.clone());
    let mut cases = vec![
        Case::new("unary", "bare", AroundChannel(channel.clone())),
        Case::new("unary", "outrigger", AroundChannel(composed)),
        Case::new("unary", "tower", AroundCall(tower_layers::stack(call(&channel)))),
        Case::new("unary", "tower-resilience", AroundCall(tower_resilience::stack(call(&channel)))),
        Case::new("unary_layers", "outrigger", AroundChannel(by_hand)),
        Case::new("unary_observe", "outrigger", AroundChannel(observed)),
    ];
    cases.extend(each_alone(fallible));
    (cases, scrape)
}

/// Each layer of the stack by itself: where the cost of it lies.
fn each_alone<S>(channel: S) -> [Case; 4]
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Status, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let limit = ConcurrencyLimitLayer::new(concurrency()).grpc().layer(channel.clone());
    let breaker = CircuitBreakerLayer::new(CircuitBreakerPolicy::default()).grpc();
    let breaker = breaker.layer(channel.clone());
    let timeout = TimeoutLayer::after(HOUR).grpc().layer(channel.clone());
    [
        Case::new("unary_limit", "outrigger", AroundChannel(limit)),
        Case::new("unary_retry", "outrigger", AroundChannel(retry().layer(channel))),
        Case::new("unary_breaker", "outrigger", AroundChannel(breaker)),
        Case::new("unary_timeout", "outrigger", AroundChannel(timeout)),
    ]
}

fn concurrency() -> ConcurrencyLimitPolicy {
    ConcurrencyLimitPolicy::builder().limit(PLENTY).build().expect("in order")
}

fn retry() -> RetryLayer<OneRetry, ReplayTonic, Grpc, GrpcStatus> {
    let policy = RetryPolicy::failure().idempotent(true).build().expect("in order");
    RetryLayer::new(policy).grpc().replay(ReplayTonic::default())
}
