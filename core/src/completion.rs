#[cfg(feature = "http")]
mod body;

#[cfg(feature = "http")]
pub use self::body::{OnBodyEnd, TrackedBody};

/// Something a layer holds until the call is over: a permit, an in-flight count, a ticket.
///
/// [`complete`](Self::complete) is told how the call ended. A value that is dropped instead
/// belongs to a call that was abandoned: its future, or its body, was dropped before the end. So
/// whatever is taken is given back by `Drop`, and `complete` is for who wants to know how.
pub trait Complete {
    /// The call is over.
    fn complete(self, end: End<'_>);
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum End<'a> {
    /// With its response: nothing follows it.
    Response,
    /// The body was read to its end.
    Body,
    /// The body was read to its end, where it had trailers.
    #[cfg(feature = "http")]
    Trailers(&'a http::HeaderMap),
    /// The body broke off with an error.
    BodyFailed,
    /// The body was dropped before its end: the caller has seen enough.
    BodyDropped,
    /// Keeps the lifetime in use without the feature `http`.
    #[doc(hidden)]
    #[cfg(not(feature = "http"))]
    Never(std::convert::Infallible, std::marker::PhantomData<&'a ()>),
}

/// Decides when a call is over, and lets `held` live until then.
///
/// A type parameter of the layers that hold something for a call; the shape is that of
/// `tower::load::TrackCompletion`. [`OnResponse`] is the default and takes any response. Over HTTP
/// a response is only the head, so choose `OnBodyEnd` (feature `http`).
pub trait TrackCompletion<Response, Held> {
    /// The response that is passed on, with `held` inside if more is to come.
    type Response;

    /// Takes `held` over at the moment the response is there.
    fn track(&self, response: Response, held: Held) -> Self::Response;
}

/// The call is over with its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnResponse;

impl<Response, Held: Complete> TrackCompletion<Response, Held> for OnResponse {
    type Response = Response;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: to move what is held costs more")]
    fn track(&self, response: Response, held: Held) -> Response {
        held.complete(End::Response);
        response
    }
}
