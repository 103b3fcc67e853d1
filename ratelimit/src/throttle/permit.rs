use std::{fmt, sync::Arc};

use outrigger_core::Criticality;

use super::limit::Stripe;

/// Leave to send one call. Say whether the callee accepted it.
///
/// # Cancel safety
///
/// A permit that is dropped counts as the policy's [`CutShort`](crate::CutShort) says. Nothing is
/// held meanwhile.
#[must_use = "a permit that is dropped belongs to a call that was cut short"]
pub struct ThrottlePermit<O = ()> {
    /// `None` when the call counts for nothing: the policy is disabled, or it was counted.
    held: Option<(Arc<Stripe<O>>, Criticality)>,
}

impl<O> ThrottlePermit<O> {
    pub(super) const fn counted(stripe: Arc<Stripe<O>>, criticality: Criticality) -> Self {
        Self { held: Some((stripe, criticality)) }
    }

    /// Counts for nothing, for a call that no policy holds back.
    pub const fn uncounted() -> Self {
        Self { held: None }
    }

    /// The callee took the call on, however it ended.
    pub fn accepted(mut self) {
        if let Some((stripe, criticality)) = self.held.take() {
            stripe.shared.engine.record(criticality, true);
        }
    }

    /// The callee refused the call for overload, or had no time for it.
    pub fn not_accepted(mut self) {
        if let Some((stripe, criticality)) = self.held.take() {
            stripe.shared.engine.record(criticality, false);
        }
    }

    /// The call never came to the callee: it counts for nothing.
    pub fn not_sent(mut self) {
        self.held = None;
    }
}

impl<O> Drop for ThrottlePermit<O> {
    fn drop(&mut self) {
        if let Some((stripe, criticality)) = &self.held {
            stripe.shared.engine.record_cut_short(*criticality);
        }
    }
}

impl<O> fmt::Debug for ThrottlePermit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let criticality = self.held.as_ref().map(|(_, criticality)| criticality);
        f.debug_struct("ThrottlePermit").field("criticality", &criticality).finish_non_exhaustive()
    }
}
