//! The parts of a stack apart: a crate without the stack, a layer of one's own in a policy's place,
//! each policy switched alone, and whether a fallback's answers count.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use outrigger::{
    FallbackLayer, Format, Governance, Governed, PolicyKind, PolicySet,
    circuitbreak::CircuitBreakerLayer,
    core::{
        Enforcement::{self, Disabled, Enforced, Shadow},
        MethodRef, Rejection,
    },
    observability::{GovernanceMetrics, ObserveLayer, names},
    retry::{RetryBudget, RetryLayer, TimeoutLayer},
};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::Memory;

const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

fn set(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap_or_else(|e| panic!("{e}"))
}

/// A request that names its method.
type Call = &'static str;

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn namer(call: &Call) -> Option<MethodRef<'_>> {
    Some(MethodRef { service: "shop.Cart", method: call })
}

/// Answers late, and counts what it is sent.
fn late(
    sent: &Arc<AtomicU32>,
) -> impl Service<Call, Response = Call, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let sent = Arc::clone(sent);
    service_fn(move |call: Call| {
        sent.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(Duration::from_secs(1)).await;
            Ok(call)
        }
    })
}

/// What each of three calls came to, when, and how often the service had been asked by then.
async fn three_calls(
    service: impl Service<Call, Response = Call, Error = BoxError> + Clone,
    sent: &AtomicU32,
) -> Vec<String> {
    let (mut told, began) = (Vec::new(), Instant::now());
    for _ in 0..3 {
        let error = service.clone().oneshot("Get").await.expect_err("late");
        let refused = Rejection::find_in(&error).expect("a refusal");
        let word = (refused.layer(), refused.reason());
        told.push(format!("{word:?} at {:?}, {sent:?} sent", began.elapsed()));
    }
    told
}

#[tokio::test(start_paused = true)]
async fn single_crates_do_by_a_sets_policies_what_the_stack_does_by_them() {
    let policies = set("
retry_budget: 100%
defaults:
  attempt_timeout: 50ms
  circuit_breaker: {consecutive_failures: 3, cool_down: 1h}
  retry: {mode: failure, idempotent: true, retries: 1, backoff: none}
");
    let (policy, sent) = (policies.method(GET), Arc::new(AtomicU32::new(0)));
    let budget = *policies.service("shop.Cart").retry_budget().expect("stated");
    let retry = *policy.retry().expect("stated");
    let apart = ServiceBuilder::new()
        .layer(RetryLayer::new(retry).budget(RetryBudget::new(budget)))
        .layer(CircuitBreakerLayer::new(policy.circuit_breaker().expect("stated").clone()))
        .layer(TimeoutLayer::new(*policy.attempt_timeout().expect("stated")))
        .service(late(&sent));
    let apart = three_calls(apart, &sent).await;
    // Cut after 50 ms and sent again; the third failure opens the circuit.
    assert_eq!(sent.swap(0, Ordering::Relaxed), 3, "{apart:?}");
    assert!(apart[0].contains("100ms") && apart[0].contains("timeout"), "{apart:?}");
    assert!(apart[2].contains("150ms") && apart[2].contains("circuitbreak"), "{apart:?}");

    let stack = Governance::new(policies).client(namer).layer(late(&sent));
    assert_eq!(three_calls(stack, &sent).await, apart);
}

#[tokio::test(start_paused = true)]
async fn a_layer_of_ones_own_stands_where_a_policy_is_left_out() {
    let governance = Governance::new(set("
retry_budget: unlimited
defaults: {retry: {mode: failure, idempotent: true, retries: 1, backoff: none}}
"));
    let (attempts, running) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let service = service_fn(move |call: Call| {
        let is_first = attempts.fetch_add(1, Ordering::Relaxed) == 0;
        assert_eq!(running.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
        let running = Running(Arc::clone(&running));
        async move {
            sleep(if is_first { Duration::MAX } else { Duration::from_millis(10) }).await;
            drop(running);
            Ok::<_, BoxError>(call)
        }
    });
    // tower's, whose limit lets calls wait where ours refuses them.
    let client = governance
        .client(namer)
        .around_attempts(tower::timeout::TimeoutLayer::new(Duration::from_millis(50)))
        .around_calls(tower::limit::ConcurrencyLimitLayer::new(1))
        .layer(service);
    let began = Instant::now();
    let call = || client.clone().oneshot("Get");
    let (one, two) = tokio::join!(call(), call());
    assert_eq!((one.expect("sent again"), two.expect("after it")), ("Get", "Get"));
    // tower's timer cut the first attempt, and the second was sent by our retries.
    assert_eq!(began.elapsed(), Duration::from_millis(50 + 10 + 10));
}

/// A call that runs, until it is dropped.
struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All policies of a client, each so narrow that twenty pairs of calls that fail after a second
/// feel it. A scope has a fixed limit or an adaptive one.
fn harsh(limit: &str) -> String {
    format!(
        "
retry_budget: unlimited
defaults:
  timeout: 20ms
  attempt_timeout: 10ms
  rate_limit: {{rate: 1, burst: 1, period: 1h}}
  {limit}
  client_throttle: {{min_requests: 0, k: 1.01}}
  circuit_breaker: {{consecutive_failures: 1, cool_down: 1h}}
  retry: {{mode: failure, idempotent: true, retries: 1, backoff: none}}
"
    )
}

/// The policies, and the layer that refuses by each.
const REFUSING: [(PolicyKind, &str); 7] = [
    (PolicyKind::Timeout, "timeout"),
    (PolicyKind::AttemptTimeout, "timeout"),
    (PolicyKind::RateLimit, "ratelimit"),
    (PolicyKind::ConcurrencyLimit, "ratelimit"),
    (PolicyKind::AdaptiveLimit, "ratelimit"),
    (PolicyKind::ClientThrottle, "ratelimit"),
    (PolicyKind::CircuitBreaker, "circuitbreak"),
];

/// What forty calls came to while `policy` alone was not disabled, but `enforcement`.
async fn switched(policy: PolicyKind, enforcement: Enforcement) -> (Vec<String>, Memory) {
    let limit = match policy {
        PolicyKind::AdaptiveLimit => "adaptive_limit: {initial_limit: 1, max_limit: 1}",
        _ => "concurrency_limit: 1",
    };
    let (meter, sent) = (Memory::default(), Arc::new(AtomicU32::new(0)));
    let metrics = GovernanceMetrics::new(meter.clone());
    let governance = Governance::with_observer(set(&harsh(limit)), metrics);
    assert_eq!(governance.method(GET).policy().enforcement_of(policy), Some(Enforced));
    governance.switch(None, None, Some(Disabled));
    governance.switch(None, Some(policy), Some(enforcement));
    let counted = Arc::clone(&sent);
    let client = governance.client(namer).layer(service_fn(move |_: Call| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            sleep(Duration::from_secs(1)).await;
            Err::<Call, BoxError>("down".into())
        }
    }));
    let (mut outcomes, began) = (Vec::new(), Instant::now());
    for _ in 0..20 {
        let call = || client.clone().oneshot("Get");
        let (one, two) = tokio::join!(call(), call());
        let [one, two] = [one, two].map(|result| result.expect_err("down or refused").to_string());
        outcomes.push(format!("{one}, {two} at {:?}, {sent:?} sent", began.elapsed()));
    }
    (outcomes, meter)
}

#[tokio::test(start_paused = true)]
async fn each_policy_switched_alone_acts_counts_or_does_neither() {
    let alone: Vec<_> = (1..=20).map(|n| format!("down, down at {n}s, {} sent", 2 * n)).collect();
    let enforcement = |shadow| (names::ENFORCEMENT, if shadow { "shadow" } else { "enforced" });
    for (policy, layer) in REFUSING {
        let refused = |meter: &Memory, shadow| {
            meter.sum(names::REJECTIONS, &[(names::LAYER, layer), enforcement(shadow)])
        };
        let (outcomes, meter) = switched(policy, Enforced).await;
        assert!(outcomes != alone && refused(&meter, false) > 0, "{policy}: {outcomes:?}");
        let (outcomes, meter) = switched(policy, Shadow).await;
        assert_eq!(outcomes, alone, "{policy} in shadow");
        assert!(refused(&meter, true) > 0, "{policy} in shadow counts");
        assert_eq!(meter.sum(names::REJECTIONS, &[]), refused(&meter, true), "it alone: {policy}");
        let (outcomes, meter) = switched(policy, Disabled).await;
        assert_eq!(outcomes, alone, "{policy} disabled");
        assert_eq!(meter.sum(names::REJECTIONS, &[]), 0, "{policy} disabled");
    }

    let resent = |meter: &Memory, shadow| {
        meter.sum(names::RETRY_ATTEMPTS, &[(names::SORT, "retry"), enforcement(shadow)])
    };
    let (outcomes, meter) = switched(PolicyKind::Retry, Enforced).await;
    assert!(outcomes != alone && resent(&meter, false) == 40, "{outcomes:?}");
    for (enforcement, counts) in [(Shadow, 40), (Disabled, 0)] {
        let (outcomes, meter) = switched(PolicyKind::Retry, enforcement).await;
        assert_eq!(outcomes, alone, "{enforcement:?}");
        assert_eq!((resent(&meter, false), resent(&meter, true)), (0, counts), "{enforcement:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_failure_behind_a_fallbacks_answer_counts_unless_the_fallback_stands_further_in() {
    let governance = Governance::new(set("defaults: {timeout: 1s}"));
    let never = service_fn(async |_: Call| std::future::pending::<Result<Call, Rejection>>().await);
    let answer = |_, _failed: Result<Call, Rejection>| Ok("from the cache");
    let ended = |meter: &Memory, outcome| {
        let labels = [(names::METHOD, "shop.Cart/Get"), (names::OUTCOME, outcome)];
        meter.told(names::CLIENT_DURATION, &labels)
    };

    let meter = Memory::default();
    let seen = ObserveLayer::client().meter(meter.clone());
    let client = governance.client(namer).observe(seen).layer(never);
    let outside = FallbackLayer::new(|call: &Call| Some(*call), answer).layer(client);
    assert_eq!(outside.oneshot("Get").await, Ok("from the cache"));
    assert_eq!((ended(&meter, "timeout"), ended(&meter, "success")), (1, 0));

    let meter = Memory::default();
    let seen = ObserveLayer::client().meter(meter.clone());
    let inside = FallbackLayer::new(|call: &Governed<Call>| Some(call.request), answer);
    let client = governance.client(namer).around_calls(inside).observe(seen).layer(never);
    assert_eq!(client.oneshot("Get").await, Ok("from the cache"));
    assert_eq!((ended(&meter, "timeout"), ended(&meter, "success")), (0, 1));
}
