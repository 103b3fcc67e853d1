use std::{fmt, sync::Arc};

use http::Request;
use http_body::Body;

use self::head::KeptHead;
use super::{
    CloneRequest,
    body::{AtOnce, Begun, BoxError, ReplayBody, Source, Whole},
};

mod head;

/// Keeps what the first attempt reads of a request's body, so that another can send it again.
///
/// The first attempt streams: nothing is waited for before it is sent. What the body gives at once
/// is read when the call is made: mostly that is all of it, one frame of data. Else frames are kept
/// as they pass, up to a bound; a further attempt sends those and goes on with the rest. Two attempts at a time, as a
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
    has_extensions: bool,
}

impl Replay {
    /// Keeps at most `bytes` of a request's body.
    #[must_use]
    pub const fn up_to(bytes: usize) -> Self {
        Self { most_bytes: bytes, has_extensions: true }
    }

    /// Gives the request's extensions to none of the attempts of a request that is kept: to copy
    /// them for a further attempt allocates for each. For a service that reads none, as a transport
    /// does; a balancer finds there what was tried.
    #[must_use]
    pub const fn without_extensions(mut self) -> Self {
        self.has_extensions = false;
        self
    }
}

impl Default for Replay {
    /// Keeps at most 64 KiB.
    fn default() -> Self {
        Self::up_to(64 * 1024)
    }
}

/// What further attempts of an HTTP request are made of.
pub struct KeptRequest<B: Body> {
    head: KeptHead,
    body: KeptBody<B>,
}

enum KeptBody<B: Body> {
    /// There is none.
    Empty,
    Whole(Whole),
    Shared(Arc<Source<B>>),
}

impl<B: Body> KeptBody<B> {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Shared(source) if source.is_lost())
    }

    /// The body of a further attempt.
    fn again(&self) -> ReplayBody<B> {
        match self {
            Self::Empty => ReplayBody::empty(),
            Self::Whole(whole) => ReplayBody::whole(whole.clone()),
            Self::Shared(source) => ReplayBody::shared(Arc::clone(source)),
        }
    }
}

impl<B> KeptBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    fn of(body: B, most_bytes: usize) -> Self {
        match Begun::read(body, most_bytes) {
            AtOnce::Nothing => Self::Empty,
            AtOnce::Whole(whole) => Self::Whole(whole),
            AtOnce::Begun(first, body) => {
                Self::Shared(Arc::new(Source::new(first, body, most_bytes)))
            }
        }
    }
}

impl<B: Body> fmt::Debug for KeptRequest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptRequest").field("head", &self.head).finish_non_exhaustive()
    }
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
        let (mut parts, body) = request.into_parts();
        if !self.has_extensions {
            // Cleared, their table would still be copied.
            parts.extensions = http::Extensions::new();
        }
        let head = KeptHead::of(&parts);
        let (first, body) = if body.is_end_stream() {
            (ReplayBody::once(body), KeptBody::Empty)
        } else {
            let body = KeptBody::of(body, self.most_bytes);
            (body.again(), body)
        };
        (Request::from_parts(parts, first), Some(KeptRequest { head, body }))
    }

    fn again(&self, kept: &mut Option<Self::Kept>, is_last: bool) -> Option<Self::Sent> {
        let KeptRequest { head, body } = kept.as_ref()?;
        if body.is_lost() {
            *kept = None;
            return None;
        }
        let request = head.with(body.again());
        if is_last {
            *kept = None;
        }
        Some(request)
    }
}
