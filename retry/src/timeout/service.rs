use std::task::{Context, Poll};

use outrigger_core::{Enforcement, Observe, Rejection, Timer};
use tower_service::Service;

use super::{
    CarryDeadline, ChooseTimeout, ReadTimeout, TimeoutEvent, TimeoutFuture, TimeoutPolicy,
    future::{Limit, State},
    source::Now,
};

/// Cuts calls short that run too long. Made by [`TimeoutLayer`](super::TimeoutLayer).
#[derive(Clone, Debug)]
pub struct TimeoutService<S, P, D, O> {
    pub(super) inner: S,
    pub(super) policies: P,
    pub(super) carrier: D,
    pub(super) observer: O,
}

impl<S, P, D, O> TimeoutService<S, P, D, O> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, Request, P, D, O> Service<Request> for TimeoutService<S, P, D, O>
where
    S: Service<Request>,
    S::Error: From<Rejection> + 'static,
    P: ChooseTimeout<Request>,
    D: CarryDeadline<Request> + ReadTimeout<S::Response> + Clone,
    O: Observe<TimeoutEvent> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future, D, O>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request) -> Self::Future {
        let policy = self.policies.choose(&request);
        let is_shadow = policy.enforcement() == Enforcement::Shadow;
        let limit = match policy.enforcement() {
            Enforcement::Disabled => Limit::Never,
            // The clock need not be read before the call is pending.
            _ if !self.carrier.carries() => {
                policy.timeout().map_or(Limit::Never, Limit::AfterFirstPoll)
            }
            _ => self.limit_with_deadline(&policy, &mut request),
        };
        if let Limit::At { deadline, since } = limit
            && deadline <= since
        {
            self.observer.observe("", &TimeoutEvent::TooLate { shadow: is_shadow });
            if !is_shadow {
                return TimeoutFuture {
                    state: State::TooLate,
                    limit,
                    timer: Timer::new(),
                    carrier: self.carrier.clone(),
                    observer: self.observer.clone(),
                    is_shadow,
                };
            }
        }
        let (carrier, observer) = (self.carrier.clone(), self.observer.clone());
        TimeoutFuture {
            state: State::Running { response: self.inner.call(request) },
            limit,
            timer: Timer::new(),
            carrier,
            observer,
            is_shadow,
        }
    }
}

impl<S, P, D, O> TimeoutService<S, P, D, O> {
    /// The earlier of the policy's deadline and the request's, which is passed on with the request.
    fn limit_with_deadline<Request>(&self, policy: &TimeoutPolicy, request: &mut Request) -> Limit
    where
        D: CarryDeadline<Request>,
    {
        let mut now = Now::default();
        let honoured = policy.honours_request();
        let theirs = if honoured { self.carrier.deadline(request, &mut now) } else { None };
        let ours = policy.timeout().and_then(|timeout| now.get().checked_add(timeout));
        let Some(deadline) = ours.into_iter().chain(theirs).min() else { return Limit::Never };
        if policy.enforcement() == Enforcement::Enforced {
            self.carrier.set_deadline(request, deadline, &mut now);
        }
        Limit::At { deadline, since: now.get() }
    }
}
