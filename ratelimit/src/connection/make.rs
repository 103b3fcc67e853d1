use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{Observe, Rejection};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::limit::ConnectionLimit;
use crate::{ConcurrencyLimitEvent, Permit};

/// Limits how many services a make-service has out at once: one for each connection.
///
/// A connection beyond the limit gets a [`Rejection`] instead of a service; to let it wait, limit
/// the listener ([`ConnectionLimit::listener`]).
#[derive(Clone, Debug)]
pub struct ConnectionLimitLayer<O = ()> {
    limit: ConnectionLimit<O>,
}

impl<O> ConnectionLimitLayer<O> {
    /// All make-services of this layer share `limit`.
    #[must_use]
    pub const fn from_handle(limit: ConnectionLimit<O>) -> Self {
        Self { limit }
    }

    /// The limit.
    #[must_use]
    pub const fn handle(&self) -> &ConnectionLimit<O> {
        &self.limit
    }
}

impl<M, O> Layer<M> for ConnectionLimitLayer<O> {
    type Service = LimitedMakeService<M, O>;

    fn layer(&self, inner: M) -> Self::Service {
        LimitedMakeService { inner, limit: self.limit.clone() }
    }
}

/// Makes services that have a place. Made by [`ConnectionLimitLayer`].
#[derive(Clone, Debug)]
pub struct LimitedMakeService<M, O = ()> {
    inner: M,
    limit: ConnectionLimit<O>,
}

impl<M, Target, O> Service<Target> for LimitedMakeService<M, O>
where
    M: Service<Target>,
    M::Error: From<Rejection>,
    O: Observe<ConcurrencyLimitEvent>,
{
    type Response = LimitedService<M::Response, O>;
    type Error = M::Error;
    type Future = LimitedMakeFuture<M::Future, O>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let state = match self.limit.try_acquire() {
            Ok(permit) => State::Making { making: self.inner.call(target), permit: Some(permit) },
            Err(rejection) => State::Refused { rejection: Some(rejection) },
        };
        LimitedMakeFuture { state }
    }
}

/// Response future of [`LimitedMakeService`].
///
/// # Cancel safety
///
/// Dropping it gives the place back.
#[pin_project]
pub struct LimitedMakeFuture<F, O = ()> {
    #[pin]
    state: State<F, O>,
}

#[pin_project(project = StateProj)]
enum State<F, O> {
    Making {
        #[pin]
        making: F,
        /// Taken when the service is there.
        permit: Option<Permit<O>>,
    },
    Refused {
        rejection: Option<Rejection>,
    },
    Done,
}

impl<F, S, E, O> Future for LimitedMakeFuture<F, O>
where
    F: Future<Output = Result<S, E>>,
    E: From<Rejection>,
{
    type Output = Result<LimitedService<S, O>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let output = match state.as_mut().project() {
            StateProj::Making { making, permit } => {
                let made = ready!(making.poll(cx));
                let permit = permit.take().expect("taken once, as `Done` follows");
                made.map(|inner| LimitedService { inner, _permit: permit })
            }
            StateProj::Refused { rejection } => {
                let rejection = rejection.take().expect("taken once, as `Done` follows");
                Err(rejection.into())
            }
            StateProj::Done => panic!("`LimitedMakeFuture` polled after completion"),
        };
        state.set(State::Done);
        Poll::Ready(output)
    }
}

impl<F, O> fmt::Debug for LimitedMakeFuture<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedMakeFuture").finish_non_exhaustive()
    }
}

/// The service of one connection. Dropping it gives the connection's place back.
#[derive(Debug)]
pub struct LimitedService<S, O = ()> {
    inner: S,
    _permit: Permit<O>,
}

impl<S, Request, O> Service<Request> for LimitedService<S, O>
where
    S: Service<Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.inner.call(request)
    }
}
