//! Counts the successes of the present generation without a shared cache line.

use crate::sync::{AtomicU64, Ordering};

/// One counter for each stripe of threads. A counter carries the generation that it counts for, so
/// that a result from before a change of state can never be counted after it.
#[derive(Debug)]
pub(super) struct Successes {
    stripes: Box<[Stripe]>,
}

/// Alone on its cache line (and on the one that is fetched with it), so that threads do not wait
/// for each other.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    /// The low bits of the generation, then the count.
    tagged: AtomicU64,
}

const COUNT_BITS: u32 = 44;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

impl Successes {
    /// `stripes` is a power of two, so that choosing one needs no division.
    pub(super) fn new(stripes: usize, generation: u64) -> Self {
        debug_assert!(stripes.is_power_of_two(), "{stripes} stripes");
        let stripe = |_| Stripe { tagged: AtomicU64::new(generation << COUNT_BITS) };
        Self { stripes: (0..stripes).map(stripe).collect() }
    }

    /// Counts one, unless the generation with this tag is over.
    #[inline]
    pub(super) fn add(&self, stripe: usize, tag: u64) {
        let Some(Stripe { tagged }) = self.stripes.get(stripe) else { return };
        let add = |old: u64| (old >> COUNT_BITS == tag).then(|| old + 1);
        // `Release` pairs with the `Acquire` in `restart`: what was counted before a change of state
        // is forgotten by it. An `Err` is a result of an old generation.
        let _ = tagged.fetch_update(Ordering::Release, Ordering::Relaxed, add);
    }

    pub(super) fn sum(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.tagged.load(Ordering::Relaxed) & COUNT).sum()
    }

    /// Starts again from zero for `generation`.
    pub(super) fn restart(&self, generation: u64) {
        for stripe in &self.stripes {
            stripe.tagged.swap(generation << COUNT_BITS, Ordering::Acquire);
        }
    }
}

/// What of a generation fits beside a count: enough to tell it from the million before it.
#[inline]
pub(super) const fn tag(generation: u64) -> u64 {
    (generation << COUNT_BITS) >> COUNT_BITS
}
