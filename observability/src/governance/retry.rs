use outrigger_core::{Observe, Outcome};
use outrigger_retry::{
    AttemptKind, RetryBudget, RetryBudgetPolicy, RetryBudgetSnapshot, RetryEvent, TimeoutEvent,
};

use super::{
    GovernanceMetrics, Watched,
    usual::Told,
    words::{enforcement, kind_word, outcome_word, stop_word},
};
use crate::{Label, names, observe::Resent};

impl Observe<TimeoutEvent> for GovernanceMetrics {
    fn observe(&self, key: &str, event: &TimeoutEvent) {
        match *event {
            TimeoutEvent::TimedOut { shadow, .. } => {
                self.rejected("timeout", key, "timed_out", shadow);
            }
            TimeoutEvent::TooLate { shadow } => {
                self.rejected("timeout", key, "deadline_passed", shadow);
            }
            _ => {}
        }
    }
}

impl Observe<RetryEvent> for GovernanceMetrics {
    fn observe(&self, key: &str, event: &RetryEvent) {
        let key = self.key(key);
        let families = &self.shared.families;
        match *event {
            RetryEvent::AttemptSent { kind: AttemptKind::First, shadow: false, .. } => {
                self.shared.usual.count(key, Told::FirstSent, || {
                    families.counter(names::RETRY_ATTEMPTS, &sent(key, AttemptKind::First, false))
                });
            }
            RetryEvent::AttemptEnded { outcome: Outcome::Success, .. } => {
                self.shared.usual.count(key, Told::Succeeded, || {
                    families.counter(names::RETRY_RESULTS, &ended(key, Outcome::Success))
                });
            }
            RetryEvent::AttemptSent { kind, shadow, .. } => {
                if !shadow {
                    Resent::change_current(|resent| count_resent(resent, kind));
                }
                families.count(names::RETRY_ATTEMPTS, &sent(key, kind, shadow), 1);
            }
            RetryEvent::AttemptEnded { outcome, .. } => {
                families.count(names::RETRY_RESULTS, &ended(key, outcome), 1);
            }
            RetryEvent::RetryScheduled { wait, .. } => {
                families.record(names::RETRY_WAIT, &[(names::KEY, key)], wait.as_secs_f64());
            }
            RetryEvent::BackupWon { .. } => self.backup_ended(key, "won"),
            RetryEvent::BackupLost { .. } => self.backup_ended(key, "lost"),
            RetryEvent::BudgetExhausted { .. } => self.stopped(key, "budget_exhausted"),
            RetryEvent::ReplayImpossible => self.stopped(key, "replay_impossible"),
            RetryEvent::Stopped { reason } => self.stopped(key, stop_word(reason)),
            _ => {}
        }
    }
}

impl GovernanceMetrics {
    /// Shows what a retry budget still allows. `key` names it, since a budget has no name.
    pub fn watch_budget(&self, key: &str, budget: &RetryBudget) -> Watched {
        let (key, budget) = (key.to_owned(), budget.clone());
        self.watch(move |families| {
            let labels = [(names::KEY, &*key)];
            let snapshot = budget.snapshot();
            let used = whole(snapshot.attempts.saturating_add(snapshot.waiting));
            families.set(names::RETRY_BUDGET_USED, &labels, used);
            if let Some(left) = left(&budget.policy().load(), &snapshot) {
                families.set(names::RETRY_BUDGET_LEFT, &labels, left);
            }
        })
    }

    fn backup_ended(&self, key: &str, result: &'static str) {
        let labels = [(names::KEY, key), (names::RESULT, result)];
        self.shared.families.count(names::RETRY_BACKUPS, &labels, 1);
    }

    fn stopped(&self, key: &str, reason: &'static str) {
        let labels = [(names::KEY, key), (names::REASON, reason)];
        self.shared.families.count(names::RETRY_STOPPED, &labels, 1);
    }
}

const fn sent(key: &str, kind: AttemptKind, shadow: bool) -> [Label<'_>; 3] {
    let enforcement = (names::ENFORCEMENT, enforcement(shadow));
    [(names::KEY, key), (names::SORT, kind_word(kind)), enforcement]
}

const fn ended(key: &str, outcome: Outcome) -> [Label<'_>; 2] {
    [(names::KEY, key), (names::RESULT, outcome_word(outcome))]
}

const fn count_resent(resent: &mut Resent, kind: AttemptKind) {
    let count = match kind {
        AttemptKind::Retry => &mut resent.retries,
        AttemptKind::Transparent => &mut resent.transparent,
        AttemptKind::Backup => &mut resent.hedges,
        _ => return,
    };
    *count = count.saturating_add(1);
}

/// What a budget still allows; `None` of one without a limit.
fn left(policy: &RetryBudgetPolicy, snapshot: &RetryBudgetSnapshot) -> Option<f64> {
    if snapshot.tokens.is_some() {
        return snapshot.tokens;
    }
    let allowed = policy.ratio()? * whole(snapshot.calls) + whole(policy.reserve()?);
    Some((allowed.floor() - whole(snapshot.attempts.saturating_add(snapshot.waiting))).max(0.0))
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
const fn whole(count: u64) -> f64 {
    count as f64
}
