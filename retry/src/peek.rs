use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};

/// How many bytes of an answer are read before its status is waited for no more.
const MOST_BYTES: usize = 16 * 1024;

/// Waits until a gRPC response can be judged. Made by [`Grpc`](crate::Grpc).
///
/// An answer whose head has the status, and one that is not awaited to its end, is ready at once.
/// Of the others up to 16 KiB are read: one that is longer is judged by its head.
#[derive(Debug)]
pub struct Peek<B: Body> {
    /// `None` once it was given.
    response: Option<Response<PeekedBody<B>>>,
    reads: bool,
}

impl<B: Body> Peek<B> {
    pub(crate) fn new(response: Response<B>, unary: bool) -> Self {
        let reads = unary && !response.headers().contains_key("grpc-status");
        Self { response: Some(response.map(PeekedBody::new)), reads }
    }
}

impl<B: Body + Unpin> Future for Peek<B> {
    type Output = Response<PeekedBody<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let response = this.response.as_mut().expect("polled after completion");
        if this.reads {
            ready!(response.body_mut().poll_end(cx));
        }
        Poll::Ready(this.response.take().expect("looked at above"))
    }
}

impl<B: Body> Unpin for Peek<B> {}

/// A body of which the begin may have been read already. Gives all of it, in order.
pub struct PeekedBody<B: Body> {
    /// A short answer is one frame of data: its place is here, so that it costs no allocation.
    first: Option<B::Data>,
    others: VecDeque<B::Data>,
    end: Option<End<B::Error>>,
    body: B,
}

enum End<E> {
    Trailers(HeaderMap),
    Failed(E),
    /// The end was given, or there was nothing to it.
    Over,
}

impl<B: Body> PeekedBody<B> {
    pub(crate) const fn new(body: B) -> Self {
        Self { first: None, others: VecDeque::new(), end: None, body }
    }

    /// The trailers, if they were read and not given yet.
    #[must_use]
    pub const fn trailers(&self) -> Option<&HeaderMap> {
        match &self.end {
            Some(End::Trailers(trailers)) => Some(trailers),
            _ => None,
        }
    }

    /// Whether the body was read up to where it broke off.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        matches!(self.end, Some(End::Failed(_)))
    }

    /// The bytes that were read and not given yet.
    fn bytes_read(&self) -> usize {
        self.first.iter().chain(&self.others).map(Buf::remaining).sum()
    }

    fn keep(&mut self, data: B::Data) {
        if self.first.is_none() && self.others.is_empty() {
            self.first = Some(data);
        } else {
            self.others.push_back(data);
        }
    }
}

impl<B: Body + Unpin> PeekedBody<B> {
    /// Ready when the end was read, or too much before it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = self.bytes_read();
        while bytes <= MOST_BYTES {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.end = Some(End::Over),
                Some(Err(error)) => self.end = Some(End::Failed(error)),
                Some(Ok(frame)) => match frame.into_trailers() {
                    Ok(trailers) => self.end = Some(End::Trailers(trailers)),
                    Err(frame) => {
                        // One without bytes says nothing, and would cost something to keep.
                        if let Ok(data) = frame.into_data()
                            && data.has_remaining()
                        {
                            bytes = bytes.saturating_add(data.remaining());
                            self.keep(data);
                        }
                        continue;
                    }
                },
            }
            break;
        }
        Poll::Ready(())
    }
}

impl<B: Body> Unpin for PeekedBody<B> where B: Unpin {}

impl<B: Body + Unpin> Body for PeekedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        if let Some(data) = this.first.take().or_else(|| this.others.pop_front()) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some(end) = &mut this.end else { return Pin::new(&mut this.body).poll_frame(cx) };
        Poll::Ready(match std::mem::replace(end, End::Over) {
            End::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            End::Failed(error) => Some(Err(error)),
            End::Over => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none()
            && self.others.is_empty()
            && match &self.end {
                None => self.body.is_end_stream(),
                Some(end) => matches!(end, End::Over),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let read = u64::try_from(self.bytes_read()).unwrap_or(u64::MAX);
        let rest = match self.end {
            None => self.body.size_hint(),
            Some(_) => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        // The upper bound first: a lower one must not be above it.
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint.set_lower(rest.lower().saturating_add(read));
        hint
    }
}

impl<B: Body + Default> Default for PeekedBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: Body + fmt::Debug> fmt::Debug for PeekedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekedBody")
            .field("bytes_read", &self.bytes_read())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;
    use http_body_util::BodyExt;
    use tokio_test::{assert_pending, assert_ready};

    use super::*;

    type Read = Poll<Option<Result<Frame<Bytes>, &'static str>>>;

    fn body(
        frames: impl Into<VecDeque<Read>>,
    ) -> impl Body<Data = Bytes, Error = &'static str> + Unpin + std::fmt::Debug {
        Frames(frames.into())
    }

    #[derive(Debug)]
    struct Frames(VecDeque<Read>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Read {
            self.0.pop_front().unwrap_or(Poll::Ready(None))
        }
    }

    fn data(length: usize) -> Read {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; length])))))
    }

    fn trailers(status: &'static str) -> Read {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static(status),
        )]);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn collect<B: Body<Data = Bytes, Error = &'static str> + Unpin>(
        body: B,
    ) -> Result<(usize, bool), &'static str> {
        let collected = assert_ready!(tokio_test::task::spawn(body.collect()).poll())?;
        let has_trailers = collected.trailers().is_some();
        Ok((collected.to_bytes().len(), has_trailers))
    }

    #[test]
    fn a_short_answer_is_read_to_its_status_and_given_whole() {
        let response = Response::new(body([data(5), Poll::Pending, data(3), trailers("14")]));
        let mut peek = tokio_test::task::spawn(Peek::new(response, true));
        assert_pending!(peek.poll());
        let body = assert_ready!(peek.poll()).into_body();
        assert_eq!(body.trailers().expect("read")["grpc-status"], "14");
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(8));
        assert_eq!(collect(body), Ok((8, true)));
    }

    #[test]
    fn a_stream_is_not_waited_for() {
        let response = Response::new(body([Poll::Pending]));
        let body = assert_ready!(tokio_test::task::spawn(Peek::new(response, false)).poll());
        assert!(body.body().trailers().is_none());
    }

    #[test]
    fn a_long_answer_is_read_no_further_than_the_bound() {
        let frames = [data(MOST_BYTES), data(1), Poll::Pending, data(10), trailers("0")];
        let response = Response::new(body(frames));
        let peeked = assert_ready!(tokio_test::task::spawn(Peek::new(response, true)).poll());
        assert!(peeked.body().trailers().is_none());
        let mut collecting = tokio_test::task::spawn(peeked.into_body().collect());
        assert_pending!(collecting.poll());
        assert_eq!(
            assert_ready!(collecting.poll()).expect("whole").to_bytes().len(),
            MOST_BYTES + 11
        );
    }

    #[test]
    fn an_answer_that_breaks_off_says_so_twice() {
        let response = Response::new(body([data(5), Poll::Ready(Some(Err("reset")))]));
        let body = assert_ready!(tokio_test::task::spawn(Peek::new(response, true)).poll());
        assert!(body.body().has_failed());
        assert_eq!(collect(body.into_body()), Err("reset"));
    }

    #[test]
    fn frames_keep_their_order_and_those_without_bytes_cost_nothing() {
        let text = |text: &'static str| {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
        };
        let many = std::iter::repeat_with(|| data(0)).take(100);
        let frames = [text("one "), text("two "), text("three")].into_iter().chain(many);
        let frames: VecDeque<Read> = frames.chain([trailers("0")]).collect();
        let response = Response::new(body(frames));
        let body = assert_ready!(tokio_test::task::spawn(Peek::new(response, true)).poll());
        assert_eq!(body.body().others.len(), 2);
        let collected = assert_ready!(tokio_test::task::spawn(body.into_body().collect()).poll());
        assert_eq!(collected.expect("whole").to_bytes(), "one two three");
    }

    #[test]
    fn a_short_answer_is_read_and_given_without_an_allocation() {
        let response = Response::new(body([data(5), trailers("0"), Poll::Ready(None)]));
        let counted = allocation_counter::measure(|| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let peek = Pin::new(&mut Peek::new(response, true)).poll(&mut cx);
            let mut body = assert_ready!(peek).into_body();
            while assert_ready!(Pin::new(&mut body).poll_frame(&mut cx)).is_some() {}
        });
        assert_eq!(counted.count_total, 0);
    }

    #[test]
    fn a_status_in_the_head_needs_no_body() {
        let mut response = Response::new(body([Poll::Pending]));
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("14"));
        assert_ready!(tokio_test::task::spawn(Peek::new(response, true)).poll());
    }
}
