use super::{Stamp, latency::PeakEwma};
use crate::sync::{AtomicU64, Ordering};

/// What pickers that look at load read of an endpoint, in a cache line of its own.
///
/// All threads read it and few write it: a call that is answered at once is never shown, and a
/// latency that changes nothing is not written.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Load {
    /// Calls in flight that all threads are to see.
    shown: AtomicU64,
    /// Until when the endpoint counts as busy after a failure; 0: it does not.
    penalty_until: AtomicU64,
    peak: PeakEwma,
}

impl Load {
    pub(crate) fn shown(&self) -> u64 {
        self.shown.load(Ordering::Relaxed)
    }

    /// Shows one more call.
    pub(super) fn show(&self) {
        self.shown.fetch_add(1, Ordering::AcqRel);
    }

    /// Shows one more call if there are fewer than `cap`, in one step.
    pub(crate) fn show_within(&self, cap: u64) -> bool {
        let next = |shown| (shown < cap).then_some(shown + 1);
        self.shown.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next).is_ok()
    }

    pub(crate) fn hide(&self) {
        self.shown.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn penalise(&self, until: Stamp) {
        self.penalty_until.fetch_max(until.nanos(), Ordering::Relaxed);
    }

    pub(super) fn forgive(&self) {
        self.penalty_until.store(0, Ordering::Relaxed);
    }

    /// Whether it counts as busy since it failed not long ago.
    pub(crate) fn is_penalised(&self, now: impl FnOnce() -> Stamp) -> bool {
        let until = self.penalty_until.load(Ordering::Relaxed);
        until != 0 && now().nanos() < until
    }

    pub(crate) const fn peak(&self) -> &PeakEwma {
        &self.peak
    }
}

#[cfg(all(test, outrigger_loom))]
mod loom {
    use std::sync::Arc;

    use ::loom::{model, thread};

    use super::Load;

    #[test]
    fn loom_a_bound_is_never_passed() {
        model(|| {
            let load = Arc::new(Load::default());
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let load = Arc::clone(&load);
                    thread::spawn(move || load.show_within(1))
                })
                .collect();
            let entered = callers.into_iter().map(|caller| caller.join().unwrap());
            assert_eq!(entered.filter(|entered| *entered).count(), 1);
            assert_eq!(load.shown(), 1);
        });
    }
}
