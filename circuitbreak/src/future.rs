use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{Classify, Complete, End, Observe, Outcome, TrackCompletion};
use pin_project::pin_project;

use crate::{CircuitBreakerEvent, Permit};

/// Response future of [`CircuitBreakerService`](crate::CircuitBreakerService).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and gives the permit back: the call counts as the policy's
/// [`Abandoned`](crate::Abandoned) says, and a probe's place is free at once.
#[pin_project]
#[derive(Debug)]
pub struct CircuitBreakerFuture<F, O: Observe<CircuitBreakerEvent>, C, T, E> {
    #[pin]
    pub(crate) state: State<F, O, C, T, E>,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
pub(crate) enum State<F, O: Observe<CircuitBreakerEvent>, C, T, E> {
    Running {
        #[pin]
        response: F,
        /// Taken when the response is there.
        permit: Option<Permit<O>>,
        classifier: C,
        completion: T,
    },
    Refused {
        /// The user's error, which is mostly smaller than the refusal that it was made of.
        error: Option<E>,
    },
    Done,
}

impl<F, O, C, T, Response, Error> Future for CircuitBreakerFuture<F, O, C, T, Error>
where
    F: Future<Output = Result<Response, Error>>,
    O: Observe<CircuitBreakerEvent>,
    C: Classify<Response, Error> + Clone,
    T: TrackCompletion<Response, PendingOutcome<C, O, Response, Error>>,
{
    type Output = Result<T::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let output = match state.as_mut().project() {
            StateProj::Running { response, permit, classifier, completion } => {
                // Matched before it is moved: a response is often smaller than an error.
                match ready!(response.poll(cx)) {
                    Ok(response) => {
                        let outcome = classifier.classify(Ok(&response));
                        // A head that already tells the failure is not kept waiting for its body.
                        if outcome != Outcome::Success
                            && let Some(permit) = permit.take()
                        {
                            permit.record(outcome);
                        }
                        let (permit, classifier) = (permit.take(), classifier.clone());
                        let held = PendingOutcome { permit, classifier, of: PhantomData };
                        Ok(completion.track(response, held))
                    }
                    Err(error) => {
                        let outcome = classifier.classify(Err(&error));
                        if let Some(permit) = permit.take() {
                            permit.record(outcome);
                        }
                        Err(error)
                    }
                }
            }
            StateProj::Refused { error } => {
                Err(error.take().expect("taken once, as `Done` follows"))
            }
            StateProj::Done => panic!("`CircuitBreakerFuture` polled after completion"),
        };
        // Drops the inner future now, however long the caller keeps this one.
        state.set(State::Done);
        Poll::Ready(output)
    }
}

/// A call whose response is there and looks well, but is not over yet. Waits in the response body.
pub struct PendingOutcome<C, O: Observe<CircuitBreakerEvent>, Response, Error> {
    /// `None` when the head has told the outcome already.
    permit: Option<Permit<O>>,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies have trailers"))]
    classifier: C,
    of: PhantomData<fn(&Response, &Error)>,
}

impl<C, O, Response, Error> Complete for PendingOutcome<C, O, Response, Error>
where
    C: Classify<Response, Error>,
    O: Observe<CircuitBreakerEvent>,
{
    #[inline]
    fn complete(self, end: End<'_>) {
        let Some(permit) = self.permit else { return };
        permit.record(match end {
            #[cfg(feature = "http")]
            End::Trailers(trailers) => {
                self.classifier.classify_trailers(Outcome::Success, trailers)
            }
            End::BodyFailed => Outcome::Failure,
            // A caller who drops a body has seen enough of a response that went well.
            _ => Outcome::Success,
        });
    }
}

impl<C, O, Response, Error> fmt::Debug for PendingOutcome<C, O, Response, Error>
where
    O: Observe<CircuitBreakerEvent>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingOutcome").field("permit", &self.permit).finish_non_exhaustive()
    }
}
