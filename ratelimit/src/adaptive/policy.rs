use std::time::Duration;

use outrigger_core::{Enforcement, InvalidPolicy};

use crate::{
    ConcurrencyLimitPolicy, CutShort,
    settings::{longer_than_zero, within},
};

/// How the number of calls is found that may run at once.
///
/// ```
/// use outrigger_ratelimit::{AdaptiveLimitPolicy, LimitAlgorithm};
///
/// let policy = AdaptiveLimitPolicy::builder().max_limit(200).build()?;
/// assert_eq!((policy.initial_limit(), policy.algorithm()), (20, LimitAlgorithm::Vegas));
///
/// let error = AdaptiveLimitPolicy::builder().max_limit(10).build().unwrap_err();
/// assert_eq!(error.to_string(), "`initial_limit` is 20; it must be from `min_limit` to `max_limit`");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
///
/// **Where calls are of two kinds**, a cache that hits or misses above all, a window's mean says
/// little, and the limit follows late. In a simulation where nine of ten calls take a fifth of the
/// mean and one takes eight times as much, a quarter of the phases is not well: above all, after all
/// work became twice as slow, 0.7 to 0.95 of the calls were served that the right limit serves. More
/// `min_samples` make it worse (nearly half of the phases with 150): windows become longer than what
/// they should follow. Instead, give the two kinds a limit each (a panel, by key), put the limit
/// behind the cache, or set `min_limit` to what the callee certainly bears; where nothing changes, a
/// fixed [`ConcurrencyLimit`](crate::ConcurrencyLimit) is right.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdaptiveLimitPolicy {
    settings: Settings,
}

/// Makes an [`AdaptiveLimitPolicy`]. What is not set keeps its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdaptiveLimitPolicyBuilder {
    settings: Settings,
}

/// Which algorithm finds the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LimitAlgorithm {
    /// Keeps a short queue at the callee: [`Vegas`](crate::Vegas).
    #[default]
    Vegas,
    /// Follows the ratio of latencies: [`Gradient2`](crate::Gradient2).
    Gradient2,
    /// One more, a tenth fewer: [`Aimd`](crate::Aimd).
    Aimd,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Settings {
    /// Whether the policy acts, only says what it would do, or does nothing.
    enforcement: Enforcement,
    /// Which algorithm finds the limit.
    algorithm: LimitAlgorithm,
    /// How many calls may run at first, from `min_limit` to `max_limit`.
    initial_limit: u32,
    /// How many calls may always run, at least 1.
    min_limit: u32,
    /// How many calls may ever run, at most 1000000.
    max_limit: u32,
    /// How long a window lasts at least, from 1 ms. The limit changes once a window.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    min_window: Duration,
    /// How long a window lasts at most, up to an hour.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    max_window: Duration,
    /// How many calls must end in a window, at least 1.
    min_samples: u32,
    /// The share of calls that may be dropped without being a sign of overload: 0 to 0.5. What is
    /// usual is tolerated anyway.
    tolerated_drops: f64,
    /// What a call counts as that its caller drops before it has an answer.
    cut_short: CutShort,
    /// How many calls may wait for a place at once; the others are refused at once.
    max_waiting: u32,
    /// How long a call waits for a place at most.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    max_wait: Duration,
    /// Which share of the limit the least critical calls leave free while more critical ones come:
    /// 0 to 0.5.
    critical_reserve: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enforcement: Enforcement::Enforced,
            algorithm: LimitAlgorithm::Vegas,
            initial_limit: 20,
            min_limit: 1,
            max_limit: 1_000,
            min_window: Duration::from_millis(250),
            max_window: Duration::from_secs(30),
            min_samples: 50,
            tolerated_drops: 0.01,
            cut_short: CutShort::Ignored,
            max_waiting: 0,
            max_wait: Duration::from_secs(1),
            critical_reserve: 0.1,
        }
    }
}

/// A window is not shorter than what a timer can tell apart.
const SHORTEST_WINDOW: Duration = Duration::from_millis(1);
/// What a limit can be counted in with fractions.
const HIGHEST_LIMIT: u32 = 1_000_000;

impl Settings {
    fn validated(self) -> Result<Self, InvalidPolicy> {
        let (min, max) = (self.min_limit, self.max_limit);
        within("min_limit", min, 1..=HIGHEST_LIMIT, "from 1 to 1000000")?;
        within("max_limit", max, min..=HIGHEST_LIMIT, "from `min_limit` to 1000000")?;
        let expected = "from `min_limit` to `max_limit`";
        within("initial_limit", self.initial_limit, min..=max, expected)?;
        let longest = Duration::from_secs(3_600);
        let range = SHORTEST_WINDOW..=longest;
        within("min_window", self.min_window, range, "from 1ms to 1h")?;
        let range = self.min_window..=longest;
        within("max_window", self.max_window, range, "from `min_window` to 1h")?;
        within("min_samples", self.min_samples, 1..=HIGHEST_LIMIT, "from 1 to 1000000")?;
        let drops = self.tolerated_drops;
        within("tolerated_drops", drops, 0.0..=0.5, "a share from 0 to 0.5")?;
        longer_than_zero("max_wait", self.max_wait)?;
        within("critical_reserve", self.critical_reserve, 0.0..=0.5, "a share from 0 to 0.5")?;
        Ok(self)
    }
}

impl AdaptiveLimitPolicy {
    /// Starts from the defaults.
    #[must_use]
    pub fn builder() -> AdaptiveLimitPolicyBuilder {
        AdaptiveLimitPolicyBuilder::default()
    }

    /// Starts from this policy.
    #[must_use]
    pub const fn to_builder(&self) -> AdaptiveLimitPolicyBuilder {
        AdaptiveLimitPolicyBuilder { settings: self.settings }
    }

    /// The same policy, enforced, shadowed or disabled.
    #[must_use]
    pub const fn with_enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// What the places obey while so many may be taken.
    pub(super) fn places(&self, limit: u32) -> ConcurrencyLimitPolicy {
        let settings = &self.settings;
        ConcurrencyLimitPolicy::builder()
            .enforcement(settings.enforcement)
            .limit(limit.max(1))
            .max_waiting(settings.max_waiting)
            .max_wait(settings.max_wait)
            .critical_reserve(settings.critical_reserve)
            .build()
            .expect("what is checked here is what is checked there")
    }

    /// Whether the policy acts.
    #[must_use]
    pub const fn enforcement(&self) -> Enforcement {
        self.settings.enforcement
    }

    /// Which algorithm finds the limit.
    #[must_use]
    pub const fn algorithm(&self) -> LimitAlgorithm {
        self.settings.algorithm
    }

    /// How many calls may run at first.
    #[must_use]
    pub const fn initial_limit(&self) -> u32 {
        self.settings.initial_limit
    }

    /// How many calls may always run.
    #[must_use]
    pub const fn min_limit(&self) -> u32 {
        self.settings.min_limit
    }

    /// How many calls may ever run.
    #[must_use]
    pub const fn max_limit(&self) -> u32 {
        self.settings.max_limit
    }

    /// How long a window lasts at least.
    #[must_use]
    pub const fn min_window(&self) -> Duration {
        self.settings.min_window
    }

    /// How long a window lasts at most.
    #[must_use]
    pub const fn max_window(&self) -> Duration {
        self.settings.max_window
    }

    /// Which share of dropped calls is never overload.
    #[must_use]
    pub const fn tolerated_drops(&self) -> f64 {
        self.settings.tolerated_drops
    }

    /// How many calls must end in a window.
    #[must_use]
    pub const fn min_samples(&self) -> u32 {
        self.settings.min_samples
    }

    /// What a call counts as that its caller drops.
    #[must_use]
    pub const fn cut_short(&self) -> CutShort {
        self.settings.cut_short
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

    /// Which share of the limit the least critical calls leave free.
    #[must_use]
    pub const fn critical_reserve(&self) -> f64 {
        self.settings.critical_reserve
    }
}

impl AdaptiveLimitPolicyBuilder {
    /// Whether the policy acts. In shadow the limit is sought and no call is refused. Default: enforced.
    #[must_use]
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// Which algorithm finds the limit. Default: [`Vegas`](crate::Vegas).
    #[must_use]
    pub const fn algorithm(mut self, algorithm: LimitAlgorithm) -> Self {
        self.settings.algorithm = algorithm;
        self
    }

    /// How many calls may run at first, from `min_limit` to `max_limit`. Default: 20
    /// (concurrency-limits, failsafe-go).
    #[must_use]
    pub const fn initial_limit(mut self, initial_limit: u32) -> Self {
        self.settings.initial_limit = initial_limit;
        self
    }

    /// How many calls may always run, at least 1. Default: 1 (failsafe-go).
    #[must_use]
    pub const fn min_limit(mut self, min_limit: u32) -> Self {
        self.settings.min_limit = min_limit;
        self
    }

    /// How many calls may ever run. Default: 1 000 (concurrency-limits' Vegas).
    #[must_use]
    pub const fn max_limit(mut self, max_limit: u32) -> Self {
        self.settings.max_limit = max_limit;
        self
    }

    /// How long a window lasts at least, longer than 0. Windows also last four times the latency, up
    /// to `max_window`, so that most of a window's calls began in it. Default: 250 ms;
    /// concurrency-limits and failsafe-go have 1 s.
    #[must_use]
    pub const fn min_window(mut self, min_window: Duration) -> Self {
        self.settings.min_window = min_window;
        self
    }

    /// How long a window lasts at most, at least `min_window`, whatever the latency. Default: 30 s
    /// (failsafe-go, Cinnamon).
    #[must_use]
    pub const fn max_window(mut self, max_window: Duration) -> Self {
        self.settings.max_window = max_window;
        self
    }

    /// How many calls must end in a window, at least 1; up to eight times as many where latencies
    /// vary more than exponential ones. It lasts until they have, or until as many were dropped as
    /// may run. Default: 50 (failsafe-go).
    #[must_use]
    pub const fn min_samples(mut self, min_samples: u32) -> Self {
        self.settings.min_samples = min_samples;
        self
    }

    /// Which share of dropped calls, from 0 to 0.5, is never taken for overload. A higher share is not
    /// either, while it is no higher than usual; this one is believed from the start. Default: 0.01.
    #[must_use]
    pub const fn tolerated_drops(mut self, tolerated_drops: f64) -> Self {
        self.settings.tolerated_drops = tolerated_drops;
        self
    }

    /// What a call counts as that its caller drops before it has an answer: where callers cut calls
    /// by a time-out of their own, [`NotAccepted`](CutShort::NotAccepted) makes it a drop. Its
    /// duration is never taken for a latency. Default: nothing.
    #[must_use]
    pub const fn cut_short(mut self, cut_short: CutShort) -> Self {
        self.settings.cut_short = cut_short;
        self
    }

    /// How many calls may wait for a place at once. Default: 0, so that calls beyond the limit are
    /// refused at once (Kitex).
    #[must_use]
    pub const fn max_waiting(mut self, max_waiting: u32) -> Self {
        self.settings.max_waiting = max_waiting;
        self
    }

    /// How long a call waits for a place at most. Default: 1 s.
    #[must_use]
    pub const fn max_wait(mut self, max_wait: Duration) -> Self {
        self.settings.max_wait = max_wait;
        self
    }

    /// Which share of the limit the least critical calls leave free while more critical ones come,
    /// as with a [fixed limit](crate::ConcurrencyLimitPolicyBuilder::critical_reserve). Default:
    /// 0.1.
    #[must_use]
    pub const fn critical_reserve(mut self, critical_reserve: f64) -> Self {
        self.settings.critical_reserve = critical_reserve;
        self
    }

    /// Checks the settings and makes the policy.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be, and what would be right.
    pub fn build(self) -> Result<AdaptiveLimitPolicy, InvalidPolicy> {
        Ok(AdaptiveLimitPolicy { settings: self.settings.validated()? })
    }
}

impl TryFrom<Settings> for AdaptiveLimitPolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        Ok(Self { settings: settings.validated()? })
    }
}

impl From<AdaptiveLimitPolicy> for Settings {
    fn from(policy: AdaptiveLimitPolicy) -> Self {
        policy.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_impossible_setting_is_named() {
        let field = |change: fn(AdaptiveLimitPolicyBuilder) -> AdaptiveLimitPolicyBuilder| {
            change(AdaptiveLimitPolicy::builder()).build().unwrap_err().field().to_owned()
        };
        assert_eq!(field(|policy| policy.min_limit(0)), "min_limit");
        assert_eq!(field(|policy| policy.max_limit(0)), "max_limit");
        assert_eq!(field(|policy| policy.max_limit(u32::MAX)), "max_limit");
        assert_eq!(field(|policy| policy.min_limit(21)), "initial_limit");
        assert_eq!(field(|policy| policy.initial_limit(1_001)), "initial_limit");
        assert_eq!(field(|policy| policy.min_window(Duration::ZERO)), "min_window");
        assert_eq!(field(|policy| policy.min_window(Duration::MAX)), "min_window");
        assert_eq!(field(|policy| policy.max_window(Duration::ZERO)), "max_window");
        assert_eq!(field(|policy| policy.min_samples(0)), "min_samples");
        assert_eq!(field(|policy| policy.tolerated_drops(0.6)), "tolerated_drops");
        assert_eq!(field(|policy| policy.max_wait(Duration::ZERO)), "max_wait");
        assert_eq!(field(|policy| policy.critical_reserve(f64::NAN)), "critical_reserve");
    }

    #[test]
    fn the_places_take_every_policy_that_is_valid() {
        let policy = AdaptiveLimitPolicy::default();
        assert_eq!((policy.places(7).limit(), policy.places(0).limit()), (7, 1));
    }
}
