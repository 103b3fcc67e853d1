//! What a call came to stands in its trailers, and is known when they are read.

mod support;

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use outrigger_core::GrpcPath;
use outrigger_observability::{ObserveLayer, names};
use support::Memory;
use tower::{Layer, ServiceExt, service_fn};

/// A gRPC response of one message and this status.
fn response(
    status: &'static str,
) -> Response<impl http_body::Body<Data = Bytes, Error = Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let frames = [Frame::data(Bytes::from_static(b"message")), Frame::trailers(trailers)];
    let frames = tokio_stream::iter(frames.map(Ok));
    Response::new(StreamBody::new(frames))
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_is_a_failure_when_its_trailers_say_so() {
    let memory = Memory::default();
    let layer = ObserveLayer::client().meter(memory.clone()).name_methods(GrpcPath).grpc();
    for status in ["0", "14", "0"] {
        let service = layer.layer(service_fn(move |_: Request<()>| async move {
            Ok::<_, Infallible>(response(status))
        }));
        let request = Request::builder().uri("/shop.Cart/Get").body(()).expect("a request");
        let response = service.oneshot(request).await.expect("it answers");
        let before = memory.count(names::CLIENT_DURATION, &[]);
        response.into_body().collect().await.expect("a whole body");
        assert_eq!(memory.count(names::CLIENT_DURATION, &[]), before + 1, "with the body's end");
    }
    let unavailable = [("rpc.status_code", "UNAVAILABLE")];
    assert_eq!(memory.count(names::CLIENT_DURATION, &unavailable), 1);
    assert!(memory.sum(names::CLIENT_IN_FLIGHT, &[]).abs() < 1e-9);
}
