use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use outrigger_core::{Classify, ErrorsAreFailures, Outcome};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Answers refused and failed calls in another way (Kitex's fallback).
///
/// `keep` sees each request and says what the fallback will need of it; with `None`, as for a
/// method without one, the call is left alone. `fall_back` sees that and the result of a call that
/// did not succeed.
///
/// Metrics of layers further in still count the failure, and those of layers further out what the
/// fallback made of it: put it outside `ObserveLayer`, unless its answers are to count. Outside a
/// stack it is outside what `observe` looks on at; `around_calls` before `observe` puts it inside.
///
/// ```
/// use outrigger::FallbackLayer;
/// use outrigger::core::Rejection;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let keep = |user: &u32| Some(*user);
/// let fall_back = |user, _failed: Result<String, Rejection>| Ok(format!("guest {user}"));
/// let service = ServiceBuilder::new()
///     .layer(FallbackLayer::new(keep, fall_back))
///     .service(service_fn(async |_: u32| Err(Rejection::unavailable("test", "nobody"))));
/// assert_eq!(service.oneshot(7).await, Ok("guest 7".to_owned()));
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FallbackLayer<K, F, C = ErrorsAreFailures> {
    keep: K,
    fall_back: F,
    classifier: C,
}

impl<K, F> FallbackLayer<K, F> {
    /// Falls back by these closures where a call ends with an error.
    #[must_use]
    pub const fn new(keep: K, fall_back: F) -> Self {
        Self { keep, fall_back, classifier: ErrorsAreFailures }
    }
}

impl<K, F, C> FallbackLayer<K, F, C> {
    /// Judges by `classifier` which responses are failures. An error always is one.
    #[must_use]
    pub fn classify<D>(self, classifier: D) -> FallbackLayer<K, F, D> {
        FallbackLayer { keep: self.keep, fall_back: self.fall_back, classifier }
    }
}

impl<S, K: Clone, F: Clone, C: Clone> Layer<S> for FallbackLayer<K, F, C> {
    type Service = FallbackService<S, K, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        FallbackService { inner, layer: self.clone() }
    }
}

/// Answers refused and failed calls in another way. Made by [`FallbackLayer`].
#[derive(Clone, Copy, Debug)]
pub struct FallbackService<S, K, F, C> {
    inner: S,
    layer: FallbackLayer<K, F, C>,
}

impl<S, Request, K, F, C, Kept> Service<Request> for FallbackService<S, K, F, C>
where
    S: Service<Request>,
    K: Fn(&Request) -> Option<Kept>,
    F: FnOnce(Kept, Result<S::Response, S::Error>) -> Result<S::Response, S::Error> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FallbackFuture<S::Future, Kept, F, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let FallbackLayer { keep, fall_back, classifier } = &self.layer;
        let with = keep(&request).map(|kept| (kept, fall_back.clone(), classifier.clone()));
        FallbackFuture { response: self.inner.call(request), with }
    }
}

/// The answer, or what the fallback makes of a failure.
#[derive(Debug)]
#[pin_project]
pub struct FallbackFuture<Fut, Kept, F, C> {
    #[pin]
    response: Fut,
    with: Option<(Kept, F, C)>,
}

impl<Fut, Kept, F, C, Response, Error> Future for FallbackFuture<Fut, Kept, F, C>
where
    Fut: Future<Output = Result<Response, Error>>,
    F: FnOnce(Kept, Result<Response, Error>) -> Result<Response, Error>,
    C: Classify<Response, Error>,
{
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.response.poll(cx));
        let Some((kept, fall_back, classifier)) = this.with.take() else {
            return Poll::Ready(result);
        };
        let outcome = classifier.classify(result.as_ref());
        // A refusal says nothing about the callee, but the caller has no answer.
        let failed = result.is_err() || matches!(outcome, Outcome::Failure | Outcome::Timeout);
        Poll::Ready(if failed { fall_back(kept, result) } else { result })
    }
}
