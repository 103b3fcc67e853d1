//! Which of a handle's stripes the present thread uses, so that two threads write to no common
//! cache line.

use std::{
    num::NonZeroUsize,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

/// At least as many stripes as there are processors, within reason; a power of two, so that
/// choosing one takes no division.
pub(crate) fn stripe_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    let count = || available_parallelism().map_or(4, NonZeroUsize::get).min(16).next_power_of_two();
    *COUNT.get_or_init(count)
}

/// The stripe of the present thread.
#[inline]
pub(crate) fn stripe_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static STRIPE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that is going down has no thread-locals left; any stripe will do.
    STRIPE.try_with(|stripe| *stripe).unwrap_or(0)
}
