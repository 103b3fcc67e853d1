use std::{
    cell::Cell,
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tower::BoxError;
use tower_service::Service;

/// A scripted inner service and the script that a test writes it with.
///
/// ```
/// use outrigger_testing::{Answer, scripted};
/// use tower::{Service, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (mut service, script) = scripted();
/// assert_eq!(service.ready().await.unwrap().call(41).await.unwrap(), 42);
///
/// script.answer(Answer::Error);
/// assert!(service.ready().await.unwrap().call(1).await.is_err());
/// assert_eq!((script.calls(), script.alive()), (2, 0));
/// # }
/// ```
#[must_use]
pub fn scripted() -> (Scripted, Script) {
    let script = Script { shared: Arc::default() };
    (Scripted { script: script.clone(), is_ready: Cell::new(false) }, script)
}

/// An inner service that does what its [`Script`] says, and panics when this very value is called
/// without having been polled ready. A clone is not ready.
///
/// Its value holds a `Cell`, so it is not `Sync`: no layer may need that.
#[derive(Debug)]
pub struct Scripted {
    script: Script,
    /// Set by `poll_ready` of this value, taken by `call`.
    is_ready: Cell<bool>,
}

/// What a [`Scripted`] service does, and what it has seen. Clones share the script.
#[derive(Clone, Debug)]
pub struct Script {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    calls: AtomicUsize,
    polls: AtomicUsize,
    alive: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lines {
    readiness: Readiness,
    answer: Answer,
    waiting: Vec<Waker>,
}

/// What `poll_ready` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// Ready at once.
    #[default]
    Ready,
    /// Pending until the script says otherwise.
    Pending,
    /// A [`ScriptedError`].
    Error,
}

/// What becomes of a call. A call keeps the answer that stood when it was made, except that one
/// made while `Pending` stands gets the answer that comes after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The request plus one.
    #[default]
    Ok,
    /// A [`ScriptedError`].
    Error,
    /// Pending so many times, waking itself each time; then the request plus one.
    OkAfter(usize),
    /// Pending until the script says otherwise.
    Pending,
    /// A panic in `call`.
    PanicInCall,
    /// Pending so many times, waking itself each time; then a panic.
    PanicAfter(usize),
}

/// The user's own error, which every layer must pass on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScriptedError;

impl fmt::Display for ScriptedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scripted inner service failed")
    }
}

impl Error for ScriptedError {}

impl Script {
    /// Says what `poll_ready` answers from now on, and wakes who waits.
    pub fn readiness(&self, readiness: Readiness) {
        let waiting = {
            let mut lines = self.lines();
            lines.readiness = readiness;
            std::mem::take(&mut lines.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Says what becomes of calls from now on, and wakes who waits.
    pub fn answer(&self, answer: Answer) {
        let waiting = {
            let mut lines = self.lines();
            lines.answer = answer;
            std::mem::take(&mut lines.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// How many calls were made.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// How often the futures of calls were polled.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.shared.polls.load(Ordering::Relaxed)
    }

    /// How many futures of calls were not dropped yet.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.shared.alive.load(Ordering::Relaxed)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, cx: &Context<'_>) {
        self.lines().waiting.push(cx.waker().clone());
    }
}

/// Not ready, whatever the original was.
impl Clone for Scripted {
    fn clone(&self) -> Self {
        Self { script: self.script.clone(), is_ready: Cell::new(false) }
    }
}

impl Service<u32> for Scripted {
    type Response = u32;
    type Error = BoxError;
    type Future = ScriptedFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let readiness = self.script.lines().readiness;
        self.is_ready.set(readiness == Readiness::Ready);
        match readiness {
            Readiness::Ready => Poll::Ready(Ok(())),
            Readiness::Error => Poll::Ready(Err(ScriptedError.into())),
            Readiness::Pending => {
                self.script.wait(cx);
                Poll::Pending
            }
        }
    }

    fn call(&mut self, request: u32) -> ScriptedFuture {
        assert!(
            self.is_ready.take(),
            "law broken: the inner service was called, but this value was not polled ready"
        );
        self.script.shared.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.script.lines().answer;
        assert!(answer != Answer::PanicInCall, "the script says: panic in `call`");
        self.script.shared.alive.fetch_add(1, Ordering::Relaxed);
        ScriptedFuture { script: self.script.clone(), request, answer: Some(answer) }
    }
}

/// Response future of [`Scripted`].
#[derive(Debug)]
pub struct ScriptedFuture {
    script: Script,
    request: u32,
    /// `None` once it was given.
    answer: Option<Answer>,
}

impl Future for ScriptedFuture {
    type Output = Result<u32, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.script.shared.polls.fetch_add(1, Ordering::Relaxed);
        if self.answer == Some(Answer::Pending) {
            let stands = self.script.lines().answer;
            self.answer = Some(stands);
        }
        let answer = self.answer.expect("law broken: an inner future was polled after its end");
        match answer {
            Answer::Ok | Answer::OkAfter(0) => {
                self.answer = None;
                Poll::Ready(Ok(self.request.wrapping_add(1)))
            }
            Answer::Error => {
                self.answer = None;
                Poll::Ready(Err(ScriptedError.into()))
            }
            Answer::PanicInCall | Answer::PanicAfter(0) => panic!("the script says: panic in poll"),
            Answer::Pending => {
                self.script.wait(cx);
                Poll::Pending
            }
            Answer::OkAfter(more) | Answer::PanicAfter(more) => {
                self.answer = Some(match answer {
                    Answer::OkAfter(_) => Answer::OkAfter(more - 1),
                    _ => Answer::PanicAfter(more - 1),
                });
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Drop for ScriptedFuture {
    fn drop(&mut self) {
        self.script.shared.alive.fetch_sub(1, Ordering::Relaxed);
    }
}
