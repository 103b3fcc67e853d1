use std::{sync::Arc, time::Duration};

use outrigger_core::Tried;

use crate::{
    HashKey, SlowStartPolicy,
    engine::{LazyNow, Load, Node, Seat, Stamp},
};

use super::PickEntry;

/// The endpoints of a snapshot without their services, in the order of their keys.
#[derive(Debug)]
pub(crate) struct Roll {
    pub(crate) nodes: Box<[Arc<Node>]>,
    pub(crate) homes: Box<[Home]>,
    /// `lanes` banks of seats for each block.
    pub(crate) banks: Box<[Arc<[Seat]>]>,
    /// One for each block.
    pub(crate) loads: Box<[Arc<[Load]>]>,
    pub(crate) lanes: usize,
}

/// Where an endpoint's seats and its load are: in which block of the roll, and where in there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home(u32);

const PLACE_BITS: u32 = 8;

impl Home {
    /// # Panics
    ///
    /// With more blocks than memory could hold.
    pub(crate) fn new(block: usize, at: u32) -> Self {
        let block = u32::try_from(block << PLACE_BITS).expect("fewer than 2^24 blocks");
        Self(block | at)
    }

    const fn block(self) -> usize {
        (self.0 >> PLACE_BITS) as usize
    }

    pub(crate) const fn at(self) -> u32 {
        self.0 & ((1 << PLACE_BITS) - 1)
    }
}

impl Roll {
    pub(crate) fn empty(lanes: usize) -> Self {
        Self {
            nodes: Box::default(),
            homes: Box::default(),
            banks: Box::default(),
            loads: Box::default(),
            lanes,
        }
    }

    pub(crate) fn bank(&self, home: Home, lane: usize) -> &Arc<[Seat]> {
        &self.banks[home.block() * self.lanes + lane]
    }

    pub(crate) fn load(&self, home: Home) -> &Load {
        &self.loads[home.block()][home.at() as usize]
    }
}

/// Who is left out of one pick.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    /// Endpoints that this very call found unreachable.
    pub(crate) unreachable: &'a [u64],
    /// Endpoints that earlier attempts of the logical call went to.
    pub(crate) tried: Option<&'a Tried>,
    /// Whether ejected endpoints are left out.
    pub(crate) healthy_only: bool,
    pub(crate) slow_start: Option<SlowStartPolicy>,
}

impl Filter<'_> {
    /// Leaves nobody out.
    pub(crate) const OPEN: Self =
        Self { unreachable: &[], tried: None, healthy_only: false, slow_start: None };

    const fn is_open(&self) -> bool {
        self.unreachable.is_empty()
            && self.tried.is_none()
            && !self.healthy_only
            && self.slow_start.is_none()
    }
}

/// What a picker may ask in one pick.
#[derive(Debug)]
pub struct Candidates<'a> {
    roll: &'a Roll,
    filter: &'a Filter<'a>,
    rng: &'a mut fastrand::Rng,
    now: &'a LazyNow<'a>,
    key: Option<HashKey>,
    lane: usize,
    is_open: bool,
    taken: Option<u32>,
    is_bounded: bool,
}

impl<'a> Candidates<'a> {
    pub(crate) fn new(
        roll: &'a Roll,
        filter: &'a Filter<'a>,
        rng: &'a mut fastrand::Rng,
        now: &'a LazyNow<'a>,
    ) -> Self {
        let is_open = filter.is_open();
        Self { roll, filter, rng, now, key: None, lane: 0, is_open, taken: None, is_bounded: false }
    }

    /// Whether this very call found an endpoint unreachable.
    pub(crate) const fn met_unreachable(&self) -> bool {
        !self.filter.unreachable.is_empty()
    }

    pub(crate) const fn of_call(mut self, key: Option<HashKey>, lane: usize) -> Self {
        self.key = key;
        self.lane = lane;
        self
    }

    /// Whether the endpoint may be picked: it is not ejected, not found unreachable by this call,
    /// and no earlier attempt went to it. When that leaves nobody, the pick is repeated with fewer
    /// conditions.
    #[must_use]
    pub fn is_usable(&self, index: u32) -> bool {
        self.is_open || self.passes(index)
    }

    fn passes(&self, index: u32) -> bool {
        let Filter { unreachable, tried, healthy_only, .. } = self.filter;
        let node = self.node(index);
        !(unreachable.contains(&node.id())
            || *healthy_only && node.ejected_until().is_some()
            || tried.is_some_and(|tried| tried.contains(node.id())))
    }

    /// The share of its weight that the endpoint is to have in this pick: 0 when it is not usable,
    /// below 1 while it starts slowly.
    #[must_use]
    pub fn share(&self, index: u32) -> f64 {
        if self.is_open {
            return 1.0;
        }
        if !self.passes(index) {
            return 0.0;
        }
        let Some(slow_start) = self.filter.slow_start else { return 1.0 };
        let Some(from) = self.node(index).ramp_from() else { return 1.0 };
        slow_start.share(self.now().since(from))
    }

    /// Whether to take an endpoint that was drawn at random: always when it is usable, and with
    /// the probability of its [`share`](Self::share) while it starts slowly.
    pub fn accepts(&mut self, index: u32) -> bool {
        if self.is_open {
            return true;
        }
        let share = self.share(index);
        share >= 1.0 || share > 0.0 && self.rng.f64() < share
    }

    /// One of `entries` at random by weight and share, exact and O(n): for when drawing and
    /// accepting found nobody.
    pub fn scan(&mut self, entries: &[PickEntry]) -> Option<u32> {
        self.scan_by(entries.iter().map(|entry| (entry.index, f64::from(entry.weight))))
    }

    /// The same by other weights.
    pub(super) fn scan_by(&mut self, weights: impl Iterator<Item = (u32, f64)>) -> Option<u32> {
        let mut total = 0.0;
        let mut chosen = None;
        for (index, weight) in weights {
            let weight = weight * self.share(index);
            total += weight;
            if weight > 0.0 && self.rng.f64() * total < weight {
                chosen = Some(index);
            }
        }
        chosen
    }

    /// How many calls are in flight on the endpoint, by this balancer.
    ///
    /// Calls of other threads are counted from the moment at which they first wait; those of this
    /// thread, and those of [`Balance::pick`](crate::Balance::pick), at once.
    #[must_use]
    pub fn in_flight(&self, index: u32) -> u64 {
        self.calls_and_load(index).0
    }

    /// The same, and what else is known of its load.
    #[inline]
    pub(super) fn calls_and_load(&self, index: u32) -> (u64, &Load) {
        let home = self.roll.homes[index as usize];
        let load = self.roll.load(home);
        let seat = &self.roll.bank(home, self.lane)[home.at() as usize];
        (load.shown() + seat.in_flight_unshown(), load)
    }

    /// The endpoint's mean latency over recent calls that were measured, if any was.
    #[must_use]
    pub fn latency(&self, index: u32) -> Option<Duration> {
        self.node(index).mean_latency()
    }

    /// The request's key, if it has one.
    #[must_use]
    pub const fn key(&self) -> Option<HashKey> {
        self.key
    }

    /// 64 random bits, repeatable when the policy has a seed.
    pub fn random(&mut self) -> u64 {
        self.rng.u64(..)
    }

    /// A random number from 0 to below 1.
    pub(crate) fn chance(&mut self) -> f64 {
        self.rng.f64()
    }

    /// Whether nobody is left out.
    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) const fn rng(&mut self) -> &mut fastrand::Rng {
        self.rng
    }

    pub(super) const fn lane(&self) -> usize {
        self.lane
    }

    pub(super) fn now(&self) -> Stamp {
        self.now.get()
    }

    pub(super) fn lazy_now(&self) -> impl FnOnce() -> Stamp + use<'_, 'a> {
        || self.now.get()
    }

    pub(super) fn load(&self, index: u32) -> &Load {
        self.roll.load(self.roll.homes[index as usize])
    }

    pub(super) fn node(&self, index: u32) -> &Node {
        &self.roll.nodes[index as usize]
    }

    /// Shows the call as one on the endpoint if that has fewer than `cap`.
    pub(super) fn take_within(&mut self, index: u32, cap: u64) -> bool {
        let taken = self.load(index).show_within(cap);
        if taken {
            self.taken = Some(index);
        }
        taken
    }

    /// Calls in flight on all endpoints, this one counted, for a load bound.
    pub(super) fn enter_bounded(&mut self) -> u64 {
        self.is_bounded = true;
        self.roll.nodes.first().map_or(0, |node| node.fleet().enter_bounded())
    }

    /// Whether the call is counted for a load bound.
    pub(crate) const fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    /// Whether the pick has already shown the call on the endpoint.
    pub(crate) fn has_taken(&self, index: u32) -> bool {
        self.taken == Some(index)
    }
}
