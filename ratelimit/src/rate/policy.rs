use std::{num::NonZeroU32, time::Duration};

use governor::Quota;
use outrigger_core::{Enforcement, InvalidPolicy};

use crate::settings::{longer_than_zero, within};

/// How many calls may pass in a time, how many at once, and what happens to the others.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_ratelimit::RateLimitPolicy;
///
/// let policy = RateLimitPolicy::builder()
///     .rate(600)
///     .period(Duration::from_secs(60))
///     .burst(5)
///     .build()?;
/// assert_eq!(policy.time_per_token(), Duration::from_millis(100));
///
/// let error = RateLimitPolicy::builder().rate(2_000_000).build().unwrap_err();
/// assert_eq!(error.to_string(), "`rate` is 2000000; it must be from 1 to one per microsecond");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateLimitPolicy {
    settings: Settings,
}

/// Makes a [`RateLimitPolicy`]. What is not set keeps its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimitPolicyBuilder {
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Settings {
    /// Whether the policy acts, only says what it would do, or does nothing.
    enforcement: Enforcement,
    /// How many calls may begin in each period, at least 1 and at most one per microsecond.
    rate: u32,
    /// The time in which so many may begin. They may one by one, not all at its begin.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    period: Duration,
    /// How many calls may begin at once after a pause, at least 1.
    burst: u32,
    /// How many calls may wait at once; the others are refused at once.
    max_waiting: u32,
    /// How long a call waits at most; one that would have to wait longer is refused at once.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    max_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enforcement: Enforcement::Enforced,
            rate: 100,
            period: Duration::from_secs(1),
            burst: 1,
            max_waiting: 0,
            max_wait: Duration::from_secs(1),
        }
    }
}

/// Below this a rounded time per token would be off by more than a thousandth.
const SHORTEST: Duration = Duration::from_micros(1);
/// A full bucket takes at most so long to fill; far below what 64 bits of nanoseconds hold.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

impl Settings {
    fn validated(self) -> Result<Self, InvalidPolicy> {
        within("rate", self.rate, 1..=u32::MAX, "at least 1")?;
        longer_than_zero("period", self.period)?;
        within("burst", self.burst, 1..=u32::MAX, "at least 1")?;
        longer_than_zero("max_wait", self.max_wait)?;
        let per_token = self.period / self.rate;
        if per_token < SHORTEST {
            let expected = "from 1 to one per microsecond";
            return Err(InvalidPolicy::new("rate", self.rate, expected));
        }
        if per_token.checked_mul(self.burst).is_none_or(|fill| fill > LONGEST) {
            let expected = "so small that the bucket fills within ten years";
            return Err(InvalidPolicy::new("burst", self.burst, expected));
        }
        Ok(self)
    }
}

impl RateLimitPolicy {
    /// Starts from the defaults.
    #[must_use]
    pub fn builder() -> RateLimitPolicyBuilder {
        RateLimitPolicyBuilder::default()
    }

    /// Starts from this policy.
    #[must_use]
    pub const fn to_builder(&self) -> RateLimitPolicyBuilder {
        RateLimitPolicyBuilder { settings: self.settings }
    }

    /// Whether the policy acts.
    #[must_use]
    pub const fn enforcement(&self) -> Enforcement {
        self.settings.enforcement
    }

    /// The same policy, enforced, shadowed or disabled.
    #[must_use]
    pub const fn with_enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// How many tokens come in each period.
    #[must_use]
    pub const fn rate(&self) -> u32 {
        self.settings.rate
    }

    /// The time in which `rate` tokens come.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.settings.period
    }

    /// How many tokens the bucket holds.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.settings.burst
    }

    /// How many calls may wait at once.
    #[must_use]
    pub const fn max_waiting(&self) -> u32 {
        self.settings.max_waiting
    }

    /// How long a call waits at most.
    #[must_use]
    pub const fn max_wait(&self) -> Duration {
        self.settings.max_wait
    }

    /// How long one token takes to come: the period by the rate, rounded to a nanosecond.
    #[must_use]
    pub fn time_per_token(&self) -> Duration {
        let Settings { rate, period, .. } = self.settings;
        period.saturating_add(Duration::from_nanos(u64::from(rate / 2))) / rate
    }

    pub(super) fn quota(&self) -> Quota {
        let burst = NonZeroU32::new(self.settings.burst).unwrap_or(NonZeroU32::MIN);
        let per_token = self.time_per_token().max(SHORTEST);
        Quota::with_period(per_token).expect("longer than zero").allow_burst(burst)
    }
}

impl RateLimitPolicyBuilder {
    /// Whether the policy acts. Default: enforced.
    #[must_use]
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// How many tokens come in each period, at least 1 and at most one per microsecond. Default:
    /// 100.
    #[must_use]
    pub const fn rate(mut self, tokens: u32) -> Self {
        self.settings.rate = tokens;
        self
    }

    /// The time in which `rate` tokens come. They come one by one, not all at its end. Default:
    /// 1 s.
    #[must_use]
    pub const fn period(mut self, period: Duration) -> Self {
        self.settings.period = period;
        self
    }

    /// How many tokens the bucket holds: so many calls may pass at once after a pause. With
    /// 1 a call that comes late loses the time since its token was there; 2 lends it to the next.
    /// Default: 1, so that no second ever sees more than the rate and one call.
    #[must_use]
    pub const fn burst(mut self, tokens: u32) -> Self {
        self.settings.burst = tokens;
        self
    }

    /// How many calls may wait for tokens at once. Default: 0, so that they are refused at once
    /// (Kitex).
    #[must_use]
    pub const fn max_waiting(mut self, calls: u32) -> Self {
        self.settings.max_waiting = calls;
        self
    }

    /// How long a call waits at most; one that would have to wait longer is refused at once.
    /// Default: 1 s.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.settings.max_wait = wait;
        self
    }

    /// Checks the settings and makes the policy.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be, and what would be right.
    pub fn build(self) -> Result<RateLimitPolicy, InvalidPolicy> {
        Ok(RateLimitPolicy { settings: self.settings.validated()? })
    }
}

impl TryFrom<Settings> for RateLimitPolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        Ok(Self { settings: settings.validated()? })
    }
}

impl From<RateLimitPolicy> for Settings {
    fn from(policy: RateLimitPolicy) -> Self {
        policy.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_impossible_setting_is_named_and_no_multiplication_overflows() {
        let field = |change: fn(RateLimitPolicyBuilder) -> RateLimitPolicyBuilder| {
            change(RateLimitPolicy::builder()).build().unwrap_err().field().to_owned()
        };
        assert_eq!(field(|policy| policy.rate(0)), "rate");
        assert_eq!(field(|policy| policy.rate(1_000_001)), "rate");
        assert_eq!(field(|policy| policy.period(Duration::ZERO)), "period");
        assert_eq!(field(|policy| policy.burst(0)), "burst");
        assert_eq!(field(|policy| policy.max_wait(Duration::ZERO)), "max_wait");
        let hour = |policy: RateLimitPolicyBuilder| policy.period(Duration::from_secs(3_600));
        let huge = hour(RateLimitPolicy::builder()).rate(1).burst(u32::MAX).build();
        assert_eq!(huge.unwrap_err().field(), "burst");
        assert_eq!(field(|policy| policy.period(Duration::MAX).rate(1)), "burst");
    }

    #[test]
    fn a_time_per_token_is_rounded_by_less_than_a_thousandth() {
        for rate in [1, 3, 7, 999, 300_007, 999_999, 1_000_000] {
            let policy = RateLimitPolicy::builder().rate(rate).build().unwrap();
            let got = 1.0 / policy.time_per_token().as_secs_f64();
            assert!((got / f64::from(rate) - 1.0).abs() < 0.001, "{rate}: {got}");
        }
    }
}
