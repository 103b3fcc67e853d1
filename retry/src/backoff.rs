use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fastrand::Rng;
use outrigger_core::InvalidPolicy;

/// How long to wait before a retry.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_retry::{Backoff, Jitter};
///
/// let ms = Duration::from_millis;
/// let backoff = Backoff::exponential(ms(25), ms(250)).with_jitter(Jitter::None);
/// let mut waits = backoff.waits(7);
/// assert_eq!([(); 5].map(|()| waits.next_wait()), [25, 50, 100, 200, 250].map(ms));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Backoff {
    /// No wait.
    None,
    /// Always the same wait.
    Fixed {
        /// The wait.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        delay: Duration,
    },
    /// Any wait from `min` to `max`, each as likely.
    Random {
        /// The shortest wait.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        min: Duration,
        /// The longest wait.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        max: Duration,
    },
    /// A wait that grows with each retry.
    Exponential {
        /// The first wait, before jitter.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        base: Duration,
        /// The longest wait, before jitter.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        max: Duration,
        /// What a wait is multiplied by for the next: above 0, at most 1000.
        #[cfg_attr(feature = "serde", serde(default = "default_factor"))]
        factor: f64,
        /// How chance changes each wait.
        #[cfg_attr(feature = "serde", serde(default))]
        jitter: Jitter,
    },
}

#[cfg(feature = "serde")]
const fn default_factor() -> f64 {
    2.0
}

/// How chance changes a wait `w`, so that callers who failed together do not come back together.
///
/// Full, equal and decorrelated jitter are those of the AWS architecture blog, "Exponential
/// Backoff And Jitter" (2015).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Jitter {
    /// Always `w`.
    None,
    /// From 0 to `w`. The default: of all it lets a crowd through with the fewest calls.
    #[default]
    Full,
    /// From `w / 2` to `w`.
    Equal,
    /// From the base to three times the wait before, whatever `w` would be.
    Decorrelated,
    /// From `w * (1 - share)` to `w * (1 + share)`; gRPC's share is 0.2.
    Spread(f64),
}

impl Backoff {
    /// Doubles from `base` up to `max`, with full jitter.
    #[must_use]
    pub const fn exponential(base: Duration, max: Duration) -> Self {
        Self::Exponential { base, max, factor: 2.0, jitter: Jitter::Full }
    }

    /// The same with another jitter. Changes nothing but an exponential back-off.
    #[must_use]
    pub const fn with_jitter(self, jitter: Jitter) -> Self {
        match self {
            Self::Exponential { base, max, factor, .. } => {
                Self::Exponential { base, max, factor, jitter }
            }
            other => other,
        }
    }

    /// The same with another factor. Changes nothing but an exponential back-off.
    #[must_use]
    pub const fn with_factor(self, factor: f64) -> Self {
        match self {
            Self::Exponential { base, max, jitter, .. } => {
                Self::Exponential { base, max, factor, jitter }
            }
            other => other,
        }
    }

    /// The waits of one call. The same seed gives the same waits.
    #[must_use]
    pub fn waits(self, seed: u64) -> Waits {
        Waits { backoff: self, rng: Rng::with_seed(seed), retries: 0, last: None }
    }

    /// Says whether these waits make sense: to be asked once, where a back-off is read or built.
    ///
    /// # Errors
    ///
    /// Names the part that cannot be, its value, and what would be right.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        match *self {
            Self::Random { min, max } if min > max => {
                Err(InvalidPolicy::new("backoff.random.min", min, "at most `max`"))
            }
            Self::None | Self::Fixed { .. } | Self::Random { .. } => Ok(()),
            Self::Exponential { base, max, factor, jitter } => {
                if base.is_zero() || base > max {
                    let expected = "longer than 0 and at most `max`";
                    return Err(InvalidPolicy::new("backoff.exponential.base", base, expected));
                }
                if !(factor > 0.0 && factor <= 1_000.0) {
                    let expected = "a factor above 0, at most 1000";
                    return Err(InvalidPolicy::new("backoff.exponential.factor", factor, expected));
                }
                match jitter {
                    Jitter::Spread(share) if !(0.0..=1.0).contains(&share) => {
                        let expected = "a share from 0 to 1";
                        Err(InvalidPolicy::new(
                            "backoff.exponential.jitter.spread",
                            share,
                            expected,
                        ))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The waits between the attempts of one call, made by [`Backoff::waits`].
#[derive(Clone, Debug)]
pub struct Waits {
    backoff: Backoff,
    rng: Rng,
    retries: u32,
    /// The wait before, for decorrelated jitter.
    last: Option<Duration>,
}

impl Waits {
    /// How long to wait before the next retry.
    pub fn next_wait(&mut self) -> Duration {
        let wait = match self.backoff {
            Backoff::None => Duration::ZERO,
            Backoff::Fixed { delay } => delay,
            Backoff::Random { min, max } => self.between(min, max),
            Backoff::Exponential { base, max, factor, jitter } => {
                let grown = scaled(base, factor.powi(self.retries.min(10_000).cast_signed()));
                self.jittered(grown.min(max), base, max, jitter)
            }
        };
        self.retries = self.retries.saturating_add(1);
        self.last = Some(wait);
        wait
    }

    /// Starts over, as after a server said itself how long to wait.
    pub fn restart(&mut self) {
        self.retries = 0;
        self.last = None;
    }

    fn jittered(&mut self, w: Duration, base: Duration, max: Duration, jitter: Jitter) -> Duration {
        match jitter {
            Jitter::None => w,
            Jitter::Full => self.between(Duration::ZERO, w),
            Jitter::Equal => self.between(w / 2, w),
            Jitter::Decorrelated => {
                let last = self.last.unwrap_or(base);
                self.between(base, last.saturating_mul(3).max(base)).min(max)
            }
            Jitter::Spread(share) => self.between(scaled(w, 1.0 - share), scaled(w, 1.0 + share)),
        }
    }

    fn between(&mut self, min: Duration, max: Duration) -> Duration {
        let chance = self.rng.f64();
        min.saturating_add(scaled(max.saturating_sub(min), chance))
    }
}

fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// Gives each call a seed of its own, so that no two calls draw the same jitter. Shared by
/// reference, without a lock.
///
/// ```
/// use outrigger_retry::JitterSeeds;
///
/// let seeds = JitterSeeds::new(7);
/// assert_ne!(seeds.next_seed(), seeds.next_seed());
/// ```
#[derive(Debug)]
pub struct JitterSeeds {
    next: AtomicU64,
}

/// Odd, so that the sequence visits every number before it comes back to the first: the golden
/// ratio of a Weyl sequence (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

impl JitterSeeds {
    /// Starts a sequence that is the same for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { next: AtomicU64::new(seed) }
    }

    /// Starts at random.
    #[must_use]
    pub fn random() -> Self {
        Self::new(fastrand::u64(..))
    }

    /// A seed that this sequence has not given before.
    #[must_use]
    pub fn next_seed(&self) -> u64 {
        mixed(self.next.fetch_add(STRIDE, Ordering::Relaxed))
    }
}

/// The finalizer of the same paper: one to one, so that different numbers stay different.
const fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn growing(jitter: Jitter) -> Backoff {
        Backoff::exponential(10 * MS, 1_000 * MS).with_jitter(jitter)
    }

    #[test]
    fn a_thousand_calls_draw_a_thousand_different_jitters() {
        let seeds = JitterSeeds::new(1);
        let draw = |_| growing(Jitter::Full).waits(seeds.next_seed()).next_wait();
        let waits: HashSet<Duration> = (0..1_000).map(draw).collect();
        assert_eq!(waits.len(), 1_000);
        let sequences: HashSet<u64> = (0..100_000).map(|_| seeds.next_seed()).collect();
        assert_eq!(sequences.len(), 100_000);
    }

    #[test]
    fn two_processes_do_not_start_from_the_same_seed() {
        assert_ne!(JitterSeeds::random().next_seed(), JitterSeeds::random().next_seed());
    }

    #[test]
    fn full_jitter_is_even_over_its_whole_range() {
        let mut bins = [0_u32; 10];
        let seeds = JitterSeeds::new(7);
        for _ in 0..10_000 {
            let wait = growing(Jitter::Full).waits(seeds.next_seed()).next_wait();
            bins[(wait.as_nanos() / 1_000_000) as usize] += 1;
        }
        let deviation = |n: u32| (f64::from(n) - 1_000.0).powi(2) / 1_000.0;
        let chi_square: f64 = bins.into_iter().map(deviation).sum();
        // 9 degrees of freedom, one chance in a thousand.
        assert!(chi_square < 27.9, "{chi_square} of {bins:?}");
    }

    #[test]
    fn each_jitter_stays_in_its_range() {
        for seed in 0..200 {
            let nth = |jitter, n: u32| {
                let mut waits = growing(jitter).waits(seed);
                (0..n).for_each(|_| _ = waits.next_wait());
                waits.next_wait()
            };
            assert!(nth(Jitter::Full, 3) <= 80 * MS);
            assert!((40 * MS..=80 * MS).contains(&nth(Jitter::Equal, 3)));
            assert!((64 * MS..=96 * MS).contains(&nth(Jitter::Spread(0.2), 3)));
            assert!((10 * MS..=30 * MS).contains(&nth(Jitter::Decorrelated, 0)));
            assert!((10 * MS..=1_000 * MS).contains(&nth(Jitter::Decorrelated, 20)));
        }
    }

    #[test]
    fn the_longest_durations_and_many_retries_neither_overflow_nor_panic() {
        let long = Backoff::exponential(Duration::MAX, Duration::MAX);
        for jitter in [Jitter::None, Jitter::Full, Jitter::Decorrelated, Jitter::Spread(1.0)] {
            let mut waits = long.with_jitter(jitter).with_factor(1_000.0).waits(1);
            (0..100).for_each(|_| _ = waits.next_wait());
        }
        let mut waits = growing(Jitter::None).waits(1);
        waits.retries = u32::MAX;
        assert_eq!(waits.next_wait(), 1_000 * MS);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let field = |backoff: Backoff| backoff.check().unwrap_err().field();
        assert_eq!(field(Backoff::Random { min: 2 * MS, max: MS }), "backoff.random.min");
        assert_eq!(field(Backoff::exponential(2 * MS, MS)), "backoff.exponential.base");
        assert_eq!(field(Backoff::exponential(Duration::ZERO, MS)), "backoff.exponential.base");
        assert_eq!(
            field(growing(Jitter::None).with_factor(f64::NAN)),
            "backoff.exponential.factor"
        );
        let spread = growing(Jitter::Spread(f64::NAN));
        assert_eq!(field(spread), "backoff.exponential.jitter.spread");
    }
}
