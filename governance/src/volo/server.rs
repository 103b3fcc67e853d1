use std::future::poll_fn;

use outrigger_core::Rejection;
use tokio::time::Instant;
use tower_layer::Layer as TowerLayer;
use tower_service::Service as TowerService;
use volo::{Layer, Service, context::Context};
use volo_thrift::{ServerError, context::ServerContext};

use super::{
    attempt::{Callers, Innermost, serves_retry},
    call::{Call, ServerWire},
    error::{ThriftError, server_error},
};
use crate::{Governance, ObserveGovernance, ServerLayer};

/// The layers of a Volo server, for its `layer_front`. Made by [`Governance::volo_server`].
#[derive(Debug)]
pub struct VoloServerLayer<O = ()> {
    stack: ServerLayer<ServerWire, O>,
    refused: fn(Rejection) -> ServerError,
}

impl<O> Clone for VoloServerLayer<O> {
    fn clone(&self) -> Self {
        Self { stack: self.stack.clone(), refused: self.refused }
    }
}

impl<O: ObserveGovernance> Governance<O> {
    /// The layers of a Volo server: as [`server`](Self::server), around `motore`'s services.
    #[must_use]
    pub fn volo_server(&self) -> VoloServerLayer<O> {
        let stack = self.server_over(ServerWire);
        VoloServerLayer { stack, refused: |rejection| server_error(&rejection) }
    }
}

impl<O> VoloServerLayer<O> {
    /// Makes the server's error of a refusal, instead of an application exception of kind
    /// `INTERNAL_ERROR` with its text.
    #[must_use]
    pub fn refuse_with(self, refused: fn(Rejection) -> ServerError) -> Self {
        Self { refused, ..self }
    }
}

impl<S, O> Layer<S> for VoloServerLayer<O> {
    type Service = VoloServerService<S, O>;

    fn layer(self, inner: S) -> Self::Service {
        VoloServerService { inner, layer: self }
    }
}

/// A governed Volo server. Made by [`VoloServerLayer`].
#[derive(Debug)]
pub struct VoloServerService<S, O = ()> {
    inner: S,
    layer: VoloServerLayer<O>,
}

impl<S: Clone, O> Clone for VoloServerService<S, O> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, Req, O> Service<ServerContext, Req> for VoloServerService<S, O>
where
    S: Service<ServerContext, Req, Response: Send, Error = ServerError> + Sync,
    Req: Send,
    O: ObserveGovernance + Send + Sync,
{
    type Response = S::Response;
    type Error = ServerError;

    async fn call(&self, cx: &mut ServerContext, request: Req) -> Result<S::Response, ServerError> {
        let call = Call::received(cx, request);
        let callers = Callers::new(cx);
        let inner = Innermost(|call| handle(&self.inner, &callers, call));
        let mut stack = self.layer.stack.layer(inner);
        let result = match poll_fn(|task| stack.poll_ready(task)).await {
            Ok(()) => stack.call(call).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| error.or_else(self.layer.refused))
    }
}

async fn handle<S, Req>(
    inner: &S,
    callers: &Callers<'_, ServerContext>,
    call: Call<Req>,
) -> Result<S::Response, ThriftError<ServerError>>
where
    S: Service<ServerContext, Req, Error = ServerError>,
{
    let chain = call.chain(serves_retry());
    let mut lent = callers.lend();
    let Some(cx) = lent.cx.as_deref_mut() else {
        // Only if the call were handled twice, and no layer of a server does that.
        return Err(Rejection::unavailable("volo", "context_in_use").into());
    };
    if let Some(deadline) = call.deadline() {
        let timeout = deadline.saturating_duration_since(Instant::now());
        cx.rpc_info_mut().config_mut().set_rpc_timeout(Some(timeout));
    }
    chain.scope(inner.call(cx, call.request)).await.map_err(ThriftError::Failed)
}
