use std::{fmt, sync::Arc};

use outrigger_core::{Complete, End};

use super::limit::Stripe;

/// A place for one call. Dropping it gives the place back.
///
/// # Cancel safety
///
/// The place goes to the next who waits, or to the next call.
#[must_use = "a permit that is dropped gives its place back"]
pub struct Permit<O = ()> {
    /// `None` when the call passes uncounted: the policy is disabled, or only shadows a refusal.
    stripe: Option<Arc<Stripe<O>>>,
}

impl<O> Permit<O> {
    pub(super) const fn counted(stripe: Arc<Stripe<O>>) -> Self {
        Self { stripe: Some(stripe) }
    }

    /// Takes no place, for a call that no policy limits.
    pub const fn uncounted() -> Self {
        Self { stripe: None }
    }

    /// Whether it takes a place: not when the policy is disabled, or only shadows a refusal.
    pub(crate) const fn is_counted(&self) -> bool {
        self.stripe.is_some()
    }
}

impl<O> Drop for Permit<O> {
    #[inline]
    fn drop(&mut self) {
        if let Some(stripe) = &self.stripe {
            stripe.shared.leave();
        }
    }
}

impl<O> Complete for Permit<O> {
    #[inline]
    fn complete(self, _end: End<'_>) {}
}

impl<O> fmt::Debug for Permit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("is_counted", &self.stripe.is_some()).finish()
    }
}
