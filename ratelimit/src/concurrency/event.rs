use std::time::Duration;

use outrigger_core::Criticality;

/// What a concurrency limit did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConcurrencyLimitEvent {
    /// A call was refused; or, in shadow, would have been.
    Refused {
        /// Why.
        reason: ConcurrencyRefusal,
        /// How much the call mattered.
        criticality: Criticality,
        /// How many calls were running.
        in_flight: u32,
        /// How many could run.
        limit: u32,
        /// Whether the call passed all the same.
        shadow: bool,
    },
    /// A call got a place after waiting for it.
    Waited {
        /// How long.
        wait: Duration,
        /// How much the call matters.
        criticality: Criticality,
    },
    /// In shadow: a call passed that would have had to wait.
    WouldWait {
        /// How much the call matters.
        criticality: Criticality,
    },
}

/// Why a call got no place. [`reason`](Self::reason) is the word in
/// [`Rejection`](outrigger_core::Rejection).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConcurrencyRefusal {
    /// As many calls as allowed are running, and none may wait.
    LimitReached,
    /// The places that are left are kept for more critical calls.
    KeptForCritical,
    /// As many calls as allowed are waiting.
    QueueFull,
    /// A more critical call took the place in the queue.
    Displaced,
    /// The wait was as long as it may be.
    WaitedTooLong,
    /// Calls wait too long, so this one is not let wait.
    Overloaded,
    /// The call's deadline would pass before its turn comes.
    NoTimeToWait,
    /// The call's deadline has passed.
    DeadlinePassed,
}

impl ConcurrencyRefusal {
    /// The stable word for machines.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::LimitReached => "limit_reached",
            Self::KeptForCritical => "kept_for_critical",
            Self::QueueFull => "queue_full",
            Self::Displaced => "displaced",
            Self::WaitedTooLong => "waited_too_long",
            Self::Overloaded => "overloaded",
            Self::NoTimeToWait => "no_time_to_wait",
            Self::DeadlinePassed => "deadline_passed",
        }
    }

    /// Whether it is the call's own time that is over.
    pub(crate) const fn is_of_deadline(self) -> bool {
        matches!(self, Self::NoTimeToWait | Self::DeadlinePassed)
    }
}
