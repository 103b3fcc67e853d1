//! Traps in which retries were caught: copies of requests that nobody needs, breakers that jam,
//! caps that hold for calls one after the other only, locks that are held while waiting.

use std::{
    future::{Future, ready},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use outrigger_core::{Enforcement, Live};
use outrigger_retry::{
    Backoff, QuantileDelay, RetryBudget, RetryBudgetPolicy, RetryLayer, RetryPolicy,
    RetryPolicyBuilder,
};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A request that counts how often it was copied.
struct Counted(Arc<AtomicU32>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

fn built(policy: RetryPolicyBuilder) -> RetryPolicy {
    policy.build().expect("a valid policy")
}

fn failure() -> RetryPolicyBuilder {
    RetryPolicy::failure().idempotent(true).backoff(Backoff::None)
}

/// How often a request is copied for a call whose first attempts fail, and how many there are.
async fn copies(policy: RetryPolicy, failing: u32) -> (u32, u32) {
    let (copied, attempts) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&attempts);
    let callee = service_fn(move |_: Counted| {
        let number = seen.fetch_add(1, Ordering::Relaxed);
        ready(if number < failing { Err(BoxError::from("failed")) } else { Ok(()) })
    });
    let layer = RetryLayer::new(policy).budget(RetryBudget::unlimited());
    let _ = layer.layer(callee).oneshot(Counted(Arc::clone(&copied))).await;
    (copied.load(Ordering::Relaxed), attempts.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn no_copy_is_made_for_the_last_attempt_nor_where_the_policy_is_off() {
    assert_eq!(copies(built(failure().retries(3)), 9).await, (3, 4));
    assert_eq!(copies(built(failure().retries(1)), 9).await, (1, 2));
    assert_eq!(copies(built(failure().retries(3)), 0).await, (1, 1));
    assert_eq!(copies(RetryPolicy::off(), 9).await, (0, 1));
    let disabled = failure().enforcement(Enforcement::Disabled);
    assert_eq!(copies(built(disabled), 9).await, (0, 1));
}

/// A callee of which each call takes so long and then fails or not.
fn callee(
    takes: Duration,
    fails: impl Fn() -> bool + Clone + Send,
) -> impl Service<(), Response = (), Error = BoxError, Future: Future + Send> + Clone + Send {
    service_fn(move |()| {
        let fails = fails.clone();
        async move {
            sleep(takes).await;
            if fails() { Err(BoxError::from("failed")) } else { Ok(()) }
        }
    })
}

/// Kitex's retry breaker stayed open for ever after an outage.
#[tokio::test(start_paused = true)]
async fn an_outage_that_is_over_leaves_no_budget_jammed() {
    let budget = RetryBudget::new(RetryBudgetPolicy::default());
    let layer = RetryLayer::new(built(failure().retries(1))).budget(budget.clone());
    let is_down = Arc::new(AtomicU32::new(1));
    let down = Arc::clone(&is_down);
    let service = layer.layer(callee(MS, move || down.load(Ordering::Relaxed) == 1));
    for _ in 0..250 {
        let _ = service.clone().oneshot(()).await;
    }
    is_down.store(0, Ordering::Relaxed);
    advance(Duration::from_millis(10_500)).await;
    for _ in 0..1_000 {
        service.clone().oneshot(()).await.expect("it is up");
    }
    is_down.store(1, Ordering::Relaxed);
    for _ in 0..20 {
        let _ = service.clone().oneshot(()).await;
    }
    assert_eq!(budget.snapshot().attempts, 20, "every one of twenty may be sent again");
}

/// Kitex's cap let every one of a thousand through that failed at the same time and backed off.
#[tokio::test(start_paused = true)]
async fn a_thousand_calls_that_fail_together_and_back_off_stay_within_the_share() {
    let attempts = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&attempts);
    let callee = callee(MS, move || seen.fetch_add(1, Ordering::Relaxed) < u32::MAX);
    let policy = failure().retries(3).backoff(Backoff::Fixed { delay: 10 * MS });
    let budget = RetryBudget::new(RetryBudgetPolicy::default());
    let service = RetryLayer::new(built(policy)).budget(budget).layer(callee);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let service = service.clone();
        calls.spawn(async move { service.oneshot(()).await.is_err() });
    }
    while let Some(failed) = calls.join_next().await {
        assert!(failed.expect("it does not panic"));
    }
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((1_090..=1_101).contains(&attempts), "{attempts}");
}

/// Kitex holds its policy's lock while it sleeps, so that a new policy waits for the sleepers.
#[tokio::test(start_paused = true)]
async fn a_policy_is_replaced_while_calls_back_off() {
    let policy = failure().retries(1).backoff(Backoff::Fixed { delay: 3_600 * SECOND });
    let policy = Live::new(built(policy));
    let layer = RetryLayer::new(policy.clone()).budget(RetryBudget::unlimited());
    let service = layer.layer(callee(MS, || true));
    let sleeper = tokio::spawn(service.clone().oneshot(()));
    sleep(SECOND).await;
    policy.replace(RetryPolicy::off());
    let begin = Instant::now();
    assert!(service.oneshot(()).await.is_err());
    assert_eq!(begin.elapsed(), MS, "the new policy does not wait for who sleeps by the old");
    sleeper.abort();
}

/// Kitex takes a call that its caller gave up for one that timed out, and repeats it.
#[tokio::test(start_paused = true)]
async fn a_call_that_its_caller_gives_up_is_not_repeated() {
    let attempts = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&attempts);
    let callee = service_fn(move |()| {
        seen.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Result<(), BoxError>>()
    });
    let policy = built(RetryPolicy::mixed(SECOND).idempotent(true).retries(2));
    let layer = RetryLayer::new(policy).budget(RetryBudget::unlimited());
    let call = layer.layer(callee).oneshot(());
    assert!(timeout(10 * MS, call).await.is_err());
    advance(10 * SECOND).await;
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}

/// A hedge by a quantile stays at the quantile's share: what the winner cut short is not forgotten.
#[tokio::test(start_paused = true)]
async fn backups_by_a_live_quantile_are_as_many_as_the_quantile_says() {
    let policy = RetryPolicy::backup(QuantileDelay::of(0.95).min_samples(20));
    let budget = RetryBudget::new(RetryBudgetPolicy::builder().ratio(1.0).build().expect("valid"));
    let rng = Arc::new(std::sync::Mutex::new(fastrand::Rng::with_seed(3)));
    let attempts = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&attempts);
    let callee = service_fn(move |()| {
        seen.fetch_add(1, Ordering::Relaxed);
        let draw = rng.lock().expect("not poisoned").f64();
        // A hundredth takes ten times as long.
        let takes = if draw < 0.01 { 1_000.0 } else { 50.0 + 50.0 * draw };
        async move {
            sleep(Duration::from_secs_f64(takes / 1e3)).await;
            Ok::<_, BoxError>(())
        }
    });
    let layer = RetryLayer::new(built(policy.idempotent(true))).budget(budget);
    let service = layer.layer(callee);
    for _ in 0..2_000 {
        service.clone().oneshot(()).await.expect("it answers");
    }
    attempts.store(0, Ordering::Relaxed);
    for _ in 0..1_000 {
        service.clone().oneshot(()).await.expect("it answers");
    }
    let backups = attempts.load(Ordering::Relaxed) - 1_000;
    assert!((40..=60).contains(&backups), "{backups} of a thousand calls sent a backup");
}

/// Policies that Kitex takes with a warning, or panics at, are refused with the setting's name.
#[test]
fn impossible_policies_are_refused_by_name() {
    let field = |policy: RetryPolicyBuilder| policy.build().unwrap_err().field().to_owned();
    assert_eq!(field(RetryPolicy::failure().retries(6)), "retries");
    assert_eq!(field(RetryPolicy::mixed(10 * MS).idempotent(true).retries(6)), "retries");
    assert_eq!(field(RetryPolicy::backup(10 * MS)), "idempotent");
    assert!(RetryBudgetPolicy::builder().ratio(f64::NAN).build().is_err());
    assert!(RetryBudgetPolicy::builder().ratio(-0.1).build().is_err());
}
