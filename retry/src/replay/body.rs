use std::{
    error::Error,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

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
    /// Nobody else reads it.
    Own(B),
    Shared {
        source: Arc<Source<B>>,
        /// How many frames this attempt has read.
        position: usize,
        has_given_trailers: bool,
    },
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
}

struct Shared<B: Body> {
    body: Original<B>,
    /// What was read of it, to be read again.
    frames: Vec<Bytes>,
    bytes: usize,
    most_bytes: usize,
    trailers: Option<HeaderMap>,
    /// What is left of it beyond `frames`, at least and at most.
    rest: SizeHint,
    /// Attempts that wait for the next frame.
    waiting: Vec<Waker>,
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

impl<B: Body> Source<B> {
    pub(super) fn new(body: B, most_bytes: usize) -> Self {
        let rest = body.size_hint();
        let shared = Shared {
            body: Original::Here(body),
            frames: Vec::new(),
            bytes: 0,
            most_bytes,
            trailers: None,
            rest,
            waiting: Vec::new(),
        };
        Self { shared: Mutex::new(shared) }
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.lock().body, Original::Lost)
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all who wait, with no lock held.
    fn wake_all(&self) {
        let waiting = mem::take(&mut self.lock().waiting);
        waiting.into_iter().for_each(Waker::wake);
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
    fn read(&mut self, position: usize, has_given_trailers: bool, cx: &Context<'_>) -> Read<B> {
        if let Some(frame) = self.frames.get(position) {
            return Read::Frame(frame.clone());
        }
        match mem::replace(&mut self.body, Original::BeingRead) {
            Original::Here(body) => Read::Original(body),
            Original::BeingRead => {
                self.wait(cx);
                Read::Wait
            }
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

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }
}

/// Gives the body back, or says that it is lost if reading it panicked.
struct Reading<'a, B: Body> {
    source: &'a Source<B>,
    body: Option<B>,
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
        Self { state: State::Own(body) }
    }

    pub(super) const fn empty() -> Self {
        Self { state: State::Empty }
    }

    pub(super) const fn shared(source: Arc<Source<B>>) -> Self {
        Self { state: State::Shared { source, position: 0, has_given_trailers: false } }
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B> ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_shared(&mut self, cx: &mut Context<'_>) -> Polled {
        let State::Shared { source, position, has_given_trailers } = &mut self.state else {
            return Poll::Ready(None);
        };
        let source = Arc::clone(source);
        let read = source.lock().read(*position, *has_given_trailers, cx);
        Poll::Ready(match read {
            Read::Wait => return Poll::Pending,
            Read::End => None,
            Read::Lost => Some(Err(BodyLost.into())),
            Read::Frame(frame) => {
                *position += 1;
                Some(Ok(Frame::data(frame)))
            }
            Read::Trailers(trailers) => {
                *has_given_trailers = true;
                Some(Ok(Frame::trailers(trailers)))
            }
            Read::Original(body) => return self.read_on(&source, body, cx),
        })
    }

    /// Reads the next frame from the original body, and keeps it for the other attempts.
    fn read_on(&mut self, source: &Source<B>, body: B, cx: &mut Context<'_>) -> Polled {
        let State::Shared { position, has_given_trailers, .. } = &mut self.state else {
            return Poll::Ready(None);
        };
        let mut reading = Reading { source, body: Some(body) };
        let Some(body) = reading.body.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx).map(|frame| frame.map(as_bytes));
        let rest = body.size_hint();
        let Some(body) = reading.body.take() else { return Poll::Ready(None) };
        let mut shared = source.lock();
        shared.rest = rest;
        let given = match polled {
            Poll::Pending => {
                shared.body = Original::Here(body);
                // Who comes next polls the body with another waker, and must wake this one too.
                shared.wait(cx);
                return Poll::Pending;
            }
            Poll::Ready(None) => {
                shared.body = Original::Over;
                None
            }
            Poll::Ready(Some(Err(error))) => {
                shared.body = Original::Lost;
                Some(Err(error))
            }
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if shared.bytes.saturating_add(data.len()) > shared.most_bytes => {
                    // Too much to keep: this attempt goes on alone.
                    shared.body = Original::Lost;
                    shared.frames = Vec::new();
                    self.state = State::Own(body);
                    Some(Ok(Frame::data(data)))
                }
                Ok(data) => {
                    shared.bytes += data.len();
                    shared.frames.push(data.clone());
                    shared.body = Original::Here(body);
                    *position += 1;
                    Some(Ok(Frame::data(data)))
                }
                Err(frame) => {
                    shared.trailers = frame.into_trailers().ok();
                    shared.body = Original::Over;
                    *has_given_trailers = true;
                    shared.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers)))
                }
            },
        };
        drop(shared);
        source.wake_all();
        Poll::Ready(given)
    }
}

/// Bytes as they are; other buffers by a copy.
fn as_bytes<D: Buf, E: Into<BoxError>>(
    frame: Result<Frame<D>, E>,
) -> Result<Frame<Bytes>, BoxError> {
    let frame = frame.map_err(Into::into)?;
    Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
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
            State::Own(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(as_bytes))
            }
            State::Shared { .. } => self.poll_shared(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Empty => true,
            State::Own(body) => body.is_end_stream(),
            State::Shared { source, position, has_given_trailers } => {
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
            State::Own(body) => body.size_hint(),
            State::Shared { source, position, .. } => {
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

/// The others no longer wait for what this one was to be woken for.
impl<B: Body> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        if let State::Shared { source, .. } = &self.state {
            source.wake_all();
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
            State::Own(_) => "own",
            State::Shared { .. } => "shared",
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
