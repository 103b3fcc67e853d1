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
/// The limits of a panel, one for each key, have the algorithm of their policy: an own one is for a
/// single limit.
///
/// What holds for every algorithm is kept by the limit around it: the bounds of the policy; no
/// growth that nobody needs, nor in the first windows; no cut while nobody came up to the limit;
/// when calls were dropped, their share of the limit off, at most three quarters; and the look-out
/// for a normal latency that is none.
///
/// It runs under the lock that ends windows. Calls never wait for it, but a replaced policy does: it
/// must not block, panic, or call [`AdaptiveLimit::refresh`](crate::AdaptiveLimit::refresh).
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
    /// How long a call took on average that succeeded, over the last windows, and as far above
    /// normal as is certain. Calls that were dropped, those that timed out among them, are not in
    /// it. None if no call succeeded.
    pub latency: Option<Duration>,
    /// How long a call takes while none has to queue, as far as is known.
    pub normal_latency: Option<Duration>,
    /// How many calls succeeded.
    pub count: u32,
    /// How many calls the callee dropped: it refused them for overload, or did not answer in time.
    pub dropped: u32,
    /// Which share of the calls is dropped usually, whatever the limit: by a replica that is broken,
    /// or because of the callers' own mistakes.
    pub usual_drops: f64,
    /// How many calls ran at once, at most.
    pub max_in_flight: u32,
    /// In how many windows in a row, up to this one, the limit grew.
    pub growing: u32,
    /// Down to so many calls at once it is known that fewer are done faster, or not far from it: by
    /// latency alone a limit should not be cut below ([`cut`](Self::cut)). A callee whose work
    /// became slower, rather than its queue longer, gains nothing by it.
    pub confirmed: f64,
    /// When the window ended, since the limit was made.
    pub at: Duration,
}

/// So many standard deviations more calls than usual are not dropped by chance.
const SIGMAS: f64 = 3.0;
/// From this share of dropped calls on there is overload, whatever is usual.
const MOST: f64 = 0.5;
/// After so many windows of growth a step is twice as long.
const HASTE: f64 = 8.0;
/// And this many times at most.
const MOST_HASTE: f64 = 5.0;

impl LimitSample {
    /// A window with this limit and latencies, at the end of the first second, with the limit used
    /// in full, nothing dropped, and usually one call in a hundred.
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
            usual_drops: 0.01,
            max_in_flight,
            growing: 0,
            confirmed: 0.0,
            at: Duration::from_secs(1),
        }
    }

    /// Which share of the calls was dropped.
    #[must_use]
    pub fn drop_share(&self) -> f64 {
        f64::from(self.dropped) / f64::from(self.dropped.saturating_add(self.count)).max(1.0)
    }

    /// Whether half of the calls were dropped, or more than usual and not by chance: by three
    /// standard deviations and one call.
    #[must_use]
    pub fn is_dropping(&self) -> bool {
        let expected = f64::from(self.count.saturating_add(self.dropped)) * self.usual_drops;
        let by_chance = SIGMAS * (expected * (1.0 - self.usual_drops)).max(0.0).sqrt();
        self.drop_share() >= MOST || f64::from(self.dropped) > expected + by_chance + 1.0
    }

    /// Which share of the calls was dropped that usually is not.
    #[must_use]
    pub fn excess_drops(&self) -> f64 {
        let share = self.drop_share();
        let usual = if share >= MOST { 0.0 } else { self.usual_drops };
        ((share - usual) / (1.0 - usual)).clamp(0.0, 1.0)
    }

    /// How many times longer a step up may be than the first one: the longer the limit has grown,
    /// the further it may be from what the callee has room for.
    #[must_use]
    pub fn haste(&self) -> f64 {
        (1.0 + f64::from(self.growing) / HASTE).min(MOST_HASTE)
    }

    /// The limit after a cut to `to` for latency alone: no lower than is `confirmed`.
    #[must_use]
    pub const fn cut(&self, to: f64) -> f64 {
        to.max(self.confirmed.min(self.limit))
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

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "they come out exactly")]
mod tests {
    use super::*;

    fn with_drops(dropped: u32, of: u32, usual_drops: f64) -> LimitSample {
        let second = Duration::from_secs(1);
        let count = of - dropped;
        LimitSample { count, dropped, usual_drops, ..LimitSample::new(20.0, second, second) }
    }

    #[test]
    fn what_is_dropped_by_chance_is_no_overload() {
        let first_drops = |of: u32, usual: f64| {
            (0..=of).find(|dropped| with_drops(*dropped, of, usual).is_dropping())
        };
        assert_eq!([50, 1_000].map(|of| first_drops(of, 0.01)), [Some(4), Some(21)]);
        assert_eq!([50, 1_000].map(|of| first_drops(of, 0.05)), [Some(9), Some(72)]);
        assert_eq!(first_drops(100, 0.49), Some(50), "half of the calls are never usual");
    }

    #[test]
    fn what_is_usual_is_not_taken_off_unless_most_calls_are_dropped() {
        let excess = |dropped| with_drops(dropped, 100, 0.1).excess_drops();
        assert_eq!([5, 10].map(excess), [0.0; 2]);
        assert!((excess(28) - 0.2).abs() < 1e-9);
        assert_eq!([50, 100].map(excess), [0.5, 1.0]);
    }

    #[test]
    fn the_longer_it_grows_the_longer_the_steps() {
        let haste = |growing| LimitSample { growing, ..with_drops(0, 100, 0.01) }.haste();
        assert_eq!([0, 8, 16, 1_000].map(haste), [1.0, 2.0, 3.0, 5.0]);
    }
}
