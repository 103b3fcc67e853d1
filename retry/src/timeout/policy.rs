use std::time::Duration;

use outrigger_core::{Enforcement, InvalidPolicy};

/// How long a call may run.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_retry::TimeoutPolicy;
///
/// let policy = TimeoutPolicy::builder().timeout(Duration::from_secs(2)).build()?;
/// assert_eq!(policy.timeout(), Some(Duration::from_secs(2)));
/// assert!(policy.honours_request());
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimeoutPolicy {
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Settings {
    /// Whether the policy acts, only says what it would do, or does nothing.
    enforcement: Enforcement,
    /// How long it may take, longer than 0. Null: no limit.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "Option<outrigger_core::DurationInFile>"))]
    timeout: Option<Duration>,
    /// Whether an earlier deadline that comes with the request counts.
    honour_request: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enforcement: Enforcement::Enforced, timeout: None, honour_request: true }
    }
}

impl Default for TimeoutPolicy {
    /// No time-out of its own; a deadline that comes with the request is honoured.
    fn default() -> Self {
        Self { settings: Settings::default() }
    }
}

impl TimeoutPolicy {
    /// Starts from the defaults.
    #[must_use]
    pub fn builder() -> TimeoutPolicyBuilder {
        TimeoutPolicyBuilder { settings: Settings::default() }
    }

    /// Lets a call run for `timeout`.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        let settings = Settings { timeout: Some(timeout), ..Settings::default() };
        Self { settings }
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

    /// How long a call may run.
    #[must_use]
    pub const fn timeout(&self) -> Option<Duration> {
        self.settings.timeout
    }

    /// Whether an earlier deadline that comes with the request counts.
    #[must_use]
    pub const fn honours_request(&self) -> bool {
        self.settings.honour_request
    }
}

/// A time is a policy: a call may run for so long.
impl From<Duration> for TimeoutPolicy {
    fn from(timeout: Duration) -> Self {
        Self::after(timeout)
    }
}

/// Makes a [`TimeoutPolicy`]. What is not set keeps its default.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutPolicyBuilder {
    settings: Settings,
}

impl TimeoutPolicyBuilder {
    /// Whether the policy acts. Default: enforced.
    #[must_use]
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// How long a call may run. Default: no limit (as in Kitex, tower and gRPC).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Whether an earlier deadline that comes with the request counts. Default: yes.
    #[must_use]
    pub const fn honour_request(mut self, honours: bool) -> Self {
        self.settings.honour_request = honours;
        self
    }

    /// Makes the policy.
    ///
    /// # Errors
    ///
    /// When the time-out is zero: no call would ever be sent.
    pub fn build(self) -> Result<TimeoutPolicy, InvalidPolicy> {
        TimeoutPolicy::try_from(self.settings)
    }
}

impl TryFrom<Settings> for TimeoutPolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        match settings.timeout {
            Some(timeout) if timeout.is_zero() => {
                Err(InvalidPolicy::new("timeout", timeout, "longer than 0"))
            }
            _ => Ok(Self { settings }),
        }
    }
}

#[cfg(feature = "serde")]
impl From<TimeoutPolicy> for Settings {
    fn from(policy: TimeoutPolicy) -> Self {
        policy.settings
    }
}
