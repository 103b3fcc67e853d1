#[cfg(feature = "circuitbreak")]
mod circuitbreak;
#[cfg(feature = "loadbalance")]
mod loadbalance;
#[cfg(feature = "ratelimit")]
mod ratelimit;
#[cfg(feature = "retry")]
mod retry;

use std::{error::Error, fmt};

use outrigger_core::Enforcement;
use serde::Deserialize;

use super::snapshot::{BalancerRow, BreakerRow, BudgetRow, LimitRow};

/// Something that [`Diagnosis`](crate::Diagnosis) can look at without keeping it alive: the weak
/// form of a breaker, a limit, a budget, a balancer, or of a panel of them.
pub trait Diagnose: Send + Sync + 'static {
    /// How it stands at this moment; `None` once it is gone.
    fn snapshot(&self) -> Option<Part>;

    /// Changes it by hand. `key` is that of its row.
    ///
    /// # Errors
    ///
    /// When it is gone, has no such key, or cannot be changed in this way.
    fn change(&self, key: &str, change: Change) -> Result<(), CannotChange> {
        let _ = (key, change);
        Err(CannotChange::Unsupported)
    }
}

/// How a registered part stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// One circuit breaker or many.
    Breakers {
        /// One row for each.
        rows: Vec<BreakerRow>,
        /// How many more there are.
        left_out: u64,
    },
    /// One limit or many.
    Limits {
        /// One row for each.
        rows: Vec<LimitRow>,
        /// How many more there are.
        left_out: u64,
    },
    /// A retry budget.
    Budget(BudgetRow),
    /// A balancer.
    Balancer {
        /// The balancer and its endpoints.
        row: BalancerRow,
        /// How many endpoints more there are.
        left_out: u64,
    },
}

/// What can be changed by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// Breakers: refuses every call until it is reset.
    ForceOpen,
    /// Breakers: closes the circuit and lets every call pass from now on, while the rules go on in
    /// shadow; until it is enforced again.
    ForceClosed,
    /// Breakers: closes the circuit and forgets its counts.
    Reset,
    /// Breakers and limits: the policy acts.
    Enforce,
    /// Breakers and limits: the policy only says what it would do.
    Shadow,
    /// Breakers and limits: the policy does nothing.
    SwitchOff,
}

impl Change {
    /// The stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ForceOpen => "force_open",
            Self::ForceClosed => "force_closed",
            Self::Reset => "reset",
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::SwitchOff => "switch_off",
        }
    }

    /// The enforcement that it asks for.
    #[cfg_attr(
        not(any(feature = "circuitbreak", feature = "ratelimit")),
        expect(dead_code, reason = "only breakers and limits have one")
    )]
    const fn enforcement(self) -> Option<Enforcement> {
        match self {
            Self::Enforce => Some(Enforcement::Enforced),
            Self::Shadow | Self::ForceClosed => Some(Enforcement::Shadow),
            Self::SwitchOff => Some(Enforcement::Disabled),
            Self::ForceOpen | Self::Reset => None,
        }
    }
}

/// Why something could not be changed by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CannotChange {
    /// There is no such part, no such key, or it is gone.
    NotFound,
    /// It cannot be changed in this way.
    Unsupported,
}

impl fmt::Display for CannotChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "there is no such part or key",
            Self::Unsupported => "it cannot be changed in this way",
        })
    }
}

impl Error for CannotChange {}

/// So many keys of a panel, or endpoints, are shown at most.
#[cfg(any(feature = "circuitbreak", feature = "ratelimit", feature = "loadbalance"))]
const MOST_ROWS: usize = 200;

/// Keeps the first rows in this order, and says how many were left out.
#[cfg(any(feature = "circuitbreak", feature = "ratelimit", feature = "loadbalance"))]
fn keep_first<T, K: Ord>(rows: &mut Vec<T>, order: impl FnMut(&T) -> K) -> u64 {
    let left_out = rows.len().saturating_sub(MOST_ROWS);
    if left_out > 0 {
        rows.sort_by_cached_key(order);
        rows.truncate(MOST_ROWS);
    }
    left_out as u64
}

#[cfg(any(feature = "circuitbreak", feature = "ratelimit"))]
const fn enforcement_word(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Enforced => "enforced",
        Enforcement::Shadow => "shadow",
        Enforcement::Disabled => "disabled",
    }
}

#[cfg(any(feature = "circuitbreak", feature = "retry", feature = "loadbalance"))]
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A policy as data; nothing where a rule is the user's own code.
#[cfg(any(feature = "circuitbreak", feature = "ratelimit", feature = "retry"))]
fn as_data(policy: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(policy).unwrap_or_default()
}
