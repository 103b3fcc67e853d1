use std::time::Duration;

use outrigger_core::{Enforcement, InvalidPolicy};

use crate::settings::within;

/// When a client refuses its own calls, because their callee does not accept them.
///
/// The rule is that of Google's SRE book, chapter 21: of the calls of the last `window`, as many
/// are sent as `k` times those that the callee accepted. A call is refused by chance, with
/// probability `max(0, (requests - k * accepts) / (requests + 1))`.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_ratelimit::ClientThrottlePolicy;
///
/// let policy = ClientThrottlePolicy::builder().k(1.5).window(Duration::from_secs(30)).build()?;
/// assert_eq!(policy.min_requests(), 5);
///
/// let error = ClientThrottlePolicy::builder().k(1.0).build().unwrap_err();
/// assert_eq!(error.to_string(), "`k` is 1.0; it must be from 1.01 to 100");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientThrottlePolicy {
    settings: Settings,
}

/// Makes a [`ClientThrottlePolicy`]. What is not set keeps its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientThrottlePolicyBuilder {
    settings: Settings,
}

/// What a call counts as that its caller drops before it has an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CutShort {
    /// Nothing: who cancels says nothing about the callee. The default.
    #[default]
    Ignored,
    /// Not accepted: for callers who cut every call by a time-out of their own further out.
    NotAccepted,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Settings {
    /// Whether the policy acts, only says what it would do, or does nothing.
    enforcement: Enforcement,
    /// How many calls are sent for each that the callee accepts: 1.01 to 100.
    k: f64,
    /// How long a call counts: 100 ms to an hour.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    window: Duration,
    /// How many calls there must be in the window before any is refused.
    min_requests: u32,
    /// What a call counts as that its caller drops before it has an answer.
    cut_short: CutShort,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enforcement: Enforcement::Enforced,
            k: 2.0,
            window: Duration::from_secs(120),
            min_requests: 5,
            cut_short: CutShort::Ignored,
        }
    }
}

/// A bucket of the window is not shorter than what a timer can tell apart.
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);
/// Within it the counts of a window stay below 32 bits up to a million calls a second.
const LONGEST_WINDOW: Duration = Duration::from_secs(3_600);

impl Settings {
    fn validated(self) -> Result<Self, InvalidPolicy> {
        within("k", self.k, 1.01..=100.0, "from 1.01 to 100")?;
        let expected = "from 100ms to 1h";
        within("window", self.window, SHORTEST_WINDOW..=LONGEST_WINDOW, expected)?;
        Ok(self)
    }
}

impl ClientThrottlePolicy {
    /// Starts from the defaults.
    #[must_use]
    pub fn builder() -> ClientThrottlePolicyBuilder {
        ClientThrottlePolicyBuilder::default()
    }

    /// Starts from this policy.
    #[must_use]
    pub const fn to_builder(&self) -> ClientThrottlePolicyBuilder {
        ClientThrottlePolicyBuilder { settings: self.settings }
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

    /// How many calls are sent for each that the callee accepts.
    #[must_use]
    pub const fn k(&self) -> f64 {
        self.settings.k
    }

    /// How long a call counts.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.settings.window
    }

    /// How many calls there must be in the window before any is refused.
    #[must_use]
    pub const fn min_requests(&self) -> u32 {
        self.settings.min_requests
    }

    /// What a call counts as that its caller drops.
    #[must_use]
    pub const fn cut_short(&self) -> CutShort {
        self.settings.cut_short
    }
}

impl ClientThrottlePolicyBuilder {
    /// Whether the policy acts. Default: enforced.
    #[must_use]
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.settings.enforcement = enforcement;
        self
    }

    /// How many calls are sent for each that the callee accepts, from 1.01 to 100. Small values
    /// spare the callee, and come back slowly: what is sent grows at most by this factor in a
    /// window. Default: 2 (SRE book).
    #[must_use]
    pub const fn k(mut self, factor: f64) -> Self {
        self.settings.k = factor;
        self
    }

    /// How long a call counts, from 100 ms to an hour. A short window forgets an outage soon.
    /// Default: 2 min (SRE book).
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.settings.window = window;
        self
    }

    /// How many calls of a class there must be in the window before any is refused: a first
    /// failure says little. Default: 5 (go-zero's `protection`; Kratos has 100).
    #[must_use]
    pub const fn min_requests(mut self, requests: u32) -> Self {
        self.settings.min_requests = requests;
        self
    }

    /// What a call counts as that its caller drops before it has an answer. Default: nothing.
    #[must_use]
    pub const fn cut_short(mut self, counts_as: CutShort) -> Self {
        self.settings.cut_short = counts_as;
        self
    }

    /// Checks the settings and makes the policy.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be, and what would be right.
    pub fn build(self) -> Result<ClientThrottlePolicy, InvalidPolicy> {
        Ok(ClientThrottlePolicy { settings: self.settings.validated()? })
    }
}

impl TryFrom<Settings> for ClientThrottlePolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        Ok(Self { settings: settings.validated()? })
    }
}

impl From<ClientThrottlePolicy> for Settings {
    fn from(policy: ClientThrottlePolicy) -> Self {
        policy.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_impossible_setting_is_named() {
        let field = |change: fn(ClientThrottlePolicyBuilder) -> ClientThrottlePolicyBuilder| {
            change(ClientThrottlePolicy::builder()).build().unwrap_err().field().to_owned()
        };
        assert_eq!(field(|policy| policy.k(1.0)), "k");
        assert_eq!(field(|policy| policy.k(f64::NAN)), "k");
        assert_eq!(field(|policy| policy.k(f64::INFINITY)), "k");
        assert_eq!(field(|policy| policy.window(Duration::ZERO)), "window");
        assert_eq!(field(|policy| policy.window(Duration::MAX)), "window");
    }
}
