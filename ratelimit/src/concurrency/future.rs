use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{Complete, Rejection, TrackCompletion};
use pin_project::pin_project;
use tower_service::Service;

use super::choose::LearnResult;

/// Response future of [`ConcurrencyLimitService`](crate::ConcurrencyLimitService).
///
/// # Cancel safety
///
/// Dropping it leaves the queue, or drops the inner future and gives the place back.
#[pin_project]
pub struct ConcurrencyLimitFuture<S, Request, P, W, T>
where
    S: Service<Request>,
{
    #[pin]
    pub(super) state: State<S, Request, S::Future, S::Error, W>,
    // Beside the state, so that the response's future is made where it stays: from a place among
    // other fields of a state it would be moved once more.
    /// Taken when the response is there. After the state, so that it is dropped after it.
    pub(super) permit: Option<P>,
    pub(super) completion: T,
}

#[pin_project(project = StateProj)]
pub(super) enum State<S, Request, F, E, W> {
    Waiting {
        #[pin]
        wait: W,
        /// Taken when there is a place.
        held: Option<(S, Request)>,
    },
    /// Has a place; its service is not ready yet.
    Readying {
        held: Option<(S, Request)>,
    },
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

impl<S, Request, P, W, T> Future for ConcurrencyLimitFuture<S, Request, P, W, T>
where
    S: Service<Request>,
    S::Error: From<Rejection>,
    P: Complete + LearnResult<S::Response, S::Error>,
    W: Future<Output = Result<P, Rejection>>,
    T: TrackCompletion<S::Response, P>,
{
    type Output = Result<T::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut state, permit) = (this.state, this.permit);
        let output = loop {
            match state.as_mut().project() {
                StateProj::Waiting { wait, held } => match ready!(wait.poll(cx)) {
                    Ok(place) => {
                        *permit = Some(place);
                        let held = held.take();
                        state.set(State::Readying { held });
                    }
                    Err(rejection) => break Err(rejection.into()),
                },
                StateProj::Readying { held } => {
                    let (service, _) = held.as_mut().expect("taken once, as another state follows");
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        break Err(error);
                    }
                    let (mut service, request) =
                        held.take().expect("taken once, as another state follows");
                    let response = service.call(request);
                    state.set(State::Running { response });
                }
                StateProj::Running { response } => {
                    let result = ready!(response.poll(cx));
                    let mut permit = permit.take().expect("taken once, as `Done` follows");
                    permit.learn(result.as_ref());
                    break result.map(|response| this.completion.track(response, permit));
                }
                StateProj::Refused { error } => {
                    break Err(error.take().expect("taken once, as `Done` follows"));
                }
                StateProj::Done => panic!("`ConcurrencyLimitFuture` polled after completion"),
            }
        };
        // Drops the inner future now, however long the caller keeps this one; then the place of a
        // call that was not sent.
        state.set(State::Done);
        *permit = None;
        Poll::Ready(output)
    }
}

impl<S, Request, P, W, T> fmt::Debug for ConcurrencyLimitFuture<S, Request, P, W, T>
where
    S: Service<Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting { .. } => "Waiting",
            State::Readying { .. } => "Readying",
            State::Running { .. } => "Running",
            State::Refused { .. } => "Refused",
            State::Done => "Done",
        };
        f.debug_struct("ConcurrencyLimitFuture").field("state", &state).finish_non_exhaustive()
    }
}
