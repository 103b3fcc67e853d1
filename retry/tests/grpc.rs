//! gRPC's rules of retries (gRFC A6), over real HTTP/2 connections.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use outrigger_retry::{
    Backoff, GrpcCodes, ReplayBody, RetryBudget, RetryEvent, RetryLayer, RetryPolicy,
    RetryPolicyBuilder, Sent, StopReason,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tower::{BoxError, Layer, Service, ServiceExt};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What the server got of an attempt.
#[derive(Clone, Debug)]
struct Got {
    headers: HeaderMap,
    body: Bytes,
}

/// A server that gives one answer after the other.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Server {
    fn giving(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
        Self { answers, got: Arc::default() }
    }

    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                let answer =
                    hyper::service::service_fn(move |request| server.clone().answer(request));
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        address
    }

    async fn answer(self, request: Request<hyper::body::Incoming>) -> Result<Answer, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.got.lock().unwrap().push(Got { headers: parts.headers, body });
        Ok(self.answers.lock().unwrap().pop_front().expect("an attempt more than the script has"))
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

/// The status in the head: an answer of trailers only.
fn trailers_only(status: &'static str) -> Answer {
    let body = Full::default().boxed();
    Response::builder().header("grpc-status", status).body(body).unwrap()
}

/// The status behind a message.
fn message_then(status: &'static str) -> Answer {
    stream([Frame::data(Bytes::from_static(b"\0\0\0\0\x01a")), trailers(status)])
}

/// A head, and then the status.
fn head_then(status: &'static str) -> Answer {
    stream([trailers(status)])
}

fn trailers(status: &'static str) -> Frame<Bytes> {
    let status = HeaderValue::from_static(status);
    Frame::trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), status)]))
}

fn stream(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Answer {
    let frames: Vec<_> = frames.into_iter().map(Ok).collect();
    Response::new(BodyExt::boxed(StreamBody::new(tokio_stream::iter(frames))))
}

fn with_pushback(mut answer: Answer, pushback: &'static str) -> Answer {
    answer.headers_mut().insert("grpc-retry-pushback-ms", HeaderValue::from_static(pushback));
    answer
}

fn client() -> Client<HttpConnector, ReplayBody<Full<Bytes>>> {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

type Events = Arc<Mutex<Vec<RetryEvent>>>;

struct Seen {
    /// What the caller got: the status, wherever it stood, or the error.
    status: Result<String, String>,
    body: usize,
    events: Vec<RetryEvent>,
}

impl Seen {
    fn stopped(&self) -> Option<StopReason> {
        self.events.iter().find_map(|event| match event {
            RetryEvent::Stopped { reason } => Some(*reason),
            _ => None,
        })
    }
}

async fn call(policy: RetryPolicyBuilder, address: SocketAddr) -> Seen {
    let events = Events::default();
    let told = Arc::clone(&events);
    let layer = RetryLayer::new(policy.build().unwrap())
        .budget(RetryBudget::unlimited())
        .observe(move |_: &str, event: &RetryEvent| told.lock().unwrap().push(*event))
        .grpc();
    let transport = client().map_err(BoxError::from);
    let mut service = layer.layer(transport);
    let request = Request::post(format!("http://{address}/shop.Stock/Get"))
        .body(Full::new(Bytes::from_static(b"the request")))
        .unwrap();
    let answer = service.ready().await.unwrap().call(request).await;
    let events = || events.lock().unwrap().clone();
    let answer = match answer {
        Err(error) => return Seen { status: Err(error.to_string()), body: 0, events: events() },
        Ok(answer) => answer,
    };
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    let headers = body.trailers().unwrap_or(&parts.headers);
    let status = headers.get("grpc-status").map_or("none", |status| status.to_str().unwrap());
    Seen { status: Ok(status.to_owned()), body: body.to_bytes().len(), events: events() }
}

/// A policy as a service config has it.
fn service_config() -> RetryPolicyBuilder {
    RetryPolicy::failure().retryable_status_codes(GrpcCodes::UNAVAILABLE).backoff(Backoff::None)
}

fn hedging(non_fatal: GrpcCodes) -> RetryPolicyBuilder {
    let delay = Duration::from_secs(3_600);
    RetryPolicy::mixed(delay).retryable_status_codes(non_fatal).retries(2)
}

#[tokio::test]
async fn the_table_of_a6_holds() {
    let unary = || service_config().unary(true);
    let cases = [
        // A retryable status without a message: sent again.
        (service_config(), vec![trailers_only("14"), message_then("0")], "0", 2),
        // A status that is not listed ends the call.
        (service_config(), vec![trailers_only("13")], "13", 1),
        // At most so many attempts.
        (
            service_config(),
            vec![trailers_only("14"), trailers_only("14"), trailers_only("14")],
            "14",
            3,
        ),
        // The head of an answer commits: what comes behind it is the answer.
        (service_config(), vec![head_then("14")], "14", 1),
        // It succeeded: nothing is sent again.
        (service_config(), vec![message_then("0")], "0", 1),
        // Hedging: what is not among the non-fatal codes is the answer, and there may be none.
        (hedging(GrpcCodes::UNAVAILABLE), vec![trailers_only("14"), message_then("0")], "0", 2),
        (hedging(GrpcCodes::NONE), vec![trailers_only("14")], "14", 1),
        // Of a unary method the status is awaited, behind a head or behind a message.
        (unary(), vec![head_then("14"), message_then("14"), message_then("0")], "0", 3),
    ];
    for (number, (policy, answers, status, attempts)) in cases.into_iter().enumerate() {
        let server = Server::giving(answers);
        let seen = call(policy, server.start().await).await;
        assert_eq!(seen.status.as_deref(), Ok(status), "case {number}");
        assert_eq!(server.got().len(), attempts, "case {number}");
    }
}

#[tokio::test]
async fn an_answer_that_was_peeked_at_is_given_whole() {
    let server = Server::giving([message_then("0")]);
    let seen = call(service_config().unary(true), server.start().await).await;
    assert_eq!((seen.status.as_deref(), seen.body), (Ok("0"), 6));
}

#[tokio::test]
async fn a_stream_is_given_before_it_ends() {
    let (sender, frames) = mpsc::channel(1);
    let body = BodyExt::boxed(StreamBody::new(ReceiverStream::new(frames)));
    let server = Server::giving([Response::new(body)]);
    let address = server.start().await;
    let layer = RetryLayer::new(service_config().build().unwrap()).grpc();
    let mut service = layer.layer(client().map_err(BoxError::from));
    let request = Request::post(format!("http://{address}/")).body(Full::default()).unwrap();
    let answer = service.ready().await.unwrap().call(request).await.unwrap();
    sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
    let frame = answer.into_body().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "first");
}

#[tokio::test]
async fn each_attempt_carries_the_whole_request_and_says_which_it_is() {
    let server = Server::giving([trailers_only("14"), trailers_only("14"), message_then("0")]);
    call(service_config(), server.start().await).await.status.unwrap();
    let got = server.got();
    let said = |name| -> Vec<Option<String>> {
        let value =
            |got: &Got| got.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        got.iter().map(value).collect()
    };
    let numbers = [None, Some("1".to_owned()), Some("2".to_owned())];
    assert_eq!(said("grpc-previous-rpc-attempts"), numbers);
    assert_eq!(said("rpc-persist-retryreq"), numbers);
    assert!(got.iter().all(|got| got.body == "the request"));
}

#[tokio::test]
async fn pushback_delays_or_stops() {
    let server = Server::giving([with_pushback(trailers_only("14"), "20"), message_then("0")]);
    let seen = call(service_config(), server.start().await).await;
    assert_eq!(seen.status.as_deref(), Ok("0"));
    let wait = Duration::from_millis(20);
    assert!(seen.events.contains(&RetryEvent::RetryScheduled { number: 1, wait }));

    for never in ["-1", "soon", "10001"] {
        let server = Server::giving([with_pushback(trailers_only("14"), never)]);
        let seen = call(service_config(), server.start().await).await;
        assert_eq!(seen.status.as_deref(), Ok("14"), "{never}");
        assert_eq!(seen.stopped(), Some(StopReason::Pushback), "{never}");
    }
}

#[tokio::test]
async fn retry_after_is_heeded_over_http() {
    let busy = |after| Response::builder().status(503).header("retry-after", after);
    let server = Server::giving([
        busy("0").body(Full::default().boxed()).unwrap(),
        busy("3600").body(Full::default().boxed()).unwrap(),
    ]);
    let address = server.start().await;
    let policy = RetryPolicy::failure().idempotent(true).retries(3).build().unwrap();
    let mut service = RetryLayer::new(policy)
        .budget(RetryBudget::unlimited())
        .http()
        .layer(client().map_err(BoxError::from));
    let request = Request::put(format!("http://{address}/")).body(Full::default()).unwrap();
    let answer = service.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(server.got().len(), 2, "an hour is longer than the policy waits");
}

#[tokio::test]
async fn what_could_not_connect_was_never_sent() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let request = Request::get(format!("http://{nobody}/")).body(Full::<Bytes>::default()).unwrap();
    let hyper = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let error = hyper.request(request).await.unwrap_err();
    assert_eq!(Sent::of_error(&error), Sent::No);

    let channel = tonic::transport::Endpoint::from_shared(format!("http://{nobody}")).unwrap();
    let request = Request::new(tonic::body::Body::empty());
    let error = channel.connect_lazy().oneshot(request).await.unwrap_err();
    assert_eq!(Sent::of_error(&error), Sent::No);
    let status = tonic::Status::from_error(error.into());
    assert_eq!(Sent::of_error(&status), Sent::No);

    // Not idempotent, and sent again all the same.
    let seen = call(RetryPolicy::failure().backoff(Backoff::None), nobody).await;
    seen.status.as_ref().unwrap_err();
    let attempts =
        seen.events.iter().filter(|event| matches!(event, RetryEvent::AttemptSent { .. }));
    assert_eq!(attempts.count(), 3);
}

/// A bare HTTP/2 server that refuses the first stream by `refuse` and answers the next.
async fn refusing(
    refuse: fn(
        &mut h2::server::Connection<tokio::net::TcpStream, Bytes>,
        h2::server::SendResponse<Bytes>,
    ),
) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut has_refused = false;
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                if has_refused {
                    let head = Response::builder().header("grpc-status", "0").body(()).unwrap();
                    respond.send_response(head, true).unwrap();
                } else {
                    has_refused = true;
                    refuse(&mut connection, respond);
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_once_and_for_free() {
    let address = refusing(|_, mut respond| respond.send_reset(h2::Reason::REFUSED_STREAM)).await;
    // Not idempotent, no code listed, nothing left in the budget.
    let policy = RetryPolicy::failure().build().unwrap();
    let none = outrigger_retry::RetryBudgetPolicy::builder().ratio(0.0).reserve(0).build().unwrap();
    let events = Events::default();
    let told = Arc::clone(&events);
    let layer = RetryLayer::new(policy)
        .budget(RetryBudget::new(none))
        .observe(move |_: &str, event: &RetryEvent| told.lock().unwrap().push(*event))
        .grpc();
    let mut service = layer.layer(client().map_err(BoxError::from));
    let request = Request::post(format!("http://{address}/")).body(Full::default()).unwrap();
    let answer = service.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "0");
    let kind = outrigger_retry::AttemptKind::Transparent;
    let transparent = RetryEvent::AttemptSent { number: 1, kind, shadow: false };
    assert!(events.lock().unwrap().contains(&transparent));
}

#[tokio::test]
async fn another_reset_may_have_been_executed() {
    let address = refusing(|_, mut respond| respond.send_reset(h2::Reason::INTERNAL_ERROR)).await;
    let seen = call(RetryPolicy::failure(), address).await;
    seen.status.as_ref().unwrap_err();
    assert_eq!(seen.stopped(), Some(StopReason::NotIdempotent));
}

/// A server that says goodbye to its first connection as soon as a call comes in on it, naming
/// `last_stream` as the last that it processed, closes it if `closes`, and answers the calls of the
/// next.
async fn leaving(last_stream: u32, code: h2::Reason, closes: bool) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        await_call(&mut stream).await;
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let goodbye = [0, 0, 8, 7, 0, 0, 0, 0, 0];
        let last_and_code = [last_stream.to_be_bytes(), u32::from(code).to_be_bytes()].concat();
        stream.write_all(&[&settings[..], &goodbye, &last_and_code].concat()).await.unwrap();
        let _stays_open = if closes {
            stream.shutdown().await.unwrap();
            None
        } else {
            Some(stream)
        };
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_request, mut respond))) = connection.accept().await {
            let head = Response::builder().header("grpc-status", "0").body(()).unwrap();
            respond.send_response(head, true).unwrap();
        }
    });
    address
}

/// Reads frames up to the head of a request.
async fn await_call(stream: &mut TcpStream) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length.try_into().unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 1 {
            return;
        }
    }
}

#[tokio::test]
async fn a_call_beyond_the_last_that_a_leaving_server_processed_is_sent_again() {
    for code in [h2::Reason::NO_ERROR, h2::Reason::ENHANCE_YOUR_CALM] {
        let address = leaving(0, code, false).await;
        // Not idempotent, no code listed.
        let seen = call(RetryPolicy::failure(), address).await;
        assert_eq!(seen.status.as_deref(), Ok("0"), "{code:?}");
        let kind = outrigger_retry::AttemptKind::Transparent;
        let transparent = RetryEvent::AttemptSent { number: 1, kind, shadow: false };
        assert!(seen.events.contains(&transparent), "{code:?}");
    }
}

#[tokio::test]
async fn a_tonic_status_still_says_whether_the_call_was_processed() {
    use h2::Reason;
    for (last_stream, expected) in [(0, Sent::Refused), (1, Sent::Maybe)] {
        let address = leaving(last_stream, Reason::NO_ERROR, last_stream == 1).await;
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        let request = Request::new(tonic::body::Body::empty());
        let error = channel.connect_lazy().oneshot(request).await.unwrap_err();
        assert_eq!(Sent::of_error(&error), expected);
        assert_eq!(Sent::of_error(&tonic::Status::from_error(error.into())), expected);
    }
}

#[tokio::test]
async fn a_call_that_a_leaving_server_may_have_processed_is_not_sent_again() {
    for code in [h2::Reason::NO_ERROR, h2::Reason::INTERNAL_ERROR] {
        let address = leaving(1, code, true).await;
        let seen = call(RetryPolicy::failure(), address).await;
        seen.status.as_ref().unwrap_err();
        assert_eq!(seen.stopped(), Some(StopReason::NotIdempotent), "{code:?}");
    }
}

#[tokio::test]
async fn a_connection_that_this_side_gives_up_says_nothing_of_its_calls() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        await_call(&mut stream).await;
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // Data belong to a stream: the client must take leave.
        let data_of_no_stream = [0, 0, 0, 0, 0, 0, 0, 0, 0];
        stream.write_all(&[settings, data_of_no_stream].concat()).await.unwrap();
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    });
    let seen = call(RetryPolicy::failure(), address).await;
    seen.status.as_ref().unwrap_err();
    assert_eq!(seen.stopped(), Some(StopReason::NotIdempotent));
}

#[tokio::test]
async fn what_a_closed_connection_did_not_take_was_never_sent() {
    let (near, far) = tokio::io::duplex(64);
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(near)).await;
    let (mut sender, connection) = handshake.unwrap();
    drop((connection, far));
    let request = Request::new(Full::<Bytes>::default());
    let error = sender.send_request(request).await.unwrap_err();
    assert_eq!(Sent::of_error(&error), Sent::No);
}

#[tokio::test]
async fn a_tonic_channel_is_retried_as_it_stands() {
    use outrigger_retry::ReplayTonic;
    use tonic::body::Body;

    /// What generated clients take.
    fn as_client<S: tonic::client::GrpcService<Body>>(service: S) -> S {
        service
    }

    for (most_bytes, status, attempts) in [(100, "0", 2), (3, "14", 1)] {
        let server = Server::giving([trailers_only("14"), message_then("0")]);
        let address = server.start().await;
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        let transport = channel.connect_lazy().map_err(|e| tonic::Status::from_error(e.into()));
        let layer = RetryLayer::new(service_config().build().unwrap())
            .grpc()
            .replay(ReplayTonic::up_to(most_bytes));
        let mut service = as_client(layer.layer(transport));
        let body = Body::new(Full::<Bytes>::from("the request"));
        let request = Request::post("http://shop/").body(body).unwrap();
        let answer = service.ready().await.unwrap().call(request).await.unwrap();
        let head = answer.headers().get("grpc-status").cloned();
        let trailers = answer.into_body().collect().await.unwrap().trailers().cloned();
        let got_status = head.or_else(|| trailers?.remove("grpc-status"));
        assert_eq!(got_status.unwrap(), status);
        let got = server.got();
        assert_eq!(got.len(), attempts);
        assert!(got.iter().all(|got| got.body == "the request"));
    }
}

#[tokio::test]
async fn a_tonic_request_keeps_its_metadata_and_extensions() {
    use outrigger_retry::{CloneRequest, CloneTonic};
    let mut request = tonic::Request::new("seven");
    request.metadata_mut().insert("key", "value".parse().unwrap());
    request.extensions_mut().insert(7_u32);
    let replay = CloneTonic;
    let (first, mut kept) = replay.keep(request);
    let second = replay.again(&mut kept, false).unwrap();
    let third = replay.again(&mut kept, true).unwrap();
    assert!(replay.again(&mut kept, true).is_none(), "the last took what was kept");
    for request in [first, second, third] {
        assert_eq!(request.metadata().get("key").unwrap(), "value");
        assert_eq!(request.extensions().get::<u32>(), Some(&7));
        assert_eq!(request.into_inner(), "seven");
    }
}

mod three_hops {
    //! Three tonic servers in a row, the last of which fails: its attempts are not the power of the
    //! retries of a hop.

    use std::{
        pin::Pin,
        sync::atomic::{AtomicU32, Ordering},
        task::{Context, Poll},
    };

    use outrigger_retry::{ChainLayer, ReplayTonic};
    use tonic::{
        Status,
        body::Body,
        server::NamedService,
        transport::{Channel, Endpoint, Server, server::TcpIncoming},
    };

    use super::*;

    /// Fails, or asks the next with retries.
    #[derive(Clone)]
    struct Hop {
        calls: Arc<AtomicU32>,
        next: Option<Channel>,
    }

    impl NamedService for Hop {
        const NAME: &'static str = "shop.Stock";
    }

    impl Service<Request<Body>> for Hop {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _request: Request<Body>) -> Self::Future {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let next = self.next.clone();
            Box::pin(async move {
                Ok(match next {
                    None => Status::unavailable("the last hop is down").into_http(),
                    Some(next) => ask(next).await,
                })
            })
        }
    }

    /// Asks the next hop with two retries, as each hop does.
    async fn ask(next: Channel) -> Response<Body> {
        let policy = service_config().build().unwrap();
        let mut service = RetryLayer::new(policy)
            .budget(RetryBudget::unlimited())
            .grpc()
            .replay(ReplayTonic::default())
            .layer(next.map_err(|error| Status::from_error(error.into())));
        let request = Request::post("http://next/shop.Stock/Get").body(Body::empty()).unwrap();
        match service.ready().await.unwrap().call(request).await {
            Ok(answer) => answer.map(Body::new),
            Err(status) => status.into_http(),
        }
    }

    async fn start(next: Option<Channel>, stops: bool) -> (Channel, Arc<AtomicU32>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::default();
        let hop = Hop { calls: Arc::clone(&calls), next };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        if stops {
            let server = Server::builder().layer(ChainLayer::new()).add_service(hop);
            tokio::spawn(server.serve_with_incoming(incoming));
        } else {
            tokio::spawn(Server::builder().add_service(hop).serve_with_incoming(incoming));
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        (endpoint.connect_lazy(), calls)
    }

    #[tokio::test]
    async fn the_last_of_three_hops_sees_no_more_than_the_retries_of_one() {
        for (stops, expected) in [(true, [1, 1, 3]), (false, [3, 9, 27])] {
            let (third, calls_of_third) = start(None, stops).await;
            let (second, calls_of_second) = start(Some(third), stops).await;
            let (first, calls_of_first) = start(Some(second), stops).await;
            let answer = ask(first).await;
            assert_eq!(answer.headers()["grpc-status"], "14");
            let seen = [calls_of_first, calls_of_second, calls_of_third]
                .map(|calls| calls.load(Ordering::Relaxed));
            assert_eq!(seen, expected, "attempts at each hop");
        }
    }

    #[tokio::test]
    async fn a_call_that_is_a_retry_already_is_retried_at_no_hop() {
        let (third, calls_of_third) = start(None, true).await;
        let (second, calls_of_second) = start(Some(third), true).await;
        let (first, _) = start(Some(second), true).await;
        let request =
            Request::post("http://next/shop.Stock/Get").header("rpc-persist-retryreq", "1");
        let answer = first.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "14");
        let seen = [calls_of_second, calls_of_third].map(|calls| calls.load(Ordering::Relaxed));
        assert_eq!(seen, [1, 1]);
    }
}
