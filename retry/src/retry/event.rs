use std::time::Duration;

use outrigger_core::Outcome;

/// What a retry did.
///
/// Attempts of a call are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryEvent {
    /// An attempt was sent; or would have been, in shadow.
    AttemptSent {
        /// The attempt's number.
        number: u32,
        /// Why it was sent.
        kind: AttemptKind,
        /// Whether it was not sent in truth.
        shadow: bool,
    },
    /// An attempt ended. A cancelled one does not: see `BackupWon` and `BackupLost`.
    AttemptEnded {
        /// The attempt's number.
        number: u32,
        /// What it turned out to be.
        outcome: Outcome,
    },
    /// A retry holds its share of the budget and waits.
    RetryScheduled {
        /// The number that the attempt will have.
        number: u32,
        /// How long it waits.
        wait: Duration,
    },
    /// A backup request gave the answer; the attempts before it were cancelled.
    BackupWon {
        /// The winner's number.
        number: u32,
    },
    /// A backup request was cancelled, since an earlier attempt gave the answer.
    BackupLost {
        /// The loser's number.
        number: u32,
    },
    /// The budget refused a further attempt.
    BudgetExhausted {
        /// What the attempt would have been.
        kind: AttemptKind,
    },
    /// The request could not be sent again: its body is too big, or was not kept.
    ReplayImpossible,
    /// No further attempt is made, though one would have been wanted.
    Stopped {
        /// Why.
        reason: StopReason,
    },
}

/// Why an attempt is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptKind {
    /// It is the call's first.
    First,
    /// The one before failed.
    Retry,
    /// The one before takes long.
    Backup,
    /// The one before was never processed by the peer, for certain: counts neither as a retry nor
    /// against the budget.
    Transparent,
}

/// Why no further attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// All attempts that the policy allows were made.
    MaxRetries,
    /// The deadline, or the longest duration, would be over before the next could end.
    NoTimeLeft,
    /// The call serves one that is itself a retry.
    ChainStop,
    /// The server said not to retry, or to come back later than the policy waits.
    Pushback,
    /// The circuit is open.
    CircuitOpen,
    /// It may have been executed, and the method is not declared idempotent.
    NotIdempotent,
    /// The request could not be made again.
    ReplayImpossible,
    /// The inner service failed to become ready.
    NotReady,
}
