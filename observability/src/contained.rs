use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use outrigger_core::Observe;

use crate::{CallEnd, CallStart, Tracer};

/// Keeps the panics of an observer or a tracer from the call that it looks on.
///
/// A panic is counted, and the call goes on. [`ObserveLayer::tracer`](crate::ObserveLayer::tracer)
/// puts one around each tracer by itself. The panic hook still tells of the panic; with
/// `panic = "abort"` nothing can contain one.
///
/// ```
/// use outrigger_core::Observe;
/// use outrigger_observability::Contained;
///
/// let observer = Contained::new(|_: &str, event: &u32| assert_eq!(*event, 1));
/// observer.observe("orders", &1);
/// observer.observe("orders", &2);
/// assert_eq!(observer.panics(), 1);
/// ```
#[derive(Debug, Default)]
pub struct Contained<O> {
    inner: O,
    panics: AtomicU64,
}

impl<O> Contained<O> {
    /// Contains the panics of `inner`.
    #[must_use]
    pub const fn new(inner: O) -> Self {
        Self { inner, panics: AtomicU64::new(0) }
    }

    /// How often it panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// What is contained.
    #[must_use]
    pub const fn get_ref(&self) -> &O {
        &self.inner
    }

    fn contain<R>(&self, work: impl FnOnce(&O) -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(|| work(&self.inner)));
        if result.is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        result.ok()
    }
}

impl<O: Observe<Event>, Event> Observe<Event> for Contained<O> {
    fn observe(&self, key: &str, event: &Event) {
        self.contain(|observer| observer.observe(key, event));
    }
}

impl<T: Tracer> Tracer for Contained<T> {
    type State = Option<T::State>;

    fn start(&self, call: &CallStart<'_>) -> Self::State {
        self.contain(|tracer| tracer.start(call))
    }

    fn finish(&self, state: Self::State, end: &CallEnd) {
        if let Some(state) = state {
            self.contain(|tracer| tracer.finish(state, end));
        }
    }
}
