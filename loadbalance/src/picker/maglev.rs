use super::{Candidates, PickEntry, alias::Alias, by_rendezvous};
use crate::{
    WithoutKey,
    hash::{mix, reduce},
};

/// Google's Maglev table (Eisenbud et al., NSDI 2016, section 3.4), with weights as in Envoy: an
/// endpoint of half the highest weight has a turn every other round.
#[derive(Debug)]
pub(crate) struct Maglev {
    /// The owner of each slot.
    table: Box<[u32]>,
    alias: Alias,
    without_key: WithoutKey,
}

/// How many other slots to try before all endpoints are looked at.
const TRIES: u64 = 32;

impl Maglev {
    pub(super) fn build(entries: &[PickEntry], size: usize, without_key: WithoutKey) -> Self {
        Self { table: table(entries, size), alias: Alias::build(entries), without_key }
    }

    pub(super) const fn without_key(&self) -> WithoutKey {
        self.without_key
    }

    pub(super) fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        let Some(key) = candidates.key() else { return self.alias.pick(candidates) };
        let owner = self.owner(key.get())?;
        if candidates.is_usable(owner) {
            return Some(owner);
        }
        (1..=TRIES)
            .filter_map(|n| self.owner(mix(key.get().wrapping_add(n))))
            .find(|owner| candidates.is_usable(*owner))
            .or_else(|| by_rendezvous(key, self.alias.entries(), candidates))
    }

    pub(super) fn owner(&self, hash: u64) -> Option<u32> {
        self.table.get(reduce(hash, self.table.len())).copied()
    }

    #[cfg(test)]
    fn of(&self, key: u64) -> u32 {
        self.owner(crate::HashKey::of(key.to_le_bytes()).get()).expect("a table with endpoints")
    }
}

/// Where an endpoint stands in its own permutation of the slots.
struct Turn {
    owner: u32,
    weight: u64,
    slot: usize,
    skip: usize,
    /// In which round, times the highest weight, it has its next turn.
    due: u64,
}

fn table(entries: &[PickEntry], size: usize) -> Box<[u32]> {
    let Some(highest) = entries.iter().map(|entry| u64::from(entry.weight)).max() else {
        return Box::default();
    };
    let mut sorted: Vec<_> = entries.to_vec();
    // So that the order in which endpoints are listed does not matter.
    sorted.sort_unstable_by_key(|entry| entry.id);
    let turn = |entry: PickEntry| Turn {
        owner: entry.index,
        weight: u64::from(entry.weight),
        slot: reduce(mix(entry.id), size),
        skip: reduce(mix(mix(entry.id)), size - 1) + 1,
        due: highest,
    };
    let mut turns: Vec<Turn> = sorted.into_iter().map(turn).collect();
    let mut table = vec![0; size].into_boxed_slice();
    let mut filled = Slots::new(size);
    let mut left = size;
    for round in 1_u64.. {
        for turn in &mut turns {
            if round * turn.weight < turn.due {
                continue;
            }
            turn.due += highest;
            while filled.contains(turn.slot) {
                turn.slot = stepped(turn.slot, turn.skip, size);
            }
            filled.insert(turn.slot);
            table[turn.slot] = turn.owner;
            left -= 1;
            if left == 0 {
                return table;
            }
        }
    }
    table
}

const fn stepped(slot: usize, skip: usize, size: usize) -> usize {
    let next = slot + skip;
    if next >= size { next - size } else { next }
}

/// A bit for each slot: small enough for the first cache.
struct Slots(Box<[u64]>);

impl Slots {
    fn new(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)].into())
    }

    fn contains(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 == 1
    }

    fn insert(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::endpoint_id;

    fn entries(weights: &[u32]) -> Vec<PickEntry> {
        let entry = |(index, &weight): (u32, &u32)| PickEntry {
            index,
            weight,
            id: endpoint_id(&format!("host-{index}")),
        };
        (0..).zip(weights).map(entry).collect()
    }

    fn slots(table: &[u32], n: usize) -> Vec<usize> {
        let mut slots = vec![0; n];
        for owner in table {
            slots[*owner as usize] += 1;
        }
        slots
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "counts of slots")]
    fn slots_are_even_to_one_and_follow_the_weights() {
        let even = slots(&table(&entries(&[1; 100]), 65_537), 100);
        assert!(even.iter().max().unwrap() - even.iter().min().unwrap() <= 1);
        let weighted = slots(&table(&entries(&[1, 2, 4]), 65_537), 3);
        assert!((weighted[1] as f64 / weighted[0] as f64 - 2.0).abs() < 0.001);
        assert!((weighted[2] as f64 / weighted[0] as f64 - 4.0).abs() < 0.001);
        let skewed = slots(&table(&entries(&[u32::MAX, 1]), 65_537), 2);
        assert_eq!(skewed, [65_537, 0]);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let entries = entries(&[1; 50]);
        let mut turned = entries.clone();
        turned.rotate_left(17);
        assert_eq!(table(&entries, 5_003), table(&turned, 5_003));
    }

    #[test]
    fn the_mapping_is_the_same_in_every_process_and_version() {
        let maglev = Maglev::build(&entries(&[1; 10]), 65_537, WithoutKey::Random);
        let owners: Vec<u32> = (0..24).map(|key| maglev.of(key)).collect();
        assert_eq!(owners, GOLDEN);
    }

    #[test]
    fn an_empty_table_owns_nothing() {
        assert!(table(&[], 65_537).is_empty());
    }

    /// Computed by an independent program from the documented rule. It must never change.
    const GOLDEN: [u32; 24] =
        [1, 4, 5, 6, 7, 6, 3, 4, 4, 0, 1, 0, 6, 7, 4, 4, 3, 9, 4, 5, 1, 2, 8, 1];
}
