//! What the calls of a service have in common, so that the next need not make it.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use outrigger_core::Tried;

/// What the calls of a service have in common or leave over.
#[derive(Debug)]
pub(super) struct Spare<S> {
    tried: Option<Tried>,
    /// Made by the second call: who calls each clone of a service once would only pay for it.
    model: Option<Arc<Mutex<S>>>,
    is_used: bool,
}

impl<S> Default for Spare<S> {
    fn default() -> Self {
        Self { tried: None, model: None, is_used: false }
    }
}

/// A clone has nothing: threads that call clones of a service share no cache line.
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

    /// What further attempts are made with: a clone of `inner`, or who has one made when there is
    /// such an attempt. To clone a channel allocates, and most calls have one attempt.
    pub(super) fn service(&mut self, inner: &S) -> Further<S>
    where
        S: Clone,
    {
        // What holds nothing costs nothing to clone.
        if !mem::needs_drop::<S>() || !mem::replace(&mut self.is_used, true) {
            return Further::Own(inner.clone());
        }
        let model = self.model.get_or_insert_with(|| Arc::new(Mutex::new(inner.clone())));
        Further::Model(Arc::clone(model))
    }
}

/// What further attempts of a call are made with.
#[derive(Debug)]
pub(super) enum Further<S> {
    /// There can be no further attempt.
    None,
    Own(S),
    /// Never polled, and so holds no place back. Locked while it is cloned: it need not be `Sync`.
    Model(Arc<Mutex<S>>),
}

impl<S: Clone> Further<S> {
    /// The service, to be polled.
    pub(super) fn service(&mut self) -> Option<&mut S> {
        if let Self::Model(model) = self {
            let own = model.lock().unwrap_or_else(PoisonError::into_inner).clone();
            *self = Self::Own(own);
        }
        match self {
            Self::Own(service) => Some(service),
            _ => None,
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
    fn calls_with_one_attempt_clone_nothing() {
        let (clones, mut spare) = (Arc::default(), Spare::default());
        let inner = Counted(Arc::clone(&clones));
        (0..10).for_each(|_| drop(spare.service(&inner)));
        // One for the first call, and the model for all others.
        assert_eq!(clones.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn each_call_with_more_attempts_has_one_clone_of_its_own() {
        let (clones, mut spare) = (Arc::default(), Spare::default());
        let inner = Counted(Arc::clone(&clones));
        drop(spare.service(&inner));
        let mut calls = [spare.service(&inner), spare.service(&inner)];
        assert_eq!(clones.load(Ordering::Relaxed), 2);
        for call in &mut calls {
            assert!(call.service().is_some());
            assert!(call.service().is_some());
        }
        assert_eq!(clones.load(Ordering::Relaxed), 4);
        assert!(Further::<Counted>::None.service().is_none());
    }
}
