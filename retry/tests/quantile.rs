//! The live quantile of latencies, from which the wait before a backup request comes.

use std::time::Duration;

use outrigger_retry::{LatencyQuantile, QuantileDelay};
use outrigger_testing::Walk;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);

fn p95(latencies: &LatencyQuantile, now: Instant) -> Option<Duration> {
    latencies.delay(&QuantileDelay::of(0.95), now)
}

#[test]
fn with_too_few_samples_there_is_no_wait() {
    let now = Instant::now();
    let latencies = LatencyQuantile::new(now);
    latencies.record(MS, now);
    assert_eq!(latencies.delay(&QuantileDelay::of(0.95).min_samples(2), now), None);
}

#[test]
fn it_comes_within_a_few_per_cent_of_the_exact_quantile() {
    let now = Instant::now();
    let latencies = LatencyQuantile::new(now);
    let mut walk = Walk::new(3);
    let mut all: Vec<_> = (0..10_000).map(|_| walk.duration(100 * MS)).collect();
    for latency in &all {
        latencies.record(*latency, now);
    }
    all.sort_unstable();
    let (exact, live) = (all[9_500], p95(&latencies, now).expect("enough samples"));
    assert!(live.abs_diff(exact) <= exact / 25, "{live:?} for {exact:?}");
}

#[test]
fn cutting_the_tail_does_not_blind_it() {
    let now = Instant::now();
    let latencies = LatencyQuantile::new(now);
    // One call of ten takes 80 ms; each is cut at 20 ms by a backup that wins.
    for n in 0..10_000 {
        if n % 10 == 0 {
            latencies.record_cut(20 * MS, now);
        } else {
            latencies.record(10 * MS, now);
        }
    }
    let live = p95(&latencies, now).expect("enough samples");
    assert!(live >= 20 * MS, "{live:?}: the cut calls took at least that long");
}

#[test]
fn it_follows_a_slower_callee_within_seconds() {
    let start = Instant::now();
    let latencies = LatencyQuantile::new(start);
    let second = |n: u32| start + n * Duration::from_secs(1);
    for n in 0..20 {
        let latency = if n < 10 { 10 * MS } else { 50 * MS };
        (0..1_000).for_each(|_| latencies.record(latency, second(n)));
    }
    let live = p95(&latencies, second(19)).expect("enough samples");
    assert!((48 * MS..=52 * MS).contains(&live), "{live:?}");
}

#[test]
fn the_wait_stays_between_floor_and_ceiling() {
    let now = Instant::now();
    let latencies = LatencyQuantile::new(now);
    (0..1_000).for_each(|_| latencies.record(10 * MS, now));
    let wait = |wanted: QuantileDelay| latencies.delay(&wanted, now);
    assert_eq!(wait(QuantileDelay::of(0.95).floor(30 * MS)), Some(30 * MS));
    assert_eq!(wait(QuantileDelay::of(0.95).ceiling(2 * MS)), Some(2 * MS));
    QuantileDelay::of(f64::NAN).check().unwrap_err();
}
