use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use outrigger_circuitbreak::{Cause, CircuitBreakerEvent, State, StateChange, TripRule};
use outrigger_core::Observe;
use outrigger_ratelimit::{ConcurrencyLimitEvent, RateLimitEvent};
use serde::Serialize;

use super::seconds;
use crate::scenario::Stopwatch;

/// Writes down when the circuits change their states, and what the servers' limits refuse. Its clones write the same list.
#[derive(Clone, Debug)]
pub struct Chronicle {
    stopwatch: Stopwatch,
    changes: Arc<Mutex<Vec<Change>>>,
    refusals: Arc<Mutex<Vec<Refusals>>>,
}

/// How many calls a server's own limit refused, and why.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refusals {
    pub(crate) server: String,
    pub(crate) limit: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) calls: u64,
}

/// A circuit's change of state.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Change {
    pub(crate) at_s: f64,
    pub(crate) server: String,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) cause: &'static str,
    /// Calls in the window that the change ended, and how many of them failed or were slow.
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
}

impl Chronicle {
    pub(crate) fn new(stopwatch: Stopwatch) -> Self {
        Self { stopwatch, changes: Arc::default(), refusals: Arc::default() }
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By server, limit and reason.
    pub(crate) fn refusals(&self) -> Vec<Refusals> {
        let mut all = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_by(|a, b| (&a.server, a.limit, a.reason).cmp(&(&b.server, b.limit, b.reason)));
        all
    }

    fn note_refusal(&self, server: &str, limit: &'static str, reason: &'static str) {
        let mut all = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter_mut().find(|known| {
            (known.server.as_str(), known.limit, known.reason) == (server, limit, reason)
        });
        match known {
            Some(known) => known.calls += 1,
            None => all.push(Refusals { server: server.to_owned(), limit, reason, calls: 1 }),
        }
    }
}

impl Observe<CircuitBreakerEvent> for Chronicle {
    fn observe(&self, server: &str, event: &CircuitBreakerEvent) {
        let CircuitBreakerEvent::StateChanged(change) = event else { return };
        let change = Change::new(seconds(self.stopwatch.elapsed()), server, change);
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}

impl Observe<ConcurrencyLimitEvent> for Chronicle {
    fn observe(&self, server: &str, event: &ConcurrencyLimitEvent) {
        if let ConcurrencyLimitEvent::Refused { reason, .. } = event {
            self.note_refusal(server, "concurrency", reason.reason());
        }
    }
}

impl Observe<RateLimitEvent> for Chronicle {
    fn observe(&self, server: &str, event: &RateLimitEvent) {
        if let RateLimitEvent::Refused { reason, .. } = event {
            self.note_refusal(server, "rate", reason.reason());
        }
    }
}

impl Change {
    fn new(at_s: f64, server: &str, change: &StateChange) -> Self {
        Self {
            at_s,
            server: server.to_owned(),
            from: word_for_state(change.from),
            to: word_for_state(change.to),
            cause: word_for_cause(change.cause),
            calls: change.counts.calls,
            failed: change.counts.errors(),
            slow: change.counts.slow,
        }
    }
}

fn word_for_state(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half_open",
        State::ForcedOpen => "forced_open",
        _ => "unknown",
    }
}

fn word_for_cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Tripped(TripRule::ErrorRate) => "error rate",
        Cause::Tripped(TripRule::SlowCalls) => "slow calls",
        Cause::Tripped(_) => "another rule",
        Cause::CooledDown => "cooled down",
        Cause::Recovered => "recovered",
        Cause::ProbeFailed => "probe failed",
        Cause::ByHand => "by hand",
        _ => "unknown",
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_s, server, from, to, cause, calls, failed, slow } = self;
        write!(f, "{at_s:>6.3} s  {server}  {from} -> {to}: {cause}")?;
        if *calls > 0 {
            write!(f, " (of {calls} calls in the window {failed} failed, {slow} were slow)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, limit, reason, calls } = self;
        write!(f, "  {server}  {calls:>4}  by its {limit} limit: {reason}")
    }
}
