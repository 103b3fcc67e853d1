use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use foldhash::fast::RandomState;

use crate::meter::Count;

/// The counters that each call counts into, at hand by the key alone: a series is otherwise found
/// by all its labels, which costs as much as all else that a good call tells.
pub(super) struct Usual {
    keys: papaya::HashMap<Box<str>, [Counter; 2], RandomState>,
    most: usize,
}

/// Found at its first use. `None` where the user made another instrument of the series.
type Counter = OnceLock<Option<Arc<dyn Count>>>;

/// What is told of each call whose first attempt is good.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    FirstSent,
    Succeeded,
}

impl Usual {
    /// At most so many keys are kept at hand; the series of the others are found each time.
    pub(super) fn new(most: usize) -> Self {
        Self { keys: papaya::HashMap::with_hasher(RandomState::default()), most }
    }

    /// Counts one into the counter that `find` finds for this key.
    pub(super) fn count(
        &self,
        key: &str,
        told: Told,
        find: impl FnOnce() -> Option<Arc<dyn Count>>,
    ) {
        let keys = self.keys.pin();
        let counters = match keys.get(key) {
            Some(counters) => counters,
            None if keys.len() < self.most => keys.get_or_insert_with(key.into(), Default::default),
            None => {
                if let Some(counter) = find() {
                    counter.count(1);
                }
                return;
            }
        };
        if let Some(counter) = counters[told as usize].get_or_init(find) {
            counter.count(1);
        }
    }
}

impl fmt::Debug for Usual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usual").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}
