use std::time::Duration;

use outrigger_core::InvalidPolicy;

/// How many further attempts the calls of a callee may cost.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_retry::RetryBudgetPolicy;
///
/// let policy = RetryBudgetPolicy::builder().ratio(0.3).build()?;
/// assert_eq!(policy.ratio(), Some(0.3));
/// assert_eq!(policy.window(), Some(Duration::from_secs(10)));
///
/// let error = RetryBudgetPolicy::builder().ratio(f64::NAN).build().unwrap_err();
/// assert_eq!(error.to_string(), "`ratio` is NaN; it must be a share from 0 to 1");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RetryBudgetPolicy {
    pub(super) rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Ratio(Ratio),
    Throttle(Throttle),
    Unlimited,
}

/// A share of the calls of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    /// In millionths, so that a share such as 0.3 is exactly what was set.
    pub(super) ppm: u64,
    pub(super) window: Duration,
    pub(super) reserve: u64,
}

/// gRPC's `retryThrottling`, in thousandths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttle {
    pub(super) max_milli: u64,
    pub(super) gain_milli: u64,
}

pub(super) const PPM: u64 = 1_000_000;
pub(super) const MILLI: u64 = 1_000;

impl RetryBudgetPolicy {
    /// Starts from the defaults: 10 % of the calls of the last 10 s, and at least 1 in 10 s.
    #[must_use]
    pub fn builder() -> RetryBudgetPolicyBuilder {
        RetryBudgetPolicyBuilder { ratio: 0.1, window: Duration::from_secs(10), reserve: 1 }
    }

    /// gRPC's `retryThrottling` (gRFC A6): `max_tokens` to begin with; a failure that could be
    /// retried takes one, a success adds `token_ratio`, which counts to three decimals; attempts
    /// are allowed while more than half of `max_tokens` are left.
    ///
    /// # Errors
    ///
    /// When `max_tokens` is not above 0 and at most 1000, or `token_ratio` not at least 0.001 and
    /// at most 1000.
    pub fn throttling(max_tokens: u32, token_ratio: f64) -> Result<Self, InvalidPolicy> {
        if !(1..=1_000).contains(&max_tokens) {
            return Err(InvalidPolicy::new("max_tokens", max_tokens, "a number from 1 to 1000"));
        }
        if !(0.001..=1_000.0).contains(&token_ratio) {
            let expected = "a number from 0.001 to 1000";
            return Err(InvalidPolicy::new("token_ratio", token_ratio, expected));
        }
        // What is beyond the third decimal is cut, as gRPC does; the billionth that is added only
        // makes up for decimals that have no exact binary form.
        let gain_milli = parts(token_ratio + 1e-9, MILLI, f64::floor);
        let max_milli = u64::from(max_tokens) * MILLI;
        Ok(Self { rule: Rule::Throttle(Throttle { max_milli, gain_milli }) })
    }

    /// No limit. For simulations, and for callees that limit retries themselves.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { rule: Rule::Unlimited }
    }

    /// The share of calls, unless this is a throttle or no limit.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share in millionths is exact")]
    pub const fn ratio(&self) -> Option<f64> {
        match self.rule {
            Rule::Ratio(Ratio { ppm, .. }) => Some(ppm as f64 / PPM as f64),
            Rule::Throttle(_) | Rule::Unlimited => None,
        }
    }

    /// How far back calls count, unless this is a throttle or no limit.
    #[must_use]
    pub const fn window(&self) -> Option<Duration> {
        match self.rule {
            Rule::Ratio(Ratio { window, .. }) => Some(window),
            Rule::Throttle(_) | Rule::Unlimited => None,
        }
    }

    /// How many further attempts a window allows at least, however few its calls, unless this is
    /// a throttle or no limit.
    #[must_use]
    pub const fn reserve(&self) -> Option<u64> {
        match self.rule {
            Rule::Ratio(Ratio { reserve, .. }) => Some(reserve),
            Rule::Throttle(_) | Rule::Unlimited => None,
        }
    }
}

impl Default for RetryBudgetPolicy {
    fn default() -> Self {
        Self { rule: Rule::Ratio(Ratio::default()) }
    }
}

impl Default for Ratio {
    fn default() -> Self {
        Self { ppm: PPM / 10, window: Duration::from_secs(10), reserve: 1 }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the callers have checked the range"
)]
fn parts(share: f64, of: u64, round: fn(f64) -> f64) -> u64 {
    round(share * of as f64) as u64
}

/// Makes a [`RetryBudgetPolicy`]. What is not set keeps its default.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudgetPolicyBuilder {
    ratio: f64,
    window: Duration,
    reserve: u64,
}

impl RetryBudgetPolicyBuilder {
    /// Further attempts as a share of the calls in the window: 0 to 1, exact to a millionth.
    /// Default: 0.1.
    #[must_use]
    pub const fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// How far back calls count. Default: 10 s.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How many further attempts a window allows at least, however few its calls: 0 to 1 000 000.
    /// Default: 1. Each process has it for itself: 10 for each second, as elsewhere, keep a storm
    /// of 100 processes alive for ever.
    #[must_use]
    pub const fn reserve(mut self, attempts: u64) -> Self {
        self.reserve = attempts;
        self
    }

    /// Makes the policy.
    ///
    /// # Errors
    ///
    /// Names the first setting that cannot be, its value, and what would be right.
    pub fn build(self) -> Result<RetryBudgetPolicy, InvalidPolicy> {
        let Self { ratio, window, reserve } = self;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(InvalidPolicy::new("ratio", ratio, "a share from 0 to 1"));
        }
        if !(Duration::from_millis(20)..=Duration::from_secs(3_600)).contains(&window) {
            return Err(InvalidPolicy::new("window", window, "from 20 ms to an hour"));
        }
        if reserve > 1_000_000 {
            return Err(InvalidPolicy::new("reserve", reserve, "at most 1000000"));
        }
        let ppm = parts(ratio, PPM, f64::round);
        Ok(RetryBudgetPolicy { rule: Rule::Ratio(Ratio { ppm, window, reserve }) })
    }
}

/// The policy as it stands in a file.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
enum Settings {
    /// A share of the calls.
    Ratio {
        /// Further attempts as a share of the calls in the window: 0 to 1.
        #[serde(default = "default_ratio")]
        ratio: f64,
        /// How far back calls count: 20 ms to an hour.
        #[serde(default = "default_window", with = "humantime_serde")]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        window: Duration,
        /// How many further attempts a window allows at least, however few its calls: 0 to 1000000.
        #[serde(default = "default_reserve")]
        reserve: u64,
    },
    /// gRPC's `retryThrottling`.
    Throttling {
        /// The tokens to begin with: 1 to 1000. Attempts are allowed while more than half are left.
        max_tokens: u32,
        /// What a success adds: 0.001 to 1000. A failure takes one.
        token_ratio: f64,
    },
    /// No limit.
    Unlimited,
}

#[cfg(feature = "serde")]
fn default_ratio() -> f64 {
    RetryBudgetPolicy::builder().ratio
}

#[cfg(feature = "serde")]
fn default_window() -> Duration {
    RetryBudgetPolicy::builder().window
}

#[cfg(feature = "serde")]
fn default_reserve() -> u64 {
    RetryBudgetPolicy::builder().reserve
}

#[cfg(feature = "serde")]
impl TryFrom<Settings> for RetryBudgetPolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        match settings {
            Settings::Ratio { ratio, window, reserve } => {
                RetryBudgetPolicyBuilder { ratio, window, reserve }.build()
            }
            Settings::Throttling { max_tokens, token_ratio } => {
                Self::throttling(max_tokens, token_ratio)
            }
            Settings::Unlimited => Ok(Self::unlimited()),
        }
    }
}

#[cfg(feature = "serde")]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "both are within the ranges that were checked"
)]
impl From<RetryBudgetPolicy> for Settings {
    fn from(policy: RetryBudgetPolicy) -> Self {
        match policy.rule {
            Rule::Ratio(Ratio { ppm, window, reserve }) => {
                Self::Ratio { ratio: ppm as f64 / PPM as f64, window, reserve }
            }
            Rule::Throttle(Throttle { max_milli, gain_milli }) => Self::Throttling {
                max_tokens: (max_milli / MILLI) as u32,
                token_ratio: gain_milli as f64 / MILLI as f64,
            },
            Rule::Unlimited => Self::Unlimited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let field = |builder: RetryBudgetPolicyBuilder| builder.build().unwrap_err().field();
        let builder = RetryBudgetPolicy::builder;
        for ratio in [f64::NAN, -0.1, 1.01, f64::INFINITY] {
            assert_eq!(field(builder().ratio(ratio)), "ratio");
        }
        assert_eq!(field(builder().window(Duration::ZERO)), "window");
        assert_eq!(field(builder().window(Duration::MAX)), "window");
        assert_eq!(field(builder().reserve(u64::MAX)), "reserve");
        for (tokens, ratio) in [(0, 0.1), (1_001, 0.1), (10, 0.0), (10, f64::NAN), (10, -1.0)] {
            RetryBudgetPolicy::throttling(tokens, ratio).unwrap_err();
        }
        assert_eq!(builder().build().unwrap(), RetryBudgetPolicy::default());
    }

    #[test]
    fn decimals_are_kept_exactly_and_beyond_the_third_are_cut() {
        let milli = |ratio| match RetryBudgetPolicy::throttling(10, ratio).unwrap().rule {
            Rule::Throttle(throttle) => throttle.gain_milli,
            other => panic!("{other:?}"),
        };
        assert_eq!([0.1, 0.3, 0.7, 1.1, 0.0019, 0.001].map(milli), [100, 300, 700, 1_100, 1, 1]);
        for percent in 0..=100_u32 {
            let policy = RetryBudgetPolicy::builder().ratio(f64::from(percent) / 100.0).build();
            let Rule::Ratio(ratio) = policy.unwrap().rule else { panic!("a ratio") };
            assert_eq!(ratio.ppm, u64::from(percent) * 10_000);
        }
    }
}
