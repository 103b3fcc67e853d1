use super::{
    limit::{self, RateLimit},
    panel::{self, RateLimitPanel},
};
use crate::weak::weak_handle;

weak_handle! {
    /// A [`RateLimit`] that it does not keep alive.
    WeakRateLimit<O> of RateLimit: limit::Shared<O>
}

weak_handle! {
    /// A [`RateLimitPanel`] that it does not keep alive.
    WeakRateLimitPanel<K, O> of RateLimitPanel: panel::Shared<K, O>
}
