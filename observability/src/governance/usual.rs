use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    sync::{Arc, OnceLock},
};

use foldhash::fast::RandomState;

use crate::meter::Count;

/// The counters that each call counts into, at hand by the key alone: a series is otherwise found
/// by all its labels, which costs as much as all else that a good call tells.
///
/// A place is filled once and never emptied, so reading it takes no lock and no guard.
pub(super) struct Usual {
    /// As many as a power of two.
    places: Box<[OnceLock<Box<AtHand>>]>,
    hasher: RandomState,
}

struct AtHand {
    key: Box<str>,
    counters: [Counter; 2],
}

/// Found at its first use. `None` where the user made another instrument of the series.
type Counter = OnceLock<Option<Arc<dyn Count>>>;

/// What is told of each call whose first attempt is good.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    FirstSent,
    Succeeded,
}

/// So many keys at most are at hand, in 16 KiB and what they need themselves.
const MOST: usize = 1_024;
/// How many places are looked at for one key.
const PROBES: usize = 8;

impl Usual {
    /// At hand are about as many keys as there may be series; those of the others are found each
    /// time.
    pub(super) fn new(most: usize) -> Self {
        let places = most.min(MOST).next_power_of_two();
        let places = (0..places).map(|_| OnceLock::new()).collect();
        Self { places, hasher: RandomState::default() }
    }

    /// Counts one into the counter that `find` finds for this key.
    #[inline]
    pub(super) fn count(
        &self,
        key: &str,
        told: Told,
        find: impl FnOnce() -> Option<Arc<dyn Count>>,
    ) {
        match self.at_hand(key) {
            Some(at_hand) => {
                if let Some(counter) = at_hand.counters[told as usize].get_or_init(find) {
                    counter.count(1);
                }
            }
            None => {
                if let Some(counter) = find() {
                    counter.count(1);
                }
            }
        }
    }

    /// The key's place; `None` if others have all those that it could have.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower bits of a hash are one too")]
    fn at_hand(&self, key: &str) -> Option<&AtHand> {
        // The bytes alone: nothing follows them that they could be mistaken for.
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        let first = hasher.finish() as usize;
        match self.place(first).get() {
            Some(at_hand) if *at_hand.key == *key => Some(at_hand),
            _ => self.search(first, key),
        }
    }

    /// For a key that is new, or not where it should be.
    #[cold]
    fn search(&self, first: usize, key: &str) -> Option<&AtHand> {
        (0..PROBES).find_map(|step| {
            let place = self.place(first.wrapping_add(step));
            let at_hand = place.get_or_init(|| Box::new(AtHand::new(key)));
            (*at_hand.key == *key).then_some(&**at_hand)
        })
    }

    fn place(&self, at: usize) -> &OnceLock<Box<AtHand>> {
        &self.places[at & (self.places.len() - 1)]
    }
}

impl AtHand {
    fn new(key: &str) -> Self {
        Self { key: key.into(), counters: [OnceLock::new(), OnceLock::new()] }
    }
}

impl fmt::Debug for Usual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.places.iter().filter(|place| place.get().is_some()).count();
        f.debug_struct("Usual").field("keys", &keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_keys_are_at_hand_as_there_are_places_each_with_its_own() {
        let usual = Usual::new(PROBES);
        let keys: Vec<_> = (0..PROBES).map(|n| format!("shop.Cart/Get{n}")).collect();
        for _ in 0..2 {
            for key in &keys {
                assert_eq!(usual.at_hand(key).map(|at_hand| &*at_hand.key), Some(&**key));
            }
        }
        assert!(usual.at_hand("one too many").is_none());
    }
}
