use std::sync::Arc;

use super::{
    limit::{ConcurrencyLimit, Stripe},
    panel::{ConcurrencyLimitPanel, Shared},
};
use crate::weak::weak_handle;

weak_handle! {
    /// A [`ConcurrencyLimit`] that it does not keep alive.
    ///
    /// ```
    /// use outrigger_ratelimit::{ConcurrencyLimit, ConcurrencyLimitPolicy};
    ///
    /// let limit = ConcurrencyLimit::new(ConcurrencyLimitPolicy::default());
    /// let weak = limit.downgrade();
    /// assert!(weak.upgrade().is_some());
    ///
    /// drop(limit);
    /// assert!(weak.upgrade().is_none());
    /// ```
    WeakConcurrencyLimit<O> of ConcurrencyLimit: [Arc<Stripe<O>>]
}

weak_handle! {
    /// A [`ConcurrencyLimitPanel`] that it does not keep alive.
    WeakConcurrencyLimitPanel<K, O> of ConcurrencyLimitPanel: Shared<K, O>
}
