use std::{fmt, sync::Arc, time::Duration};

use outrigger_core::{Classify, Complete, End, Moment, Outcome};
use tokio::time::Instant;

use super::limit::{Relay, Stripe};
use crate::{LearnResult, Permit};

/// A place for one call, from which the limit learns how the call went. Dropping it gives the
/// place back.
///
/// # Cancel safety
///
/// A permit that is dropped before its call was answered counts as the policy's
/// [`CutShort`](crate::CutShort) says; its duration is not taken for a latency.
#[must_use = "a permit that is dropped gives its place back"]
pub struct AdaptivePermit<O = (), C = ()> {
    /// `None` when the call counts for nothing: the policy is disabled, or all is told.
    held: Option<Held<O>>,
    /// Of a call whose answer began well.
    latency: Option<Duration>,
    head: Outcome,
    #[cfg(feature = "http")]
    judge_trailers: Option<JudgeTrailers<C>>,
    classifier: C,
    /// Whether this call was let pass beyond the limit.
    is_beyond: bool,
    /// Last, so that the place is given back when the call is told.
    _place: Permit<Relay<O>>,
}

/// What a call that counts began with.
struct Held<O> {
    stripe: Arc<Stripe<O>>,
    since: Instant,
    /// How many calls ran then, itself included.
    in_flight: u32,
}

#[cfg(feature = "http")]
type JudgeTrailers<C> = fn(&C, Outcome, &http::HeaderMap) -> Outcome;

impl<O, C> AdaptivePermit<O, C> {
    /// `began` is `None` for a call that counts for nothing.
    pub(super) fn new(
        began: Option<(Arc<Stripe<O>>, Instant)>,
        place: Permit<Relay<O>>,
        classifier: C,
    ) -> Self {
        let is_beyond = began.is_some() && !place.is_counted();
        let held = began.map(|(stripe, since)| {
            let in_flight = stripe.shared.began(stripe.index, is_beyond);
            Held { stripe, since, in_flight }
        });
        Self {
            held,
            latency: None,
            head: Outcome::Success,
            #[cfg(feature = "http")]
            judge_trailers: None,
            classifier,
            is_beyond,
            _place: place,
        }
    }

    /// The call is over. A `Success` tells its latency, a `Failure` and a `Timeout` are drops, and
    /// what is `Ignored` counts for nothing.
    pub fn finish(self, outcome: Outcome) {
        self.finish_at(outcome, Moment::now());
    }

    /// As [`finish`](Self::finish), where the time is known.
    pub fn finish_at(mut self, outcome: Outcome, now: Instant) {
        self.tell(outcome, None, now);
    }

    /// `latency` is `None` for a call that lasted until now.
    fn tell(&mut self, outcome: Outcome, latency: Option<Duration>, now: Instant) {
        if let Some(Held { stripe, since, in_flight }) = self.held.take() {
            let latency = latency.unwrap_or_else(|| now.saturating_duration_since(since));
            stripe.shared.ended(stripe.index, outcome, (latency, in_flight), now);
            stripe.shared.left(self.is_beyond);
        }
    }
}

impl<O, C, Response, Error> LearnResult<Response, Error> for AdaptivePermit<O, C>
where
    C: Classify<Response, Error>,
{
    fn learn(&mut self, result: Result<&Response, &Error>) {
        let Some(held) = &self.held else { return };
        let is_answer = result.is_ok();
        let outcome = self.classifier.classify(result);
        let now = Moment::now();
        if !is_answer {
            return self.tell(outcome, None, now);
        }
        // What is bad already is told by the permit's end; so is what the trailers may yet make bad.
        self.latency = Some(now.saturating_duration_since(held.since));
        self.head = outcome;
        #[cfg(feature = "http")]
        {
            self.judge_trailers = Some(C::classify_trailers);
        }
    }
}

impl<O, C> Complete for AdaptivePermit<O, C> {
    fn complete(mut self, end: End<'_>) {
        let Some(latency) = self.latency.take() else { return };
        let outcome = match end {
            #[cfg(feature = "http")]
            End::Trailers(trailers) => match self.judge_trailers {
                Some(judge) => judge(&self.classifier, self.head, trailers),
                None => self.head,
            },
            End::BodyFailed => Outcome::Failure,
            _ => self.head,
        };
        self.tell(outcome, Some(latency), Moment::now());
    }
}

impl<O, C> Drop for AdaptivePermit<O, C> {
    fn drop(&mut self) {
        let Some(Held { stripe, in_flight, .. }) = self.held.take() else { return };
        match self.latency {
            Some(latency) => {
                let sample = (latency, in_flight);
                stripe.shared.ended(stripe.index, self.head, sample, Moment::now());
            }
            None => stripe.shared.was_cut_short(stripe.index),
        }
        stripe.shared.left(self.is_beyond);
    }
}

impl<O, C> fmt::Debug for AdaptivePermit<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptivePermit")
            .field("is_counted", &self.held.is_some())
            .finish_non_exhaustive()
    }
}
