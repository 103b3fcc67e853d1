use super::{
    event::RateLimitEvent, limit::RateLimit, policy::RateLimitPolicy, weak::WeakRateLimitPanel,
};
use crate::{DEFAULT_CAPACITY, panel::limit_panel};

limit_panel! {
    /// A rate limit for each key: a method, a tenant, a client.
    ///
    /// Limits are made on first use. Their number is capped; where a new key needs room, limits whose
    /// bucket is full give way, since nothing is lost with them (see [`Keyed`]). Clones share the
    /// limits.
    RateLimitPanel of RateLimit, RateLimitPolicy, RateLimitEvent, WeakRateLimitPanel
    ("limit", limit, with_limit)
}
