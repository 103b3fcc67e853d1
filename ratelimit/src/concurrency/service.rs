use std::task::{Context, Poll};

use outrigger_core::{CarryContext, Rejection, TrackCompletion};
use tower_service::Service;

use super::{
    choose::{ChooseLimit, LearnResult},
    future::{ConcurrencyLimitFuture, State},
    limit::Entry,
};
use crate::{ReadCriticality, criticality::asking};

/// Asks a concurrency limit for a place for each call. Made by
/// [`ConcurrencyLimitLayer`](crate::ConcurrencyLimitLayer).
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitService<S, L, T, X, R> {
    pub(crate) inner: S,
    pub(crate) limits: L,
    pub(crate) completion: T,
    pub(crate) context: X,
    pub(crate) criticality: R,
}

impl<S, L, T, X, R> ConcurrencyLimitService<S, L, T, X, R> {
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

impl<S, Request, L, T, X, R> Service<Request> for ConcurrencyLimitService<S, L, T, X, R>
where
    S: Service<Request> + Clone,
    S::Error: From<Rejection>,
    L: ChooseLimit<Request>,
    L::Permit: LearnResult<S::Response, S::Error>,
    T: TrackCompletion<S::Response, L::Permit> + Clone,
    X: CarryContext<Request>,
    R: ReadCriticality<Request>,
{
    type Response = T::Response;
    type Error = S::Error;
    type Future = ConcurrencyLimitFuture<S, Request, L::Permit, L::Wait, T>;

    /// Ready when the inner service is. Being ready takes no place.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request) -> Self::Future {
        let asking = asking(&mut request, &self.context, &self.criticality);
        // Each case makes the future where the caller wants it: moving one costs as much as the
        // rest.
        match self.limits.enter_for(&request, asking) {
            Entry::Admitted(permit) => {
                let completion = self.completion.clone();
                ConcurrencyLimitFuture {
                    state: State::Running { response: self.inner.call(request) },
                    permit: Some(permit),
                    completion,
                }
            }
            Entry::Waiting(wait) => {
                // Clones that are not ready, here and in the call that waits: the ready value is
                // dropped, so that it keeps no place of a service further in from anybody.
                let not_ready = self.inner.clone();
                self.inner = not_ready.clone();
                let held = Some((not_ready, request));
                ConcurrencyLimitFuture {
                    state: State::Waiting { wait, held },
                    permit: None,
                    completion: self.completion.clone(),
                }
            }
            Entry::Refused(rejection) => ConcurrencyLimitFuture {
                state: State::Refused { error: Some(rejection.into()) },
                permit: None,
                completion: self.completion.clone(),
            },
        }
    }
}
