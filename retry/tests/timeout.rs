//! Time-outs: lazily armed, and a deadline that travels.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use outrigger_core::{
    AttemptContext, CarryContext, Enforcement, Live, Method, MethodRef, PerMethod, Rejection,
};
use outrigger_retry::{Chain, TimeoutEvent, TimeoutLayer, TimeoutPolicy};
use outrigger_testing::{Answer, Script, laws, scripted};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn rejection(error: &BoxError) -> &Rejection {
    error.downcast_ref().expect("a refusal of ours")
}

fn over_script() -> (impl Service<u32, Response = u32, Error = BoxError>, Script) {
    let (inner, script) = scripted();
    (TimeoutLayer::after(100 * MS).layer(inner), script)
}

fn start<S, R>(service: &mut S, request: R) -> task::Spawn<S::Future>
where
    S: Service<R>,
    S::Error: std::fmt::Debug,
{
    let ready = task::spawn(()).enter(|cx, _| service.poll_ready(cx));
    assert!(assert_ready!(ready).is_ok());
    task::spawn(service.call(request))
}

#[test]
fn a_call_that_is_ready_at_once_touches_no_timer() {
    // There is no runtime here: making a timer would panic.
    let (mut service, _script) = over_script();
    assert_eq!(assert_ready!(start(&mut service, 1).poll()).expect("an answer"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_runs_too_long_is_cut_and_its_inner_future_dropped_at_once() {
    let (mut service, script) = over_script();
    script.answer(Answer::Pending);
    let mut call = start(&mut service, 1);
    assert_pending!(call.poll());
    assert!(!call.is_woken(), "it waits without spinning");
    advance(99 * MS).await;
    assert_pending!(call.poll());
    assert!(script.polls() <= 2);
    advance(2 * MS).await;
    assert!(call.is_woken());
    let error = assert_ready!(call.poll()).expect_err("cut");
    assert_eq!(rejection(&error).to_string(), "call cut short by timeout: timed out");
    assert!(rejection(&error).was_sent());
    assert_eq!(script.alive(), 0, "though the call's own future is still here");
}

#[tokio::test(start_paused = true)]
async fn an_answer_beats_a_time_out_at_the_same_moment() {
    let (mut service, script) = over_script();
    script.answer(Answer::Pending);
    let mut call = start(&mut service, 1);
    assert_pending!(call.poll());
    script.answer(Answer::Ok);
    advance(200 * MS).await;
    assert_eq!(assert_ready!(call.poll()).expect("an answer"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_at_the_deadline_is_the_time_out_by_whatever_timer_it_comes() {
    // As tonic's channel, which reads `grpc-timeout`, and Volo's client, which has an RPC time-out.
    let with_a_timer = |ms: u32| {
        service_fn(move |_: u32| async move {
            tokio::time::sleep(ms * MS).await;
            Err::<u32, BoxError>("Timeout expired".into())
        })
    };
    let layer = TimeoutLayer::after(100 * MS);
    let error = layer.layer(with_a_timer(100)).oneshot(1).await.expect_err("cut");
    assert_eq!(rejection(&error).to_string(), "call cut short by timeout: timed out");
    assert!(rejection(&error).was_sent());
    let error = layer.layer(with_a_timer(99)).oneshot(1).await.expect_err("failed before");
    assert_eq!(error.to_string(), "Timeout expired");
}

#[tokio::test(start_paused = true)]
async fn in_shadow_nothing_is_cut_and_the_observer_is_told_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    let policy = TimeoutPolicy::after(100 * MS).with_enforcement(Enforcement::Shadow);
    let layer = TimeoutLayer::new(policy).observe(move |_: &str, event: &TimeoutEvent| {
        note.lock().expect("no panic").push(*event);
    });
    let (inner, script) = scripted();
    let mut service = layer.layer(inner);
    script.answer(Answer::Pending);
    let mut call = start(&mut service, 1);
    assert_pending!(call.poll());
    for _ in 0..3 {
        advance(150 * MS).await;
        assert_pending!(call.poll());
    }
    script.answer(Answer::Ok);
    assert_eq!(assert_ready!(call.poll()).expect("an answer"), 2);
    let after = 100 * MS;
    assert_eq!(*told.lock().expect("no panic"), [TimeoutEvent::TimedOut { after, shadow: true }]);
}

fn name(ms: &u32) -> Option<MethodRef<'_>> {
    (*ms > 200).then_some(MethodRef { service: "a", method: "slow" })
}

#[tokio::test(start_paused = true)]
async fn the_time_changes_while_calls_run_and_can_come_from_the_request_or_the_method() {
    let sleepy = service_fn(|ms: u32| async move {
        tokio::time::sleep(ms * MS).await;
        Ok::<_, BoxError>(ms)
    });

    let layer = TimeoutLayer::after(100 * MS);
    let mut service = layer.layer(sleepy);
    service.ready().await.expect("ready").call(150).await.expect_err("cut");
    layer.handle().replace(TimeoutPolicy::after(200 * MS));
    service.ready().await.expect("ready").call(150).await.expect("more time");

    let read = |ms: &u32| (*ms > 300).then_some(Duration::from_millis(500));
    let from_request = TimeoutLayer::after(100 * MS).from_request(read).layer(sleepy);
    from_request.clone().oneshot(400).await.expect("it asked for more");
    from_request.oneshot(200).await.expect_err("it did not ask");

    let policies = PerMethod::new(Live::new(TimeoutPolicy::after(100 * MS)))
        .with_method(Method::new("a", "slow"), Live::new(TimeoutPolicy::after(300 * MS)));
    let per_method = TimeoutLayer::per_method(policies, name).layer(sleepy);
    per_method.clone().oneshot(250).await.expect("the slow method");
    per_method.oneshot(150).await.expect_err("any other");
}

#[tokio::test(start_paused = true)]
async fn the_longest_time_outs_never_end_and_never_panic() {
    let (inner, script) = scripted();
    let mut service = TimeoutLayer::after(Duration::MAX).layer(inner);
    script.answer(Answer::Pending);
    let mut call = start(&mut service, 1);
    assert_pending!(call.poll());
    advance(Duration::from_secs(1_000_000)).await;
    assert_pending!(call.poll());
}

#[test]
fn no_time_at_all_is_no_policy() {
    let error = TimeoutPolicy::builder().timeout(Duration::ZERO).build().expect_err("no");
    assert_eq!(error.to_string(), "`timeout` is 0ns; it must be longer than 0");
}

#[test]
fn it_keeps_the_laws_of_a_layer() {
    laws::all(|| TimeoutLayer::after(Duration::from_secs(1_000)));
    laws::all(TimeoutLayer::from_deadline);
    let policy = TimeoutPolicy::after(Duration::from_secs(1_000));
    laws::all(|| TimeoutLayer::new(policy.with_enforcement(Enforcement::Shadow)));
    laws::all(|| TimeoutLayer::new(policy.with_enforcement(Enforcement::Disabled)));
}

#[derive(Clone, Default)]
struct Frame {
    context: Option<AttemptContext>,
}

#[derive(Clone, Copy)]
struct InFrame;

impl CarryContext<Frame> for InFrame {
    fn context<'a>(&self, request: &'a Frame) -> Option<&'a AttemptContext> {
        request.context.as_ref()
    }
    fn set_context(&self, request: &mut Frame, context: AttemptContext) {
        request.context = Some(context);
    }
}

/// Says how long its request has, and takes forever when asked to.
async fn time_left(frame: Frame) -> Result<Option<Duration>, BoxError> {
    let deadline = frame.context.and_then(|context| context.deadline);
    Ok(deadline.map(|deadline| deadline - Instant::now()))
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_two_deadlines_is_seen_further_in() {
    let overall = TimeoutLayer::after(1_000 * MS).carry_context(InFrame);
    let attempt = |ms: u32| TimeoutLayer::after(ms * MS).carry_context(InFrame);
    let left =
        |ms| overall.layer(attempt(ms).layer(service_fn(time_left))).oneshot(Frame::default());
    assert_eq!(left(400).await.expect("an answer"), Some(400 * MS));
    assert_eq!(left(4_000).await.expect("an answer"), Some(1_000 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_is_over_is_not_sent() {
    let (service, mut inner) = tower_test::mock::pair::<Frame, ()>();
    let mut service = TimeoutLayer::from_deadline().carry_context(InFrame).layer(service);
    inner.allow(1);
    let mut context = AttemptContext::default();
    context.deadline = Some(Instant::now());
    let mut call = start(&mut service, Frame { context: Some(context) });
    let error = assert_ready!(call.poll()).expect_err("too late");
    assert!(!rejection(&error).was_sent());
    assert_eq!(rejection(&error).reason(), "deadline_passed");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_call_being_served_limits_the_calls_it_makes() {
    let layer = TimeoutLayer::after(1_000 * MS).carry_context(InFrame);
    let chain = Chain::default().with_deadline(Some(Instant::now() + 300 * MS));
    let call = layer.layer(service_fn(time_left)).oneshot(Frame::default());
    assert_eq!(chain.scope(call).await.expect("an answer"), Some(300 * MS));
}

#[cfg(feature = "http")]
mod grpc {
    use http::{HeaderMap, Request, Response};

    use super::*;

    async fn headers(request: Request<()>) -> Result<Response<HeaderMap>, BoxError> {
        Ok(Response::new(request.headers().clone()))
    }

    async fn forwarded(layers: TimeoutLayer, came: Option<&str>) -> Option<String> {
        let mut request = Request::new(());
        if let Some(came) = came {
            request.headers_mut().insert("grpc-timeout", came.parse().expect("a value"));
        }

        let service = layers.grpc().layer(service_fn(headers));
        let headers = service.oneshot(request).await.expect("an answer").into_body();
        headers.get("grpc-timeout").map(|value| value.to_str().expect("ASCII").to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn grpc_timeout_is_honoured_and_forwarded() {
        let fixed = || TimeoutLayer::after(250 * MS);
        assert_eq!(forwarded(fixed(), None).await.as_deref(), Some("250000u"));
        assert_eq!(forwarded(fixed(), Some("100m")).await.as_deref(), Some("100000u"));
        assert_eq!(forwarded(fixed(), Some("9S")).await.as_deref(), Some("250000u"));
        let came = TimeoutLayer::from_deadline;
        assert_eq!(forwarded(came(), Some("2S")).await.as_deref(), Some("2000000u"));
        assert_eq!(forwarded(came(), None).await, None);
        assert_eq!(forwarded(came(), Some("nonsense")).await.as_deref(), Some("nonsense"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forwarded_is_less_the_time_that_was_spent() {
        let slow_middle = tower::layer::layer_fn(|inner: tower::util::BoxCloneService<_, _, _>| {
            service_fn(move |request: Request<()>| {
                let inner = inner.clone();
                async move {
                    tokio::time::sleep(60 * MS).await;
                    inner.oneshot(request).await
                }
            })
        });
        let attempt = TimeoutLayer::from_deadline().grpc().layer(service_fn(headers));
        let attempt = tower::util::BoxCloneService::new(attempt);
        let service = TimeoutLayer::after(100 * MS).grpc().layer(slow_middle.layer(attempt));
        let headers = service.oneshot(Request::new(())).await.expect("an answer").into_body();
        assert_eq!(headers["grpc-timeout"], "40000000n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_grpc_timeout_that_came_with_the_request_cuts_the_call() {
        type Answer = Result<Response<()>, BoxError>;
        let hang = service_fn(|_: Request<()>| std::future::pending::<Answer>());
        let request = Request::builder().header("grpc-timeout", "50m").body(()).expect("valid");
        let began = Instant::now();
        let call = TimeoutLayer::from_deadline().grpc().layer(hang).oneshot(request);
        call.await.expect_err("cut");
        assert_eq!(began.elapsed(), 50 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_servers_word_at_the_deadline_that_it_is_over_is_the_time_out() {
        // tonic's server answers `CANCELLED` when the time of `grpc-timeout` is over.
        let server = |ms: u32, status: &'static str| {
            service_fn(move |_: Request<()>| async move {
                tokio::time::sleep(ms * MS).await;
                let answer = Response::builder().header("grpc-status", status).body(())?;
                Ok::<_, BoxError>(answer)
            })
        };
        let layer = TimeoutLayer::after(100 * MS).grpc();
        for status in ["1", "4"] {
            let error = layer.layer(server(100, status)).oneshot(Request::new(())).await;
            let error = error.expect_err("the time-out");
            assert_eq!(rejection(&error).to_string(), "call cut short by timeout: timed out");
            assert!(rejection(&error).was_sent());
        }
        for (ms, status) in [(99, "1"), (99, "4"), (100, "0"), (100, "5")] {
            let answer = layer.layer(server(ms, status)).oneshot(Request::new(())).await;
            assert_eq!(answer.expect("the server's own").headers()["grpc-status"], status);
        }
        let shadow = TimeoutPolicy::after(100 * MS).with_enforcement(Enforcement::Shadow);
        let shadow = TimeoutLayer::new(shadow).grpc().layer(server(100, "1"));
        shadow.oneshot(Request::new(())).await.expect("in shadow no answer changes");
    }
}

#[test]
fn its_future_is_small() {
    use outrigger_retry::{NoDeadline, TimeoutFuture};
    type Future = TimeoutFuture<outrigger_testing::ScriptedFuture, NoDeadline, ()>;
    let timer = size_of::<Option<tokio::time::Sleep>>();
    laws::is_send_and_at_most::<Future>(
        size_of::<outrigger_testing::ScriptedFuture>() + timer + 64,
    );
}
