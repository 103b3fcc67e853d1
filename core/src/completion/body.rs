use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project::{pin_project, pinned_drop};

use super::{Complete, End, TrackCompletion};
use crate::Moment;

/// The call is over with the body of its `http::Response`: read to its end, failed, or dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnBodyEnd;

impl<B: Body, Held: Complete> TrackCompletion<Response<B>, Held> for OnBodyEnd {
    type Response = Response<TrackedBody<B, Held>>;

    fn track(&self, response: Response<B>, held: Held) -> Self::Response {
        response.map(|body| TrackedBody::new(body, held))
    }
}

/// A body that keeps what a layer holds until the body is over.
///
/// An empty body is over at once: HTTP servers and clients need not poll it.
#[pin_project(PinnedDrop)]
pub struct TrackedBody<B: Body, Held: Complete> {
    #[pin]
    body: B,
    /// Taken when the body is over.
    held: Option<Held>,
}

impl<B: Body, Held: Complete> TrackedBody<B, Held> {
    /// Lets `held` live until `body` is over.
    pub fn new(body: B, held: Held) -> Self {
        let mut held = Some(held);
        if body.is_end_stream() {
            complete(&mut held, End::Body);
        }
        Self { body, held }
    }
}

impl<B: Body, Held: Complete> TrackedBody<B, Held> {
    fn poll_tracked(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FrameOf<B>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        match &frame {
            None => complete(this.held, End::Body),
            Some(Err(_)) => complete(this.held, End::BodyFailed),
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => complete(this.held, End::Trailers(trailers)),
                None if this.body.is_end_stream() => complete(this.held, End::Body),
                None => {}
            },
        }
        Poll::Ready(frame)
    }
}

type FrameOf<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

fn complete<Held: Complete>(held: &mut Option<Held>, end: End<'_>) {
    if let Some(held) = held.take() {
        held.complete(end);
    }
}

impl<B: Body, Held: Complete> Body for TrackedBody<B, Held> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        // All layers that hold something hear of the end at one moment.
        Moment::share(|| self.poll_tracked(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[pinned_drop]
impl<B: Body, Held: Complete> PinnedDrop for TrackedBody<B, Held> {
    fn drop(self: Pin<&mut Self>) {
        complete(self.project().held, End::BodyDropped);
    }
}

impl<B, Held> Default for TrackedBody<B, Held>
where
    B: Body + Default,
    Held: Complete,
{
    fn default() -> Self {
        Self { body: B::default(), held: None }
    }
}

impl<B, Held> fmt::Debug for TrackedBody<B, Held>
where
    B: Body + fmt::Debug,
    Held: Complete,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_over = self.held.is_none();
        f.debug_struct("TrackedBody")
            .field("body", &self.body)
            .field("is_over", &is_over)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque, convert::Infallible, rc::Rc};

    use http::HeaderMap;
    use http_body_util::{BodyExt, Empty, Full, StreamBody};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Rc<RefCell<Vec<String>>>);

    impl Complete for Log {
        fn complete(self, end: End<'_>) {
            self.0.borrow_mut().push(match end {
                End::Trailers(trailers) => format!("trailers of {}", trailers.len()),
                other => format!("{other:?}"),
            });
        }
    }

    type Frames = VecDeque<Result<Frame<bytes::Bytes>, &'static str>>;

    fn body(frames: impl Into<Frames>) -> impl Body<Data = bytes::Bytes, Error = &'static str> {
        let mut frames = frames.into();
        StreamBody::new(futures_util::stream::poll_fn(move |_| Poll::Ready(frames.pop_front())))
    }

    fn data() -> Frame<bytes::Bytes> {
        Frame::data(bytes::Bytes::from_static(b"data"))
    }

    fn poll<B>(body: &mut TrackedBody<B, Log>) -> Option<Result<Frame<B::Data>, B::Error>>
    where
        B: Body + Unpin,
    {
        let mut frame = tokio_test::task::spawn(body.frame());
        tokio_test::assert_ready!(frame.poll())
    }

    #[test]
    fn the_call_is_over_at_the_trailers_and_only_then() {
        let log = Log::default();
        let frames = [Ok(data()), Ok(Frame::trailers(HeaderMap::new()))];
        let mut body = TrackedBody::new(Box::pin(body(frames)), log.clone());

        assert!(poll(&mut body).unwrap().is_ok());
        assert!(log.0.borrow().is_empty());
        assert!(poll(&mut body).unwrap().is_ok());
        assert_eq!(*log.0.borrow(), ["trailers of 0"]);
        drop(body);
        assert_eq!(log.0.borrow().len(), 1);
    }

    #[test]
    fn a_body_that_fails_or_is_dropped_says_so() {
        let log = Log::default();
        let mut failing = TrackedBody::new(Box::pin(body([Ok(data()), Err("reset")])), log.clone());
        assert!(poll(&mut failing).unwrap().is_ok());
        assert!(poll(&mut failing).unwrap().is_err());
        drop(TrackedBody::new(Box::pin(body([Ok(data())])), log.clone()));
        assert_eq!(*log.0.borrow(), ["BodyFailed", "BodyDropped"]);
    }

    #[test]
    fn a_body_known_to_be_at_its_end_need_not_be_polled() {
        let log = Log::default();
        drop(TrackedBody::new(Empty::<bytes::Bytes>::new(), log.clone()));
        let mut full = TrackedBody::new(Full::new(bytes::Bytes::from_static(b"all")), log.clone());
        let _: Result<_, Infallible> = poll(&mut full).unwrap();
        drop(full);
        assert_eq!(*log.0.borrow(), ["Body", "Body"]);
    }
}
