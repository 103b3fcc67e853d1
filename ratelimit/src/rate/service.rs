use std::task::{Context, Poll};

use outrigger_core::{CarryContext, Rejection};
use tower_service::Service;

use super::{
    future::{RateLimitFuture, State},
    layer::{ChooseRateLimit, PriceOf, deadline_of},
};

/// Takes tokens from a rate limit for each call. Made by
/// [`RateLimitLayer`](crate::RateLimitLayer).
#[derive(Clone, Debug)]
pub struct RateLimitService<S, L, P, X> {
    pub(super) inner: S,
    pub(super) limits: L,
    pub(super) price: P,
    pub(super) context: X,
}

impl<S, L, P, X> RateLimitService<S, L, P, X> {
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

impl<S, Request, L, P, X> Service<Request> for RateLimitService<S, L, P, X>
where
    S: Service<Request> + Clone,
    S::Error: From<Rejection>,
    L: ChooseRateLimit<Request>,
    P: PriceOf<Request>,
    X: CarryContext<Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RateLimitFuture<S, Request, L::Observer>;

    /// Ready when the inner service is. Being ready takes no token.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let cost = self.price.price_of(&request);
        let deadline = deadline_of(&self.context, &request);
        // Each case makes the future where the caller wants it: moving one costs too much.
        match self.limits.enter_for(&request, cost, deadline) {
            Ok(None) => {
                RateLimitFuture { state: State::Running { response: self.inner.call(request) } }
            }
            Ok(Some(wait)) => {
                // Clones that are not ready, here and in the call that waits: the ready value is
                // dropped, so that it keeps no place of a service further in from anybody.
                let not_ready = self.inner.clone();
                self.inner = not_ready.clone();
                let held = Some((not_ready, request));
                RateLimitFuture { state: State::Waiting { wait, held } }
            }
            Err(rejection) => {
                RateLimitFuture { state: State::Refused { error: Some(rejection.into()) } }
            }
        }
    }
}
