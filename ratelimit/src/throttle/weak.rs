use std::sync::Arc;

use super::{
    limit::{ClientThrottle, Stripe},
    panel::{ClientThrottlePanel, Shared},
};
use crate::weak::weak_handle;

weak_handle! {
    /// A [`ClientThrottle`] that it does not keep alive.
    WeakClientThrottle<O> of ClientThrottle: [Arc<Stripe<O>>]
}

weak_handle! {
    /// A [`ClientThrottlePanel`] that it does not keep alive.
    WeakClientThrottlePanel<K, O> of ClientThrottlePanel: Shared<K, O>
}
