use std::hash::Hash;

use outrigger_core::{Live, Method, NoContext, Observe, OnResponse};
use tower_layer::Layer;

use super::{
    choose::KeyedConcurrency, event::ConcurrencyLimitEvent, limit::ConcurrencyLimit,
    panel::ConcurrencyLimitPanel, policy::ConcurrencyLimitPolicy, service::ConcurrencyLimitService,
};
use crate::{ByKey, ByMethod, FromContext};

/// Puts a concurrency limit before a service.
///
/// All services that one layer value makes share the limit, since axum and tonic apply a layer for
/// each route or connection. [`separate`](Self::separate) gives a layer with one of its own.
///
/// | parameter | what it decides | default |
/// | --- | --- | --- |
/// | `L` | which limit a request asks | one for all |
/// | `T` | when a call is over ([`TrackCompletion`](outrigger_core::TrackCompletion)) | with its response |
/// | `X` | where the deadline travels ([`CarryContext`](outrigger_core::CarryContext)) | nowhere |
/// | `R` | how much a call matters ([`ReadCriticality`](crate::ReadCriticality)) | what the context says |
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitLayer<
    L = ConcurrencyLimit,
    T = OnResponse,
    X = NoContext,
    R = FromContext,
> {
    limits: L,
    completion: T,
    context: X,
    criticality: R,
}

impl ConcurrencyLimitLayer {
    /// One limit for all calls.
    #[must_use]
    pub fn new(policy: impl Into<Live<ConcurrencyLimitPolicy>>) -> Self {
        Self::from_handle(ConcurrencyLimit::new(policy))
    }
}

impl<F> ConcurrencyLimitLayer<KeyedConcurrency<ByKey<F>, String>> {
    /// A limit for each key that `read_key` gives for a request; at most 10 000 keys.
    #[must_use]
    pub fn per_key<K: Hash + Eq>(
        policy: impl Into<Live<ConcurrencyLimitPolicy>>,
        read_key: F,
    ) -> ConcurrencyLimitLayer<KeyedConcurrency<ByKey<F>, K>> {
        ConcurrencyLimitPanel::new(policy).into_layer(read_key)
    }
}

impl<N> ConcurrencyLimitLayer<KeyedConcurrency<ByMethod<N>, Method>> {
    /// A limit for each method, as `namer` names it.
    #[must_use]
    pub fn per_method(policy: impl Into<Live<ConcurrencyLimitPolicy>>, namer: N) -> Self {
        let panel = ConcurrencyLimitPanel::new(policy);
        ConcurrencyLimitLayer::from_handle(KeyedConcurrency { panel, read_key: ByMethod(namer) })
    }
}

impl<K, O> ConcurrencyLimitPanel<K, O> {
    /// A layer that chooses a limit of this panel by the key that `read_key` gives for a request.
    #[must_use]
    pub fn into_layer<F>(
        self,
        read_key: F,
    ) -> ConcurrencyLimitLayer<KeyedConcurrency<ByKey<F>, K, O>> {
        let read_key = ByKey(read_key);
        ConcurrencyLimitLayer::from_handle(KeyedConcurrency { panel: self, read_key })
    }
}

impl<L> ConcurrencyLimitLayer<L> {
    /// Puts limits that were made elsewhere before a service.
    #[must_use]
    pub const fn from_handle(limits: L) -> Self {
        Self { limits, completion: OnResponse, context: NoContext, criticality: FromContext }
    }
}

impl<T, X, R> ConcurrencyLimitLayer<ConcurrencyLimit, T, X, R> {
    /// Tells `observer` what the limit does.
    ///
    /// Makes the limit anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> ConcurrencyLimitLayer<ConcurrencyLimit<O>, T, X, R>
    where
        O: Observe<ConcurrencyLimitEvent>,
    {
        let Self { limits, completion, context, criticality } = self;
        let limits = limits.to_builder().observe(observer).build();
        ConcurrencyLimitLayer { limits, completion, context, criticality }
    }
}

impl<N, K, T, X, R> ConcurrencyLimitLayer<KeyedConcurrency<N, K>, T, X, R>
where
    K: Hash + Eq,
{
    /// Tells `observer` what the limits do, each with its key.
    ///
    /// Makes the panel anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(
        self,
        observer: O,
    ) -> ConcurrencyLimitLayer<KeyedConcurrency<N, K, O>, T, X, R>
    where
        O: Observe<ConcurrencyLimitEvent>,
    {
        let Self { limits, completion, context, criticality } = self;
        let panel = limits.panel.observe(observer);
        let limits = KeyedConcurrency { panel, read_key: limits.read_key };
        ConcurrencyLimitLayer { limits, completion, context, criticality }
    }
}

impl<L, T, X, R> ConcurrencyLimitLayer<L, T, X, R> {
    /// Lets a call be over when `completion` says so.
    #[must_use]
    pub fn completion<U>(self, completion: U) -> ConcurrencyLimitLayer<L, U, X, R> {
        let Self { limits, context, criticality, .. } = self;
        ConcurrencyLimitLayer { limits, completion, context, criticality }
    }

    /// Reads deadline and criticality from the context that `context` finds.
    #[must_use]
    pub fn context<Y>(self, context: Y) -> ConcurrencyLimitLayer<L, T, Y, R> {
        let Self { limits, completion, criticality, .. } = self;
        ConcurrencyLimitLayer { limits, completion, context, criticality }
    }

    /// Asks `criticality` how much a call matters, a closure or a header; what it says is passed
    /// on in the context.
    #[must_use]
    pub fn criticality<Q>(self, criticality: Q) -> ConcurrencyLimitLayer<L, T, X, Q> {
        let Self { limits, completion, context, .. } = self;
        ConcurrencyLimitLayer { limits, completion, context, criticality }
    }

    /// A place is given back when the response body is over; deadline and criticality travel in
    /// the request's extensions.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        self,
    ) -> ConcurrencyLimitLayer<L, outrigger_core::OnBodyEnd, outrigger_core::InExtensions, R> {
        self.completion(outrigger_core::OnBodyEnd).context(outrigger_core::InExtensions)
    }

    /// As [`http`](Self::http): a gRPC call, streaming or not, is over with its body.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc(
        self,
    ) -> ConcurrencyLimitLayer<L, outrigger_core::OnBodyEnd, outrigger_core::InExtensions, R> {
        self.http()
    }
}

impl<O, T, X, R> ConcurrencyLimitLayer<ConcurrencyLimit<O>, T, X, R> {
    /// The limit that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &ConcurrencyLimit<O> {
        &self.limits
    }

    /// A layer like this one, with a limit of its own.
    ///
    /// For a limit for each service that is made, rather than for each layer:
    /// `tower::layer::layer_fn(move |inner| layer.separate().layer(inner))`.
    #[must_use]
    pub fn separate(&self) -> Self
    where
        T: Clone,
        X: Clone,
        R: Clone,
    {
        Self { limits: self.limits.separate(), ..self.clone() }
    }
}

impl<N, K, O, T, X, R> ConcurrencyLimitLayer<KeyedConcurrency<N, K, O>, T, X, R> {
    /// The panel that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &ConcurrencyLimitPanel<K, O> {
        &self.limits.panel
    }
}

impl<S, L, T, X, R> Layer<S> for ConcurrencyLimitLayer<L, T, X, R>
where
    L: Clone,
    T: Clone,
    X: Clone,
    R: Clone,
{
    type Service = ConcurrencyLimitService<S, L, T, X, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { limits, completion, context, criticality } = self.clone();
        ConcurrencyLimitService { inner, limits, completion, context, criticality }
    }
}
