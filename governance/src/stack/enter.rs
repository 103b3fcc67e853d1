use std::task::{Context, Poll};

use outrigger_core::NameMethod;
use tower_service::Service;

use super::{Governed, Wire};
use crate::{Governance, ObserveGovernance};

/// The outside of a stack: finds what governs a call.
#[derive(Debug)]
pub struct Enter<S, W, O = ()> {
    pub(super) inner: S,
    pub(super) wire: W,
    pub(super) governance: Governance<O>,
}

impl<S: Clone, W: Clone, O> Clone for Enter<S, W, O> {
    fn clone(&self) -> Self {
        let (inner, wire) = (self.inner.clone(), self.wire.clone());
        Self { inner, wire, governance: self.governance.clone() }
    }
}

impl<S, W, O, R> Service<R> for Enter<S, W, O>
where
    S: Service<Governed<R, O>>,
    W: Wire,
    W::Namer: NameMethod<R>,
    O: ObserveGovernance,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        let state = self.governance.resolve(self.wire.namer().name_method(&request));
        self.inner.call(Governed::new(request, state))
    }
}

/// The inside of a stack: gives the request to the user's service.
#[derive(Clone, Debug)]
pub struct Leave<S>(pub(crate) S);

impl<S, R, O> Service<Governed<R, O>> for Leave<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Governed<R, O>) -> S::Future {
        self.0.call(request.request)
    }
}

/// The inside of a stack over a `tonic` channel, whose body has a type of its own.
#[cfg(feature = "tonic")]
#[derive(Clone, Debug)]
pub struct LeaveForTonic<S>(pub(super) S);

#[cfg(feature = "tonic")]
impl<S, B, O> Service<Governed<http::Request<B>, O>> for LeaveForTonic<S>
where
    S: Service<http::Request<tonic::body::Body>>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Governed<http::Request<B>, O>) -> S::Future {
        self.0.call(request.request.map(tonic::body::Body::new))
    }
}
