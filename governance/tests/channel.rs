//! A stack over nothing but a channel: what the channel is given, and what the layers know.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response};
use outrigger::{Format, Governance, Governed, InEnvelope, Inner, PolicySet};
use outrigger_core::{AttemptContext, CarryContext, Criticality, InExtensions};
use outrigger_retry::Chain;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, body::Body};
use tower::{Layer, Service, ServiceExt, service_fn};

const POLICIES: &str = "
defaults:
  timeout: 10s
  retry: {mode: failure, idempotent: true, retries: 2, backoff: {fixed: {delay: 4s}}, max_duration: null}
";

/// What a channel was given: headers, whether there were extensions of the caller's, a context.
#[derive(Clone, Debug)]
struct Given {
    headers: HeaderMap,
    has_theirs: bool,
    context: Option<AttemptContext>,
}

type Seen = Arc<Mutex<Vec<Given>>>;

/// A channel whose server is always unavailable.
fn channel(
    seen: &Seen,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Status, Future: Send> + Clone + use<>
{
    let seen = Arc::clone(seen);
    service_fn(move |request: Request<Body>| {
        let given = Given {
            headers: request.headers().clone(),
            has_theirs: request.extensions().get::<&str>().is_some(),
            context: request.extensions().get().cloned(),
        };
        seen.lock().unwrap().push(given);
        async { Err::<Response<Body>, _>(Status::unavailable("down")) }
    })
}

fn governance(policies: &str) -> Governance {
    Governance::new(PolicySet::parse("policies.yaml", policies, Format::Yaml).unwrap())
}

fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = http::Uri::from_static("/shop.Cart/Get");
    request.extensions_mut().insert("theirs");
    request
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_given_the_deadline_and_neither_context_nor_extensions() {
    let seen = Seen::default();
    let client = governance(POLICIES).tonic_channel().layer(channel(&seen));
    client.oneshot(request()).await.unwrap_err();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "the budget allows one retry");
    assert_eq!(seen[0].headers["grpc-timeout"], "10000000u");
    for attempt in &*seen {
        assert!(!attempt.has_theirs && attempt.context.is_none(), "{attempt:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_stands_for_itself_has_its_own_time_in_each_attempt() {
    let policies = "defaults: {attempt_timeout: 5s, retry: {mode: failure, idempotent: true}}";
    let seen = Seen::default();
    let client = governance(policies).tonic_channel().layer(channel(&seen));
    let mut detached = request();
    detached.extensions_mut().insert(AttemptContext::default());
    let soon = Instant::now() + Duration::from_secs(1);
    let chain = Chain::default().with_deadline(Some(soon));
    chain.scope(client.oneshot(detached)).await.unwrap_err();
    assert_eq!(seen.lock().unwrap()[0].headers["grpc-timeout"], "5000000u");
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_around_the_calls_says_counts_in_the_request_and_in_the_envelope() {
    type Call = Governed<Request<Body>, (), InEnvelope>;
    let mut of_retry = AttemptContext::default();
    of_retry.caller_is_retry = true;
    for in_envelope in [false, true] {
        let seen = Seen::default();
        let context = of_retry.clone();
        let say = tower::util::MapRequestLayer::new(move |mut call: Call| {
            if in_envelope {
                Inner(InExtensions).set_context(&mut call, context.clone());
            } else {
                InExtensions.set_context(&mut call.request, context.clone());
            }
            call
        });
        let client = governance(POLICIES).tonic_channel().around_calls(say).layer(channel(&seen));
        client.oneshot(request()).await.unwrap_err();
        assert_eq!(seen.lock().unwrap().len(), 1, "a retry of a retry was sent");
    }
}

#[tokio::test(start_paused = true)]
async fn how_much_a_call_matters_may_stand_in_the_envelope() {
    type Call = Governed<Request<Body>, (), InEnvelope>;
    // What the caller says comes before what the policy says.
    let policies = "
defaults: {criticality: SHEDDABLE, concurrency_limit: {limit: 1, max_waiting: 1, max_wait: 40s}}
";
    let hang = service_fn(async |_: Request<Body>| {
        sleep(Duration::from_secs(60)).await;
        Ok::<_, Status>(Response::new(Body::empty()))
    });
    let say = tower::util::MapRequestLayer::new(|mut call: Call| {
        let mut context = AttemptContext::default();
        context.criticality =
            call.request.headers().get("matters").map(|_| Criticality::CriticalPlus);
        Inner(InExtensions).set_context(&mut call, context);
        call
    });
    let matters = |matters: bool| {
        let mut request = request();
        if matters {
            request.headers_mut().insert("matters", HeaderValue::from_static("most"));
        }
        request
    };
    // Of two calls and one place to wait, whoever comes first: the one that matters more has it.
    for first_matters in [false, true] {
        let governance = governance(policies);
        let client = governance.tonic_channel().around_calls(say.clone()).layer(hang);
        let _inside = tokio::spawn(client.clone().oneshot(request()));
        tokio::task::yield_now().await;
        let first = tokio::spawn(client.clone().oneshot(matters(first_matters)));
        tokio::task::yield_now().await;
        let second = tokio::spawn(client.oneshot(matters(!first_matters)));
        let refused = if first_matters { second } else { first };
        let refused = timeout(Duration::from_secs(1), refused).await.expect("at once");
        assert!(refused.unwrap().is_err(), "first matters: {first_matters}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_more_than_a_channel_is_given_both() {
    let seen = Seen::default();
    let client = governance(POLICIES).tonic_client().layer(channel(&seen));
    client.oneshot(request()).await.unwrap_err();
    let first = seen.lock().unwrap()[0].clone();
    let context = first.context.unwrap();
    assert!(first.has_theirs && context.tried.is_some() && context.deadline.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_layers_of_the_stack_know_the_deadline_all_the_same() {
    let seen = Seen::default();
    let client = governance(POLICIES).tonic_channel().layer(channel(&seen));
    let mut late = request();
    late.headers_mut().insert("grpc-timeout", HeaderValue::from_static("6S"));
    let began = Instant::now();
    client.oneshot(late).await.unwrap_err();
    // The second would wait until the eighth second.
    assert_eq!(began.elapsed(), Duration::from_secs(4));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].headers["grpc-timeout"], "6000000u");
    assert_eq!(seen[1].headers["grpc-previous-rpc-attempts"], "1");
}

#[tokio::test(start_paused = true)]
async fn what_the_caller_wrote_into_the_context_counts() {
    let policies = "defaults: {concurrency_limit: {limit: 1, max_waiting: 1, max_wait: 40s}}";
    let slow = service_fn(async |_: Request<Body>| {
        sleep(Duration::from_secs(60)).await;
        Ok::<_, Status>(Response::new(Body::empty()))
    });
    let client = governance(policies).tonic_channel().layer(slow);
    let mut late = request();
    let mut context = AttemptContext::default();
    context.deadline = Some(Instant::now() + Duration::from_secs(5));
    late.extensions_mut().insert(context);
    let (first, second) = (client.clone().oneshot(request()), client.oneshot(late));
    let first = tokio::spawn(first);
    tokio::task::yield_now().await;
    let began = Instant::now();
    timeout(Duration::from_secs(50), second).await.unwrap().unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(5), "it does not wait beyond its deadline");
    first.await.unwrap().unwrap();
}
