use outrigger_circuitbreak::{CircuitBreakerLayer, CircuitBreakerService};
use outrigger_ratelimit::{
    ClientThrottleLayer, ClientThrottleService, ConcurrencyLimitLayer, ConcurrencyLimitService,
    OneToken, RateLimitLayer, RateLimitService,
};
use outrigger_retry::{RetryLayer, RetryService, TimeoutLayer, TimeoutService};
use tower_layer::{Identity, Layer, Stack};

use super::{
    AnyRequest, EitherLimit, Enter, HoldContext, Inner, OfAttempt, OfCall, OfMethod, Wire,
};
use crate::{Governance, ObserveGovernance};

/// The layers of a client, in order: overall deadline, rate limit, concurrency or adaptive limit,
/// client throttle, retry and backup request, circuit breaker, attempt time-out.
///
/// What the policies of a method leave out does nothing. Layers outside all of it go around the
/// made service as usual; [`around_calls`](Self::around_calls) puts one around each call, inside
/// the look-up of its method, and [`around_attempts`](Self::around_attempts) one around each
/// attempt. To replace a layer, leave its policy out of the file and put another in its place.
#[derive(Debug)]
pub struct ClientLayer<W, O = (), A = Identity, C = Identity> {
    governance: Governance<O>,
    pub(super) wire: W,
    around_attempts: A,
    around_calls: C,
}

impl<W: Clone, O, A: Clone, C: Clone> Clone for ClientLayer<W, O, A, C> {
    fn clone(&self) -> Self {
        Self {
            governance: self.governance.clone(),
            wire: self.wire.clone(),
            around_attempts: self.around_attempts.clone(),
            around_calls: self.around_calls.clone(),
        }
    }
}

/// What each attempt goes through.
pub type AttemptStack<S, W, O> = CircuitBreakerService<
    TimeoutService<<W as Wire>::Inside<S>, OfAttempt, Inner<<W as Wire>::Deadline>, O>,
    OfMethod,
    <W as Wire>::Classifier,
    <W as Wire>::Completion,
>;

type Retries<A, W> = RetryService<
    A,
    OfMethod,
    Inner<<W as Wire>::Replay>,
    Inner<<W as Wire>::Protocol>,
    <W as Wire>::Classifier,
>;

type Throttled<S, W> = ClientThrottleService<
    S,
    OfMethod,
    <W as Wire>::Overload,
    <W as Wire>::Completion,
    Inner<<W as Wire>::Context>,
    Inner<<W as Wire>::Context>,
>;

type Limited<S, W> = RateLimitService<
    ConcurrencyLimitService<
        S,
        EitherLimit<OfMethod, <W as Wire>::Overload>,
        <W as Wire>::Completion,
        Inner<<W as Wire>::Context>,
        Inner<<W as Wire>::Context>,
    >,
    OfMethod,
    OneToken,
    Inner<<W as Wire>::Context>,
>;

/// What a call goes through, its attempts in `A`.
pub type ClientStack<A, W, O> = HoldContext<
    TimeoutService<
        Limited<Throttled<Retries<A, W>, W>, W>,
        OfCall,
        Inner<<W as Wire>::Deadline>,
        O,
    >,
    W,
>;

impl<O: ObserveGovernance> Governance<O> {
    /// The layers of a client whose requests are `wire`.
    #[must_use]
    pub fn client_over<W: Wire>(&self, wire: W) -> ClientLayer<W, O> {
        let (around_attempts, around_calls) = (Identity::new(), Identity::new());
        ClientLayer { governance: self.clone(), wire, around_attempts, around_calls }
    }

    /// The layers of a client of any protocol, whose methods `namer` names.
    #[must_use]
    pub fn client<N: Clone>(&self, namer: N) -> ClientLayer<AnyRequest<N>, O> {
        self.client_over(AnyRequest::new(namer))
    }

    /// The layers of an HTTP client, whose methods `namer` names.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http_client<N: Clone>(&self, namer: N) -> ClientLayer<super::HttpWire<N>, O> {
        self.client_over(super::HttpWire::new(namer))
    }

    /// The layers of a gRPC client over any HTTP/2 service.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc_client(&self) -> ClientLayer<super::GrpcWire, O> {
        self.client_over(super::GrpcWire)
    }

    /// The layers of a gRPC client over a `tonic` channel, or over a balancer of such.
    #[cfg(feature = "tonic")]
    #[must_use]
    pub fn tonic_client(&self) -> ClientLayer<super::TonicWire, O> {
        self.client_over(super::TonicWire)
    }

    /// The layers of a gRPC client over nothing but a `tonic` channel: as
    /// [`tonic_client`](Self::tonic_client), for some five allocations of an idempotent call less, since what
    /// stands inside is told neither the attempts' context nor, of a request that may be sent
    /// again, the extensions. A channel reads neither; a balancer would not know what was tried.
    #[cfg(feature = "tonic")]
    #[must_use]
    pub fn tonic_channel(&self) -> ClientLayer<super::TonicChannelWire, O> {
        self.client_over(super::TonicChannelWire)
    }
}

impl<W, O, A, C> ClientLayer<W, O, A, C> {
    #[cfg(feature = "volo")]
    pub(crate) const fn governance(&self) -> &Governance<O> {
        &self.governance
    }

    /// Puts `layer` around each attempt, inside the retries and outside the circuit breaker, and
    /// outside those that were put there before. It sees requests as
    /// [`Governed`](super::Governed).
    #[must_use]
    pub fn around_attempts<L>(self, layer: L) -> ClientLayer<W, O, Stack<A, L>, C> {
        let Self { governance, wire, around_attempts, around_calls } = self;
        let around_attempts = Stack::new(around_attempts, layer);
        ClientLayer { governance, wire, around_attempts, around_calls }
    }

    /// Puts `layer` around each call, outside the overall deadline and those that were put there
    /// before. It sees requests as [`Governed`](super::Governed).
    #[must_use]
    pub fn around_calls<L>(self, layer: L) -> ClientLayer<W, O, A, Stack<C, L>> {
        let Self { governance, wire, around_attempts, around_calls } = self;
        let around_calls = Stack::new(around_calls, layer);
        ClientLayer { governance, wire, around_attempts, around_calls }
    }
}

impl<S, W, O, A, C> Layer<S> for ClientLayer<W, O, A, C>
where
    W: Wire,
    O: ObserveGovernance,
    A: Layer<AttemptStack<S, W, O>>,
    C: Layer<ClientStack<A::Service, W, O>>,
{
    type Service = Enter<C::Service, W, O>;

    fn layer(&self, service: S) -> Self::Service {
        let wire = &self.wire;
        let observer = self.governance.observer();
        let context = || Inner(wire.context());
        let deadline = || Inner(wire.deadline());
        let attempt = TimeoutLayer::from_chooser(OfAttempt)
            .carry(deadline())
            .observe(observer.clone())
            .layer(wire.inside(service));
        let attempt = CircuitBreakerLayer::from_handle(OfMethod)
            .classify(wire.classifier())
            .complete_on(wire.completion())
            .layer(attempt);
        let attempt = self.around_attempts.layer(attempt);
        let call = RetryLayer::from_chooser(OfMethod)
            .replay(Inner(wire.replay()))
            .protocol(Inner(wire.protocol()))
            .classify(wire.classifier())
            .layer(attempt);
        let call = ClientThrottleLayer::from_handle(OfMethod)
            .classify(wire.overload())
            .completion(wire.completion())
            .context(context())
            .criticality(context())
            .layer(call);
        let limit = EitherLimit::new(OfMethod, wire.overload());
        let call = ConcurrencyLimitLayer::from_handle(limit)
            .completion(wire.completion())
            .context(context())
            .criticality(context())
            .layer(call);
        let call = RateLimitLayer::from_handle(OfMethod).context(context()).layer(call);
        let call = TimeoutLayer::from_chooser(OfCall)
            .carry(deadline())
            .observe(observer.clone())
            .layer(call);
        let call = HoldContext::new(call, wire);
        Enter::new(self.around_calls.layer(call), wire, &self.governance)
    }
}
