use std::{cell::Cell, num::NonZeroU64, time::Duration};

use tokio::time::Instant;

/// A moment as nanoseconds since the balancer was made, so that it fits an atomic. 0 stands for
/// "never", so that no moment is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(NonZeroU64);

impl Stamp {
    /// The moment of so many nanoseconds; none for 0.
    pub(crate) const fn from_nanos(nanos: u64) -> Option<Self> {
        match NonZeroU64::new(nanos) {
            Some(nanos) => Some(Self(nanos)),
            None => None,
        }
    }

    pub(crate) const fn nanos(self) -> u64 {
        self.0.get()
    }

    /// Whole milliseconds since the balancer was made.
    pub(super) const fn millis(self) -> u64 {
        (self.nanos() - 1) / 1_000_000
    }

    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(time)))
    }

    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos().saturating_sub(earlier.nanos()))
    }
}

pub(crate) fn saturating_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Turns the clock's instants into moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) const fn starting(start: Instant) -> Self {
        Self { start }
    }

    /// Reads the clock.
    pub(crate) fn now(self) -> Stamp {
        self.at(Instant::now())
    }

    /// An instant before the start counts as the start.
    pub(crate) fn at(self, instant: Instant) -> Stamp {
        let nanos = saturating_nanos(instant.saturating_duration_since(self.start));
        Stamp(NonZeroU64::MIN.saturating_add(nanos))
    }
}

/// The moment of one pick: the clock is read at most once, and only when somebody asks.
#[derive(Debug)]
pub(crate) struct LazyNow<'a> {
    clock: &'a Clock,
    now: Cell<Option<Stamp>>,
}

impl<'a> LazyNow<'a> {
    pub(crate) const fn new(clock: &'a Clock) -> Self {
        Self { clock, now: Cell::new(None) }
    }

    pub(crate) fn get(&self) -> Stamp {
        if let Some(now) = self.now.get() {
            return now;
        }
        let now = self.clock.now();
        self.now.set(Some(now));
        now
    }
}
