//! The layer around real transports, on ports that the system gives.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    cell::Cell, convert::Infallible, future::ready, net::SocketAddr, pin::Pin, time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, uri::PathAndQuery};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy, State, WindowCounts,
};
use outrigger_core::{Rejection, RejectionResponseLayer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, buffer::Buffer, service_fn};

/// Opens after two failures in a row, for an hour.
fn layer() -> CircuitBreakerLayer {
    let hour = Duration::from_secs(3_600);
    let policy = CircuitBreakerPolicy::builder().consecutive_failures(2).cool_down(hour);
    CircuitBreakerLayer::new(policy.cool_down_jitter(0.0).build().unwrap())
}

fn counts(breaker: &CircuitBreaker) -> WindowCounts {
    breaker.snapshot().counts
}

fn calls(calls: u64) -> WindowCounts {
    WindowCounts { calls, ..WindowCounts::default() }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Where nobody listens: the system gave the port and has it back.
async fn nobody() -> SocketAddr {
    listen().await.1
}

mod grpc {
    use tonic::{
        Code, Status, Streaming,
        body::Body,
        client::GrpcService,
        codegen::StdError,
        server::NamedService,
        transport::{Channel, Endpoint, Server, server::TcpIncoming},
    };
    use tonic_prost::ProstCodec;

    use super::*;

    /// What a server shall do: answer so many times, then end with this status.
    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    struct Ask {
        #[prost(uint32, tag = "1")]
        answers: u32,
        #[prost(int32, tag = "2")]
        code: i32,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    struct Answer {
        #[prost(uint32, tag = "1")]
        number: u32,
    }

    const UNARY: &str = "/test.Obedient/Unary";
    const STREAM: &str = "/test.Obedient/Stream";

    #[derive(Clone, Copy, Debug)]
    struct Obedient;

    impl NamedService for Obedient {
        const NAME: &'static str = "test.Obedient";
    }

    impl Service<Request<Body>> for Obedient {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(
            &mut self,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Answer, Ask>::default());
            Box::pin(async move {
                Ok(match request.uri().path() {
                    UNARY => grpc.unary(service_fn(unary), request).await,
                    STREAM => grpc.server_streaming(service_fn(streaming), request).await,
                    path => panic!("no method {path}"),
                })
            })
        }
    }

    async fn unary(request: tonic::Request<Ask>) -> Result<tonic::Response<Answer>, Status> {
        let Ask { code, .. } = request.into_inner();
        if code == 0 { Ok(tonic::Response::new(Answer { number: 0 })) } else { Err(end(code)) }
    }

    type Answers = stream::Iter<std::vec::IntoIter<Result<Answer, Status>>>;

    async fn streaming(request: tonic::Request<Ask>) -> Result<tonic::Response<Answers>, Status> {
        let Ask { answers, code } = request.into_inner();
        let answers = (0..answers).map(|number| Ok(Answer { number }));
        let end = (code != 0).then(|| Err(end(code)));
        let all: Vec<_> = answers.chain(end).collect();
        Ok(tonic::Response::new(stream::iter(all)))
    }

    fn end(code: i32) -> Status {
        Status::new(code.into(), "as you wish")
    }

    async fn serve() -> Channel {
        let (listener, address) = listen().await;
        let server = Server::builder().add_service(Obedient);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
    }

    /// What a tonic client needs of its service.
    trait Transport:
        GrpcService<Body, ResponseBody: http_body::Body<Error: Into<StdError>> + Send + 'static>
    {
    }

    impl<S> Transport for S where
        S: GrpcService<Body, ResponseBody: http_body::Body<Error: Into<StdError>> + Send + 'static>
    {
    }

    fn governed(layer: &CircuitBreakerLayer, channel: Channel) -> impl Transport + Clone {
        ServiceBuilder::new()
            .layer(layer.clone().grpc())
            .map_err(Status::from_error)
            .map_err(BoxError::from)
            .service(channel)
    }

    async fn ask(service: impl Transport, code: Code) -> Result<Answer, Status> {
        let mut client = tonic::client::Grpc::new(service);
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let request = tonic::Request::new(Ask { answers: 1, code: code.into() });
        let codec = ProstCodec::<Ask, Answer>::default();
        let answer = client.unary(request, PathAndQuery::from_static(UNARY), codec).await?;
        Ok(answer.into_inner())
    }

    async fn ask_often(
        service: impl Transport,
        answers: u32,
        code: Code,
    ) -> Result<Streaming<Answer>, Status> {
        let mut client = tonic::client::Grpc::new(service);
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let request = tonic::Request::new(Ask { answers, code: code.into() });
        let codec = ProstCodec::<Ask, Answer>::default();
        let path = PathAndQuery::from_static(STREAM);
        Ok(client.server_streaming(request, path, codec).await?.into_inner())
    }

    async fn read_to_end(mut answers: Streaming<Answer>) -> Result<u32, Status> {
        let mut read = 0;
        while let Some(Answer { number }) = answers.message().await? {
            assert_eq!(number, read);
            read += 1;
        }
        Ok(read)
    }

    #[tokio::test]
    async fn a_unary_method_that_is_unavailable_opens_the_circuit() {
        let layer = layer();
        let service = governed(&layer, serve().await);
        assert_eq!(ask(service.clone(), Code::Ok).await.unwrap(), Answer { number: 0 });
        for _ in 0..2 {
            assert_eq!(layer.handle().state(), State::Closed);
            let status = ask(service.clone(), Code::Unavailable).await.unwrap_err();
            assert_eq!(status.message(), "as you wish");
        }
        assert_eq!(layer.handle().state(), State::Open);
    }

    #[tokio::test]
    async fn a_stream_that_fails_half_way_opens_the_circuit() {
        let layer = layer();
        let service = governed(&layer, serve().await);
        for failures in 1..=2 {
            let answers = ask_often(service.clone(), 3, Code::Unavailable).await.unwrap();
            assert_eq!(counts(layer.handle()).failures, failures - 1, "the head went well");
            let status = read_to_end(answers).await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable);
        }
        assert_eq!(layer.handle().state(), State::Open);
        let (_, counts) = layer.handle().snapshot().last_trip.unwrap();
        assert_eq!(counts, WindowCounts { failures: 2, ..calls(2) });
    }

    #[tokio::test]
    async fn a_callers_mistake_neither_opens_the_circuit_nor_counts() {
        let layer = layer();
        let service = governed(&layer, serve().await);
        for _ in 0..5 {
            let status = ask(service.clone(), Code::InvalidArgument).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            let answers = ask_often(service.clone(), 3, Code::InvalidArgument).await.unwrap();
            read_to_end(answers).await.unwrap_err();
        }
        assert_eq!(layer.handle().state(), State::Closed);
        assert_eq!(counts(layer.handle()), calls(0));
    }

    #[tokio::test]
    async fn a_stream_that_ends_well_is_one_success_and_only_at_its_end() {
        let layer = layer();
        let service = governed(&layer, serve().await);
        let mut answers = ask_often(service, 3, Code::Ok).await.unwrap();
        for number in 0..3 {
            assert_eq!(answers.message().await.unwrap(), Some(Answer { number }));
            assert_eq!(counts(layer.handle()), calls(0), "after answer {number}");
        }
        assert_eq!(answers.message().await.unwrap(), None);
        assert_eq!(counts(layer.handle()), calls(1));
        drop(answers);
        assert_eq!(counts(layer.handle()), calls(1));
    }

    #[tokio::test]
    async fn a_stream_that_the_caller_drops_half_way_is_no_failure() {
        let layer = layer();
        let service = governed(&layer, serve().await);
        for dropped in 1..=3 {
            let mut answers = ask_often(service.clone(), 1_000, Code::Unavailable).await.unwrap();
            answers.message().await.unwrap();
            drop(answers);
            assert_eq!(counts(layer.handle()), calls(dropped));
        }
        assert_eq!(layer.handle().state(), State::Closed);
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_opens_the_circuit() {
        let layer = layer();
        let endpoint = Endpoint::from_shared(format!("http://{}", nobody().await)).unwrap();
        let service = governed(&layer, endpoint.connect_lazy());
        for _ in 0..2 {
            let status = ask(service.clone(), Code::Ok).await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable);
            assert_eq!(Rejection::find(&status), None);
        }
        assert_eq!(layer.handle().state(), State::Open);
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_client_as_unavailable_with_pushback() {
        let layer = layer();
        let service = governed(&layer, serve().await);
        for _ in 0..2 {
            ask(service.clone(), Code::Internal).await.unwrap_err();
        }
        let status = ask(service, Code::Ok).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
        let pushback: u64 = pushback.to_str().unwrap().parse().unwrap();
        assert!((3_000_000..=3_600_000).contains(&pushback), "{pushback} ms");
        let refusal = Rejection::find(&status).unwrap();
        assert_eq!((refusal.layer(), refusal.reason()), ("circuitbreak", "circuit_open"));
        assert!(!refusal.was_sent());
    }

    /// tonic makes `UNKNOWN` of errors that it does not know, so let them be statuses below the
    /// layer, as in `governed`.
    #[tokio::test]
    async fn a_refusal_in_a_boxed_error_is_still_found_behind_the_status() {
        let layer = layer();
        let service = ServiceBuilder::new()
            .layer(layer.clone().grpc())
            .map_err(BoxError::from)
            .service(serve().await);
        for _ in 0..2 {
            ask(service.clone(), Code::Unavailable).await.unwrap_err();
        }
        assert_eq!(layer.handle().state(), State::Open);
        let status = ask(service, Code::Ok).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(Rejection::find(&status).unwrap().reason(), "circuit_open");
    }
}

mod http_client {
    use super::*;

    /// Answers with the status that the path names.
    async fn serve() -> SocketAddr {
        async fn obey(path: axum::extract::Path<u16>) -> (StatusCode, &'static str) {
            (StatusCode::from_u16(path.0).unwrap(), "as you wish")
        }
        serve_router(Router::new().route("/{status}", get(obey))).await
    }

    fn governed(layer: &CircuitBreakerLayer) -> impl HttpService + Clone {
        ServiceBuilder::new().layer(layer.clone().http()).map_err(BoxError::from).service(client())
    }

    #[tokio::test]
    async fn server_errors_open_the_circuit() {
        let (layer, server) = (layer(), serve().await);
        let service = governed(&layer);
        for _ in 0..2 {
            assert_eq!(layer.handle().state(), State::Closed);
            assert_eq!(get_status(service.clone(), server, "/500").await.unwrap(), 500);
        }
        assert_eq!(layer.handle().state(), State::Open);
        let error = get_status(service, server, "/200").await.unwrap_err();
        assert_eq!(Rejection::find(&*error).unwrap().reason(), "circuit_open");
    }

    #[tokio::test]
    async fn a_callers_mistakes_do_not_open_the_circuit() {
        let (layer, server) = (layer(), serve().await);
        let service = governed(&layer);
        for _ in 0..5 {
            assert_eq!(get_status(service.clone(), server, "/404").await.unwrap(), 404);
        }
        assert_eq!(layer.handle().state(), State::Closed);
        assert_eq!(counts(layer.handle()), calls(0));
    }

    #[tokio::test]
    async fn a_success_counts_when_its_body_has_ended() {
        let (send, receive) = mpsc::channel::<Bytes>(1);
        let receive = std::sync::Mutex::new(Some(receive));
        let slowly = move || {
            let mut receive = receive.lock().unwrap().take().unwrap();
            let chunks = stream::poll_fn(move |cx| {
                receive.poll_recv(cx).map(|some| some.map(Ok::<_, Infallible>))
            });
            ready(axum::body::Body::from_stream(chunks))
        };
        let slowly = std::sync::Arc::new(slowly);
        let router = Router::new().route("/", get(move || slowly()));
        let (layer, server) = (layer(), serve_router(router).await);

        let response = governed(&layer).oneshot(request(server, "/")).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = Box::pin(response.into_body());
        send.send(Bytes::from_static(b"first")).await.unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(counts(layer.handle()), calls(0));
        drop(send);
        assert!(body.frame().await.is_none());
        assert_eq!(counts(layer.handle()), calls(1));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_a_failure() {
        let (listener, server) = listen().await;
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0; 1_024];
                let _ = connection.read(&mut request).await.unwrap();
                let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ";
                connection.write_all(half).await.unwrap();
            }
        });
        let layer = layer();
        for failures in 1..=2 {
            let response = governed(&layer).oneshot(request(server, "/")).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(layer.handle().state(), State::Closed, "before failure {failures}");
            assert!(response.into_body().collect().await.is_err());
        }
        assert_eq!(layer.handle().state(), State::Open);
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_opens_the_circuit() {
        let (layer, server) = (layer(), nobody().await);
        for _ in 0..2 {
            assert_eq!(layer.handle().state(), State::Closed);
            get_status(governed(&layer), server, "/").await.unwrap_err();
        }
        assert_eq!(layer.handle().state(), State::Open);
    }
}

mod http_server {
    use super::*;

    /// A stack that cannot fail, as axum wants it.
    macro_rules! stack {
        ($layer:expr) => {
            ServiceBuilder::new()
                .layer(RejectionResponseLayer::new())
                .layer($layer.clone().http())
                .map_err(Rejection::from)
        };
    }

    async fn fail() -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }

    async fn succeed() -> &'static str {
        "well"
    }

    #[tokio::test]
    async fn a_router_answers_503_with_the_time_to_stay_away() {
        let layer = layer();
        let router = Router::new().route("/fail", get(fail)).route("/well", get(succeed));
        let server = serve_router(router.layer(stack!(layer))).await;
        assert_eq!(get_status(client(), server, "/well").await.unwrap(), 200);
        for _ in 0..2 {
            assert_eq!(get_status(client(), server, "/fail").await.unwrap(), 500);
        }
        assert_eq!(layer.handle().state(), State::Open);
        let refused = client().oneshot(request(server, "/well")).await.unwrap();
        assert_eq!(refused.status(), 503);
        let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((3_000..=3_600).contains(&seconds), "{seconds} s");
    }

    #[tokio::test]
    async fn two_routes_under_one_layer_share_one_breaker() {
        let layer = layer();
        let router = Router::new()
            .route("/fail", get(fail).layer(stack!(layer)))
            .route("/well", get(succeed).layer(stack!(layer)))
            .route("/apart", get(succeed).layer(stack!(layer.separate())));
        let server = serve_router(router).await;
        for _ in 0..2 {
            assert_eq!(get_status(client(), server, "/fail").await.unwrap(), 500);
        }
        assert_eq!(get_status(client(), server, "/well").await.unwrap(), 503);
        assert_eq!(get_status(client(), server, "/apart").await.unwrap(), 200);
    }
}

mod without_transport {
    use super::*;

    /// Counts its calls in a cell, so it can be sent to another thread but not shared with one.
    fn counting() -> impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Send {
        let seen = Cell::new(0);
        service_fn(move |number: u32| {
            seen.set(seen.get() + 1);
            let result = if number == 0 { Err(BoxError::from("zero")) } else { Ok(seen.get()) };
            ready(result)
        })
    }

    #[tokio::test]
    async fn an_inner_service_need_not_be_shareable_between_threads() {
        let layer = layer();
        let mut service = ServiceBuilder::new().layer(layer.clone()).service(counting());
        let results = tokio::spawn(async move {
            let mut results = Vec::new();
            for number in [1, 0, 0, 1] {
                results.push(service.ready().await.unwrap().call(number).await);
            }
            results
        });
        let results = results.await.unwrap();
        assert_eq!(*results[0].as_ref().unwrap(), 1);
        let refused = results[3].as_ref().unwrap_err();
        assert_eq!(Rejection::find(&**refused).unwrap().reason(), "circuit_open");
        assert_eq!(layer.handle().state(), State::Open);
    }

    /// tower takes an error of `poll_ready` for the end of a service: `Buffer` would never again
    /// pass a call on.
    #[tokio::test]
    async fn a_buffer_over_an_open_circuit_passes_calls_on_after_a_reset() {
        let layer = layer();
        let service = ServiceBuilder::new().layer(layer.clone()).service(counting());
        let mut buffer = Buffer::new(service, 8);
        for _ in 0..2 {
            buffer.ready().await.unwrap().call(0).await.unwrap_err();
        }
        for _ in 0..3 {
            let refused = buffer.ready().await.unwrap().call(1).await.unwrap_err();
            assert_eq!(Rejection::find(&*refused).unwrap().reason(), "circuit_open");
        }
        layer.handle().reset();
        for seen in 3..6 {
            assert_eq!(buffer.ready().await.unwrap().call(1).await.unwrap(), seen);
        }
    }
}

/// A client that speaks HTTP and whose errors are boxed.
trait HttpService:
    Service<
        Request<Empty<Bytes>>,
        Response = Response<Self::Body>,
        Error: Into<BoxError> + std::fmt::Debug,
    >
{
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError> + std::fmt::Debug>;
}

impl<S, B> HttpService for S
where
    S: Service<
            Request<Empty<Bytes>>,
            Response = Response<B>,
            Error: Into<BoxError> + std::fmt::Debug,
        >,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + std::fmt::Debug>,
{
    type Body = B;
}

fn client() -> Client<hyper_util::client::legacy::connect::HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn request(server: SocketAddr, path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{server}{path}")).body(Empty::new()).unwrap()
}

/// Reads the response to its end.
async fn get_status(
    service: impl HttpService,
    server: SocketAddr,
    path: &str,
) -> Result<StatusCode, BoxError> {
    let response = service.oneshot(request(server, path)).await.map_err(Into::into)?;
    let status = response.status();
    response.into_body().collect().await.map_err(Into::into)?;
    Ok(status)
}

async fn serve_router(router: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
