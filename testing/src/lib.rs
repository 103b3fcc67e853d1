//! The laws of a tower layer, as checks that any layer can be put to.
//!
//! [`laws`] has one generic function for each law; [`laws::all`] checks those that hold for every
//! layer. They drive the layer by hand over a [`Scripted`] inner service, which panics when it is
//! called without having been polled ready, and counts what is left behind.
//!
//! # Example
//!
//! ```
//! use std::panic::catch_unwind;
//!
//! use outrigger_testing::{Scripted, laws};
//! use tower::{Service, layer::layer_fn, service_fn, util::MapResponseLayer};
//!
//! laws::all(|| MapResponseLayer::new(|answer: u32| answer));
//!
//! // A layer that calls a clone which was never polled ready breaks the first law.
//! let broken = || {
//!     layer_fn(|inner: Scripted| service_fn(move |request| inner.clone().call(request)))
//! };
//! let law = || laws::readiness_belongs_to_the_value_that_is_called(broken);
//! catch_unwind(law).unwrap_err();
//! ```
//!
//! A layer crate puts its layer to them in `tests/contract.rs`, with a policy so lenient that the
//! errors, panics and dropped calls of a law do not make it refuse: a law cuts 20 calls at the same
//! point, one after another.
//!
//! # The laws
//!
//! | law of [`laws`] | in `all` | what it finds |
//! | --- | --- | --- |
//! | `readiness_is_forwarded` | yes | a `poll_ready` that guesses, loses the waker, swallows or wraps errors |
//! | `a_call_uses_its_readiness_up` | yes | a second call on the readiness of the first |
//! | `readiness_belongs_to_the_value_that_is_called` | yes | calling a clone that was never ready |
//! | `clones_copy_no_readiness` | yes | a flag or a permit that `Clone` copies |
//! | `a_ready_clone_that_never_calls_holds_nothing` | yes | a permit taken in `poll_ready` |
//! | `a_place_below_is_never_parked` | yes | an inner value kept ready, or alive, after its call |
//! | `the_users_error_stays` | yes | wrapped and swallowed errors |
//! | `dropping_a_call_at_any_await_point_leaves_nothing_behind` | yes | what cancelling leaks |
//! | `a_panic_at_any_await_point_leaves_nothing_behind` | yes | what a panic leaks or poisons |
//! | `a_panic_in_poll_ready_leaves_it_whole` | yes | what a panic in `poll_ready` poisons |
//! | `a_finished_call_that_is_kept_leaves_nothing_behind` | yes | what is held until the future is dropped |
//! | `no_wake_up_is_lost_or_spun` | yes | busy waiting, lost wake-ups |
//! | `a_call_that_moves_is_woken_where_it_is` | yes | a waker kept from the first poll |
//! | `waiting_costs_no_polls` | no: say how long the layer is quiet | polling by timer |
//! | `a_dropped_waiter_hands_its_turn_on` | no: for layers whose calls wait | a turn lost with its waiter |
//! | `a_waiter_parks_no_place_below` | no: for layers whose calls wait | an unready clone that waits while the ready value is parked |
//! | `waiters_are_served_in_order_and_without_a_stampede` | no: for layers whose calls wait | unfair queues, waking all for one place |
//! | `a_layer_applied_twice_shares_its_state` | no: say how to see it | state per connection |
//! | `separate_layers_share_nothing` | no: say how to see it | global state |
//! | `needs_only_a_service`, `needs_only_a_clonable_service` | no: by type | needless bounds |
//! | `futures_are_send_and_grow_by_at_most`, `is_send_and_at_most` | no: say how large | `!Send`, large futures |
//! | `a_call_allocates_nothing` (feature `allocations`) | no | allocations on the success path |
//!
//! # What is not a law
//!
//! What a layer is for: when it refuses, waits or tries again is the business of its own tests.
//!
//! # Features
//!
//! None by default.
//!
//! | feature | what it brings |
//! | --- | --- |
//! | `allocations` | the law that a call allocates nothing; a counting allocator in the test binary |
//! | `http` | `ScriptedHttp`, and the laws of bodies in `laws::http`: they pass as they are; dropped or panicking at any frame, or over but kept, they leave nothing behind |

#![forbid(unsafe_code)]

pub mod laws;

mod bare;
mod script;
mod scripted;
#[cfg(feature = "http")]
mod scripted_http;
mod start;
mod walk;

pub use bare::{Bare, BareFuture};
pub use script::{Answer, Readiness, Script, ScriptedError};
pub use scripted::{Scripted, ScriptedFuture, scripted};
#[cfg(feature = "http")]
pub use scripted_http::{Frames, ScriptedBody, ScriptedHttp, ScriptedHttpFuture};
pub use start::start;
pub use walk::Walk;
