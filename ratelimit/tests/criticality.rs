//! Critical calls keep their place when others come in a flood (simulated time).

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use outrigger_core::Criticality;
use outrigger_ratelimit::{Asking, ConcurrencyLimit, ConcurrencyLimitPolicy};
use support::MS;
use tokio::time::{Duration, Instant, sleep, sleep_until};

#[derive(Default)]
struct Tally {
    offered: AtomicU64,
    served: AtomicU64,
}

/// A stream of calls at random times: each holds a place for 20 ms.
async fn offer(
    limit: ConcurrencyLimit,
    criticality: Criticality,
    per_second: f64,
    tally: Arc<Tally>,
) {
    let mut rng = fastrand::Rng::with_seed(criticality as u64);
    let mut at = Instant::now();
    let end = at + Duration::from_secs(30);
    let mut calls = tokio::task::JoinSet::new();
    loop {
        at += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / per_second);
        if at > end {
            break;
        }
        sleep_until(at).await;
        tally.offered.fetch_add(1, Ordering::Relaxed);
        let (limit, tally) = (limit.clone(), Arc::clone(&tally));
        calls.spawn(async move {
            let mut asking = Asking::default();
            asking.criticality = criticality;
            if let Ok(_permit) = limit.acquire(asking).await {
                sleep(20 * MS).await;
                tally.served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    calls.join_all().await;
}

/// 20 places of 20 ms serve 1 000 calls a second: 300 critical calls a second,
/// and 1 200 that can wait (the shape of Netflix's prioritised shedding).
#[tokio::test(start_paused = true)]
async fn critical_calls_pass_while_the_rest_floods_and_no_place_stays_empty() {
    let policy = ConcurrencyLimitPolicy::builder().limit(20).max_waiting(20).max_wait(200 * MS);
    let limit = ConcurrencyLimit::new(policy.build().expect("a valid policy"));
    let (critical, prefetch) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
    let start = Instant::now();
    tokio::join!(
        offer(limit.clone(), Criticality::Critical, 300.0, Arc::clone(&critical)),
        offer(limit.clone(), Criticality::Sheddable, 1_200.0, Arc::clone(&prefetch)),
    );
    let took = start.elapsed().as_secs_f64();
    let load = |counter: &AtomicU64| u32::try_from(counter.load(Ordering::Relaxed)).map(f64::from);
    let share = load(&critical.served).unwrap() / load(&critical.offered).unwrap();
    let goodput = (load(&critical.served).unwrap() + load(&prefetch.served).unwrap()) / took;
    let prefetched = load(&prefetch.served).unwrap() / load(&prefetch.offered).unwrap();
    println!("critical {share:.4}, prefetch {prefetched:.3}, goodput {goodput:.0}/s of 1000");
    assert!(share >= 0.999, "critical: {share}");
    assert!(goodput >= 950.0, "goodput: {goodput}");
    assert_eq!(limit.in_flight(), 0);
}
