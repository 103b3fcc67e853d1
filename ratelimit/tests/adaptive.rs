//! What a user of the adaptive limit sees.

mod support;

use std::{
    future::{pending, ready},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use outrigger_core::{Criticality, Enforcement, Live, Observe, Outcome, Rejection};
use outrigger_ratelimit::{
    AdaptiveLimit, AdaptiveLimitEvent, AdaptiveLimitLayer, AdaptiveLimitPanel, AdaptiveLimitPolicy,
    AdaptiveLimitPolicyBuilder, AdaptivePermit, Asking, CutShort, LimitAlgorithm, LimitChange,
    LimitSample, Limiter,
};
use support::{Held, InRequest, Log, MS, Request, SECOND};
use tokio::time::{Instant, advance};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

fn of(initial: u32) -> AdaptiveLimitPolicyBuilder {
    AdaptiveLimitPolicy::builder().initial_limit(initial)
}

fn limit(policy: AdaptiveLimitPolicyBuilder) -> AdaptiveLimit {
    AdaptiveLimit::new(policy.build().expect("a valid policy"))
}

fn finish<O: Observe<AdaptiveLimitEvent>>(running: Vec<AdaptivePermit<O>>, outcome: Outcome) {
    for permit in running {
        permit.finish(outcome);
    }
}

/// So many rounds of as many calls as may run, each of which takes so long.
async fn rounds(limit: &AdaptiveLimit, rounds: u32, takes: Duration, outcome: Outcome) {
    for _ in 0..rounds {
        let running: Vec<_> = std::iter::from_fn(|| limit.try_acquire().ok()).collect();
        advance(takes).await;
        finish(running, outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn a_callee_with_room_gets_more_and_one_that_drops_gets_less() {
    let limit = limit(of(10));
    rounds(&limit, 40, 50 * MS, Outcome::Success).await;
    let grown = limit.status();
    assert!(grown.limit > 15, "{grown:?}");
    assert_eq!(grown.normal_latency, Some(50 * MS));

    rounds(&limit, 5, 250 * MS, Outcome::Failure).await;
    assert!(limit.status().limit < grown.limit / 2, "{:?}", limit.status());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_needs_does_not_grow() {
    let limit = limit(of(10));
    for _ in 0..1_000 {
        let one = limit.try_acquire().expect("there is room");
        advance(10 * MS).await;
        one.finish(Outcome::Success);
    }
    assert_eq!(limit.status().limit, 10);
}

#[tokio::test(start_paused = true)]
async fn it_keeps_to_its_bounds() {
    let limit = limit(of(10).min_limit(8).max_limit(12));
    rounds(&limit, 100, 50 * MS, Outcome::Success).await;
    assert_eq!(limit.status().limit, 12);
    rounds(&limit, 100, 250 * MS, Outcome::Timeout).await;
    assert_eq!(limit.status().limit, 8);
}

#[tokio::test(start_paused = true)]
async fn what_is_ignored_counts_for_nothing() {
    let limit = limit(of(10));
    rounds(&limit, 100, 50 * MS, Outcome::Ignored).await;
    assert_eq!((limit.status().limit, limit.status().normal_latency), (10, None));
}

#[tokio::test(start_paused = true)]
async fn calls_that_their_callers_drop_count_as_the_policy_says() {
    for (cut_short, expected) in [(CutShort::Ignored, 16), (CutShort::NotAccepted, 1)] {
        let limit = limit(of(16).cut_short(cut_short));
        for _ in 0..10 {
            let running: Vec<_> = std::iter::from_fn(|| limit.try_acquire().ok()).collect();
            advance(SECOND).await;
            drop(running);
        }
        let status = limit.status();
        assert_eq!((status.limit, status.in_flight), (expected, 0), "{cut_short:?}");
        assert_eq!(status.normal_latency, None, "a call that was cut short has no latency");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_learns_from_what_its_classifier_says() {
    let layer = AdaptiveLimitLayer::new(of(20).build().expect("valid"));
    let late = |result: Result<&u32, &BoxError>| match result {
        Ok(0) => Outcome::Timeout,
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Ignored,
    };
    let layer = layer.classify(late);
    let service = layer.layer(service_fn(|request: u32| async move {
        tokio::time::sleep(100 * MS).await;
        Ok::<_, BoxError>(request)
    }));
    let wave = |request: u32| {
        let calls = (0..100).map(|_| service.clone().oneshot(request));
        calls.map(tokio::spawn).collect::<Vec<_>>()
    };
    for request in [1; 20] {
        for call in wave(request) {
            let _ = call.await.expect("it does not panic");
        }
    }
    let status = layer.handle().status();
    assert_eq!(status.in_flight, 0);
    assert!(status.normal_latency.is_some_and(|latency| latency >= 100 * MS), "{status:?}");
    let before = status.limit;
    for request in [0; 8] {
        for call in wave(request) {
            let _ = call.await.expect("it does not panic");
        }
    }
    assert!(layer.handle().status().limit < before / 2, "{:?}", layer.handle().status());
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_limit_never_reaches_the_inner_service() {
    let held = Held::default();
    let layer = AdaptiveLimitLayer::new(of(1).build().expect("valid")).context(InRequest);
    let mut service = layer.layer(held.clone());
    let first = service.ready().await.expect("ready").call(Request::named(1));
    let mut first = pin!(first);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let second = service.ready().await.expect("ready").call(Request::named(2)).await;
    let error = second.expect_err("there is no place");
    assert_eq!(support::reason(&error), "limit_reached");
    assert_eq!(held.running(), [1]);
    held.answer();
    assert_eq!(first.await.expect("it is answered"), 1);
    assert_eq!(layer.handle().status().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_served_as_places_come_free_and_as_the_limit_grows() {
    let limit = limit(of(2).max_waiting(10).max_wait(3_600 * SECOND));
    let first = limit.try_acquire().expect("a place");
    let _second = limit.try_acquire().expect("a place");
    let mut third = pin!(limit.acquire(Asking::default()));
    let mut fourth = pin!(limit.acquire(Asking::default()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(third.as_mut().poll(&mut cx).is_pending());
    assert!(fourth.as_mut().poll(&mut cx).is_pending());
    first.finish(Outcome::Success);
    let third = third.await.expect("the place of the first");
    assert_eq!(limit.status().waiting, 1);
    limit.policy().replace(of(3).min_limit(3).max_waiting(10).build().expect("valid"));
    limit.refresh();
    let _fourth = fourth.await.expect("a place more");
    assert_eq!(limit.status().in_flight, 3);
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn near_the_limit_the_least_critical_are_refused_first() {
    let limit = limit(of(20));
    let of_class = |criticality| {
        let mut asking = Asking::default();
        asking.criticality = criticality;
        limit.try_acquire_for(asking)
    };
    let fill = || std::iter::from_fn(|| of_class(Criticality::Sheddable).ok()).collect::<Vec<_>>();
    // Nobody critical is about: all places are lent.
    let lent = fill();
    assert_eq!(lent.len(), 20);
    assert!(of_class(Criticality::CriticalPlus).is_err());
    drop(lent);

    // Now critical calls are about: a tenth is kept for them.
    let kept = fill();
    assert!((17..=18).contains(&kept.len()), "{}", kept.len());
    assert!(of_class(Criticality::CriticalPlus).is_ok());
}

#[tokio::test(start_paused = true)]
async fn shadow_refuses_nobody_learns_all_the_same_and_tells() {
    let log = Log::default();
    let policy = of(5).enforcement(Enforcement::Shadow).build().expect("valid");
    let limit = AdaptiveLimit::builder(policy).name("orders").observe(log.clone()).build();
    let running: Vec<_> = (0..8).map(|_| limit.try_acquire().expect("in shadow")).collect();
    assert_eq!(limit.status().in_flight, 8);
    let refused = |event: &AdaptiveLimitEvent| {
        matches!(event, AdaptiveLimitEvent::Refused { shadow: true, .. })
    };
    assert_eq!(log.all().iter().filter(|event| refused(event)).count(), 3);
    drop(running);
    assert_eq!(limit.status().in_flight, 0);
    for _ in 0..40 {
        let running: Vec<_> = (0..20).map(|_| limit.try_acquire().expect("in shadow")).collect();
        advance(50 * MS).await;
        finish(running, Outcome::Success);
    }
    assert!(limit.status().limit > 5, "{:?}", limit.status());
}

#[tokio::test(start_paused = true)]
async fn a_disabled_limit_counts_nothing() {
    let limit = limit(of(1).enforcement(Enforcement::Disabled));
    let running: Vec<_> = (0..100).map(|_| limit.try_acquire().expect("no limit")).collect();
    assert_eq!(limit.status().in_flight, 0);
    advance(SECOND).await;
    finish(running, Outcome::Failure);
    assert_eq!(limit.status().limit, 1);
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_with_its_reason() {
    let log = Log::default();
    let policy = Live::new(of(10).build().expect("valid"));
    let limit = AdaptiveLimit::builder(policy.clone()).observe(log.clone()).build();
    for outcome in [Outcome::Success, Outcome::Failure] {
        for _ in 0..40 {
            let running: Vec<_> = std::iter::from_fn(|| limit.try_acquire().ok()).collect();
            advance(100 * MS).await;
            finish(running, outcome);
        }
    }
    policy.replace(of(30).min_limit(30).build().expect("valid"));
    limit.refresh();
    assert_eq!(limit.status().limit, 30);
    let reasons: Vec<_> = log
        .all()
        .into_iter()
        .filter_map(|event| match event {
            AdaptiveLimitEvent::Changed { reason, from, to } => {
                assert_ne!(from, to);
                Some(reason)
            }
            _ => None,
        })
        .collect();
    assert_eq!(reasons.first(), Some(&LimitChange::Room));
    assert!(reasons.contains(&LimitChange::Drops));
    assert_eq!(reasons.last(), Some(&LimitChange::Policy));
}

#[derive(Debug)]
struct Always(f64);

impl Limiter for Always {
    fn next_limit(&mut self, _: &LimitSample) -> f64 {
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn the_algorithm_changes_at_run_time_and_can_be_ones_own() {
    let limit = limit(of(10));
    let aimd = of(10).algorithm(LimitAlgorithm::Aimd).build().expect("valid");
    limit.policy().replace(aimd);
    rounds(&limit, 40, 100 * MS, Outcome::Success).await;
    limit.refresh();
    assert!(limit.status().limit > 10);

    for (says, expected) in [(7.0, 7), (f64::NAN, 10), (f64::INFINITY, 10), (-3.0, 1)] {
        let own = AdaptiveLimit::builder(of(10).build().expect("valid"));
        let own = own.limiter(move || Always(says)).build();
        rounds(&own, 10, 100 * MS, Outcome::Success).await;
        let limit = own.status().limit;
        // A limit that nothing can be learnt of is raised now and then, by one.
        assert!((expected..=expected + 1).contains(&limit), "{says} came to {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_dropped_at_random_leave_every_place_free() {
    let layer = AdaptiveLimitLayer::new(of(50).max_waiting(50).build().expect("valid"));
    let service = layer.layer(service_fn(|takes: u64| async move {
        tokio::time::sleep(Duration::from_millis(takes)).await;
        Ok::<_, BoxError>(())
    }));
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..100 {
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let call = service.clone().oneshot(rng.u64(0..50));
                tokio::spawn(tokio::time::timeout(Duration::from_millis(rng.u64(0..50)), call))
            })
            .collect();
        for call in calls {
            let _ = call.await.expect("it does not panic");
        }
    }
    let status = layer.handle().status();
    assert_eq!((status.in_flight, status.waiting), (0, 0));
}

#[test]
fn a_panicking_inner_service_leaks_no_place() {
    let layer = AdaptiveLimitLayer::new(of(1).build().expect("valid"));
    let mut service = layer.layer(service_fn(|()| async {
        panic!("the service panics");
        #[expect(unreachable_code, reason = "it says the type")]
        Ok::<(), Rejection>(())
    }));
    for _ in 0..3 {
        let call = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut call = pin!(service.call(()));
            let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }));
        assert!(call.is_err());
        assert_eq!(layer.handle().status().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_over_holds_its_place_until_it_is_dropped() {
    let layer = AdaptiveLimitLayer::new(of(1).build().expect("valid"));
    let mut service = layer.layer(service_fn(|()| pending::<Result<(), Rejection>>()));
    let mut call = Box::pin(service.call(()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    assert_eq!(layer.handle().status().in_flight, 1);
    drop(call);
    assert_eq!(layer.handle().status().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_limit_and_their_number_is_capped() {
    let policy = of(1).build().expect("valid");
    let panel = AdaptiveLimitPanel::with_capacity(policy, 100.try_into().expect("not 0"));
    let mut service = panel
        .clone()
        .into_layer(|key: &u32| *key)
        .layer(service_fn(|_| ready(Ok::<_, Rejection>(()))));
    let held = panel.limit(&1).try_acquire().expect("a place");
    let mut answer = |key: u32| {
        let mut call = pin!(service.call(key));
        call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    };
    assert!(matches!(answer(1), Poll::Ready(Err(_))));
    assert!(matches!(answer(2), Poll::Ready(Ok(()))));
    for key in 0..100_000 {
        let _ = answer(key);
    }
    assert!(panel.len() <= 100, "{}", panel.len());
    assert!(panel.get(&1).is_some(), "one with a call inside stays");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_weak_handle_keeps_nothing_alive() {
    let limit = limit(of(1));
    let weak = limit.downgrade();
    assert!(weak.upgrade().is_some());
    drop(limit);
    assert!(weak.upgrade().is_none());
}

/// Counts the windows in which it was asked.
#[derive(Debug)]
struct Asked(Arc<AtomicU32>);

impl Limiter for Asked {
    fn next_limit(&mut self, sample: &LimitSample) -> f64 {
        self.0.fetch_add(1, Ordering::Relaxed);
        sample.limit
    }
}

#[test]
fn threads_that_end_calls_together_end_each_window_once() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let policy = of(1_000).min_window(SECOND).max_window(SECOND).build().expect("valid");
    let limit = AdaptiveLimit::builder(policy).limiter(move || Asked(Arc::clone(&counter))).build();
    let start = Instant::now();
    // In each second 400 calls end: 200 on either thread, at the same time.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for call in 0..2_000_u32 {
                    let permit = limit.try_acquire_at(Asking::default(), start).expect("a place");
                    permit.finish_at(Outcome::Success, start + SECOND * (call / 200 + 1));
                }
            });
        }
    });
    assert_eq!(limit.status().in_flight, 0);
    let windows = asked.load(Ordering::Relaxed);
    assert!((5..=10).contains(&windows), "{windows} windows of ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_says_nothing_of_the_limit() {
    for deadline in [None, Some(Instant::now())] {
        let limit = limit(of(10));
        for _ in 0..60 {
            // Half of the limit is needed; it does not grow unless calls are refused.
            let running: Vec<_> =
                (0..5).map(|_| limit.try_acquire().expect("there is room")).collect();
            let mut asking = Asking::default();
            asking.deadline = deadline;
            let asked = limit.try_acquire_for(asking);
            assert_eq!(asked.is_err(), deadline.is_some());
            advance(50 * MS).await;
            finish(running, Outcome::Success);
            drop(asked);
        }
        assert_eq!(limit.status().limit, 10, "{deadline:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_reserve_keeps_calls_out_the_limit_grows() {
    let limit = limit(of(20).critical_reserve(0.4));
    let of_class = |criticality| {
        let mut asking = Asking::default();
        asking.criticality = criticality;
        limit.try_acquire_for(asking)
    };
    for _ in 0..60 {
        let critical = of_class(Criticality::CriticalPlus);
        let refused = of_class(Criticality::CriticalPlus);
        let mut running: Vec<_> =
            std::iter::from_fn(|| of_class(Criticality::Sheddable).ok()).collect();
        running.extend([critical, refused].into_iter().flatten());
        advance(50 * MS).await;
        finish(running, Outcome::Success);
    }
    assert!(limit.status().limit > 25, "{:?}", limit.status());
}

#[tokio::test(start_paused = true)]
async fn a_replaced_policy_ends_a_window_that_was_to_last_long() {
    let hour = 3_600 * SECOND;
    let limit = limit(of(10).min_window(hour).max_window(hour));
    rounds(&limit, 20, 50 * MS, Outcome::Success).await;
    assert_eq!(limit.status().normal_latency, None, "the window is not over");
    limit.policy().replace(of(10).max_window(SECOND).build().expect("valid"));
    rounds(&limit, 60, 50 * MS, Outcome::Success).await;
    assert_eq!(limit.status().normal_latency, Some(50 * MS));
}

/// Replaces the policy of the limit that asks it, and takes a place of it.
#[derive(Debug)]
struct Meddles(Arc<Mutex<Option<AdaptiveLimit>>>);

impl Limiter for Meddles {
    fn next_limit(&mut self, sample: &LimitSample) -> f64 {
        let limit = self.0.lock().expect("one at a time").clone().expect("it was made");
        limit.policy().replace(of(30).min_limit(30).build().expect("valid"));
        limit.try_acquire().expect("a place").finish(Outcome::Ignored);
        sample.limit
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_for_a_limiter_that_replaces_the_policy() {
    let slot = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&slot);
    let policy = of(10).build().expect("valid");
    let limit =
        AdaptiveLimit::builder(policy).limiter(move || Meddles(Arc::clone(&shared))).build();
    *slot.lock().expect("nobody else") = Some(limit.clone());
    for _ in 0..10 {
        // One place is left for the limiter.
        let running: Vec<_> = (0..9).map(|_| limit.try_acquire().expect("a place")).collect();
        advance(100 * MS).await;
        finish(running, Outcome::Success);
    }
    assert_eq!(limit.status().limit, 30);
    *slot.lock().expect("nobody else") = None;
}

#[cfg(feature = "http")]
mod over_http {
    use http::{HeaderMap, Request, Response, StatusCode};
    use http_body_util::{BodyExt, Empty, StreamBody};

    use super::*;

    /// The limit after many rounds of calls that take 250 ms and are answered so.
    async fn limit_after<B>(answer: impl Fn() -> Response<B> + Clone + Send + 'static) -> u32
    where
        B: http_body::Body<Data = bytes::Bytes, Error: std::fmt::Debug> + Send + 'static,
    {
        let layer = AdaptiveLimitLayer::new(of(16).build().expect("valid"));
        let service = service_fn(move |_: Request<()>| {
            let answer = answer.clone();
            async move {
                tokio::time::sleep(250 * MS).await;
                Ok::<_, BoxError>(answer())
            }
        });
        let local = tokio::task::LocalSet::new();
        let _entered = local.enter();
        for _ in 0..20 {
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let (service, layer) = (service.clone(), layer.clone());
                calls.spawn_local(async move {
                    let request = Request::new(());
                    let response = layer.grpc().layer(service).oneshot(request).await;
                    if let Ok(response) = response {
                        response.into_body().collect().await.expect("a whole body");
                    }
                });
            }
            local.run_until(async { while calls.join_next().await.is_some() {} }).await;
        }
        let status = layer.handle().status();
        assert_eq!(status.in_flight, 0);
        status.limit
    }

    fn with_status(status: StatusCode) -> impl Fn() -> Response<Empty<bytes::Bytes>> + Clone {
        move || {
            let mut response = Response::new(Empty::new());
            *response.status_mut() = status;
            response
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_speak_of_overload_are_drops_in_head_and_trailers() {
        assert_eq!(limit_after(with_status(StatusCode::TOO_MANY_REQUESTS)).await, 1);
        assert_eq!(limit_after(with_status(StatusCode::GATEWAY_TIMEOUT)).await, 1);
        assert!(limit_after(with_status(StatusCode::INTERNAL_SERVER_ERROR)).await >= 16);
        let exhausted = || {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("8"));
            let frames = [Ok::<_, Rejection>(http_body::Frame::<bytes::Bytes>::trailers(trailers))];
            Response::new(StreamBody::new(tokio_stream::iter(frames)))
        };
        assert_eq!(limit_after(exhausted).await, 1);
    }
}
