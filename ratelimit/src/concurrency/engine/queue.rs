//! Who waits for a place, and who gets the next one.

use std::{task::Waker, time::Duration};

use tokio::time::Instant;

use super::shed::Shed;
use crate::{ConcurrencyLimitPolicy, ConcurrencyRefusal, WaitOrder, waiters::Waiters};

/// One for each criticality.
pub(super) const CLASSES: usize = 4;

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) waiters: Waiters<Waiter, CLASSES>,
    max_waiting: u32,
    order: WaitOrder,
    shed: Shed,
    /// When a waiter last got a place, while others went on waiting.
    last_grant: Option<Instant>,
    /// The mean time between grants, smoothed over 8.
    grant_gap: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) since: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) verdict: Verdict,
}

/// What became of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It waits on.
    None,
    /// It has a place, and waited so long for it.
    Place(Duration),
    /// It passes without a place: the limit does not act any more.
    Free,
    /// It is refused.
    Refused(ConcurrencyRefusal),
}

impl Queue {
    pub(super) fn new(policy: &ConcurrencyLimitPolicy) -> Self {
        Self {
            waiters: Waiters::new(),
            max_waiting: policy.max_waiting(),
            order: policy.order(),
            shed: Shed::new(policy.shed_waiting()),
            last_grant: None,
            grant_gap: None,
        }
    }

    pub(super) fn set_policy(&mut self, policy: &ConcurrencyLimitPolicy) {
        self.max_waiting = policy.max_waiting();
        self.order = policy.order();
        self.shed.set_rule(policy.shed_waiting());
    }

    pub(super) const fn allows_waiting(&self) -> bool {
        self.max_waiting > 0
    }

    /// Whether somebody waits who goes before a call of this class that comes now.
    pub(super) fn has_waiters_before(&self, class: usize) -> bool {
        (class..CLASSES).any(|class| self.waiters.first(class).is_some())
    }

    /// Whether a call that comes now may wait, with `waiting` there already.
    pub(super) fn may_wait(
        &mut self,
        class: usize,
        deadline: Option<Instant>,
        waiting: u32,
        now: Instant,
    ) -> Result<(), ConcurrencyRefusal> {
        if self.is_full(waiting) && self.least_critical_below(class).is_none() {
            return Err(ConcurrencyRefusal::QueueFull);
        }
        if self.shed.bars(class, now) {
            return Err(ConcurrencyRefusal::Overloaded);
        }
        match (deadline, self.grant_gap) {
            (Some(deadline), Some(gap)) => {
                let before = (class..CLASSES).map(|class| self.waiters.len(class)).sum::<u32>();
                let expected = gap.saturating_mul(before.saturating_add(1));
                let comes = now.checked_add(expected).is_some_and(|turn| turn <= deadline);
                if comes { Ok(()) } else { Err(ConcurrencyRefusal::NoTimeToWait) }
            }
            _ => Ok(()),
        }
    }

    pub(super) const fn is_full(&self, waiting: u32) -> bool {
        waiting >= self.max_waiting
    }

    /// Makes room for a call of this class. Whom to wake then.
    pub(super) fn displace(&mut self, class: usize) -> Option<Waker> {
        let key = self.least_critical_below(class)?;
        self.decide(key, Verdict::Refused(ConcurrencyRefusal::Displaced))
    }

    fn least_critical_below(&self, class: usize) -> Option<usize> {
        (0..class).find_map(|class| self.waiters.last(class))
    }

    pub(super) fn push(&mut self, class: usize, deadline: Option<Instant>, now: Instant) -> usize {
        self.waiters.push(class, Waiter { since: now, deadline, verdict: Verdict::None })
    }

    /// Who is next.
    pub(super) fn next(&self) -> Option<usize> {
        let newest = self.order == WaitOrder::NewestFirstUnderOverload && self.shed.is_overloaded();
        (0..CLASSES).rev().find_map(|class| {
            if newest { self.waiters.last(class) } else { self.waiters.first(class) }
        })
    }

    /// Whether the waiter whose turn it is must be refused instead.
    pub(super) fn refusal_of(&mut self, key: usize, now: Instant) -> Option<ConcurrencyRefusal> {
        let Waiter { since, deadline, .. } = *self.waiters.get(key);
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Some(ConcurrencyRefusal::DeadlinePassed);
        }
        let waited = now.saturating_duration_since(since);
        self.shed.drops(waited, now).then_some(ConcurrencyRefusal::WaitedTooLong)
    }

    /// Ends the wait of `key`. Gives back whom to wake, when nothing is locked.
    pub(super) fn decide(&mut self, key: usize, verdict: Verdict) -> Option<Waker> {
        self.waiters.unlink(key);
        self.waiters.get_mut(key).verdict = verdict;
        self.waiters.take_waker(key)
    }

    /// Learns how long the next in the queue has to wait.
    pub(super) fn note_grant(&mut self, now: Instant) {
        if let Some(last) = self.last_grant {
            let gap = now.saturating_duration_since(last);
            let smoothed = |mean: Duration| (mean.saturating_mul(7).saturating_add(gap)) / 8;
            self.grant_gap = Some(self.grant_gap.map_or(gap, smoothed));
        }
        self.last_grant = self.next().map(|_| now);
    }
}
