use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use outrigger_core::{Observe, Rejection, Timer};
use pin_project::{pin_project, pinned_drop};
use tokio::time::Instant;

use super::{
    engine::{Asking, Verdict},
    event::{ConcurrencyLimitEvent, ConcurrencyRefusal},
    limit::{Entry, Stripe},
    permit::Permit,
};

/// Waits for a place. Needs tokio's timer.
///
/// # Cancel safety
///
/// Dropping it leaves the queue; a place that it was given already goes to the next.
#[pin_project(PinnedDrop)]
#[must_use = "a place is waited for by polling"]
pub struct Wait<O = ()> {
    stripe: Arc<Stripe<O>>,
    /// Its key in the queue, until it knows what became of it.
    key: Option<usize>,
    asking: Asking,
    since: Instant,
    /// Armed when it is first polled.
    timer: Timer,
}

impl<O> Wait<O> {
    pub(super) const fn new(
        stripe: Arc<Stripe<O>>,
        key: usize,
        asking: Asking,
        since: Instant,
    ) -> Self {
        Self { stripe, key: Some(key), asking, since, timer: Timer::new() }
    }
}

impl<O: Observe<ConcurrencyLimitEvent>> Future for Wait<O> {
    type Output = Result<Permit<O>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let shared = &this.stripe.shared;
        let key = this.key.expect("not polled after completion");
        let mut verdict = shared.gate.verdict(key, cx.waker().clone());
        if verdict == Verdict::None {
            if !this.timer.is_armed() {
                let latest = this.since.checked_add(shared.policy().load().max_wait());
                if let Some(end) = latest.into_iter().chain(this.asking.deadline).min() {
                    this.timer.arm(end);
                }
            }
            if this.timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            verdict = shared.gate.give_up(key);
        }
        *this.key = None;
        Poll::Ready(match verdict {
            Verdict::Place(wait) => {
                let permit = Permit::counted(Arc::clone(this.stripe));
                let criticality = this.asking.criticality;
                shared.tell(&ConcurrencyLimitEvent::Waited { wait, criticality });
                Ok(permit)
            }
            Verdict::Free => Ok(Permit::uncounted()),
            Verdict::Refused(refusal) => Err(shared.refuse(refusal, this.asking.criticality)),
            Verdict::None => {
                let over = this.asking.deadline.is_some_and(|end| end <= Instant::now());
                let refusal = if over {
                    ConcurrencyRefusal::DeadlinePassed
                } else {
                    ConcurrencyRefusal::WaitedTooLong
                };
                Err(shared.refuse(refusal, this.asking.criticality))
            }
        })
    }
}

#[pinned_drop]
impl<O> PinnedDrop for Wait<O> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Some(key) = this.key.take() {
            this.stripe.shared.give_up(key);
        }
    }
}

impl<O> fmt::Debug for Wait<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("asking", &self.asking).finish_non_exhaustive()
    }
}

/// Asks for a place and waits for it if need be. Made by
/// [`ConcurrencyLimit::acquire`](crate::ConcurrencyLimit::acquire).
///
/// # Cancel safety
///
/// As [`Wait`].
#[pin_project]
#[derive(Debug)]
#[must_use = "a place is waited for by polling"]
pub struct Acquire<O = ()> {
    #[pin]
    state: State<O>,
}

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State<O> {
    Known { result: Option<Result<Permit<O>, Rejection>> },
    Waiting(#[pin] Wait<O>),
}

impl<O> Acquire<O> {
    pub(super) fn new(entry: Entry<Permit<O>, Wait<O>>) -> Self {
        let state = match entry {
            Entry::Admitted(permit) => State::Known { result: Some(Ok(permit)) },
            Entry::Refused(rejection) => State::Known { result: Some(Err(rejection)) },
            Entry::Waiting(wait) => State::Waiting(wait),
        };
        Self { state }
    }
}

impl<O: Observe<ConcurrencyLimitEvent>> Future for Acquire<O> {
    type Output = Result<Permit<O>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Known { result } => {
                Poll::Ready(result.take().expect("not polled after completion"))
            }
            StateProj::Waiting(wait) => wait.poll(cx),
        }
    }
}
