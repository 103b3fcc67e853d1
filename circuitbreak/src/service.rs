use std::task::{Context, Poll};

use outrigger_core::{Classify, Rejection, TrackCompletion};
use tower_service::Service;

use crate::{ChooseBreaker, CircuitBreakerFuture, PendingOutcome, future::State};

/// Asks a circuit breaker before each call. Made by
/// [`CircuitBreakerLayer`](crate::CircuitBreakerLayer).
#[derive(Clone, Debug)]
pub struct CircuitBreakerService<S, B, C, T> {
    pub(crate) inner: S,
    pub(crate) breakers: B,
    pub(crate) classifier: C,
    pub(crate) completion: T,
}

impl<S, B, C, T> CircuitBreakerService<S, B, C, T> {
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

impl<S, Request, B, C, T> Service<Request> for CircuitBreakerService<S, B, C, T>
where
    S: Service<Request>,
    S::Error: From<Rejection>,
    B: ChooseBreaker<Request>,
    C: Classify<S::Response, S::Error> + Clone,
    T: TrackCompletion<S::Response, PendingOutcome<C, B::Observer, S::Response, S::Error>> + Clone,
{
    type Response = T::Response;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, B::Observer, C, T, S::Error>;

    /// Ready when the inner service is. An open circuit is no reason to wait: it refuses the call.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        // Each case makes the future where the caller wants it: moving one costs as much as the
        // rest.
        match self.breakers.try_acquire_for(&request) {
            Ok(permit) => {
                let (classifier, completion) = (self.classifier.clone(), self.completion.clone());
                CircuitBreakerFuture {
                    state: State::Running {
                        response: self.inner.call(request),
                        permit: Some(permit),
                        classifier,
                        completion,
                    },
                }
            }
            Err(rejection) => {
                CircuitBreakerFuture { state: State::Refused { error: Some(rejection.into()) } }
            }
        }
    }
}
