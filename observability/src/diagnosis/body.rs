use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::stream::EventStream;

/// The body of what [`DiagnosisService`](crate::DiagnosisService) answers: a text, or a stream of
/// events that gives its place back when it is dropped.
#[derive(Debug)]
pub struct DiagnosisBody {
    content: Content,
}

#[derive(Debug)]
enum Content {
    Text(Option<Bytes>),
    Events(Box<EventStream>),
}

impl DiagnosisBody {
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        let text: Bytes = text.into();
        Self { content: Content::Text(Some(text).filter(|text| !text.is_empty())) }
    }

    pub(super) fn events(stream: EventStream) -> Self {
        Self { content: Content::Events(Box::new(stream)) }
    }
}

impl Body for DiagnosisBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.content {
            Content::Text(text) => Poll::Ready(text.take()),
            Content::Events(stream) => stream.poll_next(cx),
        };
        next.map(|next| next.map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Text(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Content::Events(_) => SizeHint::default(),
        }
    }
}
