use std::{fmt, sync::Arc};

use outrigger_core::{Moment, Observe, Outcome};

use crate::{CircuitBreakerEvent, breaker::Stripe, engine::Ticket};

/// Leave to make one call.
///
/// # Cancel safety
///
/// Dropping it counts as the policy's [`Abandoned`](crate::Abandoned) says, and gives a probe's
/// place back so that the next call may probe at once.
#[must_use = "a permit that is dropped belongs to a call that was abandoned"]
pub struct Permit<O: Observe<CircuitBreakerEvent> = ()> {
    /// `None` when the call passes uncounted: the policy is disabled, or only shadows a refusal.
    held: Option<Held<O>>,
}

struct Held<O> {
    ticket: Ticket,
    stripe: Arc<Stripe<O>>,
}

impl<O: Observe<CircuitBreakerEvent>> Permit<O> {
    pub(crate) const fn counted(ticket: Ticket, stripe: Arc<Stripe<O>>) -> Self {
        Self { held: Some(Held { ticket, stripe }) }
    }

    pub(crate) const fn uncounted() -> Self {
        Self { held: None }
    }

    /// Says how the call ended. A result from before the circuit's last change counts for nothing.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: a third of the cost is moves")]
    pub fn record(mut self, outcome: Outcome) {
        let Some(Held { ticket, stripe }) = self.held.take() else { return };
        let now = Moment::now();
        let recorded = stripe.shared.engine.record(stripe.index, ticket, outcome, now);
        stripe.shared.tell_recorded(recorded, now);
    }
}

impl<O: Observe<CircuitBreakerEvent>> Drop for Permit<O> {
    fn drop(&mut self) {
        let Some(Held { ticket, stripe }) = self.held.take() else { return };
        let now = Moment::now();
        let recorded = stripe.shared.engine.abandon(stripe.index, ticket, now);
        stripe.shared.tell_recorded(recorded, now);
    }
}

impl<O: Observe<CircuitBreakerEvent>> fmt::Debug for Permit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_counted = self.held.is_some();
        f.debug_struct("Permit").field("is_counted", &is_counted).finish_non_exhaustive()
    }
}
