//! Endpoints say their load in the trailers of what they answer.
#![cfg(feature = "orca")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use outrigger_loadbalance::{Balance, BalancePolicy, BalanceService, Endpoint, Picker};
use tokio::time::{Duration, advance};
use tower::{BoxError, ServiceExt, service_fn, util::BoxCloneSyncService};

type Body = StreamBody<tokio_stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;
type Host = BoxCloneSyncService<Request<()>, Response<Body>, BoxError>;

/// `OrcaLoadReport` with `cpu_utilization` and `rps_fractional`.
fn report(utilization: f64, qps: f64) -> String {
    let mut message = Vec::new();
    for (tag, value) in [(1_u8, utilization), (6, qps)] {
        message.push(tag << 3 | 1);
        message.extend(value.to_le_bytes());
    }
    STANDARD_NO_PAD.encode(message)
}

/// Answers with a report, and counts its calls.
fn host(report: String, calls: &Arc<AtomicU32>) -> Host {
    let calls = Arc::clone(calls);
    Host::new(service_fn(move |_: Request<()>| {
        calls.fetch_add(1, Ordering::Relaxed);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let value = HeaderValue::from_str(&report).expect("base64");
        trailers.insert("endpoint-load-metrics-bin", value);
        let frames =
            vec![Ok(Frame::data(Bytes::from_static(b"hello"))), Ok(Frame::trailers(trailers))];
        async move { Ok::<_, BoxError>(Response::new(StreamBody::new(tokio_stream::iter(frames)))) }
    }))
}

#[tokio::test(start_paused = true)]
async fn calls_follow_the_load_that_trailers_report() {
    let policy = BalancePolicy::builder().picker(Picker::reported()).ejection(None).seed(1);
    let balance = Balance::new(policy.build().expect("a valid policy"));
    let calls = [(); 3].map(|()| Arc::new(AtomicU32::new(0)));
    // The second serves as many with a third of the load; what the third says cannot be read.
    let reports = [report(0.9, 100.0), report(0.3, 100.0), "nonsense!".to_owned()];
    for ((number, calls), report) in calls.iter().enumerate().zip(reports) {
        balance.insert(Endpoint::new(format!("host-{number}"), host(report, calls)));
    }
    let service = BalanceService::new(balance).grpc();
    let call = || async {
        let response = service.clone().oneshot(Request::new(())).await.expect("it answers");
        let body = response.into_body().collect().await.expect("a whole body");
        assert_eq!(body.to_bytes(), "hello");
    };
    // Reports count after ten seconds of them.
    for _ in 0..150 {
        call().await;
        advance(Duration::from_millis(100)).await;
    }
    let before = calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
    for _ in 0..3_000 {
        call().await;
        advance(Duration::from_millis(10)).await;
    }
    let shares = [0, 1, 2]
        .map(|host| f64::from(calls[host].load(Ordering::Relaxed) - before[host]) / 3_000.0);
    // 111 and 333; who says nothing counts as their mean, 222.
    for (share, expected) in shares.into_iter().zip([1.0 / 6.0, 0.5, 1.0 / 3.0]) {
        assert!((share - expected).abs() < 0.04, "{shares:?}");
    }
}
