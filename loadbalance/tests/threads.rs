//! What threads see of each other, and that none waits for another.
#![expect(clippy::unwrap_used, reason = "a test's own figures and helpers")]

#[expect(dead_code, reason = "only a part of it is needed here")]
mod support;

use std::{
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use outrigger_core::Outcome;
use outrigger_loadbalance::{
    Balance, BalanceService, Candidates, Endpoint, HashKey, Pick, PickEntry, Picker,
};
use support::{Does, World, policy};
use tokio_test::{assert_pending, task};
use tower::Service;

struct First(Vec<PickEntry>);

impl Pick for First {
    fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        self.0.iter().map(|entry| entry.index).find(|at| candidates.is_usable(*at))
    }
}

/// A picker whose builds say that they have begun, and end when they are told to.
fn slow_to_build() -> (Picker, Receiver<usize>, Sender<()>) {
    let (begun, has_begun) = channel();
    let (may_end, end) = channel::<()>();
    let ends = Mutex::new(end);
    let begun = Mutex::new(begun);
    let build = move |entries: &[PickEntry]| {
        if entries.len() > 1 {
            begun.lock().unwrap().send(entries.len()).unwrap();
            ends.lock().unwrap().recv().unwrap();
        }
        Box::new(First(entries.to_vec())) as Box<dyn Pick>
    };
    (Picker::custom(build), has_begun, may_end)
}

#[test]
fn no_pick_waits_while_an_index_is_built() {
    let (picker, has_begun, may_end) = slow_to_build();
    let balance = Balance::new(policy().picker(picker).build().unwrap());
    balance.replace([Endpoint::new("old", ())]);
    thread::scope(|scope| {
        let changing = scope.spawn(|| balance.insert(Endpoint::new("new", ())));
        assert_eq!(has_begun.recv().unwrap(), 2);
        // The build is under way, and ends only after these picks.
        for _ in 0..1_000 {
            balance.pick().unwrap().record(Outcome::Success);
        }
        // Nor does it trouble a pick that finds the settings replaced.
        balance.policy().replace(policy().failover_picks(1).build().unwrap());
        assert_eq!(balance.pick().unwrap().key(), "old");
        assert!(!changing.is_finished());
        may_end.send(()).unwrap();
    });
    assert_eq!(balance.status().endpoints.len(), 2);
}

#[test]
fn a_call_that_waits_is_seen_by_other_threads_and_before_that_by_its_own() {
    let world = World::default();
    let balance = world.balance(policy().picker(Picker::least_pending()), &["a", "b"]);
    world.set("a", Does::Hang);
    world.set("b", Does::Hang);
    let mut service = BalanceService::new(balance.clone());
    let mut waiting = task::spawn(service.call(()));
    let idle = if world.calls("a") == 1 { "b" } else { "a" };
    // Not polled yet: this thread knows all the same.
    assert!((0..20).all(|_| balance.pick().unwrap().key() == idle));
    assert_pending!(waiting.poll());
    let elsewhere = || {
        let picks = || (0..20).filter(|_| balance.pick().unwrap().key() == idle).count();
        thread::scope(|scope| scope.spawn(picks).join().unwrap())
    };
    assert_eq!(elsewhere(), 20);
    // It ends in another thread than it began in, and nothing of it is left.
    thread::scope(|scope| scope.spawn(move || drop(waiting)).join().unwrap());
    assert!(balance.status().endpoints.iter().all(|endpoint| endpoint.in_flight == 0));
    assert!(elsewhere() < 20);
}

#[test]
fn whose_a_key_is_can_be_asked_without_a_call() {
    for picker in [Picker::consistent_hash(), Picker::bounded_consistent_hash(), Picker::maglev()] {
        let balance = Balance::new(policy().picker(picker).build().unwrap());
        assert_eq!(balance.owner_of(HashKey::of("nobody's")), None);
        balance.replace((0..20).map(|n| Endpoint::new(format!("host-{n}"), ())));
        for n in 0..500_u64 {
            let key = HashKey::of(n.to_le_bytes());
            let owner = balance.owner_of(key).unwrap();
            assert_eq!(*owner, *balance.pick_by(key).unwrap().key());
        }
        assert_eq!(balance.status().endpoints.iter().map(|one| one.in_flight).sum::<u64>(), 0);
    }
    let random = Balance::new(policy().picker(Picker::WeightedRandom).build().unwrap());
    random.insert(Endpoint::new("a", ()));
    assert_eq!(random.owner_of(HashKey::of("a")), None);
}
