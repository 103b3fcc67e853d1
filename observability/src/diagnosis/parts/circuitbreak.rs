use std::{cmp::Reverse, fmt, hash::Hash, num::NonZeroUsize};

use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerEvent, CircuitBreakerPanel, State, WeakCircuitBreaker,
    WeakCircuitBreakerPanel, WindowCounts, WindowShape,
};
use outrigger_core::Observe;

use super::{CannotChange, Change, Diagnose, Part, as_data, enforcement_word, keep_first, millis};
use crate::{
    diagnosis::snapshot::{BreakerRow, StepRow, TripRow},
    governance::words::{cause_word, state_word},
};

/// The window is shown in so many steps at most.
const STEPS: NonZeroUsize = NonZeroUsize::new(50).unwrap();

impl<O> Diagnose for WeakCircuitBreaker<O>
where
    O: Observe<CircuitBreakerEvent> + Send + Sync + 'static,
{
    fn snapshot(&self) -> Option<Part> {
        let rows = vec![row(&self.upgrade()?)];
        Some(Part::Breakers { rows, left_out: 0 })
    }

    fn change(&self, key: &str, change: Change) -> Result<(), CannotChange> {
        let breaker = self.upgrade().ok_or(CannotChange::NotFound)?;
        if breaker.name() != key {
            return Err(CannotChange::NotFound);
        }
        if let Some(enforcement) = change.enforcement() {
            breaker.policy().update(|policy| policy.clone().with_enforcement(enforcement));
        }
        force(&breaker, change);
        Ok(())
    }
}

/// A change of enforcement gives the key a policy of its own.
impl<K, O> Diagnose for WeakCircuitBreakerPanel<K, O>
where
    K: Hash + Eq + Clone + fmt::Display + Send + Sync + 'static,
    O: Observe<CircuitBreakerEvent> + Send + Sync + 'static,
{
    fn snapshot(&self) -> Option<Part> {
        let panel = self.upgrade()?;
        let mut listed = panel.list();
        let left_out = keep_first(&mut listed, |(_, breaker)| {
            (breaker.state == State::Closed, Reverse(breaker.counts.calls))
        });
        let breakers = listed.iter().filter_map(|(key, _)| panel.get(key));
        let mut rows: Vec<_> = breakers.map(|breaker| row(&breaker)).collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        Some(Part::Breakers { rows, left_out })
    }

    fn change(&self, key: &str, change: Change) -> Result<(), CannotChange> {
        let panel = self.upgrade().ok_or(CannotChange::NotFound)?;
        let (key, breaker) = find(&panel, key).ok_or(CannotChange::NotFound)?;
        if let Some(enforcement) = change.enforcement() {
            let policy = breaker.policy().get();
            panel
                .set_policy(&key, (*policy).clone().with_enforcement(enforcement))
                .map_err(|_full| CannotChange::Unsupported)?;
        }
        force(&breaker, change);
        Ok(())
    }
}

/// The key whose breaker has this name.
fn find<K, O>(panel: &CircuitBreakerPanel<K, O>, name: &str) -> Option<(K, CircuitBreaker<O>)>
where
    K: Hash + Eq + Clone,
{
    let keys = panel.list().into_iter().map(|(key, _)| key);
    keys.filter_map(|key| panel.get(&key).map(|breaker| (key, breaker)))
        .find(|(_, breaker)| breaker.name() == name)
}

fn force<O: Observe<CircuitBreakerEvent>>(breaker: &CircuitBreaker<O>, change: Change) {
    match change {
        Change::ForceOpen => breaker.force_open(),
        Change::ForceClosed | Change::Reset => breaker.reset(),
        Change::Enforce | Change::Shadow | Change::SwitchOff => {}
    }
}

fn row<O>(breaker: &CircuitBreaker<O>) -> BreakerRow {
    let snapshot = breaker.snapshot();
    let policy = breaker.policy().get();
    BreakerRow {
        id: String::new(),
        part: 0,
        name: String::new(),
        key: breaker.name().to_owned(),
        state: state_word(snapshot.state),
        enforcement: enforcement_word(snapshot.enforcement),
        generation: snapshot.generation,
        cool_down_left_ms: snapshot.cool_down_left.map(millis),
        window: step(snapshot.counts),
        steps: breaker.window(STEPS).into_iter().map(step).collect(),
        window_ms: match policy.window() {
            WindowShape::Time { duration, .. } => Some(millis(duration)),
            _ => None,
        },
        last_trip: snapshot.last_trip.map(|(rule, counts)| TripRow {
            rule: cause_word(outrigger_circuitbreak::Cause::Tripped(rule)),
            window: step(counts),
        }),
        policy_version: breaker.policy().version(),
        policy: as_data(&*policy),
    }
}

const fn step(counts: WindowCounts) -> StepRow {
    StepRow { calls: counts.calls, errors: counts.errors(), slow: counts.slow }
}
