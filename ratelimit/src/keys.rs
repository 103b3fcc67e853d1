//! How the limits of a panel are chosen.

use std::num::NonZeroUsize;

use outrigger_core::MethodRef;

/// Reads the key from a closure.
#[derive(Clone, Copy, Debug)]
pub struct ByKey<F>(pub(crate) F);

/// Reads the key from the name of the method, which allocates nothing. Requests that name no
/// method share the key `_OTHER/_OTHER` (the word of OpenTelemetry's conventions).
#[derive(Clone, Copy, Debug)]
pub struct ByMethod<N>(pub(crate) N);

pub(crate) const OTHER: MethodRef<'static> = MethodRef { service: "_OTHER", method: "_OTHER" };

/// How many keys a panel holds when nothing else is said.
pub(crate) const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The word by which this crate's refusals say who refused.
pub(crate) const LAYER: &str = "ratelimit";
