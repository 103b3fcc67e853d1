//! A pick and a call allocate nothing.
#![expect(clippy::unwrap_used, reason = "a test's own figures and helpers")]

use std::{
    future::{Ready, ready},
    task::{Context, Poll, Waker},
};

use outrigger_core::Rejection;
use outrigger_loadbalance::{Balance, BalancePolicy, BalanceService, Endpoint, HashKey, Picker};
use tower::Service;

#[derive(Clone)]
struct Host;

impl Service<u64> for Host {
    type Response = ();
    type Error = Rejection;
    type Future = Ready<Result<(), Rejection>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: u64) -> Self::Future {
        ready(Ok(()))
    }
}

fn balance(picker: Picker, hosts: usize) -> Balance<Host> {
    let balance = Balance::new(BalancePolicy::builder().picker(picker).build().unwrap());
    balance.replace((0..hosts).map(|host| Endpoint::new(format!("host-{host}"), Host)));
    balance
}

#[test]
fn no_picker_allocates_in_a_call() {
    for picker in [
        Picker::WeightedRandom,
        Picker::RoundRobin,
        Picker::SmoothWeightedRoundRobin,
        Picker::least_pending(),
        Picker::peak_ewma(),
        Picker::reported(),
        Picker::consistent_hash(),
        Picker::bounded_consistent_hash(),
        Picker::maglev(),
        Picker::PickFirst { shuffle: true },
    ] {
        let by_number = |n: &u64| Some(HashKey::of(n.to_le_bytes()));
        let mut service = BalanceService::new(balance(picker.clone(), 50)).hash_by(by_number);
        let mut call = |n| {
            let future = std::pin::pin!(service.call(n));
            assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        };
        // Threads have their own first times.
        call(0);
        let counted = allocation_counter::measure(|| (0..1_000).for_each(&mut call));
        assert_eq!(counted.count_total, 0, "{picker:?}");
    }
}

#[test]
fn walking_over_replicas_allocates_nothing() {
    use outrigger_core::Tried;
    let balance = balance(Picker::consistent_hash(), 50);
    let _warm = balance.pick_by(HashKey::of("key"));
    let tried = Tried::new();
    let counted = allocation_counter::measure(|| {
        let mut met = [""; 3];
        let replicas = balance.replicas(HashKey::of("key"), &tried);
        for (slot, picked) in met.iter_mut().zip(replicas) {
            *slot = "met";
            drop(picked);
        }
        assert_eq!(met, ["met"; 3]);
    });
    assert_eq!(counted.count_total, 0);
}
