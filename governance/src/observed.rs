//! What governs, as metrics, log lines and rows of the diagnosis page.

#[cfg(feature = "diagnosis")]
mod page;

use outrigger_core::Observe;
use outrigger_observability::GovernanceMetrics;

use crate::PolicyEvent;

/// Counts sets of policies that were put in force or refused.
impl Observe<PolicyEvent> for GovernanceMetrics {
    fn observe(&self, source: &str, event: &PolicyEvent) {
        if let Some(applied) = applied(event) {
            self.policy_reloaded(source, applied);
        }
    }
}

/// Whether a set was put in force; a switch brings no set.
const fn applied(event: &PolicyEvent) -> Option<bool> {
    match event {
        PolicyEvent::Replaced { .. } => Some(true),
        PolicyEvent::Refused { .. } => Some(false),
        PolicyEvent::Switched { .. } => None,
    }
}

#[cfg(feature = "diagnosis")]
impl Observe<PolicyEvent> for outrigger_observability::Diagnosis {
    fn observe(&self, source: &str, event: &PolicyEvent) {
        if let Some(applied) = applied(event) {
            self.policy_reloaded(source, applied);
        }
    }
}

#[cfg(feature = "tracing")]
impl Observe<PolicyEvent> for outrigger_observability::StateLog {
    fn observe(&self, source: &str, event: &PolicyEvent) {
        match event {
            PolicyEvent::Replaced { .. } => self.policy_reloaded(source, None),
            PolicyEvent::Refused { reason } => self.policy_reloaded(source, Some(reason)),
            PolicyEvent::Switched { .. } => {}
        }
    }
}

/// Says nothing: no call's span is about where policies are replaced.
#[cfg(feature = "tracing")]
impl Observe<PolicyEvent> for outrigger_observability::SpanEvents {
    fn observe(&self, _source: &str, _event: &PolicyEvent) {}
}
