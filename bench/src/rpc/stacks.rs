//! The clients: one channel, with nothing and with each system's layers around it.

use std::{net::SocketAddr, time::Duration};

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
    Request, Status,
    body::Body,
    client::GrpcService,
    transport::{Channel, Endpoint},
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{BARE, BARE_DEADLINE, Case, Client};
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
struct AroundChannel<S> {
    service: S,
    /// What the caller itself says in each request, as `Request::set_timeout` does.
    timeout: Option<Duration>,
}

const fn around<S>(service: S) -> AroundChannel<S> {
    AroundChannel { service, timeout: None }
}

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
        let mut request = Request::new(greeter::Greeting { number });
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        greeter::send(&mut self.service, request).await.is_ok()
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
    let observed = ServiceBuilder::new()
        .layer(ObserveLayer::client().meter(meter).grpc())
        .layer(told.tonic_channel())
        .service(fallible.clone());
    let bare = around(channel.clone());
    let mut cases = vec![
        Case::new(BARE, "bare", bare.clone()),
        Case::new(BARE_DEADLINE, "bare", AroundChannel { timeout: Some(HOUR), ..bare }),
        Case::new("unary", "outrigger", around(governance.tonic_channel().layer(fallible.clone()))),
        Case::new("unary", "tower", AroundCall(tower_layers::stack(call(&channel)))),
        Case::new("unary", "tower-resilience", AroundCall(tower_resilience::stack(call(&channel)))),
        Case::new(
            "unary_to_balancer",
            "outrigger",
            around(governance.tonic_client().layer(fallible.clone())),
        ),
        Case::new("unary_observe", "outrigger", around(observed)),
    ];
    cases.extend(by_hand(&fallible));
    cases.extend(each_alone(&fallible));
    (cases, scrape)
}

/// The layers put together by hand: with the deadline in the header, and with none there, as tower's
/// time-out has it.
fn by_hand<S>(channel: &S) -> [Case; 2]
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Status, Future: Send>
        + Clone
        + Send
        + 'static,
{
    macro_rules! stack {
        ($timeout:expr) => {
            around(
                ServiceBuilder::new()
                    .layer(ConcurrencyLimitLayer::new(concurrency()).grpc())
                    .layer(retry())
                    .layer(CircuitBreakerLayer::new(CircuitBreakerPolicy::default()).grpc())
                    .layer($timeout)
                    .service(channel.clone()),
            )
        };
    }
    [
        Case::new("unary_layers", "outrigger", stack!(TimeoutLayer::after(HOUR).grpc())),
        Case::new("unary_layers_no_header", "outrigger", stack!(TimeoutLayer::after(HOUR))),
    ]
}

/// Each layer of the stack by itself: where the cost of it lies.
fn each_alone<S>(channel: &S) -> [Case; 4]
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
        Case::new("unary_limit", "outrigger", around(limit)),
        Case::new("unary_retry", "outrigger", around(retry().layer(channel.clone()))),
        Case::new("unary_breaker", "outrigger", around(breaker)),
        Case::new("unary_timeout", "outrigger", around(timeout)),
    ]
}

fn concurrency() -> ConcurrencyLimitPolicy {
    ConcurrencyLimitPolicy::builder().limit(PLENTY).build().expect("in order")
}

fn retry() -> RetryLayer<OneRetry, ReplayTonic, Grpc, GrpcStatus> {
    let policy = RetryPolicy::failure().idempotent(true).build().expect("in order");
    RetryLayer::new(policy).grpc().replay(ReplayTonic::default())
}
