mod engine;

use std::{sync::Arc, time::Duration};

use outrigger_core::InvalidPolicy;
use tokio::time::Instant;

use self::engine::Window;

/// A quantile of the latencies of the last seconds, in memory of a fixed size (about 30 KB).
///
/// Latencies count in microseconds, exactly up to 64 and then in steps of at most 1/32, between
/// which it interpolates. What is older than 5 s is forgotten. An attempt that was cancelled counts
/// as 'at least this long' ([`record_cut`](Self::record_cut)), by the estimator of Kaplan and Meier
/// (1958): cutting the tail does not blind it.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_retry::{LatencyQuantile, QuantileDelay};
/// use tokio::time::Instant;
///
/// let ms = Duration::from_millis;
/// let now = Instant::now();
/// let latencies = LatencyQuantile::new(now);
/// (1..=1_000).for_each(|n| latencies.record(n * ms(1) / 10, now));
///
/// let p95 = latencies.delay(&QuantileDelay::of(0.95), now).expect("enough samples");
/// assert!((ms(94)..ms(96)).contains(&p95), "{p95:?}");
/// ```
///
/// Recording adds to a counter and takes no lock. Where two threads meet at the edge of a second, a
/// few samples may be lost: it is a statistic.
#[derive(Clone, Debug)]
pub struct LatencyQuantile {
    window: Arc<Window>,
}

impl LatencyQuantile {
    /// Begins with no samples.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { window: Arc::new(Window::new(now)) }
    }

    /// Counts a call or an attempt that ended after `latency`.
    pub fn record(&self, latency: Duration, now: Instant) {
        self.window.record(latency, now, false);
    }

    /// Counts an attempt that was cancelled after `at_least`.
    pub fn record_cut(&self, at_least: Duration, now: Instant) {
        self.window.record(at_least, now, true);
    }

    /// The wait before a backup request; `None` while there are too few samples.
    ///
    /// Computed anew at most ten times in a second, and else at hand.
    #[must_use]
    pub fn delay(&self, wanted: &QuantileDelay, now: Instant) -> Option<Duration> {
        let estimate = self.window.estimate(wanted.quantile_ppm, wanted.min_samples, now)?;
        Some(estimate.clamp(wanted.floor, wanted.ceiling))
    }
}

/// A wait that follows a live quantile of the method's latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QuantileDelay {
    /// In millionths.
    quantile_ppm: u32,
    min_samples: u32,
    floor: Duration,
    ceiling: Duration,
}

impl QuantileDelay {
    /// The quantile `quantile`, such as 0.99, of at least 100 samples, no shorter than 1 ms and no
    /// longer than a minute. A number that is no quantile is refused when the policy is built.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from a float saturates, and what is out of range is refused later"
    )]
    pub const fn of(quantile: f64) -> Self {
        Self {
            quantile_ppm: (quantile * 1_000_000.0 + 0.5) as u32,
            min_samples: 100,
            floor: Duration::from_millis(1),
            ceiling: Duration::from_secs(60),
        }
    }

    /// No backup request before there are this many samples in the last 5 s. Default: 100.
    #[must_use]
    pub const fn min_samples(mut self, samples: u32) -> Self {
        self.min_samples = samples;
        self
    }

    /// The shortest wait. Default: 1 ms, about what a timer can tell apart.
    #[must_use]
    pub const fn floor(mut self, floor: Duration) -> Self {
        self.floor = floor;
        self
    }

    /// The longest wait. Default: a minute.
    #[must_use]
    pub const fn ceiling(mut self, ceiling: Duration) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// Says whether these settings make sense: to be asked once, where they are read or built.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be, its value, and what would be right.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        if !(1..1_000_000).contains(&self.quantile_ppm) {
            let given = f64::from(self.quantile_ppm) / 1e6;
            return Err(InvalidPolicy::new("quantile", given, "above 0 and below 1"));
        }
        if self.min_samples == 0 {
            return Err(InvalidPolicy::new("min_samples", self.min_samples, "at least 1"));
        }
        if self.floor > self.ceiling {
            return Err(InvalidPolicy::new("floor", self.floor, "at most `ceiling`"));
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Settings {
    /// The quantile of the method's latency, such as 0.99: above 0 and below 1.
    quantile: f64,
    /// No backup request before there are so many samples in the last 5 s, at least 1.
    #[serde(default = "default_min_samples")]
    min_samples: u32,
    /// The shortest wait.
    #[serde(default = "default_floor", with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    floor: Duration,
    /// The longest wait.
    #[serde(default = "default_ceiling", with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    ceiling: Duration,
}

#[cfg(feature = "serde")]
const fn default_min_samples() -> u32 {
    QuantileDelay::of(0.5).min_samples
}

#[cfg(feature = "serde")]
const fn default_floor() -> Duration {
    QuantileDelay::of(0.5).floor
}

#[cfg(feature = "serde")]
const fn default_ceiling() -> Duration {
    QuantileDelay::of(0.5).ceiling
}

#[cfg(feature = "serde")]
impl TryFrom<Settings> for QuantileDelay {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        let Settings { quantile, min_samples, floor, ceiling } = settings;
        let delay = Self::of(quantile).min_samples(min_samples).floor(floor).ceiling(ceiling);
        delay.check().map(|()| delay)
    }
}

#[cfg(feature = "serde")]
impl From<QuantileDelay> for Settings {
    fn from(delay: QuantileDelay) -> Self {
        let QuantileDelay { quantile_ppm, min_samples, floor, ceiling } = delay;
        Self { quantile: f64::from(quantile_ppm) / 1e6, min_samples, floor, ceiling }
    }
}
