use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use outrigger::PolicyEvent;
use outrigger_circuitbreak::{CircuitBreakerEvent, State};
use outrigger_core::Observe;
use outrigger_loadbalance::BalanceEvent;
use outrigger_ratelimit::{
    AdaptiveLimitEvent, ClientThrottleEvent, ConcurrencyLimitEvent, RateLimitEvent,
};
use outrigger_retry::{AttemptKind, RetryEvent, TimeoutEvent};

/// Counts what governance does. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    is_server: bool,
}

impl Notes {
    /// For the servers, whose limits are told apart from the client's.
    pub(super) fn of_servers(&self) -> Self {
        Self { counts: Arc::clone(&self.counts), is_server: true }
    }

    fn note(&self, what: &'static str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) const BACKUPS: &str = "backup requests sent";
pub(super) const BACKUPS_WON: &str = "backup requests that answered first";
pub(super) const RETRIES: &str = "retries sent";
pub(super) const NO_BUDGET: &str = "retries that the budget did not allow";
pub(super) const EJECTED: &str = "times a server was left out";
pub(super) const OPENED: &str = "times the circuit opened";
pub(super) const CLOSED: &str = "times the circuit closed again";
pub(super) const REFUSED_BY_CIRCUIT: &str = "attempts that the open circuit refused";
pub(super) const REFUSED_BY_SERVER: &str = "attempts that a server's own limit refused";
pub(super) const REFUSED_BY_RATE: &str = "calls that the client's rate limit refused";
pub(super) const TIMED_OUT: &str = "attempts and calls that timed out";
pub(super) const RELOADED: &str = "times the policies were replaced while calls ran";

impl Observe<RetryEvent> for Notes {
    fn observe(&self, _method: &str, event: &RetryEvent) {
        match event {
            RetryEvent::AttemptSent { kind: AttemptKind::Backup, .. } => self.note(BACKUPS),
            RetryEvent::AttemptSent { kind: AttemptKind::Retry, .. } => self.note(RETRIES),
            RetryEvent::BackupWon { .. } => self.note(BACKUPS_WON),
            RetryEvent::BudgetExhausted { .. } => self.note(NO_BUDGET),
            _ => {}
        }
    }
}

impl Observe<CircuitBreakerEvent> for Notes {
    fn observe(&self, _method: &str, event: &CircuitBreakerEvent) {
        match event {
            CircuitBreakerEvent::StateChanged(change) if change.to == State::Closed => {
                self.note(CLOSED);
            }
            CircuitBreakerEvent::StateChanged(change)
                if change.to == State::Open && change.from == State::Closed =>
            {
                self.note(OPENED);
            }
            CircuitBreakerEvent::Refused { .. } => self.note(REFUSED_BY_CIRCUIT),
            _ => {}
        }
    }
}

impl Observe<ConcurrencyLimitEvent> for Notes {
    fn observe(&self, _name: &str, event: &ConcurrencyLimitEvent) {
        if self.is_server && matches!(event, ConcurrencyLimitEvent::Refused { .. }) {
            self.note(REFUSED_BY_SERVER);
        }
    }
}

impl Observe<AdaptiveLimitEvent> for Notes {
    fn observe(&self, _name: &str, event: &AdaptiveLimitEvent) {
        if self.is_server && matches!(event, AdaptiveLimitEvent::Refused { .. }) {
            self.note(REFUSED_BY_SERVER);
        }
    }
}

impl Observe<RateLimitEvent> for Notes {
    fn observe(&self, _name: &str, event: &RateLimitEvent) {
        if !self.is_server && matches!(event, RateLimitEvent::Refused { .. }) {
            self.note(REFUSED_BY_RATE);
        }
    }
}

impl Observe<BalanceEvent> for Notes {
    fn observe(&self, _endpoint: &str, event: &BalanceEvent) {
        if matches!(event, BalanceEvent::Ejected { enforced: true, .. }) {
            self.note(EJECTED);
        }
    }
}

impl Observe<TimeoutEvent> for Notes {
    fn observe(&self, _method: &str, _event: &TimeoutEvent) {
        self.note(TIMED_OUT);
    }
}

impl Observe<ClientThrottleEvent> for Notes {
    fn observe(&self, _method: &str, _event: &ClientThrottleEvent) {}
}

impl Observe<PolicyEvent> for Notes {
    fn observe(&self, _source: &str, event: &PolicyEvent) {
        if !self.is_server && matches!(event, PolicyEvent::Replaced { .. }) {
            self.note(RELOADED);
        }
    }
}
