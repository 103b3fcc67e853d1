use outrigger_core::{ErrorsAreFailures, Live, Observe, PerMethod};
use tower_layer::Layer;

use super::{
    MethodRetries, OneRetry, Plain, Retry, RetryEvent, RetryPolicy, RetryService, spare::Spare,
};
use crate::{ByClone, RetryBudget};

/// Sends failed and late calls again, under one budget.
///
/// Put it outside a circuit breaker and an attempt's time-out, and inside the overall deadline. All
/// services that one layer value makes share policy, budget and latencies;
/// [`separate`](Self::separate) gives a layer with its own.
///
/// The first attempt is made with the service that was polled ready, each further one with a clone
/// of the inner service: of one that was put aside when the service was called for the second time,
/// and never polled. What a clone holds by value is as it was then.
///
/// | parameter | what it decides | default |
/// | --- | --- | --- |
/// | `H` | which policy a request has ([`ChooseRetry`](super::ChooseRetry)) | one for all |
/// | `R` | how a request is sent again ([`CloneRequest`](crate::CloneRequest)) | by `Clone` |
/// | `P` | what requests and answers say ([`Protocol`](super::Protocol)) | only what a `Rejection` says |
/// | `C` | what an answer turned out to be ([`Classify`](outrigger_core::Classify)) | errors are failures |
#[derive(Clone, Debug)]
pub struct RetryLayer<H = OneRetry, R = ByClone, P = Plain, C = ErrorsAreFailures> {
    retries: H,
    replay: R,
    protocol: P,
    classifier: C,
}

impl RetryLayer {
    /// One policy for all requests, with a budget of its own.
    #[must_use]
    pub fn new(policy: impl Into<Live<RetryPolicy>>) -> Self {
        Self::from_handle(Retry::new(policy))
    }
}

impl<O> RetryLayer<OneRetry<O>> {
    /// Retries by what was made elsewhere.
    #[must_use]
    pub fn from_handle(retry: Retry<O>) -> Self {
        Self::from_chooser(OneRetry::new(retry))
    }
}

impl<N> RetryLayer<MethodRetries<N>> {
    /// A policy and latencies for each method, as `namer` names it, all on one budget.
    #[must_use]
    pub fn per_method(policies: PerMethod<Live<RetryPolicy>>, namer: N) -> Self {
        Self::from_chooser(MethodRetries::new(policies, namer))
    }
}

impl<H> RetryLayer<H> {
    /// Retries as `retries` chooses for each request.
    #[must_use]
    pub const fn from_chooser(retries: H) -> Self {
        Self {
            retries,
            replay: ByClone,
            protocol: Plain::new(outrigger_core::NoContext),
            classifier: ErrorsAreFailures,
        }
    }
}

impl<O, R, P, C> RetryLayer<OneRetry<O>, R, P, C> {
    /// The policy, the budget and the latencies, shared with this layer's services.
    #[must_use]
    pub fn handle(&self) -> &Retry<O> {
        self.retries.retry()
    }

    /// Tells `observer` what the retries do. Makes them anew, so take handles after this.
    #[must_use]
    pub fn observe<Q>(self, observer: Q) -> RetryLayer<OneRetry<Q>, R, P, C>
    where
        Q: Observe<RetryEvent>,
    {
        let builder = self.handle().to_builder().observe(observer);
        self.with_retries(OneRetry::new(builder.build()))
    }

    /// Draws on `budget`. Makes the retries anew, so take handles after this.
    #[must_use]
    pub fn budget(self, budget: RetryBudget) -> Self {
        let builder = self.handle().to_builder().budget(budget);
        self.with_retries(OneRetry::new(builder.build()))
    }

    /// Draws the jitter of back-offs from this seed on. Makes the retries anew.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        let builder = self.handle().to_builder().seed(seed);
        self.with_retries(OneRetry::new(builder.build()))
    }

    /// A layer like this one, with latencies and a budget of its own, of the same policy.
    #[must_use]
    pub fn separate(&self) -> Self
    where
        R: Clone,
        P: Clone,
        C: Clone,
    {
        let budget = RetryBudget::new(**self.handle().budget().policy().load());
        let builder = self.handle().to_builder().budget(budget);
        self.clone().with_retries(OneRetry::new(builder.build()))
    }
}

impl<N, O, R, P, C> RetryLayer<MethodRetries<N, O>, R, P, C> {
    /// The retries of each method, shared with this layer's services.
    #[must_use]
    pub const fn handle(&self) -> &MethodRetries<N, O> {
        &self.retries
    }

    /// Tells `observer` what the retries do, each with its method. Makes them anew, so take
    /// handles after this.
    #[must_use]
    pub fn observe<Q>(self, observer: Q) -> RetryLayer<MethodRetries<N, Q>, R, P, C>
    where
        Q: Observe<RetryEvent>,
    {
        let Self { retries, replay, protocol, classifier } = self;
        let retries = retries.rebuild(|settings| settings.observe(observer));
        RetryLayer { retries, replay, protocol, classifier }
    }

    /// Draws on `budget`. Makes the retries anew, so take handles after this.
    #[must_use]
    pub fn budget(self, budget: RetryBudget) -> Self {
        let Self { retries, replay, protocol, classifier } = self;
        let retries = retries.rebuild(|settings| settings.budget(budget));
        RetryLayer { retries, replay, protocol, classifier }
    }
}

impl<H, R, P, C> RetryLayer<H, R, P, C> {
    fn with_retries<G>(self, retries: G) -> RetryLayer<G, R, P, C> {
        let Self { replay, protocol, classifier, .. } = self;
        RetryLayer { retries, replay, protocol, classifier }
    }

    /// Judges answers by `classifier`.
    #[must_use]
    pub fn classify<D>(self, classifier: D) -> RetryLayer<H, R, P, D> {
        let Self { retries, replay, protocol, .. } = self;
        RetryLayer { retries, replay, protocol, classifier }
    }

    /// Sends requests again by `replay`.
    #[must_use]
    pub fn replay<Q>(self, replay: Q) -> RetryLayer<H, Q, P, C> {
        let Self { retries, protocol, classifier, .. } = self;
        RetryLayer { retries, replay, protocol, classifier }
    }

    /// Reads and writes what `protocol` knows of retries.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> RetryLayer<H, R, Q, C> {
        let Self { retries, replay, classifier, .. } = self;
        RetryLayer { retries, replay, protocol, classifier }
    }

    /// Lets the attempts' context travel by `context`.
    #[must_use]
    pub fn carry<X>(self, context: X) -> RetryLayer<H, R, Plain<X>, C> {
        self.protocol(Plain::new(context))
    }
}

#[cfg(feature = "http")]
impl<H, R, P, C> RetryLayer<H, R, P, C> {
    /// HTTP: bodies are kept for a further attempt, answers judged by their status, retries marked
    /// in headers, `Retry-After` heeded.
    #[must_use]
    pub fn http(self) -> RetryLayer<H, crate::Replay, super::Http, outrigger_core::HttpStatus> {
        self.replay(crate::Replay::default())
            .protocol(super::Http)
            .classify(outrigger_core::HttpStatus)
    }

    /// gRPC: as [`http`](Self::http), judged by `grpc-status`, with gRPC's pushback and count of
    /// attempts.
    #[must_use]
    pub fn grpc(self) -> RetryLayer<H, crate::Replay, super::Grpc, outrigger_core::GrpcStatus> {
        self.replay(crate::Replay::default())
            .protocol(super::Grpc)
            .classify(outrigger_core::GrpcStatus)
    }
}

impl<S, H, R, P, C> Layer<S> for RetryLayer<H, R, P, C>
where
    H: Clone,
    R: Clone,
    P: Clone,
    C: Clone,
{
    type Service = RetryService<S, H, R, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { retries, replay, protocol, classifier } = self.clone();
        let spare = Spare::default();
        RetryService { inner, retries, replay, protocol, classifier, spare }
    }
}
