//! A small gRPC service, written by hand on tonic's building blocks: no `protoc` is needed.
//!
//! It is what this definition would generate:
//!
//! ```proto
//! package outrigger.examples;
//!
//! service Greeter {
//!   rpc Greet(Greeting) returns (Reply);
//! }
//! ```

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::uri::PathAndQuery;
use outrigger_core::{Rejection, RejectionResponseLayer};
use outrigger_ratelimit::{ConcurrencyLimit, ConcurrencyLimitLayer, RateLimit, RateLimitLayer};
use tokio::net::TcpListener;
use tonic::{
    GrpcMethod, Request, Response, Status,
    body::Body,
    client::GrpcService,
    codegen::StdError,
    server::NamedService,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::{Chronicle, Health};

const GREET: &str = "/outrigger.examples.Greeter/Greet";

/// What a caller says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Greeting {
    /// The number of the call.
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// What the greeter says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Reply {
    /// Some kind words.
    #[prost(string, tag = "1")]
    pub words: String,
}

/// How many calls a greeter takes: the server's own limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// At once.
    pub concurrency: ConcurrencyLimit<Chronicle>,
    /// In a second.
    pub rate: RateLimit<Chronicle>,
}

/// Starts a greeter on a port that the system gives.
///
/// # Errors
///
/// When the system gives none.
pub async fn serve(health: Health, limits: Limits) -> io::Result<SocketAddr> {
    let (connections, address) = listen().await?;
    let layers = ServiceBuilder::new()
        .layer(RejectionResponseLayer::new())
        .layer(ConcurrencyLimitLayer::from_handle(limits.concurrency).grpc())
        .layer(RateLimitLayer::from_handle(limits.rate).grpc())
        .map_err(Rejection::from);
    let attend = move |number| {
        let health = health.clone();
        async move { health.is_able_to_answer(number).await }
    };
    let server = Server::builder().layer(layers.into_inner()).add_service(Greeter { attend });
    tokio::spawn(server.serve_with_incoming(connections));
    Ok(address)
}

/// Starts a greeter that takes the time of `attend` for each call, and answers those that it says
/// yes to.
///
/// # Errors
///
/// When the system gives no port.
pub async fn serve_by<F, Fut>(attend: F) -> io::Result<SocketAddr>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send + 'static,
{
    let (connections, address) = listen().await?;
    let server = Server::builder().add_service(Greeter { attend });
    tokio::spawn(server.serve_with_incoming(connections));
    Ok(address)
}

/// Starts such a greeter, which says goodbye to its clients and is gone when `stop` is over.
///
/// # Errors
///
/// When the system gives no port.
pub async fn serve_until<F, Fut>(
    attend: F,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<SocketAddr>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send + 'static,
{
    let (connections, address) = listen().await?;
    let server = Server::builder().add_service(Greeter { attend });
    tokio::spawn(server.serve_with_incoming_shutdown(connections, stop));
    Ok(address)
}

/// Starts such a greeter behind `layer`.
///
/// # Errors
///
/// When the system gives no port.
pub async fn serve_governed<F, Fut, L, B>(attend: F, layer: L) -> io::Result<SocketAddr>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send + 'static,
    L: Layer<Routes> + Clone + Send + 'static,
    L::Service: Service<
            http::Request<Body>,
            Response = http::Response<B>,
            Error: Into<StdError> + Send,
            Future: Send,
        > + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<StdError>> + Send + 'static,
{
    let (connections, address) = listen().await?;
    let server = Server::builder().layer(layer).add_service(Greeter { attend });
    tokio::spawn(server.serve_with_incoming(connections));
    Ok(address)
}

async fn listen() -> io::Result<(TcpIncoming, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((TcpIncoming::from(listener).with_nodelay(Some(true)), address))
}

/// Asks a greeter through `service`: a channel, or a channel with layers around it.
///
/// # Errors
///
/// What the greeter answered, or why it was not asked.
pub async fn greet<S>(service: S, number: u64) -> Result<Reply, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<StdError>,
{
    send(service, Request::new(Greeting { number })).await
}

/// As [`greet`], with metadata and time-out of the caller's.
///
/// # Errors
///
/// As [`greet`].
pub async fn send<S>(service: S, mut request: Request<Greeting>) -> Result<Reply, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<StdError>,
{
    let mut client = tonic::client::Grpc::new(service);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let method = GrpcMethod::new("outrigger.examples.Greeter", "Greet");
    request.extensions_mut().insert(method);
    let path = PathAndQuery::from_static(GREET);
    let codec = ProstCodec::<Greeting, Reply>::default();
    client.unary(request, path, codec).await.map(Response::into_inner)
}

/// The service, as tonic's server wants it.
#[derive(Clone, Debug)]
struct Greeter<F> {
    attend: F,
}

impl<F, Fut> Greeter<F>
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = bool>,
{
    async fn greet(self, request: Request<Greeting>) -> Result<Response<Reply>, Status> {
        let Greeting { number } = request.into_inner();
        if (self.attend)(number).await {
            Ok(Response::new(Reply { words: format!("good day, caller {number}") }))
        } else {
            Err(Status::unavailable("the greeter is unwell"))
        }
    }
}

impl<F> NamedService for Greeter<F> {
    const NAME: &'static str = "outrigger.examples.Greeter";
}

impl<F, Fut> Service<http::Request<Body>> for Greeter<F>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let greeter = self.clone();
        Box::pin(async move {
            if request.uri().path() != GREET {
                return Ok(Status::unimplemented("the greeter only greets").into_http());
            }
            let method = service_fn(move |request| greeter.clone().greet(request));
            let codec = ProstCodec::<Reply, Greeting>::default();
            Ok(tonic::server::Grpc::new(codec).unary(method, request).await)
        })
    }
}
