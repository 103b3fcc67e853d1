//! Calls and attempts that go through the composed stacks are looked on.

mod support;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Waker},
};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use outrigger::{
    Format, Governance, ObserveGovernance, PolicySet,
    core::{MethodRef, Rejection},
    observability::{Metric, ObserveLayer, SpanEvents, names},
};
use tokio::sync::RwLock;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tracing_subscriber::layer::SubscriberExt;

use crate::support::Memory;

const POLICIES: &str = "
retry_budget: unlimited
services:
  shop.Cart:
    methods:
      Get: {retry: {mode: failure, idempotent: true, retries: 2, backoff: none}}
      Put: {rate_limit: 1/h}
";

/// Who looks at spans is alone: tracing may take an event that is met for the first time on one
/// thread, while a subscriber begins on another, for one that nobody listens to.
static ALONE: RwLock<()> = RwLock::const_new(());

fn governance<O: ObserveGovernance>(observer: O) -> Governance<O> {
    let set = PolicySet::parse("policies.yaml", POLICIES, Format::Yaml).expect("valid");
    Governance::with_observer(set, observer)
}

/// A request that names its method, unless it is empty.
type Call = &'static str;

fn name(call: &Call) -> Option<MethodRef<'static>> {
    (!call.is_empty()).then_some(MethodRef { service: "shop.Cart", method: call })
}

fn namer(call: &Call) -> Option<MethodRef<'_>> {
    name(call)
}

/// How many calls of a method ended so.
fn ended(meter: &Memory, metric: &Metric, method: &str, outcome: &str) -> i64 {
    meter.told(metric, &[(names::METHOD, method), (names::OUTCOME, outcome)])
}

#[tokio::test(start_paused = true)]
async fn each_call_and_each_attempt_is_recorded_once_by_method_and_outcome() {
    let _beside = ALONE.read().await;
    let (meter, n) = (Memory::default(), Arc::new(AtomicU32::new(0)));
    let seen = ObserveLayer::client().target("shop").meter(meter.clone());
    // Of three attempts the third succeeds.
    let service = service_fn(move |call: Call| {
        let succeeds = n.fetch_add(1, Ordering::Relaxed) % 3 == 2;
        async move { if succeeds { Ok(call) } else { Err(BoxError::from("down")) } }
    });
    let client = governance(()).client(namer).observe(seen).layer(service);
    for _ in 0..4 {
        client.clone().oneshot("Get").await.expect("the third attempt succeeds");
    }
    let get = "shop.Cart/Get";
    assert_eq!(ended(&meter, names::CLIENT_DURATION, get, "success"), 4);
    assert_eq!(ended(&meter, names::ATTEMPT_DURATION, get, "failure"), 8);
    assert_eq!(ended(&meter, names::ATTEMPT_DURATION, get, "success"), 4);
    let of_get = [(names::METHOD, get), (names::SERVER_ADDRESS, "shop")];
    assert_eq!(meter.sum(names::ATTEMPT_STARTED, &of_get), 12);
    assert_eq!(meter.told(names::CLIENT_DURATION, &[]), 4, "no other series");

    // The one call that its limit allows fails; what it refuses is a call, but no attempt.
    for _ in 0..3 {
        client.clone().oneshot("Put").await.expect_err("down, then refused");
    }
    let put = "shop.Cart/Put";
    assert_eq!(ended(&meter, names::CLIENT_DURATION, put, "failure"), 1);
    assert_eq!(ended(&meter, names::CLIENT_DURATION, put, "refused"), 2);
    assert_eq!(meter.sum(names::ATTEMPT_STARTED, &[(names::METHOD, put)]), 1);

    client.oneshot("").await.expect_err("down");
    assert_eq!(ended(&meter, names::CLIENT_DURATION, names::UNNAMED, "failure"), 1);
    for in_flight in [names::CLIENT_IN_FLIGHT, names::ATTEMPTS_IN_FLIGHT] {
        assert_eq!(meter.sum(in_flight, &[]), 0, "{}", in_flight.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_ends_as_cancelled_and_so_does_its_attempt() {
    let _beside = ALONE.read().await;
    let meter = Memory::default();
    let never = service_fn(async |_: Call| std::future::pending::<Result<Call, Rejection>>().await);
    let seen = ObserveLayer::client().meter(meter.clone());
    let client = governance(()).client(namer).observe(seen).layer(never);
    let mut call = Box::pin(client.oneshot("Get"));
    let polled = Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    assert_eq!(meter.sum(names::ATTEMPTS_IN_FLIGHT, &[]), 1);
    drop(call);
    let get = "shop.Cart/Get";
    assert_eq!(ended(&meter, names::CLIENT_DURATION, get, "cancelled"), 1);
    assert_eq!(ended(&meter, names::ATTEMPT_DURATION, get, "cancelled"), 1);
    assert_eq!(meter.sum(names::ATTEMPTS_IN_FLIGHT, &[]), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_records_what_it_serves_and_what_it_refuses() {
    let _beside = ALONE.read().await;
    let meter = Memory::default();
    let seen = ObserveLayer::server().meter(meter.clone());
    let handler = service_fn(async |call: Call| Ok::<_, Rejection>(call));
    let server = governance(()).server(namer).observe(seen).layer(handler);
    server.clone().oneshot("Put").await.expect("the first");
    server.clone().oneshot("Put").await.expect_err("one per hour");
    let put = "shop.Cart/Put";
    assert_eq!(ended(&meter, names::SERVER_DURATION, put, "success"), 1);
    assert_eq!(ended(&meter, names::SERVER_DURATION, put, "refused"), 1);
    assert_eq!(meter.sum(names::SERVER_IN_FLIGHT, &[]), 0);
}

type Body = Full<bytes::Bytes>;
type Sent = Request<outrigger::retry::ReplayBody<Body>>;

/// gRPC calls of which every third succeeds, in its trailers' place; notes what each attempt was
/// sent with.
#[derive(Clone, Default)]
struct Callee(Arc<Mutex<Vec<String>>>);

impl Callee {
    fn answer(&self, request: &Sent) -> Response<Body> {
        let mut traceparents = self.0.lock().expect("not poisoned");
        let header = request.headers().get("traceparent");
        let header = header.map(|value| value.to_str().expect("text").to_owned());
        traceparents.push(header.unwrap_or_default());
        let status = if traceparents.len().is_multiple_of(3) { "0" } else { "14" };
        let response = Response::builder().header("grpc-status", status).body(Body::default());
        response.expect("a response")
    }

    /// Calls through a whole stack that is looked on so, to the end of the body.
    async fn call(&self, seen: ObserveLayer) {
        let callee = self.clone();
        let service = service_fn(move |request: Sent| {
            std::future::ready(Ok::<_, Rejection>(callee.answer(&request)))
        });
        let client = governance(SpanEvents).grpc_client().observe(seen).layer(service);
        let request = Request::post("http://shop/shop.Cart/Get").body(Body::default());
        let response = client.oneshot(request.expect("a request")).await.expect("answered");
        response.into_body().collect().await.expect("a whole body");
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_calls_are_recorded_by_the_names_of_grpc_when_their_bodies_end() {
    let _beside = ALONE.read().await;
    let meter = Memory::default();
    Callee::default().call(ObserveLayer::client().meter(meter.clone())).await;
    let get = "shop.Cart/Get";
    let ok = [(names::SYSTEM, "grpc"), (names::METHOD, get), (names::STATUS_CODE, "OK")];
    assert_eq!(meter.told(names::CLIENT_DURATION, &ok), 1);
    let attempts = |status| {
        let labels = [(names::GRPC_METHOD, get), (names::GRPC_STATUS, status)];
        meter.told(names::GRPC_ATTEMPT_DURATION, &labels)
    };
    assert_eq!((attempts("UNAVAILABLE"), attempts("OK")), (2, 1));
    assert_eq!(meter.sum(names::GRPC_ATTEMPT_STARTED, &[(names::GRPC_METHOD, get)]), 3);
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map_or_else(String::new, |attribute| attribute.value.to_string())
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_a_span_below_its_calls_and_passes_its_own_context_on() {
    let _alone = ALONE.write().await;
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let callee = Callee::default();
    callee.call(ObserveLayer::client().target("shop").propagate()).await;

    let spans = exporter.get_finished_spans().expect("there");
    let is_attempt = |span: &&SpanData| !attribute(span, "outrigger.attempt").is_empty();
    let (attempts, calls): (Vec<_>, Vec<_>) = spans.iter().partition(is_attempt);
    let [call] = calls[..] else { panic!("one call: {spans:#?}") };
    assert_eq!(call.name, "shop.Cart/Get");
    assert_eq!(attribute(call, "server.address"), "shop");
    assert_eq!(attribute(call, "outrigger.outcome"), "success");
    let told = |span: &&SpanData| {
        assert_eq!(span.parent_span_id, call.span_context.span_id());
        [attribute(span, "outrigger.attempt"), attribute(span, "rpc.status_code")]
    };
    let told: Vec<_> = attempts.iter().map(told).collect();
    assert_eq!(told, [["0", "UNAVAILABLE"], ["1", "UNAVAILABLE"], ["2", "OK"]]);
    let sent: Vec<_> = attempts
        .iter()
        .map(|span| {
            let context = &span.span_context;
            format!("00-{}-{}-01", context.trace_id(), context.span_id())
        })
        .collect();
    assert_eq!(*callee.0.lock().expect("not poisoned"), sent);
    let decided = call.events.iter().filter(|event| event.name == "attempt sent").count();
    assert_eq!(decided, 3, "what governance decides stands in the call's span");
}
