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
    /// Counts here what the retries below tell, for as long as the guard lives.
    pub(super) fn count(&mut self) -> Counting<'_> {
        let outer = CURRENT.replace(Some(*self));
        Counting { resent: self, outer }
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

/// Puts things right again, also when the work panics.
#[must_use = "counts for as long as it lives"]
pub(super) struct Counting<'a> {
    resent: &'a mut Resent,
    outer: Option<Resent>,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        if let Some(counted) = CURRENT.replace(self.outer) {
            *self.resent = counted;
        }
    }
}
