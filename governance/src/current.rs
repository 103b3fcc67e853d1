//! The set in force, and what was switched by hand over it.

use std::sync::Arc;

use outrigger_core::{Enforcement, Method};

use crate::{MethodPolicy, PolicyKind, PolicySet};

#[derive(Clone, Default)]
pub(crate) struct Current {
    pub(crate) set: Arc<PolicySet>,
    pub(crate) switches: Vec<Switch>,
}

/// Something that was switched by hand.
#[derive(Clone, PartialEq)]
pub(crate) struct Switch {
    pub(crate) method: Option<Method>,
    pub(crate) policy: Option<PolicyKind>,
    pub(crate) enforcement: Enforcement,
}

impl Current {
    /// With no switch of just this method and policy.
    pub(crate) fn without(&self, method: Option<&Method>, policy: Option<PolicyKind>) -> Self {
        let mut rest = self.clone();
        let is_other =
            |switch: &Switch| (switch.method.as_ref(), switch.policy) != (method, policy);
        rest.switches.retain(is_other);
        rest
    }

    /// `policy` as it was switched by hand.
    pub(crate) fn switched(&self, method: &Method, policy: Arc<MethodPolicy>) -> Arc<MethodPolicy> {
        let of_method = |switch: &&Switch| switch.method.as_ref().is_none_or(|m| m == method);
        if !self.switches.iter().any(|switch| of_method(&switch)) {
            return policy;
        }
        let chosen = |kind| {
            let of_policy = |switch: &&Switch| switch.policy.is_none_or(|policy| policy == kind);
            let found = self.switches.iter().rev().filter(of_method).find(of_policy);
            found.map(|switch| switch.enforcement)
        };
        Arc::new(MethodPolicy::clone(&policy).enforced_by(chosen))
    }
}
