use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{Classify, TrackCompletion};
use pin_project::pin_project;

use super::{CallOutcome, PendingCall, ReadStatus, call::Call};
use crate::Tracer;

/// Response future of [`ObserveService`](crate::ObserveService).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and then ends the call as cancelled: the in-flight count goes
/// down, the duration is recorded, the span and the tracers are told.
#[pin_project]
pub struct ObserveFuture<F, P, C, T, X: Tracer> {
    #[pin]
    pub(super) state: State<F, P, C, T, X>,
}

#[pin_project(project = StateProj)]
pub(super) enum State<F, P, C, T, X: Tracer> {
    Running {
        /// Before the call, so that it is dropped before the call ends.
        #[pin]
        response: F,
        /// Taken when the response is there.
        call: Option<Call<X>>,
        protocol: P,
        classifier: C,
        completion: T,
    },
    Done,
}

impl<F, P, C, T, X, Response, Error> Future for ObserveFuture<F, P, C, T, X>
where
    F: Future<Output = Result<Response, Error>>,
    P: ReadStatus<Response, Error> + Clone,
    C: Classify<Response, Error> + Clone,
    T: TrackCompletion<Response, PendingCall<P, C, X, Response, Error>>,
    X: Tracer,
{
    type Output = Result<T::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let output = match state.as_mut().project() {
            StateProj::Running { response, call, protocol, classifier, completion } => {
                let polled = match call.as_mut() {
                    Some(call) => call.enter(|| response.poll(cx)),
                    None => response.poll(cx),
                };
                let result = ready!(polled);
                let outcome = classifier.classify(result.as_ref());
                let status = protocol.status(result.as_ref());
                let call = call.take().expect("taken once, as `Done` follows");
                match result {
                    Ok(response) => {
                        let (protocol, classifier) = (protocol.clone(), classifier.clone());
                        let of = PhantomData;
                        let held = PendingCall { call, outcome, status, protocol, classifier, of };
                        Ok(completion.track(response, held))
                    }
                    Err(error) => {
                        call.end(CallOutcome::new(outcome, status), status);
                        Err(error)
                    }
                }
            }
            StateProj::Done => panic!("`ObserveFuture` polled after completion"),
        };
        // Drops the inner future now, however long the caller keeps this one.
        state.set(State::Done);
        Poll::Ready(output)
    }
}

impl<F, P, C, T, X: Tracer> fmt::Debug for ObserveFuture<F, P, C, T, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_done = matches!(self.state, State::Done);
        f.debug_struct("ObserveFuture").field("is_done", &is_done).finish_non_exhaustive()
    }
}
