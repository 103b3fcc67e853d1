//! The criticality of a call, said to the callee.

use std::task::{Context, Poll};

use http::Request;
use outrigger_core::InExtensions;
use tower_layer::Layer;
use tower_service::Service;

use super::{CriticalityHeader, FromContext, ReadCriticality, asking};

/// Writes into a header of each outgoing call how much it matters, so that the limits of the
/// callee can tell.
///
/// What the reader says goes first ([`reader`](Self::reader)), then what the
/// [`AttemptContext`](outrigger_core::AttemptContext) in the request's extensions has, which is
/// where a server's limits put it. A call that says nothing gets no header; one that has the
/// header already and says nothing else keeps it.
///
/// A handler passes the importance of its own call on with the context: it copies that from the
/// extensions of the request that it serves to those of the requests that it makes.
///
/// ```
/// use http::Request;
/// use outrigger_core::Criticality;
/// use outrigger_ratelimit::PassOnCriticalityLayer;
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let is_prefetch = |request: &Request<()>| {
///     request.uri().path().starts_with("/prefetch").then_some(Criticality::Sheddable)
/// };
/// let client = ServiceBuilder::new()
///     .layer(PassOnCriticalityLayer::new().reader(is_prefetch))
///     .service_fn(|request: Request<()>| async move {
///         assert_eq!(request.headers()["x-criticality"], "SHEDDABLE");
///         Ok::<_, BoxError>(())
///     });
/// client.oneshot(Request::get("/prefetch/7").body(())?).await
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct PassOnCriticalityLayer<R = FromContext> {
    header: CriticalityHeader,
    reader: R,
}

/// Writes the header. Made by [`PassOnCriticalityLayer`].
#[derive(Clone, Debug)]
pub struct PassOnCriticality<S, R = FromContext> {
    inner: S,
    header: CriticalityHeader,
    reader: R,
}

impl PassOnCriticalityLayer {
    /// Writes `x-criticality`, by the context.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<R> PassOnCriticalityLayer<R> {
    /// Writes another header.
    #[must_use]
    pub fn header(self, header: CriticalityHeader) -> Self {
        Self { header, ..self }
    }

    /// Asks `reader`, a closure or a header, before the context.
    #[must_use]
    pub fn reader<Q>(self, reader: Q) -> PassOnCriticalityLayer<Q> {
        PassOnCriticalityLayer { header: self.header, reader }
    }
}

impl<S, R: Clone> Layer<S> for PassOnCriticalityLayer<R> {
    type Service = PassOnCriticality<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { header, reader } = self.clone();
        PassOnCriticality { inner, header, reader }
    }
}

impl<S, R, B> Service<Request<B>> for PassOnCriticality<S, R>
where
    S: Service<Request<B>>,
    R: ReadCriticality<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Into the context too, for the layers further in.
        asking(&mut request, &InExtensions, &self.reader);
        let context = request.extensions().get::<outrigger_core::AttemptContext>();
        if let Some(criticality) = context.and_then(|context| context.criticality) {
            self.header.write(request.headers_mut(), criticality);
        }
        self.inner.call(request)
    }
}
