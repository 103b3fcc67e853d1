//! Counts of latencies in slices of a second, and the quantile of what they hold.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

const SLICES: usize = 5;
const SLICE_MS: u64 = 1_000;
const REFRESH_MS: u64 = 100;

/// Up to here each microsecond has a bucket of its own.
const EXACT: u64 = 1 << EXACT_BITS;
const EXACT_BITS: u32 = 6;
/// Beyond, each doubling has this many.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 5;
/// 2^27 us, or 134 s: what is longer counts as that.
const MOST_BITS: u32 = 27;
#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
const BUCKETS: usize = (EXACT + (MOST_BITS - EXACT_BITS) as u64 * STEPS) as usize;

#[derive(Debug)]
pub(super) struct Window {
    started: Instant,
    slices: [Slice; SLICES],
    /// In microseconds; `NONE` while there are too few samples.
    estimate_us: AtomicU64,
    /// When the estimate is to be computed anew, in milliseconds since `started`.
    refresh_at_ms: AtomicU64,
    /// What the estimate is of.
    wanted: AtomicU64,
    refreshing: Mutex<()>,
}

const NONE: u64 = u64::MAX;

#[derive(Debug)]
struct Slice {
    /// Which second it holds, counted from 1; 0 is none.
    second: AtomicU64,
    ended: Box<[AtomicU32]>,
    cut: Box<[AtomicU32]>,
}

impl Slice {
    fn new() -> Self {
        let zeros = || (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self { second: AtomicU64::new(0), ended: zeros(), cut: zeros() }
    }

    /// Empties the slice for `second`, if it holds an older one. One thread does it.
    fn turn_to(&self, second: u64) {
        let held = self.second.load(Ordering::Relaxed);
        if held >= second {
            return;
        }
        let swap = self.second.compare_exchange(held, second, Ordering::Relaxed, Ordering::Relaxed);
        if swap.is_ok() {
            self.ended.iter().chain(&self.cut).for_each(|count| count.store(0, Ordering::Relaxed));
        }
    }
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            slices: std::array::from_fn(|_| Slice::new()),
            estimate_us: AtomicU64::new(NONE),
            refresh_at_ms: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            refreshing: Mutex::new(()),
        }
    }

    pub(super) fn record(&self, latency: Duration, now: Instant, is_cut: bool) {
        let second = self.second_at(now);
        let slice = &self.slices[index_of_slice(second)];
        slice.turn_to(second);
        let counts = if is_cut { &slice.cut } else { &slice.ended };
        counts[bucket_of(micros(latency))].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn estimate(&self, ppm: u32, min_samples: u32, now: Instant) -> Option<Duration> {
        let now_ms = self.elapsed_ms(now);
        let wanted = u64::from(ppm) << 32 | u64::from(min_samples);
        let is_due = now_ms >= self.refresh_at_ms.load(Ordering::Relaxed)
            || self.wanted.load(Ordering::Relaxed) != wanted;
        // Who comes while another computes takes what is at hand.
        if is_due && let Ok(_one_at_a_time) = self.refreshing.try_lock() {
            let estimate = self.compute(ppm, min_samples, self.second_at(now));
            self.estimate_us.store(estimate.unwrap_or(NONE), Ordering::Relaxed);
            self.wanted.store(wanted, Ordering::Relaxed);
            self.refresh_at_ms.store(now_ms.saturating_add(REFRESH_MS), Ordering::Relaxed);
        }
        let estimate_us = self.estimate_us.load(Ordering::Relaxed);
        (estimate_us != NONE).then(|| Duration::from_micros(estimate_us))
    }

    /// Kaplan and Meier's estimator: at each latency, the share that ended there of those that were
    /// still running.
    fn compute(&self, ppm: u32, min_samples: u32, second: u64) -> Option<u64> {
        let live = |slice: &&Slice| {
            let held = slice.second.load(Ordering::Relaxed);
            held != 0 && held + SLICES as u64 > second
        };
        let (mut ended, mut cut) = ([0_u64; BUCKETS], [0_u64; BUCKETS]);
        for slice in self.slices.iter().filter(live) {
            for (sum, count) in ended.iter_mut().zip(&slice.ended) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
            for (sum, count) in cut.iter_mut().zip(&slice.cut) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
        }
        let mut running: u64 = ended.iter().chain(&cut).sum();
        if running < u64::from(min_samples.max(1)) {
            return None;
        }
        let above = 1.0 - f64::from(ppm) / 1e6;
        let (mut surviving, mut longest) = (1.0, 0);
        for (bucket, (ended, cut)) in ended.into_iter().zip(cut).enumerate() {
            if ended + cut == 0 {
                continue;
            }
            longest = bucket;
            let after = surviving * (1.0 - ratio(ended, running));
            if after <= above {
                let within = (surviving - above) / (surviving - after);
                return Some(interpolated(bucket, within));
            }
            surviving = after;
            running -= ended + cut;
        }
        // The tail was cut off before so many had ended: at least as long as the longest.
        Some(interpolated(longest, 1.0))
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    fn second_at(&self, now: Instant) -> u64 {
        self.elapsed_ms(now) / SLICE_MS + 1
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

#[expect(clippy::cast_possible_truncation, reason = "below SLICES")]
const fn index_of_slice(second: u64) -> usize {
    (second % SLICES as u64) as usize
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "below BUCKETS")]
fn bucket_of(us: u64) -> usize {
    if us < EXACT {
        return us as usize;
    }
    let bits = us.ilog2();
    if bits >= MOST_BITS {
        return BUCKETS - 1;
    }
    let step = (us >> (bits - STEP_BITS)) & (STEPS - 1);
    (EXACT + u64::from(bits - EXACT_BITS) * STEPS + step) as usize
}

/// The first microsecond of a bucket, and how many it holds.
fn range_of(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return (bucket, 1);
    }
    let (doubling, step) = ((bucket - EXACT) / STEPS, (bucket - EXACT) % STEPS);
    let width = 1 << (doubling + u64::from(EXACT_BITS - STEP_BITS));
    ((STEPS + step) * width, width)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a width"
)]
fn interpolated(bucket: usize, within: f64) -> u64 {
    let (first, width) = range_of(bucket);
    first + (width as f64 * within).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_falls_into_the_bucket_that_holds_it() {
        let samples = (0..5_000).chain((0..100_000).map(|n| n * 1_337));
        for us in samples.filter(|us| *us < 1 << MOST_BITS) {
            let (first, width) = range_of(bucket_of(us));
            assert!((first..first + width).contains(&us), "{us} in {first}+{width}");
            assert!(width == 1 || width * 32 <= us, "{us} in {first}+{width}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of((1 << MOST_BITS) - 1), BUCKETS - 1);
    }
}
