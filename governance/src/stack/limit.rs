use std::{
    pin::Pin,
    task::{Context, Poll},
};

use outrigger_core::{Complete, End, Rejection};
use outrigger_ratelimit::{
    AdaptiveLimit, AdaptivePermit, AdaptiveWait, Asking, ChooseLimit, ConcurrencyLimit, Entry,
    LearnResult, Permit, Wait,
};
use pin_project::pin_project;

use super::{Governed, OfMethod, OfServer};
use crate::ObserveGovernance;

/// The limit of a method or of a whole server: a concurrency limit or an adaptive one, whichever
/// the policies state. `C` tells an adaptive limit which calls were dropped.
#[derive(Clone, Copy, Debug)]
pub struct EitherLimit<L, C> {
    of: L,
    classifier: C,
}

impl<L, C> EitherLimit<L, C> {
    pub(super) const fn new(of: L, classifier: C) -> Self {
        Self { of, classifier }
    }
}

/// A place of either kind of limit.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives its place back"]
pub enum EitherPermit<O, C> {
    /// Of a concurrency limit.
    Fixed(Permit<O>),
    /// Of an adaptive limit.
    Adaptive(AdaptivePermit<O, C>),
}

/// Waits for a place of either kind of limit.
///
/// # Cancel safety
///
/// Dropping it leaves the queue; a place that it was given already goes to the next.
#[derive(Debug)]
#[pin_project(project = EitherWaitProj)]
#[must_use = "a place is waited for by polling"]
pub enum EitherWait<O, C> {
    /// For one of a concurrency limit.
    Fixed(#[pin] Wait<O>),
    /// For one of an adaptive limit.
    Adaptive(#[pin] AdaptiveWait<O, C>),
}

type EitherEntry<O, C> = Entry<EitherPermit<O, C>, EitherWait<O, C>>;

impl<R, O: ObserveGovernance, C: Clone, E> ChooseLimit<Governed<R, O, E>>
    for EitherLimit<OfMethod, C>
{
    type Permit = EitherPermit<O, C>;
    type Wait = EitherWait<O, C>;

    fn enter_for(&self, request: &Governed<R, O, E>, asking: Asking) -> EitherEntry<O, C> {
        match request.state.adaptive.acting() {
            None => enter_fixed(request.state.concurrency.acting(), &request.request, asking),
            Some(limit) => enter_adaptive(limit, asking, self.classifier.clone()),
        }
    }
}

impl<R, O, C, E> ChooseLimit<Governed<R, O, E>> for EitherLimit<OfServer<O>, C>
where
    O: ObserveGovernance,
    C: Clone,
{
    type Permit = EitherPermit<O, C>;
    type Wait = EitherWait<O, C>;

    fn enter_for(&self, request: &Governed<R, O, E>, asking: Asking) -> EitherEntry<O, C> {
        let server = self.of.governance.server_live().load();
        match server.adaptive.acting() {
            None => enter_fixed(server.concurrency.acting(), &request.request, asking),
            Some(limit) => enter_adaptive(limit, asking, self.classifier.clone()),
        }
    }
}

fn enter_fixed<R, O: ObserveGovernance, C>(
    limit: Option<&ConcurrencyLimit<O>>,
    request: &R,
    asking: Asking,
) -> EitherEntry<O, C> {
    let Some(limit) = limit else {
        return Entry::Admitted(EitherPermit::Fixed(Permit::uncounted()));
    };
    match limit.enter_for(request, asking) {
        Entry::Admitted(permit) => Entry::Admitted(EitherPermit::Fixed(permit)),
        Entry::Waiting(wait) => Entry::Waiting(EitherWait::Fixed(wait)),
        Entry::Refused(rejection) => Entry::Refused(rejection),
    }
}

fn enter_adaptive<O: ObserveGovernance, C>(
    limit: &AdaptiveLimit<O>,
    asking: Asking,
    classifier: C,
) -> EitherEntry<O, C> {
    match limit.enter_with(asking, classifier) {
        Entry::Admitted(permit) => Entry::Admitted(EitherPermit::Adaptive(permit)),
        Entry::Waiting(wait) => Entry::Waiting(EitherWait::Adaptive(wait)),
        Entry::Refused(rejection) => Entry::Refused(rejection),
    }
}

impl<O, C> Complete for EitherPermit<O, C> {
    fn complete(self, end: End<'_>) {
        match self {
            Self::Fixed(permit) => permit.complete(end),
            Self::Adaptive(permit) => permit.complete(end),
        }
    }
}

impl<O, C, Response, Error> LearnResult<Response, Error> for EitherPermit<O, C>
where
    AdaptivePermit<O, C>: LearnResult<Response, Error>,
{
    fn learn(&mut self, result: Result<&Response, &Error>) {
        match self {
            Self::Fixed(permit) => permit.learn(result),
            Self::Adaptive(permit) => permit.learn(result),
        }
    }
}

impl<O: ObserveGovernance, C> Future for EitherWait<O, C> {
    type Output = Result<EitherPermit<O, C>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            EitherWaitProj::Fixed(wait) => {
                wait.poll(cx).map(|permit| permit.map(EitherPermit::Fixed))
            }
            EitherWaitProj::Adaptive(wait) => {
                wait.poll(cx).map(|permit| permit.map(EitherPermit::Adaptive))
            }
        }
    }
}
