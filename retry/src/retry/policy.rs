use std::time::Duration;

use outrigger_core::{Enforcement, InvalidPolicy};

use super::GrpcCodes;
use crate::{Backoff, QuantileDelay};

/// Whether, when and how often a call is sent again.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_retry::{Backoff, QuantileDelay, RetryPolicy};
///
/// let reads = RetryPolicy::failure().idempotent(true).retries(3).build()?;
/// assert_eq!(reads.retries(), 3);
///
/// let fast = RetryPolicy::backup(QuantileDelay::of(0.99)).idempotent(true).build()?;
/// assert_eq!(fast.retries(), 1);
///
/// let error = RetryPolicy::failure().retries(6).build().unwrap_err();
/// assert_eq!(error.to_string(), "`retries` is 6; it must be at most 5 (failure), 2 (backup), 4 (mixed)");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RetryPolicy {
    settings: Settings,
}

/// What makes a further attempt necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RetryMode {
    /// That the one before failed.
    Failure,
    /// That the one before takes long; it goes on.
    Backup,
    /// Either.
    Mixed,
}

/// How long an attempt may take before the next is sent beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BackupDelay {
    /// Always so long; 0 sends all attempts at once, as gRPC's `hedgingDelay` does.
    Fixed(
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
        Duration,
    ),
    /// As long as a quantile of the method's latency.
    Quantile(QuantileDelay),
}

impl From<Duration> for BackupDelay {
    fn from(delay: Duration) -> Self {
        Self::Fixed(delay)
    }
}

impl From<QuantileDelay> for BackupDelay {
    fn from(delay: QuantileDelay) -> Self {
        Self::Quantile(delay)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
struct Settings {
    /// What makes a further attempt necessary.
    mode: RetryMode,
    /// Whether the policy acts, only says what it would do, or does nothing.
    #[cfg_attr(feature = "serde", serde(default))]
    enforcement: Enforcement,
    /// How many further attempts a call may make. Null stands for 2 (failure) or 1 (backup, mixed); at
    /// most 5, 2 and 4. 0 switches the policy off.
    #[cfg_attr(feature = "serde", serde(default))]
    retries: Option<u32>,
    /// How long an attempt may take before the next is sent beside it (backup, mixed).
    #[cfg_attr(feature = "serde", serde(default))]
    backup_delay: Option<BackupDelay>,
    /// How long to wait before a retry. Null stands for an exponential back-off from 25 ms to 250 ms
    /// (failure) or none (mixed).
    #[cfg_attr(feature = "serde", serde(default))]
    backoff: Option<Backoff>,
    /// Whether the method may be executed more than once. If not, only what was never sent is sent
    /// again.
    #[cfg_attr(feature = "serde", serde(default))]
    idempotent: bool,
    /// The gRPC status codes that are retried, by name or number, whether or not the method is
    /// idempotent. None of them (backup, mixed): any status is the answer.
    #[cfg_attr(feature = "serde", serde(default))]
    retryable_status_codes: Option<GrpcCodes>,
    /// Whether the method answers with one message, over gRPC: an attempt then counts when its status
    /// is there.
    #[cfg_attr(feature = "serde", serde(default))]
    unary: bool,
    /// Whether a time-out is retried like a failure.
    #[cfg_attr(feature = "serde", serde(default = "yes"))]
    retry_timeouts: bool,
    /// Whether a call that serves a retry is not retried.
    #[cfg_attr(feature = "serde", serde(default = "yes"))]
    chain_stop: bool,
    /// How long after the call began no further attempt is sent. Null: no limit.
    #[cfg_attr(feature = "serde", serde(default, with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "Option<outrigger_core::DurationInFile>"))]
    max_duration: Option<Duration>,
    /// The longest wait that a server may ask for; when it asks for more, the call is not retried.
    #[cfg_attr(feature = "serde", serde(default = "max_pushback", with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    max_pushback: Duration,
    /// How much time must be left before the deadline for an attempt to be sent.
    #[cfg_attr(feature = "serde", serde(default = "min_time_left", with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    min_time_left: Duration,
}

#[cfg(feature = "serde")]
const fn yes() -> bool {
    true
}

const fn max_pushback() -> Duration {
    Duration::from_secs(10)
}

const fn min_time_left() -> Duration {
    Duration::from_millis(1)
}

impl RetryPolicy {
    /// Sends a failed call again: twice at most (Kitex), after an exponential back-off with full
    /// jitter from 25 ms to 250 ms (Envoy).
    #[must_use]
    pub const fn failure() -> RetryPolicyBuilder {
        RetryPolicyBuilder::new(RetryMode::Failure, None)
    }

    /// Sends a second attempt beside a first that takes longer than `delay`; the first acceptable
    /// answer wins. Needs [`idempotent`](RetryPolicyBuilder::idempotent).
    #[must_use]
    pub fn backup(delay: impl Into<BackupDelay>) -> RetryPolicyBuilder {
        RetryPolicyBuilder::new(RetryMode::Backup, Some(delay.into()))
    }

    /// Sends a second attempt when the first takes longer than `delay` or fails, then at once.
    /// Needs [`idempotent`](RetryPolicyBuilder::idempotent).
    #[must_use]
    pub fn mixed(delay: impl Into<BackupDelay>) -> RetryPolicyBuilder {
        RetryPolicyBuilder::new(RetryMode::Mixed, Some(delay.into()))
    }

    /// Never sends a call again.
    #[must_use]
    pub const fn off() -> Self {
        let mut settings = RetryPolicyBuilder::new(RetryMode::Failure, None).settings;
        settings.retries = Some(0);
        Self { settings }
    }

    /// Starts from this policy.
    #[must_use]
    pub const fn to_builder(&self) -> RetryPolicyBuilder {
        RetryPolicyBuilder { settings: self.settings }
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

    /// What makes a further attempt necessary.
    #[must_use]
    pub const fn mode(&self) -> RetryMode {
        self.settings.mode
    }

    /// How many further attempts a call may make.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        match (self.settings.retries, self.settings.mode) {
            (Some(retries), _) => retries,
            (None, RetryMode::Failure) => 2,
            (None, RetryMode::Backup | RetryMode::Mixed) => 1,
        }
    }

    /// How long an attempt may take before the next is sent beside it.
    #[must_use]
    pub const fn backup_delay(&self) -> Option<BackupDelay> {
        self.settings.backup_delay
    }

    /// How long to wait before a retry.
    #[must_use]
    pub const fn backoff(&self) -> Backoff {
        match (self.settings.backoff, self.settings.mode) {
            (Some(backoff), _) => backoff,
            (None, RetryMode::Failure) => {
                Backoff::exponential(Duration::from_millis(25), Duration::from_millis(250))
            }
            (None, RetryMode::Backup | RetryMode::Mixed) => Backoff::None,
        }
    }

    /// Whether the method may be executed more than once.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.settings.idempotent
    }

    /// The gRPC status codes that are retried, if they are listed.
    #[must_use]
    pub const fn retryable_status_codes(&self) -> Option<GrpcCodes> {
        self.settings.retryable_status_codes
    }

    /// Whether an answer of one message is awaited to its end before it counts.
    #[must_use]
    pub const fn is_unary(&self) -> bool {
        self.settings.unary
    }

    /// Whether a time-out is retried like a failure.
    #[must_use]
    pub const fn retries_timeouts(&self) -> bool {
        self.settings.retry_timeouts
    }

    /// Whether a call that serves a retry is not retried.
    #[must_use]
    pub const fn chain_stop(&self) -> bool {
        self.settings.chain_stop
    }

    /// How long after the call began no further attempt is sent.
    #[must_use]
    pub const fn max_duration(&self) -> Option<Duration> {
        self.settings.max_duration
    }

    /// The longest wait that a server may ask for.
    #[must_use]
    pub const fn max_pushback(&self) -> Duration {
        self.settings.max_pushback
    }

    /// How much time must be left for an attempt to be sent.
    #[must_use]
    pub const fn min_time_left(&self) -> Duration {
        self.settings.min_time_left
    }
}

impl Default for RetryPolicy {
    /// That of [`failure`](Self::failure), for methods that are not idempotent: what was never sent
    /// is sent again.
    fn default() -> Self {
        Self { settings: Self::failure().settings }
    }
}

/// Makes a [`RetryPolicy`]. What is not set keeps its default.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicyBuilder {
    settings: Settings,
}

impl RetryPolicyBuilder {
    const fn new(mode: RetryMode, backup_delay: Option<BackupDelay>) -> Self {
        Self {
            settings: Settings {
                mode,
                enforcement: Enforcement::Enforced,
                retries: None,
                backup_delay,
                backoff: None,
                idempotent: false,
                retryable_status_codes: None,
                unary: false,
                retry_timeouts: true,
                chain_stop: true,
                max_duration: None,
                max_pushback: max_pushback(),
                min_time_left: min_time_left(),
            },
        }
    }

    /// Whether the policy acts. Default: enforced.
    #[must_use]
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// How many further attempts a call may make. Default: 2 (failure), 1 (backup, mixed); at most
    /// 5, 2 (Kitex) and 4 (gRPC's five attempts). 0 switches the policy off.
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = Some(retries);
        self
    }

    /// How long to wait before a retry. Default: exponential from 25 ms to 250 ms with full jitter
    /// (failure); none (mixed).
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = Some(backoff);
        self
    }

    /// Whether the method may be executed more than once. Default: no: then only what was never
    /// sent is sent again.
    #[must_use]
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.settings.idempotent = idempotent;
        self
    }

    /// The gRPC status codes that are retried, whether or not the method is idempotent; any other
    /// code ends the call at once. With backup requests there may be none of them: gRPC's hedging
    /// without `nonFatalStatusCodes`. Default: none is listed, and the classifier decides.
    #[must_use]
    pub const fn retryable_status_codes(mut self, codes: GrpcCodes) -> Self {
        self.settings.retryable_status_codes = Some(codes);
        self
    }

    /// Whether the method answers with one message, over gRPC: then an attempt counts when its
    /// status is there, behind the message. Default: no: the head of an answer commits the call
    /// (gRFC A6), since a stream may say nothing for long after its head.
    #[must_use]
    pub const fn unary(mut self, unary: bool) -> Self {
        self.settings.unary = unary;
        self
    }

    /// Whether a time-out is retried like a failure. Default: yes (Kitex).
    #[must_use]
    pub const fn retry_timeouts(mut self, retries: bool) -> Self {
        self.settings.retry_timeouts = retries;
        self
    }

    /// Whether a call that serves a retry is not retried. Default: yes (Kitex).
    #[must_use]
    pub const fn chain_stop(mut self, stops: bool) -> Self {
        self.settings.chain_stop = stops;
        self
    }

    /// How long after the call began no further attempt is sent. Default: no limit. Cuts no
    /// attempt short: that is what a time-out is for.
    #[must_use]
    pub const fn max_duration(mut self, duration: Duration) -> Self {
        self.settings.max_duration = Some(duration);
        self
    }

    /// The longest wait that a server may ask for; when it asks for more, the call is not retried.
    /// Default: 10 s.
    #[must_use]
    pub const fn max_pushback(mut self, wait: Duration) -> Self {
        self.settings.max_pushback = wait;
        self
    }

    /// How much time must be left before the deadline for an attempt to be sent. Default: 1 ms.
    #[must_use]
    pub const fn min_time_left(mut self, time: Duration) -> Self {
        self.settings.min_time_left = time;
        self
    }

    /// Makes the policy.
    ///
    /// # Errors
    ///
    /// Names the first setting that cannot be, its value, and what would be right.
    pub fn build(self) -> Result<RetryPolicy, InvalidPolicy> {
        RetryPolicy::try_from(self.settings)
    }
}

impl TryFrom<Settings> for RetryPolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        let policy = Self { settings };
        let most = match settings.mode {
            RetryMode::Failure => 5,
            RetryMode::Backup => 2,
            RetryMode::Mixed => 4,
        };
        if policy.retries() > most {
            let expected = "at most 5 (failure), 2 (backup), 4 (mixed)";
            return Err(InvalidPolicy::new("retries", policy.retries(), expected));
        }
        match (settings.mode, settings.backup_delay) {
            (RetryMode::Failure, None) => {}
            (RetryMode::Failure, Some(delay)) => {
                let expected = "left out when the mode is `failure`";
                return Err(InvalidPolicy::new("backup_delay", delay, expected));
            }
            (_, None) => {
                let expected = "set when the mode is `backup` or `mixed`";
                return Err(InvalidPolicy::new("backup_delay", "missing", expected));
            }
            (_, Some(BackupDelay::Fixed(_))) => {}
            (_, Some(BackupDelay::Quantile(delay))) => delay.check()?,
        }
        let is_allowed = settings.idempotent || settings.retryable_status_codes.is_some();
        if settings.mode != RetryMode::Failure && !is_allowed {
            let expected = "true for backup requests: both attempts may be executed";
            return Err(InvalidPolicy::new("idempotent", false, expected));
        }
        if let Some(codes) = settings.retryable_status_codes {
            let wrong = |expected| InvalidPolicy::new("retryable_status_codes", codes, expected);
            if codes.contains(0) {
                return Err(wrong("codes of failures"));
            }
            // With backup requests: late answers are raced, and any failure is the answer.
            if codes.is_empty() && settings.mode == RetryMode::Failure {
                return Err(wrong("codes of failures, at least one"));
            }
        }
        policy.backoff().check()?;
        Ok(policy)
    }
}

#[cfg(feature = "serde")]
impl From<RetryPolicy> for Settings {
    fn from(policy: RetryPolicy) -> Self {
        policy.settings
    }
}
