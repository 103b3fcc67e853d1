use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{Balance, snapshot::Shared};

/// A [`Balance`] that it does not keep alive: for who only looks on.
///
/// ```
/// use outrigger_loadbalance::{Balance, BalancePolicy};
///
/// let balance = Balance::<()>::new(BalancePolicy::default());
/// let weak = balance.downgrade();
/// assert!(weak.upgrade().is_some());
///
/// drop(balance);
/// assert!(weak.upgrade().is_none());
/// ```
pub struct WeakBalance<S> {
    shared: Weak<Shared<S>>,
}

impl<S> WeakBalance<S> {
    pub(crate) fn new(shared: &Arc<Shared<S>>) -> Self {
        Self { shared: Arc::downgrade(shared) }
    }

    /// The balancer, while anybody else has a handle to it.
    #[must_use]
    pub fn upgrade(&self) -> Option<Balance<S>> {
        self.shared.upgrade().map(|shared| Balance { shared })
    }
}

impl<S> Clone for WeakBalance<S> {
    fn clone(&self) -> Self {
        Self { shared: Weak::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for WeakBalance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakBalance").finish_non_exhaustive()
    }
}
