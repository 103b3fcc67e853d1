//! The limits over real sockets: axum, hyper and tonic's accept stream.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use outrigger_core::{Enforcement, Rejection, RejectionResponseLayer};
use outrigger_ratelimit::{
    BeyondLimit, ConcurrencyLimitEvent, ConcurrencyLimitLayer, ConcurrencyLimitPolicy,
    ConnectionLimit, ConnectionLimitLayer, ConnectionLimitPolicy, RateLimitLayer, RateLimitPolicy,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Sends a request and gives back the status, or nothing when the server closes.
async fn ask(stream: &mut TcpStream) -> Option<u16> {
    stream.write_all(REQUEST).await.ok()?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&answer);
    line.split(' ').nth(1)?.parse().ok()
}

/// Waits until as many connections are open: the server learns of a close by its socket.
async fn until_open(limit: &ConnectionLimit, connections: u32) {
    while limit.open() != connections {
        tokio::task::yield_now().await;
    }
}

async fn axum_server(limit: &ConnectionLimit) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/panic", get(|| async { panic!("the handler panics") as () }));
    let listener = limit.listener(listener);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_refused_and_closing_one_lets_the_next_in() {
    let limit = ConnectionLimit::new(2, BeyondLimit::Refuse).unwrap();
    let address = axum_server(&limit).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    // Half open: connected, and never says a word.
    let silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut first).await, Some(200));
    until_open(&limit, 2).await;
    let mut beyond = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut beyond).await, None, "closed at once");
    assert_eq!(ask(&mut first).await, Some(200), "the others go on");

    drop(silent);
    until_open(&limit, 1).await;
    let mut next = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut next).await, Some(200));
    drop((first, next));
    until_open(&limit, 0).await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_if_so_set() {
    let limit = ConnectionLimit::new(1, BeyondLimit::Wait).unwrap();
    let address = axum_server(&limit).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut first).await, Some(200));
    let waiting = tokio::spawn(async move {
        let mut second = TcpStream::connect(address).await.unwrap();
        ask(&mut second).await
    });
    assert_eq!(ask(&mut first).await, Some(200));
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(waiting.await.unwrap(), Some(200));
}

#[tokio::test]
async fn a_panicking_handler_gives_the_connections_place_back() {
    let limit = ConnectionLimit::new(1, BeyondLimit::Wait).unwrap();
    let address = axum_server(&limit).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /panic HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut nothing = Vec::new();
    let _ = first.read_to_end(&mut nothing).await;
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut second).await, Some(200));
}

#[tokio::test]
async fn the_accept_stream_of_a_tonic_server_is_limited() {
    let limit = ConnectionLimit::new(1, BeyondLimit::Refuse).unwrap();
    let address = tonic_server(&limit).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut first).await.is_some());
    assert_eq!(limit.open(), 1);
    let mut beyond = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut beyond).await, None);
    drop(first);
    until_open(&limit, 0).await;
    let mut next = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut next).await.is_some());
}

/// By accept stream, as `axum_server` is by listener.
async fn tonic_server(limit: &ConnectionLimit) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let incoming = limit.incoming(TcpListenerStream::new(listener));
    let service = ServiceBuilder::new().service(tonic::service::Routes::default());
    let server = tonic::transport::Server::builder().accept_http1(true).add_routes(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    address
}

async fn until_one_waits(limit: &ConnectionLimit) {
    while limit.waiting() != 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_becomes_of_those_beyond_the_limit_follows_the_policy_at_once() {
    for by_stream in [false, true] {
        let policy = |beyond| ConnectionLimitPolicy::new(1, beyond).unwrap();
        let limit = ConnectionLimit::from_policy(policy(BeyondLimit::Refuse));
        let turn = |beyond| {
            limit.policy().replace(policy(beyond).places());
            limit.refresh();
        };
        let address =
            if by_stream { tonic_server(&limit).await } else { axum_server(&limit).await };
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut first).await.is_some());

        // The server is about to accept the next, and does not have a place for it.
        turn(BeyondLimit::Wait);
        let mut second = TcpStream::connect(address).await.unwrap();
        until_one_waits(&limit).await;
        drop(first);
        assert!(ask(&mut second).await.is_some(), "by stream: {by_stream}");

        // The server waits for a place before it accepts the next.
        let mut third = TcpStream::connect(address).await.unwrap();
        until_one_waits(&limit).await;
        turn(BeyondLimit::Refuse);
        let answer = timeout(Duration::from_secs(20), ask(&mut third)).await;
        assert_eq!(answer, Ok(None), "by stream: {by_stream}");
        assert_eq!((limit.open(), limit.waiting()), (1, 0), "by stream: {by_stream}");
        assert!(ask(&mut second).await.is_some(), "the others go on");
    }
}

#[tokio::test]
async fn a_make_service_beyond_the_limit_is_refused_until_a_service_is_dropped() {
    let limit = ConnectionLimit::new(1, BeyondLimit::Refuse).unwrap();
    let layer = ConnectionLimitLayer::from_handle(limit.clone());
    let make = service_fn(|_peer: u32| async {
        Ok::<_, BoxError>(service_fn(|()| async { Ok::<_, Infallible>(()) }))
    });
    let mut make = layer.layer(make);
    let first = make.ready().await.unwrap().call(1).await.unwrap();
    let error = make.ready().await.unwrap().call(2).await.unwrap_err();
    assert_eq!(error.downcast_ref::<Rejection>().unwrap().reason(), "limit_reached");
    drop(first);
    assert!(make.ready().await.unwrap().call(3).await.is_ok());
    assert_eq!(limit.open(), 0);
}

#[tokio::test]
async fn an_axum_server_answers_429_with_retry_after() {
    let policy = RateLimitPolicy::builder().rate(1).burst(1).build().unwrap();
    let router = Router::new().route("/", get(|| async { "hello" })).layer(
        ServiceBuilder::new()
            .layer(RejectionResponseLayer::new())
            .layer(RateLimitLayer::new(policy))
            .map_err(Rejection::from),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut client).await, Some(200));
    let mut other = TcpStream::connect(address).await.unwrap();
    other
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
}

#[tokio::test]
async fn a_place_is_held_until_the_body_ends_or_is_dropped() {
    let go_on = Arc::new(Notify::new());
    let layer = {
        let policy = ConcurrencyLimitPolicy::builder().limit(1).build().unwrap();
        ConcurrencyLimitLayer::new(policy).grpc()
    };
    let held = Arc::clone(&go_on);
    let inner = service_fn(move |_: Request<()>| {
        let held = Arc::clone(&held);
        async move {
            let frames = tokio_stream::iter([1, 2]).then(move |part| {
                let held = Arc::clone(&held);
                async move {
                    if part == 2 {
                        held.notified().await;
                    }
                    Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"part")))
                }
            });
            Ok::<_, BoxError>(Response::new(Box::pin(StreamBody::new(frames))))
        }
    });
    let mut service = layer.layer(inner);
    let limit = layer.handle();
    let mut response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    assert!(response.body_mut().frame().await.is_some());
    assert_eq!(limit.in_flight(), 1, "the head is not the end");
    go_on.notify_one();
    while response.body_mut().frame().await.is_some() {}
    assert_eq!(limit.in_flight(), 0, "the end is");
    drop(response);

    let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    assert_eq!(limit.in_flight(), 1);
    drop(response);
    assert_eq!(limit.in_flight(), 0, "a client that drops the body gives the place back at once");
}

#[tokio::test]
async fn a_hyper_server_accepts_no_more_connections_than_the_limit() {
    let limit = ConnectionLimit::new(1, BeyondLimit::Refuse).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = limit.listener(listener);
    tokio::spawn(async move {
        loop {
            let accept = async |listener: &mut TcpListener| listener.accept().await;
            let (io, _peer) = listener.accept_with(accept).await.expect("it listens");
            let service = hyper::service::service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(http_body_util::Empty::<Bytes>::new()))
            });
            let io = hyper_util::rt::TokioIo::new(io);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    let mut first = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut first).await, Some(200));
    assert_eq!(limit.open(), 1);
    let mut beyond = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut beyond).await, None);
    drop(first);
    until_open(&limit, 0).await;
    let mut next = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut next).await, Some(200));
}

#[tokio::test]
async fn a_connection_limit_in_shadow_lets_all_in_and_tells_whom_it_would_have_refused() {
    for beyond in [BeyondLimit::Refuse, BeyondLimit::Wait] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let limit = ConnectionLimit::new(1, beyond).unwrap().observe(
            move |name: &str, event: &ConcurrencyLimitEvent| {
                log.lock().unwrap().push((name.to_owned(), *event));
            },
        );
        limit.policy().update(|policy| policy.with_enforcement(Enforcement::Shadow));
        limit.refresh();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let listener = limit.listener(listener);
        tokio::spawn(async move { axum::serve(listener, router).await });

        let mut first = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut first).await, Some(200));
        let mut beyond_limit = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut beyond_limit).await, Some(200), "{beyond:?}");
        assert_eq!(ask(&mut first).await, Some(200));
        let told = told.lock().unwrap();
        let would = |event: &ConcurrencyLimitEvent| match beyond {
            BeyondLimit::Refuse => {
                matches!(event, ConcurrencyLimitEvent::Refused { shadow: true, limit: 1, .. })
            }
            BeyondLimit::Wait => matches!(event, ConcurrencyLimitEvent::WouldWait { .. }),
        };
        assert!(!told.is_empty(), "{beyond:?}");
        assert!(told.iter().all(|(name, event)| name == "connections" && would(event)), "{told:?}");
        assert_eq!(limit.open(), 1, "who would have been refused is not counted");
    }
}
