use outrigger_circuitbreak::{CircuitBreakerEvent, State};
use outrigger_core::Observe;

use super::{Level, Note, Told, short, spaced, would};
use crate::{
    Diagnosis,
    governance::words::{cause_word, refusal, state_word},
};

impl Observe<CircuitBreakerEvent> for Diagnosis {
    fn observe(&self, key: &str, event: &CircuitBreakerEvent) {
        self.note(key, Note::of(Told::Breaker(*event)));
    }
}

pub(super) fn note(event: &CircuitBreakerEvent, told: Told) -> Note {
    let rare = |kind, level| Note::rare("circuitbreak", kind, level, told);
    match event {
        CircuitBreakerEvent::StateChanged(change) => {
            let level = match change.to {
                State::Closed => Level::Good,
                State::HalfOpen => Level::Info,
                _ => Level::Bad,
            };
            rare("state_changed", level)
        }
        CircuitBreakerEvent::Refused { state, shadow, .. } => {
            let level = if *shadow { Level::Info } else { Level::Warning };
            rare("refused", level).frequent(refusal(*state))
        }
        CircuitBreakerEvent::ProbeLost => rare("probe_lost", Level::Warning),
        _ => rare("other", Level::Info).frequent(""),
    }
}

pub(super) fn text(event: &CircuitBreakerEvent) -> String {
    match event {
        CircuitBreakerEvent::StateChanged(change) => {
            let [from, to] = [change.from, change.to].map(|state| spaced(state_word(state)));
            let counts = change.counts;
            let failed = (counts.calls > 0)
                .then(|| format!(", {} of {} calls failed", counts.errors(), counts.calls));
            let slow = (counts.slow > 0).then(|| format!(", {} slow", counts.slow));
            let cool_down =
                change.cool_down.map(|time| format!("; cools down for {}", short(time)));
            let more: String = [failed, slow, cool_down].into_iter().flatten().collect();
            format!("{from} → {to}: {}{more}", spaced(cause_word(change.cause)))
        }
        CircuitBreakerEvent::Refused { state, shadow, .. } => {
            let refused = would(*shadow, "would refuse a call", "refused a call");
            format!("{refused}: {}", spaced(refusal(*state)))
        }
        CircuitBreakerEvent::ProbeLost => {
            "a probe ran over its limit and lost its place".to_owned()
        }
        other => format!("{other:?}"),
    }
}
