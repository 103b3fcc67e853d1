//! Volo's Thrift clients and servers, governed, over real connections.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use metainfo::{Forward, METAINFO};
use outrigger::{Format, Governance, PolicySet, volo::rejection};
use outrigger_core::{MethodRef, RejectionKind};
use outrigger_ratelimit::AdaptiveLimit;
use outrigger_retry::Chain;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use volo::{
    Layer, Service,
    context::{Context, Endpoint, Role, RpcInfo},
    service::service_fn,
};
use volo_thrift::{
    ApplicationException, ApplicationExceptionKind, BizError, ClientError, ServerError,
    context::{ClientContext, Config},
};

#[path = "../../examples/src/thrift.rs"]
#[expect(unreachable_pub, reason = "the examples' own crate has it as a module of its library")]
mod thrift;

use self::thrift::{GREETER, client, serve};

const GREET: MethodRef<'static> = MethodRef { service: GREETER, method: "Greet" };

fn set(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap_or_else(|e| panic!("{e}"))
}

fn down() -> ServerError {
    ApplicationException::new(ApplicationExceptionKind::INTERNAL_ERROR, "down").into()
}

/// What a server saw of each call: the mark of a retry, and how long its caller waits.
type Seen = Arc<Mutex<Vec<(Option<String>, Option<Duration>)>>>;

/// A server that fails or is late for the first `bad` calls.
async fn server(bad: i64, late: bool) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let (noted, calls) = (Arc::clone(&seen), Arc::new(AtomicI64::new(0)));
    let attend = move |number| {
        let mark = METAINFO.with(|info| info.borrow().get_persistent("RetryReq"));
        let left = Chain::current().deadline().map(|at| at - Instant::now());
        noted.lock().expect("no panic").push((mark.map(|mark| mark.to_string()), left));
        let is_bad = calls.fetch_add(1, Ordering::Relaxed) < bad;
        async move {
            match (is_bad, late) {
                (true, true) => sleep(Duration::from_secs(3600)).await,
                (true, false) => return Err(down()),
                (false, _) => {}
            }
            Ok(format!("good day, caller {number}"))
        }
    };
    let address = serve(attend, Governance::new(PolicySet::default()).volo_server());
    (address.await.expect("a server"), seen)
}

/// Notes the sequence numbers of the contexts that go by.
#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<Vec<i32>>>);

impl Numbers {
    fn take(&self) -> Vec<i32> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

/// Notes each context after its call.
#[derive(Clone)]
struct Noting<S>(S, Numbers);

impl<S> Layer<S> for Numbers {
    type Service = Noting<S>;

    fn layer(self, inner: S) -> Noting<S> {
        Noting(inner, self)
    }
}

impl<S, Req: Send> Service<ClientContext, Req> for Noting<S>
where
    S: Service<ClientContext, Req, Response: Send, Error: Send> + Sync,
{
    type Response = S::Response;
    type Error = S::Error;

    async fn call(&self, cx: &mut ClientContext, req: Req) -> Result<S::Response, S::Error> {
        let result = self.0.call(cx, req).await;
        self.1.0.lock().expect("no panic").push(cx.seq_id);
        result
    }
}

#[tokio::test]
async fn a_failed_call_is_sent_again_and_marked_as_kitex_marks_retries() {
    let (address, seen) = server(1, false).await;
    let governance = Governance::new(set("
retry_budget: unlimited
defaults: {retry: {mode: failure, idempotent: true, backoff: none}}
"));
    let client = client(address, governance.volo_client());
    assert_eq!(client.greet(7).await.expect("the second attempt"), "good day, caller 7");
    assert_eq!(client.greet(8).await.expect("the first attempt"), "good day, caller 8");
    let marks: Vec<_> = seen.lock().expect("no panic").iter().map(|seen| seen.0.clone()).collect();
    assert_eq!(marks, [None, Some("1".to_owned()), None]);
}

#[tokio::test]
async fn an_attempt_is_cut_and_the_server_is_told_how_long_it_has() {
    let (address, seen) = server(1, true).await;
    let governance = Governance::new(set("
retry_budget: unlimited
defaults:
  timeout: 60s
  attempt_timeout: 2s
  retry: {mode: failure, idempotent: true, backoff: none}
"));
    let client = client(address, governance.volo_client());
    assert_eq!(client.greet(7).await.expect("the second attempt"), "good day, caller 7");
    for (_, left) in &*seen.lock().expect("no panic") {
        let left = left.expect("it came with the call");
        assert!(left <= Duration::from_secs(2) && !left.is_zero(), "{left:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_late_is_a_timeout_of_ours_though_volo_has_a_timer_too() {
    let (address, _) = server(1, true).await;
    let governance = Governance::new(set("defaults: {timeout: 50ms}"));
    let client = client(address, governance.volo_client());
    let error = client.greet(7).await.expect_err("late");
    let cut = rejection(&error).expect("a refusal");
    assert_eq!((cut.kind(), cut.layer()), (RejectionKind::DeadlineExceeded, "timeout"));
    assert!(cut.was_sent());
}

#[tokio::test]
async fn an_open_circuit_refuses_and_a_business_error_does_not_open_it() {
    let (address, seen) = server(3, false).await;
    let governance = Governance::new(set(
        "defaults: {circuit_breaker: {consecutive_failures: 3, cool_down: 1h}}",
    ));
    let greeter = client(address, governance.volo_client());
    for _ in 0..3 {
        let failed = greeter.greet(7).await.expect_err("down");
        assert!(matches!(failed, ClientError::Application(_)), "{failed}");
    }
    let refused = greeter.greet(7).await.expect_err("open");
    assert_eq!(rejection(&refused).expect("a refusal").layer(), "circuitbreak");
    assert_eq!(seen.lock().expect("no panic").len(), 3, "it was not sent");

    let answer = |_| std::future::ready(Err(BizError::new(404, "no such caller".into()).into()));
    let address = serve(answer, volo::layer::Identity::new()).await.expect("a server");
    let governance = Governance::new(set("defaults: {circuit_breaker: {consecutive_failures: 1}}"));
    let greeter = client(address, governance.volo_client());
    for _ in 0..3 {
        let error = greeter.greet(7).await.expect_err("a business error");
        assert!(matches!(error, ClientError::Biz(BizError { status_code: 404, .. })), "{error}");
    }
}

#[tokio::test]
async fn a_backup_request_overtakes_a_late_attempt() {
    let (address, seen) = server(1, true).await;
    let governance = Governance::new(set("
retry_budget: unlimited
defaults: {timeout: 30s, retry: {mode: backup, backup_delay: 20ms, idempotent: true}}
"));
    let callers = Numbers::default();
    let layers = volo::layer::Stack::new(governance.volo_client(), callers.clone());
    let client = client(address, layers);
    assert_eq!(client.greet(7).await.expect("the backup"), "good day, caller 7");
    let marks: Vec<_> = seen.lock().expect("no panic").iter().map(|seen| seen.0.clone()).collect();
    assert_eq!(marks, [None, Some("1".to_owned())], "only the backup is marked");
    let of_the_backup = callers.take();
    assert!(of_the_backup[0] < 0, "the caller's context is that of the answer: {of_the_backup:?}");
}

#[tokio::test]
async fn a_server_refuses_beyond_its_limit_and_a_client_beyond_its_rate() {
    let (inside, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (entered, opened) = (Arc::clone(&inside), Arc::clone(&gate));
    let held = move |_| {
        let (entered, opened) = (Arc::clone(&entered), Arc::clone(&opened));
        async move {
            entered.add_permits(1);
            opened.acquire().await.expect("never closed").forget();
            Ok(String::new())
        }
    };
    let limited = Governance::new(set("server: {concurrency_limit: 1}"));
    let address = serve(held, limited.volo_server()).await.expect("a server");
    let free = client(address, volo::layer::Identity::new());
    let greet = |number| {
        let free = free.clone();
        tokio::spawn(async move { free.greet(number).await })
    };
    let one = greet(1);
    inside.acquire().await.expect("never closed").forget();
    let refused = free.greet(2).await.expect_err("one at a time");
    assert!(refused.to_string().contains("refused by ratelimit `server`"), "{refused}");
    limited.replace(set("server: {concurrency_limit: 2}"));
    let two = greet(2);
    inside.acquire().await.expect("never closed").forget();
    limited.replace(PolicySet::default());
    gate.add_permits(3);
    one.await.expect("no panic").expect("the first is served");
    two.await.expect("no panic").expect("and so is a second beside it");

    let text = format!(
        "services: {{{GREETER}: {{methods: {{Greet: {{rate_limit: {{rate: 1, burst: 1, period: 1h}}}}}}}}}}"
    );
    let governance = Governance::new(set(&text));
    let client = client(address, governance.volo_client());
    client.greet(1).await.expect("the burst");
    let refused = client.greet(2).await.expect_err("beyond the rate");
    assert_eq!(rejection(&refused).expect("a refusal").kind(), RejectionKind::Exhausted);
    assert!(governance.method(GREET).policy().rate_limit().is_some());
}

/// A server that answers `Ok` late and all else at once, under this limit; and its governance.
async fn adapting(scope: &str, error: fn() -> ServerError) -> (Governance, thrift::GreeterClient) {
    let limit =
        "{algorithm: aimd, initial_limit: 2, max_limit: 2, min_window: 1ms, min_samples: 1}";
    let governance = Governance::new(set(&format!("{scope}: {{adaptive_limit: {limit}}}")));
    let attend = move |number| async move {
        if number < 0 {
            return Err(error());
        }
        sleep(Duration::from_millis(200)).await;
        Ok(String::new())
    };
    let address = serve(attend, governance.volo_server()).await.expect("a server");
    (governance, client(address, volo::layer::Identity::new()))
}

#[tokio::test]
async fn what_a_handler_fails_at_lowers_a_servers_limit_and_a_business_error_does_not() {
    let both = async |client: &thrift::GreeterClient| {
        let (one, two) = tokio::join!(client.greet(1), client.greet(2));
        one.and(two).map_err(|error| error.to_string())
    };
    for scope in ["server", "defaults"] {
        let (governance, greeter) =
            adapting(scope, || BizError::new(404, "no".into()).into()).await;
        let limit = || governance.method(GREET).adaptive_limit().map(AdaptiveLimit::status);
        for _ in 0..20 {
            greeter.greet(-1).await.expect_err("a business error");
        }
        both(&greeter).await.expect("two places");
        let learnt = limit().map(|status| status.normal_latency.is_some());
        assert_eq!(learnt, (scope == "defaults").then_some(true), "calls were counted");

        let (governance, greeter) = adapting(scope, down).await;
        let limit = || governance.method(GREET).adaptive_limit().map(AdaptiveLimit::status);
        let refused = timeout(Duration::from_secs(20), async {
            loop {
                greeter.greet(-1).await.expect_err("down");
                if let Err(refused) = both(&greeter).await {
                    return refused;
                }
            }
        });
        let refused = refused.await.expect("soon one place alone is left");
        assert!(refused.contains("refused by ratelimit"), "{scope}: {refused}");
        let at = limit().map(|status| (status.limit, status.in_flight));
        assert_eq!(at, (scope == "defaults").then_some((1, 0)));
    }
}

#[tokio::test]
async fn a_call_that_serves_a_retry_is_not_retried() {
    let (address, seen) = server(i64::MAX, false).await;
    let governance = Governance::new(set("
retry_budget: unlimited
defaults: {retry: {mode: failure, idempotent: true, backoff: none}}
"));
    let below = client(address, governance.volo_client());
    let pass_on = move |number| {
        let below = below.clone();
        async move { Ok(below.greet(number).await?) }
    };
    let address = serve(pass_on, governance.volo_server()).await.expect("a server");
    let above = client(address, governance.volo_client());
    above.greet(7).await.expect_err("down");
    // Three attempts from above; of these the first alone may be repeated below, and is, twice.
    assert_eq!(seen.lock().expect("no panic").len(), 3 + 1 + 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_was_sent_nothing_so_any_call_may_be_repeated() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let governance = Governance::new(set("
retry_budget: unlimited
defaults: {retry: {mode: failure, idempotent: false, retries: 2, backoff: none}}
"));
    let attempts = Numbers::default();
    let layers = volo::layer::Stack::new(attempts.clone(), governance.volo_client());
    client(address, layers).greet(7).await.expect_err("nobody is there");
    let attempts = attempts.take();
    assert_eq!(attempts.len(), 3);
    assert!(attempts[0] >= 0 && attempts[1] < 0 && attempts[2] < attempts[1], "{attempts:?}");
}

/// Tells when it is dropped.
struct Ended(tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send(()).expect("somebody listens");
    }
}

#[tokio::test]
async fn a_server_gives_up_what_its_caller_does_not_wait_for() {
    let governance = Governance::new(set("defaults: {timeout: 1h}"));
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let slow = move |_| {
        let ended = Ended(ended.clone());
        async move {
            std::future::pending::<()>().await;
            drop(ended);
            Ok(String::new())
        }
    };
    let address = serve(slow, governance.volo_server()).await.expect("a server");
    let impatient = Governance::new(set("defaults: {timeout: 50ms}"));
    client(address, impatient.volo_client()).greet(7).await.expect_err("late");
    timeout(Duration::from_secs(20), ends.recv()).await.expect("long before an hour");
}

#[tokio::test]
async fn what_a_handler_calls_ends_when_its_own_call_must() {
    let (address, _) = server(i64::MAX, true).await;
    let free = Governance::new(PolicySet::default());
    let below = client(address, free.volo_client());
    let (told, mut errors) = tokio::sync::mpsc::unbounded_channel();
    let pass_on = move |number| {
        let (below, told) = (below.clone(), told.clone());
        async move {
            let error = below.greet(number).await.expect_err("late");
            told.send(error.to_string()).expect("listened to");
            Err(error.into())
        }
    };
    let address = serve(pass_on, free.volo_server()).await.expect("a server");
    let impatient = Governance::new(set("defaults: {timeout: 50ms}"));
    client(address, impatient.volo_client()).greet(7).await.expect_err("late");
    let error = timeout(Duration::from_secs(20), errors.recv()).await.expect("long before an hour");
    assert!(error.is_some_and(|error| error.contains("timeout")), "Volo's own timer, told by ours");
}

struct Tag;

fn context() -> ClientContext {
    let mut callee = Endpoint::new(GREETER.into());
    callee.insert(Tag);
    let info =
        RpcInfo::new(Role::Client, "Greet".into(), Endpoint::default(), callee, Config::new());
    ClientContext::new(1, info, pilota::thrift::TMessageType::Call)
}

#[tokio::test]
async fn a_further_attempt_has_the_callers_tags_and_asks_the_balancer_anew() {
    // As Volo's balancer: picks an address where there is none yet. It fails the first time.
    async fn pick(cx: &mut ClientContext, _: u32) -> Result<Option<u16>, ClientError> {
        let port = u16::try_from(cx.seq_id.unsigned_abs() % 1000 + 1).expect("a port");
        assert!(cx.rpc_info().callee().contains::<Tag>());
        let callee = cx.rpc_info_mut().callee_mut();
        assert!(callee.address().is_none(), "the balancer is asked");
        callee.set_address(SocketAddr::from(([127, 0, 0, 1], port)).into());
        if cx.seq_id == 1 { Err(std::io::Error::other("reset").into()) } else { Ok(Some(port)) }
    }
    let governance = Governance::new(set("
retry_budget: unlimited
defaults: {retry: {mode: failure, idempotent: true, backoff: none}}
"));
    let client = governance.volo_client().layer(service_fn(pick));
    let mut cx = context();
    let port = client.call(&mut cx, 7).await.expect("the second attempt").expect("a port");
    let address = cx.rpc_info().callee().address().expect("picked");
    assert_eq!(address.to_string(), format!("127.0.0.1:{port}"));
    assert_ne!(port, 2, "another sequence number");
}

#[tokio::test(start_paused = true)]
async fn a_governed_call_of_volo_allocates_nothing() {
    async fn answer(_: &mut ClientContext, user: u32) -> Result<Option<u32>, ClientError> {
        Ok(Some(user))
    }
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
    let client = governance.volo_client().layer(service_fn(answer));
    let mut cx = context();
    for _ in 0..2_000 {
        client.call(&mut cx, 7).await.expect("answered");
    }
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            assert!(std::pin::pin!(client.call(&mut cx, 7)).poll(&mut task).is_ready());
        }
    });
    assert_eq!(counted.count_total, 0);
}
