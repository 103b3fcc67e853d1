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
//! use outrigger_testing::laws;
//! use tower::layer::{layer_fn, util::Identity};
//!
//! laws::all(Identity::new);
//!
//! // A layer that calls a clone which was never polled ready breaks the first law.
//! let broken = || {
//!     layer_fn(|inner: outrigger_testing::Scripted| {
//!         tower::service_fn(move |request| {
//!             let mut fresh = inner.clone();
//!             tower::Service::call(&mut fresh, request)
//!         })
//!     })
//! };
//! catch_unwind(|| laws::all(broken)).unwrap_err();
//! ```
//!
//! A layer crate puts its layer to them in `tests/contract.rs`, with a policy so lenient that the
//! few errors and panics of a law do not make it refuse.
//!
//! # What is not a law
//!
//! What a layer is for: when it refuses, waits or tries again is the business of its own tests.

#![forbid(unsafe_code)]

pub mod laws;

mod scripted;
mod walk;

pub use scripted::{Answer, Readiness, Script, Scripted, ScriptedError, ScriptedFuture, scripted};
pub use walk::Walk;
