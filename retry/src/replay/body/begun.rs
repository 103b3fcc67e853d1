//! What a body gives at once.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::{BoxError, Polled, Whole};

/// A body of which one frame may have been read ahead. Gives bytes as they are, other buffers by a
/// copy.
pub(in super::super) struct Begun<B> {
    body: B,
    // Boxed, since hardly any body has one.
    next: Option<Box<Result<Frame<Bytes>, BoxError>>>,
}

/// What of a body is there already.
pub(in super::super) enum AtOnce<B> {
    /// It is over, without a byte.
    Nothing,
    /// One frame of data, and then its end: what a unary call of gRPC sends.
    Whole(Whole),
    /// More is to come, after one frame of data perhaps.
    Begun(Option<Bytes>, Begun<B>),
}

impl<B> Begun<B> {
    pub(super) const fn new(body: B) -> Self {
        Self { body, next: None }
    }

    /// The body as it was, if nothing was read ahead of it.
    #[cfg(feature = "tonic")]
    pub(super) fn into_unread(self) -> Result<B, Self> {
        if self.next.is_none() { Ok(self.body) } else { Err(self) }
    }
}

impl<B> Begun<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// Reads what `body` gives without a wait: the first frame, and whether it is the last. What it
    /// gives beyond, and what cannot be kept, is read by the attempts.
    ///
    /// Who is woken when more of it comes is who asks next.
    pub(in super::super) fn read(body: B, most_bytes: usize) -> AtOnce<B> {
        let is_exact = body.size_hint().exact().is_some();
        let mut body = Self::new(body);
        let mut cx = Context::from_waker(Waker::noop());
        let data = match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Pending => return AtOnce::Begun(None, body),
            Poll::Ready(None) => return AtOnce::Nothing,
            Poll::Ready(Some(Ok(frame))) if is_to_be_kept(&frame, most_bytes) => frame.into_data(),
            Poll::Ready(Some(first)) => return AtOnce::Begun(None, body.before(first)),
        };
        let Ok(data) = data else { return AtOnce::Nothing };
        if !body.is_end_stream() {
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Pending => return AtOnce::Begun(Some(data), body),
                Poll::Ready(Some(second)) => {
                    return AtOnce::Begun(Some(data), body.before(second));
                }
                Poll::Ready(None) => {}
            }
        }
        AtOnce::Whole(Whole { data, is_exact })
    }

    fn before(mut self, next: Result<Frame<Bytes>, BoxError>) -> Self {
        self.next = Some(Box::new(next));
        self
    }
}

fn is_to_be_kept(frame: &Frame<Bytes>, most_bytes: usize) -> bool {
    frame.data_ref().is_some_and(|data| !data.is_empty() && data.len() <= most_bytes)
}

impl<B> Body for Begun<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(*next));
        }
        Poll::Ready(ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| {
            let frame = frame.map_err(Into::into)?;
            Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        let next = self.next.as_deref().and_then(|next| next.as_ref().ok());
        let Some(data) = next.and_then(Frame::data_ref) else { return rest };
        let ahead = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let mut hint = SizeHint::new();
        // The upper bound first: a lower one must not be above it.
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint.set_lower(rest.lower().saturating_add(ahead));
        hint
    }
}

impl Whole {
    pub(super) fn size_hint(&self) -> SizeHint {
        let bytes = u64::try_from(self.data.len()).unwrap_or(u64::MAX);
        if self.is_exact {
            return SizeHint::with_exact(bytes);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(bytes);
        hint
    }
}
