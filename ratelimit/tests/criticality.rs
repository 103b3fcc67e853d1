//! Critical calls keep their place when others come in a flood (simulated time).

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use outrigger_core::Criticality;
use outrigger_ratelimit::{
    Asking, ConcurrencyLimit, ConcurrencyLimitPolicy, ConcurrencyLimitPolicyBuilder,
};
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
    end: Instant,
    tally: Arc<Tally>,
) {
    let mut rng = fastrand::Rng::with_seed(criticality as u64);
    let mut at = Instant::now();
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

/// What became of the critical calls, and of all.
struct Served {
    /// Of the critical calls.
    critical: f64,
    /// Of what the places could do.
    goodput: f64,
}

/// Places of 20 ms each, critical calls for so large a share of what they can do, and others for
/// 1.2 times as much as they can do (the shape of Netflix's prioritised shedding).
async fn flood(policy: ConcurrencyLimitPolicyBuilder, critical_share: f64) -> Served {
    let policy = policy.build().expect("a valid policy");
    let limit = ConcurrencyLimit::new(policy);
    let capacity = f64::from(policy.limit()) / 0.02;
    let (critical, rest) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
    let start = Instant::now();
    // So long that there are some ten thousand critical calls.
    let seconds = (20_000.0 / critical_share / capacity).clamp(10.0, 30.0);
    let end = start + Duration::from_secs_f64(seconds);
    let offer = |class, share: f64, tally: &Arc<Tally>| {
        offer(limit.clone(), class, share * capacity, end, Arc::clone(tally))
    };
    tokio::join!(
        offer(Criticality::Critical, critical_share, &critical),
        offer(Criticality::Sheddable, 1.2, &rest),
    );
    assert_eq!(limit.in_flight(), 0);
    let count = |counter: &AtomicU64| {
        f64::from(u32::try_from(counter.load(Ordering::Relaxed)).expect("not so many"))
    };
    let served = Served {
        critical: count(&critical.served) / count(&critical.offered),
        goodput: (count(&critical.served) + count(&rest.served))
            / start.elapsed().as_secs_f64()
            / capacity,
    };
    println!(
        "| {} | {} | {} | {critical_share} | {:.2} % | {:.1} % |",
        policy.limit(),
        policy.max_waiting(),
        policy.critical_reserve(),
        100.0 * served.critical,
        100.0 * served.goodput,
    );
    served
}

/// In the shape of Netflix' prioritized load shedding (2024): critical calls pass while they are no
/// more than what 0.8 of the places can do, and no place stays empty. Prints the table of the front
/// page.
#[tokio::test(start_paused = true)]
async fn critical_calls_pass_while_the_rest_floods_and_no_place_stays_empty() {
    println!(
        "| `limit` | `max_waiting` | `critical_reserve` | critical load | critical served | goodput |"
    );
    for critical_share in [0.3, 0.8] {
        let policy = ConcurrencyLimitPolicy::builder().limit(20).max_waiting(60);
        let served = flood(policy.max_wait(200 * MS), critical_share).await;
        assert!(served.critical >= 0.999, "critical: {}", served.critical);
        assert!(served.goodput >= 0.95, "goodput: {}", served.goodput);
    }
    // Without waiting each place that is kept free costs its share, and chance weighs the more the
    // fewer places there are: of 100, critical calls alone lose 0.4 % at 0.8 (Erlang's formula).
    for (limit, reserve, critical_share, critical, goodput) in
        [(100, 0.1, 0.3, 0.999, 0.89), (400, 0.05, 0.3, 0.999, 0.95), (400, 0.2, 0.8, 0.998, 0.85)]
    {
        let policy = ConcurrencyLimitPolicy::builder().limit(limit).critical_reserve(reserve);
        let served = flood(policy, critical_share).await;
        assert!(served.critical >= critical, "critical: {}", served.critical);
        assert!(served.goodput >= goodput, "goodput: {}", served.goodput);
    }
}
