use std::{
    pin::Pin,
    task::{Context, Poll},
};

use outrigger_core::{CarryContext, Moment, NameMethod};
#[cfg(feature = "tonic")]
use outrigger_retry::ReplayBody;
use pin_project::pin_project;
use tower_service::Service;

use super::{Envelope, Governed, Wire};
use crate::{Governance, ObserveGovernance};

/// The outside of a stack: finds what governs a call. All layers of the stack then share one look
/// at the clock on the way in, and one on the way out.
#[derive(Debug)]
pub struct Enter<S, W, O = ()> {
    inner: S,
    wire: W,
    governance: Governance<O>,
}

impl<S: Clone, W: Clone, O> Clone for Enter<S, W, O> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), &self.wire, &self.governance)
    }
}

impl<S, W: Clone, O> Enter<S, W, O> {
    pub(super) fn new(inner: S, wire: &W, governance: &Governance<O>) -> Self {
        Self { inner, wire: wire.clone(), governance: governance.clone() }
    }
}

impl<S, W, O, R> Service<R> for Enter<S, W, O>
where
    S: Service<Governed<R, O, W::Envelope>>,
    W: Wire,
    W::Namer: NameMethod<R>,
    O: ObserveGovernance,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = EnterFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: R) -> Self::Future {
        let method = self.wire.namer().name_method(&request);
        let state = self.governance.resolve(method);
        let governed = Governed::new(request, state, W::Envelope::default());
        Moment::share(|| EnterFuture { response: self.inner.call(governed) })
    }
}

/// Where the context stays in the envelope ([`InEnvelope`](super::InEnvelope)), puts there what the
/// request says, or else the call that is being served: from here on the envelope alone counts.
#[derive(Clone, Debug)]
pub struct HoldContext<S, W> {
    inner: S,
    wire: W,
}

impl<S, W: Clone> HoldContext<S, W> {
    pub(super) fn new(inner: S, wire: &W) -> Self {
        Self { inner, wire: wire.clone() }
    }
}

impl<S, W, R, O, E> Service<Governed<R, O, E>> for HoldContext<S, W>
where
    S: Service<Governed<R, O, E>>,
    W: Wire,
    W::Context: CarryContext<R>,
    E: Envelope,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Governed<R, O, E>) -> Self::Future {
        request.hold_context(|| self.wire.context());
        self.inner.call(request)
    }
}

/// Response future of a whole stack.
///
/// # Cancel safety
///
/// Dropping it drops the futures of all its layers, from the outside in.
#[derive(Debug)]
#[pin_project]
pub struct EnterFuture<F> {
    #[pin]
    response: F,
}

impl<F: Future> Future for EnterFuture<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Moment::share(|| self.project().response.poll(cx))
    }
}

/// The inside of a stack: gives the request to the user's service.
#[derive(Clone, Debug)]
pub struct Leave<S>(pub(crate) S);

impl<S, R, O, E> Service<Governed<R, O, E>> for Leave<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LeaveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Governed<R, O, E>) -> Self::Future {
        Moment::leave(|| LeaveFuture { response: self.0.call(request.into_request()) })
    }
}

/// Response future of the user's service, which takes as long as it takes.
#[derive(Debug)]
#[pin_project]
pub struct LeaveFuture<F> {
    #[pin]
    response: F,
}

impl<F: Future> Future for LeaveFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Moment::leave(|| self.project().response.poll(cx))
    }
}

/// The inside of a stack over a `tonic` channel, whose body has a type of its own.
#[cfg(feature = "tonic")]
#[derive(Clone, Debug)]
pub struct LeaveForTonic<S>(pub(super) S);

#[cfg(feature = "tonic")]
impl<S, B, O, E> Service<Governed<http::Request<B>, O, E>> for LeaveForTonic<S>
where
    S: Service<http::Request<tonic::body::Body>>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LeaveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Governed<http::Request<B>, O, E>) -> Self::Future {
        Moment::leave(|| LeaveFuture {
            response: self.0.call(request.into_request().map(as_tonic)),
        })
    }
}

/// A body of tonic's own that is sent once only is as it was: to box it again would allocate.
#[cfg(feature = "tonic")]
fn as_tonic<B>(body: B) -> tonic::body::Body
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = Some(body);
    let any = <dyn std::any::Any>::downcast_mut::<Option<ReplayBody<tonic::body::Body>>>(&mut body);
    if let Some(replay) = any.and_then(Option::take) {
        return replay.into();
    }
    body.map(tonic::body::Body::new).unwrap_or_default()
}
