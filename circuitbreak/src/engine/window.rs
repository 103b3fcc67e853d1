//! The calls that the trip rules look at: those of the last seconds, or the last so many.

use std::{collections::VecDeque, num::NonZeroUsize, time::Duration};

use crate::{WindowCounts, WindowShape};

/// What a call adds to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) failure: bool,
    pub(super) timeout: bool,
    pub(super) slow: bool,
}

impl Entry {
    pub(super) const SUCCESS: Self = Self { failure: false, timeout: false, slow: false };

    pub(super) const fn is_error(self) -> bool {
        self.failure || self.timeout
    }

    fn add_to(self, counts: &mut WindowCounts) {
        counts.calls += 1;
        counts.failures += u64::from(self.failure);
        counts.timeouts += u64::from(self.timeout);
        counts.slow += u64::from(self.slow);
    }

    fn take_from(self, counts: &mut WindowCounts) {
        counts.calls -= 1;
        counts.failures -= u64::from(self.failure);
        counts.timeouts -= u64::from(self.timeout);
        counts.slow -= u64::from(self.slow);
    }
}

#[derive(Debug)]
pub(super) enum Window {
    Time(TimeWindow),
    Count(CountWindow),
}

impl Window {
    pub(super) fn new(shape: WindowShape, now_ns: u64) -> Self {
        match shape {
            WindowShape::Time { duration, buckets } => {
                Self::Time(TimeWindow::new(duration, buckets, now_ns))
            }
            WindowShape::Count { calls } => Self::Count(CountWindow::new(calls)),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Time(window) => window.clear(),
            Self::Count(window) => window.clear(),
        }
    }
}

/// The calls of the last so many buckets of time.
///
/// Successes are counted elsewhere, by a sum that only grows; the window learns the sum when it
/// moves on. Nothing sweeps it: each bucket is put in once and taken out once, whenever somebody
/// looks, so that recording and reading cost the same with few calls and with many.
#[derive(Debug)]
pub(super) struct TimeWindow {
    bucket_ns: u64,
    buckets: u64,
    current: Bucket,
    /// Buckets that are over and had calls, oldest first; never more than `buckets`.
    past: VecDeque<Bucket>,
    /// The sum over `past`.
    past_counts: WindowCounts,
    /// How much of the sum of successes stands in `past`, or is forgotten.
    settled: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    number: u64,
    counts: WindowCounts,
}

impl TimeWindow {
    fn new(duration: Duration, buckets: u32, now_ns: u64) -> Self {
        let bucket_ns = saturating_ns(duration / buckets.max(1)).max(1);
        let current = Bucket { number: now_ns / bucket_ns, counts: WindowCounts::default() };
        Self {
            bucket_ns,
            buckets: buckets.into(),
            current,
            past: VecDeque::new(),
            past_counts: WindowCounts::default(),
            settled: 0,
        }
    }

    /// When the present bucket ends, in the engine's time.
    pub(super) fn bucket_end_ns(&self) -> u64 {
        self.bucket_ns.saturating_mul(self.current.number + 1)
    }

    /// Moves on to `now_ns`, when the sum of successes is `successes`. Time never runs backwards:
    /// an older `now_ns` belongs to the present bucket.
    pub(super) fn move_on(&mut self, now_ns: u64, successes: u64) {
        let number = now_ns / self.bucket_ns;
        if number <= self.current.number {
            return;
        }
        self.current.counts.calls += successes - self.settled;
        self.settled = successes;
        if self.current.counts != WindowCounts::default() {
            self.past_counts = sum(self.past_counts, self.current.counts);
            self.past.push_back(self.current);
        }
        self.current = Bucket { number, counts: WindowCounts::default() };
        while let Some(oldest) = self.past.front().copied() {
            if oldest.number + self.buckets > number {
                break;
            }
            self.past.pop_front();
            self.past_counts = difference(self.past_counts, oldest.counts);
        }
    }

    /// Adds a call that is no plain success to the present bucket.
    pub(super) fn add(&mut self, entry: Entry) {
        entry.add_to(&mut self.current.counts);
    }

    pub(super) fn counts(&self, successes: u64) -> WindowCounts {
        let mut counts = sum(self.past_counts, self.current.counts);
        counts.calls += successes - self.settled;
        counts
    }

    /// The window in at most `most` steps of equally many buckets, oldest first; the oldest step
    /// may reach back a little further than the window.
    pub(super) fn steps(&self, successes: u64, most: NonZeroUsize) -> Vec<WindowCounts> {
        let most = u64::try_from(most.get()).unwrap_or(u64::MAX);
        let buckets_of_step = self.buckets.div_ceil(most).max(1);
        let count = self.buckets.div_ceil(buckets_of_step).max(1);
        let mut steps = vec![WindowCounts::default(); usize::try_from(count).unwrap_or(0)];
        let mut add = |number: u64, counts: WindowCounts| {
            let steps_ago = usize::try_from((self.current.number - number) / buckets_of_step);
            let index = steps_ago.ok().and_then(|ago| steps.len().checked_sub(ago + 1));
            if let Some(step) = index.and_then(|index| steps.get_mut(index)) {
                *step = sum(*step, counts);
            }
        };
        self.past.iter().for_each(|bucket| add(bucket.number, bucket.counts));
        let settled = self.current.counts.calls;
        let calls = settled + successes.saturating_sub(self.settled);
        add(self.current.number, WindowCounts { calls, ..self.current.counts });
        steps
    }

    fn clear(&mut self) {
        self.past.clear();
        self.past_counts = WindowCounts::default();
        self.current.counts = WindowCounts::default();
        self.settled = 0;
    }
}

fn sum(a: WindowCounts, b: WindowCounts) -> WindowCounts {
    WindowCounts {
        calls: a.calls + b.calls,
        failures: a.failures + b.failures,
        timeouts: a.timeouts + b.timeouts,
        slow: a.slow + b.slow,
    }
}

fn difference(a: WindowCounts, b: WindowCounts) -> WindowCounts {
    WindowCounts {
        calls: a.calls - b.calls,
        failures: a.failures - b.failures,
        timeouts: a.timeouts - b.timeouts,
        slow: a.slow - b.slow,
    }
}

/// The last so many calls, however long ago.
#[derive(Debug)]
pub(super) struct CountWindow {
    size: usize,
    /// Oldest first; never more than `size`.
    entries: VecDeque<Entry>,
    counts: WindowCounts,
}

impl CountWindow {
    fn new(calls: u32) -> Self {
        let size = usize::try_from(calls).unwrap_or(usize::MAX);
        // All its memory at once, so that recording never allocates.
        Self { size, entries: VecDeque::with_capacity(size), counts: WindowCounts::default() }
    }

    pub(super) fn add(&mut self, entry: Entry) {
        if self.entries.len() == self.size
            && let Some(oldest) = self.entries.pop_front()
        {
            oldest.take_from(&mut self.counts);
        }
        self.entries.push_back(entry);
        entry.add_to(&mut self.counts);
    }

    pub(super) const fn counts(&self) -> WindowCounts {
        self.counts
    }

    /// The calls in at most `most` steps of equally many, oldest first; the newest may be shorter.
    pub(super) fn steps(&self, most: NonZeroUsize) -> Vec<WindowCounts> {
        let calls_of_step = self.size.div_ceil(most.get()).max(1);
        let mut steps = vec![WindowCounts::default(); self.entries.len().div_ceil(calls_of_step)];
        for (index, entry) in self.entries.iter().enumerate() {
            entry.add_to(&mut steps[index / calls_of_step]);
        }
        steps
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.counts = WindowCounts::default();
    }
}

/// Without the 128 bits of `Duration::as_nanos`, since every call asks.
pub(super) fn saturating_ns(duration: Duration) -> u64 {
    let whole_ns = duration.as_secs().saturating_mul(1_000_000_000);
    whole_ns.saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURE: Entry = Entry { failure: true, ..Entry::SUCCESS };

    fn ten_steps() -> TimeWindow {
        TimeWindow::new(Duration::from_nanos(100), 10, 0)
    }

    #[test]
    fn a_call_leaves_a_time_window_a_window_after_its_bucket_began() {
        let mut window = ten_steps();
        window.add(FAILURE);
        window.move_on(99, 0);
        assert_eq!(window.counts(0).failures, 1);
        window.move_on(100, 0);
        assert_eq!(window.counts(0), WindowCounts::default());
    }

    #[test]
    fn a_time_window_keeps_no_more_buckets_than_it_has() {
        let mut window = ten_steps();
        for now_ns in 0..10_000 {
            window.move_on(now_ns, now_ns);
            assert!(window.past.len() <= 10);
        }
        assert_eq!(window.counts(10_000).calls, 100);
    }

    #[test]
    fn time_that_runs_backwards_stays_in_the_present_bucket() {
        let mut window = ten_steps();
        window.move_on(55, 0);
        window.add(FAILURE);
        window.move_on(3, 0);
        window.add(FAILURE);
        assert_eq!(window.counts(0).failures, 2);
        window.move_on(u64::MAX, 0);
        assert_eq!(window.counts(0).failures, 0);
    }

    #[test]
    fn the_steps_of_a_time_window_are_its_buckets_oldest_first_and_none_is_lost() {
        let mut window = ten_steps();
        window.add(FAILURE);
        window.move_on(25, 4);
        window.add(FAILURE);
        let calls = |most: usize| -> Vec<u64> {
            let steps = window.steps(7, NonZeroUsize::new(most).unwrap());
            assert_eq!(steps.iter().copied().fold(WindowCounts::default(), sum), window.counts(7));
            steps.iter().map(|step| step.calls).collect()
        };
        assert_eq!(calls(10), [0, 0, 0, 0, 0, 0, 0, 5, 0, 4]);
        assert_eq!(calls(usize::MAX), calls(10));
        assert_eq!(calls(4), [0, 0, 0, 9], "three buckets to a step");
        assert_eq!(calls(1), [9]);
    }

    #[test]
    fn the_steps_of_a_count_window_hold_its_calls_oldest_first() {
        let mut window = CountWindow::new(5);
        assert!(window.steps(NonZeroUsize::MIN).is_empty());
        window.add(FAILURE);
        (0..3).for_each(|_| window.add(Entry::SUCCESS));
        let steps = window.steps(NonZeroUsize::new(3).unwrap());
        let calls: Vec<_> = steps.iter().map(|step| (step.calls, step.failures)).collect();
        assert_eq!(calls, [(2, 1), (2, 0)]);
    }

    #[test]
    fn a_count_window_keeps_the_last_calls_only() {
        let mut window = CountWindow::new(3);
        window.add(FAILURE);
        (0..2).for_each(|_| window.add(Entry::SUCCESS));
        assert_eq!(window.counts().failures, 1);
        window.add(Entry::SUCCESS);
        assert_eq!(window.counts(), WindowCounts { calls: 3, ..WindowCounts::default() });
        assert_eq!(window.entries.len(), 3);
    }
}
