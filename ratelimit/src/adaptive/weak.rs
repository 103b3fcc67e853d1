use std::sync::Arc;

use super::{
    limit::{AdaptiveLimit, Stripe},
    panel::{AdaptiveLimitPanel, Shared},
};
use crate::weak::weak_handle;

weak_handle! {
    /// An [`AdaptiveLimit`] that it does not keep alive.
    WeakAdaptiveLimit<O> of AdaptiveLimit: [Arc<Stripe<O>>]
}

weak_handle! {
    /// An [`AdaptiveLimitPanel`] that it does not keep alive.
    WeakAdaptiveLimitPanel<K, O> of AdaptiveLimitPanel: Shared<K, O>
}
