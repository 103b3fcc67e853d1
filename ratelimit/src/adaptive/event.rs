use outrigger_core::Criticality;

use crate::ConcurrencyRefusal;

/// What an adaptive limit did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum AdaptiveLimitEvent {
    /// The limit is another one.
    Changed {
        /// How many calls could run.
        from: u32,
        /// How many can run now.
        to: u32,
        /// Why.
        reason: LimitChange,
    },
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
        wait: std::time::Duration,
        /// How much the call matters.
        criticality: Criticality,
    },
    /// In shadow: a call passed that would have had to wait.
    WouldWait {
        /// How much the call matters.
        criticality: Criticality,
    },
}

/// Why an adaptive limit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitChange {
    /// The algorithm saw no queue at the callee, or a shorter one than it allows.
    Room,
    /// The algorithm saw a queue at the callee.
    Queue,
    /// The callee dropped calls.
    Drops,
    /// Some calls more are let in for a few windows, to see whether they are done as fast; or that
    /// is over.
    Probe,
    /// The policy was replaced.
    Policy,
}

impl LimitChange {
    /// A stable word for metrics and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Queue => "queue",
            Self::Drops => "drops",
            Self::Probe => "probe",
            Self::Policy => "policy",
        }
    }
}
