use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{Classify, Observe, Rejection};
use pin_project::pin_project;
use tower_service::Service;

use super::{RetryEvent, attempt::Attempt, protocol::Protocol, race::Race};
use crate::CloneRequest;

/// Response future of [`RetryService`](super::RetryService).
///
/// # Cancel safety
///
/// Dropping it drops all attempts and the timer, and gives back a share of the budget that waits
/// to be used. What is sent stays counted.
#[pin_project]
pub struct RetryFuture<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
{
    #[pin]
    pub(super) state: State<S, R, P, C, O, Request>,
}

#[pin_project(project = StateProj)]
pub(super) enum State<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
{
    /// Nobody looks at how it ends.
    Once {
        #[pin]
        attempt: Attempt<S::Future, P::Settle>,
        protocol: P,
    },
    Race(#[pin] Race<S, R, P, C, O, Request>),
    Done,
}

impl<S, R, P, C, O, Request> Future for RetryFuture<S, R, P, C, O, Request>
where
    S: Service<R::Sent> + Clone,
    S::Error: From<Rejection>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
    C: Classify<P::Answer, S::Error>,
    O: Observe<RetryEvent>,
{
    type Output = Result<P::Answer, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let output = match this.state.as_mut().project() {
            StateProj::Once { attempt, protocol } => {
                ready!(attempt.poll_answer(&*protocol, false, cx))
            }
            StateProj::Race(race) => ready!(race.poll(cx)),
            StateProj::Done => panic!("`RetryFuture` polled after completion"),
        };
        // Cancels the other attempts now, however long the caller keeps this future.
        this.state.set(State::Done);
        Poll::Ready(output)
    }
}

impl<S, R, P, C, O, Request> fmt::Debug for RetryFuture<S, R, P, C, O, Request>
where
    S: Service<R::Sent>,
    R: CloneRequest<Request>,
    P: Protocol<R::Sent, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Once { .. } => "once",
            State::Race(_) => "race",
            State::Done => "done",
        };
        f.debug_struct("RetryFuture").field("state", &state).finish_non_exhaustive()
    }
}
