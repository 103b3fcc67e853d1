use std::time::Duration;

use outrigger_core::{Enforcement, InvalidPolicy};

use crate::settings::{longer_than_zero, within};

/// How many calls may run at once, and what happens to the others.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_ratelimit::ConcurrencyLimitPolicy;
///
/// let policy = ConcurrencyLimitPolicy::builder()
///     .limit(100)
///     .max_waiting(50)
///     .max_wait(Duration::from_millis(200))
///     .build()?;
/// assert_eq!(policy.limit(), 100);
///
/// let error = ConcurrencyLimitPolicy::builder().limit(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "`limit` is 0; it must be at least 1");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConcurrencyLimitPolicy {
    settings: Settings,
}

/// Makes a [`ConcurrencyLimitPolicy`]. What is not set keeps its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConcurrencyLimitPolicyBuilder {
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Settings {
    /// Whether the policy acts, only says what it would do, or does nothing.
    enforcement: Enforcement,
    /// How many calls may run at once, at least 1.
    limit: u32,
    /// How many calls may wait for a place at once; the others are refused at once.
    max_waiting: u32,
    /// How long a call waits for a place at most.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    max_wait: Duration,
    /// Who goes first of those that wait, among calls that matter equally.
    order: WaitOrder,
    /// When calls that wait are refused because of how long calls have to wait.
    shed_waiting: ShedWaiting,
    /// Which share of the limit the least critical calls leave free while more critical ones come:
    /// 0 to 0.5.
    critical_reserve: f64,
    /// When refused calls are told to come back. Null: they are not told.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "Option<outrigger_core::DurationInFile>"))]
    retry_after: Option<Duration>,
}

/// Who goes first of those that wait, among calls that matter equally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WaitOrder {
    /// Who came first.
    #[default]
    Fifo,
    /// Who came last, while [`ShedWaiting`] finds the queue overloaded: those who came first have
    /// mostly given up already. Who came first otherwise. Facebook's adaptive LIFO ("Fail at
    /// scale", ACM Queue 2015).
    NewestFirstUnderOverload,
}

/// When calls that wait are refused because of how long calls have to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ShedWaiting {
    /// Never: only `max_wait` ends a wait.
    #[default]
    Off,
    /// The queue is overloaded when even the shortest wait of an interval was longer than
    /// `target`; while it is, who waited for twice the target is refused. `CoDel` as Facebook
    /// uses it for requests.
    CoDel {
        /// A wait that is no sign of overload. 5 ms at Facebook.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        target: Duration,
        /// How long the wait must not fall below the target. 100 ms at Facebook.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        interval: Duration,
    },
    /// The queue is overloaded when the mean wait of a second, or of 2 000 calls, was longer than
    /// `threshold`. With each such window the least critical class that still waits is refused
    /// instead; with each other window one class more may wait again. DAGOR's signal (`SoCC`
    /// 2018), on four levels.
    MeanWait {
        /// A mean wait that is no sign of overload. 20 ms in `WeChat`.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        threshold: Duration,
    },
}

impl ShedWaiting {
    /// `CoDel` with Facebook's constants: 5 ms, 100 ms.
    #[must_use]
    pub const fn codel() -> Self {
        Self::CoDel { target: Duration::from_millis(5), interval: Duration::from_millis(100) }
    }

    /// DAGOR's mean wait with its constant: 20 ms.
    #[must_use]
    pub const fn mean_wait() -> Self {
        Self::MeanWait { threshold: Duration::from_millis(20) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enforcement: Enforcement::Enforced,
            limit: 1_024,
            max_waiting: 0,
            max_wait: Duration::from_secs(1),
            order: WaitOrder::Fifo,
            shed_waiting: ShedWaiting::Off,
            critical_reserve: 0.1,
            retry_after: None,
        }
    }
}

impl Settings {
    fn validated(self) -> Result<Self, InvalidPolicy> {
        within("limit", self.limit, 1..=u32::MAX, "at least 1")?;
        longer_than_zero("max_wait", self.max_wait)?;
        match self.shed_waiting {
            ShedWaiting::Off if self.order != WaitOrder::Fifo => {
                let expected = "`fifo` while `shed_waiting` is off: nothing tells an overload";
                return Err(InvalidPolicy::new("order", self.order, expected));
            }
            ShedWaiting::Off => {}
            ShedWaiting::CoDel { target, interval } => {
                longer_than_zero("shed_waiting.target", target)?;
                longer_than_zero("shed_waiting.interval", interval)?;
            }
            ShedWaiting::MeanWait { threshold } => {
                longer_than_zero("shed_waiting.threshold", threshold)?;
            }
        }
        within("critical_reserve", self.critical_reserve, 0.0..=0.5, "a share from 0 to 0.5")?;
        Ok(self)
    }
}

impl ConcurrencyLimitPolicy {
    /// Starts from the defaults.
    #[must_use]
    pub fn builder() -> ConcurrencyLimitPolicyBuilder {
        ConcurrencyLimitPolicyBuilder::default()
    }

    /// Starts from this policy.
    #[must_use]
    pub const fn to_builder(&self) -> ConcurrencyLimitPolicyBuilder {
        ConcurrencyLimitPolicyBuilder { settings: self.settings }
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

    /// How many calls may run at once.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.settings.limit
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

    /// Who goes first of those that wait.
    #[must_use]
    pub const fn order(&self) -> WaitOrder {
        self.settings.order
    }

    /// When calls that wait are refused.
    #[must_use]
    pub const fn shed_waiting(&self) -> ShedWaiting {
        self.settings.shed_waiting
    }

    /// Which share of the limit the least critical calls leave free.
    #[must_use]
    pub const fn critical_reserve(&self) -> f64 {
        self.settings.critical_reserve
    }

    /// When refused calls are told to come back.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.settings.retry_after
    }
}

impl ConcurrencyLimitPolicyBuilder {
    /// Whether the policy acts. Default: enforced.
    #[must_use]
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// How many calls may run at once, at least 1. Default: 1 024 (Envoy's `max_requests`).
    #[must_use]
    pub const fn limit(mut self, calls: u32) -> Self {
        self.settings.limit = calls;
        self
    }

    /// How many calls may wait for a place at once. Default: 0, so that calls beyond the limit are
    /// refused at once (Kitex).
    #[must_use]
    pub const fn max_waiting(mut self, calls: u32) -> Self {
        self.settings.max_waiting = calls;
        self
    }

    /// How long a call waits for a place at most. Default: 1 s.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.settings.max_wait = wait;
        self
    }

    /// Who goes first of those that wait. More critical calls always go before less critical
    /// ones. Default: who came first.
    #[must_use]
    pub const fn order(mut self, order: WaitOrder) -> Self {
        self.settings.order = order;
        self
    }

    /// When calls that wait are refused because of how long calls have to wait. Default: never.
    #[must_use]
    pub const fn shed_waiting(mut self, shed: ShedWaiting) -> Self {
        self.settings.shed_waiting = shed;
        self
    }

    /// Which share of the limit [`Sheddable`](outrigger_core::Criticality::Sheddable) calls leave
    /// free, while more critical ones have come near the limit within the last second; the
    /// classes between leave one and two thirds of it. Otherwise it is lent to all. Only without
    /// waiting: those that wait go by class anyway. From 0 to 0.5. Default: 0.1.
    #[must_use]
    pub const fn critical_reserve(mut self, share: f64) -> Self {
        self.settings.critical_reserve = share;
        self
    }

    /// When refused calls are told to come back: a limit on concurrency cannot know. Default: they
    /// are not told.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.settings.retry_after = Some(wait);
        self
    }

    /// Checks the settings and makes the policy.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be, and what would be right.
    pub fn build(self) -> Result<ConcurrencyLimitPolicy, InvalidPolicy> {
        Ok(ConcurrencyLimitPolicy { settings: self.settings.validated()? })
    }
}

impl TryFrom<Settings> for ConcurrencyLimitPolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        Ok(Self { settings: settings.validated()? })
    }
}

impl From<ConcurrencyLimitPolicy> for Settings {
    fn from(policy: ConcurrencyLimitPolicy) -> Self {
        policy.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(
        change: impl FnOnce(ConcurrencyLimitPolicyBuilder) -> ConcurrencyLimitPolicyBuilder,
    ) -> String {
        change(ConcurrencyLimitPolicy::builder()).build().unwrap_err().field().to_owned()
    }

    #[test]
    fn each_impossible_setting_is_named() {
        assert_eq!(refused(|policy| policy.limit(0)), "limit");
        assert_eq!(refused(|policy| policy.max_wait(Duration::ZERO)), "max_wait");
        assert_eq!(refused(|policy| policy.critical_reserve(f64::NAN)), "critical_reserve");
        assert_eq!(refused(|policy| policy.critical_reserve(0.6)), "critical_reserve");
        assert_eq!(refused(|policy| policy.order(WaitOrder::NewestFirstUnderOverload)), "order");
        let never = ShedWaiting::MeanWait { threshold: Duration::ZERO };
        assert_eq!(refused(|policy| policy.shed_waiting(never)), "shed_waiting.threshold");
        let never = ShedWaiting::CoDel { target: Duration::ZERO, interval: Duration::MAX };
        assert_eq!(refused(|policy| policy.shed_waiting(never)), "shed_waiting.target");
    }
}
