use std::fmt;

use http::Request;
use tonic::{Extensions, body::Body, metadata::MetadataMap};

use super::{CloneRequest, KeptRequest, Replay, ReplayBody};

/// [`Replay`] for tonic, whose channels take no body but tonic's own.
///
/// Takes and gives `http::Request<tonic::body::Body>`, so that nothing below the retries, nor the
/// generated client above them, need know of them. A request that is sent once only stays as it is.
///
/// ```
/// use outrigger_retry::{ReplayTonic, RetryLayer, RetryPolicy};
/// use tonic::{body::Body, client::GrpcService, transport::Endpoint};
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let channel = Endpoint::from_static("http://[::1]:50051")
///     .connect_lazy()
///     .map_err(|error| tonic::Status::from_error(error.into()));
/// let retry = RetryLayer::new(RetryPolicy::default()).grpc().replay(ReplayTonic::default());
/// let orders = retry.layer(channel);
///
/// // What a generated client asks of its service.
/// fn takes(_: &impl GrpcService<Body>) {}
/// takes(&orders);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayTonic {
    replay: Replay,
}

impl ReplayTonic {
    /// Keeps at most `bytes` of a request's body; 64 KiB by default.
    #[must_use]
    pub const fn up_to(bytes: usize) -> Self {
        Self { replay: Replay::up_to(bytes) }
    }

    /// Gives the request's extensions to none of the attempts of a request that is kept, as
    /// [`Replay::without_extensions`] says. A tonic channel reads none.
    #[must_use]
    pub const fn without_extensions(mut self) -> Self {
        self.replay = self.replay.without_extensions();
        self
    }
}

impl CloneRequest<Request<Body>> for ReplayTonic {
    type Sent = Request<Body>;
    type Kept = KeptRequest<Body>;

    fn once(&self, request: Request<Body>) -> Request<Body> {
        request
    }

    fn keep(&self, request: Request<Body>) -> (Request<Body>, Option<Self::Kept>) {
        let (first, kept) = self.replay.keep(request);
        (first.map(Body::from), kept)
    }

    fn again(&self, kept: &mut Option<Self::Kept>, is_last: bool) -> Option<Request<Body>> {
        Some(self.replay.again(kept, is_last)?.map(Body::from))
    }
}

/// A body that is sent once only is as it was; another is boxed.
impl From<ReplayBody<Body>> for Body {
    fn from(body: ReplayBody<Body>) -> Self {
        match body.into_own() {
            Ok(body) => body,
            Err(kept) => Self::new(kept),
        }
    }
}

/// Sends clones of a `tonic::Request`, which is not `Clone` itself: of its message, metadata and
/// extensions.
///
/// ```
/// use outrigger_retry::{CloneRequest, CloneTonic};
///
/// let (first, mut kept) = CloneTonic.keep(tonic::Request::new("seven"));
/// let second = CloneTonic.again(&mut kept, true).expect("kept");
/// assert_eq!(first.into_inner(), second.into_inner());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneTonic;

/// What further attempts of a `tonic::Request` are made of.
pub struct KeptTonic<T> {
    metadata: MetadataMap,
    extensions: Extensions,
    message: T,
}

impl<T> KeptTonic<T> {
    fn into_request(self) -> tonic::Request<T> {
        tonic::Request::from_parts(self.metadata, self.extensions, self.message)
    }
}

impl<T: Clone> Clone for KeptTonic<T> {
    fn clone(&self) -> Self {
        let Self { metadata, extensions, message } = self;
        Self {
            metadata: metadata.clone(),
            extensions: extensions.clone(),
            message: message.clone(),
        }
    }
}

impl<T> fmt::Debug for KeptTonic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptTonic").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

impl<T: Clone> CloneRequest<tonic::Request<T>> for CloneTonic {
    type Sent = tonic::Request<T>;
    type Kept = KeptTonic<T>;

    fn once(&self, request: tonic::Request<T>) -> tonic::Request<T> {
        request
    }

    fn keep(&self, request: tonic::Request<T>) -> (tonic::Request<T>, Option<KeptTonic<T>>) {
        let (metadata, extensions, message) = request.into_parts();
        let first = KeptTonic { metadata, extensions, message };
        let kept = first.clone();
        (first.into_request(), Some(kept))
    }

    fn again(&self, kept: &mut Option<KeptTonic<T>>, is_last: bool) -> Option<tonic::Request<T>> {
        let again = if is_last { kept.take() } else { kept.clone() };
        again.map(KeptTonic::into_request)
    }
}
