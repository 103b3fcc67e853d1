use std::sync::Arc;

use outrigger_circuitbreak::{ChooseBreaker, Permit as BreakerPermit};
use outrigger_core::{
    AttemptContext, CarryContext, Classify, Criticality, MethodRef, NameMethod, Outcome, Rejection,
};
use outrigger_ratelimit::{
    ChooseRateLimit, ChooseThrottle, ReadCriticality, ThrottlePermit, Waiting,
};
use outrigger_retry::{
    Advice, CarryDeadline, ChooseRetry, ChooseTimeout, CloneRequest, CurrentRetry, Now, Protocol,
    ReadTimeout, TimeoutPolicy,
};
use tokio::time::Instant;

use crate::{MethodState, ObserveGovernance};

/// A request on its way through a stack, with what governs it: found once, on the way in.
///
/// Layers that are put into a stack see this; [`Inner`] lets what is made for the request work on
/// it.
#[derive(Debug)]
pub struct Governed<R, O = ()> {
    /// The request.
    pub request: R,
    pub(super) state: Arc<MethodState<O>>,
    attempt: u32,
}

impl<R, O> Governed<R, O> {
    pub(super) const fn new(request: R, state: Arc<MethodState<O>>) -> Self {
        Self { request, state, attempt: 0 }
    }

    /// The number of the attempt within its call, from 0.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What governs the call.
    #[must_use]
    pub fn state(&self) -> &MethodState<O> {
        &self.state
    }
}

/// Lets what is made for a request work on it inside a [`Governed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inner<T>(pub T);

impl<R, O, X: CarryContext<R>> CarryContext<Governed<R, O>> for Inner<X> {
    fn context<'a>(&self, request: &'a Governed<R, O>) -> Option<&'a AttemptContext> {
        self.0.context(&request.request)
    }

    fn set_context(&self, request: &mut Governed<R, O>, context: AttemptContext) {
        self.0.set_context(&mut request.request, context);
    }

    fn carries(&self) -> bool {
        self.0.carries()
    }
}

impl<R, O, D: CarryDeadline<R>> CarryDeadline<Governed<R, O>> for Inner<D> {
    fn deadline(&self, request: &Governed<R, O>, now: &mut Now) -> Option<Instant> {
        self.0.deadline(&request.request, now)
    }

    fn set_deadline(&self, request: &mut Governed<R, O>, deadline: Instant, now: &mut Now) {
        self.0.set_deadline(&mut request.request, deadline, now);
    }

    fn carries(&self) -> bool {
        self.0.carries()
    }
}

impl<Response, D: ReadTimeout<Response>> ReadTimeout<Response> for Inner<D> {
    fn is_timeout(&self, response: &Response) -> bool {
        self.0.is_timeout(response)
    }
}

impl<R, O, C: CloneRequest<R>> CloneRequest<Governed<R, O>> for Inner<C> {
    type Sent = Governed<C::Sent, O>;
    type Kept = (Option<C::Kept>, Arc<MethodState<O>>);

    fn once(&self, request: Governed<R, O>) -> Self::Sent {
        let Governed { request, state, attempt } = request;
        Governed { request: self.0.once(request), state, attempt }
    }

    fn keep(&self, request: Governed<R, O>) -> (Self::Sent, Option<Self::Kept>) {
        let Governed { request, state, attempt } = request;
        let (sent, kept) = self.0.keep(request);
        let kept = kept.map(|kept| (Some(kept), Arc::clone(&state)));
        (Governed { request: sent, state, attempt }, kept)
    }

    fn again(&self, kept: &mut Option<Self::Kept>, is_last: bool) -> Option<Self::Sent> {
        let (inner, state) = kept.as_mut()?;
        let request = self.0.again(inner, is_last)?;
        let state = Arc::clone(state);
        if inner.is_none() {
            *kept = None;
        }
        Some(Governed::new(request, state))
    }
}

impl<R, O, Response, Error, P> Protocol<Governed<R, O>, Response, Error> for Inner<P>
where
    P: Protocol<R, Response, Error>,
{
    type Answer = P::Answer;
    type Settle = P::Settle;

    fn begin_attempt(&self, request: &mut Governed<R, O>, context: &AttemptContext, previous: u32) {
        request.attempt = context.number;
        self.0.begin_attempt(&mut request.request, context, previous);
    }

    fn settle(&self, response: Response, unary: bool) -> Self::Settle {
        self.0.settle(response, unary)
    }

    fn classify<C>(&self, classifier: &C, result: Result<&Self::Answer, &Error>) -> Outcome
    where
        C: Classify<Self::Answer, Error>,
    {
        self.0.classify(classifier, result)
    }

    fn advice(&self, result: Result<&Self::Answer, &Error>) -> Advice {
        self.0.advice(result)
    }
}

/// The method by which a call was found to be governed.
impl<R, O> NameMethod<Governed<R, O>> for OfMethod {
    fn name_method<'a>(&self, request: &'a Governed<R, O>) -> Option<MethodRef<'a>> {
        Some(request.state.method().as_ref())
    }
}

/// The policies and handles of a call's method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfMethod;

/// The overall time-out of a call's method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfCall;

/// The time-out of each attempt of a call's method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfAttempt;

impl<R, O> ChooseTimeout<Governed<R, O>> for OfCall {
    fn choose(&mut self, request: &Governed<R, O>) -> TimeoutPolicy {
        request.state.timeout
    }
}

impl<R, O> ChooseTimeout<Governed<R, O>> for OfAttempt {
    fn choose(&mut self, request: &Governed<R, O>) -> TimeoutPolicy {
        request.state.attempt_timeout
    }
}

impl<R, O: ObserveGovernance> ChooseRateLimit<Governed<R, O>> for OfMethod {
    type Observer = O;

    fn enter_for(
        &self,
        request: &Governed<R, O>,
        cost: u32,
        deadline: Option<Instant>,
    ) -> Result<Option<Waiting<O>>, Rejection> {
        request.state.rate.enter_for(&request.request, cost, deadline)
    }
}

impl<R, O: ObserveGovernance> ChooseThrottle<Governed<R, O>> for OfMethod {
    type Observer = O;

    fn try_acquire_for(
        &self,
        request: &Governed<R, O>,
        criticality: Criticality,
    ) -> Result<ThrottlePermit<O>, Rejection> {
        request.state.throttle.try_acquire_for(&request.request, criticality)
    }
}

impl<R, O: ObserveGovernance> ChooseRetry<Governed<R, O>> for OfMethod {
    type Observer = O;

    fn choose(&mut self, request: &Governed<R, O>) -> Option<CurrentRetry<O>> {
        request.state.retry.clone()
    }
}

impl<R, O: ObserveGovernance> ChooseBreaker<Governed<R, O>> for OfMethod {
    type Observer = O;

    fn try_acquire_for(&self, request: &Governed<R, O>) -> Result<BreakerPermit<O>, Rejection> {
        request.state.breaker.try_acquire_for(&request.request)
    }
}

/// What the caller states comes before what the policy states.
impl<R, O, X: CarryContext<R>> ReadCriticality<Governed<R, O>> for Inner<X> {
    fn read(&self, request: &Governed<R, O>) -> Option<Criticality> {
        let context = self.0.context(&request.request);
        context.and_then(|context| context.criticality).or(request.state.criticality)
    }
}
