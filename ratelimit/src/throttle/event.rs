use outrigger_core::Criticality;

/// What a client throttle did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ClientThrottleEvent {
    /// A call was refused; or, in shadow, would have been.
    Refused {
        /// How much the call mattered.
        criticality: Criticality,
        /// How likely the refusal was, from 0 to 1.
        probability: f64,
        /// How many calls of its class the window held, refused ones too.
        requests: u32,
        /// How many of them the callee had accepted.
        accepts: u32,
        /// Whether the call passed all the same.
        shadow: bool,
    },
}

/// Why a client throttle refuses: the word in [`Rejection`](outrigger_core::Rejection).
pub const THROTTLED: &str = "throttled";
