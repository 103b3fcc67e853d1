mod points;

use self::points::{Point, Points};
use super::{Candidates, PickEntry, alias::Alias, by_rendezvous};
use crate::{HashKey, WithoutKey, hash::mix};

/// A consistent-hash ring (Karger et al., 1997) of `weight · points_per_weight` points for each
/// endpoint, optionally with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016).
#[derive(Debug)]
pub(crate) struct Ring {
    points: Points,
    alias: Alias,
    load_bound: Option<f64>,
    total_weight: f64,
    without_key: WithoutKey,
}

/// More points than this, or than a hundred per endpoint, are thinned out by halves, all endpoints
/// alike.
const MOST_POINTS: u64 = 1 << 20;

/// How many points to walk along before all endpoints are looked at.
const STEPS: usize = 256;

impl Ring {
    pub(super) fn build(
        entries: &[PickEntry],
        points_per_weight: u32,
        load_bound: Option<f64>,
        without_key: WithoutKey,
    ) -> Self {
        let points = points(entries, points_per_weight);
        let total_weight = entries.iter().map(|entry| f64::from(entry.weight)).sum();
        let alias = Alias::build(entries);
        Self { points, alias, load_bound, total_weight, without_key }
    }

    pub(super) const fn without_key(&self) -> WithoutKey {
        self.without_key
    }

    pub(super) const fn is_bounded(&self) -> bool {
        self.load_bound.is_some()
    }

    pub(super) fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        if self.points.is_empty() {
            return None;
        }
        let key = match (candidates.key(), self.without_key) {
            (Some(key), _) => key,
            (None, WithoutKey::Random) if self.load_bound.is_none() => {
                return self.alias.pick(candidates);
            }
            (None, _) => HashKey::from_hash(candidates.random()),
        };
        match self.load_bound {
            None => self
                .walk(key, |owner| candidates.is_usable(owner))
                .or_else(|| by_rendezvous(key, self.alias.entries(), candidates)),
            Some(bound) => self.pick_bounded(key, bound, candidates),
        }
    }

    /// Whose the key is while everybody will do.
    pub(super) fn owner(&self, key: HashKey) -> Option<u32> {
        self.points.owner(Point::at(key.get()))
    }

    /// Goes along the ring from `key` to the first owner that will do.
    #[inline]
    fn walk(&self, key: HashKey, mut will_do: impl FnMut(u32) -> bool) -> Option<u32> {
        let first = self.owner(key)?;
        if will_do(first) { Some(first) } else { self.walk_past(first, key, will_do) }
    }

    /// The same when the first one was asked already.
    #[inline(never)]
    fn walk_past(
        &self,
        mut refused: u32,
        key: HashKey,
        mut will_do: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let mut place = Point::at(key.get());
        for _ in 0..STEPS {
            let point = self.points.after(place)?;
            // A point of the one who was just asked needs no second question.
            if refused != point.owner() {
                if will_do(point.owner()) {
                    return Some(point.owner());
                }
                refused = point.owner();
            }
            place = point.next();
        }
        None
    }

    /// The bound for an endpoint is `⌈c · (calls in flight, this one counted) · its share⌉`, taken
    /// and counted in one step, so that it holds at every moment a call begins.
    fn pick_bounded(
        &self,
        key: HashKey,
        bound: f64,
        candidates: &mut Candidates<'_>,
    ) -> Option<u32> {
        #[expect(clippy::cast_precision_loss, reason = "calls in flight")]
        let total = candidates.enter_bounded() as f64;
        let cap = |weight: u32| {
            let share = f64::from(weight) / self.total_weight;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count; a cast saturates"
            )]
            // A hair less, so that a product which is whole but for rounding is not rounded up.
            let cap = (bound * total * share - 1e-9).ceil() as u64;
            cap.max(1)
        };
        let picked = self.walk(key, |owner| {
            let weight = candidates.node(owner).weight();
            candidates.is_usable(owner) && candidates.take_within(owner, cap(weight))
        });
        picked.or_else(|| self.least_loaded(candidates))
    }

    /// When the walk met nobody with room: that much is ejected, or very many endpoints are full.
    #[expect(clippy::cast_precision_loss, reason = "calls in flight")]
    fn least_loaded(&self, candidates: &Candidates<'_>) -> Option<u32> {
        let load =
            |entry: &PickEntry| candidates.in_flight(entry.index) as f64 / f64::from(entry.weight);
        self.alias
            .entries()
            .iter()
            .filter(|entry| candidates.is_usable(entry.index))
            .min_by(|a, b| load(a).total_cmp(&load(b)))
            .map(|entry| entry.index)
    }
}

fn points(entries: &[PickEntry], points_per_weight: u32) -> Points {
    let wanted = |entry: &PickEntry| u64::from(entry.weight) * u64::from(points_per_weight);
    let all: u64 = entries.iter().map(wanted).fold(0, u64::saturating_add);
    if all == 0 {
        return Points::default();
    }
    let mut thinning = 0;
    while all >> thinning > MOST_POINTS.max(100 * entries.len() as u64) {
        thinning += 1;
    }
    let points_of = |entry: &PickEntry| (wanted(entry) >> thinning).max(1);
    #[expect(clippy::cast_possible_truncation, reason = "they are in memory a moment later")]
    let count = entries.iter().map(points_of).sum::<u64>() as usize;
    let of_entry =
        |entry| (0..points_of(entry)).map(|n| Point::new(point(entry.id, n), entry.index));
    Points::new(entries.iter().flat_map(of_entry), count)
}

/// Point `n` of an endpoint: the n-th output of `SplitMix64` from its id. So a change of weight
/// adds or takes away points of this endpoint only.
const fn point(id: u64, n: u64) -> u64 {
    mix(id.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::endpoint_id;

    #[test]
    fn huge_weights_make_no_huge_ring_and_keep_their_proportions() {
        let mut entries = entries(0..3);
        entries[0].weight = u32::MAX;
        entries[1].weight = u32::MAX / 2;
        let ring = ring(&entries, 100);
        assert!(ring.points.len() <= 1 << 20, "{}", ring.points.len());
        let of_first = (0..9_000).filter(|key| owner(&ring, *key) == 0).count();
        assert!((5_800..6_200).contains(&of_first), "{of_first}");
    }

    fn entries(keys: impl IntoIterator<Item = u32>) -> Vec<PickEntry> {
        let entry =
            |index: u32| PickEntry { index, weight: 1, id: endpoint_id(&format!("host-{index}")) };
        keys.into_iter().map(entry).collect()
    }

    fn ring(entries: &[PickEntry], points: u32) -> Ring {
        Ring::build(entries, points, None, WithoutKey::Random)
    }

    fn owner(ring: &Ring, key: u64) -> u32 {
        ring.walk(HashKey::of(key.to_le_bytes()), |_| true).unwrap()
    }

    #[test]
    fn a_look_up_finds_what_a_plain_search_over_all_points_finds() {
        for (n, points) in [(1, 1), (2, 1), (3, 7), (10, 100), (50, 160)] {
            let entries = entries(0..n);
            let ring = ring(&entries, points);
            let mut all: Vec<(u64, u32)> = entries
                .iter()
                .flat_map(|entry| {
                    (0..u64::from(points)).map(|at| (point(entry.id, at), entry.index))
                })
                .collect();
            all.sort_unstable();
            for key in 0..2_000 {
                let hash = HashKey::of(u64::to_le_bytes(key)).get();
                let expected =
                    all.iter().find(|point| point.0 >> 32 >= hash >> 32).unwrap_or(&all[0]).1;
                assert_eq!(owner(&ring, key), expected, "{n} endpoints, key {key}");
            }
        }
    }

    #[test]
    fn a_walk_meets_every_endpoint_and_only_new_ones_while_it_is_told_what_it_met() {
        let entries = entries(0..20);
        let ring = ring(&entries, 100);
        for key in 0..100 {
            let mut met = Vec::new();
            while let Some(next) =
                ring.walk(HashKey::of(u64::to_le_bytes(key)), |owner| !met.contains(&owner))
            {
                met.push(next);
            }
            met.sort_unstable();
            assert_eq!(met, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_mapping_is_the_same_in_every_process_and_version() {
        let ring = ring(&entries(0..10), 100);
        let owners: Vec<u32> = (0..24).map(|key| owner(&ring, key)).collect();
        assert_eq!(owners, GOLDEN);
    }

    /// Computed by an independent program from the documented rule. It must never change.
    const GOLDEN: [u32; 24] =
        [6, 0, 8, 4, 2, 8, 4, 3, 8, 8, 8, 8, 4, 4, 5, 0, 1, 0, 8, 5, 5, 0, 7, 1];
}
