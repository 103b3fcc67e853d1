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
    /// Taken when the ticket is spent.
    stripe: Option<Arc<Stripe<O>>>,
    // Beside the stripe, not with it in the `Option`: two words travel in registers.
    ticket: Ticket,
}

impl<O: Observe<CircuitBreakerEvent>> Permit<O> {
    pub(crate) const fn counted(ticket: Ticket, stripe: Arc<Stripe<O>>) -> Self {
        Self { stripe: Some(stripe), ticket }
    }

    /// Counts for nothing, for a call that no policy guards.
    pub const fn uncounted() -> Self {
        Self { stripe: None, ticket: Ticket::void() }
    }

    /// Says how the call ended. A result from before the circuit's last change counts for nothing.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: a third of the cost is moves")]
    pub fn record(mut self, outcome: Outcome) {
        let Some(stripe) = self.stripe.take() else { return };
        let now = Moment::now();
        let recorded = stripe.shared.engine.record(stripe.index, &self.ticket, outcome, now);
        stripe.shared.tell_recorded(recorded, now);
    }
}

impl<O: Observe<CircuitBreakerEvent>> Drop for Permit<O> {
    #[inline]
    fn drop(&mut self) {
        if let Some(stripe) = self.stripe.take() {
            abandon(&stripe, &self.ticket);
        }
    }
}

#[cold]
fn abandon<O: Observe<CircuitBreakerEvent>>(stripe: &Stripe<O>, ticket: &Ticket) {
    let now = Moment::now();
    let recorded = stripe.shared.engine.abandon(stripe.index, ticket, now);
    stripe.shared.tell_recorded(recorded, now);
}

impl<O: Observe<CircuitBreakerEvent>> fmt::Debug for Permit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_counted = self.stripe.is_some();
        f.debug_struct("Permit").field("is_counted", &is_counted).finish_non_exhaustive()
    }
}
