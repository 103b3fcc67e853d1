use std::task::{Context, Poll};

use outrigger_core::{CarryContext, Classify, Enforcement, Observe, Rejection};
use tower_service::Service;

use super::{
    AttemptKind, ChooseRetry, CurrentRetry, RetryEvent, RetryFuture, RetryPolicy,
    attempt::{Attempt, Progress},
    engine::Plan,
    future::State,
    protocol::Protocol,
    race::{Parts, Race},
    spare::{Further, Spare},
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
    pub(super) spare: Spare<S>,
}

impl<S, H, R, P, C> RetryService<S, H, R, P, C> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change.
    pub fn get_mut(&mut self) -> &mut S {
        // A clone of it as it was is of no use.
        self.spare = Spare::default();
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
    P: Protocol<R::Sent, S::Response, S::Error>
        + CarryContext<Request>
        + CarryContext<R::Sent>
        + Clone,
    C: Classify<P::Answer, S::Error> + Clone,
{
    type Response = P::Answer;
    type Error = S::Error;
    type Future = RetryFuture<S, R, P, C, H::Observer, Request>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        // Each case makes the future where the caller wants it: moving one costs too much.
        match self.retries.choose(&request) {
            None => {
                let protocol = self.protocol.clone();
                let request = self.replay.once(request);
                RetryFuture {
                    state: State::Once {
                        attempt: Attempt {
                            number: 0,
                            kind: AttemptKind::First,
                            sent_at: None,
                            progress: Progress::Calling(self.inner.call(request)),
                        },
                        protocol,
                    },
                }
            }
            Some(retry) => RetryFuture { state: State::Race(self.race(request, retry)) },
        }
    }
}

impl<S, H, R, P, C> RetryService<S, H, R, P, C> {
    fn race<O, Request>(
        &mut self,
        request: Request,
        retry: CurrentRetry<O>,
    ) -> Race<S, R, P, C, O, Request>
    where
        S: Service<R::Sent> + Clone,
        R: CloneRequest<Request> + Clone,
        P: Protocol<R::Sent, S::Response, S::Error>
            + CarryContext<Request>
            + CarryContext<R::Sent>
            + Clone,
        C: Clone,
        O: Observe<RetryEvent>,
    {
        retry.retry().budget().record_call();
        let policy = retry.policy();
        let is_enforced = policy.enforcement() == Enforcement::Enforced;
        let (plan, is_told) = self.plan_of(&request, policy, is_enforced);
        let (mut sent, kept) = if is_enforced && plan.may_repeat(policy) {
            self.replay.keep(request)
        } else {
            (self.replay.once(request), None)
        };
        // Only now, so that it need not be kept with the request: to copy it would allocate.
        if is_told {
            CarryContext::<R::Sent>::set_context(&self.protocol, &mut sent, plan.context.clone());
        }
        if plan.context.caller_is_retry {
            self.protocol.begin_attempt(&mut sent, &plan.context, 0);
        }
        // The value that was polled ready is the one that is called. Further attempts poll a clone,
        // which mostly goes unused: a channel's first poll allocates, and here it has that behind it.
        let further = match kept {
            Some(_) => self.spare.service(&self.inner),
            None => Further::None,
        };
        let response = self.inner.call(sent);
        let parts = Parts {
            further,
            kept,
            replay: self.replay.clone(),
            protocol: self.protocol.clone(),
            classifier: self.classifier.clone(),
        };
        Race::begin(retry, plan, parts, response)
    }

    /// What the call may do, by the context that the request came with, or else by what the call
    /// that is being served says. All further attempts carry that context, each with its number;
    /// the first, too, where it says something new.
    fn plan_of<Request>(
        &mut self,
        request: &Request,
        policy: &RetryPolicy,
        is_enforced: bool,
    ) -> (Plan, bool)
    where
        P: CarryContext<Request>,
    {
        let found = self.protocol.context(request);
        let is_new = found.is_none();
        let context = found.cloned().unwrap_or_else(|| Chain::current().context());
        let mut plan = Plan::new(policy, context);
        let mut is_told = false;
        if is_enforced && CarryContext::<Request>::carries(&self.protocol) {
            let shares = plan.may_repeat(policy);
            if shares {
                plan.context.tried.get_or_insert_with(|| self.spare.tried());
            }
            let says = plan.context.caller_is_retry || plan.context.deadline.is_some();
            is_told = shares || is_new && says;
        }
        (plan, is_told)
    }
}
