use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{Candidates, PickEntry};
use crate::{engine::Moment, hash::reduce};

/// Weighted by what the endpoints report (gRPC's A58), at random: one is drawn evenly and accepted
/// with the probability of its weight over the highest, so that no index is rebuilt when weights
/// change.
#[derive(Debug)]
pub(crate) struct ByReport {
    entries: Box<[PickEntry]>,
    summary: Summary,
}

/// What all weights come to; taken again once a second by whichever call is first.
#[derive(Debug, Default)]
struct Summary {
    due: AtomicU64,
    /// The bits of an `f64`; 0: fewer than two endpoints report.
    highest: AtomicU64,
    mean: AtomicU64,
    taking: Mutex<()>,
}

const UPDATE_NANOS: u64 = 1_000_000_000;
const DRAWS: u32 = 64;

impl ByReport {
    pub(super) fn build(entries: &[PickEntry]) -> Self {
        Self { entries: entries.into(), summary: Summary::default() }
    }

    pub(super) fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        let now = candidates.now();
        if now.nanos() >= self.summary.due.load(Ordering::Relaxed) {
            self.summarise(now, candidates);
        }
        let highest = f64::from_bits(self.summary.highest.load(Ordering::Relaxed));
        let mean = f64::from_bits(self.summary.mean.load(Ordering::Relaxed));
        for _ in 0..DRAWS {
            let at = reduce(candidates.random(), self.entries.len());
            let index = self.entries.get(at)?.index;
            if !candidates.accepts(index) {
                continue;
            }
            let weight = candidates.node(index).reported_weight(now).unwrap_or(mean);
            if highest <= 0.0 || candidates.rng().f64() * highest < weight {
                return Some(index);
            }
        }
        candidates.scan(&self.entries)
    }

    fn summarise(&self, now: Moment, candidates: &Candidates<'_>) {
        let Ok(_one_at_a_time) = self.summary.taking.try_lock().or_else(|error| match error {
            std::sync::TryLockError::Poisoned(poisoned) => Ok(PoisonError::into_inner(poisoned)),
            std::sync::TryLockError::WouldBlock => Err(()),
        }) else {
            return;
        };
        let (mut sum, mut highest, mut usable) = (0.0, 0.0_f64, 0_u32);
        for entry in &self.entries {
            if let Some(weight) = candidates.node(entry.index).reported_weight(now) {
                sum += weight;
                highest = highest.max(weight);
                usable += 1;
            }
        }
        let (highest, mean) =
            if usable < 2 { (0.0, 0.0) } else { (highest, sum / f64::from(usable)) };
        self.summary.highest.store(highest.to_bits(), Ordering::Relaxed);
        self.summary.mean.store(mean.to_bits(), Ordering::Relaxed);
        self.summary.due.store(now.nanos().saturating_add(UPDATE_NANOS), Ordering::Relaxed);
    }
}
