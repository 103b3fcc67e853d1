//! Composed stacks over real tonic channels and servers, governed by policy files.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusBuilder;
use outrigger::{
    Format, Governance, PolicySet,
    observability::{FacadeMeter, ObserveLayer},
};
use outrigger_core::{MethodRef, RejectionResponseLayer};
use outrigger_examples::greeter::{greet, serve_by, serve_governed};
use tokio::time::{Instant, sleep};
use tonic::{
    Code, Status,
    body::Body,
    client::GrpcService,
    transport::{Channel, Endpoint},
};
use tower::ServiceBuilder;

const GREET: MethodRef<'static> =
    MethodRef { service: "outrigger.examples.Greeter", method: "Greet" };

fn set(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap_or_else(|e| panic!("{e}"))
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("connected")
}

fn governed(
    governance: &Governance,
    channel: Channel,
) -> impl GrpcService<
    Body,
    Future: Send,
    ResponseBody: Send + http_body::Body<Error: Into<tower::BoxError>>,
> + Clone
+ Send
+ use<> {
    ServiceBuilder::new()
        .layer(governance.tonic_client())
        .map_err(|error: tonic::transport::Error| Status::from_error(error.into()))
        .service(channel)
}

#[tokio::test]
async fn a_failed_call_is_sent_again_and_a_refused_one_says_why() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    // Fails every other call.
    let attend = move |_| {
        let n = counted.fetch_add(1, Ordering::Relaxed);
        async move { n.is_multiple_of(2) }
    };
    let address = serve_by(attend).await.expect("a server");
    let governance = Governance::new(set(
        "
retry_budget: 100%
services:
  outrigger.examples.Greeter:
    timeout: 5s
    methods:
      Greet: {retry: {mode: failure, idempotent: true, backoff: none}, rate_limit: {rate: 1/h, burst: 6}}
",
    ));
    let client = governed(&governance, channel(address).await);
    for number in 0..6 {
        greet(client.clone(), number).await.expect("the second attempt succeeds");
    }
    assert!(calls.load(Ordering::Relaxed) > 6);
    let refused = greet(client, 7).await.expect_err("beyond the rate");
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_late_call_is_a_time_out_though_tonics_channel_has_a_timer_too() {
    let address = serve_by(|_| std::future::pending()).await.expect("a server");
    let governance = Governance::new(set(
        "defaults: {attempt_timeout: 50ms, circuit_breaker: {consecutive_failures: 2, cool_down: 1h}}",
    ));
    let client = governed(&governance, channel(address).await);
    for number in 0..2 {
        let late = greet(client.clone(), number).await.expect_err("it never answers");
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    }
    let refused = greet(client, 2).await.expect_err("time-outs open the circuit");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}

#[tokio::test]
async fn calls_and_attempts_are_counted_by_method_and_outcome() {
    // Fails every other call.
    let calls = Arc::new(AtomicU64::new(0));
    let attend = move |_| {
        let n = calls.fetch_add(1, Ordering::Relaxed);
        async move { !n.is_multiple_of(2) }
    };
    let address = serve_by(attend).await.expect("a server");
    let governance = Governance::new(set(
        "{retry_budget: unlimited, defaults: {retry: {mode: failure, idempotent: true, backoff: none}}}",
    ));
    let recorder = PrometheusBuilder::new().with_recommended_naming(true).build_recorder();
    let scrape = recorder.handle();
    let seen = ObserveLayer::client().target("greeter").meter(FacadeMeter::with_recorder(recorder));
    let client = ServiceBuilder::new()
        .layer(governance.tonic_channel().observe(seen))
        .map_err(|error: tonic::transport::Error| Status::from_error(error.into()))
        .service(channel(address).await);
    for number in 0..5 {
        greet(client.clone(), number).await.expect("the second attempt succeeds");
    }
    let text = scrape.render();
    let count = |metric: &str, labels: [&str; 2]| {
        let name = format!("{metric}_seconds_count");
        let is_it = |line: &&str| {
            line.starts_with(&name) && labels.iter().all(|label| line.contains(label))
        };
        let line = text.lines().find(is_it).unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().and_then(|count| count.parse().ok())
    };
    let of_method = r#"rpc_method="outrigger.examples.Greeter/Greet""#;
    let of_attempt = r#"grpc_method="outrigger.examples.Greeter/Greet""#;
    assert_eq!(count("rpc_client_call_duration", [of_method, r#"="success""#]), Some(5));
    assert_eq!(count("grpc_client_attempt_duration", [of_attempt, r#"="OK""#]), Some(5));
    assert_eq!(count("grpc_client_attempt_duration", [of_attempt, r#"="UNAVAILABLE""#]), Some(5));
}

#[tokio::test]
async fn a_server_refuses_with_a_status_what_its_policy_does_not_allow() {
    let governance = Governance::new(set("server: {concurrency_limit: 1}"));
    let slow = |_| async {
        sleep(Duration::from_millis(300)).await;
        true
    };
    let layer = ServiceBuilder::new()
        .layer(RejectionResponseLayer::new())
        .layer(governance.grpc_server())
        .map_err(outrigger_core::Rejection::from)
        .into_inner();
    let address = serve_governed(slow, layer).await.expect("a server");
    let channel = channel(address).await;
    let (one, two) = tokio::join!(greet(channel.clone(), 1), greet(channel.clone(), 2));
    let refused = one.and(two).expect_err("one at a time");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // While it runs: two at a time.
    governance.replace(set("server: {concurrency_limit: 2}"));
    let (one, two) = tokio::join!(greet(channel.clone(), 1), greet(channel, 2));
    one.and(two).expect("both are served");
}

/// 200 sets a second for ten seconds, under calls from two tasks, at the client and at the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost_while_policies_are_replaced() {
    let text = |n: u64| {
        format!(
            "
defaults:
  timeout: {}s
  attempt_timeout: {}s
  rate_limit: {{rate: {}, burst: 1000000}}
  concurrency_limit: {}
  circuit_breaker: {{error_rate: {{rate: 0.5, minimum_calls: {}}}}}
  client_throttle: {{}}
  retry: {}
server: {{concurrency_limit: {}, rate_limit: {{rate: 1000000, burst: {}}}}}
",
            20 + n % 5,
            10 + n % 5,
            900_000 + n,
            50 + n % 50,
            10 + n,
            [
                "off",
                "{mode: failure, idempotent: true}",
                "{mode: backup, idempotent: true, backup_delay: {fixed: 5s}}"
            ][usize::try_from(n % 3).expect("small")],
            50 + n % 50,
            1_000_000 + n,
        )
    };
    let governance = Governance::new(set(&text(0)));
    let layer = ServiceBuilder::new()
        .layer(RejectionResponseLayer::new())
        .layer(governance.grpc_server())
        .map_err(outrigger_core::Rejection::from)
        .into_inner();
    let address = serve_governed(|_| async { true }, layer).await.expect("a server");
    let client = governed(&governance, channel(address).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let callers = [(); 2].map(|()| {
        let (client, is_over) = (client.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut served = 0;
            while !is_over.load(Ordering::Relaxed) {
                greet(client.clone(), served).await.expect("no set refuses anything");
                served += 1;
            }
            served
        })
    });
    let began = Instant::now();
    for n in 1..=2_000_u64 {
        governance.replace(set(&text(n)));
        // A bad one between two good ones changes nothing.
        governance.replace_text("bad", "defaults: {timeout: -1s}", Format::Yaml).expect_err("bad");
        tokio::time::sleep_until(began + Duration::from_millis(5 * n)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.expect("no panic") > 100);
    }
    let state = governance.method(GREET);
    assert_eq!(state.concurrency_limit().in_flight(), 0, "every permit came back");
    assert_eq!(governance.version(), 2_000);
}

#[tokio::test]
async fn an_axum_router_is_governed_by_the_routes_that_it_matches() {
    use axum::{Router, body::Body, extract::MatchedPath, routing::get};
    use http::{Request, StatusCode};
    use tower::ServiceExt;

    fn name(request: &Request<Body>) -> Option<MethodRef<'_>> {
        let route = request.extensions().get::<MatchedPath>()?;
        Some(MethodRef { service: "shop", method: route.as_str() })
    }

    let governance =
        Governance::new(set("services: {shop: {methods: {'/cart/{id}': {rate_limit: 2/h}}}}"));
    let layers = ServiceBuilder::new()
        .layer(RejectionResponseLayer::new())
        .layer(governance.http_server(name))
        .map_err(outrigger_core::Rejection::from);
    let router = Router::new()
        .route("/cart/{id}", get(async || "2 apples"))
        .route("/health", get(async || "well"))
        .layer(layers.into_inner());
    let status = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        router.clone().oneshot(request).await.expect("an answer").status()
    };
    let ok = StatusCode::OK;
    assert_eq!([status("/cart/1").await, status("/cart/2").await], [ok, ok]);
    assert_eq!(status("/cart/3").await, StatusCode::TOO_MANY_REQUESTS, "one route, one limit");
    assert_eq!(status("/health").await, ok);
}
