mod settings;

use std::{fmt, sync::Arc, time::Duration};

use outrigger_core::{Enforcement, InvalidPolicy};

use self::settings::{ConsecutiveLasting, ErrorRate, Settings, SlowCalls};
use crate::WindowCounts;

/// When a circuit opens, how long it stays open, and how it closes again.
///
/// Cannot hold nonsense: [`build`](CircuitBreakerPolicyBuilder::build) says which setting is
/// wrong. The defaults are Kitex's; the crate's front page lists them.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_circuitbreak::CircuitBreakerPolicy;
///
/// let policy = CircuitBreakerPolicy::builder()
///     .error_rate(0.3, 50)
///     .slow_calls(Duration::from_millis(800), 0.5, 50)
///     .cool_down(Duration::from_secs(2))
///     .build()?;
/// assert_eq!(policy.cool_down(), Duration::from_secs(2));
///
/// let error = CircuitBreakerPolicy::builder().error_rate(1.5, 50).build().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`error_rate.rate` is 1.5; it must be a share above 0 and at most 1",
/// );
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CircuitBreakerPolicy {
    settings: Settings,
    trip_when: Option<TripWhen>,
}

#[derive(Clone)]
struct TripWhen(Arc<dyn Fn(&WindowCounts) -> bool + Send + Sync>);

/// The same rule, not merely one that decides alike.
impl PartialEq for TripWhen {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for TripWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TripWhen(..)")
    }
}

/// Which calls the trip rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WindowShape {
    /// The calls that ended in the last `duration`, forgotten in `buckets` steps.
    Time {
        /// How far back the window reaches.
        duration: Duration,
        /// In how many steps it moves on.
        buckets: u32,
    },
    /// The last `calls` calls, however long ago.
    Count {
        /// How many calls.
        calls: u32,
    },
}

/// What a call counts as whose future is dropped before it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Abandoned {
    /// Nothing: who cancels says nothing about the callee. The default.
    #[default]
    Ignored,
    /// A failure: for callers who cut every call by a time-out of their own further out.
    Failure,
    /// A slow call, if it had run for the threshold of the slow calls; nothing otherwise.
    Slow,
}

/// Which rule opened a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum TripRule {
    /// The share of failures among the calls of the window.
    ErrorRate,
    /// The number of failures in the window.
    ErrorCount,
    /// Failures in a row.
    ConsecutiveFailures,
    /// Failures in a row for some time.
    ConsecutiveFailuresLasting,
    /// The share of slow calls in the window.
    SlowCalls,
    /// The user's own rule.
    Custom,
}

impl CircuitBreakerPolicy {
    /// Starts from the defaults.
    #[must_use]
    pub fn builder() -> CircuitBreakerPolicyBuilder {
        CircuitBreakerPolicyBuilder::default()
    }

    /// Starts from this policy.
    #[must_use]
    pub fn to_builder(&self) -> CircuitBreakerPolicyBuilder {
        let Self { settings, trip_when } = self.clone();
        CircuitBreakerPolicyBuilder { settings, trip_when }
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

    /// Which calls the trip rules look at.
    #[must_use]
    pub const fn window(&self) -> WindowShape {
        match self.settings.count_window {
            Some(calls) => WindowShape::Count { calls },
            None => WindowShape::Time {
                duration: self.settings.time_window,
                buckets: self.settings.window_buckets,
            },
        }
    }

    /// How long a circuit stays open at least, before growth and jitter.
    #[must_use]
    pub const fn cool_down(&self) -> Duration {
        self.settings.cool_down
    }

    /// How long after a probe the next one is let through.
    #[must_use]
    pub const fn probe_interval(&self) -> Duration {
        self.settings.probe_interval
    }

    /// How many probes may run at once.
    #[must_use]
    pub const fn max_probes(&self) -> u32 {
        self.settings.max_probes
    }

    /// How many probes must succeed to close the circuit.
    #[must_use]
    pub const fn successes_to_close(&self) -> u32 {
        self.settings.successes_to_close
    }

    /// How long a probe holds its place at most.
    #[must_use]
    pub const fn probe_limit(&self) -> Duration {
        self.settings.probe_limit
    }

    /// What a dropped call counts as.
    #[must_use]
    pub const fn abandoned(&self) -> Abandoned {
        self.settings.abandoned
    }

    /// From which duration on a call is slow, if a rule asks.
    #[must_use]
    pub fn slow_threshold(&self) -> Option<Duration> {
        self.settings.slow_calls.map(|slow| slow.duration)
    }

    /// The first rule that opens a circuit with `counts` in its window, whose last `streak` calls
    /// failed, the first of them `lasting` ago. The user's own rule is not asked here.
    pub(crate) fn broken_rule(
        &self,
        counts: &WindowCounts,
        streak: u64,
        lasting: Duration,
    ) -> Option<TripRule> {
        let settings = &self.settings;
        let rate = settings.error_rate.filter(|rate| rate.enabled);
        let minimum = settings.minimum_calls_of_error_rate();
        let slow = settings.slow_calls;
        let reached = |limit: Option<u32>, n: u64| limit.is_some_and(|limit| n >= u64::from(limit));
        let long = |rule: ConsecutiveLasting| {
            streak >= u64::from(rule.failures) && lasting >= rule.duration
        };

        if rate.is_some_and(|rule| is_share(rule.rate, minimum, counts.errors(), counts.calls)) {
            Some(TripRule::ErrorRate)
        } else if reached(settings.error_count, counts.errors()) {
            Some(TripRule::ErrorCount)
        } else if reached(settings.consecutive_failures, streak) {
            Some(TripRule::ConsecutiveFailures)
        } else if settings.consecutive_failures_lasting.is_some_and(long) {
            Some(TripRule::ConsecutiveFailuresLasting)
        } else if slow
            .is_some_and(|rule| is_share(rule.rate, rule.minimum_calls, counts.slow, counts.calls))
        {
            Some(TripRule::SlowCalls)
        } else {
            None
        }
    }

    /// The user's own rule, to be asked with no lock held.
    pub(crate) const fn has_custom_rule(&self) -> bool {
        self.trip_when.is_some()
    }

    /// Whether the user's own rule opens the circuit.
    pub(crate) fn breaks_custom_rule(&self, counts: &WindowCounts) -> bool {
        self.trip_when.as_ref().is_some_and(|TripWhen(rule)| rule(counts))
    }

    /// How long a circuit stays open that has tripped `repeats` times before without staying
    /// closed between, for a draw of `chance` from 0 to 1.
    pub(crate) fn cool_down_after(&self, repeats: u32, chance: f64) -> Duration {
        let Settings { cool_down, cool_down_growth, max_cool_down, cool_down_jitter, .. } =
            self.settings;
        let growth = cool_down_growth.powi(repeats.min(1_000).cast_signed());
        let grown = scale(cool_down, growth).min(max_cool_down.max(cool_down));
        grown.saturating_add(scale(grown, cool_down_jitter * chance))
    }
}

/// `part` of `calls` is at least `share`, and there are enough calls to say so.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn is_share(share: f64, minimum_calls: u32, part: u64, calls: u64) -> bool {
    calls >= u64::from(minimum_calls) && part as f64 >= share * calls as f64
}

fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// Makes a [`CircuitBreakerPolicy`]. What is not set keeps its default.
#[derive(Clone, Debug, Default)]
pub struct CircuitBreakerPolicyBuilder {
    settings: Settings,
    trip_when: Option<TripWhen>,
}

impl CircuitBreakerPolicyBuilder {
    /// Whether the policy acts. Default: enforced.
    #[must_use]
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// Looks at the calls that ended in the last `duration`. Default: 10 s (Kitex).
    #[must_use]
    pub const fn time_window(mut self, duration: Duration) -> Self {
        self.settings.time_window = duration;
        self.settings.count_window = None;
        self
    }

    /// In how many steps a time window moves on: 1 to 1 000. Default: 100 (Kitex).
    #[must_use]
    pub const fn window_buckets(mut self, buckets: u32) -> Self {
        self.settings.window_buckets = buckets;
        self
    }

    /// Looks at the last `calls` calls instead of a time: 1 to 1 000 000.
    #[must_use]
    pub const fn count_window(mut self, calls: u32) -> Self {
        self.settings.count_window = Some(calls);
        self
    }

    /// Opens when at least the share `rate` of the window's calls failed or timed out, once there
    /// are `minimum_calls` of them. Default: 0.5 of 200 (Kitex), or of as many as a smaller count
    /// window holds.
    #[must_use]
    pub const fn error_rate(mut self, rate: f64, minimum_calls: u32) -> Self {
        let minimum_calls = Some(minimum_calls);
        self.settings.error_rate = Some(ErrorRate { enabled: true, rate, minimum_calls });
        self
    }

    /// Takes the rule on the error rate out, which is there by default.
    #[must_use]
    pub const fn no_error_rate(mut self) -> Self {
        self.settings.error_rate = None;
        self
    }

    /// Opens when this many calls of the window failed or timed out. Off by default.
    #[must_use]
    pub const fn error_count(mut self, failures: u32) -> Self {
        self.settings.error_count = Some(failures);
        self
    }

    /// Opens when this many calls in a row failed or timed out, however long ago the first of
    /// them. Off by default.
    #[must_use]
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.settings.consecutive_failures = Some(failures);
        self
    }

    /// Opens when this many calls in a row failed or timed out and the first of them was `duration`
    /// ago or longer. Off by default.
    #[must_use]
    pub const fn consecutive_failures_lasting(mut self, failures: u32, duration: Duration) -> Self {
        self.settings.consecutive_failures_lasting =
            Some(ConsecutiveLasting { failures, duration });
        self
    }

    /// Opens when at least the share `rate` of the window's calls took `duration` or longer, once
    /// there are `minimum_calls` of them; a slow probe counts as failed. Off by default: it is the
    /// only rule that needs a second look at the clock.
    #[must_use]
    pub const fn slow_calls(mut self, duration: Duration, rate: f64, minimum_calls: u32) -> Self {
        self.settings.slow_calls = Some(SlowCalls { duration, rate, minimum_calls });
        self
    }

    /// Opens when `rule` says so. It is asked after a failed or slow call that no other rule
    /// opened the circuit for, with no lock held. Off by default.
    #[must_use]
    pub fn trip_when(
        mut self,
        rule: impl Fn(&WindowCounts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.trip_when = Some(TripWhen(Arc::new(rule)));
        self
    }

    /// How long an open circuit refuses calls before it tries a probe. Default: 5 s (Kitex).
    #[must_use]
    pub const fn cool_down(mut self, duration: Duration) -> Self {
        self.settings.cool_down = duration;
        self
    }

    /// Multiplies the cool-down each time the circuit trips again before it has stayed closed for
    /// as long as it was open, up to `max`. Default: 1, no growth.
    #[must_use]
    pub const fn cool_down_growth(mut self, factor: f64, max: Duration) -> Self {
        self.settings.cool_down_growth = factor;
        self.settings.max_cool_down = max;
        self
    }

    /// Prolongs each cool-down at random by up to this share of it, so that a fleet does not probe
    /// in step: 0 to 1. Default: 0.5 (resilience4j's randomised wait).
    #[must_use]
    pub const fn cool_down_jitter(mut self, share: f64) -> Self {
        self.settings.cool_down_jitter = share;
        self
    }

    /// How long after a probe the next one is let through. Default: 200 ms (Kitex).
    #[must_use]
    pub const fn probe_interval(mut self, interval: Duration) -> Self {
        self.settings.probe_interval = interval;
        self
    }

    /// How many probes may run at once: 1 to 1 000. Default: 1.
    #[must_use]
    pub const fn max_probes(mut self, probes: u32) -> Self {
        self.settings.max_probes = probes;
        self
    }

    /// How many probes must succeed to close the circuit. Default: 2 (Kitex).
    #[must_use]
    pub const fn successes_to_close(mut self, successes: u32) -> Self {
        self.settings.successes_to_close = successes;
        self
    }

    /// How long a probe that does not end holds its place before another may take it. Default:
    /// 30 s. resilience4j lets it hold for ever, which is how breakers get stuck.
    #[must_use]
    pub const fn probe_limit(mut self, limit: Duration) -> Self {
        self.settings.probe_limit = limit;
        self
    }

    /// What a call counts as whose future is dropped before it ends. Default: nothing.
    #[must_use]
    pub const fn abandoned(mut self, abandoned: Abandoned) -> Self {
        self.settings.abandoned = abandoned;
        self
    }

    /// Makes the policy.
    ///
    /// # Errors
    ///
    /// Names the first setting that cannot be, its value, and what would be right.
    pub fn build(self) -> Result<CircuitBreakerPolicy, InvalidPolicy> {
        let Self { settings, trip_when } = self;
        Ok(CircuitBreakerPolicy { settings: settings.validated()?, trip_when })
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Settings> for CircuitBreakerPolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        Ok(Self { settings: settings.validated()?, trip_when: None })
    }
}

/// The user's own rule is code, and does not stand in a file.
#[cfg(feature = "serde")]
impl From<CircuitBreakerPolicy> for Settings {
    fn from(policy: CircuitBreakerPolicy) -> Self {
        policy.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: u64, failures: u64) -> WindowCounts {
        WindowCounts { calls, failures, timeouts: 0, slow: 0 }
    }

    #[test]
    fn the_error_rate_counts_from_the_minimum_on_and_both_bounds_are_inclusive() {
        let policy = CircuitBreakerPolicy::default();
        let rule = |counts| policy.broken_rule(&counts, 0, Duration::ZERO);
        assert_eq!(rule(counts(199, 199)), None);
        assert_eq!(rule(counts(200, 99)), None);
        assert_eq!(rule(counts(200, 100)), Some(TripRule::ErrorRate));
    }

    #[test]
    fn a_cool_down_grows_to_its_cap_and_jitter_only_prolongs_it() {
        let seconds = Duration::from_secs;
        let policy =
            CircuitBreakerPolicy::builder().cool_down_growth(2.0, seconds(15)).build().unwrap();
        let exact = |repeats| policy.cool_down_after(repeats, 0.0);
        assert_eq!([0, 1, 2, u32::MAX].map(exact), [5, 10, 15, 15].map(seconds));
        assert_eq!(policy.cool_down_after(0, 1.0), Duration::from_millis(7_500));

        let for_ever = CircuitBreakerPolicy::builder().cool_down(Duration::MAX).build().unwrap();
        assert_eq!(for_ever.cool_down_after(3, 1.0), Duration::MAX);
    }

    #[test]
    fn a_policy_can_be_changed_in_one_setting() {
        let policy = CircuitBreakerPolicy::builder().count_window(50).build().unwrap();
        let slower = policy.to_builder().cool_down(Duration::from_secs(9)).build().unwrap();
        assert_eq!(slower.window(), WindowShape::Count { calls: 50 });
        assert_eq!(slower.cool_down(), Duration::from_secs(9));
    }
}
