use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use outrigger_core::{CarryContext, InExtensions};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Chain, ChainScope};
use crate::{
    CarryDeadline, GrpcDeadline, Now,
    retry::{PREVIOUS_ATTEMPTS, RETRY_MARK},
};

/// Tells a server's handlers whether the call that they serve is a retry, and when it must be over.
///
/// Reads the mark of retries (`rpc-persist-retryreq`, Kitex's persistent key `RetryReq`),
/// `grpc-previous-rpc-attempts` and `grpc-timeout`. The retries and time-outs of the calls that a
/// handler makes look at it by themselves ([`Chain`]): the first are not retried, the others end in
/// time. Put it outermost on a server.
///
/// When a call that the handler made has failed beyond what its retries could do, and the handler's
/// own answer is a failure too, the answer says `grpc-retry-pushback-ms: -1`: whoever is further up
/// would only repeat what was tried. So the last of many hops sees the retries of one, not their
/// power: retry only in the layer right above the failure (Google's SRE book, chapter 22).
///
/// ```
/// use http::{Request, Response};
/// use outrigger_retry::{Chain, ChainLayer};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let server = ServiceBuilder::new().layer(ChainLayer::new()).service_fn(|_: Request<()>| async {
///     Ok::<_, BoxError>(Response::new(Chain::current().is_retry()))
/// });
///
/// let retry = Request::builder().header("rpc-persist-retryreq", "1").body(())?;
/// assert!(server.oneshot(retry).await?.into_body());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ChainLayer {
    _private: (),
}

impl ChainLayer {
    /// Reads headers of HTTP and gRPC.
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl<S> Layer<S> for ChainLayer {
    type Service = ChainService<S>;

    fn layer(&self, inner: S) -> ChainService<S> {
        ChainService { inner }
    }
}

/// Tells handlers what the call that they serve says. Made by [`ChainLayer`].
#[derive(Clone, Debug)]
pub struct ChainService<S> {
    inner: S,
}

impl<S, B, C> Service<Request<B>> for ChainService<S>
where
    S: Service<Request<B>, Response = Response<C>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ChainFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let chain = Chain::default()
            .with_retry(is_retry(request.headers()))
            .with_deadline(GrpcDeadline.deadline(&request, &mut Now::default()));
        if chain != Chain::default() {
            let mut context = InExtensions.context(&request).cloned().unwrap_or_default();
            context.caller_is_retry |= chain.is_retry();
            context.deadline = chain.deadline();
            InExtensions.set_context(&mut request, context);
        }
        let _entered = chain.enter();
        ChainFuture { scope: chain.scope(self.inner.call(request)) }
    }
}

fn is_retry(headers: &HeaderMap) -> bool {
    let says = |value: &http::HeaderValue| value != "0";
    headers.get(RETRY_MARK).is_some_and(says) || headers.get(PREVIOUS_ATTEMPTS).is_some_and(says)
}

/// Response future of [`ChainService`].
#[pin_project]
#[derive(Clone, Debug)]
pub struct ChainFuture<F> {
    #[pin]
    scope: ChainScope<F>,
}

impl<F, B, E> Future for ChainFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut scope = self.project().scope;
        let mut answer = ready!(scope.as_mut().poll(cx));
        if let Ok(response) = &mut answer
            && scope.has_given_up()
            && is_failure(response)
        {
            response.headers_mut().entry(PUSHBACK).or_insert(HeaderValue::from_static("-1"));
        }
        Poll::Ready(answer)
    }
}

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

fn is_failure<B>(response: &Response<B>) -> bool {
    let status = response.status();
    let grpc_status = response.headers().get("grpc-status");
    status.is_server_error()
        || status == http::StatusCode::TOO_MANY_REQUESTS
        || grpc_status.is_some_and(|status| status != "0")
}
