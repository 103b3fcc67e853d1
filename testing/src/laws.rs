//! One function for each law. Each panics with a sentence that begins with `law broken`.
//!
//! `make` makes the layer anew for each law. All is polled by hand under a paused clock, in a
//! runtime of the law's own, so that layers with timers can be put to them too. Time passes only
//! while a call waits for a timer of the layer. Call laws from a plain `#[test]`, since a runtime
//! cannot be made inside another.

#[cfg(feature = "allocations")]
mod allocating;
mod bench;
mod cancelling;
#[cfg(feature = "http")]
pub mod http;
mod owing;
mod panicking;
mod readiness;
mod reserving;
mod sharing;
mod waiting;
mod waking;

use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

#[cfg(feature = "allocations")]
pub use self::allocating::a_call_allocates_nothing;
pub use self::{
    cancelling::{
        a_finished_call_that_is_kept_leaves_nothing_behind,
        dropping_a_call_at_any_await_point_leaves_nothing_behind,
    },
    owing::{
        futures_are_send_and_grow_by_at_most, is_send_and_at_most, needs_only_a_clonable_service,
        needs_only_a_service, the_users_error_stays,
    },
    panicking::{
        a_panic_at_any_await_point_leaves_nothing_behind, a_panic_in_poll_ready_leaves_it_whole,
    },
    readiness::{
        a_call_uses_its_readiness_up, a_ready_clone_that_never_calls_holds_nothing,
        clones_copy_no_readiness, readiness_belongs_to_the_value_that_is_called,
        readiness_is_forwarded,
    },
    reserving::a_place_below_is_never_parked,
    sharing::{a_layer_applied_twice_shares_its_state, separate_layers_share_nothing},
    waiting::{
        a_dropped_waiter_hands_its_turn_on, a_waiter_parks_no_place_below,
        waiters_are_served_in_order_and_without_a_stampede,
    },
    waking::{
        a_call_that_moves_is_woken_where_it_is, no_wake_up_is_lost_or_spun, waiting_costs_no_polls,
    },
};
use crate::Scripted;

/// Checks every law that needs no knowledge of what the layer is for.
///
/// For layers that wait for the inner service in `poll_ready`, as all but balancers and retries
/// between attempts do; [`all_but_readiness`] is for the others.
///
/// # Panics
///
/// When a law is broken.
pub fn all<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    readiness_is_forwarded(&make);
    a_call_uses_its_readiness_up(&make);
    all_but_readiness(make);
}

/// Checks the laws of [`all`] that hold also for a layer whose `poll_ready` is not its inner
/// service's, since its calls choose one and wait for it.
///
/// # Panics
///
/// When a law is broken.
pub fn all_but_readiness<L>(make: impl Fn() -> L)
where
    L: Layer<Scripted>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    readiness_belongs_to_the_value_that_is_called(&make);
    clones_copy_no_readiness(&make);
    a_ready_clone_that_never_calls_holds_nothing(&make);
    a_place_below_is_never_parked(&make);
    the_users_error_stays(&make);
    dropping_a_call_at_any_await_point_leaves_nothing_behind(&make);
    a_panic_at_any_await_point_leaves_nothing_behind(&make);
    a_panic_in_poll_ready_leaves_it_whole(&make);
    a_finished_call_that_is_kept_leaves_nothing_behind(&make);
    no_wake_up_is_lost_or_spun(&make);
    a_call_that_moves_is_woken_where_it_is(&make);
}
