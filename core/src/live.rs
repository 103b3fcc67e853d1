use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwap, Guard};

/// A policy that can be read and replaced while traffic flows.
///
/// Clones are handles to the same policy. Reading takes no lock and never waits for a writer;
/// [`version`](Self::version) costs one atomic load, so that a layer need not look at the policy
/// before it has changed.
///
/// ```
/// use outrigger_core::Live;
///
/// let limit = Live::new(100);
/// let elsewhere = limit.clone();
/// elsewhere.replace(200);
/// assert_eq!(**limit.load(), 200);
/// ```
#[derive(Debug)]
pub struct Live<P> {
    shared: Arc<Shared<P>>,
}

#[derive(Debug)]
struct Shared<P> {
    current: ArcSwap<P>,
    /// Counts replacements; bumped after `current`, so that who sees a version sees its policy or
    /// a newer one.
    version: AtomicU64,
    writing: Mutex<()>,
}

impl<P> Live<P> {
    /// Holds `policy`.
    #[must_use]
    pub fn new(policy: P) -> Self {
        let current = ArcSwap::from_pointee(policy);
        let shared = Shared { current, version: AtomicU64::new(0), writing: Mutex::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// Puts `policy` in the place of the present one, which is given back.
    pub fn replace(&self, policy: P) -> Arc<P> {
        self.update(|_| policy)
    }

    /// Replaces the policy by what `change` makes of it. Changes happen one after another, so none
    /// is lost. `change` must not replace the same policy itself.
    pub fn update(&self, change: impl FnOnce(&P) -> P) -> Arc<P> {
        let _one_at_a_time = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = Arc::new(change(&self.shared.current.load()));
        let old = self.shared.current.swap(policy);
        self.shared.version.fetch_add(1, Ordering::Release);
        old
    }

    /// The present policy, borrowed for a moment. Costs about 14 ns; do not keep the guard.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<P>> {
        self.shared.current.load()
    }

    /// The present policy, to keep.
    #[must_use]
    pub fn get(&self) -> Arc<P> {
        self.shared.current.load_full()
    }

    /// How often the policy was replaced. Read the version *before* the policy: what is loaded
    /// then is of that version or a newer one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// A reader that keeps the policy at hand and looks again only after it was replaced.
    #[must_use]
    pub fn reader(&self) -> LiveReader<P> {
        let version = self.version();
        LiveReader { live: self.clone(), version, policy: self.get() }
    }

    /// Whether there is no other handle: nobody would see a replacement.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Whether two handles hold the same policy.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<P> Clone for Live<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<P: Default> Default for Live<P> {
    fn default() -> Self {
        Self::new(P::default())
    }
}

impl<P> From<P> for Live<P> {
    fn from(policy: P) -> Self {
        Self::new(policy)
    }
}

/// Keeps a [`Live`] policy at hand: reading it costs one atomic load while it does not change.
#[derive(Debug)]
pub struct LiveReader<P> {
    live: Live<P>,
    version: u64,
    policy: Arc<P>,
}

impl<P> LiveReader<P> {
    /// The present policy.
    pub fn get(&mut self) -> &P {
        let version = self.live.version();
        if version != self.version {
            self.policy = self.live.get();
            self.version = version;
        }
        &self.policy
    }

    /// The handle to the policy.
    #[must_use]
    pub const fn live(&self) -> &Live<P> {
        &self.live
    }
}

impl<P> Clone for LiveReader<P> {
    fn clone(&self) -> Self {
        let policy = Arc::clone(&self.policy);
        Self { live: self.live.clone(), version: self.version, policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_a_replacement_at_its_next_look() {
        let live = Live::new(1);
        let mut reader = live.reader();
        assert_eq!(*reader.get(), 1);
        assert_eq!(*live.replace(2), 1);
        assert_eq!(*reader.get(), 2);
        assert_eq!(*reader.clone().get(), 2);
    }

    #[test]
    fn a_handle_is_alone_until_it_is_cloned_or_read_by_a_reader() {
        let live = Live::new(1);
        assert!(live.is_alone());
        let other = live.clone();
        assert!(!live.is_alone());
        drop(other);
        let reader = live.reader();
        assert!(!live.is_alone());
        drop(reader);
        assert!(live.is_alone());
    }

    #[test]
    fn no_update_is_lost_between_two_threads() {
        let live = Live::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        live.update(|n| n + 1);
                    }
                });
            }
        });
        assert_eq!(*live.get(), 2_000);
        assert_eq!(live.version(), 2_000);
    }

    #[test]
    fn a_panicking_change_leaves_the_policy_and_the_handle_whole() {
        let live = Live::new(1);
        let change = std::panic::AssertUnwindSafe(|| live.update(|_| panic!("no")));
        std::panic::catch_unwind(change).unwrap_err();
        live.update(|n| n + 1);
        assert_eq!(*live.get(), 2);
    }
}
