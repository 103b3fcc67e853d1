//! What clients of real axum and tonic servers are answered, and how long a call holds its place.

use std::{
    convert::Infallible,
    future::ready,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::Request as AxumRequest, routing::get};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use outrigger_core::{AttemptContext, Criticality, Rejection, RejectionResponseLayer};
use outrigger_ratelimit::{
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitPolicy, CriticalityHeader,
    PassOnCriticalityLayer, RateLimitLayer, RateLimitPolicy,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::{
    body::Body,
    server::NamedService,
    service::Routes,
    transport::{Channel, Endpoint, Server},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// One permit for each further message: simulated time does not wait for sockets.
static GO_ON: Semaphore = Semaphore::const_new(0);

/// Nobody adds any: of a stream that has no end, and that takes no permit of another test's.
static NEVER: Semaphore = Semaphore::const_new(0);

/// Answers by the path of the call.
#[derive(Clone, Copy, Debug)]
struct Parts;

impl NamedService for Parts {
    const NAME: &'static str = "test.Parts";
}

impl Service<Request<Body>> for Parts {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(match request.uri().path() {
            "/test.Parts/FiveSeconds" => parts(5, &GO_ON),
            "/test.Parts/Endless" => parts(1, &NEVER),
            "/test.Parts/Unavailable" => Rejection::unavailable("test", "down")
                .with_retry_after(Duration::from_micros(1_500))
                .to_grpc_response(),
            _ => parts(0, &NEVER),
        }))
    }
}

/// A message, and another a second after each permit of `go_on`; then the status.
fn parts(seconds: usize, go_on: &'static Semaphore) -> Response<Body> {
    let message = || Frame::data(Bytes::from_static(b"\0\0\0\0\0"));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = tokio_stream::iter([message()])
        .chain(tokio_stream::iter(0..seconds).then(move |_| async move {
            go_on.acquire().await.expect("never closed").forget();
            tokio::time::sleep(SECOND).await;
            message()
        }))
        .chain(tokio_stream::iter([Frame::trailers(trailers)]))
        .map(Ok::<_, tonic::Status>);
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

/// A client of a tonic server behind this layer.
async fn tonic_client<L>(layer: L) -> Channel
where
    L: Layer<Routes> + Clone + Send + 'static,
    L::Service: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    <L::Service as Service<Request<Body>>>::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = Server::builder().layer(layer).add_service(Parts);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let endpoint = Endpoint::try_from(format!("http://{address}")).expect("a valid address");
    endpoint.connect().await.expect("the server listens")
}

async fn call(channel: &mut Channel, method: &str) -> Response<Body> {
    let request = Request::post(format!("/test.Parts/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::empty())
        .expect("a valid request");
    channel.ready().await.expect("connected").call(request).await.expect("an answer")
}

/// A concurrency limit of one, as a server has it.
macro_rules! limited {
    ($limit:expr) => {
        ServiceBuilder::new()
            .map_response(|response: Response<_>| response.map(Body::new))
            .layer(RejectionResponseLayer::new())
            .layer($limit)
            .map_err(Rejection::from)
            .into_inner()
    };
}

fn one_at_a_time() -> ConcurrencyLimitLayer {
    let policy = ConcurrencyLimitPolicy::builder().limit(1).retry_after(SECOND / 4);
    ConcurrencyLimitLayer::new(policy.build().expect("a valid policy"))
}

async fn until_in_flight(limit: &ConcurrencyLimit, calls: u32) {
    while limit.in_flight() != calls {
        tokio::task::yield_now().await;
    }
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

#[tokio::test(start_paused = true)]
async fn a_streaming_call_of_five_seconds_holds_its_place_for_five_seconds() {
    let layer = one_at_a_time().grpc();
    let limit = layer.handle().clone();
    let mut client = tonic_client(limited!(layer)).await;
    let begun = tokio::time::Instant::now();
    let mut streaming = call(&mut client, "FiveSeconds").await.into_body();
    let mut messages = 0;
    while let Some(frame) = streaming.frame().await {
        if frame.expect("the stream ends well").is_data() {
            messages += 1;
            assert!(messages == 6 || limit.in_flight() == 1, "after message {messages}");
            GO_ON.add_permits(1);
        }
        if messages == 3 {
            let refused = call(&mut client, "Short").await;
            assert_eq!(header(&refused, "grpc-status"), Some("8"), "no other gets in meanwhile");
            assert_eq!(header(&refused, "grpc-retry-pushback-ms"), Some("250"));
        }
    }
    assert_eq!(messages, 6);
    assert!(begun.elapsed() >= 5 * SECOND);
    until_in_flight(&limit, 0).await;
}

#[tokio::test]
async fn a_client_that_drops_a_streaming_call_gives_its_place_back() {
    let layer = one_at_a_time().grpc();
    let limit = layer.handle().clone();
    let mut client = tonic_client(limited!(layer)).await;
    let mut endless = call(&mut client, "Endless").await.into_body();
    assert!(endless.frame().await.expect("the first message").is_ok());
    assert_eq!(limit.in_flight(), 1);
    drop(endless);
    until_in_flight(&limit, 0).await;
    let next = call(&mut client, "Short").await;
    assert_eq!(header(&next, "grpc-status"), None, "the status comes after the message");
}

#[tokio::test]
async fn a_tonic_server_answers_with_the_status_and_the_pushback() {
    let policy = RateLimitPolicy::builder().rate(1).period(60 * SECOND).burst(1);
    let layer = RateLimitLayer::new(policy.build().expect("a valid policy")).grpc();
    let mut client = tonic_client(limited!(layer)).await;
    assert_eq!(header(&call(&mut client, "Short").await, "grpc-status"), None);
    let refused = call(&mut client, "Short").await;
    assert_eq!(refused.status(), StatusCode::OK);
    assert_eq!(header(&refused, "grpc-status"), Some("8"), "RESOURCE_EXHAUSTED");
    let pushback: u32 = header(&refused, "grpc-retry-pushback-ms")
        .and_then(|value| value.parse().ok())
        .expect("the exact wait");
    assert!((1..=60_000).contains(&pushback), "{pushback}");

    let mut client = tonic_client(limited!(one_at_a_time().grpc())).await;
    let refused = call(&mut client, "Unavailable").await;
    assert_eq!(header(&refused, "grpc-status"), Some("14"), "UNAVAILABLE");
    assert_eq!(header(&refused, "grpc-retry-pushback-ms"), Some("2"), "rounded up");
}

async fn axum_server(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn ask(request: Request<Empty<Bytes>>) -> Response<hyper::body::Incoming> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    client.request(request).await.expect("an answer")
}

fn get_request(address: SocketAddr, path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{address}{path}")).body(Empty::new()).expect("a valid request")
}

#[tokio::test]
async fn an_axum_server_answers_429_and_503_with_retry_after_and_the_standard_headers() {
    let policy = RateLimitPolicy::builder().rate(60).period(60 * SECOND).burst(2);
    let limit = RateLimitLayer::new(policy.build().expect("a valid policy")).http();
    let limited = Router::new().route("/limited", get(|| async { "hello" })).layer(
        ServiceBuilder::new()
            .layer(limit.headers())
            .layer(RejectionResponseLayer::new())
            .layer(limit)
            .map_err(Rejection::from),
    );
    let down = service_fn(|_: AxumRequest| {
        let rejection = Rejection::unavailable("test", "down").with_retry_after(SECOND / 10);
        ready(Err::<Response<axum::body::Body>, _>(rejection))
    });
    let down = RejectionResponseLayer::new().layer(down);
    let address = axum_server(limited.route_service("/down", down)).await;

    let passed = ask(get_request(address, "/limited")).await;
    assert_eq!(passed.status(), StatusCode::OK);
    assert_eq!(header(&passed, "ratelimit-policy"), Some(r#""default";q=60;w=60"#));
    assert_eq!(header(&passed, "ratelimit"), Some(r#""default";r=1;t=1"#));
    ask(get_request(address, "/limited")).await;
    let refused = ask(get_request(address, "/limited")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "retry-after"), Some("1"), "rounded up, never 0");
    assert_eq!(header(&refused, "ratelimit"), Some(r#""default";r=0;t=1"#));

    let down = ask(get_request(address, "/down")).await;
    assert_eq!(down.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&down, "retry-after"), Some("1"));
    assert_eq!(header(&down, "ratelimit"), None, "off where it was not asked for");
}

/// From a client's closure over two servers: the second hears what the client said to the first.
#[tokio::test]
async fn the_criticality_of_a_call_travels_over_two_servers() {
    let heard = Arc::new(Mutex::new(None));
    let said = Arc::clone(&heard);
    let limit = || {
        ServiceBuilder::new()
            .layer(RejectionResponseLayer::new())
            .layer(one_at_a_time().http().criticality(CriticalityHeader::default()))
            .map_err(Rejection::from)
    };
    let back = Router::new().route(
        "/",
        get(async move |request: AxumRequest| {
            let context = request.extensions().get::<AttemptContext>();
            let criticality = context.and_then(|context| context.criticality);
            *said.lock().unwrap_or_else(PoisonError::into_inner) = criticality;
        }),
    );
    let back = axum_server(back.layer(limit())).await;
    let front = Router::new().route(
        "/",
        get(async move |request: AxumRequest| {
            let mut onward = get_request(back, "/");
            if let Some(context) = request.extensions().get::<AttemptContext>() {
                onward.extensions_mut().insert(context.clone());
            }
            let client = Client::builder(TokioExecutor::new()).build_http();
            let client = PassOnCriticalityLayer::new().layer(client);
            client.oneshot(onward).await.map_or(StatusCode::BAD_GATEWAY, |answer| answer.status())
        }),
    );
    let front = axum_server(front.layer(limit())).await;

    for criticality in Criticality::ALL {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let class = move |_: &Request<Empty<Bytes>>| Some(criticality);
        let client = PassOnCriticalityLayer::new().reader(class).layer(client);
        let answer = client.oneshot(get_request(front, "/")).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).take();
        assert_eq!(heard, Some(criticality));
    }
}
