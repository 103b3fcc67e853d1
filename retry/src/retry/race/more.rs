//! What only a call has whose first attempt is not its last.

use std::pin::Pin;

use tokio::time::Instant;

use crate::{RetryShare, Sent, Waits, retry::AttemptKind};

/// What a call has that needs more than one attempt.
pub(super) struct More<Attempt, Request, Output> {
    /// Attempts that were sent while another was on its way.
    pub(super) beside: Vec<Pin<Box<Attempt>>>,
    pub(super) retry: Option<PlannedRetry>,
    /// A further attempt that waits for the inner service to be ready.
    pub(super) sending: Option<Sending<Request>>,
    /// How the last attempt that counts failed.
    pub(super) failure: Option<(Sent, Output)>,
    pub(super) waits: Option<Waits>,
}

impl<Attempt, Request, Output> Default for More<Attempt, Request, Output> {
    fn default() -> Self {
        Self { beside: Vec::new(), retry: None, sending: None, failure: None, waits: None }
    }
}

/// A retry that waits for its time.
pub(super) struct PlannedRetry {
    /// `None` is at once.
    pub(super) at: Option<Instant>,
    pub(super) kind: AttemptKind,
    /// Held while it waits. A transparent retry needs none.
    pub(super) share: Option<RetryShare>,
}

pub(super) struct Sending<Request> {
    pub(super) request: Request,
    pub(super) kind: AttemptKind,
    pub(super) share: Option<RetryShare>,
}
