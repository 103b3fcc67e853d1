//! The stable words for what happened: the same in metrics, span events and logs.

#[cfg(feature = "circuitbreak")]
mod circuitbreak;
#[cfg(feature = "loadbalance")]
mod loadbalance;
#[cfg(feature = "retry")]
mod retry;

#[cfg(feature = "circuitbreak")]
pub(crate) use self::circuitbreak::{cause_word, refusal, state_word};
#[cfg(feature = "loadbalance")]
pub(crate) use self::loadbalance::{refused_word, rule_word};
#[cfg(feature = "retry")]
pub(crate) use self::retry::{kind_word, outcome_word, stop_word};

pub(super) const fn enforcement(shadow: bool) -> &'static str {
    if shadow { "shadow" } else { "enforced" }
}
