//! What a user of the rate limit sees, polled by hand under paused time.

mod support;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use outrigger_core::Enforcement;
use outrigger_ratelimit::{
    RateLimit, RateLimitEvent, RateLimitLayer, RateLimitPanel, RateLimitPolicy,
    RateLimitPolicyBuilder, RateRefusal,
};
use support::{Held, InRequest, Log, MS, Request, SECOND, reason, rejection};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, service_fn};

fn of(rate: u32, burst: u32) -> RateLimitPolicyBuilder {
    RateLimitPolicy::builder().rate(rate).burst(burst)
}

fn limit(policy: RateLimitPolicyBuilder) -> RateLimit {
    RateLimit::new(policy.build().expect("a valid policy"))
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_the_exact_wait_and_sub_seconds_stay_so() {
    let limit = limit(of(100, 1));
    limit.try_acquire(1).unwrap();
    advance(Duration::from_micros(3_250)).await;
    let rejection = limit.try_acquire(1).unwrap_err();
    assert_eq!(rejection.retry_after(), Some(Duration::from_micros(6_750)));
    advance(Duration::from_micros(6_750)).await;
    limit.try_acquire(1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_costs_what_the_closure_says_and_the_impossible_is_refused_for_good() {
    let layer =
        RateLimitLayer::new(of(10, 10).build().unwrap()).cost(|request: &Request| request.cost);
    let held = Held::default();
    let mut service = layer.layer(held.clone());
    let mut call = |cost| {
        assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
        let request = Request { cost, ..Request::named(cost) };
        let mut call = task::spawn(service.call(request));
        match call.poll() {
            std::task::Poll::Ready(Err(error)) => Some(error),
            _ => None,
        }
    };
    assert!(call(10).is_none());
    let error = call(10).unwrap();
    assert_eq!(reason(&error), "rate_reached");
    assert_eq!(rejection(&error).retry_after(), Some(SECOND));
    let error = call(11).unwrap();
    assert_eq!(reason(&error), "cost_exceeds_burst");
    assert_eq!(rejection(&error).retry_after(), None);
    assert_eq!(held.running(), [10], "a refused call never reaches the inner service");
}

#[test]
fn a_ready_but_uncalled_clone_takes_no_token() {
    let layer = RateLimitLayer::new(of(1, 5).build().unwrap());
    let service = layer.layer(service_fn(|()| std::future::ready(Ok::<_, BoxError>(()))));
    for _ in 0..10 {
        let mut clone = service.clone();
        assert_ready_ok!(task::spawn(()).enter(|cx, _| clone.poll_ready(cx)));
    }
    assert_eq!(layer.handle().tokens(), 5);
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn five_hundred_waiters_are_woken_five_hundred_times_and_served_in_order() {
    let limit = limit(of(100, 1).max_waiting(500).max_wait(10 * SECOND));
    limit.try_acquire(1).unwrap();
    let counts: Vec<_> = (0..500).map(|_| Arc::new(Count::default())).collect();
    let mut seen = vec![0; 500];
    let mut waiters: Vec<_> = (0..500).map(|_| Box::pin(limit.acquire(1, None))).collect();
    let mut poll = |at: usize| {
        let waker = Waker::from(Arc::clone(&counts[at]));
        waiters[at].as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    };
    (0..500).for_each(|at| assert!(!poll(at)));
    let mut order = Vec::new();
    for step in 0..500 {
        advance(10 * MS).await;
        for at in 0..500 {
            let woken = counts[at].0.load(Ordering::SeqCst);
            if woken > seen[at] {
                seen[at] = woken;
                if poll(at) {
                    order.push(at);
                }
            }
        }
        assert_eq!(order.len(), step + 1, "one grant for each token");
        tokio::task::yield_now().await;
    }
    assert_eq!(order, (0..500).collect::<Vec<_>>());
    let wakes: usize = counts.iter().map(|count| count.0.load(Ordering::SeqCst)).sum();
    assert!((500..=510).contains(&wakes), "{wakes} wakes");
}

#[tokio::test(start_paused = true)]
async fn waiters_faster_than_the_timer_are_served_in_batches() {
    let limit = limit(of(100_000, 1).max_waiting(2_000).max_wait(SECOND));
    let start = Instant::now();
    let waiters = (0..1_000).map(|_| {
        let limit = limit.clone();
        tokio::spawn(async move { limit.acquire(1, None).await })
    });
    for waiter in waiters.collect::<Vec<_>>() {
        waiter.await.unwrap().unwrap();
    }
    let took = start.elapsed();
    assert!((9 * MS..=12 * MS).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_the_maximum_or_the_deadline_or_the_queue_is_refused_at_once() {
    let limit = limit(of(10, 1).max_waiting(3).max_wait(250 * MS));
    limit.try_acquire(1).unwrap();
    let deadline = |wait| Some(Instant::now() + wait);
    let mut hopeless = task::spawn(limit.acquire(1, deadline(99 * MS)));
    assert_eq!(assert_ready_err!(hopeless.poll()).reason(), "no_time_to_wait");
    let mut first = task::spawn(limit.acquire(1, deadline(100 * MS)));
    assert_pending!(first.poll());
    let mut second = task::spawn(limit.acquire(1, None));
    assert_pending!(second.poll());
    let mut third = task::spawn(limit.acquire(1, None));
    let rejection = assert_ready_err!(third.poll());
    assert_eq!(rejection.reason(), "wait_too_long");
    assert_eq!(rejection.retry_after(), Some(300 * MS), "behind the two who wait");
    drop(second);
    let mut third = task::spawn(limit.acquire(1, None));
    assert_pending!(third.poll());
    assert_eq!(limit.waiting(), 2);
    advance(100 * MS).await;
    assert!(first.is_woken() && !third.is_woken());
    assert_ready_ok!(first.poll());
}

#[tokio::test(start_paused = true)]
async fn a_call_never_overtakes_those_who_wait() {
    let limit = limit(of(10, 1).max_waiting(3));
    limit.try_acquire(1).unwrap();
    let mut first = task::spawn(limit.acquire(1, None));
    assert_pending!(first.poll());
    advance(100 * MS).await;
    assert!(limit.try_acquire(1).is_err(), "the token is the first waiter's");
    assert_ready_ok!(first.poll());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_first_hands_its_turn_on_and_what_it_was_given_comes_back() {
    let limit = limit(of(10, 1).max_waiting(3).max_wait(SECOND));
    limit.try_acquire(1).unwrap();
    let mut first = task::spawn(limit.acquire(1, None));
    let mut second = task::spawn(limit.acquire(1, None));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    advance(50 * MS).await;
    drop(first);
    assert!(second.is_woken(), "it is first now");
    assert_pending!(second.poll());
    advance(50 * MS).await;
    assert!(second.is_woken());
    assert_ready_ok!(second.poll());
    assert_eq!(limit.waiting(), 0);

    let limit = RateLimit::new(of(10, 2).max_waiting(3).build().unwrap());
    limit.try_acquire(2).unwrap();
    let mut first = task::spawn(limit.acquire(1, None));
    let mut second = task::spawn(limit.acquire(1, None));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    advance(200 * MS).await;
    // The first gives the second its token too, which then goes away without it.
    assert_ready_ok!(first.poll());
    drop(second);
    assert_eq!(limit.tokens(), 1);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_dropped_at_random_leave_the_queue_empty_and_the_rate_kept() {
    let mut rng = fastrand::Rng::with_seed(3);
    let limit = limit(of(1_000, 1).max_waiting(50).max_wait(SECOND));
    let start = Instant::now();
    let mut alive = Vec::new();
    let mut admitted = 0_u64;
    for _ in 0..10_000 {
        let limit = limit.clone();
        let mut waiter = task::spawn(async move { limit.acquire(1, None).await });
        match waiter.poll() {
            std::task::Poll::Ready(result) => admitted += u64::from(result.is_ok()),
            std::task::Poll::Pending => alive.push(waiter),
        }
        match rng.u32(0..4) {
            0 if !alive.is_empty() => drop(alive.swap_remove(rng.usize(0..alive.len()))),
            1 => advance(MS).await,
            _ => {}
        }
        alive.retain_mut(|waiter| {
            let done = waiter.is_woken() && waiter.poll().is_ready();
            admitted += u64::from(done);
            !done
        });
    }
    alive.clear();
    assert_eq!(limit.waiting(), 0);
    let tokens = u64::try_from(start.elapsed().as_millis()).unwrap() + 1;
    assert!(admitted <= tokens, "{admitted} of {tokens}");
    assert!(admitted * 100 > tokens * 95, "{admitted} of {tokens}: no turn is lost");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_quota_keeps_what_was_spent_and_admits_within_one_period() {
    let limit = limit(of(10, 10));
    advance(100 * SECOND).await;
    limit.try_acquire(10).unwrap();
    limit.policy().replace(of(20, 10).build().unwrap());
    assert!(limit.try_acquire(1).is_err(), "no second burst");
    advance(50 * MS).await;
    limit.try_acquire(1).unwrap();
    limit.policy().replace(of(1, 3).build().unwrap());
    assert_eq!(limit.try_acquire(1).unwrap_err().retry_after(), Some(SECOND));
}

#[tokio::test(start_paused = true)]
async fn who_waits_follows_a_replaced_quota() {
    let limit = limit(of(1, 1).max_waiting(5).max_wait(10 * SECOND));
    limit.try_acquire(1).unwrap();
    let mut waiter = task::spawn(limit.acquire(1, None));
    assert_pending!(waiter.poll());
    limit.policy().update(|policy| policy.to_builder().rate(100).build().unwrap());
    limit.refresh();
    assert!(waiter.is_woken());
    assert_pending!(waiter.poll());
    advance(10 * MS).await;
    assert_ready_ok!(waiter.poll());
}

#[tokio::test(start_paused = true)]
async fn shadow_never_refuses_nor_delays_and_disabled_counts_nothing() {
    let log = Log::default();
    let policy = of(10, 1).enforcement(Enforcement::Shadow).build().unwrap();
    let limit = RateLimit::builder(policy).observe(log.clone()).build();
    (0..3).for_each(|_| limit.try_acquire(1).unwrap());
    let refused = RateLimitEvent::Refused {
        reason: RateRefusal::RateReached,
        cost: 1,
        retry_after: Some(100 * MS),
        shadow: true,
    };
    assert_eq!(log.all(), [refused, refused]);

    limit.policy().update(|policy| policy.to_builder().max_waiting(9).build().unwrap());
    let mut waiter = task::spawn(limit.acquire(1, None));
    assert_ready_ok!(waiter.poll());
    assert_eq!(log.all()[2..], [RateLimitEvent::WouldWait { wait: 100 * MS }]);

    limit.policy().update(|policy| policy.with_enforcement(Enforcement::Disabled));
    advance(SECOND).await;
    (0..9).for_each(|_| limit.try_acquire(1).unwrap());
    assert_eq!((limit.tokens(), log.all().len()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_keys_stay_within_the_cap_and_a_busy_key_keeps_its_count() {
    let capacity = NonZeroUsize::new(1_000).unwrap();
    let panel = RateLimitPanel::<u32>::with_capacity(of(1, 1).build().unwrap(), capacity);
    panel.limit(&1_000_000).try_acquire(1).unwrap();
    for key in 0..100_000 {
        drop(panel.limit(&key));
        assert!(panel.len() <= 1_000);
    }
    let error = panel.limit(&1_000_000).try_acquire(1).unwrap_err();
    assert_eq!(error.key(), Some("1000000"));
    advance(SECOND).await;
    panel.limit(&1_000_000).try_acquire(1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn small_rates_admit_what_they_say() {
    // Kitex's limiter admits none at all below 10 per second, and 90 of 99.
    for rate in [1, 5, 9, 15, 99, 105] {
        let limit = limit(of(rate, 2));
        let mut admitted = 0;
        for _ in 0..10_000 {
            admitted += u32::from(limit.try_acquire(1).is_ok());
            advance(MS).await;
        }
        assert!(admitted.abs_diff(rate * 10) <= 2, "{rate}: {admitted}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_reaches_the_inner_service_when_its_token_is_there() {
    let policy = of(10, 1).max_waiting(5).build().unwrap();
    let layer = RateLimitLayer::new(policy).context(InRequest);
    let held = Held::default();
    let service = layer.layer(held.clone());
    let start = |request| {
        let mut service = service.clone();
        assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
        task::spawn(service.call(request))
    };
    let _first = start(Request::named(0));
    let mut late = start(Request::named(1).until(Instant::now() + 50 * MS));
    assert_eq!(reason(&assert_ready_err!(late.poll())), "no_time_to_wait");
    let mut second = start(Request::named(2));
    assert_pending!(second.poll());
    assert_eq!(held.running(), [0]);
    advance(100 * MS).await;
    assert_pending!(second.poll());
    assert_eq!(held.running(), [0, 2]);
    held.answer();
    held.answer();
    assert_eq!(assert_ready_ok!(second.poll()), 2);
}
