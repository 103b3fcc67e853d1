//! What the whole stack of a client adds to a unary call of gRPC over tonic that succeeds at once:
//! counted, so that it cannot creep up.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::Frame;
use outrigger::{Format, Governance, PolicySet};
use tonic::{GrpcMethod, Status, body::Body};
use tower::{Layer, Service};

/// A body as tonic's client makes one of a message: one frame, of a length that it does not tell.
struct Message(Option<Bytes>);

impl http_body::Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }
}

/// The request of a unary call, as tonic's client makes it.
fn request() -> Request<Body> {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    let message = Message(Some(Bytes::from_static(b"\0\0\0\0\x02\x08\x07")));
    let mut request = Request::new(Body::new(message));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static("/outrigger.examples.Greeter/Greet");
    *request.headers_mut() = headers;
    request.extensions_mut().insert(GrpcMethod::new("outrigger.examples.Greeter", "Greet"));
    request
}

/// Reads a request as a channel does, and answers that all is well.
#[derive(Default)]
struct Channel {
    /// To clone it allocates, as with tonic's, which is a buffer.
    _acquire: Box<u8>,
}

impl Clone for Channel {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Ready<Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = 0;
        let body = request.body_mut();
        while let Poll::Ready(Some(frame)) = http_body::Body::poll_frame(Pin::new(body), &mut cx) {
            bytes += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(bytes, 7);
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(Status::GRPC_STATUS, header::HeaderValue::from_static("0"));
        ready(Ok(response))
    }
}

/// Heap allocations of one call of `service`, after two that have warmed it up.
fn count<B>(
    mut service: impl Service<Request<Body>, Response = Response<B>, Error = Status>,
) -> u64 {
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = || {
        assert!(service.poll_ready(&mut cx).is_ready());
        let call = pin!(service.call(request()));
        let Poll::Ready(answer) = call.poll(&mut cx) else { panic!("it waits for nothing") };
        assert_eq!(answer.unwrap().headers()["grpc-status"], "0");
    };
    call();
    call();
    allocation_counter::measure(call).count_total
}

fn governance(policies: &str) -> Governance {
    Governance::new(PolicySet::parse("policies.yaml", policies, Format::Yaml).unwrap())
}

fn count_with(policies: &str) -> u64 {
    let client = governance(policies).tonic_client().layer(Channel::default());
    count(client) - count(Channel::default())
}

/// Over nothing but a channel.
fn count_to_channel(policies: &str) -> u64 {
    let client = governance(policies).tonic_channel().layer(Channel::default());
    count(client) - count(Channel::default())
}

const RETRIES: &str = "
defaults:
  attempt_timeout: 1h
  concurrency_limit: 100
  circuit_breaker: {}
  retry: {mode: failure, idempotent: true}
";

#[tokio::test]
async fn limits_and_a_breaker_add_nothing() {
    let policies = "
defaults: {rate_limit: {rate: 1000000}, concurrency_limit: 100, client_throttle: {}, circuit_breaker: {}}
";
    assert_eq!(count_with(policies), 0);
}

#[tokio::test]
async fn an_idempotent_call_to_a_channel_adds_the_box_of_its_body() {
    assert_eq!(count_to_channel(RETRIES), 1);
}

#[tokio::test]
async fn a_balancer_is_told_the_context_in_the_extensions() {
    // tonic's clients have a value of their own there: one for the context, three to copy theirs
    // for further attempts, one for the body.
    assert_eq!(count_with(RETRIES), 5);
}

#[tokio::test]
async fn time_outs_add_the_context_alone() {
    assert_eq!(count_with("defaults: {attempt_timeout: 1h}"), 1);
    assert_eq!(count_to_channel("defaults: {attempt_timeout: 1h}"), 0);
    assert_eq!(count_to_channel("defaults: {timeout: 2h, attempt_timeout: 1h}"), 0);
}
