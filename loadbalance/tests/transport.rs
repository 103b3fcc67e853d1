//! Endpoints over real connections on loopback, and endpoints that connect when needed.
#![cfg(all(feature = "tonic", feature = "hyper"))]
#![expect(clippy::unwrap_used, reason = "a test's own figures and helpers")]

#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::{
    collections::HashMap,
    error::Error,
    future::{Future, Ready, ready},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use outrigger_core::Outcome;
use outrigger_loadbalance::{
    Balance, BalanceEvent, BalancePolicy, BalanceService, Connect, Discovery, Endpoint,
    EndpointInfo, HyperEndpoint, Lazy, Picker, StaticResolver, TonicEndpoint,
};
use support::Log;
use tokio::{net::TcpListener, sync::oneshot};
use tower::{BoxError, Service, ServiceExt};

fn balance<S>(log: &Log) -> Balance<S> {
    let builder = BalancePolicy::builder().picker(Picker::RoundRobin).ejection(None).seed(1);
    log.attach(Balance::new(builder.build().unwrap()))
}

/// An address at which nobody listens.
async fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

// ---- tonic ----

/// A gRPC server whose answers name it.
async fn grpc_server(name: &'static str) -> (SocketAddr, oneshot::Sender<()>) {
    let answer = move || async move { [("grpc-status", "0"), ("host-name", name)] };
    let routes = tonic::service::Routes::from(Router::new().fallback(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let (stop, stopped) = oneshot::channel();
    let server = tonic::transport::Server::builder().add_routes(routes);
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, async { drop(stopped.await) }));
    (address, stop)
}

fn grpc_endpoint(address: SocketAddr) -> Endpoint<TonicEndpoint> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    Endpoint::new(address.to_string(), TonicEndpoint::of(endpoint))
}

type GrpcService = BalanceService<
    TonicEndpoint,
    outrigger_core::GrpcStatus,
    outrigger_core::OnBodyEnd,
    outrigger_core::InExtensions,
>;

async fn grpc_call(service: &mut GrpcService) -> Result<String, tonic::Status> {
    let request = Request::post("http://balanced/shop.Orders/Place")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::empty())
        .unwrap();
    let response = service.call(request).await?;
    Ok(response.headers()["host-name"].to_str().unwrap().to_owned())
}

async fn shares(service: &mut GrpcService, calls: usize) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for _ in 0..calls {
        *shares.entry(grpc_call(service).await.unwrap()).or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn grpc_calls_survive_a_server_that_dies_and_use_one_that_joins() {
    let log = Log::default();
    let balance = balance(&log);
    let mut stops = Vec::new();
    for name in ["a", "b", "c"] {
        let (address, stop) = grpc_server(name).await;
        balance.insert(grpc_endpoint(address));
        stops.push((address, stop));
    }
    let mut service = BalanceService::new(balance.clone()).grpc();
    let before = shares(&mut service, 30).await;
    assert_eq!(before, ["a", "b", "c"].map(|name| (name.to_owned(), 10)).into());

    let (dead, stop) = stops.remove(0);
    stop.send(()).unwrap();
    while tokio::net::TcpStream::connect(dead).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // A call that was under way on the dying connection may fail; none after that.
    let mut errors = 0;
    let mut in_a_row = 0;
    while in_a_row < 30 {
        if grpc_call(&mut service).await.is_ok() {
            in_a_row += 1;
        } else {
            (errors, in_a_row) = (errors + 1, 0);
            assert!(errors <= 3, "calls keep failing");
        }
    }
    let after = shares(&mut service, 30).await;
    assert!(!after.contains_key("a") && after["b"] + after["c"] == 30, "{after:?}");
    assert!(log.count(|event| matches!(event, BalanceEvent::ConnectFailed { .. })) > 0);

    let (address, _stop) = grpc_server("d").await;
    balance.insert(grpc_endpoint(address));
    balance.remove(&dead.to_string());
    let with_new = shares(&mut service, 30).await;
    assert_eq!(with_new, ["b", "c", "d"].map(|name| (name.to_owned(), 10)).into());
}

#[tokio::test]
async fn nobody_to_connect_is_unavailable_and_says_whom_it_could_not_connect() {
    let balance = balance(&Log::default());
    balance.insert(grpc_endpoint(dead_address().await));
    let mut service = BalanceService::new(balance).grpc();
    let status = grpc_call(&mut service).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().starts_with("cannot connect to http://127.0.0.1:"), "{status}");
}

#[tokio::test]
async fn a_refusal_is_a_status_too() {
    let mut service = BalanceService::new(balance::<TonicEndpoint>(&Log::default())).grpc();
    let status = grpc_call(&mut service).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(status.message(), "call refused by loadbalance: no endpoint");
}

// ---- hyper ----

async fn http_server(name: &'static str, status: StatusCode) -> SocketAddr {
    let router = Router::new().route("/name", get(move || async move { (status, name) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn http_endpoint(address: SocketAddr) -> Endpoint<HyperEndpoint<Empty<Bytes>>> {
    let authority = address.to_string().parse().unwrap();
    Endpoint::new(address.to_string(), HyperEndpoint::of(authority))
}

#[tokio::test]
async fn http_calls_pass_over_a_dead_address_and_are_over_with_their_body() {
    let log = Log::default();
    let balance = balance(&log);
    balance.insert(http_endpoint(http_server("alive", StatusCode::OK).await));
    balance.insert(http_endpoint(dead_address().await));
    let mut service = BalanceService::new(balance.clone()).http();
    let in_flight =
        || -> u64 { balance.status().endpoints.iter().map(|endpoint| endpoint.in_flight).sum() };
    for _ in 0..10 {
        let request = Request::get("http://shop.example/name").body(Empty::new()).unwrap();
        let response = service.call(request).await.unwrap();
        assert_eq!(in_flight(), 1, "until the body is read");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "alive");
        assert_eq!(in_flight(), 0);
    }
    assert!(log.count(|event| matches!(event, BalanceEvent::ConnectFailed { .. })) > 0);
}

#[tokio::test]
async fn a_status_that_is_a_failure_is_counted_as_one() {
    let balance = balance(&Log::default());
    let address = http_server("broken", StatusCode::INTERNAL_SERVER_ERROR).await;
    balance.insert(http_endpoint(address));
    let mut service = BalanceService::new(balance.clone()).http();
    let request = Request::get("/name").body(Empty::new()).unwrap();
    drop(service.call(request).await.unwrap().into_body().collect().await.unwrap());
    let status = &balance.status().endpoints[0];
    assert_eq!((status.successes, status.failures), (0, 1));
}

// ---- connecting when needed ----

#[derive(Clone, Default)]
struct Port(Arc<PortState>);

#[derive(Default)]
struct PortState {
    attempts: AtomicU64,
    is_down: AtomicBool,
    is_closed: AtomicBool,
}

#[derive(Clone)]
struct Connected;

impl Service<()> for Connected {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: ()) -> Self::Future {
        ready(Ok(()))
    }
}

impl Connect for Port {
    type Service = Connected;

    fn connect(
        &self,
    ) -> impl Future<Output = Result<Connected, Box<dyn Error + Send + Sync>>> + Send + 'static
    {
        self.0.attempts.fetch_add(1, Ordering::SeqCst);
        let is_down = self.0.is_down.load(Ordering::SeqCst);
        self.0.is_closed.store(false, Ordering::SeqCst);
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if is_down { Err("refused".into()) } else { Ok(Connected) }
        }
    }

    fn is_closed(&self, _service: &Connected) -> bool {
        self.0.is_closed.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn clones_share_one_connection_also_while_it_is_made() {
    let port = Port::default();
    let lazy = Lazy::new("port", port.clone());
    let (a, b, c) =
        tokio::join!(lazy.clone().oneshot(()), lazy.clone().oneshot(()), lazy.clone().oneshot(()));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    lazy.clone().oneshot(()).await.unwrap();
    assert_eq!(port.0.attempts.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_gives_up_takes_the_connection_from_nobody() {
    let port = Port::default();
    let lazy = Lazy::new("port", port.clone());
    let mut first = tokio_test::task::spawn(lazy.clone().oneshot(()));
    tokio_test::assert_pending!(first.poll());
    drop(first);
    lazy.oneshot(()).await.unwrap();
    assert_eq!(port.0.attempts.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_made_again_and_failures_pause_longer_and_longer() {
    let port = Port::default();
    let lazy = Lazy::new("port", port.clone());
    let attempts = || port.0.attempts.load(Ordering::SeqCst);
    lazy.clone().oneshot(()).await.unwrap();
    port.0.is_closed.store(true, Ordering::SeqCst);
    lazy.clone().oneshot(()).await.unwrap();
    assert_eq!(attempts(), 2);

    port.0.is_closed.store(true, Ordering::SeqCst);
    port.0.is_down.store(true, Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        lazy.clone().oneshot(()).await.unwrap_err();
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    // After 0.1, 0.3, 0.7, 1.5, 3.1, 6.3 s and so on.
    assert!((6..=9).contains(&(attempts() - 2)), "{} attempts", attempts() - 2);

    port.0.is_down.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(6)).await;
    lazy.oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn discovery_connects_new_endpoints_before_they_are_picked() {
    let ports: HashMap<&str, Port> = ["up", "down"].map(|key| (key, Port::default())).into();
    ports["down"].0.is_down.store(true, Ordering::SeqCst);
    let balance: Balance<Lazy<Port>> = balance(&Log::default());
    let make = {
        let ports = ports.clone();
        move |info: &EndpointInfo| Lazy::new(info.key(), ports[info.key()].clone())
    };
    let resolver = StaticResolver::new(["up", "down"].map(EndpointInfo::new));
    let mut discovery = Discovery::new(resolver, balance.clone(), make)
        .warm_up(|endpoint: Lazy<Port>| async move { drop(endpoint.warm_up().await) });
    discovery.refresh().await.unwrap();
    for (key, port) in &ports {
        assert_eq!(port.0.attempts.load(Ordering::SeqCst), 1, "{key}");
    }
    let mut picked = balance.pick().unwrap();
    let mut ready = tokio_test::task::spawn(picked.service().clone());
    let is_up = ready.enter(|cx, mut lazy| Service::<()>::poll_ready(&mut *lazy, cx));
    assert_eq!(matches!(is_up, Poll::Ready(Ok(()))), picked.key() == "up", "without a wait");
    picked.record(Outcome::Success);
}
