//! The methods that were called, as rows of the diagnosis page.

use std::sync::Arc;

use outrigger_core::Enforcement;
use outrigger_observability::{CannotChange, Change, Diagnose, Diagnosis, Part};
use outrigger_ratelimit::AdaptiveLimit;

use crate::{Governance, MethodState, ObserveGovernance, governance::WeakGovernance};

/// So many methods are looked at, at most.
const MOST_METHODS: usize = 500;

impl<O: ObserveGovernance + Send + Sync + 'static> Governance<O> {
    /// Shows on `diagnosis`, under this name, the breakers, limits and throttles of every method
    /// that was called, the limits of the whole server, and the retry budgets of `services`. Keeps
    /// nothing alive.
    ///
    /// To enforce, shadow or switch off by hand there is a [`switch`](Self::switch) of that policy
    /// and method; it outlives a reload.
    ///
    /// ```
    /// use outrigger::{Format, Governance, PolicySet, observability::Diagnosis};
    ///
    /// let diagnosis = Diagnosis::new();
    /// let set = PolicySet::parse("p.yaml", "defaults: {circuit_breaker: {}}", Format::Yaml)?;
    /// let governance = Governance::with_observer(set, diagnosis.clone());
    /// governance.show_on(&diagnosis, "shop", &["shop.Cart"]);
    ///
    /// let get = outrigger::core::MethodRef { service: "shop.Cart", method: "Get" };
    /// governance.method(get).circuit_breaker().force_open();
    /// assert_eq!(diagnosis.snapshot().breakers[0].key, "shop.Cart/Get");
    /// # Ok::<_, outrigger::InvalidPolicies>(())
    /// ```
    pub fn show_on(&self, diagnosis: &Diagnosis, name: &str, services: &[&str]) {
        for rows in [Rows::Breakers, Rows::Limits] {
            diagnosis.register(name, Methods { governance: self.downgrade(), rows });
        }
        for service in services {
            diagnosis.register(*service, self.retry_budget(service).downgrade());
        }
    }
}

#[derive(Clone, Copy)]
enum Rows {
    Breakers,
    Limits,
}

struct Methods<O> {
    governance: WeakGovernance<O>,
    rows: Rows,
}

impl<O: ObserveGovernance + Send + Sync + 'static> Diagnose for Methods<O> {
    fn snapshot(&self) -> Option<Part> {
        let governance = self.governance.upgrade()?;
        let mut methods = governance.methods();
        methods.sort_by(|a, b| a.method().as_str().cmp(b.method().as_str()));
        let left_out = methods.len().saturating_sub(MOST_METHODS) as u64;
        methods.truncate(MOST_METHODS);
        let parts = methods.iter().flat_map(|method| match self.rows {
            Rows::Breakers => breakers(method),
            Rows::Limits => limits(method),
        });
        Some(match self.rows {
            Rows::Breakers => {
                let mut rows = Vec::new();
                for part in parts {
                    if let Part::Breakers { rows: more, .. } = part {
                        rows.extend(more);
                    }
                }
                Part::Breakers { rows, left_out }
            }
            Rows::Limits => {
                let mut rows = Vec::new();
                for part in parts.chain(server_limits(&governance)) {
                    if let Part::Limits { rows: more, .. } = part {
                        rows.extend(more);
                    }
                }
                Part::Limits { rows, left_out }
            }
        })
    }

    fn change(&self, key: &str, change: Change) -> Result<(), CannotChange> {
        let governance = self.governance.upgrade().ok_or(CannotChange::NotFound)?;
        let methods = governance.methods();
        let method = methods.iter().find(|state| state.method().as_str() == key);
        let state = method.ok_or(CannotChange::NotFound)?;
        let enforcement = match change {
            Change::Enforce => Some(Enforcement::Enforced),
            Change::Shadow => Some(Enforcement::Shadow),
            Change::SwitchOff => Some(Enforcement::Disabled),
            _ => None,
        };
        match (self.rows, enforcement) {
            (Rows::Breakers, Some(_)) => {
                governance.switch(
                    Some(state.method().clone()),
                    Some("circuit_breaker"),
                    enforcement,
                );
                Ok(())
            }
            (Rows::Breakers, None) => state.circuit_breaker().downgrade().change(key, change),
            (Rows::Limits, Some(_)) => {
                for policy in
                    ["concurrency_limit", "adaptive_limit", "rate_limit", "client_throttle"]
                {
                    governance.switch(Some(state.method().clone()), Some(policy), enforcement);
                }
                Ok(())
            }
            (Rows::Limits, None) => Err(CannotChange::Unsupported),
        }
    }
}

fn breakers<O>(state: &Arc<MethodState<O>>) -> Vec<Part>
where
    O: ObserveGovernance + Send + Sync + 'static,
{
    let stated = state.policy().circuit_breaker();
    stated.and_then(|_| state.circuit_breaker().downgrade().snapshot()).into_iter().collect()
}

/// Those that the method's policy states.
fn limits<O>(state: &Arc<MethodState<O>>) -> Vec<Part>
where
    O: ObserveGovernance + Send + Sync + 'static,
{
    let policy = state.policy();
    let concurrency = policy.concurrency_limit().map(|_| state.concurrency_limit().downgrade());
    let adaptive = state.adaptive_limit().map(AdaptiveLimit::downgrade);
    let rate = policy.rate_limit().map(|_| state.rate_limit().downgrade());
    let throttle = policy.client_throttle().map(|_| state.client_throttle().downgrade());
    let parts = [
        concurrency.and_then(|weak| weak.snapshot()),
        adaptive.and_then(|weak| weak.snapshot()),
        rate.and_then(|weak| weak.snapshot()),
        throttle.and_then(|weak| weak.snapshot()),
    ];
    parts.into_iter().flatten().collect()
}

fn server_limits<O>(governance: &Governance<O>) -> Vec<Part>
where
    O: ObserveGovernance + Send + Sync + 'static,
{
    let server = governance.server_live().load();
    let concurrency = server.stated_concurrency().and_then(|limit| limit.downgrade().snapshot());
    let adaptive = server.adaptive.limit.as_ref();
    let adaptive = adaptive.and_then(|limit| limit.downgrade().snapshot());
    let rate = server.stated_rate().and_then(|limit| limit.downgrade().snapshot());
    [concurrency, adaptive, rate].into_iter().flatten().collect()
}
