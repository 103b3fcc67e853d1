use std::hash::Hash;

use outrigger_core::{ErrorsAreFailures, Live, Method, Observe, OnResponse};
use tower_layer::Layer;

use crate::{
    ByKey, ByMethod, CircuitBreaker, CircuitBreakerEvent, CircuitBreakerPanel,
    CircuitBreakerPolicy, CircuitBreakerService, KeyedBy,
};

/// Puts a circuit breaker before a service.
///
/// All services that one layer value makes share the breaker, since axum and tonic apply a layer
/// for each route or connection. [`separate`](Self::separate) gives a layer with one of its own.
///
/// | parameter | what it decides | default |
/// | --- | --- | --- |
/// | `B` | which breaker a request asks | one for all |
/// | `C` | what a call turned out to be ([`Classify`](outrigger_core::Classify)) | errors are failures |
/// | `T` | when a call is over ([`TrackCompletion`](outrigger_core::TrackCompletion)) | with its response |
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer<B = CircuitBreaker, C = ErrorsAreFailures, T = OnResponse> {
    breakers: B,
    classifier: C,
    completion: T,
}

impl CircuitBreakerLayer {
    /// One breaker for all calls.
    #[must_use]
    pub fn new(policy: impl Into<Live<CircuitBreakerPolicy>>) -> Self {
        Self::from_handle(CircuitBreaker::new(policy))
    }
}

impl<F> CircuitBreakerLayer<KeyedBy<ByKey<F>, String>> {
    /// A breaker for each key that `read_key` gives for a request.
    ///
    /// Keys are cloned for new breakers only, but made for each call: a number, an `Arc<str>` or a
    /// small `enum` costs least.
    #[must_use]
    pub fn per_key<K: Hash + Eq>(
        policy: impl Into<Live<CircuitBreakerPolicy>>,
        read_key: F,
    ) -> CircuitBreakerLayer<KeyedBy<ByKey<F>, K>> {
        CircuitBreakerPanel::new(policy).into_layer(read_key)
    }
}

impl<N> CircuitBreakerLayer<KeyedBy<ByMethod<N>, Method>> {
    /// A breaker for each method, as `namer` names it.
    #[must_use]
    pub fn per_method(policy: impl Into<Live<CircuitBreakerPolicy>>, namer: N) -> Self {
        CircuitBreakerPanel::new(policy).into_method_layer(namer)
    }
}

impl<B> CircuitBreakerLayer<B> {
    /// Puts breakers that were made elsewhere before a service.
    #[must_use]
    pub const fn from_handle(breakers: B) -> Self {
        Self { breakers, classifier: ErrorsAreFailures, completion: OnResponse }
    }
}

impl<K, O> CircuitBreakerPanel<K, O> {
    /// A layer that chooses a breaker of this panel by the key that `read_key` gives for a request.
    #[must_use]
    pub fn into_layer<F>(self, read_key: F) -> CircuitBreakerLayer<KeyedBy<ByKey<F>, K, O>> {
        CircuitBreakerLayer::from_handle(KeyedBy { panel: self, read_key: ByKey(read_key) })
    }
}

impl<O> CircuitBreakerPanel<Method, O> {
    /// A layer that chooses a breaker of this panel by the method of a request.
    #[must_use]
    pub fn into_method_layer<N>(
        self,
        namer: N,
    ) -> CircuitBreakerLayer<KeyedBy<ByMethod<N>, Method, O>> {
        CircuitBreakerLayer::from_handle(KeyedBy { panel: self, read_key: ByMethod(namer) })
    }
}

impl<C, T> CircuitBreakerLayer<CircuitBreaker, C, T> {
    /// Tells `observer` what the breaker does.
    ///
    /// Makes the breaker anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> CircuitBreakerLayer<CircuitBreaker<O>, C, T>
    where
        O: Observe<CircuitBreakerEvent>,
    {
        let Self { breakers, classifier, completion } = self;
        let policy = breakers.policy().clone();
        let breakers = CircuitBreaker::builder(policy).observe(observer).build();
        CircuitBreakerLayer { breakers, classifier, completion }
    }
}

impl<N, K, C, T> CircuitBreakerLayer<KeyedBy<N, K>, C, T>
where
    K: Hash + Eq,
{
    /// Tells `observer` what the breakers do, each with its name.
    ///
    /// Makes the panel anew, so take handles after this.
    #[must_use]
    pub fn observe<O>(self, observer: O) -> CircuitBreakerLayer<KeyedBy<N, K, O>, C, T>
    where
        O: Observe<CircuitBreakerEvent>,
    {
        let Self { breakers: KeyedBy { panel, read_key }, classifier, completion } = self;
        let panel = panel.to_builder().observe(observer).build();
        CircuitBreakerLayer { breakers: KeyedBy { panel, read_key }, classifier, completion }
    }
}

impl<B, C, T> CircuitBreakerLayer<B, C, T> {
    /// Judges calls by `classifier`, a closure or one of core's.
    #[must_use]
    pub fn classify<D>(self, classifier: D) -> CircuitBreakerLayer<B, D, T> {
        let Self { breakers, completion, .. } = self;
        CircuitBreakerLayer { breakers, classifier, completion }
    }

    /// Lets a call be over when `completion` says so.
    #[must_use]
    pub fn complete_on<U>(self, completion: U) -> CircuitBreakerLayer<B, C, U> {
        let Self { breakers, classifier, .. } = self;
        CircuitBreakerLayer { breakers, classifier, completion }
    }

    /// Judges by the HTTP status; a call is over when its body is.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        self,
    ) -> CircuitBreakerLayer<B, outrigger_core::HttpStatus, outrigger_core::OnBodyEnd> {
        self.classify(outrigger_core::HttpStatus).complete_on(outrigger_core::OnBodyEnd)
    }

    /// Judges by `grpc-status`, in the head or in the trailers; a call is over when its body is.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn grpc(
        self,
    ) -> CircuitBreakerLayer<B, outrigger_core::GrpcStatus, outrigger_core::OnBodyEnd> {
        self.classify(outrigger_core::GrpcStatus).complete_on(outrigger_core::OnBodyEnd)
    }
}

impl<O, C, T> CircuitBreakerLayer<CircuitBreaker<O>, C, T> {
    /// The breaker that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &CircuitBreaker<O> {
        &self.breakers
    }

    /// A layer like this one, with a breaker of its own.
    ///
    /// For a breaker for each service that is made, rather than for each layer:
    /// `tower::layer::layer_fn(move |inner| layer.separate().layer(inner))`.
    #[must_use]
    pub fn separate(&self) -> Self
    where
        C: Clone,
        T: Clone,
    {
        Self { breakers: self.breakers.separate(), ..self.clone() }
    }
}

impl<N, K, O, C, T> CircuitBreakerLayer<KeyedBy<N, K, O>, C, T>
where
    K: Hash + Eq,
{
    /// The panel that this layer's services share.
    #[must_use]
    pub const fn handle(&self) -> &CircuitBreakerPanel<K, O> {
        &self.breakers.panel
    }

    /// A layer like this one, with breakers of its own.
    #[must_use]
    pub fn separate(&self) -> Self
    where
        K: Clone,
        N: Clone,
        C: Clone,
        T: Clone,
    {
        let panel = self.breakers.panel.separate();
        let breakers = KeyedBy { panel, read_key: self.breakers.read_key.clone() };
        Self { breakers, ..self.clone() }
    }
}

impl<S, B, C, T> Layer<S> for CircuitBreakerLayer<B, C, T>
where
    B: Clone,
    C: Clone,
    T: Clone,
{
    type Service = CircuitBreakerService<S, B, C, T>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { breakers, classifier, completion } = self.clone();
        CircuitBreakerService { inner, breakers, classifier, completion }
    }
}
