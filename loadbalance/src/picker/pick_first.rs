use std::cmp::Reverse;

use super::{Candidates, PickEntry};
use crate::hash::mix;

/// The first who is usable.
#[derive(Debug)]
pub(crate) struct PickFirst {
    order: Box<[u32]>,
}

impl PickFirst {
    /// In the order of the keys, or of `shuffle`: who is first stays so, whoever comes or goes.
    pub(super) fn build(entries: &[PickEntry], shuffle: Option<u64>) -> Self {
        let mut entries = entries.to_vec();
        if let Some(seed) = shuffle {
            entries.sort_by_key(|entry| Reverse(mix(entry.id ^ seed)));
        }
        Self { order: entries.iter().map(|entry| entry.index).collect() }
    }

    pub(super) fn pick(&self, candidates: &Candidates<'_>) -> Option<u32> {
        self.order.iter().copied().find(|index| candidates.is_usable(*index))
    }
}
