use std::future::poll_fn;

use outrigger_core::{AttemptContext, Classify, Rejection};
use outrigger_retry::Chain;
use tower_layer::Layer as TowerLayer;
use tower_service::Service as TowerService;
use volo::{Layer, Service, context::Context};
use volo_thrift::{ClientError, context::ClientContext};

use super::{
    ThriftOutcome,
    attempt::{Callers, Innermost, attempt, serves_retry},
    call::{Before, ClientWire},
    error::client_error,
};
use crate::{ClientLayer, Governance, ObserveGovernance};

/// The layers of a Volo client, for its builder's `layer_outer`. Made by
/// [`Governance::volo_client`].
#[derive(Debug)]
pub struct VoloClientLayer<O = (), C = ThriftOutcome> {
    stack: ClientLayer<ClientWire<C>, O>,
    refused: fn(Rejection) -> ClientError,
}

impl<O, C: Clone> Clone for VoloClientLayer<O, C> {
    fn clone(&self) -> Self {
        Self { stack: self.stack.clone(), refused: self.refused }
    }
}

impl<O: ObserveGovernance> Governance<O> {
    /// The layers of a Volo client: as [`client`](Self::client), around `motore`'s services.
    #[must_use]
    pub fn volo_client(&self) -> VoloClientLayer<O> {
        let stack = self.client_over(ClientWire(ThriftOutcome));
        VoloClientLayer { stack, refused: client_error }
    }
}

impl<O: ObserveGovernance, C> VoloClientLayer<O, C> {
    /// Judges answers by `classifier`.
    #[must_use]
    pub fn classify<D: Clone>(self, classifier: D) -> VoloClientLayer<O, D> {
        let stack = self.stack.governance().client_over(ClientWire(classifier));
        VoloClientLayer { stack, refused: self.refused }
    }

    /// Makes the caller's error of a refusal. [`rejection`](super::rejection) finds it in what is
    /// made without this.
    #[must_use]
    pub fn refuse_with(self, refused: fn(Rejection) -> ClientError) -> Self {
        Self { refused, ..self }
    }
}

impl<S, O, C> Layer<S> for VoloClientLayer<O, C> {
    type Service = VoloClientService<S, O, C>;

    fn layer(self, inner: S) -> Self::Service {
        VoloClientService { inner, layer: self }
    }
}

/// A governed Volo client. Made by [`VoloClientLayer`].
#[derive(Debug)]
pub struct VoloClientService<S, O = (), C = ThriftOutcome> {
    inner: S,
    layer: VoloClientLayer<O, C>,
}

impl<S: Clone, O, C: Clone> Clone for VoloClientService<S, O, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, Req, O, C> Service<ClientContext, Req> for VoloClientService<S, O, C>
where
    S: Service<ClientContext, Req, Response: Send, Error = ClientError> + Sync,
    Req: Clone + Send,
    O: ObserveGovernance + Send + Sync,
    C: Classify<S::Response, ClientError> + Clone + Send + Sync,
{
    type Response = S::Response;
    type Error = ClientError;

    async fn call(&self, cx: &mut ClientContext, request: Req) -> Result<S::Response, ClientError> {
        let before = Before::new(cx);
        let result = {
            let callers = Callers::new(&mut *cx);
            let inner = Innermost(|call| attempt(&self.inner, &before, &callers, call));
            let mut stack = self.layer.stack.layer(inner);
            match poll_fn(|task| stack.poll_ready(task)).await {
                Ok(()) => stack.call(before.call(request, first_context())).await,
                Err(error) => Err(error),
            }
        };
        cx.rpc_info_mut().set_config(before.config);
        let answer = result.map_err(|error| error.or_else(self.layer.refused))?;
        if let Some(own) = answer.own {
            cx.rpc_info_mut().callee_mut().address = own.rpc_info().callee().address();
            cx.inner.clone_from(&own.inner);
        }
        Ok(answer.response)
    }
}

/// What the call that is being served says. Without one there is nothing to say.
fn first_context() -> Option<AttemptContext> {
    let chain = Chain::current();
    let (is_retry, deadline) = (chain.is_retry() || serves_retry(), chain.deadline());
    (is_retry || deadline.is_some()).then(|| {
        let mut context = AttemptContext::default();
        context.caller_is_retry = is_retry;
        context.deadline = deadline;
        context
    })
}
