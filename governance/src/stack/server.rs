use outrigger_core::Rejection;
use outrigger_ratelimit::{
    ChooseRateLimit, ConcurrencyLimitLayer, ConcurrencyLimitService, OneToken, RateLimitLayer,
    RateLimitService, Waiting,
};
use outrigger_retry::{TimeoutLayer, TimeoutService};
use tokio::time::Instant;
use tower_layer::{Identity, Layer, Stack};

use super::{AnyRequest, EitherLimit, Enter, Governed, HoldContext, Inner, OfCall, OfMethod, Wire};
use crate::{Governance, ObserveGovernance};

/// The layers of a server, in order: deadline, concurrency or adaptive limit, rate limit; of the
/// limits that of the whole server first, then that of the method.
///
/// What the policies leave out does nothing. [`around_calls`](Self::around_calls) puts a layer
/// outside all of it, but inside the look-up of a call's method.
#[derive(Debug)]
pub struct ServerLayer<W, O = (), C = Identity> {
    governance: Governance<O>,
    pub(super) wire: W,
    around_calls: C,
}

impl<W: Clone, O, C: Clone> Clone for ServerLayer<W, O, C> {
    fn clone(&self) -> Self {
        Self {
            governance: self.governance.clone(),
            wire: self.wire.clone(),
            around_calls: self.around_calls.clone(),
        }
    }
}

/// The limits of a whole server.
#[derive(Debug)]
pub struct OfServer<O> {
    pub(super) governance: Governance<O>,
}

impl<O> Clone for OfServer<O> {
    fn clone(&self) -> Self {
        Self { governance: self.governance.clone() }
    }
}

impl<R, O: ObserveGovernance, E> ChooseRateLimit<Governed<R, O, E>> for OfServer<O> {
    type Observer = O;

    fn enter_for(
        &self,
        request: &Governed<R, O, E>,
        cost: u32,
        deadline: Option<Instant>,
    ) -> Result<Option<Waiting<O>>, Rejection> {
        let server = self.governance.server_live().load();
        let Some(limit) = server.rate.acting() else { return Ok(None) };
        limit.enter_for(&request.request, cost, deadline)
    }
}

type Concurrency<S, L, W> = ConcurrencyLimitService<
    S,
    EitherLimit<L, <W as Wire>::Overload>,
    <W as Wire>::Completion,
    Inner<<W as Wire>::Context>,
    Inner<<W as Wire>::Context>,
>;

type Rate<S, L, W> = RateLimitService<S, L, OneToken, Inner<<W as Wire>::Context>>;

/// What a call goes through before the handler `S`.
pub type ServerStack<S, W, O> = HoldContext<
    TimeoutService<
        Concurrency<
            Rate<
                Concurrency<Rate<<W as Wire>::Inside<S>, OfMethod, W>, OfMethod, W>,
                OfServer<O>,
                W,
            >,
            OfServer<O>,
            W,
        >,
        OfCall,
        Inner<<W as Wire>::Deadline>,
        O,
    >,
    W,
>;

impl<O: ObserveGovernance> Governance<O> {
    /// The layers of a server whose requests are `wire`.
    #[must_use]
    pub fn server_over<W: Wire>(&self, wire: W) -> ServerLayer<W, O> {
        ServerLayer { governance: self.clone(), wire, around_calls: Identity::new() }
    }

    /// The layers of a server of any protocol, whose methods `namer` names.
    #[must_use]
    pub fn server<N: Clone>(&self, namer: N) -> ServerLayer<AnyRequest<N>, O> {
        self.server_over(AnyRequest::new(namer))
    }

    /// The layers of an HTTP server, whose methods `namer` names.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http_server<N: Clone>(&self, namer: N) -> ServerLayer<super::HttpWire<N>, O> {
        self.server_over(super::HttpWire::new(namer))
    }

    /// The layers of a gRPC server, `tonic`'s or another.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc_server(&self) -> ServerLayer<super::GrpcWire, O> {
        self.server_over(super::GrpcWire)
    }
}

impl<W, O, C> ServerLayer<W, O, C> {
    /// Puts `layer` around each call, outside the deadline and those that were put there before.
    /// It sees requests as [`Governed`].
    #[must_use]
    pub fn around_calls<L>(self, layer: L) -> ServerLayer<W, O, Stack<C, L>> {
        let Self { governance, wire, around_calls } = self;
        ServerLayer { governance, wire, around_calls: Stack::new(around_calls, layer) }
    }
}

impl<S, W, O, C> Layer<S> for ServerLayer<W, O, C>
where
    W: Wire,
    O: ObserveGovernance,
    C: Layer<ServerStack<S, W, O>>,
{
    type Service = Enter<C::Service, W, O>;

    fn layer(&self, service: S) -> Self::Service {
        let wire = &self.wire;
        let context = || Inner(wire.context());
        let of_server = || OfServer { governance: self.governance.clone() };
        let handler = wire.inside(service);
        let handler = RateLimitLayer::from_handle(OfMethod).context(context()).layer(handler);
        let limit = EitherLimit::new(OfMethod, wire.overload());
        let handler = ConcurrencyLimitLayer::from_handle(limit)
            .completion(wire.completion())
            .context(context())
            .criticality(context())
            .layer(handler);
        let handler = RateLimitLayer::from_handle(of_server()).context(context()).layer(handler);
        let limit = EitherLimit::new(of_server(), wire.overload());
        let handler = ConcurrencyLimitLayer::from_handle(limit)
            .completion(wire.completion())
            .context(context())
            .criticality(context())
            .layer(handler);
        let handler = TimeoutLayer::from_chooser(OfCall)
            .carry(Inner(wire.deadline()))
            .observe(self.governance.observer().clone())
            .layer(handler);
        let handler = HoldContext::new(handler, wire);
        Enter::new(self.around_calls.layer(handler), wire, &self.governance)
    }
}
