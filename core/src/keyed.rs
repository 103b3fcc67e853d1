use std::{
    fmt,
    hash::Hash,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use equivalent::Equivalent;
use foldhash::fast::RandomState;

/// Whether nothing would be lost if this value were made again from scratch.
pub trait Idle {
    /// A closed breaker, a limit with nobody inside, a full bucket.
    fn is_idle(&self) -> bool;

    /// Whether it was used since it was asked last, other than by [`Keyed::with`]: by a holder
    /// that has it at hand and looks its key up no more. That counts as if the key were looked up.
    /// Asked once in each round of eviction. `false` unless implemented.
    fn was_used(&self) -> bool {
        false
    }

    /// It was taken out, to make room or by [`Keyed::remove`]. Told before the call that took it
    /// out returns, while it may still be in use: when it is dropped is not said. Does nothing
    /// unless implemented.
    fn evicted(&self) {}
}

/// State per key, made on first use, with a cap on the number of keys.
///
/// Looking a key up takes no lock, so that threads that share a busy key do not wait for each
/// other. When the cap is reached, a new key takes the place of keys that were not used lately:
/// idle ones first (see [`Idle`]). The cap holds always, even when none is idle: then it is what was not
/// used lately, and at last any, that gives way.
///
/// The rule for "lately" is the CLOCK algorithm (Corbató, 1968): each use after the first marks its
/// key, each round of eviction takes away marks and removes what had none. A value that is used
/// past the table says so by [`Idle::was_used`].
pub struct Keyed<K, V> {
    entries: papaya::HashMap<K, Entry<V>, RandomState>,
    capacity: NonZeroUsize,
    /// Held while a key is added; looking up never takes it.
    adding: Mutex<()>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    used: AtomicBool,
}

impl<V> Entry<V> {
    fn mark_used(&self) {
        // Looked at first, so that a busy key's cache line stays shared between its readers.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl<K, V> Keyed<K, V>
where
    K: Hash + Eq,
    V: Idle,
{
    /// Holds at most `capacity` keys.
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            entries: papaya::HashMap::with_hasher(RandomState::default()),
            capacity,
            adding: Mutex::new(()),
        }
    }

    /// Gives the value of `key` to `use_it`; makes it with `make` on first use.
    pub fn with<R>(
        &self,
        key: &(impl Equivalent<K> + Hash + ?Sized),
        make: impl FnOnce() -> (K, V),
        use_it: impl FnOnce(&V) -> R,
    ) -> R {
        let entries = self.entries.pin();
        if let Some(entry) = entries.get(key) {
            entry.mark_used();
            return use_it(&entry.value);
        }
        // Made before the lock is taken, since `make` is not ours.
        let (new_key, value) = make();
        let entry = {
            let _adding = self.lock();
            if let Some(entry) = entries.get(key) {
                entry
            } else {
                self.make_room();
                entries.get_or_insert(new_key, Entry { value, used: AtomicBool::new(false) })
            }
        };
        use_it(&entry.value)
    }

    /// Gives the value of `key` to `use_it`, if there is one. Does not count as a use.
    pub fn peek<R>(
        &self,
        key: &(impl Equivalent<K> + Hash + ?Sized),
        use_it: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        self.entries.pin().get(key).map(|entry| use_it(&entry.value))
    }

    /// Shows every key with its value, in no order. Does not count as a use.
    pub fn for_each(&self, mut show: impl FnMut(&K, &V)) {
        for (key, entry) in &self.entries.pin() {
            show(key, &entry.value);
        }
    }

    /// Forgets `key`. Says whether it was there.
    pub fn remove(&self, key: &(impl Equivalent<K> + Hash + ?Sized)) -> bool {
        let entries = self.entries.pin();
        let removed = entries.remove(key);
        if let Some(entry) = removed {
            entry.value.evicted();
        }
        removed.is_some()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys there can be.
    #[must_use]
    pub const fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.adding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes an eighth of the keys when the cap is reached, so that a flood of new keys pays for
    /// a round of eviction only now and then. Called with the lock held.
    fn make_room(&self) {
        let capacity = self.capacity.get();
        let len = self.entries.len();
        if len < capacity {
            return;
        }
        let wanted = (capacity / 8).max(1) + (len - capacity);
        let mut removed = 0;
        self.mark_what_says_it_was_used();
        for round in Round::ALL {
            removed += self.evict(round, wanted - removed);
            if removed >= wanted {
                break;
            }
        }
        self.take_marks_away();
    }

    /// What is left has to be used again to count as used lately.
    fn take_marks_away(&self) {
        for (_, entry) in &self.entries.pin() {
            entry.used.store(false, Ordering::Relaxed);
        }
    }

    fn mark_what_says_it_was_used(&self) {
        for (_, entry) in &self.entries.pin() {
            if entry.value.was_used() {
                entry.mark_used();
            }
        }
    }

    /// Spreads what goes over the whole table. Taken from its front, the rest would in time crowd
    /// at its back, where the map of papaya 0.2 looks for room in tables of the same size for ever.
    fn evict(&self, round: Round, at_most: usize) -> usize {
        let entries = self.entries.pin();
        let candidates = entries.iter().filter(|(_, entry)| round.takes(entry)).count();
        let (mut removed, mut share) = (0, 0);
        for (key, entry) in &entries {
            if round.takes(entry) && removed < at_most {
                share += at_most;
                if share >= candidates {
                    share -= candidates;
                    removed += usize::from(self.remove(key));
                }
            }
        }
        removed
    }
}

/// What goes, in this order, until there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    IdleAndUnused,
    Idle,
    Unused,
    Any,
}

impl Round {
    const ALL: [Self; 4] = [Self::IdleAndUnused, Self::Idle, Self::Unused, Self::Any];

    fn takes<V: Idle>(self, entry: &Entry<V>) -> bool {
        match self {
            Self::IdleAndUnused => !entry.used.load(Ordering::Relaxed) && entry.value.is_idle(),
            Self::Idle => entry.value.is_idle(),
            Self::Unused => !entry.used.load(Ordering::Relaxed),
            Self::Any => true,
        }
    }
}

impl<K, V> fmt::Debug for Keyed<K, V>
where
    K: Hash + Eq + fmt::Debug,
    V: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.pin();
        let values = entries.iter().map(|(key, entry)| (key, &entry.value));
        f.debug_map().entries(values).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;

    struct Value {
        idle: bool,
        evicted: Arc<AtomicUsize>,
    }

    impl Idle for Value {
        fn is_idle(&self) -> bool {
            self.idle
        }

        fn evicted(&self) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn keyed(capacity: usize) -> Keyed<u64, Value> {
        Keyed::new(NonZeroUsize::new(capacity).unwrap())
    }

    fn touch(keyed: &Keyed<u64, Value>, key: u64, idle: bool) {
        keyed.with(&key, || (key, Value { idle, evicted: Arc::default() }), |_| ());
    }

    #[test]
    fn what_goes_is_told_so_at_once_and_once() {
        let keyed = keyed(8);
        let told: Vec<_> = (0..100).map(|_| Arc::<AtomicUsize>::default()).collect();
        for (key, evicted) in told.iter().enumerate() {
            let value = || Value { idle: key % 2 == 0, evicted: Arc::clone(evicted) };
            keyed.with(&(key as u64), || (key as u64, value()), |_| ());
            keyed.for_each(|key, value| {
                assert_eq!(value.evicted.load(Ordering::Relaxed), 0, "{key} is there");
            });
        }
        assert!(keyed.remove(&99) && !keyed.remove(&99));
        for (key, evicted) in told.iter().enumerate() {
            let is_gone = keyed.peek(&(key as u64), |_| ()).is_none();
            assert_eq!(evicted.load(Ordering::Relaxed), usize::from(is_gone), "{key}");
        }
    }

    #[test]
    fn a_flood_of_keys_stays_within_the_cap_and_spares_the_busy_and_the_not_idle() {
        let keyed = keyed(64);
        touch(&keyed, 0, false);
        for key in 2..100_000 {
            touch(&keyed, 1, true);
            touch(&keyed, key, true);
            assert!(keyed.len() <= 64, "{} keys", keyed.len());
        }
        assert!(keyed.peek(&0, |_| ()).is_some(), "not idle");
        assert!(keyed.peek(&1, |_| ()).is_some(), "busy");
    }

    #[test]
    fn where_none_is_idle_what_was_used_lately_is_spared() {
        let (keyed, evicted) = (keyed(64), Arc::<AtomicUsize>::default());
        let busy = || (0, Value { idle: false, evicted: Arc::clone(&evicted) });
        for key in 1..100_000 {
            keyed.with(&0, busy, |_| ());
            touch(&keyed, key, false);
            assert!(keyed.len() <= 64, "{} keys", keyed.len());
        }
        assert_eq!(evicted.load(Ordering::Relaxed), 0);
    }

    /// Sizes just below a power of two leave the table of the map least room.
    #[test]
    fn a_flood_of_keys_never_hangs_in_making_room() {
        for capacity in [2_000, 4_000, 10_000] {
            let keyed = keyed(capacity);
            (0..150_000).for_each(|key| touch(&keyed, key, key % 16 != 0));
            assert!(keyed.len() <= capacity);
        }
    }

    #[derive(Default)]
    struct AtHand {
        used: AtomicBool,
        asked: AtomicUsize,
    }

    impl Idle for Arc<AtHand> {
        fn is_idle(&self) -> bool {
            true
        }

        fn was_used(&self) -> bool {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.used.swap(false, Ordering::Relaxed)
        }
    }

    #[test]
    fn what_says_that_it_was_used_past_the_table_stays_and_is_asked_once_a_round() {
        let keyed = Keyed::<u64, Arc<AtHand>>::new(NonZeroUsize::new(64).unwrap());
        let busy = Arc::new(AtHand::default());
        keyed.with(&0, || (0, Arc::clone(&busy)), |_| ());
        let flood = |keys: std::ops::Range<u64>, is_used: bool| {
            for key in keys {
                busy.used.store(is_used, Ordering::Relaxed);
                keyed.with(&key, || (key, Arc::default()), |_| ());
            }
            keyed.peek(&0, |_| ()).is_some()
        };
        assert!(flood(1..10_000, true), "it said that it was used");
        // 64 come in before the first round, and an eighth of them before each that follows.
        assert_eq!(busy.asked.load(Ordering::Relaxed), (10_000 - 64_usize).div_ceil(8));
        assert!(!flood(10_000..20_000, false), "it is used no more");
    }

    #[test]
    fn the_cap_holds_even_when_no_key_is_idle() {
        let keyed = keyed(8);
        (0..100).for_each(|key| touch(&keyed, key, false));
        assert!(keyed.len() <= 8);
        assert!(keyed.peek(&99, |_| ()).is_some());
    }

    #[test]
    fn two_threads_that_meet_at_a_new_key_share_one_value() {
        let keyed: Keyed<u64, Counter> = Keyed::new(NonZeroUsize::MIN);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for key in 0..1_000 {
                        let add = |counter: &Counter| counter.0.fetch_add(1, Ordering::Relaxed);
                        keyed.with(&7, || (7, Counter::default()), add);
                        let _ = key;
                    }
                });
            }
        });
        assert_eq!(keyed.peek(&7, |counter| counter.0.load(Ordering::Relaxed)), Some(2_000));
    }

    #[derive(Default)]
    struct Counter(std::sync::atomic::AtomicU64);

    impl Idle for Counter {
        fn is_idle(&self) -> bool {
            true
        }
    }
}
