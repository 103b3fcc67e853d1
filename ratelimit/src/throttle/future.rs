use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{Classify, Complete, End, Outcome, TrackCompletion};
use pin_project::pin_project;

use super::permit::ThrottlePermit;

/// Response future of [`ClientThrottleService`](crate::ClientThrottleService).
///
/// # Cancel safety
///
/// Dropping it drops the inner future; the call counts as the policy's
/// [`CutShort`](crate::CutShort) says.
#[pin_project]
pub struct ClientThrottleFuture<F, O, C, T, E> {
    #[pin]
    pub(super) state: State<F, E>,
    // Beside the state, so that the response's future is made where it stays: from a place among
    // other fields of a state it would be moved once more.
    /// Taken when the response is there. After the state, so that it is dropped after it.
    pub(super) permit: Option<ThrottlePermit<O>>,
    pub(super) classifier: C,
    pub(super) completion: T,
}

#[pin_project(project = StateProj)]
pub(super) enum State<F, E> {
    Running {
        #[pin]
        response: F,
    },
    Refused {
        /// The user's error, which is mostly smaller than the refusal that it was made of.
        error: Option<E>,
    },
    Done,
}

impl<F, O, C, T, Response, Error> Future for ClientThrottleFuture<F, O, C, T, Error>
where
    F: Future<Output = Result<Response, Error>>,
    C: Classify<Response, Error> + Clone,
    T: TrackCompletion<Response, PendingAnswer<C, O, Response, Error>>,
{
    type Output = Result<T::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut state, permit, classifier) = (this.state, this.permit, this.classifier);
        let output = match state.as_mut().project() {
            StateProj::Running { response } => {
                match ready!(response.poll(cx)) {
                    Ok(response) => {
                        let head = classifier.classify(Ok(&response));
                        // A head that tells the refusal already is not kept waiting for its body.
                        if head.is_failure()
                            && let Some(permit) = permit.take()
                        {
                            permit.not_accepted();
                        }
                        let (permit, classifier) = (permit.take(), classifier.clone());
                        let pending = PendingAnswer { permit, classifier, head, of: PhantomData };
                        Ok(this.completion.track(response, pending))
                    }
                    Err(error) => {
                        let outcome = classifier.classify(Err(&error));
                        if let Some(permit) = permit.take() {
                            match outcome {
                                Outcome::Success => permit.accepted(),
                                Outcome::Failure | Outcome::Timeout => permit.not_accepted(),
                                // A layer further in kept the call back: no word of the callee's.
                                Outcome::Ignored => permit.not_sent(),
                            }
                        }
                        Err(error)
                    }
                }
            }
            StateProj::Refused { error } => {
                Err(error.take().expect("taken once, as `Done` follows"))
            }
            StateProj::Done => panic!("`ClientThrottleFuture` polled after completion"),
        };
        // Drops the inner future now, however long the caller keeps this one.
        state.set(State::Done);
        Poll::Ready(output)
    }
}

impl<F, O, C, T, E> fmt::Debug for ClientThrottleFuture<F, O, C, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Running { .. } => "Running",
            State::Refused { .. } => "Refused",
            State::Done => "Done",
        };
        f.debug_struct("ClientThrottleFuture").field("state", &state).finish_non_exhaustive()
    }
}

/// A call whose answer has begun and is not over yet. Waits in the response body.
pub struct PendingAnswer<C, O, Response, Error> {
    /// `None` when the head has told all already.
    permit: Option<ThrottlePermit<O>>,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies have trailers"))]
    classifier: C,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies have trailers"))]
    head: Outcome,
    of: PhantomData<fn(&Response, &Error)>,
}

impl<C, O, Response, Error> Complete for PendingAnswer<C, O, Response, Error>
where
    C: Classify<Response, Error>,
{
    #[inline]
    fn complete(self, end: End<'_>) {
        let Some(permit) = self.permit else { return };
        let outcome = match end {
            #[cfg(feature = "http")]
            End::Trailers(trailers) => self.classifier.classify_trailers(self.head, trailers),
            End::BodyFailed => Outcome::Failure,
            // A caller who drops a body has seen the call accepted.
            _ => Outcome::Success,
        };
        // What the callee answers is answered, be it the caller's own mistake.
        if outcome.is_failure() {
            permit.not_accepted();
        } else {
            permit.accepted();
        }
    }
}

impl<C, O, Response, Error> fmt::Debug for PendingAnswer<C, O, Response, Error> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAnswer").field("permit", &self.permit).finish_non_exhaustive()
    }
}
