use std::{
    cell::Cell,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use tower::BoxError;
use tower_service::Service;

use crate::{Answer, Readiness, Script, ScriptedError, script::Place};

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
    let script = Script::default();
    (Scripted::new(script.clone()), script)
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
    /// Held from when this value is ready.
    place: Option<Place>,
}

impl Scripted {
    /// A service that does what `script` says.
    #[must_use]
    pub const fn new(script: Script) -> Self {
        Self { script, is_ready: Cell::new(false), place: None }
    }
}

/// Not ready, whatever the original was.
impl Clone for Scripted {
    fn clone(&self) -> Self {
        Self::new(self.script.clone())
    }
}

impl Service<u32> for Scripted {
    type Response = u32;
    type Error = BoxError;
    type Future = ScriptedFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.script.seen.ready_polls.fetch_add(1, Ordering::Relaxed);
        self.is_ready.set(false);
        match self.script.take_readiness() {
            Readiness::Ready | Readiness::ReadyAfter(0) => {
                self.place = self.place.take().or_else(|| self.script.take_place());
                if self.place.is_some() {
                    self.is_ready.set(true);
                    return Poll::Ready(Ok(()));
                }
                self.script.wait(cx);
            }
            Readiness::ReadyAfter(_) => cx.waker().wake_by_ref(),
            Readiness::Pending => self.script.wait(cx),
            Readiness::Error => return Poll::Ready(Err(ScriptedError.into())),
            Readiness::Panic => panic!("the script says: panic in `poll_ready`"),
        }
        Poll::Pending
    }

    fn call(&mut self, request: u32) -> ScriptedFuture {
        assert!(
            self.is_ready.take(),
            "law broken: the inner service was called, but this value was not polled ready"
        );
        let place = self.place.take();
        self.script.seen.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.script.take_answer();
        assert!(answer != Answer::PanicInCall, "the script says: panic in `call`");
        self.script.seen.alive.fetch_add(1, Ordering::Relaxed);
        ScriptedFuture { script: self.script.clone(), request, answer: Some(answer), place }
    }
}

/// Response future of [`Scripted`].
#[derive(Debug)]
pub struct ScriptedFuture {
    pub(crate) script: Script,
    request: u32,
    /// `None` once it was given.
    answer: Option<Answer>,
    place: Option<Place>,
}

impl Future for ScriptedFuture {
    type Output = Result<u32, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.script.seen.polls.fetch_add(1, Ordering::Relaxed);
        let answer =
            self.answer.take().expect("law broken: an inner future was polled after its end");
        let answer = match answer {
            Answer::Pending => self.script.standing_answer(),
            answer => answer,
        };
        let (left, waits) = match answer {
            Answer::OkAfter(more @ 1..) => (Answer::OkAfter(more - 1), false),
            Answer::ErrorAfter(more @ 1..) => (Answer::ErrorAfter(more - 1), false),
            Answer::PanicAfter(more @ 1..) => (Answer::PanicAfter(more - 1), false),
            Answer::Pending => (Answer::Pending, true),
            last => {
                self.place = None;
                return Poll::Ready(self.end(last));
            }
        };
        self.answer = Some(left);
        if waits {
            self.script.wait(cx);
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl ScriptedFuture {
    fn end(&self, answer: Answer) -> Result<u32, BoxError> {
        match answer {
            Answer::Error | Answer::ErrorAfter(_) => Err(ScriptedError.into()),
            Answer::PanicInCall | Answer::PanicAfter(_) => panic!("the script says: panic in poll"),
            Answer::Ok | Answer::OkAfter(_) | Answer::Pending => Ok(self.request.wrapping_add(1)),
        }
    }
}

impl Drop for ScriptedFuture {
    fn drop(&mut self) {
        self.script.seen.alive.fetch_sub(1, Ordering::Relaxed);
        if self.answer.is_some() {
            self.script.seen.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}
