//! The events of the page: what changed since the last look, at a steady rate.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{
    handle::Diagnosis,
    snapshot::{BalancerRow, BreakerRow, BudgetRow, EventRow, LimitRow, Row, Snapshot},
};

/// How long a stream may be quiet. Proxies and the page take a longer silence for a broken line.
const QUIET: Duration = Duration::from_secs(5);
/// A stream ends after this time, and the browser asks for the next one: so that a server that
/// wants to stop need not wait for ever, and places of clients that are gone come back.
const LIFE: Duration = Duration::from_secs(60);

/// So many streams at once.
#[derive(Debug)]
pub(super) struct Places {
    free: AtomicUsize,
}

impl Places {
    pub(super) const fn new(most: usize) -> Self {
        Self { free: AtomicUsize::new(most) }
    }

    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let less = |free: usize| free.checked_sub(1);
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(Place { of: Arc::clone(self) })
    }
}

/// Is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.free.fetch_add(1, Ordering::Relaxed);
    }
}

/// One listener's stream.
pub(super) struct EventStream {
    diagnosis: Diagnosis,
    allows_changes: bool,
    ticks: Interval,
    ends: Instant,
    told_at: Instant,
    told: Option<Snapshot>,
    _place: Place,
}

impl EventStream {
    pub(super) fn new(
        diagnosis: Diagnosis,
        allows_changes: bool,
        every: Duration,
        place: Place,
    ) -> Self {
        let now = Instant::now();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ends = now + LIFE;
        Self { diagnosis, allows_changes, ticks, ends, told_at: now, told: None, _place: place }
    }

    /// The next piece of text; `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let now = ready!(self.ticks.poll_tick(cx));
            if now >= self.ends {
                return Poll::Ready(None);
            }
            if let Some(text) = self.look(now) {
                self.told_at = now;
                return Poll::Ready(Some(text));
            }
        }
    }

    /// What is to be told now.
    fn look(&mut self, now: Instant) -> Option<Bytes> {
        let mut snapshot = self.diagnosis.snapshot();
        snapshot.allows_changes = self.allows_changes;
        let text = match &self.told {
            None => message("snapshot", &snapshot),
            Some(told) => {
                let delta = Delta::between(told, &snapshot);
                let is_due = now.saturating_duration_since(self.told_at) >= QUIET;
                if delta.is_empty() && !is_due {
                    return None;
                }
                message("delta", &delta)
            }
        };
        self.told = Some(snapshot);
        Some(text)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// One server-sent event. JSON has no line breaks of its own, and so needs no other frame.
fn message(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\nretry: 1000\ndata: {data}\n\n").into()
}

/// The rows that are new or no longer as they were, and those that are gone.
#[derive(Debug, Serialize)]
struct Delta<'a> {
    at_ms: u64,
    up_ms: u64,
    breakers: Vec<&'a BreakerRow>,
    limits: Vec<&'a LimitRow>,
    budgets: Vec<&'a BudgetRow>,
    balancers: Vec<&'a BalancerRow>,
    events: Vec<&'a EventRow>,
    gone: Vec<&'a str>,
    left_out: u64,
    events_missed: u64,
}

impl<'a> Delta<'a> {
    fn between(old: &'a Snapshot, new: &'a Snapshot) -> Self {
        let mut gone = Vec::new();
        let known: HashMap<_, _> = old.events.iter().map(|event| (event.number, event)).collect();
        let is_news = |event: &&EventRow| known.get(&event.number) != Some(event);
        Self {
            at_ms: new.at_ms,
            up_ms: new.up_ms,
            breakers: changed(&old.breakers, &new.breakers, &mut gone),
            limits: changed(&old.limits, &new.limits, &mut gone),
            budgets: changed(&old.budgets, &new.budgets, &mut gone),
            balancers: changed(&old.balancers, &new.balancers, &mut gone),
            events: new.events.iter().filter(is_news).collect(),
            gone,
            left_out: new.left_out,
            events_missed: new.events_missed,
        }
    }

    const fn is_empty(&self) -> bool {
        self.breakers.is_empty()
            && self.limits.is_empty()
            && self.budgets.is_empty()
            && self.balancers.is_empty()
            && self.events.is_empty()
            && self.gone.is_empty()
    }
}

fn changed<'a, R: Row>(old: &'a [R], new: &'a [R], gone: &mut Vec<&'a str>) -> Vec<&'a R> {
    let mut before: HashMap<&str, &R> = old.iter().map(|row| (row.id(), row)).collect();
    let is_changed = |row: &&'a R| before.remove(row.id()) != Some(*row);
    let changed = new.iter().filter(is_changed).collect();
    gone.extend(before.into_keys());
    changed
}
