use std::time::Duration;

/// What a rate limit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitEvent {
    /// A call was refused; or, in shadow, would have been.
    Refused {
        /// Why.
        reason: RateRefusal,
        /// How many tokens the call asked for.
        cost: u32,
        /// When there will be as many, if ever.
        retry_after: Option<Duration>,
        /// Whether the call passed all the same.
        shadow: bool,
    },
    /// A call got its tokens after waiting for them.
    Waited {
        /// How long.
        wait: Duration,
    },
    /// In shadow: a call passed that would have had to wait so long.
    WouldWait {
        /// How long.
        wait: Duration,
    },
}

/// Why a call got no tokens. [`reason`](Self::reason) is the word in
/// [`Rejection`](outrigger_core::Rejection).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RateRefusal {
    /// There are not enough tokens, and no call may wait.
    RateReached,
    /// As many calls as allowed are waiting.
    QueueFull,
    /// The wait would be longer than it may be.
    WaitTooLong,
    /// The call's deadline would pass before its tokens come.
    NoTimeToWait,
    /// The call asks for more than the bucket ever holds.
    CostExceedsBurst,
}

impl RateRefusal {
    /// The stable word for machines.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RateReached => "rate_reached",
            Self::QueueFull => "queue_full",
            Self::WaitTooLong => "wait_too_long",
            Self::NoTimeToWait => "no_time_to_wait",
            Self::CostExceedsBurst => "cost_exceeds_burst",
        }
    }
}
