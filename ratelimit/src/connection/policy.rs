use std::time::Duration;

use outrigger_core::{Enforcement, InvalidPolicy};

use super::limit::BeyondLimit;
use crate::{ConcurrencyLimitPolicy, settings::within};

/// How many connections may be open at once, and what becomes of the others.
///
/// ```
/// use outrigger_ratelimit::{BeyondLimit, ConnectionLimitPolicy};
///
/// let policy = ConnectionLimitPolicy::new(10_000, BeyondLimit::Refuse)?;
/// assert_eq!(policy.limit(), 10_000);
///
/// let error = ConnectionLimitPolicy::new(0, BeyondLimit::Wait).unwrap_err();
/// assert_eq!(error.to_string(), "`limit` is 0; it must be at least 1");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConnectionLimitPolicy {
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Settings {
    /// Whether the policy acts, only says what it would do, or does nothing.
    #[cfg_attr(feature = "serde", serde(default))]
    enforcement: Enforcement,
    /// How many connections may be open at once, at least 1.
    limit: u32,
    /// What becomes of a connection beyond the limit.
    #[cfg_attr(feature = "serde", serde(default))]
    beyond: BeyondLimit,
}

impl ConnectionLimitPolicy {
    /// At most `limit` connections at once.
    ///
    /// # Errors
    ///
    /// When `limit` is 0.
    pub fn new(limit: u32, beyond: BeyondLimit) -> Result<Self, InvalidPolicy> {
        Self::try_from(Settings { enforcement: Enforcement::Enforced, limit, beyond })
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

    /// How many connections may be open.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.settings.limit
    }

    /// What becomes of a connection beyond the limit.
    #[must_use]
    pub const fn beyond(&self) -> BeyondLimit {
        self.settings.beyond
    }

    /// What the places obey: for [`ConnectionLimit::policy`](crate::ConnectionLimit::policy), when
    /// a limit in use is to follow another policy.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "what is checked here is what is checked there")]
    pub fn places(&self) -> ConcurrencyLimitPolicy {
        let waits = self.settings.beyond == BeyondLimit::Wait;
        ConcurrencyLimitPolicy::builder()
            .enforcement(self.settings.enforcement)
            .limit(self.settings.limit)
            // One waits at a time: each listener accepts one after the other.
            .max_waiting(if waits { u32::MAX } else { 0 })
            .max_wait(Duration::MAX)
            .build()
            .expect("a valid policy")
    }
}

impl TryFrom<Settings> for ConnectionLimitPolicy {
    type Error = InvalidPolicy;

    fn try_from(settings: Settings) -> Result<Self, InvalidPolicy> {
        within("limit", settings.limit, 1..=u32::MAX, "at least 1")?;
        Ok(Self { settings })
    }
}

#[cfg(feature = "serde")]
impl From<ConnectionLimitPolicy> for Settings {
    fn from(policy: ConnectionLimitPolicy) -> Self {
        policy.settings
    }
}
