//! The composed stacks, and policies that change under them.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use outrigger::{
    AnyRequest, FallbackLayer, Format, Governance, Governed, PolicyEvent, PolicyFile, PolicyKind,
    PolicySet,
};
use outrigger_core::{
    AttemptContext, CarryContext, Criticality,
    Enforcement::{Disabled, Enforced, Shadow},
    Method, MethodRef, Observe, Rejection,
};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

fn set(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap_or_else(|e| panic!("{e}"))
}

/// A request that names its method.
type Call = &'static str;

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn name(call: &Call) -> Option<MethodRef<'static>> {
    Some(MethodRef { service: "shop.Cart", method: call })
}

fn namer(call: &Call) -> Option<MethodRef<'_>> {
    name(call)
}

#[tokio::test(start_paused = true)]
async fn each_method_is_governed_by_its_own_policies() {
    let governance = Governance::new(set("
defaults: {timeout: 1s}
services:
  shop.Cart:
    methods:
      Get: {retry: {mode: failure, idempotent: true, retries: 2, backoff: none}}
      Slow: {timeout: 50ms}
"));
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = governance.client(namer).layer(service_fn(move |call: Call| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match call {
                "Slow" => sleep(Duration::from_secs(10)).await,
                _ => return Err(Rejection::unavailable("test", "down").into()),
            }
            Ok::<_, tower::BoxError>(call)
        }
    }));
    service.clone().oneshot("Get").await.unwrap_err();
    // A budget of 10 % lets the first call be sent again once: its reserve is 1.
    assert_eq!(calls.swap(0, Ordering::Relaxed), 2);
    service.clone().oneshot("Put").await.unwrap_err();
    assert_eq!(calls.swap(0, Ordering::Relaxed), 1, "no retry policy");
    let began = Instant::now();
    service.clone().oneshot("Slow").await.unwrap_err();
    assert_eq!(began.elapsed().as_millis(), 50);
}

#[tokio::test(start_paused = true)]
async fn stacks_of_one_governance_share_the_state_of_a_method() {
    let governance = Governance::new(set("defaults: {circuit_breaker: {consecutive_failures: 3}}"));
    let down = || service_fn(async |_: Call| Err::<Call, tower::BoxError>("down".into()));
    let one = governance.client(namer).layer(down());
    let two = governance.client(namer).layer(down());
    for _ in 0..3 {
        one.clone().oneshot("Get").await.unwrap_err();
    }
    let refused = two.clone().oneshot("Get").await.unwrap_err();
    let refused = Rejection::find_in(&refused).expect("a refusal");
    assert_eq!((refused.layer(), refused.was_sent()), ("circuitbreak", false));
    let other = two.oneshot("Put").await.unwrap_err();
    assert_eq!(other.to_string(), "down", "another method's circuit is closed");
}

#[tokio::test(start_paused = true)]
async fn a_servers_limits_are_of_the_whole_server_and_of_each_method() {
    let governance = Governance::new(set("
server: {concurrency_limit: 3}
services: {shop.Cart: {methods: {Get: {concurrency_limit: 1}}}}
"));
    let handler = service_fn(async |call: Call| {
        sleep(Duration::from_secs(1)).await;
        Ok::<_, Rejection>(call)
    });
    let server = governance.server(namer).layer(handler);
    let call = |name| tokio::spawn(server.clone().oneshot(name));
    let calls = [call("Get"), call("Get"), call("Put"), call("Put"), call("Put")];
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().map_err(|refused| refused.to_string()));
    }
    let admitted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(admitted, 3, "{answers:?}");
    assert!(answers[1].as_ref().is_err_and(|refused| refused.contains("shop.Cart/Get")));
    assert!(answers[4].as_ref().is_err_and(|refused| refused.contains("server")), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_keeps_its_state() {
    let text = "defaults: {circuit_breaker: {consecutive_failures: 1, cool_down: 1h}, rate_limit: {rate: 1, burst: 1, period: 1h}}";
    let governance = Governance::new(set(text));
    let state = governance.method(GET);
    state.circuit_breaker().force_open();
    state.rate_limit().try_acquire(1).unwrap();
    governance.replace(set(&text.replace("rate: 1,", "rate: 2,")));
    let after = governance.method(GET);
    after.circuit_breaker().try_acquire().expect_err("still open");
    after.rate_limit().try_acquire(1).expect_err("no second burst");
    assert_eq!(after.rate_limit().policy().load().rate(), 2);
}

#[tokio::test(start_paused = true)]
async fn removed_is_not_governed_and_what_is_in_flight_ends_as_it_began() {
    let governance = Governance::new(set("defaults: {timeout: 10s, concurrency_limit: 1}"));
    let handler = service_fn(async |call: Call| {
        sleep(Duration::from_secs(5)).await;
        Ok::<_, Rejection>(call)
    });
    let client = governance.client(namer).layer(handler);
    let long = tokio::spawn(client.clone().oneshot("Get"));
    tokio::task::yield_now().await;
    client.clone().oneshot("Get").await.expect_err("one at a time");
    governance.replace(set("defaults: {timeout: 1s}"));
    let short = client.clone().oneshot("Get").await.expect_err("one second");
    assert_eq!(short.kind(), outrigger_core::RejectionKind::DeadlineExceeded);
    long.await.unwrap().expect("ten seconds, as when it began");
}

/// Two calls through limits of one; then the limits are made two.
async fn widened<L, S>(governance: &Governance, layer: L, text: &str) -> u64
where
    L: Layer<tower::util::BoxCloneSyncService<Call, Call, Rejection>, Service = S>,
    S: Service<Call, Response = Call, Error = Rejection, Future: Send> + Clone + Send + 'static,
{
    let handler = service_fn(async |call: Call| {
        sleep(Duration::from_secs(60)).await;
        Ok::<_, Rejection>(call)
    });
    let service = layer.layer(tower::util::BoxCloneSyncService::new(handler));
    let began = Instant::now();
    let calls = [(); 2].map(|()| tokio::spawn(service.clone().oneshot("Get")));
    sleep(Duration::from_secs(1)).await;
    governance.replace(set(&text.replace("limit: 1", "limit: 2")));
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_wider_limit_lets_those_in_who_wait() {
    let limit = "{concurrency_limit: {limit: 1, max_waiting: 5, max_wait: 1h}}";
    let of_methods = format!("defaults: {limit}");
    let governance = Governance::new(set(&of_methods));
    assert_eq!(widened(&governance, governance.client(namer), &of_methods).await, 61);
    let of_server = format!("server: {limit}");
    let governance = Governance::new(set(&of_server));
    assert_eq!(widened(&governance, governance.server(namer), &of_server).await, 61);
}

#[tokio::test(start_paused = true)]
async fn a_switch_stands_over_every_set_until_it_is_taken_back() {
    let text = "defaults: {circuit_breaker: {}, rate_limit: 1/h}";
    let governance = Governance::new(set(text));
    let enforcement = |governance: &Governance| {
        let state = governance.method(GET);
        let breaker = state.circuit_breaker().policy().load().enforcement();
        (breaker, state.rate_limit().policy().load().enforcement())
    };
    governance.switch(None, None, Some(Shadow));
    assert_eq!(enforcement(&governance), (Shadow, Shadow));
    let get = || Some(Method::new("shop.Cart", "Get"));
    governance.switch(get(), Some(PolicyKind::RateLimit), Some(Disabled));
    governance.replace(set(text));
    assert_eq!(enforcement(&governance), (Shadow, Disabled));
    governance.switch(None, None, None);
    assert_eq!(enforcement(&governance), (Enforced, Disabled));
    governance.switch(get(), Some(PolicyKind::RateLimit), None);
    assert_eq!(enforcement(&governance), (Enforced, Enforced));
}

/// Remembers what it is told of policies.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Observe<PolicyEvent> for Told {
    fn observe(&self, source: &str, event: &PolicyEvent) {
        let said = match event {
            PolicyEvent::Replaced { version } => format!("replaced {version}"),
            PolicyEvent::Refused { reason } => format!("refused {reason}"),
            PolicyEvent::Switched { version } => format!("switched {version}"),
            other => format!("{other:?}"),
        };
        let source = source.rsplit('/').next().unwrap_or_default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{source}: {said}"));
    }
}

macro_rules! deaf {
    ($($event:ty),*) => {
        $(impl Observe<$event> for Told { fn observe(&self, _: &str, _: &$event) {} })*
    };
}

deaf!(
    outrigger_circuitbreak::CircuitBreakerEvent,
    outrigger_ratelimit::AdaptiveLimitEvent,
    outrigger_ratelimit::ClientThrottleEvent,
    outrigger_ratelimit::ConcurrencyLimitEvent,
    outrigger_ratelimit::RateLimitEvent,
    outrigger_retry::RetryEvent,
    outrigger_retry::TimeoutEvent
);

#[tokio::test]
async fn a_refused_set_leaves_the_one_before_it_and_says_why() {
    let told = Told::default();
    let governance = Governance::with_observer(set("defaults: {timeout: 1s}"), told.clone());
    let text = "defaults: {timeout: 2s, retry: {mode: fast}}";
    governance.replace_text("bad.yaml", text, Format::Yaml).unwrap_err();
    let timeout = governance.method(GET).policy().timeout().unwrap().timeout();
    assert_eq!(timeout, Some(Duration::from_secs(1)), "all or nothing");
    let said = told.0.lock().unwrap().clone();
    assert!(said[0].starts_with("bad.yaml: refused bad.yaml:1:"), "{said:?}");
}

/// Waits until the overall time-out is so many seconds.
async fn until_timeout_is<O: outrigger::ObserveGovernance>(
    governance: &Governance<O>,
    seconds: u64,
) {
    let wanted = Some(Duration::from_secs(seconds));
    let arrived = async {
        while governance
            .method(GET)
            .policy()
            .timeout()
            .and_then(outrigger_retry::TimeoutPolicy::timeout)
            != wanted
        {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), arrived).await.expect("the file is followed");
}

#[tokio::test]
async fn a_file_is_followed_however_it_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policies.yaml");
    let write = |path: &std::path::Path, seconds: u64| {
        std::fs::write(path, format!("defaults: {{timeout: {seconds}s}}\n")).unwrap();
    };
    let told = Told::default();
    let governance = Governance::with_observer(PolicySet::default(), told.clone());
    let file = PolicyFile::new(&path).unwrap().interval(Duration::from_millis(5));
    let following = tokio::spawn(governance.clone().follow_file(file));

    // Not there yet; then written in place; then renamed over, as editors do, more than once.
    write(&path, 1);
    until_timeout_is(&governance, 1).await;
    write(&path, 2);
    until_timeout_is(&governance, 2).await;
    for seconds in 3..6 {
        let other = directory.path().join("new");
        write(&other, seconds);
        std::fs::rename(&other, &path).unwrap();
        until_timeout_is(&governance, seconds).await;
    }

    // Taken away and brought back: nothing changes in between.
    std::fs::remove_file(&path).unwrap();
    sleep(Duration::from_millis(30)).await;
    until_timeout_is(&governance, 5).await;

    // A wrong one is told once, and leaves the last good one.
    std::fs::write(&path, "defaults: {timeot: 1s}\n").unwrap();
    let refused = || told.0.lock().unwrap().iter().filter(|said| said.contains("refused")).count();
    while refused() == 0 {
        sleep(Duration::from_millis(2)).await;
    }
    sleep(Duration::from_millis(30)).await;
    assert_eq!(refused(), 1);
    until_timeout_is(&governance, 5).await;

    // As Kubernetes replaces a ConfigMap: `policies.yaml -> ..data/policies.yaml`, `..data` swapped.
    #[cfg(unix)]
    {
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("..data/policies.yaml", &path).unwrap();
        for seconds in 7..10 {
            let revision = directory.path().join(format!("..{seconds}"));
            std::fs::create_dir(&revision).unwrap();
            write(&revision.join("policies.yaml"), seconds);
            let link = directory.path().join("..data_tmp");
            std::os::unix::fs::symlink(&revision, &link).unwrap();
            std::fs::rename(&link, directory.path().join("..data")).unwrap();
            until_timeout_is(&governance, seconds).await;
        }
    }
    following.abort();
}

#[tokio::test]
async fn a_stream_of_sets_is_followed_to_its_end() {
    let governance = Governance::new(PolicySet::default());
    let sets = [1, 2, 3].map(|seconds| set(&format!("defaults: {{timeout: {seconds}s}}")));
    governance.clone().follow(tokio_stream::iter(sets)).await;
    until_timeout_is(&governance, 3).await;
    assert_eq!(governance.version(), 3);
}

/// The first set lets each of three attempts run for 10 ms, the second one attempt for 50 ms.
#[tokio::test(start_paused = true)]
async fn no_call_is_governed_by_half_of_two_sets() {
    let one = "
retry_budget: unlimited
defaults:
  attempt_timeout: 10ms
  retry: {mode: failure, idempotent: true, retries: 2, backoff: none}
";
    let two = "defaults: {attempt_timeout: 50ms}";
    let governance = Governance::new(set(one));
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let client = governance.client(namer).layer(service_fn(move |_: Call| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Result<Call, Rejection>>()
    }));
    let call = async || {
        let began = Instant::now();
        client.clone().oneshot("Get").await.expect_err("nobody answers");
        (attempts.swap(0, Ordering::Relaxed), began.elapsed().as_millis())
    };
    let swap = async {
        sleep(Duration::from_millis(15)).await;
        governance.replace(set(two));
    };
    let (begun_under_one, ()) = tokio::join!(call(), swap);
    assert_eq!(begun_under_one, (3, 30), "its second and third attempt come after the swap");
    assert_eq!(call().await, (1, 50));
    governance.replace(set(one));
    assert_eq!(call().await, (3, 30));
}

#[tokio::test]
async fn what_a_service_shares_follows_its_policies_and_keeps_what_was_spent() {
    let text = "services: {shop.Cart: {retry_budget: {ratio: {ratio: 0.5, reserve: 2}}, balance: {picker: {maglev: {}}}}}";
    let governance = Governance::new(set(text));
    let (budget, balance) = (governance.retry_budget("shop.Cart"), governance.balance("shop.Cart"));
    assert_eq!(*balance.get().picker(), outrigger_loadbalance::Picker::maglev());
    let spent = budget.try_acquire().expect("a reserve of two");
    let version = balance.version();
    governance.replace(set(&text.replace("reserve: 2", "reserve: 1")));
    assert!(budget.try_acquire().is_none(), "of the one that there is now, one is spent");
    assert_eq!(balance.version(), version, "what did not change is left alone");
    assert!(budget.ptr_eq(&governance.retry_budget("shop.Cart")));
    drop(spent);
}

/// Far more names than there is room for, so that a service that counted as idle would go with near
/// certainty.
#[test]
fn a_service_that_is_in_use_keeps_its_budget_and_its_balance_in_a_flood_of_other_names() {
    let text = "defaults: {retry: {mode: failure}, balance: {picker: {maglev: {}}}}";
    let governance = Governance::new(set(text));
    let name = |n: u32| format!("shop.{n}");
    let held: Vec<_> = (0..200).map(|n| (n, governance.retry_budget(&name(n)))).collect();
    let balance = governance.balance("shop.User");
    for flood in 0..60_000 {
        let service = format!("flood.{flood}");
        // Holds the budget of its service as long as it is known.
        governance.with_method(MethodRef { service: &service, method: "Get" }, |_| ());
    }
    for (n, budget) in held {
        assert!(budget.ptr_eq(&governance.retry_budget(&name(n))), "a second one beside it");
    }
    governance.replace(PolicySet::default());
    let default = outrigger_loadbalance::BalancePolicy::default();
    assert_eq!(balance.get().picker(), default.picker(), "it follows no more");
}

/// A thread that has it at hand sees nothing of the table.
#[test]
fn a_method_that_gave_way_while_a_thread_had_it_at_hand_has_one_circuit_again() {
    let governance = Governance::new(set("defaults: {circuit_breaker: {}}"));
    let at_hand = Arc::downgrade(&governance.method(GET));
    let flood = || {
        let is_known = || governance.methods().iter().any(|state| state.method().as_ref() == GET);
        for n in 0.. {
            assert!(n < 1_000_000, "it never gave way");
            let method = n.to_string();
            let other = MethodRef { service: "flood", method: &method };
            // Not idle, so that it does not give way before what is not idle either.
            governance.with_method(other, |state| state.circuit_breaker().force_open());
            if n % 1_000 == 0 && !is_known() {
                break;
            }
        }
        governance.with_method(GET, |state| state.circuit_breaker().force_open());
    };
    std::thread::scope(|scope| scope.spawn(flood).join().unwrap());
    assert!(at_hand.upgrade().is_some(), "at hand");
    let asked = governance.with_method(GET, |state| state.circuit_breaker().try_acquire());
    assert_eq!(asked.unwrap_err().reason(), "circuit_forced_open", "two circuits of one method");
}

/// Lets the context travel beside the call.
#[derive(Clone, Copy)]
struct Beside;

type WithContext = (Call, Option<AttemptContext>);

fn name_beside(request: &WithContext) -> Option<MethodRef<'_>> {
    name(&request.0)
}

impl CarryContext<WithContext> for Beside {
    fn context<'a>(&self, request: &'a WithContext) -> Option<&'a AttemptContext> {
        request.1.as_ref()
    }

    fn set_context(&self, request: &mut WithContext, context: AttemptContext) {
        request.1 = Some(context);
    }
}

#[tokio::test(start_paused = true)]
async fn the_importance_that_a_policy_states_travels_on_unless_the_caller_states_one() {
    let governance = Governance::new(set("defaults: {criticality: sheddable}"));
    let service = service_fn(async |request: WithContext| {
        Ok::<_, Rejection>(request.1.and_then(|context| context.criticality))
    });
    let client = governance.client_over(AnyRequest::new(name_beside).carry(Beside)).layer(service);
    let travelled = client.clone().oneshot(("Get", None)).await.expect("answered");
    assert_eq!(travelled, Some(Criticality::Sheddable));
    let mut context = AttemptContext::default();
    context.criticality = Some(Criticality::CriticalPlus);
    let travelled = client.oneshot(("Get", Some(context))).await.expect("answered");
    assert_eq!(travelled, Some(Criticality::CriticalPlus));
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_be_put_around_each_attempt() {
    let text = "
retry_budget: unlimited
defaults: {retry: {mode: failure, idempotent: true, retries: 2, backoff: none}}
";
    let governance = Governance::new(set(text));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let note = tower::util::MapRequestLayer::new(move |request: Governed<Call>| {
        noted.lock().expect("no panic").push(request.state().method().to_string());
        request
    });
    let down = service_fn(async |_: Call| Err::<Call, tower::BoxError>("down".into()));
    let client = governance.client(namer).around_attempts(note).layer(down);
    client.oneshot("Get").await.expect_err("down");
    assert_eq!(*seen.lock().expect("no panic"), ["shop.Cart/Get"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_for_the_methods_that_have_one() {
    let governance = Governance::new(set("defaults: {timeout: 1s}"));
    let service = service_fn(async |call: Call| match call {
        "Fast" => Ok(call),
        _ => std::future::pending::<Result<Call, Rejection>>().await,
    });
    let fallback = FallbackLayer::new(
        |call: &Call| (*call != "Put").then_some(*call),
        |call, failed: Result<Call, Rejection>| {
            assert!(failed.is_err_and(|refused| refused.layer() == "timeout"));
            Ok(if call == "Get" { "from the cache" } else { "?" })
        },
    );
    let client = fallback.layer(governance.client(namer).layer(service));
    assert_eq!(client.clone().oneshot("Get").await, Ok("from the cache"));
    assert_eq!(client.clone().oneshot("Fast").await, Ok("Fast"), "no failure, no fallback");
    client.oneshot("Put").await.expect_err("has none");
}

#[tokio::test(start_paused = true)]
async fn a_shadowed_stack_changes_no_outcome() {
    let policies = "
defaults:
  timeout: 5ms
  attempt_timeout: 2ms
  rate_limit: {rate: 1, burst: 1, period: 1h}
  concurrency_limit: 1
  client_throttle: {}
  circuit_breaker: {consecutive_failures: 1}
  retry: {mode: failure, idempotent: true}
";
    let outcomes = async |text: String| {
        let governance = Governance::new(set(&text));
        let n = Cell::new(0_u32);
        let mut outcomes = Vec::new();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let mut client = governance.client(namer).layer(service_fn(move |call: Call| {
            let n = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(Duration::from_millis(u64::from(n % 10))).await;
                let failed = Rejection::unavailable("test", "down");
                if n.is_multiple_of(3) { Err(failed) } else { Ok::<_, Rejection>((call, n)) }
            }
        }));
        let began = Instant::now();
        while n.get() < 200 {
            n.set(n.get() + 1);
            let result = client.ready().await.unwrap().call("Get").await;
            outcomes.push(format!("{result:?} at {:?}", began.elapsed()));
        }
        outcomes
    };
    let shadowed = outcomes(format!("{policies}  enforcement: shadow\n")).await;
    let disabled = outcomes(format!("{policies}  enforcement: disabled\n")).await;
    let without = outcomes("{}".to_owned()).await;
    assert!(shadowed == without, "{} and {}", shadowed[1], without[1]);
    assert!(disabled == without);
}

#[tokio::test(start_paused = true)]
async fn a_call_through_all_layers_allocates_nothing() {
    let governance = Governance::new(set("
defaults:
  timeout: 5s
  attempt_timeout: 2s
  rate_limit: {rate: 1000000, burst: 1000000}
  concurrency_limit: 100
  client_throttle: {}
  circuit_breaker: {}
  retry: {mode: failure, idempotent: true}
"));
    let inner = service_fn(|call: Call| std::future::ready(Ok::<_, Rejection>(call)));
    let mut client = governance.client(namer).layer(inner);
    for _ in 0..2_000 {
        client.ready().await.unwrap().call("Get").await.unwrap();
    }
    let mut call = tokio_test_poll(client.ready().await.unwrap());
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            call();
        }
    });
    assert_eq!(counted.count_total, 0);
}

/// Polls calls whose answer is there at once.
fn tokio_test_poll<S>(service: &mut S) -> impl FnMut()
where
    S: Service<Call, Response = Call, Error = Rejection>,
{
    move || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let call = std::pin::pin!(service.call("Get"));
        assert!(call.poll(&mut cx).is_ready());
    }
}

/// A client whose every call tells how long it may take, by the deadline that it is cut at.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_called_again_and_again_follows_every_new_set_at_once() {
    let text = |get: u32, put: u32| {
        format!(
            "services: {{shop.Cart: {{methods: {{Get: {{timeout: {get}ms}}, Put: {{timeout: {put}ms}}}}}}}}"
        )
    };
    let governance = Governance::new(set(&text(1, 2)));
    let never = service_fn(async |_: Call| std::future::pending::<Result<Call, Rejection>>().await);
    let mut client = governance.client(namer).layer(never);
    let mut took = async |call| {
        let began = Instant::now();
        client.call(call).await.expect_err("nobody answers");
        began.elapsed().as_millis()
    };
    for n in 1..20 {
        governance.replace(set(&text(10 * n, 10 * n + 5)));
        for (call, wanted) in [("Get", 10 * n), ("Put", 10 * n + 5), ("Get", 10 * n)] {
            assert_eq!([took(call).await, took(call).await], [u128::from(wanted); 2]);
        }
    }
    governance.switch(None, Some(PolicyKind::Timeout), Some(Disabled));
    timeout(Duration::from_secs(60), took("Get")).await.expect_err("no time-out any more");
}

#[expect(clippy::ptr_arg, reason = "that is the request")]
fn name_of_path(path: &String) -> Option<MethodRef<'_>> {
    MethodRef::from_grpc_path(path)
}

/// More methods than are known at a time: what gives way is made anew once, for all who call it.
#[tokio::test]
async fn a_method_that_gave_way_to_others_has_one_state_again() {
    let governance = Governance::new(set("defaults: {circuit_breaker: {}}"));
    let handler = service_fn(async |call: String| Ok::<_, Rejection>(call));
    let client = governance.client(name_of_path).layer(handler);
    let mut clients: Vec<_> = (0..3).map(|_| client.clone()).collect();
    for client in &mut clients {
        for _ in 0..3 {
            client.call("/shop.Cart/Get".to_owned()).await.expect("closed");
        }
    }
    // None of these is idle, so that it is as likely to stay as a method that is at hand.
    for n in 0.. {
        assert!(n < 1_000_000, "it never gave way");
        let scanned = governance.method(MethodRef { service: "scan", method: &n.to_string() });
        scanned.circuit_breaker().force_open();
        let is_known = || governance.methods().iter().any(|state| state.method().as_ref() == GET);
        if n % 1_000 == 0 && !is_known() {
            break;
        }
    }
    governance.method(GET).circuit_breaker().force_open();
    for client in &mut clients {
        client.call("/shop.Cart/Get".to_owned()).await.expect_err("one circuit for all");
    }
}

/// The layers of a stack share their looks at the clock; the user's service is not in between.
#[tokio::test(start_paused = true)]
async fn time_that_the_service_takes_without_waiting_is_seen_by_the_layers_around_it() {
    let text = "
defaults:
  rate_limit: {rate: 1000, burst: 1000}
  circuit_breaker: {slow_calls: {duration: 5ms, rate: 0.5, minimum_calls: 2}}
";
    let governance = Governance::new(set(text));
    let mut in_call = governance.client(namer).layer(service_fn(|call: Call| {
        busy();
        std::future::ready(Ok::<_, Rejection>(call))
    }));
    let mut in_poll = governance.client(namer).layer(service_fn(async |call: Call| {
        busy();
        Ok::<_, Rejection>(call)
    }));
    for client in [&mut in_call as &mut dyn CallsAtOnce, &mut in_poll] {
        governance.method(GET).circuit_breaker().reset();
        assert!([client.is_served(), client.is_served()] == [true; 2]);
        assert!(!client.is_served(), "two of two were slow");
    }
}

/// Works for 10 ms on the spot.
fn busy() {
    let advance = tokio::time::advance(Duration::from_millis(10));
    let _ = tokio_test::task::spawn(advance).poll();
}

/// Calls whose answer is there at once.
trait CallsAtOnce {
    fn is_served(&mut self) -> bool;
}

impl<S: Service<Call, Response = Call, Error = Rejection>> CallsAtOnce for S {
    fn is_served(&mut self) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(self.poll_ready(&mut cx).is_ready());
        let call = std::pin::pin!(self.call("Get"));
        matches!(call.poll(&mut cx), std::task::Poll::Ready(Ok(_)))
    }
}

/// The time-out looks at the clock before the rate limit applies its quota, so time must not stand.
#[tokio::test]
async fn the_first_call_under_a_rate_limit_has_a_token() {
    for _ in 0..50 {
        let governance = Governance::new(set("defaults: {timeout: 1h, rate_limit: {rate: 1/h}}"));
        let client =
            governance.client(namer).layer(service_fn(async |call: Call| Ok::<_, Rejection>(call)));
        assert_eq!(client.clone().oneshot("Get").await, Ok("Get"));
        assert!(client.oneshot("Get").await.is_err(), "there was one");
    }
}

#[tokio::test]
async fn a_server_has_as_many_connections_as_the_newest_set_allows() {
    use tokio::net::{TcpListener, TcpStream};

    let governance = Governance::new(set("server: {connection_limit: 1}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = governance.connections().listener(listener);
    let accepting = tokio::spawn(async move {
        let mut open = Vec::new();
        let accept = async |listener: &mut TcpListener| listener.accept().await;
        while let Ok(accepted) = listener.accept_with(accept).await {
            open.push(accepted);
        }
    });
    let mut held = Vec::new();
    let mut is_kept = async |wanted: u32| {
        let stream = TcpStream::connect(address).await.unwrap();
        // One that is beyond the limit is closed at once.
        let closed = async { stream.readable().await.map(|()| stream.try_read(&mut [0])) };
        let kept = async {
            while governance.connections().open() < wanted {
                tokio::task::yield_now().await;
            }
        };
        let is_kept = tokio::select! { biased; () = kept => true, _ = closed => false };
        held.push(stream);
        is_kept
    };
    assert!(is_kept(1).await);
    assert!(!is_kept(2).await, "one at a time");
    governance.replace(set("server: {connection_limit: 2}"));
    assert!(is_kept(2).await);
    governance.replace(PolicySet::default());
    assert!(is_kept(3).await, "no limit any more, but it is counted");
    governance.replace(set("server: {connection_limit: 3}"));
    assert!(!is_kept(4).await, "three are open already");
    governance.replace(set("server: {connection_limit: {limit: 3, beyond: wait}}"));
    let _fourth = TcpStream::connect(address).await.unwrap();
    while governance.connections().waiting() == 0 {
        tokio::task::yield_now().await;
    }
    governance.replace(set("server: {connection_limit: {limit: 4, beyond: wait}}"));
    while governance.connections().open() < 4 {
        tokio::task::yield_now().await;
    }
    accepting.abort();
}

#[tokio::test(start_paused = true)]
async fn the_layers_see_how_long_the_service_worked_also_where_it_does_not_wait() {
    let governance = Governance::new(set("
retry_budget: unlimited
defaults:
  circuit_breaker: {slow_calls: {duration: 500ms, rate: 1, minimum_calls: 9}}
  retry: {mode: failure, idempotent: true, retries: 1, backoff: none}
"));
    let work = || {
        let mut second = tokio_test::task::spawn(tokio::time::advance(Duration::from_secs(1)));
        let _ = second.poll();
    };
    // The second attempt, which begins in the poll that looked at the clock for the end of the
    // first, works for a second in `call` or in its first poll.
    let attempts = Arc::new(AtomicU32::new(0));
    let service = service_fn(move |call: Call| {
        let is_first = attempts.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if !is_first && call == "Call" {
            work();
        }
        async move {
            if is_first {
                return Err(Rejection::unavailable("test", "down").sent().into());
            }
            if call == "Poll" {
                work();
            }
            Ok::<_, tower::BoxError>(call)
        }
    });
    let client = governance.client(namer).layer(service);
    for method in ["Call", "Poll", "Neither"] {
        client.clone().oneshot(method).await.expect("served by the second attempt");
        let state = governance.method(MethodRef { service: "shop.Cart", method });
        let counts = state.circuit_breaker().snapshot().counts;
        assert_eq!(counts.slow, u64::from(method != "Neither"), "{method}: {counts:?}");
    }
}
