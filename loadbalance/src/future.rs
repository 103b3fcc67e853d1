use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use outrigger_core::{CarryContext, Classify, Outcome, Rejection, Timer, TrackCompletion};
use pin_project::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    BalanceEvent, HashKey,
    held::HeldCall,
    snapshot::{Asking, Shared},
};

/// The life of one call to a [`BalanceService`](crate::BalanceService).
///
/// # Cancel safety
///
/// Dropping it takes the call off its endpoint's count. What was cancelled counts neither as a
/// success nor as a failure, and never as fast.
#[pin_project]
pub struct BalanceFuture<S, Request, C, T, X>
where
    S: Service<Request>,
{
    #[pin]
    state: State<S, Request, C, X>,
    complete_on: T,
}

#[pin_project(project = StateProjection)]
enum State<S, Request, C, X>
where
    S: Service<Request>,
{
    /// The endpoint is not ready yet; the request is still here.
    Connecting {
        connecting: Connecting<S, Request, C, X>,
        /// Armed when the endpoint is awaited.
        timer: Timer,
    },
    Calling {
        #[pin]
        future: S::Future,
        held: Option<HeldCall<C, S::Response, S::Error>>,
    },
    Refused(Option<Rejection>),
    Done,
}

/// What is kept while an endpoint is not ready.
pub(crate) struct Connecting<S, Request, C, X>
where
    S: Service<Request>,
{
    pub(crate) shared: Arc<Shared<S>>,
    pub(crate) service: S,
    pub(crate) held: Option<HeldCall<C, S::Response, S::Error>>,
    pub(crate) request: Option<Request>,
    pub(crate) carry: X,
    pub(crate) classify: C,
    pub(crate) rng: fastrand::Rng,
    pub(crate) key: Option<HashKey>,
    /// The ids of the endpoints that could not be connected.
    pub(crate) unreachable: Vec<u64>,
    /// Why the present endpoint could not be connected, when that is known already.
    pub(crate) failed: Option<S::Error>,
}

impl<S, Request, C, T, X> BalanceFuture<S, Request, C, T, X>
where
    S: Service<Request>,
{
    pub(crate) const fn refused(rejection: Rejection, complete_on: T) -> Self {
        Self { state: State::Refused(Some(rejection)), complete_on }
    }

    pub(crate) const fn calling(
        future: S::Future,
        held: HeldCall<C, S::Response, S::Error>,
        complete_on: T,
    ) -> Self {
        Self { state: State::Calling { future, held: Some(held) }, complete_on }
    }

    pub(crate) const fn connecting(
        connecting: Connecting<S, Request, C, X>,
        complete_on: T,
    ) -> Self {
        Self { state: State::Connecting { connecting, timer: Timer::new() }, complete_on }
    }
}

impl<S, Request, C, T, X> Future for BalanceFuture<S, Request, C, T, X>
where
    S: Service<Request> + Clone,
    S::Error: From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    T: TrackCompletion<S::Response, HeldCall<C, S::Response, S::Error>>,
    X: CarryContext<Request>,
{
    type Output = Result<T::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Connecting { connecting, timer } => {
                    let next = match ready!(connecting.poll(timer, cx)) {
                        Ok((future, held)) => State::Calling { future, held: Some(held) },
                        Err(error) => {
                            this.state.set(State::Done);
                            return Poll::Ready(Err(error));
                        }
                    };
                    this.state.set(next);
                }
                StateProjection::Calling { future, held } => {
                    let Poll::Ready(result) = future.poll(cx) else {
                        if let Some(held) = held {
                            held.show();
                        }
                        return Poll::Pending;
                    };
                    let held = held.take();
                    this.state.set(State::Done);
                    let Some(held) = held else { continue };
                    return Poll::Ready(match result {
                        Ok(response) => {
                            let held = held.answered(&response);
                            Ok(this.complete_on.track(response, held))
                        }
                        Err(error) => {
                            held.failed(&error);
                            Err(error)
                        }
                    });
                }
                StateProjection::Refused(rejection) => {
                    let rejection = rejection.take();
                    this.state.set(State::Done);
                    let Some(rejection) = rejection else { continue };
                    return Poll::Ready(Err(rejection.into()));
                }
                StateProjection::Done => panic!("polled after the call was over"),
            }
        }
    }
}

type Sent<S, Request, C> = (
    <S as Service<Request>>::Future,
    HeldCall<C, <S as Service<Request>>::Response, <S as Service<Request>>::Error>,
);

impl<S, Request, C, X> Connecting<S, Request, C, X>
where
    S: Service<Request> + Clone,
    S::Error: From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    X: CarryContext<Request>,
{
    /// Waits for the endpoint, goes on to others, and at last hands the request over.
    fn poll(
        &mut self,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sent<S, Request, C>, S::Error>> {
        loop {
            let ready = match self.failed.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => self.service.poll_ready(cx),
            };
            let (error, timed_out) = match ready {
                Poll::Ready(Ok(())) => {
                    if let Some(sent) = self.send() {
                        return Poll::Ready(Ok(sent));
                    }
                    // The endpoint was removed while it was awaited.
                    (Rejection::unavailable("loadbalance", "endpoint_removed").into(), None)
                }
                Poll::Ready(Err(error)) => (error, Some(false)),
                Poll::Pending => {
                    if !timer.is_armed() {
                        let timeout = self.shared.policy().connect_timeout();
                        // One that reaches beyond all time never ends a wait.
                        if let Some(end) = Instant::now().checked_add(timeout) {
                            timer.arm(end);
                        }
                    }
                    ready!(timer.poll(cx));
                    (Rejection::unavailable("loadbalance", "connect_timeout").into(), Some(true))
                }
            };
            timer.disarm();
            if !self.go_on(timed_out) {
                return Poll::Ready(Err(error));
            }
        }
    }

    fn send(&mut self) -> Option<Sent<S, Request, C>> {
        let held = self.held.as_ref()?;
        if held.is_removed() {
            return None;
        }
        let held = self.held.take()?;
        let request = self.request.take()?;
        if let Some(tried) = self.carry.context(&request).and_then(|context| context.tried.as_ref())
        {
            tried.note(held.endpoint_id());
        }
        Some((self.service.call(request), held))
    }

    /// Leaves the present endpoint, which failed to connect unless it was removed, and picks
    /// another. Says whether there is one.
    fn go_on(&mut self, timed_out: Option<bool>) -> bool {
        if let Some(call) = self.held.take().map(HeldCall::not_sent) {
            self.unreachable.push(call.endpoint_id());
            if let Some(timed_out) = timed_out {
                let node = call.node().cloned();
                call.end(Outcome::Failure);
                let event = BalanceEvent::ConnectFailed { timed_out };
                if let Some(node) = node {
                    self.shared.fleet.tell(&node, Some(event));
                }
            }
        }
        let picks = self.shared.policy().failover_picks();
        if self.unreachable.len() > usize::try_from(picks).unwrap_or(usize::MAX) {
            return false;
        }
        let Some(request) = &self.request else { return false };
        let mut asking = Asking {
            rng: &mut self.rng,
            key: self.key,
            tried: self.carry.context(request).and_then(|context| context.tried.as_ref()),
            unreachable: &self.unreachable,
        };
        let Ok((service, mut call)) = self.shared.begin(&mut asking, || None) else { return false };
        call.show();
        self.service = service;
        self.held = Some(HeldCall::new(call, self.classify.clone()));
        true
    }
}

impl<S, Request, C, T, X> fmt::Debug for BalanceFuture<S, Request, C, T, X>
where
    S: Service<Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Connecting { .. } => "Connecting",
            State::Calling { .. } => "Calling",
            State::Refused(_) => "Refused",
            State::Done => "Done",
        };
        f.debug_struct("BalanceFuture").field("state", &state).finish_non_exhaustive()
    }
}
