//! When calls wait too long.

use std::time::Duration;

use tokio::time::Instant;

use crate::ShedWaiting;

/// DAGOR looks at a second or at so many calls, whichever is over first.
const MEAN_WINDOW: Duration = Duration::from_secs(1);
const MEAN_CALLS: u32 = 2_000;
/// The most critical class is never refused for waiting.
const HIGHEST_LEVEL: usize = 3;

#[derive(Debug)]
pub(super) struct Shed {
    rule: ShedWaiting,
    overloaded: bool,
    /// When the present window or interval is over.
    until: Option<Instant>,
    /// The shortest wait of the interval (`CoDel`), or the sum of all (mean wait).
    waits: Duration,
    calls: u32,
    /// Classes below this may not wait.
    level: usize,
}

impl Shed {
    pub(super) const fn new(rule: ShedWaiting) -> Self {
        let waits = Duration::ZERO;
        Self { rule, overloaded: false, until: None, waits, calls: 0, level: 0 }
    }

    pub(super) fn set_rule(&mut self, rule: ShedWaiting) {
        if self.rule != rule {
            *self = Self::new(rule);
        }
    }

    pub(super) const fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// Whether a call of this class may not wait at present.
    pub(super) fn bars(&mut self, class: usize, now: Instant) -> bool {
        self.close_window(now);
        class < self.level
    }

    /// A call waited so long and is next. Whether it is refused.
    pub(super) fn drops(&mut self, waited: Duration, now: Instant) -> bool {
        match self.rule {
            ShedWaiting::Off => false,
            ShedWaiting::CoDel { target, interval } => {
                if self.until.is_none_or(|until| now >= until) {
                    self.overloaded = self.until.is_some() && self.waits > target;
                    self.waits = waited;
                    self.until = now.checked_add(interval);
                } else {
                    self.waits = self.waits.min(waited);
                }
                self.overloaded && waited > target.saturating_mul(2)
            }
            ShedWaiting::MeanWait { .. } => {
                self.close_window(now);
                self.waits = self.waits.saturating_add(waited);
                self.calls += 1;
                false
            }
        }
    }

    fn close_window(&mut self, now: Instant) {
        let ShedWaiting::MeanWait { threshold } = self.rule else { return };
        let Some(until) = self.until else {
            self.until = now.checked_add(MEAN_WINDOW);
            return;
        };
        if now < until && self.calls < MEAN_CALLS {
            return;
        }
        self.overloaded = self.calls > 0 && self.waits / self.calls > threshold;
        self.level = if self.overloaded {
            (self.level + 1).min(HIGHEST_LEVEL)
        } else {
            self.level.saturating_sub(1)
        };
        (self.waits, self.calls) = (Duration::ZERO, 0);
        self.until = now.checked_add(MEAN_WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn codel_drops_only_when_even_the_shortest_wait_of_an_interval_was_too_long() {
        let start = Instant::now();
        let mut shed = Shed::new(ShedWaiting::codel());
        assert!(!shed.drops(50 * MS, start), "the first interval is only watched");
        assert!(!shed.drops(4 * MS, start + 50 * MS), "one short wait");
        assert!(!shed.drops(50 * MS, start + 100 * MS), "saves the next interval");
        assert!(shed.drops(50 * MS, start + 200 * MS));
        assert!(!shed.drops(10 * MS, start + 201 * MS), "twice the target is not too long");
        assert!(shed.is_overloaded());
        assert!(!shed.drops(1 * MS, start + 300 * MS));
        assert!(!shed.drops(50 * MS, start + 400 * MS), "over");
        assert!(!shed.is_overloaded());
    }

    #[test]
    fn mean_wait_bars_one_class_more_with_each_overloaded_window_but_never_the_highest() {
        let start = Instant::now();
        let mut shed = Shed::new(ShedWaiting::mean_wait());
        let barred = |shed: &mut Shed, now| (0..4).filter(|class| shed.bars(*class, now)).count();
        assert_eq!(barred(&mut shed, start), 0);
        for window in 1..6 {
            shed.drops(21 * MS, start + MEAN_WINDOW * window - MS);
            let expected = usize::try_from(window).unwrap().min(3);
            assert_eq!(barred(&mut shed, start + MEAN_WINDOW * window), expected);
        }
        assert_eq!(barred(&mut shed, start + MEAN_WINDOW * 6), 2, "comes back a class at a time");
    }

    #[test]
    fn mean_wait_closes_a_window_early_after_two_thousand_calls() {
        let start = Instant::now();
        let mut shed = Shed::new(ShedWaiting::mean_wait());
        (0..2_000).for_each(|_| assert!(!shed.drops(30 * MS, start)));
        assert!(shed.bars(0, start));
    }
}
