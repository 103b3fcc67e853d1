use std::sync::Arc;

use super::limit::{ClientThrottle, Stripe};
use crate::weak::weak_handle;

weak_handle! {
    /// A [`ClientThrottle`] that it does not keep alive.
    WeakClientThrottle<O> of ClientThrottle: [Arc<Stripe<O>>]
}
