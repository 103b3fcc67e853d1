use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerEvent, State, StateChange};
use outrigger_core::Observe;

use super::{
    GovernanceMetrics, Watched,
    family::Families,
    words::{cause_word, refusal, state_word},
};
use crate::names;

const LAYER: &str = "circuitbreak";

impl Observe<CircuitBreakerEvent> for GovernanceMetrics {
    fn observe(&self, key: &str, event: &CircuitBreakerEvent) {
        match event {
            CircuitBreakerEvent::StateChanged(change) => self.changed(self.key(key), change),
            CircuitBreakerEvent::Refused { state, shadow, .. } => {
                self.rejected(LAYER, key, refusal(*state), *shadow);
            }
            CircuitBreakerEvent::ProbeLost => {
                let labels = [(names::KEY, self.key(key))];
                self.shared.families.count(names::BREAKER_PROBES_LOST, &labels, 1);
            }
            _ => {}
        }
    }
}

impl GovernanceMetrics {
    /// Shows the state of `breaker` from the start, and not only from its first change on.
    pub fn watch_breaker<O: Send + Sync + 'static>(&self, breaker: &CircuitBreaker<O>) -> Watched {
        let breaker = breaker.clone();
        self.watch(move |families| set_state(families, breaker.name(), breaker.state()))
    }

    fn changed(&self, key: &str, change: &StateChange) {
        let labels = [
            (names::KEY, key),
            (names::FROM, state_word(change.from)),
            (names::STATE, state_word(change.to)),
            (names::REASON, cause_word(change.cause)),
        ];
        self.shared.families.count(names::BREAKER_TRANSITIONS, &labels, 1);
        let is_newest = |last: &mut u64| {
            let is_newer = change.generation > *last;
            *last = change.generation.max(*last);
            is_newer
        };
        // Set within the lock, so that an older change cannot come last.
        self.shared.generations.with(key, |last| {
            if is_newest(last) {
                set_state(&self.shared.families, key, change.to);
            }
        });
    }
}

/// The last change of each circuit that was told: changes may be told out of order.
#[derive(Debug)]
pub(super) struct Generations {
    last: Mutex<HashMap<Box<str>, u64>>,
    most: usize,
}

impl Generations {
    pub(super) fn new(most: usize) -> Self {
        Self { last: Mutex::default(), most }
    }

    /// Circuits beyond the cap are not known: their shared series would tell nothing of one.
    fn with(&self, key: &str, use_it: impl FnOnce(&mut u64)) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.contains_key(key) && last.len() < self.most {
            last.insert(key.into(), 0);
        }
        if let Some(generation) = last.get_mut(key) {
            use_it(generation);
        }
    }
}

const STATES: [State; 4] = [State::Closed, State::HalfOpen, State::Open, State::ForcedOpen];

fn set_state(families: &Families, key: &str, present: State) {
    for state in STATES {
        let labels = [(names::KEY, key), (names::STATE, state_word(state))];
        families.set(names::BREAKER_STATE, &labels, f64::from(u8::from(state == present)));
    }
}
