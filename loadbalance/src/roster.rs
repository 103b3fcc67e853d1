use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, MutexGuard, PoisonError},
};

use crate::{
    BalanceEvent, BalancePolicy, Endpoint, EndpointInfo, PickEntry,
    engine::{Block, Fleet, Node, Stamp},
    hash::mix,
    picker::{Home, Roll, Seeds},
    snapshot::{Indexes, Shared, Snapshot, Spot, Table},
};

/// The endpoints as they are now, in the order of their keys, so that the order in which they were
/// listed never matters.
pub(crate) struct Roster<S> {
    members: BTreeMap<Arc<str>, Member<S>>,
    /// Where the next endpoint takes its seats, and how many there have taken theirs.
    open: Option<(Arc<Block>, usize)>,
    builds: u64,
}

struct Member<S> {
    info: EndpointInfo,
    node: Arc<Node>,
    block: Arc<Block>,
    at: u32,
    service: S,
}

impl<S> Default for Roster<S> {
    fn default() -> Self {
        Self { members: BTreeMap::new(), open: None, builds: 0 }
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Roster<S>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a replaced policy over. What the index is made of stays as it was until the next
    /// [`refresh`](Self::refresh), so that a call never builds one.
    #[cold]
    pub(crate) fn adopt_policy(&self) {
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
    pub(crate) fn change(&self, change: impl FnOnce(&mut Changing<'_, S>, Stamp))
    where
        S: Clone,
    {
        let now = self.fleet.clock().now();
        let mut roster = self.lock();
        let had_any = !roster.members.is_empty();
        let mut changing = Changing {
            fleet: &self.fleet,
            lanes: self.lanes,
            roster: &mut roster,
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
        let (roll, homes) = roster.roll(self.lanes);
        let entries = entries(&roll.nodes, &policy);
        let seeds = Seeds { of_balance: self.seed, of_build: mix(self.seed ^ roster.builds) };
        let indexes = Indexes::build(&policy, &roll.nodes, &entries, (self.lanes, seeds));
        let services = roster.members.values().map(|member| member.service.clone());
        let spots = services.zip(homes).map(|(service, home)| Spot { service, home }).collect();
        Snapshot {
            table: Arc::new(Table { roll, spots }),
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

impl<S> Roster<S> {
    /// The endpoints as pickers see them, and where each has its seats.
    fn roll(&self, lanes: usize) -> (Roll, Vec<Home>) {
        let mut blocks: Vec<&Arc<Block>> = Vec::new();
        let mut numbers = HashMap::new();
        let mut homes = Vec::with_capacity(self.members.len());
        for Member { block, at, .. } in self.members.values() {
            let number = *numbers.entry(Arc::as_ptr(block)).or_insert_with(|| {
                blocks.push(block);
                blocks.len() - 1
            });
            homes.push(Home::new(number, *at));
        }
        let roll = Roll {
            nodes: self.members.values().map(|member| Arc::clone(&member.node)).collect(),
            homes: homes.as_slice().into(),
            banks: blocks.iter().flat_map(|block| block.banks().iter().cloned()).collect(),
            loads: blocks.iter().map(|block| Arc::clone(block.loads())).collect(),
            lanes,
        };
        (roll, homes)
    }

    /// A block with room for one more endpoint, and the place there.
    fn room(&mut self, lanes: usize) -> (Arc<Block>, u32) {
        let room = Block::room_beside(self.members.len());
        let (block, taken) = match self.open.take() {
            Some((block, taken)) if taken < block.room() => (block, taken),
            _ => (Arc::new(Block::new(room, lanes)), 0),
        };
        self.open = Some((Arc::clone(&block), taken + 1));
        #[expect(clippy::cast_possible_truncation, reason = "a block is small")]
        (block, taken as u32)
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

/// A change of the endpoints on its way.
pub(crate) struct Changing<'a, S> {
    fleet: &'a Arc<Fleet>,
    lanes: usize,
    roster: &'a mut Roster<S>,
    added: Vec<Arc<Node>>,
    /// Dropped, with services of the user's, when no lock is held.
    removed: Vec<Member<S>>,
    told: Vec<(Arc<str>, BalanceEvent)>,
}

impl<S> Changing<'_, S> {
    /// Adds an endpoint, in the place of one with the same key.
    pub(crate) fn insert(&mut self, endpoint: Endpoint<S>) {
        let Endpoint { info, service } = endpoint;
        self.remove(info.key());
        let (block, at) = self.roster.room(self.lanes);
        let node = Node::new(&info, self.fleet, &block, at);
        let weight = info.weight_value();
        let key = Arc::clone(info.shared_key());
        self.told.push((Arc::clone(&key), BalanceEvent::Added { weight }));
        self.added.push(Arc::clone(&node));
        self.roster.members.insert(key, Member { info, node, block, at, service });
    }

    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(member) = self.roster.members.remove(key) {
            self.removed.push(member);
        }
    }

    /// Gives the endpoint with this key a new weight. Says whether it is there, in this zone.
    pub(crate) fn keep(&mut self, info: &EndpointInfo) -> bool {
        let Some(member) = self.roster.members.get_mut(info.key()) else { return false };
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
        self.roster.members.contains_key(key)
    }

    pub(crate) fn info(&self, key: &str) -> Option<EndpointInfo> {
        self.roster.members.get(key).map(|member| member.info.clone())
    }

    pub(crate) fn keys(&self) -> Vec<Arc<str>> {
        self.roster.members.keys().cloned().collect()
    }
}
