//! The algorithms: what the limit is after a window, by what the window showed.

mod aimd;
mod gradient2;
mod vegas;

use std::{fmt, time::Duration};

pub use self::{aimd::Aimd, gradient2::Gradient2, vegas::Vegas};

/// Finds the limit. Knows neither the clock nor threads: it is given one [`LimitSample`] after the
/// other, and says the limit for the next window.
///
/// [`Aimd`], [`Vegas`] and [`Gradient2`] are at hand; another one goes into
/// [`AdaptiveLimitBuilder::limiter`](crate::AdaptiveLimitBuilder::limiter).
///
/// What holds for every algorithm is kept by the limit around it: the bounds of the policy, no
/// growth that nobody needs, no cut while nobody came up to the limit, at least half off when half
/// of the calls were dropped and three quarters when all were, and the look-out for a normal latency
/// that is none.
pub trait Limiter: fmt::Debug + Send {
    /// The limit for the next window. A fraction is kept, and rounded up where calls are counted.
    fn next_limit(&mut self, sample: &LimitSample) -> f64;
}

/// What one window showed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LimitSample {
    /// The limit during the window.
    pub limit: f64,
    /// How long a call took on average that succeeded. Calls that were dropped, those that timed
    /// out among them, are not in it. None if no call succeeded.
    pub latency: Option<Duration>,
    /// How long a call takes while none has to queue, as far as is known.
    pub normal_latency: Option<Duration>,
    /// How many calls succeeded.
    pub count: u32,
    /// How many calls the callee dropped: it refused them for overload, or did not answer in time.
    pub dropped: u32,
    /// How many calls ran at once, at most.
    pub max_in_flight: u32,
    /// When the window ended, since the limit was made.
    pub at: Duration,
}

/// Up to this share of dropped calls there is no overload: some caller's own mistake.
const FEW_DROPS: f64 = 0.01;

impl LimitSample {
    /// A window with this limit and latencies, at the end of the first second, with the limit used
    /// in full and nothing dropped.
    #[must_use]
    pub const fn new(limit: f64, latency: Duration, normal_latency: Duration) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let max_in_flight = limit as u32;
        Self {
            limit,
            latency: Some(latency),
            normal_latency: Some(normal_latency),
            count: 100,
            dropped: 0,
            max_in_flight,
            at: Duration::from_secs(1),
        }
    }

    /// Which share of the calls was dropped.
    #[must_use]
    pub fn drop_share(&self) -> f64 {
        f64::from(self.dropped) / f64::from(self.dropped.saturating_add(self.count)).max(1.0)
    }

    /// Whether more than one call in a hundred was dropped.
    #[must_use]
    pub fn is_dropping(&self) -> bool {
        self.drop_share() > FEW_DROPS
    }

    /// How many times longer than normal a call took; 1 if either is not known.
    #[must_use]
    pub fn slowness(&self) -> f64 {
        match (self.latency, self.normal_latency) {
            (Some(latency), Some(normal)) if normal > Duration::ZERO => {
                latency.as_secs_f64() / normal.as_secs_f64()
            }
            _ => 1.0,
        }
    }

    /// How many calls stood in a queue, by Little's law: `limit * (1 - normal / latency)`.
    #[must_use]
    pub fn queue(&self) -> f64 {
        self.limit * (1.0 - 1.0 / self.slowness()).max(0.0)
    }
}

/// The measure of a step: `log10` of the limit, at least one call.
fn step(limit: f64) -> f64 {
    limit.max(1.0).log10().max(1.0)
}
