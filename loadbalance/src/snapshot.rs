use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use outrigger_core::{Live, Rejection, Tried, stripe_count, thread_number};
use tokio::time::Instant;

use crate::{
    BalanceEvent, BalancePolicy, HashKey, PickEntry,
    call::Call,
    engine::{Clock, Fleet, LazyNow, Load, Node, Seated, Shown},
    hash::mix,
    picker::{Candidates, Filter, Home, Index, Roll, Seeds},
    roster::Roster,
};

/// Threads count in so many lanes at most, since each endpoint has a cache line in each of them.
const MOST_LANES: usize = 8;

/// What all handles of a balancer share.
///
/// A call reads the snapshot and takes no lock. Whoever changes endpoints or settings builds the
/// next snapshot beside it, under the roster's lock, and swaps it in (read, copy, update).
pub(crate) struct Shared<S> {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) live: Live<BalancePolicy>,
    pub(crate) snapshot: ArcSwap<Snapshot<S>>,
    pub(crate) roster: Mutex<Roster<S>>,
    pub(crate) lanes: usize,
    pub(crate) seed: u64,
    /// Whether random numbers are to be repeatable; then `dealt` counts who was given some.
    is_seeded: bool,
    dealt: AtomicU64,
}

/// An immutable view of endpoints and settings.
pub(crate) struct Snapshot<S> {
    pub(crate) table: Arc<Table<S>>,
    pub(crate) indexes: Arc<Indexes>,
    pub(crate) policy: Arc<BalancePolicy>,
    /// The version of the policy.
    pub(crate) version: u64,
    pub(crate) measures_all: bool,
}

pub(crate) struct Table<S> {
    pub(crate) roll: Roll,
    pub(crate) spots: Box<[Spot<S>]>,
}

/// What a call takes from the table once its endpoint is known, side by side.
pub(crate) struct Spot<S> {
    pub(crate) service: S,
    pub(crate) home: Home,
}

pub(crate) struct Indexes {
    all: Index,
    zoned: Option<Zoned>,
    reads_key: bool,
    reads_load: bool,
}

struct Zoned {
    local: Index,
    remote: Index,
}

/// Why nobody was picked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nobody {
    Endpoint,
    Key,
}

impl From<Nobody> for Rejection {
    fn from(nobody: Nobody) -> Self {
        let reason = match nobody {
            Nobody::Endpoint => "no_endpoint",
            Nobody::Key => "no_hash_key",
        };
        Self::unavailable("loadbalance", reason)
    }
}

/// What a call brings to a pick.
pub(crate) struct Asking<'a> {
    pub(crate) rng: &'a mut fastrand::Rng,
    pub(crate) key: Option<HashKey>,
    pub(crate) tried: Option<&'a Tried>,
    pub(crate) unreachable: &'a [u64],
}

/// What a pick does without, step by step, when it finds nobody.
const RELAXED: [(bool, bool); 3] = [(true, true), (false, true), (false, false)];

/// One call in so many is measured where no picker and no rule needs the latency of each.
const SAMPLING: u8 = 16;

impl<S> Shared<S> {
    pub(crate) fn new(live: Live<BalancePolicy>) -> Self {
        let version = live.version();
        let policy = live.get();
        let seed = policy.seed().unwrap_or_else(|| fastrand::u64(..));
        let is_seeded = policy.seed().is_some();
        let seeds = Seeds { of_balance: seed, of_build: seed };
        let lanes = stripe_count().min(MOST_LANES);
        let fleet = Arc::new(Fleet::new(Clock::starting(Instant::now()), &policy));
        let snapshot = Snapshot {
            table: Arc::new(Table { roll: Roll::empty(lanes), spots: Box::default() }),
            indexes: Arc::new(Indexes::build(&policy, &[], &[], (lanes, seeds))),
            measures_all: fleet.tuning().measures_all(),
            policy,
            version,
        };
        Self {
            fleet,
            live,
            snapshot: ArcSwap::from_pointee(snapshot),
            roster: Mutex::new(Roster::default()),
            lanes,
            seed,
            is_seeded,
            dealt: AtomicU64::new(0),
        }
    }

    /// Random numbers of one's own. Only a seed makes who asks for them write what others read.
    pub(crate) fn deal(&self) -> fastrand::Rng {
        if !self.is_seeded {
            return fastrand::Rng::new();
        }
        let n = self.dealt.fetch_add(1, Ordering::Relaxed);
        fastrand::Rng::with_seed(mix(self.seed ^ mix(n)))
    }

    pub(crate) fn policy(&self) -> Arc<BalancePolicy> {
        Arc::clone(&self.snapshot.load().policy)
    }

    /// The endpoint that a key belongs to, with a hashing picker.
    pub(crate) fn owner(&self, key: HashKey) -> Option<Arc<str>> {
        let snapshot = self.snapshot.load();
        let index = snapshot.indexes.all.owner(key)?;
        Some(Arc::clone(snapshot.table.roll.nodes[index as usize].key()))
    }

    /// Picks an endpoint and begins a call on it.
    ///
    /// `find_key` is asked only by pickers that look at keys.
    pub(crate) fn begin(
        &self,
        asking: &mut Asking<'_>,
        find_key: impl Fn() -> Option<HashKey>,
    ) -> Result<(S, Call), Nobody>
    where
        S: Clone,
    {
        let lane = thread_number() & (self.lanes - 1);
        loop {
            let mut snapshot = self.snapshot.load();
            if snapshot.version != self.live.version() {
                drop(snapshot);
                self.adopt_policy();
                snapshot = self.snapshot.load();
            }
            if snapshot.indexes.reads_key && asking.key.is_none() {
                asking.key = find_key();
                if asking.key.is_none() && snapshot.indexes.all.requires_key() {
                    return Err(Nobody::Key);
                }
            }
            let now = LazyNow::new(self.fleet.clock());
            let Some(pick) = self.pick(&snapshot, &now, asking, lane) else {
                drop(snapshot);
                self.fleet.tell_of("", &BalanceEvent::NoEndpoint);
                return Err(Nobody::Endpoint);
            };
            if let Some(call) = self.enter(&snapshot, &now, asking, (&pick, lane)) {
                return Ok((snapshot.table.spots[pick.index as usize].service.clone(), call));
            }
            // Removed since the snapshot was read: a newer one is there, or about to be.
            std::hint::spin_loop();
        }
    }

    /// Begins a call on the endpoint that was picked, unless it is gone.
    #[inline]
    fn enter(
        &self,
        snapshot: &Snapshot<S>,
        now: &LazyNow<'_>,
        asking: &mut Asking<'_>,
        (pick, lane): (&Pick, usize),
    ) -> Option<Call> {
        let Table { roll, spots } = &*snapshot.table;
        let home = spots[pick.index as usize].home;
        let bank = roll.bank(home, lane);
        let seat = &bank[home.at() as usize];
        if !seat.enter() {
            self.give_back(pick, roll.load(home));
            return None;
        }
        let shown = if pick.is_shown {
            seat.was_shown();
            Shown::Yes
        } else if snapshot.indexes.reads_load {
            Shown::OnceItWaits
        } else {
            Shown::Never
        };
        let measured = snapshot.measures_all || asking.rng.u8(..) < u8::MAX / SAMPLING;
        let began = measured.then(|| now.get());
        Some(Call::on(Seated::new(Arc::clone(bank), home.at()), began, shown, pick.is_bounded))
    }

    #[cold]
    fn give_back(&self, pick: &Pick, load: &Load) {
        if pick.is_shown {
            load.hide();
        }
        if pick.is_bounded {
            self.fleet.leave_bounded();
        }
    }

    #[inline]
    fn pick(
        &self,
        snapshot: &Snapshot<S>,
        now: &LazyNow<'_>,
        asking: &mut Asking<'_>,
        lane: usize,
    ) -> Option<Pick> {
        let healthy = self.fleet.leaves_out_ejected(now, &snapshot.policy);
        let is_ramping = self.fleet.may_ramp() && self.fleet.is_ramping(now.get());
        let may_all = asking.tried.is_none_or(Tried::is_empty) && asking.unreachable.is_empty();
        if !healthy && !is_ramping && may_all {
            return self.pick_among(snapshot, now, asking, (&Filter::OPEN, lane));
        }
        self.pick_with_care(snapshot, now, asking, (healthy, is_ramping, lane))
    }

    /// Picks where somebody is to be left out, or has less than its share.
    #[inline(never)]
    fn pick_with_care(
        &self,
        snapshot: &Snapshot<S>,
        now: &LazyNow<'_>,
        asking: &mut Asking<'_>,
        (healthy, is_ramping, lane): (bool, bool, usize),
    ) -> Option<Pick> {
        let tried = asking.tried.filter(|tried| !tried.is_empty());
        let slow_start = snapshot.policy.slow_start().filter(|_| is_ramping);
        for (spares_tried, spares_ejected) in RELAXED {
            if !spares_tried && spares_ejected && tried.is_none() || !spares_ejected && !healthy {
                // The same as the step before.
                continue;
            }
            let filter = Filter {
                unreachable: asking.unreachable,
                tried: tried.filter(|_| spares_tried),
                healthy_only: spares_ejected && healthy,
                slow_start: slow_start.copied(),
            };
            let picked = self.pick_among(snapshot, now, asking, (&filter, lane));
            if picked.is_some() {
                return picked;
            }
        }
        None
    }

    #[inline]
    fn pick_among(
        &self,
        snapshot: &Snapshot<S>,
        now: &LazyNow<'_>,
        asking: &mut Asking<'_>,
        (filter, lane): (&Filter<'_>, usize),
    ) -> Option<Pick> {
        let roll = &snapshot.table.roll;
        let mut candidates =
            Candidates::new(roll, filter, asking.rng, now).of_call(asking.key, lane);
        let picked = match &snapshot.indexes.zoned {
            None => snapshot.indexes.all.pick(&mut candidates),
            Some(zoned) => zoned.pick(f64::from(self.fleet.local_share()), &mut candidates),
        };
        let is_bounded = candidates.is_bounded();
        if picked.is_none() && is_bounded {
            self.fleet.leave_bounded();
        }
        picked.map(|index| Pick { index, is_shown: candidates.has_taken(index), is_bounded })
    }
}

struct Pick {
    index: u32,
    /// Whether the pick has shown the call already.
    is_shown: bool,
    is_bounded: bool,
}

impl Indexes {
    pub(crate) fn build(
        policy: &BalancePolicy,
        nodes: &[Arc<Node>],
        entries: &[PickEntry],
        (lanes, seeds): (usize, Seeds),
    ) -> Self {
        let build = |entries: &[PickEntry]| Index::build(policy.picker(), entries, lanes, seeds);
        let all = build(entries);
        let preferred = policy.zones().filter(|_| !all.is_by_key());
        let zoned = preferred.map(|zones| {
            let is_local = |entry: &&PickEntry| {
                nodes[entry.index as usize].zone().is_some_and(|zone| **zone == *zones.local())
            };
            let (local, remote): (Vec<PickEntry>, Vec<PickEntry>) =
                entries.iter().partition(is_local);
            Zoned { local: build(&local), remote: build(&remote) }
        });
        Self { reads_key: all.reads_key(), reads_load: all.reads_load(), all, zoned }
    }
}

impl Zoned {
    fn pick(&self, local_share: f64, candidates: &mut Candidates<'_>) -> Option<u32> {
        // Who cannot be reached may be the whole zone, and only a few of it are ever ejected.
        let stays = !candidates.met_unreachable()
            && (local_share >= 1.0 || candidates.chance() < local_share);
        let (first, second) =
            if stays { (&self.local, &self.remote) } else { (&self.remote, &self.local) };
        first.pick(candidates).or_else(|| second.pick(candidates))
    }
}
