use super::{
    event::ClientThrottleEvent, limit::ClientThrottle, policy::ClientThrottlePolicy,
    weak::WeakClientThrottlePanel,
};
use crate::{DEFAULT_CAPACITY, panel::limit_panel};

limit_panel! {
    /// A client throttle for each key: a callee, a method, an endpoint.
    ///
    /// Throttles are made on first use. Their number is capped; where a new key needs room, throttles
    /// whose window is empty give way, since nothing is lost with them (see [`Keyed`]). Clones share
    /// the throttles.
    ClientThrottlePanel of ClientThrottle, ClientThrottlePolicy, ClientThrottleEvent,
    WeakClientThrottlePanel
    ("throttle", throttle, with_throttle, single_stripe)
}
