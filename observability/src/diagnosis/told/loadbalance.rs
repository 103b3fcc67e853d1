use outrigger_core::Observe;
use outrigger_loadbalance::BalanceEvent;

use super::{Level, Note, Told, short, spaced};
use crate::{
    Diagnosis,
    governance::words::{refused_word, rule_word},
};

impl Observe<BalanceEvent> for Diagnosis {
    fn observe(&self, endpoint: &str, event: &BalanceEvent) {
        self.note(endpoint, Note::of(Told::Balance(*event)));
    }
}

pub(super) fn note(event: &BalanceEvent, told: Told) -> Note {
    let rare = |kind, level| Note::rare("loadbalance", kind, level, told);
    match event {
        BalanceEvent::Added { .. } => rare("added", Level::Info),
        BalanceEvent::Removed { .. } => rare("removed", Level::Info),
        BalanceEvent::Drained => rare("drained", Level::Info),
        BalanceEvent::Reweighted { .. } => rare("reweighted", Level::Info).frequent(""),
        BalanceEvent::Ejected { enforced: true, .. } => rare("ejected", Level::Bad),
        BalanceEvent::Ejected { .. } => rare("would_eject", Level::Info),
        BalanceEvent::Returned => rare("returned", Level::Good),
        BalanceEvent::ConnectFailed { .. } => rare("connect_failed", Level::Warning).frequent(""),
        BalanceEvent::PanicEntered { .. } => rare("panic_entered", Level::Bad),
        BalanceEvent::PanicLeft { .. } => rare("panic_left", Level::Good),
        BalanceEvent::NoEndpoint => rare("no_endpoint", Level::Bad).frequent(""),
        BalanceEvent::UpdateRefused { cause } => {
            rare("update_refused", Level::Warning).frequent(refused_word(*cause))
        }
        _ => rare("other", Level::Info).frequent(""),
    }
}

pub(super) fn text(event: &BalanceEvent) -> String {
    match event {
        BalanceEvent::Added { weight } => format!("joined, with weight {weight}"),
        BalanceEvent::Removed { in_flight } => format!("left, with {in_flight} calls in flight"),
        BalanceEvent::Drained => "its last call is over".to_owned(),
        BalanceEvent::Reweighted { weight } => format!("has weight {weight} now"),
        BalanceEvent::Ejected { rule, duration, enforced } => {
            let ejected = if *enforced { "ejected" } else { "would be ejected" };
            format!("{ejected} for {}: {}", short(*duration), spaced(rule_word(*rule)))
        }
        BalanceEvent::Returned => "gets calls again, on probation".to_owned(),
        BalanceEvent::ConnectFailed { timed_out: true } => "connecting took too long".to_owned(),
        BalanceEvent::ConnectFailed { .. } => "connecting failed".to_owned(),
        BalanceEvent::PanicEntered { healthy } => {
            format!("ejections are disregarded: only {:.0} % are healthy", healthy * 100.0)
        }
        BalanceEvent::PanicLeft { healthy } => {
            format!("ejections count again: {:.0} % are healthy", healthy * 100.0)
        }
        BalanceEvent::NoEndpoint => "refused a call: there is no endpoint".to_owned(),
        BalanceEvent::UpdateRefused { cause } => {
            format!("an update of the endpoints was not used: {}", spaced(refused_word(*cause)))
        }
        other => format!("{other:?}"),
    }
}
