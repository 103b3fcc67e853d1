use std::sync::Arc;

/// Is told what a layer did, after the fact and with no lock held.
///
/// A type parameter of every layer that defaults to `()`: nothing installed, nothing paid. `key`
/// names the breaker, limit, budget or endpoint that the event is about; it is empty when that has
/// no name. A closure is an observer:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use outrigger_core::Observe;
///
/// let refusals = AtomicU64::new(0);
/// let count = |_key: &str, _event: &&str| {
///     refusals.fetch_add(1, Ordering::Relaxed);
/// };
/// count.observe("orders", &"refused");
/// assert_eq!(refusals.into_inner(), 1);
/// ```
///
/// An observer runs on the caller's task: it must neither block nor panic. Several observers are a
/// tuple of two, nested as needed.
pub trait Observe<Event> {
    /// Is called once for each event.
    fn observe(&self, key: &str, event: &Event);
}

impl<Event> Observe<Event> for () {
    fn observe(&self, _key: &str, _event: &Event) {}
}

impl<F, Event> Observe<Event> for F
where
    F: Fn(&str, &Event) + ?Sized,
{
    fn observe(&self, key: &str, event: &Event) {
        self(key, event);
    }
}

impl<O, Event> Observe<Event> for Arc<O>
where
    O: Observe<Event> + ?Sized,
{
    fn observe(&self, key: &str, event: &Event) {
        (**self).observe(key, event);
    }
}

impl<A, B, Event> Observe<Event> for (A, B)
where
    A: Observe<Event>,
    B: Observe<Event>,
{
    fn observe(&self, key: &str, event: &Event) {
        self.0.observe(key, event);
        self.1.observe(key, event);
    }
}
