//! The calls and the further attempts of a window, in steps that expire one by one.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::{PPM, Ratio};

/// A window moves on in this many steps, so that it is short by at most a hundredth.
const STEPS: usize = 100;

#[derive(Debug)]
pub(super) struct Ledger {
    steps: [Step; STEPS],
    started: Instant,
    /// The number of the newest step since `started`.
    newest: u64,
    step: Duration,
    total: Step,
    /// When calls were counted last.
    counted: Instant,
    /// Attempts that wait to be sent. They hold their share for as long as they wait.
    held: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    calls: u64,
    attempts: u64,
}

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            steps: [Step::default(); STEPS],
            started: now,
            newest: 0,
            step: Duration::from_millis(100),
            total: Step::default(),
            counted: now,
            held: 0,
        }
    }

    /// Counts calls. At their rate, says how many come in a fourth of a step: so many may be counted
    /// together without being late.
    pub(super) fn add_calls(&mut self, calls: u64, now: Instant, rule: &Ratio) -> Option<u64> {
        self.move_on(now, rule);
        if calls == 0 {
            return None;
        }
        self.total.calls += calls;
        self.newest().calls += calls;
        let took = now.saturating_duration_since(self.counted).as_nanos().max(1);
        self.counted = now;
        let in_step = u128::from(calls).saturating_mul(self.step.as_nanos() / 4) / took;
        Some(u64::try_from(in_step).unwrap_or(u64::MAX))
    }

    /// Holds a share for one more attempt, if there is one.
    pub(super) fn try_hold(&mut self, rule: &Ratio) -> bool {
        let wanted = self.total.attempts + self.held + 1;
        let share = self.total.calls.saturating_mul(rule.ppm);
        let is_free = wanted.saturating_mul(PPM) <= share.saturating_add(rule.reserve * PPM);
        self.held += u64::from(is_free);
        is_free
    }

    /// An attempt that held a share is not sent.
    pub(super) fn give_back(&mut self) {
        debug_assert!(self.held > 0, "every share is given back once");
        self.held = self.held.saturating_sub(1);
    }

    /// An attempt that held a share is sent: its share is free again when the window has passed.
    pub(super) fn send(&mut self, now: Instant, rule: &Ratio) {
        self.give_back();
        self.move_on(now, rule);
        self.total.attempts += 1;
        self.newest().attempts += 1;
    }

    /// Calls in the window, attempts sent in it, attempts waiting.
    pub(super) const fn counts(&self) -> (u64, u64, u64) {
        (self.total.calls, self.total.attempts, self.held)
    }

    fn newest(&mut self) -> &mut Step {
        &mut self.steps[index(self.newest)]
    }

    /// Forgets what is older than the window. A clock that goes back changes nothing.
    pub(super) fn move_on(&mut self, now: Instant, rule: &Ratio) {
        self.reshape(rule, now);
        let newest = step_at(now.saturating_duration_since(self.started), self.step);
        if newest <= self.newest {
            return;
        }
        let passed = (newest - self.newest).min(STEPS as u64);
        for back in 0..passed {
            let expired = std::mem::take(&mut self.steps[index(newest - back)]);
            self.total.calls -= expired.calls;
            self.total.attempts -= expired.attempts;
        }
        self.newest = newest;
    }

    /// When the window was changed, all that is in it counts as new.
    fn reshape(&mut self, rule: &Ratio, now: Instant) {
        #[expect(clippy::cast_possible_truncation, reason = "100")]
        let step = rule.window / STEPS as u32;
        if step == self.step {
            return;
        }
        self.step = step;
        self.newest = step_at(now.saturating_duration_since(self.started), step);
        self.steps = [Step::default(); STEPS];
        self.steps[index(self.newest)] = self.total;
    }
}

fn step_at(elapsed: Duration, step: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos() / step.as_nanos().max(1)).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "below STEPS")]
const fn index(step: u64) -> usize {
    (step % STEPS as u64) as usize
}
