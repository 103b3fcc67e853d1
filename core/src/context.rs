use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

/// What an attempt knows of its logical call; travels with the request.
///
/// Whoever makes attempts (a retry, an overall deadline) writes it; the layers further in read it:
/// a balancer avoids the endpoints already tried, a queue does not wait beyond the deadline, a
/// retry does not multiply the retries of its caller. A request without one is a first attempt
/// with no deadline.
///
/// ```
/// use outrigger_core::AttemptContext;
///
/// let mut context = AttemptContext::default();
/// context.number = 1;
/// assert!(context.is_retry());
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AttemptContext {
    /// Counts the attempts of this logical call here, from 0.
    pub number: u32,
    /// When the whole logical call must be over.
    pub deadline: Option<Instant>,
    /// Whether the request came in as a retry of a caller further up: chain stop.
    pub caller_is_retry: bool,
    /// How much the call matters under overload, if it says so.
    pub criticality: Option<Criticality>,
    /// The endpoints that attempts of this call went to, shared by all of them.
    pub tried: Option<Tried>,
}

impl AttemptContext {
    /// Whether this attempt repeats an earlier one, here or at a caller further up.
    #[must_use]
    pub const fn is_retry(&self) -> bool {
        self.number > 0 || self.caller_is_retry
    }
}

/// How much a call matters under overload: the four classes of Google's SRE book, chapter 21.
///
/// Ordered from the least to the most important.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Criticality {
    /// May be unavailable for long and often; batch work that is retried for hours.
    Sheddable,
    /// Some unavailability is expected; batch work.
    SheddablePlus,
    /// The default for calls of a production job: failing is seen by users.
    #[default]
    Critical,
    /// The most important calls; failing is serious for users.
    CriticalPlus,
}

impl Criticality {
    /// The four classes, least important first.
    pub const ALL: [Self; 4] =
        [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];
}

/// The endpoints that the attempts of one logical call went to; clones share the list.
///
/// Holds the ids of the last [`CAPACITY`](Self::CAPACITY) endpoints in place, so noting one
/// allocates nothing and takes no lock.
#[derive(Clone, Default)]
pub struct Tried {
    /// Slot `n` holds the id of the n-th endpoint plus nothing; 0 is a free slot.
    ids: Arc<Ids>,
}

#[derive(Default)]
struct Ids {
    slots: [AtomicU64; Tried::CAPACITY],
    noted: AtomicU64,
}

impl Tried {
    /// How many endpoints are remembered; an older one is forgotten for a new one.
    pub const CAPACITY: usize = 8;

    /// Starts an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes the endpoint with this id, a hash that its balancer chose. An id of 0 is taken as 1.
    pub fn note(&self, endpoint_id: u64) {
        let position = self.ids.noted.fetch_add(1, Ordering::Relaxed);
        let slot = position % Self::CAPACITY as u64;
        #[expect(clippy::cast_possible_truncation, reason = "below CAPACITY")]
        self.ids.slots[slot as usize].store(endpoint_id.max(1), Ordering::Release);
    }

    /// Whether the endpoint with this id was tried.
    #[must_use]
    pub fn contains(&self, endpoint_id: u64) -> bool {
        let id = endpoint_id.max(1);
        self.ids.slots.iter().any(|slot| slot.load(Ordering::Acquire) == id)
    }

    /// Whether no endpoint was noted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.noted.load(Ordering::Acquire) == 0
    }

    /// Forgets all, if no other clone is left that could still look: so that a list can be used
    /// again for the next call. Says whether it did.
    pub fn reset(&mut self) -> bool {
        let Some(ids) = Arc::get_mut(&mut self.ids) else { return false };
        *ids = Ids::default();
        true
    }
}

impl fmt::Debug for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.ids.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        f.debug_list().entries(ids.filter(|id| *id != 0)).finish()
    }
}

/// Where the [`AttemptContext`] travels with a request.
///
/// [`InExtensions`] (feature `http`) puts it into the extensions of an `http::Request`, and of a
/// `tonic::Request` with the feature `tonic`. For a request type of your own, implement this for a
/// marker type:
///
/// ```
/// use outrigger_core::{AttemptContext, CarryContext};
///
/// struct Frame { payload: Vec<u8>, context: Option<AttemptContext> }
/// struct InFrame;
///
/// impl CarryContext<Frame> for InFrame {
///     fn context<'a>(&self, request: &'a Frame) -> Option<&'a AttemptContext> {
///         request.context.as_ref()
///     }
///     fn set_context(&self, request: &mut Frame, context: AttemptContext) {
///         request.context = Some(context);
///     }
/// }
///
/// let mut frame = Frame { payload: vec![], context: None };
/// InFrame.set_context(&mut frame, AttemptContext::default());
/// assert_eq!(InFrame.context(&frame).unwrap().number, 0);
/// # let _ = frame.payload;
/// ```
pub trait CarryContext<Request> {
    /// The context that came with `request`, if any.
    fn context<'a>(&self, request: &'a Request) -> Option<&'a AttemptContext>;

    /// Puts `context` in the place of what came with `request`.
    fn set_context(&self, request: &mut Request, context: AttemptContext);

    /// Whether contexts travel at all: if not, none need be made.
    #[must_use]
    fn carries(&self) -> bool {
        true
    }
}

/// The context travels nowhere: every request is a first attempt with no deadline. The default,
/// since it fits any request type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoContext;

impl<Request> CarryContext<Request> for NoContext {
    fn context<'a>(&self, _request: &'a Request) -> Option<&'a AttemptContext> {
        None
    }

    fn set_context(&self, _request: &mut Request, _context: AttemptContext) {}

    fn carries(&self) -> bool {
        false
    }
}

/// The context travels in the request's extensions.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InExtensions;

#[cfg(feature = "http")]
impl<B> CarryContext<http::Request<B>> for InExtensions {
    fn context<'a>(&self, request: &'a http::Request<B>) -> Option<&'a AttemptContext> {
        request.extensions().get()
    }

    fn set_context(&self, request: &mut http::Request<B>, context: AttemptContext) {
        put(request.extensions_mut(), context);
    }
}

#[cfg(feature = "tonic")]
impl<T> CarryContext<tonic::Request<T>> for InExtensions {
    fn context<'a>(&self, request: &'a tonic::Request<T>) -> Option<&'a AttemptContext> {
        request.extensions().get()
    }

    fn set_context(&self, request: &mut tonic::Request<T>, context: AttemptContext) {
        put(request.extensions_mut(), context);
    }
}

/// Writes over a context that is there, since inserting one allocates.
#[cfg(feature = "http")]
fn put(extensions: &mut http::Extensions, context: AttemptContext) {
    match extensions.get_mut() {
        Some(present) => *present = context,
        None => _ = extensions.insert(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_was_tried_and_the_list_is_bounded() {
        let tried = Tried::new();
        let of_next_attempt = tried.clone();
        assert!(of_next_attempt.is_empty());
        (0..20).for_each(|id| tried.note(id));
        assert!(of_next_attempt.contains(19));
        assert!(!of_next_attempt.contains(3), "forgotten for a newer one");
    }

    #[test]
    fn a_list_is_used_again_only_when_nobody_else_looks() {
        let mut tried = Tried::new();
        let other = tried.clone();
        tried.note(7);
        assert!(!tried.reset());
        drop(other);
        assert!(tried.reset());
        assert!(!tried.contains(7));
    }

    #[test]
    fn importance_is_ordered() {
        assert!(Criticality::ALL.is_sorted());
        assert!(Criticality::default() > Criticality::SheddablePlus);
    }
}
