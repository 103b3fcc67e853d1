use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use outrigger_core::{Live, Rejection, Tried};
use tokio::time::Instant;

use crate::{
    BalanceEvent, BalancePolicy, EndpointInfo, HashKey, PickEntry,
    endpoint::Endpoint,
    engine::{Clock, Fleet, LazyNow, Moment, Node, Seat},
    hash::mix,
    picker::{Candidates, Filter, Index, Roll},
};

/// What all handles of a balancer share.
///
/// A call reads the snapshot and takes no lock. Whoever changes endpoints or settings builds the
/// next snapshot beside it, under the roster's lock, and swaps it in (read, copy, update).
pub(crate) struct Shared<S> {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) live: Live<BalancePolicy>,
    snapshot: ArcSwap<Snapshot<S>>,
    roster: Mutex<Roster<S>>,
    lanes: usize,
    seed: u64,
    /// Counts what was dealt out: lanes, seeds of random numbers.
    dealt: AtomicU64,
}

/// An immutable view of endpoints and settings.
pub(crate) struct Snapshot<S> {
    table: Arc<Table<S>>,
    indexes: Arc<Indexes>,
    pub(crate) policy: Arc<BalancePolicy>,
    /// The version of the policy.
    version: u64,
    measures_all: bool,
}

struct Table<S> {
    roll: Roll,
    services: Box<[S]>,
}

struct Indexes {
    all: Index,
    zoned: Option<Zoned>,
}

struct Zoned {
    local: Index,
    remote: Index,
}

/// The endpoints as they are now, in the order of their keys, so that the order in which they were
/// listed never matters.
struct Roster<S> {
    members: BTreeMap<Arc<str>, Member<S>>,
    builds: u64,
}

struct Member<S> {
    info: EndpointInfo,
    node: Arc<Node>,
    seats: Vec<Arc<Seat>>,
    service: S,
}

/// A call that has its endpoint.
pub(crate) struct Begun<S> {
    pub(crate) service: S,
    pub(crate) seat: Arc<Seat>,
    pub(crate) began: Option<Moment>,
    pub(crate) bounded: bool,
}

/// What a call brings to a pick.
pub(crate) struct Asking<'a> {
    pub(crate) rng: &'a mut fastrand::Rng,
    pub(crate) lane: usize,
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
        let lanes = if policy.picker().reads_load() { 1 } else { lanes_of_machine() };
        let fleet = Arc::new(Fleet::new(Clock::starting(Instant::now()), &policy));
        let roll = Roll { nodes: Box::default(), seats: Box::default(), lanes };
        let snapshot = Snapshot {
            table: Arc::new(Table { roll, services: Box::default() }),
            indexes: Arc::new(Indexes::build(&policy, &[], &[], (lanes, seed))),
            measures_all: fleet.tuning().measures_all(),
            policy,
            version,
        };
        Self {
            fleet,
            live,
            snapshot: ArcSwap::from_pointee(snapshot),
            roster: Mutex::new(Roster { members: BTreeMap::new(), builds: 0 }),
            lanes,
            seed,
            dealt: AtomicU64::new(0),
        }
    }

    /// A lane, and random numbers of its own.
    pub(crate) fn deal(&self) -> (usize, fastrand::Rng) {
        let n = self.dealt.fetch_add(1, Ordering::Relaxed);
        let rng = fastrand::Rng::with_seed(mix(self.seed ^ mix(n)));
        #[expect(clippy::cast_possible_truncation, reason = "any lane will do")]
        (n as usize % self.lanes, rng)
    }

    pub(crate) fn policy(&self) -> Arc<BalancePolicy> {
        Arc::clone(&self.snapshot.load().policy)
    }

    fn lock(&self) -> MutexGuard<'_, Roster<S>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- picking ----

    /// Picks an endpoint and begins a call on it.
    ///
    /// `find_key` is asked only by pickers that look at keys.
    pub(crate) fn begin(
        &self,
        asking: &mut Asking<'_>,
        find_key: impl Fn() -> Option<HashKey>,
    ) -> Result<Begun<S>, Rejection>
    where
        S: Clone,
    {
        loop {
            let mut snapshot = self.snapshot.load();
            if snapshot.version != self.live.version() {
                drop(snapshot);
                self.adopt_policy();
                snapshot = self.snapshot.load();
            }
            let now = LazyNow::new(self.fleet.clock());
            if asking.key.is_none() && snapshot.indexes.all.reads_key() {
                asking.key = find_key();
            }
            if asking.key.is_none() && snapshot.indexes.all.requires_key() {
                return Err(Rejection::unavailable("loadbalance", "no_hash_key"));
            }
            let Some(pick) = self.pick(&snapshot, &now, asking) else {
                drop(snapshot);
                self.fleet.tell_of("", &BalanceEvent::NoEndpoint);
                return Err(Rejection::unavailable("loadbalance", "no_endpoint"));
            };
            let seat = snapshot.table.roll.seat(pick.index, asking.lane);
            if !pick.has_entered && !seat.enter() {
                // Removed since the snapshot was read: a newer one is there, or about to be.
                if pick.is_bounded {
                    self.fleet.leave_bounded();
                }
                std::hint::spin_loop();
                continue;
            }
            let measured = snapshot.measures_all || asking.rng.u8(..) < u8::MAX / SAMPLING;
            return Ok(Begun {
                service: snapshot.table.services[pick.index as usize].clone(),
                seat: Arc::clone(seat),
                began: measured.then(|| now.get()),
                bounded: pick.is_bounded,
            });
        }
    }

    fn pick(&self, snapshot: &Snapshot<S>, now: &LazyNow, asking: &mut Asking<'_>) -> Option<Pick> {
        let policy = &snapshot.policy;
        let healthy = self.fleet.leaves_out_ejected(now, policy);
        let slow_start = policy
            .slow_start()
            .filter(|_| self.fleet.may_ramp() && self.fleet.is_ramping(now.get()));
        let tried = asking.tried.filter(|tried| !tried.is_empty());
        for (spares_tried, spares_ejected) in RELAXED {
            let (leaves_tried, leaves_ejected) =
                (spares_tried && tried.is_some(), spares_ejected && healthy);
            if !spares_tried && spares_ejected && tried.is_none() || !spares_ejected && !healthy {
                // The same as the step before.
                continue;
            }
            let filter = Filter {
                unreachable: asking.unreachable,
                tried: tried.filter(|_| leaves_tried),
                healthy_only: leaves_ejected,
                slow_start: slow_start.copied(),
            };
            let roll = &snapshot.table.roll;
            let mut candidates =
                Candidates::new(roll, filter, asking.rng, now).of_call(asking.key, asking.lane);
            if let Some(index) = self.pick_in_zone(&snapshot.indexes, &mut candidates) {
                return Some(Pick {
                    index,
                    has_entered: candidates.has_taken(index),
                    is_bounded: candidates.is_bounded(),
                });
            }
            if candidates.is_bounded() {
                self.fleet.leave_bounded();
            }
        }
        None
    }

    fn pick_in_zone(&self, indexes: &Indexes, candidates: &mut Candidates<'_>) -> Option<u32> {
        let Some(zoned) = &indexes.zoned else { return indexes.all.pick(candidates) };
        let share = f64::from(self.fleet.local_share());
        // Who cannot be reached may be the whole zone, and only a few of it are ever ejected.
        let stays = !candidates.met_unreachable() && (share >= 1.0 || candidates.chance() < share);
        let (first, second) =
            if stays { (&zoned.local, &zoned.remote) } else { (&zoned.remote, &zoned.local) };
        first.pick(candidates).or_else(|| second.pick(candidates))
    }

    // ---- changing ----

    /// Takes a replaced policy over. What the index is made of stays as it was until the next
    /// [`refresh`](Self::refresh), so that a call never builds one.
    fn adopt_policy(&self) {
        // Whoever holds the roster will take the policy over as well.
        let Ok(roster) = self.roster.try_lock() else { return };
        let version = self.live.version();
        let policy = self.live.get();
        let present = self.snapshot.load_full();
        let nodes = roster.members.values().map(|member| Arc::clone(&member.node));
        let told = self.fleet.set_members(nodes, &policy);
        let old = self.publish(Snapshot {
            table: Arc::clone(&present.table),
            indexes: Arc::clone(&present.indexes),
            measures_all: self.fleet.tuning().measures_all(),
            policy,
            version,
        });
        drop(roster);
        drop(old);
        self.fleet.tell_all(told);
    }

    /// Builds everything anew from the present policy.
    pub(crate) fn refresh(&self)
    where
        S: Clone,
    {
        self.change(|_, _| {});
    }

    /// Lets `change` work on the endpoints, builds the index and swaps it in.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Changing<'_, S>, Moment))
    where
        S: Clone,
    {
        let now = self.fleet.clock().now();
        let mut roster = self.lock();
        let had_any = !roster.members.is_empty();
        let mut changing = Changing {
            fleet: &self.fleet,
            lanes: self.lanes,
            members: &mut roster.members,
            added: Vec::new(),
            removed: Vec::new(),
            told: Vec::new(),
        };
        change(&mut changing, now);
        let Changing { added, removed, mut told, .. } = changing;
        let version = self.live.version();
        let policy = self.live.get();
        let all_new = added.len() == roster.members.len() || !had_any;
        if let Some(slow_start) = policy.slow_start().filter(|_| !all_new) {
            for node in &added {
                self.fleet.ramp(node, now, slow_start.window());
            }
        }
        let nodes = roster.members.values().map(|member| Arc::clone(&member.node));
        let health = self.fleet.set_members(nodes, &policy);
        let snapshot = self.build(&mut roster, policy, version);
        let old = self.publish(snapshot);
        // Only now: who finds an endpoint removed will find the newer snapshot.
        for member in &removed {
            let (in_flight, drained) = member.node.remove();
            let key = member.node.key();
            told.push((Arc::clone(key), BalanceEvent::Removed { in_flight }));
            told.extend(drained.map(|event| (Arc::clone(key), event)));
        }
        drop(roster);
        told.extend(health);
        self.fleet.tell_all(told);
        // Services of the user's are dropped with no lock held.
        drop((old, removed));
    }

    fn build(&self, roster: &mut Roster<S>, policy: Arc<BalancePolicy>, version: u64) -> Snapshot<S>
    where
        S: Clone,
    {
        roster.builds += 1;
        let members: Vec<&Member<S>> = roster.members.values().collect();
        let roll = Roll {
            nodes: members.iter().map(|member| Arc::clone(&member.node)).collect(),
            seats: members.iter().flat_map(|member| member.seats.iter().cloned()).collect(),
            lanes: self.lanes,
        };
        let entries = entries(&roll.nodes, &policy);
        let seed = mix(self.seed ^ roster.builds);
        let indexes = Indexes::build(&policy, &roll.nodes, &entries, (self.lanes, seed));
        let services = members.iter().map(|member| member.service.clone()).collect();
        Snapshot {
            table: Arc::new(Table { roll, services }),
            indexes: Arc::new(indexes),
            measures_all: self.fleet.tuning().measures_all(),
            policy,
            version,
        }
    }

    /// Swaps the snapshot in. Calls hold the old one for the time of a pick only, so the last of
    /// them is awaited for a moment: dropping a large table is not for a call to do.
    fn publish(&self, snapshot: Snapshot<S>) -> Arc<Snapshot<S>> {
        let old = self.snapshot.swap(Arc::new(snapshot));
        for _ in 0..100 {
            if Arc::strong_count(&old) == 1 {
                break;
            }
            std::thread::yield_now();
        }
        old
    }

    // ---- reading ----

    pub(crate) fn for_each(&self, mut show: impl FnMut(&EndpointInfo, &Node)) {
        let shown: Vec<_> = {
            let roster = self.lock();
            let members = roster.members.values();
            members.map(|member| (member.info.clone(), Arc::clone(&member.node))).collect()
        };
        for (info, node) in &shown {
            show(info, node);
        }
    }

    pub(crate) fn node(&self, key: &str) -> Option<Arc<Node>> {
        self.lock().members.get(key).map(|member| Arc::clone(&member.node))
    }
}

struct Pick {
    index: u32,
    has_entered: bool,
    is_bounded: bool,
}

impl Indexes {
    fn build(
        policy: &BalancePolicy,
        nodes: &[Arc<Node>],
        entries: &[PickEntry],
        (lanes, seed): (usize, u64),
    ) -> Self {
        let build = |entries: &[PickEntry]| Index::build(policy.picker(), entries, lanes, seed);
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
        Self { all, zoned }
    }
}

/// Who can be picked: of a weight above 0, and in the subset.
fn entries(nodes: &[Arc<Node>], policy: &BalancePolicy) -> Vec<PickEntry> {
    let entries: Vec<PickEntry> = (0..)
        .zip(nodes)
        .map(|(index, node)| PickEntry { index, weight: node.weight(), id: node.id() })
        .filter(|entry| entry.weight > 0)
        .collect();
    let Some(subset) = policy.subset() else { return entries };
    let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
    subset.choose(&ids).into_iter().map(|at| entries[at]).collect()
}

/// As many lanes as threads can run at a time, up to eight.
fn lanes_of_machine() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8))
}

/// A change of the endpoints on its way.
pub(crate) struct Changing<'a, S> {
    fleet: &'a Arc<Fleet>,
    lanes: usize,
    members: &'a mut BTreeMap<Arc<str>, Member<S>>,
    added: Vec<Arc<Node>>,
    removed: Vec<Removed<S>>,
    told: Vec<(Arc<str>, BalanceEvent)>,
}

struct Removed<S> {
    node: Arc<Node>,
    /// Dropped with the seats when no lock is held.
    _member: Member<S>,
}

impl<S> Changing<'_, S> {
    /// Adds an endpoint, in the place of one with the same key.
    pub(crate) fn insert(&mut self, endpoint: Endpoint<S>) {
        let Endpoint { info, service } = endpoint;
        self.remove(info.key());
        let (node, seats) = Node::new(&info, self.fleet, self.lanes);
        let weight = info.weight_value();
        self.told.push((Arc::clone(info.shared_key()), BalanceEvent::Added { weight }));
        self.added.push(Arc::clone(&node));
        let key = Arc::clone(info.shared_key());
        self.members.insert(key, Member { info, node, seats, service });
    }

    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(member) = self.members.remove(key) {
            self.removed.push(Removed { node: Arc::clone(&member.node), _member: member });
        }
    }

    /// Gives the endpoint with this key a new weight. Says whether it is there, in this zone.
    pub(crate) fn keep(&mut self, info: &EndpointInfo) -> bool {
        let Some(member) = self.members.get_mut(info.key()) else { return false };
        if member.info.zone_name() != info.zone_name() {
            return false;
        }
        if member.info.weight_value() != info.weight_value() {
            let weight = info.weight_value();
            member.node.set_weight(weight);
            member.info = info.clone();
            self.told.push((Arc::clone(info.shared_key()), BalanceEvent::Reweighted { weight }));
        }
        true
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.members.contains_key(key)
    }

    pub(crate) fn info(&self, key: &str) -> Option<EndpointInfo> {
        self.members.get(key).map(|member| member.info.clone())
    }

    pub(crate) fn keys(&self) -> Vec<Arc<str>> {
        self.members.keys().cloned().collect()
    }
}
