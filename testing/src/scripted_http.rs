use std::{
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use tower::BoxError;
use tower_service::Service;

use crate::{Script, Scripted, ScriptedError, ScriptedFuture};

/// What body a response of [`ScriptedHttp`] has. Each frame is pending once and wakes itself before
/// it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frames {
    /// No frame, and it says so.
    #[default]
    Empty,
    /// So many frames of data.
    Data(usize),
    /// So many frames of data, then trailers with `grpc-status: 0`.
    Trailers(usize),
    /// So many frames of data, then a [`ScriptedError`].
    ErrorAfter(usize),
    /// So many frames of data, then a panic.
    PanicAfter(usize),
}

/// A [`Scripted`] service whose responses are an HTTP head and a scripted [`Frames`].
#[derive(Clone, Debug)]
pub struct ScriptedHttp {
    scripted: Scripted,
}

impl ScriptedHttp {
    /// A service that does what `script` says.
    #[must_use]
    pub const fn new(script: Script) -> Self {
        Self { scripted: Scripted::new(script) }
    }
}

impl<B> Service<Request<B>> for ScriptedHttp {
    type Response = Response<ScriptedBody>;
    type Error = BoxError;
    type Future = ScriptedHttpFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.scripted.poll_ready(cx)
    }

    fn call(&mut self, _request: Request<B>) -> ScriptedHttpFuture {
        ScriptedHttpFuture { scripted: self.scripted.call(0) }
    }
}

/// Response future of [`ScriptedHttp`].
#[derive(Debug)]
pub struct ScriptedHttpFuture {
    scripted: ScriptedFuture,
}

impl Future for ScriptedHttpFuture {
    type Output = Result<Response<ScriptedBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(Pin::new(&mut self.scripted).poll(cx))?;
        Poll::Ready(Ok(Response::new(ScriptedBody::new(self.scripted.script.clone()))))
    }
}

/// Response body of [`ScriptedHttp`].
#[derive(Debug)]
pub struct ScriptedBody {
    script: Script,
    /// What is still to come.
    left: Option<Frames>,
    has_waited: bool,
}

impl ScriptedBody {
    fn new(script: Script) -> Self {
        script.seen.bodies_alive.fetch_add(1, Ordering::Relaxed);
        let left = script.standing_body();
        let left = (!matches!(left, Frames::Empty | Frames::Data(0))).then_some(left);
        Self { script, left, has_waited: false }
    }

    fn next(&mut self, now: Frames) -> Option<Result<Frame<Bytes>, BoxError>> {
        let (left, frame) = match now {
            Frames::Data(more @ 2..) => (Some(Frames::Data(more - 1)), Ok(data())),
            Frames::Data(1) => (None, Ok(data())),
            Frames::Trailers(more @ 1..) => (Some(Frames::Trailers(more - 1)), Ok(data())),
            Frames::ErrorAfter(more @ 1..) => (Some(Frames::ErrorAfter(more - 1)), Ok(data())),
            Frames::PanicAfter(more @ 1..) => (Some(Frames::PanicAfter(more - 1)), Ok(data())),
            Frames::Trailers(0) => (None, Ok(Frame::trailers(trailers()))),
            Frames::ErrorAfter(0) => (None, Err(ScriptedError.into())),
            Frames::PanicAfter(0) => panic!("the script says: panic in the body"),
            Frames::Empty | Frames::Data(0) => return None,
        };
        self.left = left;
        Some(frame)
    }
}

fn data() -> Frame<Bytes> {
    Frame::data(Bytes::from_static(b"data"))
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )])
}

impl http_body::Body for ScriptedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(now) = self.left else { return Poll::Ready(None) };
        self.has_waited = !self.has_waited;
        if self.has_waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.next(now))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none()
    }
}

impl Drop for ScriptedBody {
    fn drop(&mut self) {
        self.script.seen.bodies_alive.fetch_sub(1, Ordering::Relaxed);
    }
}
