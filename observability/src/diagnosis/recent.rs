use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{snapshot::EventRow, told::Note};

/// How far back an event is looked for that the newest one repeats.
const FOLDED_AMONG: usize = 16;
/// An event that repeats one older than this begins anew.
const FOLDED_WITHIN_MS: u64 = 10_000;

/// The last so many events.
#[derive(Debug)]
pub(super) struct Recent {
    ring: Mutex<Ring>,
    most: usize,
    missed: AtomicU64,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    at_ms: u64,
    last_ms: u64,
    times: u64,
    key: Box<str>,
    note: Note,
}

impl Recent {
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self { ring: Mutex::default(), most: most.get(), missed: AtomicU64::new(0) }
    }

    /// Notes an event. One of a kind that comes with every call is not worth a wait: where another
    /// is being noted, it is only counted.
    pub(super) fn note(&self, key: &str, note: Note, now_ms: u64) {
        let mut ring = if note.is_frequent {
            match self.ring.try_lock() {
                Ok(ring) => ring,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    self.missed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        } else {
            self.lock()
        };
        if note.is_frequent && ring.fold(key, note, now_ms) {
            return;
        }
        while ring.entries.len() >= self.most {
            ring.entries.pop_front();
        }
        let number = ring.next_number;
        ring.next_number += 1;
        let (at_ms, last_ms, key) = (now_ms, now_ms, key.into());
        ring.entries.push_back(Entry { number, at_ms, last_ms, times: 1, key, note });
    }

    /// Oldest first.
    pub(super) fn rows(&self) -> Vec<EventRow> {
        self.lock().entries.iter().map(Entry::row).collect()
    }

    /// How many were not noted.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Counts the event where the same stands already. Says whether it did.
    fn fold(&mut self, key: &str, note: Note, now_ms: u64) -> bool {
        let mut newest = self.entries.iter_mut().rev().take(FOLDED_AMONG);
        let same = newest.find(|entry| entry.note.is_like(&note) && *entry.key == *key);
        let Some(entry) =
            same.filter(|entry| now_ms.saturating_sub(entry.last_ms) <= FOLDED_WITHIN_MS)
        else {
            return false;
        };
        entry.times = entry.times.saturating_add(1);
        entry.last_ms = now_ms;
        entry.note = note;
        true
    }
}

impl Entry {
    fn row(&self) -> EventRow {
        EventRow {
            number: self.number,
            at_ms: self.at_ms,
            last_ms: self.last_ms,
            times: self.times,
            source: self.note.source,
            key: self.key.to_string(),
            kind: self.note.kind,
            level: self.note.level.word(),
            text: self.note.told.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{parts::Change, told::Told};

    fn note(change: Change, is_frequent: bool) -> Note {
        Note { is_frequent, ..Note::of(Told::ByHand(change)) }
    }

    #[test]
    fn the_oldest_events_give_way_and_numbers_go_on() {
        let recent = Recent::new(NonZeroUsize::new(2).unwrap());
        for at in 0..5 {
            recent.note("a", note(Change::Reset, false), at);
        }
        let rows: Vec<_> = recent.rows().iter().map(|row| (row.number, row.at_ms)).collect();
        assert_eq!(rows, [(3, 3), (4, 4)]);
    }

    #[test]
    fn a_flood_of_one_kind_is_one_event_with_a_count_and_pushes_nothing_out() {
        let recent = Recent::new(NonZeroUsize::new(4).unwrap());
        recent.note("a", note(Change::Reset, false), 0);
        for at in 1..1_001 {
            recent.note("a", note(Change::Shadow, true), at);
            recent.note("b", note(Change::Shadow, true), at);
        }
        let rows: Vec<_> = recent.rows().into_iter().map(|row| (row.key, row.times)).collect();
        assert_eq!(rows, [("a".to_owned(), 1), ("a".to_owned(), 1_000), ("b".to_owned(), 1_000)]);
        assert_eq!(recent.rows()[1].last_ms, 1_000);
    }

    #[test]
    fn what_happens_again_after_a_pause_is_an_event_of_its_own() {
        let recent = Recent::new(NonZeroUsize::new(4).unwrap());
        recent.note("a", note(Change::Shadow, true), 0);
        recent.note("a", note(Change::Shadow, true), FOLDED_WITHIN_MS);
        recent.note("a", note(Change::Shadow, true), 2 * FOLDED_WITHIN_MS + 1);
        let times: Vec<_> = recent.rows().iter().map(|row| row.times).collect();
        assert_eq!(times, [2, 1]);
    }

    #[test]
    fn a_frequent_event_waits_for_nobody() {
        let recent = Recent::new(NonZeroUsize::MIN);
        let held = recent.lock();
        recent.note("a", note(Change::Shadow, true), 0);
        drop(held);
        assert_eq!((recent.rows().len(), recent.missed()), (0, 1));
    }
}
