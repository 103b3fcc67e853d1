//! The few words that all Outrigger layers share.
//!
//! A layer crate speaks these words in its public signatures, so that layers can be put together,
//! taken out and observed without touching each other. No layer crate is known here.
//!
//! | word | what it says |
//! | --- | --- |
//! | [`Rejection`] | a layer refused or cut a call: why, who, when to come back, whether it was sent |
//! | [`Outcome`], [`Classify`] | what a call turned out to be for governance |
//! | [`TrackCompletion`], [`Complete`] | when a call is over: with its response, or with its body |
//! | [`Method`], [`MethodRef`], [`NameMethod`], [`PerMethod`] | which method a call is for, and what is set for it |
//! | [`Observe`] | who is told what a layer did |
//! | [`Live`], [`Enforcement`], [`InvalidPolicy`] | settings that change while traffic flows |
//! | [`Keyed`], [`Idle`] | state per key, capped, with idle keys evicted |
//! | [`Moment`] | one look at the clock for all layers that a call passes at once |
//! | [`Timer`] | a deadline that a future waits for, in one word |
//! | [`AttemptContext`], [`CarryContext`], [`Criticality`] | what an attempt knows of its logical call |
//! | [`stripe_count`], [`thread_number`] | which stripe of a value is a thread's own |
//!
//! # Example
//!
//! A user's own error type stays: it says by `From` how it reports a refusal.
//!
//! ```
//! use std::time::Duration;
//!
//! use outrigger_core::{Rejection, RejectionKind};
//!
//! #[derive(Debug)]
//! enum OrderError {
//!     OutOfStock,
//!     Refused(Rejection),
//! }
//!
//! impl From<Rejection> for OrderError {
//!     fn from(rejection: Rejection) -> Self {
//!         Self::Refused(rejection)
//!     }
//! }
//!
//! let rejection = Rejection::unavailable("circuitbreak", "circuit_open")
//!     .with_key("shop/Orders/Place")
//!     .with_retry_after(Duration::from_millis(4_200));
//!
//! assert_eq!(rejection.kind(), RejectionKind::Unavailable);
//! assert!(!rejection.was_sent());
//! assert_eq!(
//!     rejection.to_string(),
//!     "call refused by circuitbreak `shop/Orders/Place`: circuit open; try again in 4.2s",
//! );
//! let error = OrderError::from(rejection);
//! assert!(matches!(error, OrderError::Refused(_)));
//! # let _ = OrderError::OutOfStock;
//! ```
//!
//! # Features
//!
//! None is on by default, and none changes what another part does.
//!
//! | feature | adds |
//! | --- | --- |
//! | `http` | [`HttpStatus`], [`GrpcStatus`], [`OnBodyEnd`], [`InExtensions`], [`GrpcPath`], [`RejectionResponseLayer`] |
//! | `tonic` | `http`, `From<Rejection> for tonic::Status`, the context in `tonic::Request` |
//! | `serde` | `Serialize` and `Deserialize` for the words that stand in policies |
//! | `schema` | `serde`, and their JSON schemas |

#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "http"),
    expect(rustdoc::broken_intra_doc_links, reason = "the page names what the features add")
)]

mod classify;
mod completion;
mod context;
mod enforcement;
mod keyed;
mod live;
mod method;
mod moment;
mod observe;
mod outcome;
mod policy;
mod rejection;
#[cfg(feature = "schema")]
mod schema;
mod stripe;
mod timer;

pub use classify::{Classify, ErrorsAreFailures};
pub use completion::{Complete, End, OnResponse, TrackCompletion};
pub use context::{AttemptContext, CarryContext, Criticality, NoContext, Tried};
pub use enforcement::Enforcement;
pub use keyed::{Idle, Keyed};
pub use live::{Live, LiveReader};
pub use method::{Method, MethodRef, NameMethod, PerMethod};
pub use moment::Moment;
pub use observe::Observe;
pub use outcome::Outcome;
pub use policy::InvalidPolicy;
pub use rejection::{Rejection, RejectionKind};
pub use stripe::{stripe_count, thread_number};
pub use timer::Timer;

#[cfg(feature = "http")]
pub use classify::{GrpcStatus, HttpStatus};
#[cfg(feature = "http")]
pub use completion::{OnBodyEnd, TrackedBody};
#[cfg(feature = "http")]
pub use context::InExtensions;
#[cfg(feature = "http")]
pub use method::GrpcPath;
#[cfg(feature = "schema")]
pub use schema::DurationInFile;

#[cfg(feature = "http")]
pub use rejection::{RejectionResponse, RejectionResponseFuture, RejectionResponseLayer};
