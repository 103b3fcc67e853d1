use std::sync::{
    Mutex, MutexGuard, PoisonError, TryLockError,
    atomic::{AtomicU16, AtomicU64, Ordering},
};

use super::{Candidates, PickEntry, round_robin::Cursor};
use crate::{engine::Stamp, hash::mix};

/// Weighted by what the endpoints report (gRPC's A58), along gRPC's static stride: turns go round
/// the endpoints, and one of a share `s` of the highest weight takes `s` of its turns, evenly
/// spread. No index is rebuilt when weights change, and over any stretch nobody is more than about
/// a turn ahead or behind, where chance would be off by the root of their number.
#[derive(Debug)]
pub(crate) struct ByReport {
    entries: Box<[PickEntry]>,
    /// Each one's share of the highest weight, in parts of [`WHOLE`].
    shares: Box<[AtomicU16]>,
    /// One for each lane, so that threads do not share a cache line.
    cursors: Box<[Cursor]>,
    /// When the weights are to be looked at again.
    due: AtomicU64,
    review: Mutex<Review>,
}

/// How far the present look at all weights has come. Calls do it bit by bit.
#[derive(Debug, Default)]
struct Review {
    stage: Stage,
    at: usize,
    sum: f64,
    highest: f64,
    reporting: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Asking,
    Sharing,
}

const WHOLE: u16 = u16::MAX;
const UPDATE_NANOS: u64 = 1_000_000_000;

/// How many endpoints one call looks at, at most.
const STEP: usize = 64;

/// How many turns one pick may use up before all endpoints are looked at.
const TURNS: usize = 256;

impl ByReport {
    pub(super) fn build(entries: &[PickEntry], lanes: usize, seed: u64) -> Self {
        let start = |lane| Cursor(AtomicU64::new(mix(seed ^ lane) >> 16));
        Self {
            entries: entries.into(),
            shares: entries.iter().map(|_| AtomicU16::new(WHOLE)).collect(),
            cursors: (0..lanes.max(1) as u64).map(start).collect(),
            due: AtomicU64::new(0),
            review: Mutex::default(),
        }
    }

    pub(super) fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        let now = candidates.now();
        if now.nanos() >= self.due.load(Ordering::Relaxed) {
            self.go_on(now, candidates);
        }
        let n = self.entries.len() as u64;
        let cursor = &self.cursors[candidates.lane() % self.cursors.len()].0;
        for _ in 0..TURNS.min(self.entries.len().saturating_mul(8)) {
            let turn = cursor.fetch_add(1, Ordering::Relaxed);
            #[expect(clippy::cast_possible_truncation, reason = "below the number of endpoints")]
            let at = (turn % n) as usize;
            let index = self.entries[at].index;
            if takes_turn(self.share(at), turn / n, at) && candidates.accepts(index) {
                return Some(index);
            }
        }
        let weights =
            (0..self.entries.len()).map(|at| (self.entries[at].index, f64::from(self.share(at))));
        candidates.scan_by(weights)
    }

    fn share(&self, at: usize) -> u16 {
        self.shares[at].load(Ordering::Relaxed)
    }

    /// Looks at some weights, unless another call is at it.
    fn go_on(&self, now: Stamp, candidates: &Candidates<'_>) {
        let Some(mut review) = one_at_a_time(&self.review) else { return };
        let end = (review.at + STEP).min(self.entries.len());
        for at in review.at..end {
            let weight = candidates.node(self.entries[at].index).reported_weight(now);
            match review.stage {
                Stage::Asking => review.ask(weight),
                Stage::Sharing => {
                    self.shares[at].store(review.share_of(weight), Ordering::Relaxed);
                }
            }
        }
        review.at = end;
        if end < self.entries.len() {
            return;
        }
        review.at = 0;
        if review.stage == Stage::Asking {
            review.stage = Stage::Sharing;
        } else {
            *review = Review::default();
            self.due.store(now.nanos().saturating_add(UPDATE_NANOS), Ordering::Relaxed);
        }
    }
}

impl Review {
    fn ask(&mut self, weight: Option<f64>) {
        let Some(weight) = weight else { return };
        self.sum += weight;
        self.highest = self.highest.max(weight);
        self.reporting += 1;
    }

    /// Its share of the highest weight; the mean's where it reports none. All alike while fewer
    /// than two report.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of the highest, which a report of this very moment may have passed"
    )]
    fn share_of(&self, weight: Option<f64>) -> u16 {
        if self.reporting < 2 {
            return WHOLE;
        }
        let weight = weight.unwrap_or(self.sum / f64::from(self.reporting));
        // Never none: it would report no more, and be left out until its weight is forgotten.
        ((weight / self.highest * f64::from(WHOLE)).round() as u16).max(1)
    }
}

/// Whether one with this share of the highest weight takes its turn in this round: as often as
/// `share · round`, and half a whole for every other endpoint, passes a multiple of the whole.
const fn takes_turn(share: u16, round: u64, at: usize) -> bool {
    let offset = at as u64 * (WHOLE as u64 / 2);
    let phase = (share as u64).wrapping_mul(round).wrapping_add(offset) % WHOLE as u64;
    phase >= (WHOLE - share) as u64
}

fn one_at_a_time(review: &Mutex<Review>) -> Option<MutexGuard<'_, Review>> {
    match review.try_lock() {
        Ok(review) => Some(review),
        Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_its_part_of_the_turns_and_is_never_far_ahead_or_behind() {
        for share in [1, 100, 13_107, 21_845, 32_767, 50_000, WHOLE] {
            for at in [0, 1, 2, 77] {
                let mut taken = 0.0;
                for round in 1_u32..=20_000 {
                    taken += f64::from(u8::from(takes_turn(share, u64::from(round), at)));
                    let due = f64::from(round) * f64::from(share) / f64::from(WHOLE);
                    assert!((taken - due).abs() <= 1.0, "{share} at {at}: {taken} of {due}");
                }
            }
        }
    }

    #[test]
    fn who_reports_nothing_has_the_mean_and_nobody_less_than_something() {
        let mut review = Review::default();
        assert_eq!(review.share_of(None), WHOLE);
        review.ask(Some(300.0));
        assert_eq!(review.share_of(Some(300.0)), WHOLE, "one alone is no measure");
        review.ask(Some(100.0));
        review.ask(None);
        let part = |share: u16| f64::from(share) / f64::from(WHOLE);
        assert!((part(review.share_of(Some(100.0))) - 1.0 / 3.0).abs() < 1e-4);
        assert!((part(review.share_of(None)) - 2.0 / 3.0).abs() < 1e-4);
        assert_eq!(review.share_of(Some(1e-9)), 1);
        assert_eq!(review.share_of(Some(1e9)), WHOLE);
    }
}
