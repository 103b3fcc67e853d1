use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::Observe;
use pin_project::pin_project;
use tower_service::Service;

use super::{event::RateLimitEvent, limit::RateWait};

/// A wait for tokens that has begun.
#[derive(Debug)]
pub struct Waiting<O: Observe<RateLimitEvent> = ()>(pub(super) RateWait<O>);

/// Response future of [`RateLimitService`](crate::RateLimitService).
///
/// # Cancel safety
///
/// Dropping it while it waits leaves the queue, and what it was given goes back. Once the inner
/// call has begun its tokens are spent.
#[pin_project]
pub struct RateLimitFuture<S: Service<Request>, Request, O: Observe<RateLimitEvent>> {
    #[pin]
    pub(super) state: State<S, Request, S::Future, S::Error, O>,
}

#[pin_project(project = StateProj)]
pub(super) enum State<S, Request, F, E, O: Observe<RateLimitEvent>> {
    Waiting {
        wait: Waiting<O>,
        /// Taken when there are tokens.
        held: Option<(S, Request)>,
    },
    /// Has its tokens; its service is not ready yet.
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

impl<S, Request, O> Future for RateLimitFuture<S, Request, O>
where
    S: Service<Request>,
    O: Observe<RateLimitEvent>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let output = loop {
            match state.as_mut().project() {
                StateProj::Waiting { wait, held } => {
                    ready!(Pin::new(&mut wait.0).poll(cx));
                    let held = held.take();
                    state.set(State::Readying { held });
                }
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
                StateProj::Running { response } => break ready!(response.poll(cx)),
                StateProj::Refused { error } => {
                    break Err(error.take().expect("taken once, as `Done` follows"));
                }
                StateProj::Done => panic!("`RateLimitFuture` polled after completion"),
            }
        };
        // Drops the inner future now, however long the caller keeps this one.
        state.set(State::Done);
        Poll::Ready(output)
    }
}

impl<S, Request, O> fmt::Debug for RateLimitFuture<S, Request, O>
where
    S: Service<Request>,
    O: Observe<RateLimitEvent>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting { .. } => "Waiting",
            State::Readying { .. } => "Readying",
            State::Running { .. } => "Running",
            State::Refused { .. } => "Refused",
            State::Done => "Done",
        };
        f.debug_struct("RateLimitFuture").field("state", &state).finish_non_exhaustive()
    }
}
