use std::{
    error::Error,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

pub(super) use self::begun::{AtOnce, Begun};
use self::waiting::{AttemptId, Waiting};

mod begun;
mod waiting;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request that may be sent again. Made by [`Replay`](super::Replay).
///
/// Fails with the error of the body that it is made of, or, if another attempt has read more than
/// could be kept, with [`BodyLost`].
pub struct ReplayBody<B: Body> {
    state: State<B>,
}

enum State<B: Body> {
    Empty,
    /// All of it, until it was given.
    Whole(Whole),
    /// Nobody else reads it.
    Own(Begun<B>),
    Shared(Reader<B>),
}

/// A body that is one frame of data.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    data: Bytes,
    /// Whether the body said its length before it was read: a protocol may pass that on.
    is_exact: bool,
}

/// How far one attempt has read.
struct Reader<B: Body> {
    source: Arc<Source<B>>,
    id: AttemptId,
    /// How many frames this attempt has read.
    position: usize,
    has_given_trailers: bool,
}

/// The body cannot be sent again: another attempt has read more than could be kept, or it failed
/// there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyLost;

impl fmt::Display for BodyLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body cannot be sent again: another attempt has used it up")
    }
}

impl Error for BodyLost {}

/// A body that several attempts read.
pub(super) struct Source<B: Body> {
    shared: Mutex<Shared<B>>,
    /// Made once an attempt has to wait.
    waiting: OnceLock<Arc<Waiting>>,
}

struct Shared<B: Body> {
    body: Original<Begun<B>>,
    /// What was read of it, to be read again.
    frames: Vec<Bytes>,
    bytes: usize,
    most_bytes: usize,
    trailers: Option<HeaderMap>,
    /// What is left of it beyond `frames`, at least and at most.
    rest: SizeHint,
    /// How many attempts read it just now.
    attempts: usize,
    next_id: AttemptId,
}

enum Original<B> {
    Here(B),
    /// An attempt is reading from it just now.
    BeingRead,
    /// It was read to its end.
    Over,
    /// An attempt has taken it away, or it failed.
    Lost,
}

impl<B> Source<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// A body that several attempts read, of which `first` was read already and fits.
    pub(super) fn new(first: Option<Bytes>, body: Begun<B>, most_bytes: usize) -> Self {
        let rest = body.size_hint();
        let shared = Shared {
            body: Original::Here(body),
            bytes: first.as_ref().map_or(0, Bytes::len),
            frames: first.into_iter().collect(),
            most_bytes,
            trailers: None,
            rest,
            attempts: 0,
            next_id: AttemptId::default(),
        };
        Self { shared: Mutex::new(shared), waiting: OnceLock::new() }
    }
}

impl<B: Body> Source<B> {
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.lock().body, Original::Lost)
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> &Arc<Waiting> {
        self.waiting.get_or_init(Arc::default)
    }

    /// To be called with no lock held.
    fn wake_all(&self) {
        if let Some(waiting) = self.waiting.get() {
            waiting.wake_all();
        }
    }
}

/// What an attempt gets from the source.
enum Read<B> {
    Frame(Bytes),
    Trailers(HeaderMap),
    End,
    Lost,
    /// It must read on: here is the body, to be given back.
    Original(B),
    Wait,
}

impl<B: Body> Shared<B> {
    /// Many tiny frames cost more than their bytes: no more than so many are kept.
    const MOST_FRAMES: usize = 1_024;

    fn read(&mut self, position: usize, has_given_trailers: bool) -> Read<Begun<B>> {
        if let Some(frame) = self.frames.get(position) {
            return Read::Frame(frame.clone());
        }
        match mem::replace(&mut self.body, Original::BeingRead) {
            Original::Here(body) => Read::Original(body),
            Original::BeingRead => Read::Wait,
            Original::Over => {
                self.body = Original::Over;
                match &self.trailers {
                    Some(trailers) if !has_given_trailers => Read::Trailers(trailers.clone()),
                    _ => Read::End,
                }
            }
            Original::Lost => {
                self.body = Original::Lost;
                Read::Lost
            }
        }
    }

    /// Whether this much more may be kept.
    fn has_room(&self, frame: &Frame<Bytes>) -> bool {
        let bytes = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => data.len(),
            (None, Some(trailers)) => {
                trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
            }
            (None, None) => 0,
        };
        self.bytes.saturating_add(bytes) <= self.most_bytes && self.frames.len() < Self::MOST_FRAMES
    }
}

/// Gives the body back, or says that it is lost if reading it panicked.
struct Reading<'a, B: Body> {
    source: &'a Source<B>,
    body: Option<Begun<B>>,
}

impl<B: Body> Drop for Reading<'_, B> {
    fn drop(&mut self) {
        if self.body.is_some() {
            self.source.lock().body = Original::Lost;
            self.source.wake_all();
        }
    }
}

impl<B: Body> ReplayBody<B> {
    pub(super) const fn once(body: B) -> Self {
        Self { state: State::Own(Begun::new(body)) }
    }

    pub(super) const fn whole(whole: Whole) -> Self {
        Self { state: State::Whole(whole) }
    }

    /// The body as it was, if nobody else reads it.
    #[cfg(feature = "tonic")]
    pub(super) fn into_own(self) -> Result<B, Self> {
        match self.state {
            State::Own(body) => body.into_unread().map_err(|body| Self { state: State::Own(body) }),
            state => Err(Self { state }),
        }
    }

    pub(super) const fn empty() -> Self {
        Self { state: State::Empty }
    }

    pub(super) fn shared(source: Arc<Source<B>>) -> Self {
        let mut shared = source.lock();
        shared.attempts += 1;
        let id = shared.next_id.take_next();
        drop(shared);
        let reader = Reader { source, id, position: 0, has_given_trailers: false };
        Self { state: State::Shared(reader) }
    }
}

impl<B: Body> Drop for Reader<B> {
    fn drop(&mut self) {
        let mut shared = self.source.lock();
        shared.attempts -= 1;
        drop(shared);
        if let Some(waiting) = self.source.waiting.get() {
            waiting.remove(self.id);
        }
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// What a reader gave, and the body if it is its own from now on.
struct Given<B> {
    frame: Option<Result<Frame<Bytes>, BoxError>>,
    own: Option<Begun<B>>,
}

impl<B> From<Option<Result<Frame<Bytes>, BoxError>>> for Given<B> {
    fn from(frame: Option<Result<Frame<Bytes>, BoxError>>) -> Self {
        Self { frame, own: None }
    }
}

impl<B> Reader<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Given<B>> {
        let mut shared = self.source.lock();
        let given = match shared.read(self.position, self.has_given_trailers) {
            Read::Wait => {
                // With the lock, so that who reads just now cannot be done before.
                let old = self.source.waiting().add(self.id, cx.waker());
                drop(shared);
                drop(old);
                return Poll::Pending;
            }
            Read::Original(body) => {
                drop(shared);
                return self.read_on(body, cx);
            }
            Read::End => None,
            Read::Lost => Some(Err(BodyLost.into())),
            Read::Frame(frame) => {
                self.position += 1;
                Some(Ok(Frame::data(frame)))
            }
            Read::Trailers(trailers) => {
                self.has_given_trailers = true;
                Some(Ok(Frame::trailers(trailers)))
            }
        };
        Poll::Ready(given.into())
    }

    /// Reads the next frame from the original body, and keeps it for the other attempts.
    fn read_on(&mut self, body: Begun<B>, cx: &mut Context<'_>) -> Poll<Given<B>> {
        let source = Arc::clone(&self.source);
        let mut reading = Reading { source: &source, body: Some(body) };
        let Some(body) = reading.body.as_mut() else { return Poll::Ready(None.into()) };
        let mut polled = Pin::new(&mut *body).poll_frame(cx);
        let mut shared = source.lock();
        if polled.is_pending() && shared.attempts > 1 {
            drop(shared);
            polled = self.poll_for_all(body, cx);
            shared = source.lock();
        }
        shared.rest = body.size_hint();
        let Some(body) = reading.body.take() else { return Poll::Ready(None.into()) };
        let Poll::Ready(frame) = polled else {
            // Who comes next polls the body with another waker, and must wake this one too.
            let old = source.waiting().add(self.id, cx.waker());
            shared.body = Original::Here(body);
            drop(shared);
            drop(old);
            return Poll::Pending;
        };
        let given = self.keep(&mut shared, body, frame);
        drop(shared);
        if let Some(waiting) = source.waiting.get() {
            waiting.wake_others(self.id);
        }
        Poll::Ready(given)
    }

    /// Lets the body wake all who wait: the one who polled it last may not come back for long.
    fn poll_for_all(&self, body: &mut Begun<B>, cx: &Context<'_>) -> Polled {
        let waiting = self.source.waiting();
        drop(waiting.add(self.id, cx.waker()));
        let waker = Waker::from(Arc::clone(waiting));
        Pin::new(body).poll_frame(&mut Context::from_waker(&waker))
    }

    fn keep(
        &mut self,
        shared: &mut Shared<B>,
        body: Begun<B>,
        frame: Option<Result<Frame<Bytes>, BoxError>>,
    ) -> Given<B> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                shared.body = Original::Lost;
                return Some(Err(error)).into();
            }
            None => {
                shared.body = Original::Over;
                return None.into();
            }
        };
        if !shared.has_room(&frame) {
            // Too much to keep: this attempt goes on alone.
            shared.body = Original::Lost;
            shared.frames = Vec::new();
            return Given { frame: Some(Ok(frame)), own: Some(body) };
        }
        match frame.into_data() {
            Ok(data) => {
                shared.body = Original::Here(body);
                // One without bytes says nothing, and would cost something to keep.
                if !data.is_empty() {
                    shared.bytes += data.len();
                    shared.frames.push(data.clone());
                    self.position += 1;
                }
                Some(Ok(Frame::data(data))).into()
            }
            Err(frame) => {
                shared.body = Original::Over;
                shared.trailers = frame.into_trailers().ok();
                self.has_given_trailers = true;
                shared.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))).into()
            }
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match &mut self.state {
            State::Empty => Poll::Ready(None),
            State::Whole(Whole { data, .. }) => {
                let data = mem::take(data);
                self.state = State::Empty;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            State::Own(body) => Pin::new(body).poll_frame(cx),
            State::Shared(reader) => {
                let given = ready!(reader.poll(cx));
                if let Some(body) = given.own {
                    self.state = State::Own(body);
                }
                Poll::Ready(given.frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Empty => true,
            State::Whole(_) => false,
            State::Own(body) => body.is_end_stream(),
            State::Shared(Reader { source, position, has_given_trailers, .. }) => {
                let shared = source.lock();
                let is_over = match &shared.body {
                    Original::Here(body) => body.is_end_stream(),
                    Original::Over => shared.trailers.is_none() || *has_given_trailers,
                    Original::BeingRead | Original::Lost => false,
                };
                is_over && *position == shared.frames.len()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Empty => SizeHint::with_exact(0),
            State::Whole(whole) => whole.size_hint(),
            State::Own(body) => body.size_hint(),
            State::Shared(Reader { source, position, .. }) => {
                let shared = source.lock();
                let unread = shared.frames.iter().skip(*position).map(Bytes::len).sum::<usize>();
                let unread = u64::try_from(unread).unwrap_or(u64::MAX);
                let mut hint = SizeHint::new();
                // The upper bound first: a lower one must not be above it.
                if let Some(upper) = shared.rest.upper() {
                    hint.set_upper(upper.saturating_add(unread));
                }
                hint.set_lower(shared.rest.lower().saturating_add(unread));
                hint
            }
        }
    }
}

impl<B: Body + Default> Default for ReplayBody<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Empty => "empty",
            State::Whole(_) => "whole",
            State::Own(_) => "own",
            State::Shared(_) => "shared",
        };
        f.debug_struct("ReplayBody").field("state", &state).finish_non_exhaustive()
    }
}

impl<B: Body> fmt::Debug for Source<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.lock();
        f.debug_struct("Source")
            .field("bytes", &shared.bytes)
            .field("frames", &shared.frames.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
