use outrigger_core::Observe;
use outrigger_retry::{AttemptKind, RetryEvent, TimeoutEvent};

use super::{Level, Note, Told, short, spaced, would};
use crate::{
    Diagnosis,
    governance::words::{kind_word, stop_word},
};

impl Observe<RetryEvent> for Diagnosis {
    fn observe(&self, key: &str, event: &RetryEvent) {
        // First attempts and their ends are the calls themselves; a retry is told when it is sent.
        let is_news = match event {
            RetryEvent::AttemptSent { kind, .. } => *kind != AttemptKind::First,
            RetryEvent::AttemptEnded { .. }
            | RetryEvent::RetryScheduled { .. }
            | RetryEvent::BackupLost { .. } => false,
            _ => true,
        };
        if is_news {
            self.note(key, Note::of(Told::Retry(*event)));
        }
    }
}

impl Observe<TimeoutEvent> for Diagnosis {
    fn observe(&self, key: &str, event: &TimeoutEvent) {
        self.note(key, Note::of(Told::Timeout(*event)));
    }
}

pub(super) fn note(event: &RetryEvent, told: Told) -> Note {
    let (kind, level, detail) = match event {
        RetryEvent::AttemptSent { kind, shadow, .. } => {
            let kind_of_event = if *shadow { "would_repeat" } else { "repeated" };
            (kind_of_event, Level::Info, kind_word(*kind))
        }
        RetryEvent::BackupWon { .. } => ("backup_won", Level::Good, ""),
        RetryEvent::BudgetExhausted { kind } => {
            ("budget_exhausted", Level::Warning, kind_word(*kind))
        }
        RetryEvent::ReplayImpossible => ("replay_impossible", Level::Warning, ""),
        RetryEvent::Stopped { reason } => ("stopped", Level::Info, stop_word(*reason)),
        _ => ("other", Level::Info, ""),
    };
    Note::rare("retry", kind, level, told).frequent(detail)
}

pub(super) fn note_timeout(event: &TimeoutEvent, told: Told) -> Note {
    let (kind, shadow) = match event {
        TimeoutEvent::TimedOut { shadow, .. } => ("timed_out", *shadow),
        TimeoutEvent::TooLate { shadow } => ("too_late", *shadow),
        _ => ("other", true),
    };
    let level = if shadow { Level::Info } else { Level::Warning };
    Note::rare("timeout", kind, level, told).frequent("")
}

pub(super) fn text(event: &RetryEvent) -> String {
    match event {
        RetryEvent::AttemptSent { number, kind, shadow } => {
            let sent = would(*shadow, "would send", "sent");
            format!("{sent} a {} as attempt {number}", kind_word(*kind))
        }
        RetryEvent::BackupWon { number } => format!("a backup gave the answer, attempt {number}"),
        RetryEvent::BudgetExhausted { kind } => {
            format!("no {}: the budget is exhausted", kind_word(*kind))
        }
        RetryEvent::ReplayImpossible => "no further attempt: the request was not kept".to_owned(),
        RetryEvent::Stopped { reason } => {
            format!("no further attempt: {}", spaced(stop_word(*reason)))
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn text_of_timeout(event: &TimeoutEvent) -> String {
    match event {
        TimeoutEvent::TimedOut { after, shadow } => {
            let cut = would(*shadow, "would cut a call short", "cut a call short");
            format!("{cut} after {}", short(*after))
        }
        TimeoutEvent::TooLate { shadow } => {
            let refused = would(*shadow, "would refuse a call", "refused a call");
            format!("{refused}: its deadline has passed")
        }
        other => format!("{other:?}"),
    }
}
