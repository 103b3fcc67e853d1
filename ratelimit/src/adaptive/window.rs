//! What happened in a window of time, counted without a lock and without two threads writing the
//! same cache line.

use std::time::Duration;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The counts of one stripe of threads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Tally {
    count: AtomicU32,
    dropped: AtomicU32,
    latency_ns: AtomicU64,
    /// Of latencies in units of 1 024 ns.
    squares: AtomicU64,
    /// The calls in flight when those that ended began, themselves included.
    in_flight: AtomicU64,
    max_in_flight: AtomicU32,
    /// How many calls found no place.
    refused: AtomicU32,
}

/// What a window's stripes have counted together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) count: u32,
    pub(super) dropped: u32,
    pub(super) latency_ns: u64,
    pub(super) squares: u64,
    pub(super) in_flight: u64,
    pub(super) max_in_flight: u32,
    pub(super) refused: u32,
}

/// A call that took longer counts as this long, 18 minutes, so that no sum overflows soon.
const LONGEST_NS: u64 = u64::MAX >> 24;
const UNIT_NS: u64 = 1 << 10;

/// In units of 1 024 ns, rounded: squares of nanoseconds would overflow within seconds.
pub(super) const fn square(latency_ns: u64) -> u64 {
    let latency = (latency_ns + UNIT_NS / 2) >> UNIT_NS.trailing_zeros();
    latency * latency
}

impl Tally {
    pub(super) fn saw(&self, in_flight: u32) {
        if self.max_in_flight.load(Ordering::Relaxed) < in_flight {
            self.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        }
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn succeeded(&self, latency: Duration, in_flight: u32) {
        let latency = u64::try_from(latency.as_nanos()).map_or(LONGEST_NS, |ns| ns.min(LONGEST_NS));
        self.count.fetch_add(1, Ordering::Relaxed);
        self.latency_ns.fetch_add(latency, Ordering::Relaxed);
        self.squares.fetch_add(square(latency), Ordering::Relaxed);
        self.in_flight.fetch_add(in_flight.into(), Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds this stripe's counts to `counts`.
    pub(super) fn add_to(&self, counts: &mut Counts) {
        counts.count = counts.count.saturating_add(self.count.load(Ordering::Relaxed));
        counts.dropped = counts.dropped.saturating_add(self.dropped.load(Ordering::Relaxed));
    }

    /// Takes this stripe's counts into `counts`, and begins anew.
    pub(super) fn take_into(&self, counts: &mut Counts) {
        let take_32 = |count: &AtomicU32| count.swap(0, Ordering::Relaxed);
        let take_64 = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        counts.count = counts.count.saturating_add(take_32(&self.count));
        counts.dropped = counts.dropped.saturating_add(take_32(&self.dropped));
        counts.latency_ns = counts.latency_ns.saturating_add(take_64(&self.latency_ns));
        counts.squares = counts.squares.saturating_add(take_64(&self.squares));
        counts.in_flight = counts.in_flight.saturating_add(take_64(&self.in_flight));
        counts.max_in_flight = counts.max_in_flight.max(take_32(&self.max_in_flight));
        counts.refused = counts.refused.saturating_add(take_32(&self.refused));
    }
}

impl Counts {
    pub(super) const fn ended(&self) -> u32 {
        self.count.saturating_add(self.dropped)
    }

    /// In seconds; none where no call succeeded.
    #[expect(clippy::cast_precision_loss, reason = "an average needs no more")]
    pub(super) fn mean_latency(&self) -> Option<f64> {
        (self.count > 0).then(|| self.latency_ns as f64 / 1e9 / f64::from(self.count))
    }

    /// The mean of the squares of latencies, in seconds squared; 0 where no call succeeded.
    #[expect(clippy::cast_precision_loss, reason = "an average needs no more")]
    pub(super) fn mean_square(&self) -> f64 {
        let unit = UNIT_NS as f64 / 1e9;
        self.squares as f64 * unit * unit / f64::from(self.count.max(1))
    }

    #[expect(clippy::cast_precision_loss, reason = "an average needs no more")]
    pub(super) fn mean_in_flight(&self) -> f64 {
        self.in_flight as f64 / f64::from(self.count.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stripes_come_to_one_sum_and_begin_anew() {
        let tallies = [Tally::default(), Tally::default()];
        tallies[0].saw(3);
        tallies[0].succeeded(Duration::from_millis(100), 3);
        tallies[1].succeeded(Duration::from_millis(300), 5);
        tallies[1].dropped();
        tallies[1].refused();
        let mut counts = Counts::default();
        for tally in &tallies {
            tally.take_into(&mut counts);
        }
        assert_eq!((counts.count, counts.dropped, counts.ended()), (2, 1, 3));
        assert_eq!((counts.refused, counts.max_in_flight), (1, 3));
        assert_eq!((counts.mean_latency(), counts.mean_in_flight()), (Some(0.2), 4.0));
        assert!((counts.mean_square() - 0.05).abs() < 1e-6, "{}", counts.mean_square());
        let mut again = Counts::default();
        for tally in &tallies {
            tally.take_into(&mut again);
        }
        assert_eq!((again.ended(), again.refused, again.squares), (0, 0, 0));
        assert_eq!(again.mean_latency(), None);
    }

    #[test]
    fn a_latency_without_end_overflows_nothing() {
        let tally = Tally::default();
        tally.succeeded(Duration::MAX, 1);
        tally.succeeded(Duration::MAX, 1);
        let mut counts = Counts::default();
        tally.take_into(&mut counts);
        assert!(counts.mean_latency().is_some_and(|latency| latency > 1_000.0));
        assert!(counts.mean_square() > 1e6);
    }
}
