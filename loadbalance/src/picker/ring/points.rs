use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;

use crate::HashKey;

/// Points around a ring, each somebody's, and whose any place between them is: that of the next
/// point.
///
/// Cut twice by the upper bits of the hash, since one large array is searched from one cache miss
/// to the next. Of each of many short arcs the owner is noted where no point lies within: most
/// look-ups are that one load. The others search a shard, a small [`HashRing`], which ends in the
/// point that follows it, so that a search never leaves it.
#[derive(Debug, Default)]
pub(super) struct Points {
    owners: Owners,
    /// How far to shift a place for its arc.
    arc_shift: u32,
    shards: Box<[HashRing<Point, AsTheyAre>]>,
    /// How far to shift a place for its shard.
    shard_shift: u32,
}

/// A place on the ring, the upper 32 bits of a hash, and whose it is, in the lower 32: so that
/// four points of a [`HashRing`] fill a cache line. Points at the same place are in the order of
/// their owners, and the first of them has the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point(u64);

impl Point {
    pub(super) const fn new(hash: u64, owner: u32) -> Self {
        Self(Self::at(hash).0 | owner as u64)
    }

    /// What comes before all points at the place of `hash`.
    pub(super) const fn at(hash: u64) -> Self {
        Self(hash >> 32 << 32)
    }

    /// What comes right after this point.
    pub(super) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(super) const fn owner(self) -> u32 {
        self.0 as u32
    }

    /// The first so many bits, as far as there are any.
    #[expect(clippy::cast_possible_truncation, reason = "as many bits as an index has")]
    fn shifted(self, shift: u32) -> usize {
        self.0.checked_shr(shift).unwrap_or(0) as usize
    }
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Points are well mixed already.
#[derive(Clone, Copy, Debug)]
struct AsTheyAre;

impl BuildHasher for AsTheyAre {
    type Hasher = PassThrough;

    fn build_hasher(&self) -> PassThrough {
        PassThrough(0)
    }
}

struct PassThrough(u64);

impl Hasher for PassThrough {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = HashKey::of(bytes).get();
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The owner of each arc, in two bytes while that is enough: less to miss in the cache.
#[derive(Debug)]
enum Owners {
    Narrow(Box<[u16]>),
    Wide(Box<[u32]>),
}

/// An arc with a point within: no endpoint has this index.
const CUT: u32 = u32::MAX;
const NARROW_CUT: u16 = u16::MAX;

impl Owners {
    /// The owner of an arc without a point.
    #[inline]
    fn get(&self, arc: usize) -> Option<u32> {
        match self {
            Self::Narrow(owners) => match *owners.get(arc)? {
                NARROW_CUT => None,
                owner => Some(owner.into()),
            },
            Self::Wide(owners) => owners.get(arc).copied().filter(|owner| *owner != CUT),
        }
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self::Narrow(Box::default())
    }
}

impl From<Box<[u32]>> for Owners {
    fn from(owners: Box<[u32]>) -> Self {
        let narrow = |&owner: &u32| match u16::try_from(owner) {
            _ if owner == CUT => Some(NARROW_CUT),
            Ok(NARROW_CUT) | Err(_) => None,
            Ok(owner) => Some(owner),
        };
        let all_narrow: Option<Box<[u16]>> = owners.iter().map(narrow).collect();
        all_narrow.map_or(Self::Wide(owners), Self::Narrow)
    }
}

/// About so many points in a shard: a search of it touches three cache lines.
const POINTS_PER_SHARD: usize = 16;

/// 64 arcs to a shard: an eighth to a fifth of them have a point.
const ARC_BITS: u32 = 6;

/// 4 MB of arcs, or 8 MB where an owner takes four bytes; more only where there are more shards than
/// that, beyond 33 million points.
const MOST_ARC_BITS: u32 = 21;

impl Points {
    /// A ring of `points`, of which there are about `count`.
    pub(super) fn new(points: impl Iterator<Item = Point>, count: usize) -> Self {
        let bits = (count / POINTS_PER_SHARD).max(1).next_power_of_two().trailing_zeros();
        let shard_shift = 64 - bits;
        let mut shards: Vec<Vec<Point>> = vec![Vec::new(); 1 << bits];
        for point in points {
            let shard = &mut shards[point.shifted(shard_shift)];
            if shard.is_empty() {
                shard.reserve(POINTS_PER_SHARD * 3 / 2);
            }
            shard.push(point);
        }
        for shard in &mut shards {
            shard.sort_unstable();
        }
        let Some(first) = shards.iter().flatten().next().copied() else { return Self::default() };
        let arc_shift = 64 - (bits + ARC_BITS).min(MOST_ARC_BITS.max(bits));
        let owners = owners(&shards, first, arc_shift).into();
        Self { owners, arc_shift, shards: closed(shards, first), shard_shift }
    }

    /// Whose the place is.
    #[inline]
    pub(super) fn owner(&self, place: Point) -> Option<u32> {
        let noted = self.owners.get(place.shifted(self.arc_shift));
        noted.or_else(|| self.after(place).map(Point::owner))
    }

    /// The first point at `place` or beyond.
    pub(super) fn after(&self, place: Point) -> Option<Point> {
        self.shards.get(place.shifted(self.shard_shift))?.get(&place).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len() - 1).sum()
    }
}

/// Notes the owner of each arc without a point, going backwards round the ring from its `first`
/// point.
fn owners(shards: &[Vec<Point>], first: Point, shift: u32) -> Box<[u32]> {
    let mut owners = vec![CUT; 1 << (64 - shift)].into_boxed_slice();
    let mut following = first;
    let mut end = owners.len();
    for &point in shards.iter().rev().flat_map(|shard| shard.iter().rev()) {
        let arc = point.shifted(shift);
        if arc < end {
            owners[arc + 1..end].fill(following.owner());
            end = arc;
        }
        following = point;
    }
    owners[..end].fill(following.owner());
    owners
}

/// Ends each shard in the first point beyond it. To the last one this is the ring's `first`, which
/// is found there since a [`HashRing`] ends where it begins.
fn closed(shards: Vec<Vec<Point>>, first: Point) -> Box<[HashRing<Point, AsTheyAre>]> {
    let mut following = first;
    let mut rings = Vec::with_capacity(shards.len());
    for mut shard in shards.into_iter().rev() {
        let least = shard.first().copied();
        shard.push(following);
        following = least.unwrap_or(following);
        let mut ring = HashRing::with_hasher(AsTheyAre);
        ring.batch_add(shard);
        // A clone has no room to spare, so that more of the ring stays in the cache.
        rings.push(ring.clone());
    }
    rings.reverse();
    rings.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new(points: &[Point], count: usize) -> Points {
        Points::new(points.iter().copied(), count)
    }

    #[test]
    fn empty_shards_lead_on_to_the_next_point_and_the_last_one_round_to_the_first() {
        let quarter = 1 << 62;
        let of = [Point::new(quarter + (5 << 32), 7), Point::new(3 * quarter, 8)];
        let points = new(&of, 4 * POINTS_PER_SHARD);
        assert_eq!(points.shards.len(), 4);
        let owner = |hash| points.owner(Point::at(hash)).unwrap();
        assert_eq!([0, quarter + (5 << 32)].map(owner), [7, 7]);
        assert_eq!([quarter + (6 << 32), 2 * quarter, 3 * quarter].map(owner), [8, 8, 8]);
        assert_eq!([3 * quarter + (1 << 32), u64::MAX].map(owner), [7, 7]);
        assert_eq!(points.after(Point::at(u64::MAX)), Some(of[0]));
    }

    #[test]
    fn nobody_owns_a_ring_without_points() {
        assert!(new(&[], 100).is_empty());
        assert_eq!(new(&[], 100).owner(Point::at(7)), None);
    }

    #[test]
    fn a_huge_ring_has_no_more_arcs_than_it_may_and_a_small_one_few() {
        let arcs = |count| {
            let shift = new(&[Point::new(0, 0)], count).arc_shift;
            1_usize << (64 - shift)
        };
        assert_eq!([1, 1_000, 160_000].map(arcs), [1 << 6, 1 << 12, 1 << 20]);
        assert_eq!([1 << 20, 10_000_000].map(arcs), [1 << 21, 1 << 21]);
    }

    /// Hashes of which many are at the same place, at the ends of arcs and shards, or anywhere.
    fn hash() -> impl Strategy<Value = u64> {
        let ends = (0..1_u64 << 12, -1..=1_i64);
        prop_oneof![
            any::<u64>(),
            (0..4_u64).prop_map(|low| u64::MAX - (low << 31)),
            ends.prop_map(|(arc, off)| (arc << 52).wrapping_add_signed(off << 31)),
        ]
    }

    /// One of few, also of those about the end of two bytes.
    fn owner() -> impl Strategy<Value = u32> {
        prop_oneof![16 => 0..5_u32, 1 => 65_533..65_536_u32, 1 => Just(u32::MAX - 1)]
    }

    #[test]
    fn owners_are_noted_in_two_bytes_while_that_is_enough() {
        for (owner, is_narrow) in [(0, true), (65_534, true), (65_535, false), (65_536, false)] {
            let points = new(&[Point::new(7, owner), Point::new(1 << 63, 0)], 100);
            assert_eq!(matches!(points.owners, Owners::Narrow(_)), is_narrow, "{owner}");
            assert_eq!(points.owner(Point::at(u64::MAX)), Some(owner));
        }
    }

    proptest! {
        #[test]
        fn every_place_is_whose_a_plain_search_says(
            of in prop::collection::vec((hash(), owner()), 1..200),
            count in 0..2_000_usize,
            keys in prop::collection::vec(hash(), 1..200),
        ) {
            let mut sorted: Vec<(u64, u32)> =
                of.iter().map(|(hash, owner)| (hash >> 32, *owner)).collect();
            sorted.sort_unstable();
            let of: Vec<Point> = of.into_iter().map(|(hash, owner)| Point::new(hash, owner)).collect();
            let points = new(&of, count);
            let all = of.iter().map(|point| point.0);
            for key in keys.into_iter().chain(all) {
                let at = sorted.partition_point(|(place, _)| *place < key >> 32) % sorted.len();
                let (place, owner) = sorted[at];
                prop_assert_eq!(points.owner(Point::at(key)), Some(owner));
                prop_assert_eq!(points.after(Point::at(key)), Some(Point::new(place << 32, owner)));
            }
        }
    }
}
