use std::fmt;

use super::limit::ConnectionLimit;
use crate::{ConcurrencyLimit, WeakConcurrencyLimit};

/// A [`ConnectionLimit`] that it does not keep alive.
pub struct WeakConnectionLimit<O> {
    places: WeakConcurrencyLimit<O>,
}

impl<O> WeakConnectionLimit<O> {
    pub(super) fn new(places: &ConcurrencyLimit<O>) -> Self {
        Self { places: places.downgrade() }
    }

    /// The handle, while anybody else has one.
    #[must_use]
    pub fn upgrade(&self) -> Option<ConnectionLimit<O>> {
        self.places.upgrade().map(ConnectionLimit::from_places)
    }
}

impl<O> Clone for WeakConnectionLimit<O> {
    fn clone(&self) -> Self {
        Self { places: self.places.clone() }
    }
}

impl<O> fmt::Debug for WeakConnectionLimit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakConnectionLimit").finish_non_exhaustive()
    }
}
