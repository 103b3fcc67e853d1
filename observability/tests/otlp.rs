//! The spans of a hedged call, as a receiver of OTLP gets them over gRPC.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use opentelemetry::{
    KeyValue,
    baggage::BaggageExt,
    trace::{TraceContextExt, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use outrigger_core::InExtensions;
use outrigger_observability::{ObserveLayer, SpanEvents};
use outrigger_retry::{RetryBudget, RetryLayer, RetryPolicy};
use tokio::{net::TcpListener, time};
use tokio_stream::wrappers::TcpListenerStream;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receiver() -> (Receiver, SdkTracerProvider) {
    let receiver = Receiver::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = TraceServiceServer::new(receiver.clone());
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
    );
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(format!("http://{address}"))
        .build()
        .unwrap();
    (receiver, SdkTracerProvider::builder().with_batch_exporter(exporter).build())
}

/// The first call takes long, the second is answered at once. Tells the baggage that came.
async fn handle(
    calls: Arc<AtomicU32>,
    _request: Request<String>,
) -> Result<Response<String>, Infallible> {
    if calls.fetch_add(1, Ordering::Relaxed) == 0 {
        time::sleep(Duration::from_secs(60)).await;
    }
    let context = tracing::Span::current().context();
    let user = context.baggage().get("user").map(|user| user.as_str().to_owned());
    Ok(Response::new(user.unwrap_or_default()))
}

/// A call whose first attempt takes long, so that a backup request wins.
async fn hedged_call() -> String {
    let calls = Arc::new(AtomicU32::new(0));
    let server = ServiceBuilder::new()
        .layer(ObserveLayer::server().grpc().propagate())
        .map_err(BoxError::from)
        .service(service_fn(move |request| handle(Arc::clone(&calls), request)));
    // As over a network: what is not in the headers is lost, the server works on a task of its own.
    let network = service_fn(move |request: Request<String>| {
        let (mut parts, body) = request.into_parts();
        parts.extensions.clear();
        let call = server.clone().oneshot(Request::from_parts(parts, body));
        async move { tokio::spawn(call).await? }
    });
    let policy = RetryPolicy::backup(Duration::from_millis(20)).idempotent(true).build().unwrap();
    let client = ServiceBuilder::new()
        .layer(ObserveLayer::client().grpc().target("shop").propagate())
        .layer(
            RetryLayer::new(policy)
                .protocol(outrigger_retry::Plain::new(InExtensions))
                .budget(RetryBudget::unlimited())
                .observe(SpanEvents),
        )
        .layer(ObserveLayer::attempt().grpc().propagate())
        .service(network);
    let request = Request::builder().uri("http://shop/shop.Orders/Place").body(String::new());
    let response = client.oneshot(request.unwrap()).await.unwrap();
    http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes()
        .escape_ascii()
        .to_string()
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hedged_call_is_one_span_with_two_attempts_and_the_servers_spans_below_them() {
    let (receiver, provider) = receiver().await;
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let baggage = opentelemetry::Context::current_with_baggage([KeyValue::new("user", "alice")]);
    let answer = {
        use opentelemetry::context::FutureExt;
        hedged_call().with_context(baggage).await
    };
    assert_eq!(answer, "alice", "baggage goes from the caller to the server");
    tokio::task::spawn_blocking(move || provider.force_flush().unwrap()).await.unwrap();

    let spans = receiver.0.lock().unwrap().clone();
    let of = |kind, is_top: bool| {
        let fits =
            |span: &&Span| span.kind == kind as i32 && span.parent_span_id.is_empty() == is_top;
        spans.iter().filter(fits).collect::<Vec<_>>()
    };
    let [call] = of(SpanKind::Client, true)[..] else { panic!("one call: {spans:#?}") };
    assert_eq!(call.name, "shop.Orders/Place");
    assert_eq!(attribute(call, "rpc.system.name"), "grpc");
    assert_eq!(attribute(call, "server.address"), "shop");
    assert_eq!(attribute(call, "outrigger.outcome"), "success");
    assert!(spans.iter().all(|span| span.trace_id == call.trace_id), "one trace");

    let mut attempts = of(SpanKind::Client, false);
    attempts.sort_by_key(|span| span.start_time_unix_nano);
    let [first, backup] = attempts[..] else { panic!("two attempts: {spans:#?}") };
    assert!([first, backup].iter().all(|span| span.parent_span_id == call.span_id));
    let told = |span| [attribute(span, "outrigger.attempt"), attribute(span, "outrigger.outcome")];
    assert_eq!(told(first), ["0", "cancelled"]);
    assert_eq!(told(backup), ["1", "success"]);

    let events: Vec<_> = call.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(events, ["attempt sent", "attempt sent", "attempt ended", "backup won"]);

    let served = of(SpanKind::Server, false);
    let is_served =
        |attempt: &Span| served.iter().any(|span| span.parent_span_id == attempt.span_id);
    assert!(is_served(backup), "the server's span is a child of the attempt's: {served:#?}");
    assert!(!opentelemetry::Context::current().has_active_span());
}

/// Kitex derives its metrics from spans, so that sampling thins them.
#[tokio::test]
async fn metrics_count_every_call_whether_or_not_its_trace_is_sampled() {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use opentelemetry_sdk::trace::Sampler;
    use outrigger_observability::FacadeMeter;

    let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    let subscriber = tracing_subscriber::registry().with(layer);
    let _guard = tracing::subscriber::set_default(subscriber);
    let recorder = PrometheusBuilder::new().build_recorder();
    let scrape = recorder.handle();
    let layer = ObserveLayer::client().meter(FacadeMeter::with_recorder(recorder)).spans();
    let answer = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
    let service = ServiceBuilder::new().layer(layer).service(answer);
    for n in 0..10 {
        assert_eq!(service.clone().oneshot(n).await.unwrap(), n);
    }
    let text = scrape.render();
    let count = text.lines().find(|line| line.starts_with("rpc_client_call_duration_count"));
    assert!(count.unwrap().ends_with(" 10"), "{text}");
}
