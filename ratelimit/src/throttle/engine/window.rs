//! The calls of the last so many buckets of time.

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// How many buckets a window has: a call is forgotten at most a fortieth of the window late.
pub(super) const BUCKETS: u64 = 40;
const SLOTS: usize = 41;

/// What the callee was asked for in the window, and what it accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThrottleCounts {
    /// The calls that are over, and those that were refused here.
    pub requests: u32,
    /// Those that the callee accepted.
    pub accepts: u32,
}

/// One request that was not accepted.
const REQUEST: u64 = 1 << 32;
/// One that was.
const ACCEPTED: u64 = REQUEST + 1;

/// Counts are never taken back: `total` only grows, and what a window holds is its distance from
/// what the total was when the window's oldest bucket began. Requests stand in the upper half of
/// a word and accepts in the lower, so that both are counted by one addition; where a half
/// overflows the distance is right all the same.
#[derive(Debug)]
pub(super) struct Window {
    total: Alone,
    /// The total at the beginning of the window.
    base: AtomicU64,
    /// When the present bucket ends.
    end_ns: AtomicU64,
    marks: Mutex<Marks>,
}

/// On a cache line that is written with every call.
#[derive(Debug)]
#[repr(align(128))]
struct Alone(AtomicU64);

/// What the total was when each bucket began in which there were calls, oldest first.
#[derive(Debug)]
struct Marks {
    bucket_ns: u64,
    ring: [Mark; SLOTS],
    first: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    bucket: u64,
    total: u64,
}

impl Window {
    pub(super) fn new(bucket_ns: u64, now_ns: u64) -> Self {
        let mut marks = Marks { bucket_ns, ring: [Mark::default(); SLOTS], first: 0, len: 0 };
        marks.push(Mark { bucket: now_ns / bucket_ns, total: 0 });
        Self {
            total: Alone(AtomicU64::new(0)),
            base: AtomicU64::new(0),
            end_ns: AtomicU64::new(marks.end_ns()),
            marks: Mutex::new(marks),
        }
    }

    pub(super) fn add(&self, is_accepted: bool) {
        self.total.0.fetch_add(if is_accepted { ACCEPTED } else { REQUEST }, Ordering::Relaxed);
    }

    pub(super) fn counts(&self, now_ns: u64) -> ThrottleCounts {
        if now_ns >= self.end_ns.load(Ordering::Acquire) {
            self.move_on(now_ns);
        }
        // `Acquire` before the total: what the base was taken from is seen.
        let base = self.base.load(Ordering::Acquire);
        let held = self.total.0.load(Ordering::Relaxed).wrapping_sub(base);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        ThrottleCounts { requests: (held >> 32) as u32, accepts: held as u32 }
    }

    /// Begins the bucket of `now_ns` and forgets what is too old. Whoever comes while another does
    /// it goes on with what there is.
    #[cold]
    fn move_on(&self, now_ns: u64) {
        let Ok(mut marks) = self.marks.try_lock() else { return };
        let bucket = now_ns / marks.bucket_ns;
        if bucket <= marks.last().bucket {
            return;
        }
        marks.push(Mark { bucket, total: self.total.0.load(Ordering::Relaxed) });
        while marks.oldest().bucket.saturating_add(BUCKETS) <= bucket {
            marks.pop();
        }
        self.publish(&marks);
    }

    /// Gives the window another length. What it holds counts as new.
    pub(super) fn set_bucket(&self, bucket_ns: u64, now_ns: u64) {
        let mut marks = self.lock();
        if marks.bucket_ns == bucket_ns {
            return;
        }
        let total = self.base.load(Ordering::Relaxed);
        *marks = Marks { bucket_ns, ring: [Mark::default(); SLOTS], first: 0, len: 0 };
        marks.push(Mark { bucket: now_ns / bucket_ns, total });
        self.publish(&marks);
    }

    fn publish(&self, marks: &Marks) {
        self.base.store(marks.oldest().total, Ordering::Release);
        self.end_ns.store(marks.end_ns(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    fn push(&mut self, mark: Mark) {
        // One more slot than buckets: what is too old is taken out after the new one is in.
        self.ring[(self.first + self.len) % SLOTS] = mark;
        self.len += 1;
    }

    fn pop(&mut self) {
        self.first = (self.first + 1) % SLOTS;
        self.len -= 1;
    }

    fn oldest(&self) -> Mark {
        self.ring[self.first]
    }

    fn last(&self) -> Mark {
        self.ring[(self.first + self.len + SLOTS - 1) % SLOTS]
    }

    /// When the last bucket ends.
    fn end_ns(&self) -> u64 {
        self.last().bucket.saturating_add(1).saturating_mul(self.bucket_ns)
    }
}

#[cfg(all(test, not(outrigger_loom)))]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn the_window_holds_what_a_list_of_all_calls_would() {
        let mut rng = fastrand::Rng::with_seed(3);
        let window = Window::new(10, 0);
        let mut all: VecDeque<(u64, bool)> = VecDeque::new();
        let mut now_ns = 0;
        for _ in 0..100_000 {
            now_ns += if rng.u32(0..1_000) == 0 { rng.u64(0..2_000) } else { rng.u64(0..7) };
            all.retain(|(bucket, _)| bucket + BUCKETS > now_ns / 10);
            let accepts = all.iter().filter(|(_, accepted)| *accepted).count();
            let counts = window.counts(now_ns);
            assert_eq!(usize::try_from(counts.requests).unwrap(), all.len());
            assert_eq!(usize::try_from(counts.accepts).unwrap(), accepts);
            let accepted = rng.bool();
            window.add(accepted);
            all.push_back((now_ns / 10, accepted));
        }
    }

    #[test]
    fn the_counts_are_right_where_a_half_of_the_word_overflows() {
        let window = Window::new(10, 0);
        window.total.0.store(u64::MAX - ACCEPTED, Ordering::Relaxed);
        assert_eq!(window.counts(10 * BUCKETS), ThrottleCounts::default());
        (0..5).for_each(|_| window.add(true));
        window.add(false);
        let counts = window.counts(10 * BUCKETS);
        assert_eq!(counts, ThrottleCounts { requests: 6, accepts: 5 });
    }

    #[test]
    fn time_that_runs_backwards_stays_in_the_present_bucket() {
        let window = Window::new(10, 55);
        window.add(true);
        assert_eq!(window.counts(3).requests, 1);
        assert_eq!(window.counts(u64::MAX).requests, 0);
        window.add(true);
        assert_eq!(window.counts(3).requests, 1);
    }
}
