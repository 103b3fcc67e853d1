use super::{
    event::AdaptiveLimitEvent, limit::AdaptiveLimit, policy::AdaptiveLimitPolicy,
    weak::WeakAdaptiveLimitPanel,
};
use crate::{DEFAULT_CAPACITY, panel::limit_panel};

limit_panel! {
    /// An adaptive limit for each key: a method, an endpoint.
    ///
    /// Limits are made on first use. Their number is capped; where a new key needs room, limits with
    /// nobody inside that were not used lately give way (see [`Keyed`]), and what they learnt is
    /// lost. Clones share the limits.
    AdaptiveLimitPanel of AdaptiveLimit, AdaptiveLimitPolicy, AdaptiveLimitEvent,
    WeakAdaptiveLimitPanel
    ("limit", limit, with_limit, single_stripe)
}
