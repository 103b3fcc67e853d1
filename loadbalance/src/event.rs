use std::time::Duration;

/// What a balancer did. The observer's key is the endpoint's key, empty where no endpoint is meant.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BalanceEvent {
    /// An endpoint joined.
    Added {
        /// Its weight.
        weight: u32,
    },
    /// An endpoint was taken out; calls in flight on it go on.
    Removed {
        /// How many of them there are.
        in_flight: u64,
    },
    /// The last call on a removed endpoint is over. Follows every [`Removed`](Self::Removed).
    Drained,
    /// An endpoint's weight changed.
    Reweighted {
        /// The new weight.
        weight: u32,
    },
    /// An endpoint gets no calls for a while.
    Ejected {
        /// Which rule spoke.
        rule: EjectionRule,
        /// For how long, jitter included.
        duration: Duration,
        /// `false` in shadow mode: it would have been.
        enforced: bool,
    },
    /// An ejected endpoint gets calls again, on probation.
    Returned,
    /// A call could not be sent to an endpoint, and goes on to another if one is left.
    ConnectFailed {
        /// Whether the endpoint was not ready within the connect time-out; otherwise it said so.
        timed_out: bool,
    },
    /// So few endpoints are healthy that ejections are disregarded.
    PanicEntered {
        /// The share that is healthy.
        healthy: f64,
    },
    /// Enough endpoints are healthy again.
    PanicLeft {
        /// The share that is healthy.
        healthy: f64,
    },
    /// A call was refused since there was no endpoint to pick.
    NoEndpoint,
    /// An update of a discovery source was not used; the endpoints stay as they were.
    UpdateRefused {
        /// What was wrong with it.
        cause: RefusedUpdate,
    },
}

/// Which rule ejected an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EjectionRule {
    /// Too many failures in a row, or some over too long a time.
    ConsecutiveFailures,
    /// A failure on probation.
    Probation,
    /// The share of failures in one interval was too high.
    ErrorRate,
    /// The success rate lay too far below that of the other endpoints.
    SuccessRateDeviation,
    /// The mean latency lay too far above the median of the endpoints.
    Latency,
}

/// What was wrong with an update from a discovery source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedUpdate {
    /// It named no endpoint.
    Empty,
    /// The source failed or could not be understood.
    Failed,
}
