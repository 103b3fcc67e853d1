//! Endpoints come and go while threads call: none is called after its drain, no call is lost.
#![expect(clippy::unwrap_used, reason = "a test's own figures and helpers")]

use std::{
    collections::HashMap,
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use outrigger_loadbalance::{
    Balance, BalanceEvent, BalancePolicy, BalanceService, Endpoint, HashKey, Picker,
};
use tokio_test::{assert_ready_ok, task};
use tower::{BoxError, Service};

/// Knows whether it was drained.
#[derive(Clone)]
struct Host(Arc<State>);

#[derive(Default)]
struct State {
    is_drained: AtomicBool,
    calls: AtomicU64,
}

impl Service<u64> for Host {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: u64) -> Self::Future {
        assert!(!self.0.is_drained.load(Ordering::SeqCst), "called after its drain");
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        ready(Ok(()))
    }
}

#[expect(clippy::too_many_lines, reason = "one story")]
/// 600 changes stand for 60 s of ten a second.
fn churn(picker: Picker) {
    // By number of the endpoint: a key that comes back is another endpoint.
    let hosts: Arc<Mutex<HashMap<String, Vec<Arc<State>>>>> = Arc::default();
    let drained = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&hosts);
    let count = Arc::clone(&drained);
    let policy = BalancePolicy::builder().picker(picker).seed(1).build().unwrap();
    let balance = Balance::new(policy).observe(move |key: &str, event: &BalanceEvent| {
        if *event == BalanceEvent::Drained {
            count.fetch_add(1, Ordering::SeqCst);
            // Keys are used once, so the only one of this key.
            seen.lock().unwrap()[key][0].is_drained.store(true, Ordering::SeqCst);
        }
    });
    let next = AtomicU64::new(0);
    let join = || {
        let key = format!("host-{}", next.fetch_add(1, Ordering::SeqCst));
        let state = Arc::new(State::default());
        hosts.lock().unwrap().entry(key.clone()).or_default().push(Arc::clone(&state));
        balance.insert(Endpoint::new(key, Host(state)));
    };
    (0..10).for_each(|_| join());
    let is_over = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let mut removed = 0;
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (balance, is_over, answered) = (balance.clone(), &is_over, &answered);
            scope.spawn(move || {
                let by_number = |n: &u64| Some(HashKey::of(n.to_le_bytes()));
                let mut service = BalanceService::new(balance).hash_by(by_number);
                let mut n = thread;
                while !is_over.load(Ordering::Relaxed) {
                    n += 2;
                    if n % 7 == 0 {
                        // Cancelled before it is polled.
                        drop(service.call(n));
                        answered.fetch_add(1, Ordering::SeqCst);
                        continue;
                    }
                    assert_ready_ok!(task::spawn(service.call(n)).poll());
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..600 {
            let keys: Vec<String> =
                balance.status().endpoints.into_iter().map(|endpoint| endpoint.key).collect();
            if keys.len() < 2 || rng.bool() {
                join();
            } else {
                balance.remove(rng.choice(&keys).unwrap());
                removed += 1;
            }
            std::thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(drained.load(Ordering::SeqCst), removed, "each removed one drains once");
    let calls: u64 = hosts
        .lock()
        .unwrap()
        .values()
        .flatten()
        .map(|state| state.calls.load(Ordering::SeqCst))
        .sum();
    assert_eq!(calls, answered.load(Ordering::SeqCst), "every call reached one endpoint, once");
    assert!(balance.status().endpoints.iter().all(|endpoint| endpoint.in_flight == 0));
}

#[test]
fn no_call_is_lost_or_reaches_a_drained_endpoint_with_weighted_random() {
    churn(Picker::WeightedRandom);
}

#[test]
fn no_call_is_lost_or_reaches_a_drained_endpoint_with_peak_ewma() {
    churn(Picker::peak_ewma());
}

#[test]
fn no_call_is_lost_or_reaches_a_drained_endpoint_with_a_bounded_ring() {
    churn(Picker::bounded_consistent_hash());
}
