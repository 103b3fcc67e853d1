use std::sync::atomic::{AtomicU64, Ordering};

use super::Stamp;

/// A latency that jumps up with a slow call and is forgotten by time: Finagle's peak EWMA.
///
/// Cost (an `f32` in seconds) and its moment (milliseconds, wrapping after 49 days) share one
/// word, so that a reader never sees one without the other.
#[derive(Debug, Default)]
pub(crate) struct PeakEwma(AtomicU64);

#[derive(Clone, Copy)]
struct Cell {
    seconds: f32,
    stamp_ms: u32,
}

impl Cell {
    #[expect(clippy::cast_possible_truncation, reason = "two halves of a word")]
    fn unpack(word: u64) -> Option<Self> {
        (word != 0)
            .then(|| Self { seconds: f32::from_bits((word >> 32) as u32), stamp_ms: word as u32 })
    }

    fn pack(self) -> u64 {
        // Never 0, which says that there was no call yet.
        u64::from(self.seconds.max(f32::MIN_POSITIVE).to_bits()) << 32 | u64::from(self.stamp_ms)
    }

    fn decayed(self, now_ms: u32, decay_s: f32) -> (f32, f32) {
        // A stamp ahead of `now`, by a thread that read the clock a little later, is no age.
        let age_ms = now_ms.wrapping_sub(self.stamp_ms);
        if age_ms == 0 || age_ms > u32::MAX / 2 {
            return (self.seconds, 1.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "a decay needs no more")]
        let kept = (-(age_ms as f32) / 1_000.0 / decay_s).exp();
        (self.seconds * kept, kept)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "wraps on purpose")]
const fn stamp(now: Stamp) -> u32 {
    (now.nanos() / 1_000_000) as u32
}

impl PeakEwma {
    /// A call took `seconds`.
    pub(crate) fn observe(&self, seconds: f32, now: Stamp, decay_s: f32) {
        self.update(seconds, now, decay_s, |cost, kept| cost + seconds * (1.0 - kept));
    }

    /// A call took at least `seconds`: it failed, or was cancelled then.
    pub(crate) fn at_least(&self, seconds: f32, now: Stamp, decay_s: f32) {
        self.update(seconds, now, decay_s, |cost, _| cost);
    }

    fn update(&self, peak: f32, now: Stamp, decay_s: f32, mean: impl Fn(f32, f32) -> f32) {
        let stamp_ms = stamp(now);
        // Nothing is written where nothing changes, such as by a second call in the same
        // millisecond: then threads that only read share the line.
        let next = |word| {
            let seconds = match Cell::unpack(word) {
                None => peak,
                Some(cell) => {
                    let (cost, kept) = cell.decayed(stamp_ms, decay_s);
                    if peak > cost { peak } else { mean(cost, kept) }
                }
            };
            Some(Cell { seconds, stamp_ms }.pack()).filter(|next| *next != word)
        };
        let _unless_unchanged = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// The cost by now, in seconds; `None` before the first call is over.
    pub(crate) fn read(&self, now: Stamp, decay_s: f32) -> Option<f32> {
        let cell = Cell::unpack(self.0.load(Ordering::Relaxed))?;
        Some(cell.decayed(stamp(now), decay_s).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Stamp {
        Stamp::from_nanos(seconds * 1_000_000_000 + 1).unwrap()
    }

    #[test]
    fn a_slow_call_counts_at_once_and_is_forgotten_by_time() {
        let latency = PeakEwma::default();
        assert_eq!(latency.read(at(0), 10.0), None);
        latency.observe(0.010, at(0), 10.0);
        latency.observe(0.100, at(0), 10.0);
        assert_eq!(latency.read(at(0), 10.0), Some(0.100));
        latency.observe(0.010, at(10), 10.0);
        let mixed = latency.read(at(10), 10.0).unwrap();
        assert!((mixed - 0.0431).abs() < 0.001, "{mixed}");
        let later = latency.read(at(20), 10.0).unwrap();
        assert!((later - mixed / std::f32::consts::E).abs() < 0.001, "{later}");
    }

    #[test]
    fn a_cancelled_call_never_looks_fast() {
        let latency = PeakEwma::default();
        latency.observe(0.100, at(0), 10.0);
        latency.at_least(0.001, at(0), 10.0);
        assert_eq!(latency.read(at(0), 10.0), Some(0.100));
        latency.at_least(0.500, at(0), 10.0);
        assert_eq!(latency.read(at(0), 10.0), Some(0.500));
    }

    #[test]
    fn a_clock_that_goes_back_or_wraps_does_no_harm() {
        let latency = PeakEwma::default();
        latency.observe(0.100, at(100), 10.0);
        assert_eq!(latency.read(at(50), 10.0), Some(0.100));
        latency.observe(0.0, Stamp::from_nanos(u64::MAX).unwrap(), 10.0);
        assert!(latency.read(Stamp::from_nanos(u64::MAX).unwrap(), 1e-6).unwrap() <= 0.100);
    }
}
