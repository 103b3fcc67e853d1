//! The settings as they stand in a file, and what is wrong with them.

use std::{fmt, ops::RangeInclusive, time::Duration};

use outrigger_core::{Enforcement, InvalidPolicy};

use super::Abandoned;

#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct Settings {
    /// Whether the policy acts, only says what it would do, or does nothing.
    pub(super) enforcement: Enforcement,
    /// The trip rules look at the calls that ended in the last so long.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    pub(super) time_window: Duration,
    /// In how many steps a time window moves on: 1 to 1000.
    pub(super) window_buckets: u32,
    /// The trip rules look at the last so many calls instead of a time: 1 to 1000000.
    pub(super) count_window: Option<u32>,
    /// Opens at a share of failed and timed out calls. Null takes the rule out.
    pub(super) error_rate: Option<ErrorRate>,
    /// Opens when so many calls of the window failed or timed out.
    pub(super) error_count: Option<u32>,
    /// Opens when so many calls in a row failed or timed out.
    pub(super) consecutive_failures: Option<u32>,
    /// Opens when so many calls in a row failed or timed out, the first of them so long ago.
    pub(super) consecutive_failures_lasting: Option<ConsecutiveLasting>,
    /// Opens at a share of slow calls. A slow probe counts as failed.
    pub(super) slow_calls: Option<SlowCalls>,
    /// How long an open circuit refuses calls before it tries a probe.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    pub(super) cool_down: Duration,
    /// Multiplies the cool-down each time the circuit trips again without having recovered: 1 (no
    /// growth) to 1000.
    pub(super) cool_down_growth: f64,
    /// The longest cool-down that growth leads to.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    pub(super) max_cool_down: Duration,
    /// Prolongs each cool-down at random by up to this share of it: 0 to 1.
    pub(super) cool_down_jitter: f64,
    /// How long after a probe the next one is let through.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    pub(super) probe_interval: Duration,
    /// How many probes may run at once: 1 to 1000.
    pub(super) max_probes: u32,
    /// How many probes must succeed to close the circuit.
    pub(super) successes_to_close: u32,
    /// How long a probe that does not end holds its place.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    pub(super) probe_limit: Duration,
    /// What a call counts as whose future is dropped before it ends.
    pub(super) abandoned: Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct ErrorRate {
    /// Whether the rule is asked.
    pub(super) enabled: bool,
    /// The share of failed and timed out calls: above 0, at most 1.
    pub(super) rate: f64,
    /// How many calls there must be in the window. Null stands for 200, or for as many as a smaller
    /// count window holds.
    pub(super) minimum_calls: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct ConsecutiveLasting {
    /// How many in a row.
    pub(super) failures: u32,
    /// How long ago the first of them was.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    pub(super) duration: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct SlowCalls {
    /// From which duration on a call is slow.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    pub(super) duration: Duration,
    /// The share of slow calls: above 0, at most 1.
    pub(super) rate: f64,
    /// How many calls there must be in the window.
    pub(super) minimum_calls: u32,
}

/// Kitex's `MinSample`.
const MINIMUM_CALLS: u32 = 200;

impl Default for ErrorRate {
    /// Kitex's `ErrRate`.
    fn default() -> Self {
        Self { enabled: true, rate: 0.5, minimum_calls: None }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enforcement: Enforcement::Enforced,
            time_window: Duration::from_secs(10),
            window_buckets: 100,
            count_window: None,
            error_rate: Some(ErrorRate::default()),
            error_count: None,
            consecutive_failures: None,
            consecutive_failures_lasting: None,
            slow_calls: None,
            cool_down: Duration::from_secs(5),
            cool_down_growth: 1.0,
            max_cool_down: Duration::from_secs(60),
            cool_down_jitter: 0.5,
            probe_interval: Duration::from_millis(200),
            max_probes: 1,
            successes_to_close: 2,
            probe_limit: Duration::from_secs(30),
            abandoned: Abandoned::Ignored,
        }
    }
}

impl Settings {
    pub(super) fn minimum_calls_of_error_rate(&self) -> u32 {
        let set = self.error_rate.and_then(|rate| rate.minimum_calls);
        set.unwrap_or_else(|| self.count_window.map_or(MINIMUM_CALLS, |n| n.min(MINIMUM_CALLS)))
    }

    pub(super) fn validated(self) -> Result<Self, InvalidPolicy> {
        self.check_window()?;
        self.check_rules()?;
        self.check_recovery()?;
        Ok(self)
    }

    fn check_window(&self) -> Result<(), InvalidPolicy> {
        within("window_buckets", self.window_buckets, 1..=1_000, "a number from 1 to 1000")?;
        let bucket = self.time_window / self.window_buckets;
        if self.count_window.is_none() && bucket < Duration::from_millis(1) {
            let expected = "at least 1 ms for each of the `window_buckets`";
            return Err(InvalidPolicy::new("time_window", self.time_window, expected));
        }
        within_option("count_window", self.count_window, 1..=1_000_000, "from 1 to 1000000 calls")
    }

    fn check_rules(&self) -> Result<(), InvalidPolicy> {
        if let Some(ErrorRate { rate, .. }) = self.error_rate {
            share("error_rate.rate", rate)?;
            self.enough("error_rate.minimum_calls", self.minimum_calls_of_error_rate())?;
        }
        within_option("error_count", self.error_count, AT_LEAST_ONE, ONE)?;
        within_option("consecutive_failures", self.consecutive_failures, AT_LEAST_ONE, ONE)?;
        if let Some(ConsecutiveLasting { failures, .. }) = self.consecutive_failures_lasting {
            within("consecutive_failures_lasting.failures", failures, AT_LEAST_ONE, ONE)?;
        }
        if let Some(SlowCalls { duration, rate, minimum_calls }) = self.slow_calls {
            longer_than_zero("slow_calls.duration", duration)?;
            share("slow_calls.rate", rate)?;
            self.enough("slow_calls.minimum_calls", minimum_calls)?;
        }
        Ok(())
    }

    fn check_recovery(&self) -> Result<(), InvalidPolicy> {
        longer_than_zero("cool_down", self.cool_down)?;
        if !(1.0..=1_000.0).contains(&self.cool_down_growth) {
            let expected = "a factor from 1 (no growth) to 1000";
            return Err(InvalidPolicy::new("cool_down_growth", self.cool_down_growth, expected));
        }
        if self.cool_down_growth > 1.0 && self.max_cool_down < self.cool_down {
            let expected = "at least as long as `cool_down`";
            return Err(InvalidPolicy::new("max_cool_down", self.max_cool_down, expected));
        }
        if !(0.0..=1.0).contains(&self.cool_down_jitter) {
            let expected = "a share from 0 (none) to 1";
            return Err(InvalidPolicy::new("cool_down_jitter", self.cool_down_jitter, expected));
        }
        within("max_probes", self.max_probes, 1..=1_000, "a number from 1 to 1000")?;
        within("successes_to_close", self.successes_to_close, AT_LEAST_ONE, ONE)?;
        longer_than_zero("probe_limit", self.probe_limit)?;
        if self.abandoned == Abandoned::Slow && self.slow_calls.is_none() {
            let expected = "`ignored` or `failure` while no `slow_calls` are set";
            return Err(InvalidPolicy::new("abandoned", "slow", expected));
        }
        Ok(())
    }

    /// A rule that asks for more calls than the window holds could never open the circuit.
    fn enough(&self, field: &'static str, minimum_calls: u32) -> Result<(), InvalidPolicy> {
        let most = self.count_window.unwrap_or(u32::MAX);
        within(field, minimum_calls, 1..=most, "at least 1 and at most the `count_window`")
    }
}

const AT_LEAST_ONE: RangeInclusive<u32> = 1..=u32::MAX;
const ONE: &str = "at least 1";

fn within<T: PartialOrd + fmt::Debug>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
    expected: &'static str,
) -> Result<(), InvalidPolicy> {
    if range.contains(&value) { Ok(()) } else { Err(InvalidPolicy::new(field, value, expected)) }
}

fn within_option(
    field: &'static str,
    value: Option<u32>,
    range: RangeInclusive<u32>,
    expected: &'static str,
) -> Result<(), InvalidPolicy> {
    value.map_or(Ok(()), |value| within(field, value, range, expected))
}

fn share(field: &'static str, share: f64) -> Result<(), InvalidPolicy> {
    within(field, share, f64::MIN_POSITIVE..=1.0, "a share above 0 and at most 1")
}

fn longer_than_zero(field: &'static str, duration: Duration) -> Result<(), InvalidPolicy> {
    within(field, duration, Duration::from_nanos(1)..=Duration::MAX, "longer than 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.validated().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid_and_stay_so_with_a_small_count_window() {
        Settings::default().validated().unwrap();
        let small = Settings { count_window: Some(20), ..Settings::default() };
        assert_eq!(small.minimum_calls_of_error_rate(), 20);
        small.validated().unwrap();
    }

    #[test]
    fn each_impossible_setting_is_named_with_its_value_and_what_would_be_right() {
        let rate = |rate| Some(ErrorRate { enabled: true, rate, minimum_calls: Some(5) });
        let share = "it must be a share above 0 and at most 1";
        for (value, said) in [(0.0, "0.0"), (-0.5, "-0.5"), (1.01, "1.01"), (f64::NAN, "NaN")] {
            let message = refused(|settings| settings.error_rate = rate(value));
            assert_eq!(message, format!("`error_rate.rate` is {said}; {share}"));
        }
        assert_eq!(
            refused(|settings| settings.time_window = Duration::ZERO),
            "`time_window` is 0ns; it must be at least 1 ms for each of the `window_buckets`"
        );
        assert_eq!(
            refused(|settings| {
                settings.count_window = Some(4);
                settings.error_rate = rate(0.5);
            }),
            "`error_rate.minimum_calls` is 5; it must be at least 1 and at most the `count_window`"
        );
        assert_eq!(
            refused(|settings| settings.abandoned = Abandoned::Slow),
            "`abandoned` is \"slow\"; it must be `ignored` or `failure` while no `slow_calls` are set"
        );
    }

    #[test]
    fn zeros_and_infinities_are_refused_everywhere() {
        let field = |change: fn(&mut Settings)| {
            refused(change).split('`').nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(field(|s| s.window_buckets = 0), "window_buckets");
        assert_eq!(field(|s| s.count_window = Some(0)), "count_window");
        assert_eq!(field(|s| s.error_count = Some(0)), "error_count");
        assert_eq!(field(|s| s.consecutive_failures = Some(0)), "consecutive_failures");
        assert_eq!(field(|s| s.cool_down = Duration::ZERO), "cool_down");
        assert_eq!(field(|s| s.cool_down_growth = f64::INFINITY), "cool_down_growth");
        assert_eq!(field(|s| s.cool_down_jitter = f64::NAN), "cool_down_jitter");
        assert_eq!(field(|s| s.max_probes = 0), "max_probes");
        assert_eq!(field(|s| s.successes_to_close = 0), "successes_to_close");
        assert_eq!(field(|s| s.probe_limit = Duration::ZERO), "probe_limit");
        let shorter = |s: &mut Settings| {
            s.cool_down_growth = 2.0;
            s.max_cool_down = Duration::from_secs(1);
        };
        assert_eq!(field(shorter), "max_cool_down");
    }
}
