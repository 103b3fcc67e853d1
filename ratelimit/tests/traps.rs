//! Traps in which limiters were caught: counts that leak, closures that panic, a second burst after
//! a pause, a report that is missing or doubled.

mod support;

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use outrigger_core::{Criticality, Enforcement};
use outrigger_ratelimit::{
    AdaptiveLimit, AdaptiveLimitPolicy, ClientThrottleLayer, ClientThrottlePolicy,
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitPolicy, RateLimit, RateLimitLayer,
    RateLimitPolicy,
};
use support::{Log, MS, SECOND};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, service_fn};

const READY: u8 = 0;
const NOT_READY: u8 = 1;
const BROKEN: u8 = 2;
const PANICS: u8 = 3;

/// Its readiness is what the test says, and its calls run for ever or panic.
#[derive(Clone, Default)]
struct Moody(Arc<AtomicU8>);

impl Moody {
    fn is_now(&self, mood: u8) {
        self.0.store(mood, Ordering::Relaxed);
    }
}

impl Service<u32> for Moody {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.0.load(Ordering::Relaxed) {
            NOT_READY => Poll::Pending,
            BROKEN => Poll::Ready(Err("broken for good".into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _request: u32) -> Self::Future {
        let panics = self.0.load(Ordering::Relaxed) == PANICS;
        Box::pin(async move {
            assert!(!panics, "the call panics when it is polled");
            pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_count_of_calls_is_nothing_again_wherever_a_call_is_dropped_or_breaks() {
    let policy = ConcurrencyLimitPolicy::builder().limit(1).max_waiting(1).build().unwrap();
    let layer = ConcurrencyLimitLayer::new(policy);
    let limit = layer.handle();
    let moody = Moody::default();
    let mut service = layer.layer(moody.clone());
    let gauges = |limit: &ConcurrencyLimit| (limit.in_flight(), limit.waiting());

    let mut running = task::spawn(service.call(1));
    assert_pending!(running.poll());
    assert_eq!(gauges(limit), (1, 0));
    let mut waiting = task::spawn(service.call(2));
    assert_pending!(waiting.poll());
    assert_eq!(gauges(limit), (1, 1));
    drop(waiting);
    assert_eq!(gauges(limit), (1, 0), "dropped while it waited");
    drop(running);
    assert_eq!(gauges(limit), (0, 0), "dropped while it ran");

    for mood in [NOT_READY, BROKEN] {
        moody.is_now(READY);
        let held = limit.try_acquire().unwrap();
        let mut next = task::spawn(service.call(3));
        assert_pending!(next.poll());
        moody.is_now(mood);
        drop(held);
        assert!(next.is_woken());
        if mood == NOT_READY {
            assert_pending!(next.poll());
            assert_eq!(gauges(limit), (1, 0), "it has its place while the inner gets ready");
            drop(next);
        } else {
            assert!(assert_ready!(next.poll()).is_err());
        }
        assert_eq!(gauges(limit), (0, 0), "dropped, or broken, before it began");
    }

    moody.is_now(PANICS);
    let mut panicking = task::spawn(service.call(4));
    assert!(catch_unwind(AssertUnwindSafe(|| panicking.poll())).is_err());
    drop(panicking);
    assert_eq!(gauges(limit), (0, 0), "panicked while it ran");
}

/// A service whose inner calls never end, so that what is held would be seen.
fn endless() -> Moody {
    Moody::default()
}

#[tokio::test(start_paused = true)]
async fn a_closure_of_the_users_that_panics_leaves_nothing_held() {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as the layer calls it")]
    fn odd(request: &u32) -> u32 {
        assert_eq!(request % 2, 1, "the closure panics");
        1
    }
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as the layer calls it")]
    fn class_of(request: &u32) -> Option<Criticality> {
        (odd(request) == 1).then_some(Criticality::Critical)
    }
    fn panics<S: Service<u32>>(service: &mut S) {
        assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(2)))).is_err());
    }
    let one = ConcurrencyLimitPolicy::builder().limit(1).build().unwrap();

    let layer = ConcurrencyLimitLayer::per_key(one, odd);
    let mut service = layer.layer(endless());
    panics(&mut service);
    assert!(layer.handle().is_empty());
    assert_pending!(task::spawn(service.call(1)).poll());

    let layer = ConcurrencyLimitLayer::new(one).criticality(class_of);
    let mut service = layer.layer(endless());
    panics(&mut service);
    assert_eq!(layer.handle().in_flight(), 0);
    assert_pending!(task::spawn(service.call(1)).poll());

    let burst = RateLimitPolicy::builder().rate(1).burst(3).build().unwrap();
    let layer = RateLimitLayer::new(burst).cost(odd);
    let mut service = layer.layer(endless());
    panics(&mut service);
    assert_eq!(layer.handle().tokens(), 3);
    assert_pending!(task::spawn(service.call(1)).poll());
    assert_eq!(layer.handle().tokens(), 2);

    let layer = RateLimitLayer::per_key(burst, odd);
    let mut service = layer.layer(endless());
    panics(&mut service);
    assert!(layer.handle().is_empty());

    let layer = ClientThrottleLayer::new(ClientThrottlePolicy::default()).criticality(class_of);
    panics(&mut layer.layer(endless()));
    assert_eq!(layer.handle().counts(Criticality::Critical).requests, 0);
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_panics_in_its_call_spends_its_token_and_holds_nothing_else() {
    let burst = RateLimitPolicy::builder().rate(1).burst(3).build().unwrap();
    let layer = RateLimitLayer::new(burst);
    let mut service =
        layer.layer(service_fn(|_: u32| -> std::future::Ready<Result<u32, BoxError>> {
            panic!("the inner service panics")
        }));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(1)))).is_err());
    assert_eq!((layer.handle().tokens(), layer.handle().waiting()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn each_refusal_is_told_exactly_once() {
    let log = Log::default();
    let policy = ConcurrencyLimitPolicy::builder().limit(1).build().unwrap();
    let limit = ConcurrencyLimit::builder(policy).observe(log.clone()).build();
    let _held = limit.try_acquire().unwrap();
    assert_eq!((0..10).filter(|_| limit.try_acquire().is_err()).count(), 10);
    assert_eq!(log.all().len(), 10);

    let log = Log::default();
    let policy = RateLimitPolicy::builder().rate(1).build().unwrap();
    let limit = RateLimit::builder(policy).observe(log.clone()).build();
    assert_eq!((0..11).filter(|_| limit.try_acquire(1).is_err()).count(), 10);
    assert_eq!(log.all().len(), 10);
}

/// How many calls get in within a second of greedy asking.
async fn admitted_in_a_second(limit: &RateLimit) -> u32 {
    let mut admitted = 0;
    for _ in 0..1_000 {
        while limit.try_acquire(1).is_ok() {
            admitted += 1;
        }
        advance(MS).await;
    }
    admitted
}

/// Kitex's limiter lets 2 000 calls in.
#[tokio::test(start_paused = true)]
async fn after_two_idle_seconds_a_thousand_a_second_are_a_thousand_and_the_burst() {
    let policy = RateLimitPolicy::builder().rate(1_000).burst(1).build().unwrap();
    let limit = RateLimit::new(policy);
    advance(2 * SECOND).await;
    let admitted = admitted_in_a_second(&limit).await;
    assert!((999..=1_001).contains(&admitted), "{admitted}");
}

/// Kitex's own test, which allows 2 and 5 parts in a hundred.
#[tokio::test(start_paused = true)]
async fn a_rate_that_is_changed_under_load_is_kept_from_then_on() {
    let policy = |rate| RateLimitPolicy::builder().rate(rate).burst(20).build().unwrap();
    let limit = RateLimit::new(policy(1_000));
    for rate in [1_000, 10_000, 300] {
        limit.policy().replace(policy(rate));
        // Lets the burst of the one before go by.
        admitted_in_a_second(&limit).await;
        let admitted = admitted_in_a_second(&limit).await;
        assert!(admitted.abs_diff(rate) * 100 <= rate, "{rate}: {admitted}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disabled_limit_counts_nothing_even_where_there_is_room() {
    let policy = ConcurrencyLimitPolicy::builder().limit(2).enforcement(Enforcement::Disabled);
    let limit = ConcurrencyLimit::new(policy.build().unwrap());
    let _held = limit.try_acquire().unwrap();
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_just_made_says_that_nobody_is_inside_and_all_is_left() {
    let concurrency = ConcurrencyLimit::new(ConcurrencyLimitPolicy::default());
    assert_eq!(
        (concurrency.limit(), concurrency.in_flight(), concurrency.waiting()),
        (1_024, 0, 0)
    );
    let policy = RateLimitPolicy::builder().rate(7).burst(70).build().expect("valid");
    let rate = RateLimit::new(policy);
    assert_eq!((rate.tokens(), rate.waiting()), (70, 0));
    let adaptive = AdaptiveLimit::new(AdaptiveLimitPolicy::default()).status();
    assert_eq!((adaptive.limit, adaptive.in_flight, adaptive.waiting), (20, 0, 0));
    assert_eq!(adaptive.normal_latency, None);
}
