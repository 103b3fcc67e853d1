use std::task::{Context, Poll};

use http::{HeaderMap, Request};
use outrigger_core::{CarryContext, InExtensions};
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
/// ```
/// use http::Request;
/// use outrigger_retry::{Chain, ChainLayer};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let server = ServiceBuilder::new()
///     .layer(ChainLayer::new())
///     .service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Chain::current().is_retry()) });
///
/// let retry = Request::builder().header("rpc-persist-retryreq", "1").body(())?;
/// assert!(server.oneshot(retry).await?);
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

impl<S, B> Service<Request<B>> for ChainService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ChainScope<S::Future>;

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
        chain.scope(self.inner.call(request))
    }
}

fn is_retry(headers: &HeaderMap) -> bool {
    let says = |value: &http::HeaderValue| value != "0";
    headers.get(RETRY_MARK).is_some_and(says) || headers.get(PREVIOUS_ATTEMPTS).is_some_and(says)
}
