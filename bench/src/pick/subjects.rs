//! Who picks: our pickers, their peers, and the scan that Kitex does.

use std::{hint::black_box, sync::Arc};

use hashring::HashRing;
use outrigger_core::Outcome;
use outrigger_loadbalance::{
    Balance, BalancePolicy, Candidates, Endpoint, HashKey, Pick, PickEntry, Picker,
};
use pingora_ketama::{Bucket, Continuum};

use super::{Choose, Chooser};
use crate::kit::mixed;

pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) system: &'static str,
    /// Whether a key decides who is picked.
    pub(super) by_key: bool,
    /// Whether calls in flight decide too.
    pub(super) is_bounded: bool,
    /// Beyond this it takes minutes or gigabytes, or is not made for it.
    pub(super) most_endpoints: u32,
    pub(super) make: fn(&[u32]) -> Chooser,
}

const MANY: u32 = 100_000;
const SOME: u32 = 10_000;

const fn by_chance(
    name: &'static str,
    system: &'static str,
    make: fn(&[u32]) -> Chooser,
) -> Subject {
    Subject { name, system, by_key: false, is_bounded: false, most_endpoints: MANY, make }
}

const fn by_key(
    name: &'static str,
    system: &'static str,
    most_endpoints: u32,
    make: fn(&[u32]) -> Chooser,
) -> Subject {
    Subject { name, system, by_key: true, is_bounded: false, most_endpoints, make }
}

pub(super) static ALL: [Subject; 9] = [
    by_chance("no_pick", "outrigger", |hosts| ours(hosts, Picker::custom(looks_nothing_up), false)),
    by_chance("weighted_random", "outrigger", |hosts| ours(hosts, Picker::WeightedRandom, false)),
    by_chance("weighted_random", "bare", scan),
    by_chance("p2c", "outrigger", |hosts| ours(hosts, Picker::least_pending(), false)),
    by_key("ring", "outrigger", MANY, |hosts| ours(hosts, Picker::consistent_hash(), true)),
    Subject {
        is_bounded: true,
        ..by_key("bounded_ring", "outrigger", MANY, |hosts| {
            ours(hosts, Picker::bounded_consistent_hash(), true)
        })
    },
    by_key("maglev", "outrigger", SOME, |hosts| ours(hosts, maglev(hosts.len()), true)),
    by_key("ring", "hashring", SOME, hashring),
    by_key("ring", "pingora", SOME, ketama),
];

/// Over 100 slots for each endpoint, or as many as there may be.
fn maglev(endpoints: usize) -> Picker {
    match Picker::maglev() {
        Picker::Maglev { without_key, .. } if endpoints > 655 => {
            Picker::Maglev { table_size: 1_048_573, without_key }
        }
        usual => usual,
    }
}

struct Ours {
    balance: Balance<u32>,
    by_key: bool,
}

fn ours(hosts: &[u32], picker: Picker, by_key: bool) -> Chooser {
    let policy = BalancePolicy::builder().picker(picker).seed(1).build();
    let balance = Balance::new(policy.expect("the settings are in order"));
    balance.replace(hosts.iter().map(|&host| Endpoint::new(format!("host-{host}"), host)));
    Arc::new(Ours { balance, by_key })
}

impl Choose for Ours {
    fn choose(&self, key: u64) -> u32 {
        let picked = if self.by_key {
            self.balance.pick_by(HashKey::of(key.to_le_bytes()))
        } else {
            self.balance.pick()
        };
        let mut picked = picked.expect("all endpoints are usable");
        let host = *picked.service();
        picked.record(Outcome::Success);
        host
    }

    fn look_up(&self, key: u64) {
        black_box(self.balance.owner_of(HashKey::of(key.to_le_bytes())));
    }

    fn choose_all(&self, keys: u64) -> Vec<u32> {
        let pick = |key| self.balance.pick_by(HashKey::of(mixed(key).to_le_bytes()));
        let mut picked: Vec<_> = (0..keys).map(|key| pick(key).expect("all are usable")).collect();
        picked.iter_mut().map(|picked| *picked.service()).collect()
    }
}

struct AnyOf(u32);

impl Pick for AnyOf {
    fn pick(&self, _candidates: &mut Candidates<'_>) -> Option<u32> {
        Some(fastrand::u32(..self.0))
    }
}

fn looks_nothing_up(entries: &[PickEntry]) -> Box<dyn Pick> {
    let count = u32::try_from(entries.len()).expect("far fewer");
    Box::new(AnyOf(count))
}

/// Kitex's weighted random: draws below the sum of the weights and takes them off one by one.
struct Scan {
    weights: Vec<(u32, u32)>,
    sum: u32,
}

fn scan(hosts: &[u32]) -> Chooser {
    let weights: Vec<_> = hosts.iter().map(|&host| (host, 1)).collect();
    let sum = weights.iter().map(|(_, weight)| weight).sum();
    Arc::new(Scan { weights, sum })
}

impl Choose for Scan {
    fn choose(&self, _key: u64) -> u32 {
        let mut drawn = fastrand::u32(..self.sum);
        for &(host, weight) in &self.weights {
            if drawn < weight {
                return host;
            }
            drawn -= weight;
        }
        unreachable!("what is drawn is below the sum")
    }
}

impl Choose for HashRing<(u32, u32)> {
    fn choose(&self, key: u64) -> u32 {
        self.get(&key).expect("not empty").0
    }
}

/// 160 points for each endpoint, as people use it.
fn hashring(hosts: &[u32]) -> Chooser {
    let mut ring = HashRing::new();
    ring.batch_add(hosts.iter().flat_map(|&host| (0..160).map(move |n| (host, n))).collect());
    Arc::new(ring)
}

impl Choose for Continuum {
    fn choose(&self, key: u64) -> u32 {
        match self.node(&key.to_le_bytes()).expect("not empty") {
            std::net::SocketAddr::V4(address) => address.ip().to_bits(),
            std::net::SocketAddr::V6(_) => unreachable!("none was added"),
        }
    }
}

/// 160 points for each endpoint, nginx's number.
fn ketama(hosts: &[u32]) -> Chooser {
    let bucket = |&host| {
        let address = std::net::SocketAddr::from((std::net::Ipv4Addr::from_bits(host), 80));
        Bucket::new(address, 1)
    };
    let buckets: Vec<_> = hosts.iter().map(bucket).collect();
    Arc::new(Continuum::new(&buckets))
}
