use std::{
    sync::Arc,
    task::{Context, Poll},
};

use outrigger_core::{Classify, Moment, TrackCompletion};
use tower_service::Service;

use super::{
    ObserveFuture, PendingCall, Protocol, ReadStatus, at_hand::AtHand, call::Call, future::State,
    layer::About, resent::Resent,
};
use crate::{CallStart, Tracer};

/// Looks on at calls. Made by [`ObserveLayer`](crate::ObserveLayer).
#[derive(Clone, Debug)]
pub struct ObserveService<S, P, C, T, X> {
    pub(super) inner: S,
    pub(super) protocol: P,
    pub(super) classifier: C,
    pub(super) completion: T,
    pub(super) tracers: X,
    pub(super) about: Arc<About>,
    pub(super) series: AtHand,
    #[cfg(feature = "tracing")]
    pub(super) spans: crate::trace::Spans,
}

impl<S, P, C, T, X> ObserveService<S, P, C, T, X> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn begin<Request>(&mut self, request: &mut Request) -> Call<X>
    where
        P: Protocol<Request>,
        X: Tracer + Clone,
    {
        let method = self.protocol.method(request);
        let series = self.series.begin(method);
        let start = CallStart {
            side: self.about.side,
            system: self.about.system.as_deref(),
            method,
            target: self.about.target.as_deref(),
            peer: self.about.peer.as_deref(),
            attempt: self.protocol.attempt(request),
        };
        let state = Some(self.tracers.start(&start));
        #[cfg(feature = "tracing")]
        let span = self.spans.begin(&start);
        #[cfg(not(feature = "tracing"))]
        let span = crate::trace::CallSpan;
        #[cfg(feature = "tracing-opentelemetry")]
        self.spans.pass_on(self.about.side, &span, self.protocol.carrier(request));
        let counts_resent = series.as_ref().is_some_and(|series| series.counts_resent());
        let resent = counts_resent.then(Resent::default);
        let tracers = self.tracers.clone();
        Call { started: Moment::now(), series, span, resent, tracers, state }
    }
}

impl<S, Request, P, C, T, X> Service<Request> for ObserveService<S, P, C, T, X>
where
    S: Service<Request>,
    P: Protocol<Request> + ReadStatus<S::Response, S::Error> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    T: TrackCompletion<S::Response, PendingCall<P, C, X, S::Response, S::Error>> + Clone,
    X: Tracer + Clone,
{
    type Response = T::Response;
    type Error = S::Error;
    type Future = ObserveFuture<S::Future, P, C, T, X>;

    /// Ready when the inner service is.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request) -> Self::Future {
        let mut call = self.begin(&mut request);
        ObserveFuture {
            state: State::Running {
                // Made in its place: a stack's future is large.
                response: call.enter(|| self.inner.call(request)),
                call: Some(call),
                protocol: self.protocol.clone(),
                classifier: self.classifier.clone(),
                completion: self.completion.clone(),
            },
        }
    }
}
