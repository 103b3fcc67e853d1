//! What governs, as metrics, log lines and rows of the diagnosis page.

#[cfg(feature = "diagnosis")]
mod page;

use outrigger_core::Observe;
use outrigger_observability::GovernanceMetrics;

use crate::PolicyEvent;

/// Counts sets of policies that were put in force or refused.
impl Observe<PolicyEvent> for GovernanceMetrics {
    fn observe(&self, source: &str, event: &PolicyEvent) {
        self.policy_reloaded(source, matches!(event, PolicyEvent::Replaced { .. }));
    }
}

#[cfg(feature = "diagnosis")]
impl Observe<PolicyEvent> for outrigger_observability::Diagnosis {
    fn observe(&self, source: &str, event: &PolicyEvent) {
        self.policy_reloaded(source, matches!(event, PolicyEvent::Replaced { .. }));
    }
}

#[cfg(feature = "tracing")]
impl Observe<PolicyEvent> for outrigger_observability::StateLog {
    fn observe(&self, source: &str, event: &PolicyEvent) {
        match event {
            PolicyEvent::Replaced { .. } => self.policy_reloaded(source, None),
            PolicyEvent::Refused { reason } => self.policy_reloaded(source, Some(reason)),
        }
    }
}

/// Says nothing: no call's span is about where policies are replaced.
#[cfg(feature = "tracing")]
impl Observe<PolicyEvent> for outrigger_observability::SpanEvents {
    fn observe(&self, _source: &str, _event: &PolicyEvent) {}
}
