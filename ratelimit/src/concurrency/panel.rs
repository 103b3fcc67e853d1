use super::{
    event::ConcurrencyLimitEvent, limit::ConcurrencyLimit, policy::ConcurrencyLimitPolicy,
    weak::WeakConcurrencyLimitPanel,
};
use crate::{DEFAULT_CAPACITY, panel::limit_panel};

limit_panel! {
    /// A concurrency limit for each key: a method, a tenant, a client.
    ///
    /// Limits are made on first use. Their number is capped; where a new key needs room, limits with
    /// nobody inside that were not used lately give way (see [`Keyed`]). Clones share the limits.
    ConcurrencyLimitPanel of ConcurrencyLimit, ConcurrencyLimitPolicy, ConcurrencyLimitEvent,
    WeakConcurrencyLimitPanel
    ("limit", limit, with_limit, single_stripe)
}
