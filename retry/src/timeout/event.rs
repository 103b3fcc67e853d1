use std::time::Duration;

/// What a time-out did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutEvent {
    /// A call ran longer than it may, and was cut short; or would have been, in shadow.
    TimedOut {
        /// How long it might run.
        after: Duration,
        /// Whether the call went on all the same.
        shadow: bool,
    },
    /// A call came too late to be sent at all: its deadline was over.
    TooLate {
        /// Whether the call was sent all the same.
        shadow: bool,
    },
}
