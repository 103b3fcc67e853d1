use std::hash::Hash;

use outrigger_core::{ErrorsAreFailures, Live, Method, NoContext, Observe, OnResponse};
use tower_layer::Layer;

use super::{
    choose::{AdaptiveChoice, KeyedAdaptive},
    event::AdaptiveLimitEvent,
    limit::AdaptiveLimit,
    panel::AdaptiveLimitPanel,
    policy::AdaptiveLimitPolicy,
};
use crate::{ByKey, ByMethod, ConcurrencyLimitService, FromContext};

/// Puts an adaptive limit before a service.
///
/// All services that one layer value makes share the limit, since axum and tonic apply a layer for
/// each route or connection. [`separate`](Self::separate) gives a layer with one of its own.
///
/// What the classifier calls a `Success` tells its latency, up to the response's head; a `Failure`
/// or a `Timeout` is a drop; what it ignores counts for nothing.
///
/// | parameter | what it decides | default |
/// | --- | --- | --- |
/// | `L` | which limit a request asks | one for all |
/// | `C` | which calls were dropped ([`Classify`](outrigger_core::Classify)) | those with an error |
/// | `T` | when a call is over ([`TrackCompletion`](outrigger_core::TrackCompletion)) | with its response |
/// | `X` | where the deadline travels ([`CarryContext`](outrigger_core::CarryContext)) | nowhere |
/// | `R` | how much a call matters ([`ReadCriticality`](crate::ReadCriticality)) | what the context says |
#[derive(Clone, Debug)]
pub struct AdaptiveLimitLayer<
    L = AdaptiveLimit,
    C = ErrorsAreFailures,
    T = OnResponse,
    X = NoContext,
    R = FromContext,
> {
    limits: L,
    classifier: C,
    completion: T,
    context: X,
    criticality: R,
}

impl AdaptiveLimitLayer {
    /// One limit for all calls.
    #[must_use]
    pub fn new(policy: impl Into<Live<AdaptiveLimitPolicy>>) -> Self {
        Self::from_handle(AdaptiveLimit::new(policy))
    }
}

impl<F> AdaptiveLimitLayer<KeyedAdaptive<ByKey<F>, String>> {
    /// A limit for each key that `read_key` gives for a request; at most 10 000 keys.
    #[must_use]
    pub fn per_key<K: Hash + Eq>(
        policy: impl Into<Live<AdaptiveLimitPolicy>>,
        read_key: F,
    ) -> AdaptiveLimitLayer<KeyedAdaptive<ByKey<F>, K>> {
        AdaptiveLimitPanel::new(policy).into_layer(read_key)
    }
}

impl<N> AdaptiveLimitLayer<KeyedAdaptive<ByMethod<N>, Method>> {
    /// A limit for each method that `namer` names; at most 10 000. Requests of a known method
    /// allocate nothing.
    #[must_use]
    pub fn per_method(policy: impl Into<Live<AdaptiveLimitPolicy>>, namer: N) -> Self {
        let panel = AdaptiveLimitPanel::new(policy);
        AdaptiveLimitLayer::from_handle(KeyedAdaptive { panel, read_key: ByMethod(namer) })
    }
}

impl<K, O> AdaptiveLimitPanel<K, O> {
    /// A layer that chooses a limit of this panel by the key that `read_key` gives for a request.
    #[must_use]
    pub fn into_layer<F>(self, read_key: F) -> AdaptiveLimitLayer<KeyedAdaptive<ByKey<F>, K, O>> {
        let read_key = ByKey(read_key);
        AdaptiveLimitLayer::from_handle(KeyedAdaptive { panel: self, read_key })
    }
}

impl<L> AdaptiveLimitLayer<L> {
    /// Puts limits that were made elsewhere before a service.
    #[must_use]
    pub const fn from_handle(limits: L) -> Self {
        Self {
            limits,
            classifier: ErrorsAreFailures,
            completion: OnResponse,
            context: NoContext,
            criticality: FromContext,
        }
    }
}

impl<C, T, X, R> AdaptiveLimitLayer<AdaptiveLimit, C, T, X, R> {
    /// Tells `observer` what the limit does.
    ///
    /// Makes the limit anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> AdaptiveLimitLayer<AdaptiveLimit<O>, C, T, X, R>
    where
        O: Observe<AdaptiveLimitEvent>,
    {
        self.swap(|limit| limit.to_builder().observe(observer).build())
    }
}

impl<L, C, T, X, R> AdaptiveLimitLayer<L, C, T, X, R> {
    fn swap<M>(self, make: impl FnOnce(L) -> M) -> AdaptiveLimitLayer<M, C, T, X, R> {
        let Self { limits, classifier, completion, context, criticality } = self;
        let limits = make(limits);
        AdaptiveLimitLayer { limits, classifier, completion, context, criticality }
    }

    /// Lets `classifier` say which calls were dropped, a closure or one of core's.
    #[must_use]
    pub fn classify<D>(self, classifier: D) -> AdaptiveLimitLayer<L, D, T, X, R> {
        let Self { limits, completion, context, criticality, .. } = self;
        AdaptiveLimitLayer { limits, classifier, completion, context, criticality }
    }

    /// Lets a call be over when `completion` says so.
    #[must_use]
    pub fn completion<U>(self, completion: U) -> AdaptiveLimitLayer<L, C, U, X, R> {
        let Self { limits, classifier, context, criticality, .. } = self;
        AdaptiveLimitLayer { limits, classifier, completion, context, criticality }
    }

    /// Reads deadline and criticality from the context that `context` finds.
    #[must_use]
    pub fn context<Y>(self, context: Y) -> AdaptiveLimitLayer<L, C, T, Y, R> {
        let Self { limits, classifier, completion, criticality, .. } = self;
        AdaptiveLimitLayer { limits, classifier, completion, context, criticality }
    }

    /// Asks `criticality` how much a call matters, a closure or a header; what it says is passed
    /// on in the context.
    #[must_use]
    pub fn criticality<Q>(self, criticality: Q) -> AdaptiveLimitLayer<L, C, T, X, Q> {
        let Self { limits, classifier, completion, context, .. } = self;
        AdaptiveLimitLayer { limits, classifier, completion, context, criticality }
    }

    /// Only answers that speak of overload ([`OverloadStatus`](crate::OverloadStatus): 429, 503,
    /// time-outs) and errors are drops. A place is given back when the response body is over;
    /// deadline and criticality travel in the request's extensions.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        self,
    ) -> AdaptiveLimitLayer<
        L,
        crate::OverloadStatus,
        outrigger_core::OnBodyEnd,
        outrigger_core::InExtensions,
        R,
    > {
        self.classify(crate::OverloadStatus)
            .completion(outrigger_core::OnBodyEnd)
            .context(outrigger_core::InExtensions)
    }

    /// As [`http`](Self::http): `RESOURCE_EXHAUSTED`, `UNAVAILABLE` and `DEADLINE_EXCEEDED` are
    /// drops, in the head or in the trailers.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc(
        self,
    ) -> AdaptiveLimitLayer<
        L,
        crate::OverloadStatus,
        outrigger_core::OnBodyEnd,
        outrigger_core::InExtensions,
        R,
    > {
        self.http()
    }
}

impl<O, C, T, X, R> AdaptiveLimitLayer<AdaptiveLimit<O>, C, T, X, R> {
    /// The limit that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &AdaptiveLimit<O> {
        &self.limits
    }

    /// A layer like this one, with a limit of its own.
    #[must_use]
    pub fn separate(&self) -> Self
    where
        Self: Clone,
    {
        self.clone().swap(|limit| limit.separate())
    }
}

impl<N, K, O, C, T, X, R> AdaptiveLimitLayer<KeyedAdaptive<N, K, O>, C, T, X, R> {
    /// The panel that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &AdaptiveLimitPanel<K, O> {
        &self.limits.panel
    }
}

impl<S, L, C, T, X, R> Layer<S> for AdaptiveLimitLayer<L, C, T, X, R>
where
    L: Clone,
    C: Clone,
    T: Clone,
    X: Clone,
    R: Clone,
{
    type Service = ConcurrencyLimitService<S, AdaptiveChoice<L, C>, T, X, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { limits, classifier, completion, context, criticality } = self.clone();
        let limits = AdaptiveChoice { limit: limits, classifier };
        ConcurrencyLimitService { inner, limits, completion, context, criticality }
    }
}
