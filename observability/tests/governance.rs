//! What the layers tell, as metrics; and that the books balance.

#![expect(clippy::float_cmp, reason = "counts are whole numbers")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

mod support;

use std::{
    cell::RefCell,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use fastrand::Rng;
use outrigger_circuitbreak::{
    CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPanel, CircuitBreakerPolicy,
};
use outrigger_core::{Enforcement, Observe, Outcome, Rejection};
use outrigger_loadbalance::{Balance, BalancePolicy, BalanceService, Endpoint};
use outrigger_observability::{Contained, GovernanceMetrics, ObserveLayer, names};
use outrigger_ratelimit::{
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitPolicy, RateLimit, RateLimitPolicy,
};
use outrigger_retry::{
    AttemptKind, Backoff, Retry, RetryBudget, RetryBudgetPolicy, RetryEvent, RetryLayer,
    RetryPolicy, TimeoutLayer, TimeoutPolicy,
};
use support::Memory;
use tokio::time;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn metrics() -> (Memory, GovernanceMetrics) {
    let memory = Memory::default();
    let metrics = GovernanceMetrics::new(memory.clone());
    (memory, metrics)
}

#[tokio::test(start_paused = true)]
async fn a_breaker_shows_its_state_its_changes_and_what_it_refuses() {
    let (memory, metrics) = metrics();
    let policy = CircuitBreakerPolicy::builder().consecutive_failures(2).build().unwrap();
    let breaker = CircuitBreaker::builder(policy).name("orders").observe(metrics.clone()).build();
    let state =
        |state| memory.sum(names::BREAKER_STATE, &[(names::KEY, "orders"), (names::STATE, state)]);
    let watched = metrics.watch_breaker(&breaker);
    metrics.sample();
    assert_eq!((state("closed"), state("open")), (1.0, 0.0), "seen before its first change");
    for _ in 0..2 {
        breaker.try_acquire().unwrap().record(Outcome::Failure);
    }
    assert_eq!((state("closed"), state("open")), (0.0, 1.0));
    breaker.try_acquire().unwrap_err();
    let refused = [
        (names::LAYER, "circuitbreak"),
        (names::KEY, "orders"),
        (names::REASON, "circuit_open"),
        (names::ENFORCEMENT, "enforced"),
    ];
    assert_eq!(memory.sum(names::REJECTIONS, &refused), 1.0);
    let opened =
        [(names::FROM, "closed"), (names::STATE, "open"), (names::REASON, "consecutive_failures")];
    assert_eq!(memory.sum(names::BREAKER_TRANSITIONS, &opened), 1.0);
    breaker.reset();
    assert_eq!((state("closed"), state("open")), (1.0, 0.0));
    drop(watched);
    metrics.sample();
}

#[tokio::test]
async fn a_refusal_carries_the_reason_that_the_rejection_carries() {
    let (memory, metrics) = metrics();
    let breaker = CircuitBreaker::builder(CircuitBreakerPolicy::default());
    let breaker = breaker.name("orders").observe(metrics.clone()).build();
    breaker.force_open();
    let rejection = breaker.try_acquire().unwrap_err();
    let labels = [(names::LAYER, rejection.layer()), (names::REASON, rejection.reason())];
    assert_eq!(memory.sum(names::REJECTIONS, &labels), 1.0);

    let policy = ConcurrencyLimitPolicy::builder().limit(1).build().unwrap();
    let limit = ConcurrencyLimit::builder(policy).name("db").observe(metrics.clone()).build();
    let _first = limit.try_acquire();
    let rejection = limit.try_acquire().unwrap_err();
    let labels = [(names::LAYER, rejection.layer()), (names::REASON, rejection.reason())];
    assert_eq!(memory.sum(names::REJECTIONS, &labels), 1.0);

    let late = service_fn(|_: u32| std::future::pending::<Result<u32, BoxError>>());
    let timeout = TimeoutPolicy::builder().timeout(MS).build().unwrap();
    let layer = TimeoutLayer::new(timeout).observe(metrics.named("attempt"));
    let error = layer.layer(late).oneshot(1).await.unwrap_err();
    let rejection = Rejection::find(&*error).unwrap();
    let labels = [
        (names::LAYER, rejection.layer()),
        (names::REASON, rejection.reason()),
        (names::KEY, "attempt"),
    ];
    assert_eq!(memory.sum(names::REJECTIONS, &labels), 1.0);
}

#[test]
fn what_shadow_would_refuse_is_counted_beside_what_is_refused() {
    let (memory, metrics) = metrics();
    let policy = CircuitBreakerPolicy::builder()
        .consecutive_failures(1)
        .enforcement(Enforcement::Shadow)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::builder(policy).observe(metrics).build();
    breaker.try_acquire().unwrap().record(Outcome::Failure);
    drop(breaker.try_acquire().unwrap());
    let count = |enforcement| memory.sum(names::REJECTIONS, &[(names::ENFORCEMENT, enforcement)]);
    assert_eq!((count("enforced"), count("shadow")), (0.0, 1.0));
}

#[test]
fn limits_show_what_they_allow_and_what_is_in_use() {
    let (memory, metrics) = metrics();
    let policy = ConcurrencyLimitPolicy::builder().limit(7).build().unwrap();
    let limit = ConcurrencyLimit::builder(policy).name("db").build();
    let policy = RateLimitPolicy::builder().rate(1).burst(5).build().unwrap();
    let rate = RateLimit::builder(policy).name("api").build();
    let _watched = (metrics.watch_concurrency(&limit), metrics.watch_rate(&rate));
    let _permits = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
    rate.try_acquire(3).unwrap();
    metrics.sample();
    let of = |metric, key| memory.sum(metric, &[(names::KEY, key)]);
    assert_eq!((of(names::LIMIT, "db"), of(names::LIMIT_IN_USE, "db")), (7.0, 2.0));
    assert_eq!((of(names::LIMIT, "api"), of(names::LIMIT_IN_USE, "api")), (5.0, 3.0));
}

#[test]
fn a_budget_shows_what_is_left_and_a_policy_how_often_it_was_replaced() {
    let (memory, metrics) = metrics();
    let policy = RetryBudgetPolicy::builder().ratio(0.5).build().unwrap();
    let budget = RetryBudget::new(policy);
    let live = outrigger_core::Live::new(1);
    let _watched = (metrics.watch_budget("shop", &budget), metrics.watch_policy("shop", &live));
    (0..10).for_each(|_| budget.record_call());
    budget.try_acquire().unwrap().send();
    live.replace(2);
    live.replace(3);
    metrics.sample();
    metrics.sample();
    metrics.policy_reloaded("shop", false);
    assert_eq!(memory.sum(names::RETRY_BUDGET_USED, &[]), 1.0);
    let granted = std::iter::from_fn(|| budget.try_acquire()).take(100).collect::<Vec<_>>().len();
    assert_eq!((memory.sum(names::RETRY_BUDGET_LEFT, &[]), granted), (5.0, 5));
    assert_eq!(memory.sum(names::POLICY_RELOADS, &[(names::RESULT, "applied")]), 2.0);
    assert_eq!(memory.sum(names::POLICY_RELOADS, &[(names::RESULT, "refused")]), 1.0);
}

#[tokio::test]
async fn a_balancer_shows_its_endpoints_by_state_and_what_they_were_sent() {
    type Answers = tower::util::BoxCloneSyncService<u32, u32, BoxError>;
    let (memory, metrics) = metrics();
    let endpoint = |key: &str, good: bool| {
        let answer =
            move |n: u32| async move { if good { Ok(n) } else { Err(BoxError::from("no")) } };
        Endpoint::new(key, Answers::new(service_fn(answer)))
    };
    let balance = Balance::new(BalancePolicy::default()).observe(metrics.named("shop"));
    balance.replace([endpoint("a:1", true), endpoint("b:1", false)]);
    let _watched = metrics.watch_balance("shop", &balance);
    let mut calls = BalanceService::new(balance.clone());
    for n in 0..100 {
        let _ = calls.ready().await.unwrap().call(n).await;
    }
    metrics.sample();
    metrics.sample();
    let calls = |peer, result| {
        let labels = [(names::KEY, "shop"), (names::PEER, peer), (names::RESULT, result)];
        memory.sum(names::ENDPOINT_CALLS, &labels)
    };
    assert_eq!(calls("a:1", "success") + calls("b:1", "failure"), 100.0);
    assert!(calls("a:1", "success") > 0.0 && calls("b:1", "failure") > 0.0);
    let in_state =
        |state| memory.sum(names::ENDPOINTS, &[(names::KEY, "shop"), (names::STATE, state)]);
    let counts = ["healthy", "starting", "failing", "on_probation", "ejected"].map(in_state);
    assert_eq!(counts, [1.0, 0.0, 1.0, 0.0, 0.0], "the one that fails is not healthy");
    assert_eq!(memory.sum(names::ENDPOINT_CHANGES, &[(names::RESULT, "added")]), 2.0);
    balance.remove("a:1");
    balance.remove("b:1");
    balance.pick().unwrap_err();
    let refused = [(names::LAYER, "loadbalance"), (names::REASON, "no_endpoint")];
    assert_eq!(memory.sum(names::REJECTIONS, &refused), 1.0);
}

#[test]
fn keys_beyond_the_cap_share_a_series_that_still_tells_the_reason() {
    let memory = Memory::default();
    let most = NonZeroUsize::new(100).unwrap();
    let metrics = GovernanceMetrics::with_max_series(memory.clone(), most);
    for key in 0..10_000 {
        metrics.rejected("mine", &format!("user {key}"), "rate_reached", false);
    }
    assert!(memory.matching(names::REJECTIONS, &[]).len() <= 100);
    assert_eq!(memory.sum(names::REJECTIONS, &[(names::REASON, "rate_reached")]), 10_000.0);
    let overflow = [(names::KEY, names::OTHER), (names::OVERFLOW, "true")];
    assert_eq!(memory.sum(names::REJECTIONS, &overflow), 10_000.0 - 50.0);
}

#[test]
fn first_attempts_count_for_each_key_up_to_the_cap_and_together_beyond() {
    let memory = Memory::default();
    let metrics = GovernanceMetrics::with_max_series(memory.clone(), NonZeroUsize::MIN);
    let sent = RetryEvent::AttemptSent { number: 0, kind: AttemptKind::First, shadow: false };
    let good = RetryEvent::AttemptEnded { number: 0, outcome: Outcome::Success };
    for _ in 0..3 {
        for key in 0..100 {
            metrics.observe(&format!("method {key}"), &sent);
            metrics.observe(&format!("method {key}"), &good);
        }
        metrics.named("mine").observe("", &sent);
    }
    for (metric, label, calls) in [
        (names::RETRY_ATTEMPTS, (names::SORT, "first"), 303.0),
        (names::RETRY_RESULTS, (names::RESULT, "success"), 300.0),
    ] {
        assert_eq!(memory.sum(metric, &[label]), calls);
        assert_eq!(memory.sum(metric, &[label, (names::KEY, "method 0")]), 3.0);
        // At least 60 series are taken, of which 50 are kept for what is beyond.
        assert_eq!(memory.matching(metric, &[label]).len(), 11);
        assert_eq!(memory.sum(metric, &[(names::OVERFLOW, "true")]), calls - 30.0);
    }
}

#[test]
fn an_observer_that_panics_spoils_neither_the_layer_nor_its_neighbour() {
    let (memory, metrics) = metrics();
    let faulty = Contained::new(|_: &str, _: &outrigger_circuitbreak::CircuitBreakerEvent| {
        panic!("as asked")
    });
    let breaker = CircuitBreaker::builder(CircuitBreakerPolicy::default());
    let breaker = breaker.observe((faulty, metrics)).build();
    breaker.force_open();
    breaker.try_acquire().unwrap_err();
    assert_eq!(memory.sum(names::REJECTIONS, &[]), 1.0);
    let bare = |_: &str, _: &u32| panic!("as asked");
    catch_unwind(AssertUnwindSafe(|| bare.observe("", &1))).unwrap_err();
}

fn whole(count: u64) -> f64 {
    u32::try_from(count).unwrap().into()
}

/// Answers late, fails, or never answers, as the seed has it.
fn moody(
    rng: Rc<RefCell<Rng>>,
) -> impl Service<
    u32,
    Response = u32,
    Error = BoxError,
    Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>>>>,
> + Clone {
    service_fn(move |request: u32| {
        let (wait, mood) = {
            let mut rng = rng.borrow_mut();
            (MS * rng.u32(0..100), rng.u8(0..10))
        };
        let answer: Pin<Box<dyn Future<Output = _>>> = Box::pin(async move {
            time::sleep(wait).await;
            match mood {
                0..4 => Err("no".into()),
                4 => std::future::pending().await,
                _ => Ok(request),
            }
        });
        answer
    })
}

/// A client whose calls come at any time, and are dropped when its patience is over.
async fn busy_client(seed: u64, calls: u32) -> Memory {
    let (memory, metrics) = metrics();
    let rng = Rc::new(RefCell::new(Rng::with_seed(seed)));
    let retry = RetryPolicy::mixed(20 * MS).retries(3).backoff(Backoff::Fixed { delay: 5 * MS });
    let budget = RetryBudget::new(RetryBudgetPolicy::builder().ratio(0.5).build().unwrap());
    let limit = ConcurrencyLimitPolicy::builder().limit(8).build().unwrap();
    let breaker = CircuitBreakerPolicy::builder().consecutive_failures(4).cool_down(100 * MS);
    let panel = CircuitBreakerPanel::<u32>::builder(breaker.build().unwrap());
    let panel = panel.observe(metrics.clone()).build::<u32>();
    let service = ServiceBuilder::new()
        .layer(ObserveLayer::client().meter(memory.clone()))
        .layer(ConcurrencyLimitLayer::new(limit).observe(metrics.clone()))
        .layer(
            RetryLayer::new(retry.idempotent(true).build().unwrap())
                .budget(budget)
                .observe(metrics.clone()),
        )
        .layer(ObserveLayer::attempt().meter(memory.clone()))
        .layer(panel.into_layer(|request: &u32| request % 3))
        .service(moody(Rc::clone(&rng)));
    let tasks = tokio::task::LocalSet::new();
    for n in 0..calls {
        let call = service.clone().oneshot(n);
        let patience = MS * rng.borrow_mut().u32(20..150);
        let start = MS * rng.borrow_mut().u32(0..2_000);
        tasks.spawn_local(async move {
            time::sleep(start).await;
            drop(time::timeout(patience, call).await);
        });
    }
    tasks.await;
    memory
}

/// Calls and attempts as gRPC tells them apart (A6, A66): attempts = calls + retries + backups +
/// transparent - refused before sending, exactly, whatever is dropped, refused, late or failing.
#[tokio::test(start_paused = true)]
async fn the_books_balance_whatever_happens_to_the_calls() {
    let calls = 400;
    for seed in 0..10 {
        let memory = busy_client(seed, calls).await;
        let sent = |sort| {
            let labels = [(names::SORT, sort), (names::ENFORCEMENT, "enforced")];
            memory.sum(names::RETRY_ATTEMPTS, &labels)
        };
        let rejected = |layer| memory.sum(names::REJECTIONS, &[(names::LAYER, layer)]);
        let ended = |metric, outcome| whole(memory.count(metric, &[(names::OUTCOME, outcome)]));
        let calls = f64::from(calls);
        let begun = memory.sum(names::ATTEMPT_STARTED, &[]);
        let again = sent("retry") + sent("backup") + sent("transparent");

        assert_eq!(begun, calls + again - rejected("ratelimit"));
        assert_eq!(sent("first"), calls - rejected("ratelimit"));
        assert_eq!(ended(names::ATTEMPT_DURATION, "refused"), rejected("circuitbreak"));
        assert_eq!(whole(memory.count(names::CLIENT_DURATION, &[])), calls);
        assert_eq!(whole(memory.count(names::ATTEMPT_DURATION, &[])), begun);
        for metric in [names::CLIENT_IN_FLIGHT, names::ATTEMPTS_IN_FLIGHT] {
            assert_eq!(memory.sum(metric, &[]), 0.0);
        }
        // There is something to balance.
        assert!(sent("retry") > 10.0 && sent("backup") > 10.0);
        assert!(rejected("ratelimit") > 0.0 && rejected("circuitbreak") > 0.0);
        assert!(ended(names::CLIENT_DURATION, "cancelled") > 10.0);
    }
}

/// gRFC A96: how often a call was sent again, told by the call that it belongs to.
#[tokio::test(start_paused = true)]
async fn a_grpc_call_tells_how_often_it_was_retried_and_hedged() {
    let (memory, metrics) = metrics();
    let fails = std::cell::Cell::new(2);
    let service = service_fn(|n: u32| {
        let fail = fails.get() > 0;
        fails.set(fails.get() - i32::from(fail));
        async move { if fail { Err(BoxError::from("no")) } else { Ok(n) } }
    });
    let policy = RetryPolicy::failure().retries(3).idempotent(true).build().unwrap();
    let budget = RetryBudget::unlimited();
    let retry = Retry::builder(policy).budget(budget).observe(metrics).build();
    let service = ServiceBuilder::new()
        .layer(ObserveLayer::client().system("grpc").meter(memory.clone()))
        .layer(RetryLayer::from_handle(retry))
        .service(service);
    let (first, second) = (service.clone().oneshot(1).await, service.oneshot(2).await);
    assert_eq!((first.unwrap(), second.unwrap()), (1, 2));
    assert_eq!(memory.sum(names::GRPC_CALL_RETRIES, &[]), 2.0);
    assert_eq!(memory.count(names::GRPC_CALL_RETRIES, &[]), 1, "zero is not told");
    assert_eq!(memory.count(names::GRPC_CALL_HEDGES, &[]), 0);
}

#[tokio::test]
async fn a_layer_told_by_metrics_passes_calls_on() {
    let (_, metrics) = metrics();
    let layer = CircuitBreakerLayer::new(CircuitBreakerPolicy::default()).observe(metrics);
    let service = layer.layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));
    assert_eq!(service.oneshot(1).await.unwrap(), 2);
}
