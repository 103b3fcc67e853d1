//! What retries and time-outs add to a unary call of gRPC over tonic that succeeds at once: counted,
//! so that it cannot creep up.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::Frame;
use outrigger_core::{Enforcement, GrpcStatus, Rejection};
use outrigger_retry::{Grpc, OneRetry, ReplayTonic, RetryLayer, RetryPolicy, TimeoutLayer};
use tonic::{Status, body::Body};
use tower::{Layer, Service, service_fn};

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

/// Heap allocations of a call of `service` that waits and is given up, after two like it.
fn count_waiting(mut service: impl Service<(), Response = (), Error = Rejection>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = || {
        assert!(service.poll_ready(&mut cx).is_ready());
        assert!(pin!(service.call(())).poll(&mut cx).is_pending());
    };
    call();
    call();
    allocation_counter::measure(call).count_total
}

fn retries() -> RetryLayer<OneRetry, ReplayTonic, Grpc, GrpcStatus> {
    let policy = RetryPolicy::failure().idempotent(true).build().unwrap();
    RetryLayer::new(policy).grpc().replay(ReplayTonic::default())
}

#[test]
fn retries_add_four_allocations_to_a_call_that_may_be_repeated() {
    let bare = count(Channel::default());
    // The body in tonic's box, and three for the context in the request's extensions. The list of
    // endpoints tried, the clone for further attempts and the place for the kept head are those of
    // the calls before.
    assert_eq!(count(retries().layer(Channel::default())) - bare, 4);
}

#[test]
fn a_call_that_is_not_to_be_repeated_is_sent_as_it_is() {
    let policy = RetryPolicy::failure().enforcement(Enforcement::Disabled).build().unwrap();
    let retry = RetryLayer::new(policy).grpc().replay(ReplayTonic::default());
    assert_eq!(count(retry.layer(Channel::default())), count(Channel::default()));
}

#[test]
fn after_a_new_policy_one_call_pays_for_all_clones() {
    let policy = |retries| RetryPolicy::failure().idempotent(false).retries(retries).build();
    let retry = RetryLayer::new(policy(1).unwrap());
    let handle = retry.handle().clone();
    let service = retry.layer(service_fn(|()| ready(Ok::<_, Rejection>(()))));
    let call_of_a_clone = || {
        let mut cx = Context::from_waker(Waker::noop());
        let mut service = service.clone();
        assert!(service.poll_ready(&mut cx).is_ready());
        assert!(pin!(service.call(())).poll(&mut cx).is_ready());
    };
    let count = || allocation_counter::measure(call_of_a_clone).count_total;
    call_of_a_clone();
    assert_eq!(count(), 0);
    for retries in [2, 1] {
        handle.policy().replace(policy(retries).unwrap());
        assert!(count() > 0, "the first call after it");
        assert_eq!([count(), count()], [0, 0], "those after the first");
    }
}

#[test]
fn a_time_out_inside_the_retries_adds_nothing() {
    let timeout = TimeoutLayer::after(Duration::from_secs(1)).grpc();
    let without = count(retries().layer(Channel::default()));
    assert_eq!(count(retries().layer(timeout.layer(Channel::default()))) - without, 0);
}

#[test]
fn timers_of_calls_that_wait_use_the_places_of_those_before() {
    let never = service_fn(|()| pending::<Result<(), Rejection>>());
    let timeout = TimeoutLayer::after(Duration::from_secs(1));
    assert_eq!(count_waiting(timeout.layer(never)), 0);
    let policy = RetryPolicy::backup(Duration::from_secs(1)).idempotent(true).build().unwrap();
    assert_eq!(count_waiting(RetryLayer::new(policy).layer(timeout.layer(never))), 0);
}
