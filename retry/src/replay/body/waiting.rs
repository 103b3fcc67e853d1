use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// Names an attempt among those that read one body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AttemptId(u32);

impl AttemptId {
    /// This one; the next time another.
    pub(super) const fn take_next(&mut self) -> Self {
        let id = *self;
        self.0 = self.0.wrapping_add(1);
        id
    }
}

/// The attempts that wait for the next frame of one body, each once. Waking it wakes them all.
///
/// Knows nothing of the body: the body may keep a waker of this, and must not keep itself alive.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    wakers: Mutex<Vec<(AttemptId, Waker)>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Vec<(AttemptId, Waker)>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `waker` wake the attempt. Gives back what woke it before, to be dropped with no lock
    /// held.
    #[must_use]
    pub(super) fn add(&self, id: AttemptId, waker: &Waker) -> Option<Waker> {
        let mut wakers = self.lock();
        match wakers.iter_mut().find(|(waiting, _)| *waiting == id) {
            Some((_, old)) if old.will_wake(waker) => None,
            Some((_, old)) => Some(mem::replace(old, waker.clone())),
            None => {
                wakers.push((id, waker.clone()));
                None
            }
        }
    }

    pub(super) fn remove(&self, id: AttemptId) {
        let mut wakers = self.lock();
        let position = wakers.iter().position(|(waiting, _)| *waiting == id);
        let removed = position.map(|position| wakers.swap_remove(position));
        drop(wakers);
        drop(removed);
    }

    pub(super) fn wake_all(&self) {
        let wakers = mem::take(&mut *self.lock());
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// This one has what it waited for; the others may look.
    pub(super) fn wake_others(&self, id: AttemptId) {
        self.remove(id);
        if !self.lock().is_empty() {
            self.wake_all();
        }
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
