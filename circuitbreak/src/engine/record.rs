//! What the results of calls change.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use outrigger_core::Outcome;
use tokio::time::Instant;

use super::{
    Core, Engine, NEVER, Ticket,
    successes::tag,
    ticket::{Leave, Start},
    window::{Entry, Window, saturating_ns},
};
use crate::{
    Abandoned, Cause, CircuitBreakerPolicy, State, StateChange, TripRule, WindowCounts,
    sync::Ordering,
};

/// What a result changed.
#[derive(Debug)]
pub(crate) enum Recorded {
    Nothing,
    Changed(StateChange),
    /// The user's own rule must be asked, with no lock held.
    Ask(Question),
}

/// A question to the user's own rule.
#[derive(Debug)]
pub(crate) struct Question {
    policy: Arc<CircuitBreakerPolicy>,
    counts: WindowCounts,
    generation: u64,
}

impl Engine {
    /// Takes a result. One from before the last change of state counts for nothing.
    #[inline]
    pub(crate) fn record(
        &self,
        stripe: usize,
        ticket: &Ticket,
        outcome: Outcome,
        now: Instant,
    ) -> Recorded {
        if outcome == Outcome::Success && self.record_plain_success(stripe, ticket, now) {
            return Recorded::Nothing;
        }
        self.record_with_care(stripe, ticket, outcome, now)
    }

    /// Takes the success of a call as most are: quick, on a closed circuit with a time window, in
    /// its present bucket, and after no failure. `false` when it is none of these.
    #[inline]
    fn record_plain_success(&self, stripe: usize, ticket: &Ticket, now: Instant) -> bool {
        let Leave::Closed { tag, start } = ticket.leave() else { return false };
        let now_ns = self.ns(now);
        let is_plain = now_ns < self.bucket_end_ns.load(Ordering::Relaxed)
            && !self.counts_calls.load(Ordering::Relaxed)
            && !self.has_streak.load(Ordering::Relaxed)
            && !self.is_slow(start, now_ns);
        if is_plain {
            self.successes.add(stripe, tag);
        }
        is_plain
    }

    #[inline(never)]
    fn record_with_care(
        &self,
        stripe: usize,
        ticket: &Ticket,
        outcome: Outcome,
        now: Instant,
    ) -> Recorded {
        let now_ns = self.ns(now);
        let entry = (outcome != Outcome::Ignored).then(|| Entry {
            failure: outcome == Outcome::Failure,
            timeout: outcome == Outcome::Timeout,
            slow: false,
        });
        match (ticket.leave(), entry) {
            (Leave::Probe(id), entry) => self.record_probe(id, entry, now_ns),
            (Leave::Closed { tag, start }, Some(entry)) => {
                let slow = self.is_slow(start, now_ns);
                self.record_closed(stripe, tag, Entry { slow, ..entry }, now_ns)
            }
            (Leave::Closed { .. }, None) => Recorded::Nothing,
        }
    }

    /// Takes back the ticket of a call that was dropped before it ended.
    pub(crate) fn abandon(&self, stripe: usize, ticket: &Ticket, now: Instant) -> Recorded {
        let abandoned = self.lock().policy.abandoned();
        let now_ns = self.ns(now);
        match (abandoned, ticket.leave()) {
            (Abandoned::Failure, _) => self.record(stripe, ticket, Outcome::Failure, now),
            (Abandoned::Slow, Leave::Closed { tag, start }) if self.is_slow(start, now_ns) => {
                let entry = Entry { slow: true, ..Entry::SUCCESS };
                self.record_closed(stripe, tag, entry, now_ns)
            }
            (Abandoned::Slow, Leave::Probe(id)) if self.is_slow_probe(id, now_ns) => {
                self.record(stripe, ticket, Outcome::Success, now)
            }
            (_, Leave::Probe(id)) => self.give_back(id),
            (_, Leave::Closed { .. }) => Recorded::Nothing,
        }
    }

    #[inline]
    fn is_slow(&self, start: Start, now_ns: u64) -> bool {
        let slow_ns = self.slow_ns.load(Ordering::Relaxed);
        slow_ns != NEVER && start.is_ago(slow_ns, now_ns)
    }

    fn is_slow_probe(&self, id: NonZeroU64, now_ns: u64) -> bool {
        let started_ns = self.lock().probes.started_ns(id);
        started_ns.is_some_and(|started_ns| self.is_slow_since(started_ns, now_ns))
    }

    fn is_slow_since(&self, started_ns: u64, now_ns: u64) -> bool {
        let slow_ns = self.slow_ns.load(Ordering::Relaxed);
        slow_ns != NEVER && now_ns.saturating_sub(started_ns) >= slow_ns
    }

    #[inline]
    fn record_closed(&self, stripe: usize, tag: u64, entry: Entry, now_ns: u64) -> Recorded {
        if entry != Entry::SUCCESS || self.counts_calls.load(Ordering::Relaxed) {
            return self.record_in_core(tag, entry, now_ns);
        }
        if now_ns >= self.bucket_end_ns.load(Ordering::Relaxed) {
            self.move_on(&mut self.lock(), now_ns);
        }
        self.successes.add(stripe, tag);
        if self.has_streak.load(Ordering::Relaxed) {
            let mut core = self.lock();
            if self.is_closed_in(tag) {
                core.streak = 0;
                self.has_streak.store(false, Ordering::Relaxed);
            }
        }
        Recorded::Nothing
    }

    fn record_in_core(&self, tag: u64, entry: Entry, now_ns: u64) -> Recorded {
        let mut core = self.lock();
        let core = &mut *core;
        if !self.is_closed_in(tag) {
            return Recorded::Nothing;
        }
        self.move_on(core, now_ns);
        match &mut core.window {
            Window::Time(window) => window.add(entry),
            Window::Count(window) => window.add(entry),
        }
        if entry.is_error() {
            if core.streak == 0 {
                core.streak_since_ns = now_ns;
            }
            core.streak += 1;
        } else {
            core.streak = 0;
        }
        self.has_streak.store(core.streak > 0, Ordering::Relaxed);
        if entry == Entry::SUCCESS {
            return Recorded::Nothing;
        }
        let counts = self.counts_in(core);
        let lasting = Duration::from_nanos(now_ns.saturating_sub(core.streak_since_ns));
        match core.policy.broken_rule(&counts, core.streak, lasting) {
            Some(rule) => Recorded::Changed(self.trip(core, rule, counts, now_ns)),
            None if core.policy.has_custom_rule() => {
                let policy = Arc::clone(&core.policy);
                Recorded::Ask(Question { policy, counts, generation: self.generation() })
            }
            None => Recorded::Nothing,
        }
    }

    /// Asks the user's own rule and trips the circuit if it says so.
    ///
    /// To be called with nothing locked.
    pub(crate) fn ask(&self, question: &Question, now: Instant) -> Option<StateChange> {
        let Question { policy, counts, generation } = question;
        if !policy.breaks_custom_rule(counts) {
            return None;
        }
        let mut core = self.lock();
        let is_still_closed = self.is_closed_in(tag(*generation));
        is_still_closed.then(|| self.trip(&mut core, TripRule::Custom, *counts, self.ns(now)))
    }

    /// `entry` is `None` for a probe that says nothing about the callee.
    fn record_probe(&self, id: NonZeroU64, entry: Option<Entry>, now_ns: u64) -> Recorded {
        let mut core = self.lock();
        let core = &mut *core;
        let Some(started_ns) = core.probes.end(id) else { return Recorded::Nothing };
        let slow = self.is_slow_since(started_ns, now_ns);
        let change = match entry.map(|entry| Entry { slow, ..entry }) {
            None => None,
            Some(Entry::SUCCESS) => core.probes.succeeded(&core.policy).then(|| {
                core.closed_since_ns = Some(now_ns);
                self.enter(core, State::Closed, Cause::Recovered, 0)
            }),
            Some(_) => Some(self.open(core, Cause::ProbeFailed, now_ns)),
        };
        if let Some(change) = change {
            return Recorded::Changed(change);
        }
        self.gate_ns.store(core.probes.gate_ns(&core.policy), Ordering::Relaxed);
        Recorded::Nothing
    }

    fn give_back(&self, id: NonZeroU64) -> Recorded {
        let mut core = self.lock();
        if core.probes.end(id).is_some() {
            core.probes.skip_interval();
            self.gate_ns.store(core.probes.gate_ns(&core.policy), Ordering::Relaxed);
        }
        Recorded::Nothing
    }

    fn trip(
        &self,
        core: &mut Core,
        rule: TripRule,
        counts: WindowCounts,
        now_ns: u64,
    ) -> StateChange {
        let closed_ns = core.closed_since_ns.map_or(NEVER, |since| now_ns.saturating_sub(since));
        if closed_ns >= saturating_ns(core.last_cool_down) {
            core.repeats = 0;
        }
        core.last_trip = Some((rule, counts));
        self.open(core, Cause::Tripped(rule), now_ns)
    }

    fn open(&self, core: &mut Core, cause: Cause, now_ns: u64) -> StateChange {
        let cool_down = core.policy.cool_down_after(core.repeats, core.rng.f64());
        core.repeats = core.repeats.saturating_add(1);
        core.last_cool_down = cool_down;
        let gate_ns = now_ns.saturating_add(saturating_ns(cool_down));
        StateChange { cool_down: Some(cool_down), ..self.enter(core, State::Open, cause, gate_ns) }
    }
}
