use std::task::{Context, Poll};

use outrigger_core::{CarryContext, Classify, Rejection, TrackCompletion};
use tower_service::Service;

use super::{
    choose::ChooseThrottle,
    future::{ClientThrottleFuture, PendingAnswer, State},
};
use crate::{ReadCriticality, criticality::asking};

/// Asks a client throttle before each call. Made by
/// [`ClientThrottleLayer`](crate::ClientThrottleLayer).
#[derive(Clone, Debug)]
pub struct ClientThrottleService<S, L, C, T, X, R> {
    pub(super) inner: S,
    pub(super) throttles: L,
    pub(super) classifier: C,
    pub(super) completion: T,
    pub(super) context: X,
    pub(super) criticality: R,
}

impl<S, L, C, T, X, R> ClientThrottleService<S, L, C, T, X, R> {
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

impl<S, Request, L, C, T, X, R> Service<Request> for ClientThrottleService<S, L, C, T, X, R>
where
    S: Service<Request>,
    S::Error: From<Rejection>,
    L: ChooseThrottle<Request>,
    C: Classify<S::Response, S::Error> + Clone,
    T: TrackCompletion<S::Response, PendingAnswer<C, L::Observer, S::Response, S::Error>> + Clone,
    X: CarryContext<Request>,
    R: ReadCriticality<Request>,
{
    type Response = T::Response;
    type Error = S::Error;
    type Future = ClientThrottleFuture<S::Future, L::Observer, C, T, S::Error>;

    /// Ready when the inner service is. An overloaded callee is no reason to wait: some calls are
    /// refused.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request) -> Self::Future {
        let criticality = asking(&mut request, &self.context, &self.criticality).criticality;
        // Each case makes the future where the caller wants it: moving one costs too much.
        match self.throttles.try_acquire_for(&request, criticality) {
            Ok(permit) => {
                let (classifier, completion) = (self.classifier.clone(), self.completion.clone());
                ClientThrottleFuture {
                    state: State::Running { response: self.inner.call(request) },
                    permit: Some(permit),
                    classifier,
                    completion,
                }
            }
            Err(rejection) => ClientThrottleFuture {
                state: State::Refused { error: Some(rejection.into()) },
                permit: None,
                classifier: self.classifier.clone(),
                completion: self.completion.clone(),
            },
        }
    }
}
