//! What governed the last calls of a thread, at hand for its next ones.

use std::{
    any::Any,
    cell::RefCell,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use outrigger_core::MethodRef;

/// Tells one [`Governance`](crate::Governance) from all others of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u64);

impl Id {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A method has its place by its name, so that methods that take turns rarely drive each other
    /// out.
    #[expect(clippy::cast_possible_truncation, reason = "any place will do")]
    fn place_of(self, name: MethodRef<'_>) -> usize {
        let letter = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or_default());
        let method = name.method.as_bytes();
        (self.0 as usize + method.len() + letter(method.first()) + letter(method.last())) % PLACES
    }
}

/// Not what keeps a state alive: a policy that is taken back is gone when its last call is over.
struct Found {
    governance: Id,
    state: Weak<dyn Any + Send + Sync>,
}

const PLACES: usize = 16;

std::thread_local! {
    static FOUND: RefCell<[Option<Found>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// What this thread found last at the place of `name`: perhaps of another method, and perhaps out
/// of date.
#[inline]
pub(crate) fn last_found<T>(governance: Id, name: MethodRef<'_>) -> Option<Arc<T>>
where
    T: Send + Sync + 'static,
{
    let state = FOUND.try_with(|found| {
        let found = found.try_borrow().ok()?;
        let found = found[governance.place_of(name)].as_ref();
        found.filter(|found| found.governance == governance)?.state.upgrade()
    });
    state.ok()??.downcast().ok()
}

/// Keeps it at hand for the next look-up of this thread.
#[cold]
pub(crate) fn keep<T>(governance: Id, name: MethodRef<'_>, state: &Arc<T>)
where
    T: Send + Sync + 'static,
{
    let state: Weak<T> = Arc::downgrade(state);
    let new = Found { governance, state };
    // A thread that is going down has no places left, and needs none.
    let _ = FOUND.try_with(|found| {
        if let Ok(mut found) = found.try_borrow_mut() {
            found[governance.place_of(name)] = Some(new);
        }
    });
}
