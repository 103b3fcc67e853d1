use std::{
    mem,
    task::{Context, Poll},
};

use outrigger_core::{
    AttemptContext, CarryContext, Classify, Enforcement, Observe, Rejection, Tried,
};
use tower_service::Service;

use super::{
    AttemptKind, ChooseRetry, Retry, RetryEvent, RetryFuture, RetryPolicy,
    attempt::Attempt,
    engine::Plan,
    future::State,
    protocol::Protocol,
    race::{Parts, Race},
};
use crate::{Chain, CloneRequest};

/// Sends failed and late calls again. Made by [`RetryLayer`](super::RetryLayer).
#[derive(Clone, Debug)]
pub struct RetryService<S, H, R, P, C> {
    pub(super) inner: S,
    pub(super) retries: H,
    pub(super) replay: R,
    pub(super) protocol: P,
    pub(super) classifier: C,
}

impl<S, H, R, P, C> RetryService<S, H, R, P, C> {
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
}

impl<S, Request, H, R, P, C> Service<Request> for RetryService<S, H, R, P, C>
where
    S: Service<R::Sent> + Clone,
    S::Error: From<Rejection>,
    H: ChooseRetry<Request>,
    R: CloneRequest<Request> + Clone,
    P: Protocol<R::Sent, S::Response, S::Error> + CarryContext<Request> + Clone,
    C: Classify<P::Answer, S::Error> + Clone,
{
    type Response = P::Answer;
    type Error = S::Error;
    type Future = RetryFuture<S, R, P, C, H::Observer, Request>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let state = match self.retries.choose(&request) {
            None => self.once(request),
            Some((retry, policy)) => State::Race(self.race(request, retry, policy)),
        };
        RetryFuture { state }
    }
}

impl<S, H, R, P, C> RetryService<S, H, R, P, C> {
    fn once<O, Request>(&mut self, request: Request) -> State<S, R, P, C, O, Request>
    where
        S: Service<R::Sent>,
        R: CloneRequest<Request>,
        P: Protocol<R::Sent, S::Response, S::Error> + Clone,
    {
        let response = self.inner.call(self.replay.once(request));
        let attempt = Attempt::new(0, AttemptKind::First, None, response);
        State::Once { attempt, protocol: self.protocol.clone() }
    }

    fn race<O, Request>(
        &mut self,
        request: Request,
        retry: Retry<O>,
        policy: RetryPolicy,
    ) -> Race<S, R, P, C, O, Request>
    where
        S: Service<R::Sent> + Clone,
        R: CloneRequest<Request> + Clone,
        P: Protocol<R::Sent, S::Response, S::Error> + CarryContext<Request> + Clone,
        C: Clone,
        O: Observe<RetryEvent>,
    {
        retry.budget().record_call();
        let mut context = self.context_of(&request);
        let plan = Plan::new(policy, context.deadline, context.caller_is_retry);
        let may_repeat = plan.may_repeat() && policy.enforcement() == Enforcement::Enforced;
        let (mut sent, kept) =
            if may_repeat { self.replay.keep(request) } else { (self.replay.once(request), None) };
        if may_repeat && Protocol::carries(&self.protocol) {
            context.tried.get_or_insert_with(Tried::new);
            self.protocol.begin_attempt(&mut sent, &context, 0);
        }
        // The value that was polled ready is the one that is called; further attempts poll again.
        let (service, response) = if kept.is_some() {
            let clone = self.inner.clone();
            let mut ready = mem::replace(&mut self.inner, clone);
            let response = ready.call(sent);
            (Some(ready), response)
        } else {
            (None, self.inner.call(sent))
        };
        let parts = Parts {
            service,
            kept,
            replay: self.replay.clone(),
            protocol: self.protocol.clone(),
            classifier: self.classifier.clone(),
        };
        Race::begin(retry, plan, parts, context, response)
    }

    /// The context that the request came with, or else what the call being served says.
    fn context_of<Request>(&self, request: &Request) -> AttemptContext
    where
        P: CarryContext<Request>,
    {
        if let Some(context) = self.protocol.context(request) {
            return context.clone();
        }
        let chain = Chain::current();
        let mut context = AttemptContext::default();
        context.caller_is_retry = chain.is_retry();
        context.deadline = chain.deadline();
        context
    }
}
