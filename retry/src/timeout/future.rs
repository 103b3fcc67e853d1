use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use outrigger_core::{Observe, Rejection, Timer};
use pin_project::pin_project;
use tokio::time::Instant;

use super::{ReadTimeout, TimeoutEvent};

/// Response future of [`TimeoutService`](super::TimeoutService).
///
/// # Cancel safety
///
/// Dropping it drops the inner future and the timer.
#[pin_project]
#[derive(Debug)]
pub struct TimeoutFuture<F, D, O> {
    #[pin]
    pub(super) state: State<F>,
    // Beside the state, so that the response's future is made where it stays: from a place among
    // other fields of a state it would be moved once more.
    pub(super) limit: Limit,
    /// Armed when the inner future is pending for the first time.
    pub(super) timer: Timer,
    pub(super) carrier: D,
    pub(super) observer: O,
    pub(super) is_shadow: bool,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
pub(super) enum State<F> {
    Running {
        #[pin]
        response: F,
    },
    TooLate,
    Done,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    Never,
    /// So long after the call was found pending.
    AfterFirstPoll(Duration),
    At {
        deadline: Instant,
        since: Instant,
    },
}

impl<F, D, O, Response, Error> Future for TimeoutFuture<F, D, O>
where
    F: Future<Output = Result<Response, Error>>,
    D: ReadTimeout<Response>,
    O: Observe<TimeoutEvent>,
    Error: From<Rejection> + 'static,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (limit, timer) = (this.limit, this.timer);
        let output = match this.state.as_mut().project() {
            StateProj::Running { response } => match response.poll(cx) {
                Poll::Ready(Ok(response)) => {
                    // An answer at once is nobody's time-out.
                    let is_word = timer.is_armed() && this.carrier.is_timeout(&response);
                    let cut = is_word && !*this.is_shadow;
                    match cut.then(|| limit.passed()).flatten() {
                        Some(after) => Err(timed_out(after, false, this.observer).into()),
                        None => Ok(response),
                    }
                }
                Poll::Ready(Err(error)) => match limit.passed() {
                    // Somebody further in was told the same deadline, and has his own timer and
                    // words for it: tonic's channel gives `CANCELLED`. A refusal says better what
                    // became of the call: one that waited for a place was never sent.
                    Some(after) if !*this.is_shadow && Rejection::find_in(&error).is_none() => {
                        Err(timed_out(after, false, this.observer).into())
                    }
                    _ => Err(error),
                },
                Poll::Pending => {
                    let after = ready!(expired(limit, timer, cx));
                    let rejection = timed_out(after, *this.is_shadow, this.observer);
                    if *this.is_shadow {
                        *limit = Limit::Never;
                        return Poll::Pending;
                    }
                    Err(rejection.into())
                }
            },
            StateProj::TooLate => {
                Err(Rejection::deadline_exceeded("timeout", "deadline_passed").into())
            }
            StateProj::Done => panic!("`TimeoutFuture` polled after completion"),
        };
        // Drops the inner future and the timer now, however long the caller keeps this future.
        this.state.set(State::Done);
        timer.disarm();
        Poll::Ready(output)
    }
}

/// Tells the observer.
fn timed_out(after: Duration, shadow: bool, observer: &impl Observe<TimeoutEvent>) -> Rejection {
    observer.observe("", &TimeoutEvent::TimedOut { after, shadow });
    Rejection::deadline_exceeded("timeout", "timed_out").sent()
}

impl Limit {
    /// The time that the call had, if its deadline is over.
    fn passed(self) -> Option<Duration> {
        match self {
            Self::At { deadline, since } if Instant::now() >= deadline => {
                Some(deadline.saturating_duration_since(since))
            }
            _ => None,
        }
    }
}

/// Ready with the time that the call had, when that is over.
fn expired(limit: &mut Limit, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Duration> {
    let (deadline, since) = match *limit {
        Limit::Never => return Poll::Pending,
        Limit::At { deadline, since } => (deadline, since),
        Limit::AfterFirstPoll(timeout) => {
            let since = Instant::now();
            let Some(deadline) = since.checked_add(timeout) else {
                *limit = Limit::Never;
                return Poll::Pending;
            };
            *limit = Limit::At { deadline, since };
            (deadline, since)
        }
    };
    timer.arm(deadline);
    ready!(timer.poll(cx));
    timer.disarm();
    Poll::Ready(deadline.saturating_duration_since(since))
}
