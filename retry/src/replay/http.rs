use std::sync::Arc;

use http::{Request, request::Parts};
use http_body::Body;

use super::{
    CloneRequest,
    body::{BoxError, ReplayBody, Source},
};

/// Keeps what the first attempt reads of a request's body, so that another can send it again.
///
/// The first attempt streams: nothing is read before it is sent. Frames are kept as they pass, up to
/// a bound; a further attempt sends those and goes on with the rest. Two attempts at a time, as a
/// backup request makes them, share one body. When the bound is passed, what was kept is dropped,
/// the attempt that passed it goes on unharmed, and no other can be made.
///
/// ```
/// use http::Request;
/// use http_body_util::Full;
/// use outrigger_retry::{CloneRequest, Replay};
///
/// let request = Request::put("/items/7").body(Full::<bytes::Bytes>::from("seven")).unwrap();
/// let replay = Replay::up_to(16);
/// let (first, mut kept) = replay.keep(request);
/// let second = replay.again(&mut kept, true).unwrap();
/// assert_eq!(first.uri(), second.uri());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    most_bytes: usize,
}

impl Replay {
    /// Keeps at most `bytes` of a request's body.
    #[must_use]
    pub const fn up_to(bytes: usize) -> Self {
        Self { most_bytes: bytes }
    }
}

impl Default for Replay {
    /// Keeps at most 64 KiB.
    fn default() -> Self {
        Self::up_to(64 * 1024)
    }
}

/// What further attempts of an HTTP request are made of.
#[derive(Debug)]
pub struct KeptRequest<B: Body> {
    parts: Parts,
    /// `None` for a request without a body.
    source: Option<Arc<Source<B>>>,
}

impl<B> CloneRequest<Request<B>> for Replay
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Sent = Request<ReplayBody<B>>;
    type Kept = KeptRequest<B>;

    fn once(&self, request: Request<B>) -> Self::Sent {
        request.map(ReplayBody::once)
    }

    fn keep(&self, request: Request<B>) -> (Self::Sent, Option<Self::Kept>) {
        let least = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
        if least > self.most_bytes {
            return (self.once(request), None);
        }
        let (parts, body) = request.into_parts();
        let kept_parts = parts.clone();
        let (body, source) = if body.is_end_stream() {
            (ReplayBody::once(body), None)
        } else {
            let source = Arc::new(Source::new(body, self.most_bytes));
            (ReplayBody::shared(Arc::clone(&source)), Some(source))
        };
        (Request::from_parts(parts, body), Some(KeptRequest { parts: kept_parts, source }))
    }

    fn again(&self, kept: &mut Option<Self::Kept>, is_last: bool) -> Option<Self::Sent> {
        let KeptRequest { parts, source } = kept.as_ref()?;
        if source.as_ref().is_some_and(|source| source.is_lost()) {
            *kept = None;
            return None;
        }
        let body = source
            .as_ref()
            .map_or_else(ReplayBody::empty, |source| ReplayBody::shared(Arc::clone(source)));
        let parts = if is_last { kept.take()?.parts } else { parts.clone() };
        Some(Request::from_parts(parts, body))
    }
}
