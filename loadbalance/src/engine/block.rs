use std::sync::{Arc, Weak};

use super::{Load, Seat};

/// Seats and loads of some endpoints, side by side: a bank of seats for each lane.
///
/// A call counts itself among the owners of its lane's bank, so that neither an allocation nor a
/// count of owners stands for one endpoint alone: with thousands of endpoints those would be in no
/// cache. A block is freed with the last of its endpoints and calls.
#[derive(Debug)]
pub(crate) struct Block {
    banks: Box<[Arc<[Seat]>]>,
    loads: Arc<[Load]>,
    /// What endpoints keep of the banks: a seat keeps its endpoint, not the other way round.
    weak: Arc<[Weak<[Seat]>]>,
}

impl Block {
    /// The most endpoints of a block: so many that the counts of owners of a lane's banks stay in
    /// the first cache beside ten thousand endpoints, and so few that one which stays keeps no more
    /// than 16 kB and as much for each lane alive.
    const MOST: usize = 256;

    /// How many endpoints the next block should have room for, beside `present` ones.
    pub(crate) fn room_beside(present: usize) -> usize {
        present.next_power_of_two().clamp(4, Self::MOST)
    }

    pub(crate) fn new(room: usize, lanes: usize) -> Self {
        let bank = |_| (0..room).map(|_| Seat::default()).collect();
        let banks: Box<[Arc<[Seat]>]> = (0..lanes).map(bank).collect();
        let weak = banks.iter().map(Arc::downgrade).collect();
        Self { banks, loads: (0..room).map(|_| Load::default()).collect(), weak }
    }

    pub(crate) fn room(&self) -> usize {
        self.loads.len()
    }

    /// A bank for each lane.
    pub(crate) const fn banks(&self) -> &[Arc<[Seat]>] {
        &self.banks
    }

    pub(crate) const fn loads(&self) -> &Arc<[Load]> {
        &self.loads
    }

    pub(super) const fn weak_banks(&self) -> &Arc<[Weak<[Seat]>]> {
        &self.weak
    }
}

#[cfg(all(test, not(outrigger_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_a_cache_line_and_so_is_a_load() {
        assert_eq!((size_of::<Seat>(), align_of::<Seat>()), (64, 64));
        assert_eq!((size_of::<Load>(), align_of::<Load>()), (64, 64));
    }

    #[test]
    fn small_balancers_have_small_blocks() {
        assert_eq!([0, 3, 5, 256, 10_000].map(Block::room_beside), [4, 4, 8, 256, 256]);
    }
}
