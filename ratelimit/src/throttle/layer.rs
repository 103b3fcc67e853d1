use std::hash::Hash;

use outrigger_core::{ErrorsAreFailures, Live, Method, NoContext, Observe, OnResponse};
use tower_layer::Layer;

use super::{
    choose::KeyedThrottle, event::ClientThrottleEvent, limit::ClientThrottle,
    panel::ClientThrottlePanel, policy::ClientThrottlePolicy, service::ClientThrottleService,
};
use crate::{ByKey, ByMethod, FromContext};

/// Puts a client throttle before a service.
///
/// All services that one layer value makes share the throttle.
/// [`separate`](Self::separate) gives a layer with one of its own.
///
/// What the classifier calls a `Failure` or a `Timeout` was *not accepted*. A `Success` was, and so
/// was what it ignores of a response, since the callee answered. An error that it ignores counts
/// for nothing: a layer further in kept the call back.
///
/// | parameter | what it decides | default |
/// | --- | --- | --- |
/// | `L` | which throttle a request asks | one for all |
/// | `C` | which calls were accepted ([`Classify`](outrigger_core::Classify)) | those without an error |
/// | `T` | when a call is over ([`TrackCompletion`](outrigger_core::TrackCompletion)) | with its response |
/// | `X` | where the criticality travels ([`CarryContext`](outrigger_core::CarryContext)) | nowhere |
/// | `R` | how much a call matters ([`ReadCriticality`](crate::ReadCriticality)) | what the context says |
#[derive(Clone, Debug)]
pub struct ClientThrottleLayer<
    L = ClientThrottle,
    C = ErrorsAreFailures,
    T = OnResponse,
    X = NoContext,
    R = FromContext,
> {
    throttles: L,
    classifier: C,
    completion: T,
    context: X,
    criticality: R,
}

impl ClientThrottleLayer {
    /// One throttle for all calls.
    #[must_use]
    pub fn new(policy: impl Into<Live<ClientThrottlePolicy>>) -> Self {
        Self::from_handle(ClientThrottle::new(policy))
    }
}

impl<F> ClientThrottleLayer<KeyedThrottle<ByKey<F>, String>> {
    /// A throttle for each key that `read_key` gives for a request; at most 10 000 keys.
    #[must_use]
    pub fn per_key<K: Hash + Eq>(
        policy: impl Into<Live<ClientThrottlePolicy>>,
        read_key: F,
    ) -> ClientThrottleLayer<KeyedThrottle<ByKey<F>, K>> {
        ClientThrottlePanel::new(policy).into_layer(read_key)
    }
}

impl<N> ClientThrottleLayer<KeyedThrottle<ByMethod<N>, Method>> {
    /// A throttle for each method, as `namer` names it.
    #[must_use]
    pub fn per_method(policy: impl Into<Live<ClientThrottlePolicy>>, namer: N) -> Self {
        let panel = ClientThrottlePanel::new(policy);
        ClientThrottleLayer::from_handle(KeyedThrottle { panel, read_key: ByMethod(namer) })
    }
}

impl<K, O> ClientThrottlePanel<K, O> {
    /// A layer that chooses a throttle of this panel by the key that `read_key` gives for a
    /// request.
    #[must_use]
    pub fn into_layer<F>(self, read_key: F) -> ClientThrottleLayer<KeyedThrottle<ByKey<F>, K, O>> {
        let read_key = ByKey(read_key);
        ClientThrottleLayer::from_handle(KeyedThrottle { panel: self, read_key })
    }
}

impl<L> ClientThrottleLayer<L> {
    /// Puts throttles that were made elsewhere before a service.
    #[must_use]
    pub const fn from_handle(throttles: L) -> Self {
        Self {
            throttles,
            classifier: ErrorsAreFailures,
            completion: OnResponse,
            context: NoContext,
            criticality: FromContext,
        }
    }
}

impl<C, T, X, R> ClientThrottleLayer<ClientThrottle, C, T, X, R> {
    /// Tells `observer` what the throttle does.
    ///
    /// Makes the throttle anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> ClientThrottleLayer<ClientThrottle<O>, C, T, X, R>
    where
        O: Observe<ClientThrottleEvent>,
    {
        self.swap(|throttle| throttle.to_builder().observe(observer).build())
    }
}

impl<N, K, C, T, X, R> ClientThrottleLayer<KeyedThrottle<N, K>, C, T, X, R>
where
    K: Hash + Eq,
{
    /// Tells `observer` what the throttles do, each with its key.
    ///
    /// Makes the panel anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> ClientThrottleLayer<KeyedThrottle<N, K, O>, C, T, X, R>
    where
        O: Observe<ClientThrottleEvent>,
    {
        self.swap(|KeyedThrottle { panel, read_key }| KeyedThrottle {
            panel: panel.observe(observer),
            read_key,
        })
    }
}

impl<L, C, T, X, R> ClientThrottleLayer<L, C, T, X, R> {
    fn swap<M>(self, make: impl FnOnce(L) -> M) -> ClientThrottleLayer<M, C, T, X, R> {
        let Self { throttles, classifier, completion, context, criticality } = self;
        let throttles = make(throttles);
        ClientThrottleLayer { throttles, classifier, completion, context, criticality }
    }

    /// Lets `classifier` say what was accepted, a closure or one of core's.
    #[must_use]
    pub fn classify<D>(self, classifier: D) -> ClientThrottleLayer<L, D, T, X, R> {
        let Self { throttles, completion, context, criticality, .. } = self;
        ClientThrottleLayer { throttles, classifier, completion, context, criticality }
    }

    /// Lets a call be over when `completion` says so.
    #[must_use]
    pub fn completion<U>(self, completion: U) -> ClientThrottleLayer<L, C, U, X, R> {
        let Self { throttles, classifier, context, criticality, .. } = self;
        ClientThrottleLayer { throttles, classifier, completion, context, criticality }
    }

    /// Reads the criticality from the context that `context` finds.
    #[must_use]
    pub fn context<Y>(self, context: Y) -> ClientThrottleLayer<L, C, T, Y, R> {
        let Self { throttles, classifier, completion, criticality, .. } = self;
        ClientThrottleLayer { throttles, classifier, completion, context, criticality }
    }

    /// Asks `criticality` how much a call matters, a closure or a header; what it says is passed
    /// on in the context.
    #[must_use]
    pub fn criticality<Q>(self, criticality: Q) -> ClientThrottleLayer<L, C, T, X, Q> {
        let Self { throttles, classifier, completion, context, .. } = self;
        ClientThrottleLayer { throttles, classifier, completion, context, criticality }
    }

    /// Only answers that speak of overload ([`OverloadStatus`](crate::OverloadStatus)) and
    /// errors count as not accepted; a call is over with the head of its response. The
    /// criticality travels in the request's extensions.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        self,
    ) -> ClientThrottleLayer<L, crate::OverloadStatus, T, outrigger_core::InExtensions, R> {
        self.classify(crate::OverloadStatus).context(outrigger_core::InExtensions)
    }

    /// As [`http`](Self::http), and a call is over with its body, whose trailers have the status.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc(
        self,
    ) -> ClientThrottleLayer<
        L,
        crate::OverloadStatus,
        outrigger_core::OnBodyEnd,
        outrigger_core::InExtensions,
        R,
    > {
        self.http().completion(outrigger_core::OnBodyEnd)
    }
}

impl<O, C, T, X, R> ClientThrottleLayer<ClientThrottle<O>, C, T, X, R> {
    /// The throttle that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &ClientThrottle<O> {
        &self.throttles
    }

    /// A layer like this one, with a throttle of its own.
    #[must_use]
    pub fn separate(&self) -> Self
    where
        Self: Clone,
    {
        self.clone().swap(|throttle| throttle.separate())
    }
}

impl<N, K, O, C, T, X, R> ClientThrottleLayer<KeyedThrottle<N, K, O>, C, T, X, R> {
    /// The panel that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &ClientThrottlePanel<K, O> {
        &self.throttles.panel
    }
}

impl<S, L, C, T, X, R> Layer<S> for ClientThrottleLayer<L, C, T, X, R>
where
    L: Clone,
    C: Clone,
    T: Clone,
    X: Clone,
    R: Clone,
{
    type Service = ClientThrottleService<S, L, C, T, X, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { throttles, classifier, completion, context, criticality } = self.clone();
        ClientThrottleService { inner, throttles, classifier, completion, context, criticality }
    }
}
