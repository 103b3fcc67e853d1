use std::cell::Cell;

/// How often a call was sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resent {
    pub(crate) retries: u32,
    pub(crate) transparent: u32,
    pub(crate) hedges: u32,
}

std::thread_local! {
    /// The call whose work this thread is doing, if it wants to know. An observer of retries runs
    /// within that work, and is told nothing else that names the call.
    static CURRENT: Cell<Option<Resent>> = const { Cell::new(None) };
}

impl Resent {
    /// Does a call's work, and counts here what the retries below tell meanwhile.
    pub(super) fn count_during<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let outer = CURRENT.replace(Some(*self));
        let inside = Inside { resent: self, outer };
        let result = work();
        drop(inside);
        result
    }

    /// Changes the counts of the call whose work this thread is doing.
    #[cfg(feature = "retry")]
    pub(crate) fn change_current(change: impl FnOnce(&mut Self)) {
        CURRENT.set(CURRENT.get().map(|mut resent| {
            change(&mut resent);
            resent
        }));
    }
}

/// Puts things right again also when the work panics.
struct Inside<'a> {
    resent: &'a mut Resent,
    outer: Option<Resent>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(counted) = CURRENT.replace(self.outer) {
            *self.resent = counted;
        }
    }
}
