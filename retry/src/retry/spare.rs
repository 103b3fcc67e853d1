//! What one call leaves to the next of the same service, so that the next need not make it.

use std::{
    mem,
    sync::{Arc, Mutex, TryLockError},
};

use outrigger_core::Tried;

/// What the last calls of a service left over.
#[derive(Debug)]
pub(super) struct Spare<S> {
    tried: Option<Tried>,
    /// Made by the second call: who calls each clone of a service once would only pay for it.
    shelf: Option<Arc<Shelf<S>>>,
    is_used: bool,
}

/// Holds a clone of the inner service that was never polled: such a one holds nothing back.
type Shelf<S> = Mutex<Option<S>>;

impl<S> Default for Spare<S> {
    fn default() -> Self {
        Self { tried: None, shelf: None, is_used: false }
    }
}

/// A clone has nothing: two that had the same could not use it.
impl<S> Clone for Spare<S> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<S> Spare<S> {
    /// The list of endpoints tried, once nobody looks at that of the last call any more.
    pub(super) fn tried(&mut self) -> Tried {
        let spare = self.tried.take().and_then(|mut tried| tried.reset().then_some(tried));
        let tried = spare.unwrap_or_default();
        self.tried = Some(tried.clone());
        tried
    }

    /// A clone of `inner` for further attempts: the one that the last call had no need of. To clone
    /// a channel allocates.
    pub(super) fn service(&mut self, inner: &S) -> Further<S>
    where
        S: Clone,
    {
        // What holds nothing costs nothing to clone.
        if !mem::needs_drop::<S>() || !mem::replace(&mut self.is_used, true) {
            return Further { service: Some(inner.clone()), shelf: None };
        }
        let place = self.shelf.get_or_insert_default();
        let service = put(place, None).unwrap_or_else(|| inner.clone());
        Further { service: Some(service), shelf: Some(Arc::clone(place)) }
    }
}

/// Changes what is on the shelf. Who finds somebody there goes on without: nobody waits.
fn put<S>(shelf: &Shelf<S>, service: Option<S>) -> Option<S> {
    match shelf.try_lock() {
        Ok(mut shelf) => mem::replace(&mut *shelf, service),
        Err(TryLockError::Poisoned(poisoned)) => mem::replace(&mut *poisoned.into_inner(), service),
        Err(TryLockError::WouldBlock) => service,
    }
}

/// What further attempts of a call are made with. Left to the next call, if it was not needed.
#[derive(Debug)]
pub(super) struct Further<S> {
    service: Option<S>,
    shelf: Option<Arc<Shelf<S>>>,
}

impl<S> Further<S> {
    /// None of it: there can be no further attempt.
    pub(super) const NONE: Self = Self { service: None, shelf: None };

    /// The service, to be polled: from now on it is left to nobody, since one that is ready may
    /// hold a place back.
    pub(super) fn service(&mut self) -> Option<&mut S> {
        self.shelf = None;
        self.service.as_mut()
    }
}

impl<S> Drop for Further<S> {
    fn drop(&mut self) {
        let Some(place) = self.shelf.take() else { return };
        if let Some(service) = self.service.take() {
            // What was there before, or found no room, is dropped here, with no lock held.
            drop(put(&place, Some(service)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts its clones.
    #[derive(Debug)]
    struct Counted(Arc<AtomicU32>);

    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(&self.0))
        }
    }

    #[test]
    fn a_service_that_was_not_polled_serves_the_next_call() {
        let (clones, mut left) = (Arc::default(), Spare::default());
        let inner = Counted(Arc::clone(&clones));
        (0..10).for_each(|_| drop(left.service(&inner)));
        // One for the first call, which leaves nothing, and one for all others.
        assert_eq!(clones.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_service_that_was_polled_is_left_to_nobody() {
        let (clones, mut left) = (Arc::default(), Spare::default());
        let inner = Counted(Arc::clone(&clones));
        (0..10).for_each(|_| assert!(left.service(&inner).service().is_some()));
        assert_eq!(clones.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn calls_at_the_same_time_have_a_service_each() {
        let (clones, mut left) = (Arc::default(), Spare::default());
        let inner = Counted(Arc::clone(&clones));
        drop(left.service(&inner));
        let both = [left.service(&inner), left.service(&inner)];
        assert_eq!(clones.load(Ordering::Relaxed), 3);
        drop(both);
        drop(left.service(&inner));
        assert_eq!(clones.load(Ordering::Relaxed), 3, "one of the two was left");
    }
}
