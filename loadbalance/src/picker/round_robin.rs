use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Candidates, PickEntry};
use crate::hash::mix;

/// One endpoint after the other along a fixed sequence.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    sequence: Box<[u32]>,
    entries: Box<[PickEntry]>,
    /// One for each lane, so that threads do not share a cache line.
    cursors: Box<[Cursor]>,
}

#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Cursor(pub(super) AtomicU64);

/// Sequences longer than this (or 8 per endpoint) are shortened by rounding the weights.
const LONGEST: u64 = 1 << 16;

/// How many turns one pick may use up before all endpoints are looked at.
const TURNS: usize = 64;

impl RoundRobin {
    /// Each endpoint as often, whatever its weight.
    pub(super) fn plain(entries: &[PickEntry], lanes: usize, seed: u64) -> Self {
        let entries: Box<[PickEntry]> =
            entries.iter().map(|entry| PickEntry { weight: 1, ..*entry }).collect();
        let sequence = entries.iter().map(|entry| entry.index).collect();
        Self::along(sequence, entries, lanes, seed)
    }

    /// Each endpoint in proportion to its weight, evenly spread.
    pub(super) fn smooth(entries: &[PickEntry], lanes: usize, seed: u64) -> Self {
        Self::along(spread(entries), entries.into(), lanes, seed)
    }

    /// Starts at a random place in each lane, so that callers do not go round in step.
    fn along(sequence: Box<[u32]>, entries: Box<[PickEntry]>, lanes: usize, seed: u64) -> Self {
        let start = |lane| Cursor(AtomicU64::new(mix(seed ^ lane) >> 1));
        Self { sequence, entries, cursors: (0..lanes.max(1) as u64).map(start).collect() }
    }

    /// An endpoint that is not usable loses its turn; its neighbour does not get it on top.
    pub(super) fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        let cursor = &self.cursors[candidates.lane() % self.cursors.len()].0;
        let n = self.sequence.len() as u64;
        for _ in 0..TURNS.min(self.sequence.len()) {
            let turn = cursor.fetch_add(1, Ordering::Relaxed);
            #[expect(clippy::cast_possible_truncation, reason = "below the sequence's length")]
            let index = self.sequence[(turn % n) as usize];
            if candidates.accepts(index) {
                return Some(index);
            }
        }
        candidates.scan(&self.entries)
    }
}

/// A sequence in which each endpoint appears in proportion to its weight at even distances:
/// earliest deadline first, where turn `k` of an endpoint is due at `(k + phase) / weight`. Phases
/// differ, so that equals do not crowd. Over any stretch nobody is more than about a turn ahead or
/// behind. O(length · log n).
fn spread(entries: &[PickEntry]) -> Box<[u32]> {
    let weights = shortened(entries);
    let length: u64 = weights.iter().sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an order of turns; a cast to u64 saturates"
    )]
    let due = |at: usize, turn: u64| {
        // The golden ratio keeps phases apart; in (0, 1).
        let phase = (0.5 + 0.618_033_988_749_895 * at as f64).fract();
        ((turn as f64 + phase) / weights[at] as f64 * 2_f64.powi(48)) as u64
    };
    let mut queue: BinaryHeap<_> =
        (0..entries.len()).map(|at| Reverse((due(at, 0), at, 0_u64))).collect();
    let mut sequence = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    for _ in 0..length {
        let Some(mut first) = queue.peek_mut() else { break };
        let Reverse((_, at, turn)) = *first;
        sequence.push(entries[at].index);
        *first = Reverse((due(at, turn + 1), at, turn + 1));
    }
    sequence.into()
}

/// The weights without their common divisor, rounded when the sequence would be too long.
fn shortened(entries: &[PickEntry]) -> Vec<u64> {
    let weights = entries.iter().map(|entry| u64::from(entry.weight));
    let divisor = weights.clone().fold(0, gcd).max(1);
    let weights: Vec<u64> = weights.map(|weight| weight / divisor).collect();
    let total: u64 = weights.iter().sum();
    let longest = LONGEST.max(8 * entries.len() as u64);
    if total <= longest {
        return weights;
    }
    let rounded = |weight: u64| {
        let rounded =
            (u128::from(weight) * u128::from(longest) + u128::from(total / 2)) / u128::from(total);
        u64::try_from(rounded).unwrap_or(longest).max(1)
    };
    weights.into_iter().map(rounded).collect()
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(weights: &[u32]) -> Vec<PickEntry> {
        (0..).zip(weights).map(|(index, &weight)| PickEntry { index, weight, id: 1 }).collect()
    }

    #[test]
    fn a_sequence_holds_each_weight_exactly_and_is_no_longer_than_needed() {
        let sequence = spread(&entries(&[10, 20, 30]));
        let turns = |of: u32| sequence.iter().filter(|index| **index == of).count();
        assert_eq!(sequence.len(), 6);
        assert_eq!([turns(0), turns(1), turns(2)], [1, 2, 3]);
    }

    #[test]
    fn nobody_is_more_than_a_turn_ahead_or_behind_at_any_point() {
        for weights in [&[5, 1, 1][..], &[7, 3, 2, 1], &[100, 1], &[1; 10], &[13, 11, 7, 5, 3]] {
            let sequence = spread(&entries(weights));
            let total: u32 = weights.iter().sum();
            let mut turns = vec![0.0; weights.len()];
            for (played, index) in (1_u32..).zip(&sequence) {
                turns[*index as usize] += 1.0;
                for (turns, &weight) in turns.iter().zip(weights) {
                    let due = f64::from(played) * f64::from(weight) / f64::from(total);
                    assert!((turns - due).abs() <= 1.5, "{weights:?}: {turns} of {due}");
                }
            }
        }
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "counts of turns")]
    fn huge_weights_need_no_huge_sequence() {
        let sequence = spread(&entries(&[u32::MAX, u32::MAX / 2, 1]));
        assert!(sequence.len() <= 70_000, "{}", sequence.len());
        let turns = |of: u32| sequence.iter().filter(|index| **index == of).count() as f64;
        assert!((turns(0) / turns(1) - 2.0).abs() < 0.001);
        assert!(turns(2) >= 1.0, "a small weight still has its turn");
    }

    #[test]
    fn nobody_is_in_an_empty_sequence() {
        assert!(spread(&[]).is_empty());
    }
}
