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

use crate::{MethodState, ObserveGovernance, at_hand::Share};

/// Where the context of a call's attempts stands inside a stack.
pub trait Envelope: Default {
    /// The place for it in the envelope; none if it travels with the request.
    fn place(&mut self) -> Option<&mut Option<AttemptContext>>;

    /// What stands in the envelope.
    fn context(&self) -> Option<&AttemptContext>;
}

/// The context travels with the request, so that the service inside is told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WithRequest;

impl Envelope for WithRequest {
    fn place(&mut self) -> Option<&mut Option<AttemptContext>> {
        None
    }

    fn context(&self) -> Option<&AttemptContext> {
        None
    }
}

/// The context stays in the envelope: only the stack's own layers see it.
#[derive(Clone, Debug, Default)]
pub struct InEnvelope(Option<AttemptContext>);

impl Envelope for InEnvelope {
    fn place(&mut self) -> Option<&mut Option<AttemptContext>> {
        Some(&mut self.0)
    }

    fn context(&self) -> Option<&AttemptContext> {
        self.0.as_ref()
    }
}

/// A request on its way through a stack, with what governs it: found once, on the way in.
///
/// Layers that are put into a stack see this; [`Inner`] lets what is made for the request work on
/// it.
#[derive(Debug)]
pub struct Governed<R, O = (), E = WithRequest> {
    /// The request.
    pub request: R,
    pub(super) state: Share<O>,
    attempt: u32,
    envelope: E,
}

impl<R, O, E> Governed<R, O, E> {
    pub(super) const fn new(request: R, state: Share<O>, envelope: E) -> Self {
        Self { request, state, attempt: 0, envelope }
    }

    /// Puts what the request says into the envelope, if that is where the context stands and nobody
    /// has put it there.
    pub(super) fn hold_context<X: CarryContext<R>>(&mut self, carrier: impl FnOnce() -> X)
    where
        E: Envelope,
    {
        let Some(place @ None) = self.envelope.place() else { return };
        let said = carrier().context(&self.request).cloned();
        *place = Some(said.unwrap_or_else(|| Chain::current().context()));
    }

    /// Takes the request out. What governs it is at hand for the next call from here on: also for
    /// one that the service inside makes.
    #[inline]
    pub(super) fn into_request(self) -> R {
        self.request
    }

    /// The same envelope around another request.
    fn with<T>(self, change: impl FnOnce(R) -> T) -> Governed<T, O, E> {
        let Self { request, state, attempt, envelope } = self;
        Governed { request: change(request), state, attempt, envelope }
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
}

/// Lets what is made for a request work on it inside a [`Governed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inner<T>(pub T);

impl<R, O, X: CarryContext<R>, E: Envelope> CarryContext<Governed<R, O, E>> for Inner<X> {
    fn context<'a>(&self, request: &'a Governed<R, O, E>) -> Option<&'a AttemptContext> {
        request.envelope.context().or_else(|| self.0.context(&request.request))
    }

    fn set_context(&self, request: &mut Governed<R, O, E>, context: AttemptContext) {
        match request.envelope.place() {
            Some(place) => *place = Some(context),
            None => self.0.set_context(&mut request.request, context),
        }
    }

    fn carries(&self) -> bool {
        self.0.carries()
    }
}

impl<R, O, D: CarryDeadline<R>, E: Envelope> CarryDeadline<Governed<R, O, E>> for Inner<D> {
    fn deadline(&self, request: &Governed<R, O, E>, now: &mut Now) -> Option<Instant> {
        match request.envelope.context() {
            Some(context) => {
                let peers = self.0.peer_deadline(&request.request, now);
                context.deadline.into_iter().chain(peers).min()
            }
            None => self.0.deadline(&request.request, now),
        }
    }

    fn set_deadline(&self, request: &mut Governed<R, O, E>, deadline: Instant, now: &mut Now) {
        let Some(place) = request.envelope.place() else {
            self.0.set_deadline(&mut request.request, deadline, now);
            return;
        };
        place.get_or_insert_with(|| Chain::current().context()).deadline = Some(deadline);
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

impl<R, O, C: CloneRequest<R>, E: Envelope> CloneRequest<Governed<R, O, E>> for Inner<C> {
    type Sent = Governed<C::Sent, O, E>;
    type Kept = KeptGoverned<C::Kept, O>;

    fn once(&self, request: Governed<R, O, E>) -> Self::Sent {
        request.with(|request| self.0.once(request))
    }

    fn keep(&self, request: Governed<R, O, E>) -> (Self::Sent, Option<Self::Kept>) {
        let mut kept = None;
        let sent = request.with(|request| {
            let (sent, inner) = self.0.keep(request);
            kept = inner;
            sent
        });
        let keep = |kept| KeptGoverned { request: Some(kept), state: sent.state.owned() };
        let kept = kept.map(keep);
        (sent, kept)
    }

    fn again(&self, kept: &mut Option<Self::Kept>, is_last: bool) -> Option<Self::Sent> {
        let KeptGoverned { request: inner, state } = kept.as_mut()?;
        let request = self.0.again(inner, is_last)?;
        // Its context comes with the attempt's number.
        let again = Governed::new(request, Share::new(Arc::clone(state)), E::default());
        if inner.is_none() {
            *kept = None;
        }
        Some(again)
    }
}

impl<R, O, Response, Error, P, E> Protocol<Governed<R, O, E>, Response, Error> for Inner<P>
where
    P: Protocol<R, Response, Error>,
    E: Envelope,
{
    type Answer = P::Answer;
    type Settle = P::Settle;

    fn begin_attempt(
        &self,
        request: &mut Governed<R, O, E>,
        context: &AttemptContext,
        previous: u32,
    ) {
        request.attempt = context.number;
        match request.envelope.place() {
            Some(place) => {
                *place = Some(context.clone());
                self.0.tell_peer(&mut request.request, context, previous);
            }
            None => self.0.begin_attempt(&mut request.request, context, previous),
        }
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
impl<R, O, E> NameMethod<Governed<R, O, E>> for OfMethod {
    fn name_method<'a>(&self, request: &'a Governed<R, O, E>) -> Option<MethodRef<'a>> {
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

impl<R, O, E> ChooseTimeout<Governed<R, O, E>> for OfCall {
    fn choose(&mut self, request: &Governed<R, O, E>) -> TimeoutPolicy {
        request.state.timeout
    }
}

impl<R, O, E> ChooseTimeout<Governed<R, O, E>> for OfAttempt {
    fn choose(&mut self, request: &Governed<R, O, E>) -> TimeoutPolicy {
        request.state.attempt_timeout
    }
}

impl<R, O: ObserveGovernance, E> ChooseRateLimit<Governed<R, O, E>> for OfMethod {
    type Observer = O;

    fn enter_for(
        &self,
        request: &Governed<R, O, E>,
        cost: u32,
        deadline: Option<Instant>,
    ) -> Result<Option<Waiting<O>>, Rejection> {
        let Some(limit) = request.state.rate.acting() else { return Ok(None) };
        limit.enter_for(&request.request, cost, deadline)
    }
}

impl<R, O: ObserveGovernance, E> ChooseThrottle<Governed<R, O, E>> for OfMethod {
    type Observer = O;

    fn try_acquire_for(
        &self,
        request: &Governed<R, O, E>,
        criticality: Criticality,
    ) -> Result<ThrottlePermit<O>, Rejection> {
        let Some(throttle) = request.state.throttle.acting() else {
            return Ok(ThrottlePermit::uncounted());
        };
        throttle.try_acquire_for(&request.request, criticality)
    }
}

impl<R, O: ObserveGovernance, E> ChooseRetry<Governed<R, O, E>> for OfMethod {
    type Observer = O;

    fn choose(&mut self, request: &Governed<R, O, E>) -> Option<CurrentRetry<O>> {
        request.state.current_retry()
    }
}

impl<R, O: ObserveGovernance, E> ChooseBreaker<Governed<R, O, E>> for OfMethod {
    type Observer = O;

    fn try_acquire_for(&self, request: &Governed<R, O, E>) -> Result<BreakerPermit<O>, Rejection> {
        let Some(breaker) = request.state.breaker.acting() else {
            return Ok(BreakerPermit::uncounted());
        };
        breaker.try_acquire_for(&request.request)
    }
}

/// What the caller states comes before what the policy states.
impl<R, O, X: CarryContext<R>, E: Envelope> ReadCriticality<Governed<R, O, E>> for Inner<X> {
    fn read(&self, request: &Governed<R, O, E>) -> Option<Criticality> {
        let context = CarryContext::context(self, request);
        context.and_then(|context| context.criticality).or(request.state.criticality)
    }
}
