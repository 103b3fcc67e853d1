use std::sync::Arc;

use outrigger_circuitbreak::{ChooseBreaker, Permit as BreakerPermit};
use outrigger_core::{
    AttemptContext, CarryContext, Classify, Criticality, MethodRef, NameMethod, Outcome, Rejection,
};
use outrigger_ratelimit::{
    ChooseRateLimit, ChooseThrottle, ReadCriticality, ThrottlePermit, Waiting,
};
use outrigger_retry::{
    Advice, CarryDeadline, Chain, ChooseRetry, ChooseTimeout, CloneRequest, CurrentRetry, Now,
    Protocol, ReadTimeout, TimeoutPolicy,
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
    /// The context, where it stays in the envelope.
    context: Option<AttemptContext>,
    passes_context: bool,
}

impl<R, O> Governed<R, O> {
    pub(super) const fn new(
        request: R,
        state: Arc<MethodState<O>>,
        context: Option<AttemptContext>,
        passes_context: bool,
    ) -> Self {
        Self { request, state, attempt: 0, context, passes_context }
    }

    /// The same envelope around another request.
    fn with<T>(self, change: impl FnOnce(R) -> T) -> Governed<T, O> {
        let Self { request, state, attempt, context, passes_context } = self;
        Governed { request: change(request), state, attempt, context, passes_context }
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

/// What further attempts of a [`Governed`] request are made of.
#[derive(Debug)]
pub struct KeptGoverned<K, O> {
    request: Option<K>,
    state: Arc<MethodState<O>>,
    passes_context: bool,
}

/// Lets what is made for a request work on it inside a [`Governed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inner<T>(pub T);

impl<R, O, X: CarryContext<R>> CarryContext<Governed<R, O>> for Inner<X> {
    fn context<'a>(&self, request: &'a Governed<R, O>) -> Option<&'a AttemptContext> {
        request.context.as_ref().or_else(|| self.0.context(&request.request))
    }

    fn set_context(&self, request: &mut Governed<R, O>, context: AttemptContext) {
        if request.passes_context {
            self.0.set_context(&mut request.request, context);
        } else {
            request.context = Some(context);
        }
    }

    fn carries(&self) -> bool {
        self.0.carries()
    }
}

impl<R, O, D: CarryDeadline<R>> CarryDeadline<Governed<R, O>> for Inner<D> {
    fn deadline(&self, request: &Governed<R, O>, now: &mut Now) -> Option<Instant> {
        let in_envelope = request.context.as_ref().and_then(|context| context.deadline);
        in_envelope.into_iter().chain(self.0.deadline(&request.request, now)).min()
    }

    fn set_deadline(&self, request: &mut Governed<R, O>, deadline: Instant, now: &mut Now) {
        if request.passes_context {
            self.0.set_deadline(&mut request.request, deadline, now);
            return;
        }
        let context = request.context.get_or_insert_with(|| Chain::current().context());
        context.deadline = Some(deadline);
        self.0.tell_peer(&mut request.request, deadline, now);
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
    type Kept = KeptGoverned<C::Kept, O>;

    fn once(&self, request: Governed<R, O>) -> Self::Sent {
        request.with(|request| self.0.once(request))
    }

    fn keep(&self, request: Governed<R, O>) -> (Self::Sent, Option<Self::Kept>) {
        let mut kept = None;
        let sent = request.with(|request| {
            let (sent, inner) = self.0.keep(request);
            kept = inner;
            sent
        });
        let kept = kept.map(|kept| {
            let (state, passes_context) = (Arc::clone(&sent.state), sent.passes_context);
            KeptGoverned { request: Some(kept), state, passes_context }
        });
        (sent, kept)
    }

    fn again(&self, kept: &mut Option<Self::Kept>, is_last: bool) -> Option<Self::Sent> {
        let KeptGoverned { request: inner, state, passes_context } = kept.as_mut()?;
        let request = self.0.again(inner, is_last)?;
        // Its context comes with the attempt's number.
        let again = Governed::new(request, Arc::clone(state), None, *passes_context);
        if inner.is_none() {
            *kept = None;
        }
        Some(again)
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
        if !request.passes_context {
            request.context = Some(context.clone());
        }
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
