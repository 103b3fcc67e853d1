//! The methods that were called, as rows of the diagnosis page.

use std::{cmp::Reverse, sync::Arc};

use outrigger_circuitbreak::State;
use outrigger_core::{Criticality, Enforcement};
use outrigger_observability::{
    BreakerRow, CannotChange, Change, Diagnose, Diagnosis, LimitRow, Part,
};
use outrigger_ratelimit::AdaptiveLimit;

use crate::{Governance, MethodState, ObserveGovernance, PolicyKind, governance::WeakGovernance};

/// So many rows of a kind are shown, at most: those that ask for attention first.
const MOST_ROWS: usize = 200;

impl<O: ObserveGovernance + Send + Sync + 'static> Governance<O> {
    /// Shows on `diagnosis`, under this name, the breakers, limits and throttles of every method
    /// that was called, the limits of the whole server, and the retry budgets of `services`. Keeps
    /// nothing alive. Of each kind 200 rows are shown at most: open circuits first, and limits
    /// where calls wait.
    ///
    /// To enforce, shadow or switch off by hand there is a [`switch`](Self::switch) of that policy
    /// and method; it outlives a reload. To enforce takes the switch back where the set enforces
    /// the policy anyway, so that later sets count again. The limits of the whole server cannot be
    /// changed on the page.
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
        diagnosis.register(name, Breakers(self.downgrade()));
        for kind in [Kind::Concurrency, Kind::Adaptive, Kind::Rate, Kind::Throttle] {
            diagnosis.register(name, Limits { governance: self.downgrade(), kind });
        }
        diagnosis.register(name, ServerLimits(self.downgrade()));
        for service in services {
            diagnosis.register(*service, self.retry_budget(service).downgrade());
        }
    }

    fn state_of(&self, key: &str) -> Result<Arc<MethodState<O>>, CannotChange> {
        let found = self.methods().into_iter().find(|state| state.method().as_str() == key);
        found.ok_or(CannotChange::NotFound)
    }
}

// ===== Breakers =====

struct Breakers<O>(WeakGovernance<O>);

impl<O: ObserveGovernance + Send + Sync + 'static> Diagnose for Breakers<O> {
    fn snapshot(&self) -> Option<Part> {
        let mut methods = self.0.upgrade()?.methods();
        methods.retain(|method| method.policy().circuit_breaker().is_some());
        let left_out =
            keep_first(&mut methods, |method| method.circuit_breaker().state() == State::Closed);
        let rows = methods.iter().flat_map(|method| breaker_rows(method)).collect();
        Some(Part::Breakers { rows, left_out })
    }

    fn change(&self, key: &str, change: Change) -> Result<(), CannotChange> {
        let governance = self.0.upgrade().ok_or(CannotChange::NotFound)?;
        let state = governance.state_of(key)?;
        let breaker = state.circuit_breaker();
        match change {
            Change::ForceOpen => breaker.force_open(),
            Change::Reset => breaker.reset(),
            Change::ForceClosed => {
                // A switch, or the next set would let the circuit open again.
                governance.switch_by_hand(
                    state.method(),
                    PolicyKind::CircuitBreaker,
                    Enforcement::Shadow,
                );
                breaker.reset();
            }
            _ => {
                let wanted = enforcement(change)?;
                governance.switch_by_hand(state.method(), PolicyKind::CircuitBreaker, wanted);
            }
        }
        Ok(())
    }
}

fn breaker_rows<O>(state: &MethodState<O>) -> Vec<BreakerRow>
where
    O: ObserveGovernance + Send + Sync + 'static,
{
    match state.circuit_breaker().downgrade().snapshot() {
        Some(Part::Breakers { rows, .. }) => rows,
        _ => Vec::new(),
    }
}

// ===== Limits =====

#[derive(Clone, Copy)]
enum Kind {
    Concurrency,
    Adaptive,
    Rate,
    Throttle,
}

/// One kind of limit, of all methods: a part of its own, so that a change means that kind alone.
struct Limits<O> {
    governance: WeakGovernance<O>,
    kind: Kind,
}

impl Kind {
    const fn policy(self) -> PolicyKind {
        match self {
            Self::Concurrency => PolicyKind::ConcurrencyLimit,
            Self::Adaptive => PolicyKind::AdaptiveLimit,
            Self::Rate => PolicyKind::RateLimit,
            Self::Throttle => PolicyKind::ClientThrottle,
        }
    }

    /// What asks for attention comes first: who waits, then what is used.
    fn attention<O>(self, state: &MethodState<O>) -> (u32, u32) {
        match self {
            Self::Concurrency => {
                let limit = state.concurrency_limit();
                (limit.waiting(), limit.in_flight())
            }
            Self::Adaptive => {
                let status = state.adaptive_limit().map(AdaptiveLimit::status);
                status.map_or((0, 0), |status| (status.waiting, status.in_flight))
            }
            Self::Rate => {
                let limit = state.rate_limit();
                (limit.waiting(), u32::MAX - limit.tokens())
            }
            Self::Throttle => {
                let share = state.client_throttle().refusal_probability(Criticality::Critical);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share in thousandths"
                )]
                ((share * 1000.0) as u32, 0)
            }
        }
    }

    fn snapshot<O>(self, state: &MethodState<O>) -> Option<Part>
    where
        O: ObserveGovernance + Send + Sync + 'static,
    {
        match self {
            Self::Concurrency => state.concurrency_limit().downgrade().snapshot(),
            Self::Adaptive => state.adaptive_limit()?.downgrade().snapshot(),
            Self::Rate => state.rate_limit().downgrade().snapshot(),
            Self::Throttle => state.client_throttle().downgrade().snapshot(),
        }
    }
}

impl<O: ObserveGovernance + Send + Sync + 'static> Diagnose for Limits<O> {
    fn snapshot(&self) -> Option<Part> {
        let mut methods = self.governance.upgrade()?.methods();
        let kind = self.kind;
        methods.retain(|method| method.policy().enforcement_of(kind.policy()).is_some());
        let left_out = keep_first(&mut methods, |method| Reverse(kind.attention(method)));
        let rows = methods.iter().flat_map(|method| rows_of(kind.snapshot(method))).collect();
        Some(Part::Limits { rows, left_out })
    }

    fn change(&self, key: &str, change: Change) -> Result<(), CannotChange> {
        let governance = self.governance.upgrade().ok_or(CannotChange::NotFound)?;
        let state = governance.state_of(key)?;
        governance.switch_by_hand(state.method(), self.kind.policy(), enforcement(change)?);
        Ok(())
    }
}

struct ServerLimits<O>(WeakGovernance<O>);

impl<O: ObserveGovernance + Send + Sync + 'static> Diagnose for ServerLimits<O> {
    fn snapshot(&self) -> Option<Part> {
        let governance = self.0.upgrade()?;
        let server = governance.server_live().load();
        let concurrency =
            server.concurrency.handle().and_then(|limit| limit.downgrade().snapshot());
        let adaptive = server.adaptive.handle();
        let adaptive = adaptive.and_then(|limit| limit.downgrade().snapshot());
        let rate = server.rate.handle().and_then(|limit| limit.downgrade().snapshot());
        let rows = [concurrency, adaptive, rate].into_iter().flat_map(rows_of).collect();
        Some(Part::Limits { rows, left_out: 0 })
    }
}

fn rows_of(part: Option<Part>) -> Vec<LimitRow> {
    match part {
        Some(Part::Limits { rows, .. }) => rows,
        _ => Vec::new(),
    }
}

fn enforcement(change: Change) -> Result<Enforcement, CannotChange> {
    match change {
        Change::Enforce => Ok(Enforcement::Enforced),
        Change::Shadow => Ok(Enforcement::Shadow),
        Change::SwitchOff => Ok(Enforcement::Disabled),
        _ => Err(CannotChange::Unsupported),
    }
}

/// Keeps the first in this order, by name, and says how many were left out.
fn keep_first<O, K: Ord>(
    methods: &mut Vec<Arc<MethodState<O>>>,
    order: impl Fn(&MethodState<O>) -> K,
) -> u64 {
    let left_out = methods.len().saturating_sub(MOST_ROWS);
    if left_out > 0 {
        methods.sort_by_cached_key(|method| order(method));
        methods.truncate(MOST_ROWS);
    }
    methods.sort_by(|a, b| a.method().as_str().cmp(b.method().as_str()));
    left_out as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use outrigger_core::{MethodRef, Observe};

    use super::*;
    use crate::{Format, PolicyEvent, PolicySet};

    #[derive(Clone, Default)]
    struct Versions(Arc<Mutex<Vec<u64>>>);

    impl<E: 'static> Observe<E> for Versions {
        fn observe(&self, _: &str, event: &E) {
            let event = (event as &dyn std::any::Any).downcast_ref();
            if let Some(PolicyEvent::Switched { version }) = event {
                self.0.lock().unwrap().push(*version);
            }
        }
    }

    #[test]
    fn a_switch_by_hand_is_one_change_and_no_switch_where_the_set_says_so() {
        let set = |text| PolicySet::parse("p.yaml", text, Format::Yaml).unwrap();
        let versions = Versions::default();
        let enforced = set("defaults: {circuit_breaker: {}}");
        let governance = Governance::with_observer(enforced, versions.clone());
        let get = MethodRef { service: "shop.Cart", method: "Get" };
        let in_force = || governance.method(get).policy().circuit_breaker().unwrap().enforcement();
        let wanted = [Enforcement::Shadow, Enforcement::Disabled, Enforcement::Enforced];
        for (n, wanted) in (1..).zip(wanted) {
            governance.switch_by_hand(&get.to_owned(), PolicyKind::CircuitBreaker, wanted);
            assert_eq!((in_force(), governance.version()), (wanted, n));
        }
        assert_eq!(*versions.0.lock().unwrap(), [1, 2, 3]);
        governance.replace(set("defaults: {circuit_breaker: {enforcement: shadow}}"));
        assert_eq!(in_force(), Enforcement::Shadow, "no switch was left");
    }
}
