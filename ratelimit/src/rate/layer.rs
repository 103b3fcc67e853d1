use std::{fmt, hash::Hash};

use outrigger_core::{CarryContext, Live, Method, NameMethod, NoContext, Observe, Rejection};
use tokio::time::Instant;
use tower_layer::Layer;

use super::{
    event::RateLimitEvent,
    limit::{RateEntry, RateLimit},
    panel::RateLimitPanel,
    policy::RateLimitPolicy,
    service::RateLimitService,
};
use crate::{ByKey, ByMethod, OTHER, rate::future::Waiting};

/// Puts a rate limit before a service.
///
/// All services that one layer value makes share the limit. The tokens are taken in `call`.
///
/// | parameter | what it decides | default |
/// | --- | --- | --- |
/// | `L` | which limit a request asks | one for all |
/// | `P` | how many tokens a request costs ([`PriceOf`]) | one |
/// | `X` | where the deadline travels ([`CarryContext`]) | nowhere |
#[derive(Clone, Debug)]
pub struct RateLimitLayer<L = RateLimit, P = OneToken, X = NoContext> {
    pub(super) limits: L,
    price: P,
    context: X,
}

/// Says how many tokens a request costs. A closure is one.
pub trait PriceOf<Request> {
    /// The cost; 0 passes always.
    fn price_of(&self, request: &Request) -> u32;
}

impl<F: Fn(&Request) -> u32, Request> PriceOf<Request> for F {
    fn price_of(&self, request: &Request) -> u32 {
        self(request)
    }
}

/// Every request costs one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneToken;

impl<Request> PriceOf<Request> for OneToken {
    fn price_of(&self, _request: &Request) -> u32 {
        1
    }
}

/// Which rate limit a request has to ask.
///
/// [`RateLimit`] is the one for all requests; [`KeyedRate`] chooses from a panel.
pub trait ChooseRateLimit<Request> {
    /// Who is told what the limits do.
    type Observer: Observe<RateLimitEvent>;

    /// Asks the limit of `request` for `cost` tokens, and whether to wait for them.
    ///
    /// # Errors
    ///
    /// The refusal of that limit.
    fn enter_for(
        &self,
        request: &Request,
        cost: u32,
        deadline: Option<Instant>,
    ) -> Result<Option<Waiting<Self::Observer>>, Rejection>;
}

fn waiting<O: Observe<RateLimitEvent>>(
    entry: RateEntry<O>,
) -> Result<Option<Waiting<O>>, Rejection> {
    match entry {
        RateEntry::Admitted => Ok(None),
        RateEntry::Waiting(wait) => Ok(Some(Waiting(wait))),
        RateEntry::Refused(rejection) => Err(rejection),
    }
}

impl<Request, O: Observe<RateLimitEvent>> ChooseRateLimit<Request> for RateLimit<O> {
    type Observer = O;

    fn enter_for(
        &self,
        _request: &Request,
        cost: u32,
        deadline: Option<Instant>,
    ) -> Result<Option<Waiting<O>>, Rejection> {
        waiting(self.enter(cost, deadline))
    }
}

/// Chooses a limit of a panel by a key that `N` reads from the request.
#[derive(Debug)]
pub struct KeyedRate<N, K, O = ()> {
    pub(super) panel: RateLimitPanel<K, O>,
    pub(super) read_key: N,
}

impl<N: Clone, K, O> Clone for KeyedRate<N, K, O> {
    fn clone(&self) -> Self {
        Self { panel: self.panel.clone(), read_key: self.read_key.clone() }
    }
}

impl<Request, F, K, O> ChooseRateLimit<Request> for KeyedRate<ByKey<F>, K, O>
where
    F: Fn(&Request) -> K,
    K: Hash + Eq + Clone + fmt::Display,
    O: Observe<RateLimitEvent>,
{
    type Observer = O;

    fn enter_for(
        &self,
        request: &Request,
        cost: u32,
        deadline: Option<Instant>,
    ) -> Result<Option<Waiting<O>>, Rejection> {
        let key = (self.read_key.0)(request);
        let enter = |limit: &RateLimit<O>| waiting(limit.enter(cost, deadline));
        self.panel.with_limit(&key, || key.clone(), enter)
    }
}

impl<Request, N, O> ChooseRateLimit<Request> for KeyedRate<ByMethod<N>, Method, O>
where
    N: NameMethod<Request>,
    O: Observe<RateLimitEvent>,
{
    type Observer = O;

    fn enter_for(
        &self,
        request: &Request,
        cost: u32,
        deadline: Option<Instant>,
    ) -> Result<Option<Waiting<O>>, Rejection> {
        let method = self.read_key.0.name_method(request).unwrap_or(OTHER);
        let enter = |limit: &RateLimit<O>| waiting(limit.enter(cost, deadline));
        self.panel.with_limit(&method, || method.to_owned(), enter)
    }
}

impl RateLimitLayer {
    /// One limit for all calls.
    #[must_use]
    pub fn new(policy: impl Into<Live<RateLimitPolicy>>) -> Self {
        Self::from_handle(RateLimit::new(policy))
    }
}

impl<F> RateLimitLayer<KeyedRate<ByKey<F>, String>> {
    /// A limit for each key that `read_key` gives for a request; at most 10 000 keys.
    #[must_use]
    pub fn per_key<K: Hash + Eq>(
        policy: impl Into<Live<RateLimitPolicy>>,
        read_key: F,
    ) -> RateLimitLayer<KeyedRate<ByKey<F>, K>> {
        RateLimitPanel::new(policy).into_layer(read_key)
    }
}

impl<N> RateLimitLayer<KeyedRate<ByMethod<N>, Method>> {
    /// A limit for each method, as `namer` names it.
    #[must_use]
    pub fn per_method(policy: impl Into<Live<RateLimitPolicy>>, namer: N) -> Self {
        let panel = RateLimitPanel::new(policy);
        RateLimitLayer::from_handle(KeyedRate { panel, read_key: ByMethod(namer) })
    }
}

impl<K, O> RateLimitPanel<K, O> {
    /// A layer that chooses a limit of this panel by the key that `read_key` gives for a request.
    #[must_use]
    pub fn into_layer<F>(self, read_key: F) -> RateLimitLayer<KeyedRate<ByKey<F>, K, O>> {
        RateLimitLayer::from_handle(KeyedRate { panel: self, read_key: ByKey(read_key) })
    }
}

impl<L> RateLimitLayer<L> {
    /// Puts limits that were made elsewhere before a service.
    #[must_use]
    pub const fn from_handle(limits: L) -> Self {
        Self { limits, price: OneToken, context: NoContext }
    }
}

impl<P, X> RateLimitLayer<RateLimit, P, X> {
    /// Tells `observer` what the limit does.
    ///
    /// Makes the limit anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> RateLimitLayer<RateLimit<O>, P, X>
    where
        O: Observe<RateLimitEvent>,
    {
        let Self { limits, price, context } = self;
        RateLimitLayer { limits: limits.to_builder().observe(observer).build(), price, context }
    }
}

impl<N, K: Hash + Eq, P, X> RateLimitLayer<KeyedRate<N, K>, P, X> {
    /// Tells `observer` what the limits do, each with its key.
    ///
    /// Makes the panel anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> RateLimitLayer<KeyedRate<N, K, O>, P, X>
    where
        O: Observe<RateLimitEvent>,
    {
        let Self { limits: KeyedRate { panel, read_key }, price, context } = self;
        let limits = KeyedRate { panel: panel.observe(observer), read_key };
        RateLimitLayer { limits, price, context }
    }
}

impl<L, P, X> RateLimitLayer<L, P, X> {
    /// Asks `price` how many tokens a request costs. Default: one.
    #[must_use]
    pub fn cost<Q>(self, price: Q) -> RateLimitLayer<L, Q, X> {
        let Self { limits, context, .. } = self;
        RateLimitLayer { limits, price, context }
    }

    /// Reads the deadline from the context that `context` finds.
    #[must_use]
    pub fn context<Y>(self, context: Y) -> RateLimitLayer<L, P, Y> {
        let Self { limits, price, .. } = self;
        RateLimitLayer { limits, price, context }
    }

    /// Deadlines travel in the request's extensions.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(self) -> RateLimitLayer<L, P, outrigger_core::InExtensions> {
        self.context(outrigger_core::InExtensions)
    }

    /// As [`http`](Self::http).
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc(self) -> RateLimitLayer<L, P, outrigger_core::InExtensions> {
        self.http()
    }
}

impl<O, P, X> RateLimitLayer<RateLimit<O>, P, X> {
    /// The limit that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &RateLimit<O> {
        &self.limits
    }

    /// A layer like this one, with a bucket of its own.
    #[must_use]
    pub fn separate(&self) -> Self
    where
        P: Clone,
        X: Clone,
    {
        Self { limits: self.limits.separate(), ..self.clone() }
    }
}

impl<N, K, O, P, X> RateLimitLayer<KeyedRate<N, K, O>, P, X> {
    /// The panel that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &RateLimitPanel<K, O> {
        &self.limits.panel
    }
}

impl<S, L: Clone, P: Clone, X: Clone> Layer<S> for RateLimitLayer<L, P, X> {
    type Service = RateLimitService<S, L, P, X>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { limits, price, context } = self.clone();
        RateLimitService { inner, limits, price, context }
    }
}

pub(super) fn deadline_of<Request>(
    carry: &impl CarryContext<Request>,
    request: &Request,
) -> Option<Instant> {
    carry.context(request).and_then(|context| context.deadline)
}
