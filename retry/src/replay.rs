#[cfg(feature = "http")]
mod body;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(feature = "tonic")]
pub use self::tonic::{CloneTonic, KeptTonic, ReplayTonic};
#[cfg(feature = "http")]
pub use self::{
    body::{BodyLost, ReplayBody},
    http::{KeptRequest, Replay},
};

/// How a request is sent more than once.
///
/// [`ByClone`], the default, takes any `Clone` request. With the feature `http`, `Replay` keeps the
/// body of an `http::Request` while the first attempt streams it. For a request type of your own,
/// implement this for a marker type:
///
/// ```
/// use outrigger_retry::CloneRequest;
///
/// /// Cheap to send again, though not `Clone`.
/// struct Query(std::sync::Arc<str>);
/// struct ShareText;
///
/// impl CloneRequest<Query> for ShareText {
///     type Sent = Query;
///     type Kept = std::sync::Arc<str>;
///
///     fn once(&self, request: Query) -> Query {
///         request
///     }
///     fn keep(&self, request: Query) -> (Query, Option<Self::Kept>) {
///         let text = std::sync::Arc::clone(&request.0);
///         (request, Some(text))
///     }
///     fn again(&self, kept: &mut Option<Self::Kept>, _is_last: bool) -> Option<Query> {
///         kept.clone().map(Query)
///     }
/// }
///
/// let (first, mut kept) = ShareText.keep(Query("answer".into()));
/// let second = ShareText.again(&mut kept, true).unwrap();
/// assert_eq!(first.0, second.0);
/// ```
pub trait CloneRequest<Request> {
    /// What the inner service is called with.
    type Sent;
    /// What is kept to make further attempts of.
    type Kept;

    /// A request that is sent once only.
    fn once(&self, request: Request) -> Self::Sent;

    /// The first attempt, and what is kept for others; `None` when there can be no other.
    fn keep(&self, request: Request) -> (Self::Sent, Option<Self::Kept>);

    /// A further attempt, or `None` when it has become impossible. After the last one, nothing
    /// need be kept.
    fn again(&self, kept: &mut Option<Self::Kept>, is_last: bool) -> Option<Self::Sent>;
}

/// Sends clones. The last possible attempt takes what was kept, so `n` attempts need `n - 1`
/// clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByClone;

impl<Request: Clone> CloneRequest<Request> for ByClone {
    type Sent = Request;
    type Kept = Request;

    fn once(&self, request: Request) -> Request {
        request
    }

    fn keep(&self, request: Request) -> (Request, Option<Request>) {
        let kept = request.clone();
        (request, Some(kept))
    }

    fn again(&self, kept: &mut Option<Request>, is_last: bool) -> Option<Request> {
        if is_last { kept.take() } else { kept.clone() }
    }
}
