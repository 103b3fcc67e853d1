use std::{
    fmt,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use outrigger_core::{Method, Moment, NameMethod, Observe, Rejection};
use pin_project::pin_project;

use super::{
    event::AdaptiveLimitEvent,
    limit::{AdaptiveLimit, Relay, Stripe},
    panel::AdaptiveLimitPanel,
    permit::AdaptivePermit,
};
use crate::{Asking, ByKey, ByMethod, ChooseLimit, Entry, OTHER, Wait};

/// An adaptive limit with the classifier that tells it how calls went.
#[derive(Clone, Debug)]
pub struct AdaptiveChoice<L, C> {
    pub(super) limit: L,
    pub(super) classifier: C,
}

impl<Request, O, C> ChooseLimit<Request> for AdaptiveChoice<AdaptiveLimit<O>, C>
where
    O: Observe<AdaptiveLimitEvent>,
    C: Clone,
{
    type Permit = AdaptivePermit<O, C>;
    type Wait = AdaptiveWait<O, C>;

    fn enter_for(
        &self,
        _request: &Request,
        asking: Asking,
    ) -> Entry<AdaptivePermit<O, C>, AdaptiveWait<O, C>> {
        self.limit.enter_with(asking, self.classifier.clone())
    }
}

/// Chooses an adaptive limit of a panel by a key that `N` reads from the request.
#[derive(Debug)]
pub struct KeyedAdaptive<N, K, O = ()> {
    pub(super) panel: AdaptiveLimitPanel<K, O>,
    pub(super) read_key: N,
}

impl<N: Clone, K, O> Clone for KeyedAdaptive<N, K, O> {
    fn clone(&self) -> Self {
        Self { panel: self.panel.clone(), read_key: self.read_key.clone() }
    }
}

impl<Request, F, K, O, C> ChooseLimit<Request> for AdaptiveChoice<KeyedAdaptive<ByKey<F>, K, O>, C>
where
    F: Fn(&Request) -> K,
    K: Hash + Eq + Clone + fmt::Display,
    O: Observe<AdaptiveLimitEvent>,
    C: Clone,
{
    type Permit = AdaptivePermit<O, C>;
    type Wait = AdaptiveWait<O, C>;

    fn enter_for(
        &self,
        request: &Request,
        asking: Asking,
    ) -> Entry<AdaptivePermit<O, C>, AdaptiveWait<O, C>> {
        let key = (self.limit.read_key.0)(request);
        let ask = |limit: &AdaptiveLimit<O>| limit.enter_with(asking, self.classifier.clone());
        self.limit.panel.with_limit(&key, || key.clone(), ask)
    }
}

impl<Request, N, O, C> ChooseLimit<Request>
    for AdaptiveChoice<KeyedAdaptive<ByMethod<N>, Method, O>, C>
where
    N: NameMethod<Request>,
    O: Observe<AdaptiveLimitEvent>,
    C: Clone,
{
    type Permit = AdaptivePermit<O, C>;
    type Wait = AdaptiveWait<O, C>;

    fn enter_for(
        &self,
        request: &Request,
        asking: Asking,
    ) -> Entry<AdaptivePermit<O, C>, AdaptiveWait<O, C>> {
        let method = self.limit.read_key.0.name_method(request).unwrap_or(OTHER);
        let ask = |limit: &AdaptiveLimit<O>| limit.enter_with(asking, self.classifier.clone());
        self.limit.panel.with_limit(&method, || method.to_owned(), ask)
    }
}

/// Waits for a place of an adaptive limit. Needs tokio's timer.
///
/// # Cancel safety
///
/// Dropping it leaves the queue; a place that it was given already goes to the next.
#[pin_project]
#[must_use = "a place is waited for by polling"]
pub struct AdaptiveWait<O = (), C = ()> {
    #[pin]
    wait: Wait<Relay<O>>,
    /// Taken when there is a place.
    held: Option<(Arc<Stripe<O>>, C)>,
}

impl<O, C> AdaptiveWait<O, C> {
    pub(super) const fn new(wait: Wait<Relay<O>>, stripe: Arc<Stripe<O>>, classifier: C) -> Self {
        Self { wait, held: Some((stripe, classifier)) }
    }
}

impl<O: Observe<AdaptiveLimitEvent>, C> Future for AdaptiveWait<O, C> {
    type Output = Result<AdaptivePermit<O, C>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.wait.poll(cx));
        let (stripe, classifier) = this.held.take().expect("not polled after completion");
        let began = (stripe, Moment::now());
        Poll::Ready(result.map(|place| AdaptivePermit::new(Some(began), place, classifier)))
    }
}

impl<O, C> fmt::Debug for AdaptiveWait<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveWait").field("wait", &self.wait).finish_non_exhaustive()
    }
}
