//! What an observer sees of calls.

#![expect(clippy::float_cmp, reason = "counts are whole numbers")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

mod support;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use outrigger_core::{MethodRef, Rejection};
use outrigger_observability::{
    CallEnd, CallOutcome, CallStart, ObserveLayer, Status, Tracer, names,
};
use support::Memory;
use tokio::time;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn method<'a>(request: &'a &'static str) -> Option<MethodRef<'a>> {
    MethodRef::from_grpc_path(request)
}

/// Does what the last part of the method's name says.
async fn answer(request: &'static str) -> Result<&'static str, BoxError> {
    time::sleep(20 * MS).await;
    match request.rsplit('/').next() {
        Some("Fail") => Err("no".into()),
        Some("Panic") => panic!("as asked"),
        Some("Late") => Err(Rejection::deadline_exceeded("retry", "attempt_timeout").sent().into()),
        Some("Refuse") => Err(Rejection::unavailable("circuitbreak", "circuit_open").into()),
        _ => Ok(request),
    }
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_call_has_its_outcome_and_nothing_stays_in_flight() {
    let memory = Memory::default();
    let layer = ObserveLayer::client().meter(memory.clone()).name_methods(method).target("shop");
    let service = layer.layer(service_fn(answer));

    let calls = ["/a.B/Do", "/a.B/Do", "/a.B/Fail", "/a.B/Late", "/a.B/Refuse"];
    for call in calls {
        let _ = service.clone().oneshot(call).await;
    }
    let mut dropped = task::spawn(service.clone().oneshot("/a.B/Do"));
    assert_pending!(dropped.poll());
    assert_eq!(memory.sum(names::CLIENT_IN_FLIGHT, &[]), 1.0);
    drop(dropped);
    let panicked = tokio::spawn(service.clone().oneshot("/a.B/Panic")).await;
    assert!(panicked.unwrap_err().is_panic());

    let count = |outcome, error| {
        let labels: &[_] = match error {
            "" => &[(names::OUTCOME, outcome)],
            _ => &[(names::OUTCOME, outcome), (names::ERROR_TYPE, error)],
        };
        memory.count(names::CLIENT_DURATION, labels)
    };
    assert_eq!(count("success", ""), 2);
    assert_eq!(count("failure", "_OTHER"), 1);
    assert_eq!(count("timeout", "attempt_timeout"), 1);
    assert_eq!(count("refused", "circuit_open"), 1);
    assert_eq!(count("cancelled", "cancelled"), 1);
    assert_eq!(count("failure", "panic"), 1);
    assert_eq!(memory.sum(names::CLIENT_IN_FLIGHT, &[]), 0.0);

    let labels = [(names::METHOD, "a.B/Do"), (names::OUTCOME, "success")];
    let seconds = memory.sum(names::CLIENT_DURATION, &labels);
    assert!((0.04..0.05).contains(&seconds), "{seconds}");
    assert_eq!(memory.count(names::CLIENT_DURATION, &[(names::SERVER_ADDRESS, "shop")]), 7);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_dropped_calls_leave_nothing_in_flight_and_are_counted_as_cancelled() {
    let memory = Memory::default();
    let layer = ObserveLayer::client().meter(memory.clone());
    let mut service = layer.layer(service_fn(answer));
    for round in 0..10_000 {
        assert!(assert_ready!(task::spawn(()).enter(|cx, _| service.poll_ready(cx))).is_ok());
        let mut call = task::spawn(service.call("/a.B/Do"));
        // Some are dropped before their first poll.
        if round % 3 > 0 {
            assert_pending!(call.poll());
        }
    }
    assert_eq!(memory.sum(names::CLIENT_IN_FLIGHT, &[]), 0.0);
    let cancelled = [(names::OUTCOME, "cancelled")];
    assert_eq!(memory.count(names::CLIENT_DURATION, &cancelled), 10_000);
    assert_eq!(memory.count(names::CLIENT_DURATION, &[]), 10_000);
}

#[expect(clippy::ptr_arg, reason = "that is the request")]
fn raw_path(path: &String) -> Option<MethodRef<'_>> {
    MethodRef::from_grpc_path(path)
}

#[tokio::test]
async fn a_million_distinct_paths_make_no_more_series_than_the_cap() {
    let memory = Memory::default();
    let layer = ObserveLayer::server().meter(memory.clone()).name_methods(raw_path);
    let mut service = layer.layer(service_fn(|path: String| async move {
        if path.ends_with('7') { Err(BoxError::from("no")) } else { Ok(()) }
    }));
    for number in 0..1_000_000 {
        let _ = service.ready().await.unwrap().call(format!("/scan/{number}")).await;
    }
    for metric in [names::SERVER_DURATION, names::SERVER_IN_FLIGHT] {
        let series = memory.matching(metric, &[]);
        assert!(series.len() <= 1_000, "{} of {}", series.len(), metric.name);
    }
    assert_eq!(memory.count(names::SERVER_DURATION, &[]), 1_000_000, "none is lost");
    assert_eq!(memory.sum(names::SERVER_IN_FLIGHT, &[]), 0.0);
    let overflow = [(names::OVERFLOW, "true"), (names::METHOD, names::OTHER)];
    assert_eq!(memory.count(names::SERVER_DURATION, &overflow), 1_000_000 - 994);
    let failed = [(names::OVERFLOW, "true"), (names::OUTCOME, "failure")];
    assert!(memory.count(names::SERVER_DURATION, &failed) > 99_000, "errors are still seen");
}

#[tokio::test(start_paused = true)]
async fn one_service_counts_each_call_for_its_own_method_whichever_it_was_called_for_before() {
    let memory = Memory::default();
    let most = NonZeroUsize::new(8).unwrap();
    let layer = ObserveLayer::client().meter(memory.clone()).max_series(most).name_methods(method);
    let mut service = layer.layer(service_fn(answer));
    // The unnamed, and more methods than have series of their own: seven.
    let methods: Vec<&'static str> =
        (0..10).map(|n| &*format!("/a.B/M{n}").leak()).chain(["unnamed"]).collect();
    for method in &methods {
        for _ in 0..3 {
            let mut clone = service.clone();
            service.ready().await.unwrap().call(method).await.unwrap();
            clone.ready().await.unwrap().call("/a.B/M0").await.unwrap();
        }
    }
    for method in methods.iter().cycle().take(2 * methods.len()) {
        service.ready().await.unwrap().call(method).await.unwrap();
    }
    // Each call comes and goes.
    let calls = |name| memory.count(names::CLIENT_IN_FLIGHT, &[(names::METHOD, name)]) / 2;
    assert_eq!(calls("a.B/M0"), 3 + 33 + 2);
    assert_eq!((calls("a.B/M1"), calls("a.B/M6"), calls(names::UNNAMED)), (5, 5, 5));
    assert_eq!(calls(names::OTHER), 3 * 5, "of the last three");
    assert_eq!(memory.sum(names::CLIENT_IN_FLIGHT, &[]), 0.0);
}

#[tokio::test]
async fn the_peers_of_one_layer_share_one_cap() {
    let memory = Memory::default();
    let most = NonZeroUsize::new(20).unwrap();
    let layer = ObserveLayer::attempt().meter(memory.clone()).name_methods(method).max_series(most);
    for peer in 0..100 {
        let layer = layer.for_peer(format!("10.0.0.{peer}:80"));
        layer
            .layer(service_fn(|_| async { Ok::<_, BoxError>(()) }))
            .oneshot("/a.B/Do")
            .await
            .unwrap();
    }
    for metric in [names::ATTEMPT_DURATION, names::ATTEMPTS_IN_FLIGHT, names::ATTEMPT_STARTED] {
        assert!(memory.matching(metric, &[]).len() <= 20, "{}", metric.name);
        let first = [(names::PEER, "10.0.0.1:80"), (names::METHOD, "a.B/Do")];
        assert_eq!(memory.matching(metric, &first).len(), 1, "{}", metric.name);
    }
    assert_eq!(memory.count(names::ATTEMPT_DURATION, &[]), 100);
    assert_eq!(memory.sum(names::ATTEMPT_STARTED, &[]), 100.0);
    assert_eq!(memory.sum(names::ATTEMPTS_IN_FLIGHT, &[]), 0.0);
}

/// Writes down what it is told, or panics.
struct Noting {
    name: i32,
    panics_at_start: bool,
    log: Arc<Mutex<Vec<i32>>>,
}

impl Tracer for Noting {
    type State = ();

    fn start(&self, _call: &CallStart<'_>) {
        assert!(!self.panics_at_start, "as asked");
        self.log.lock().unwrap().push(self.name);
    }

    fn finish(&self, (): (), end: &CallEnd) {
        assert_eq!((end.outcome, end.status), (CallOutcome::Success, Status::None));
        self.log.lock().unwrap().push(-self.name);
    }
}

/// As Kitex's tracers: in order, and back.
#[tokio::test]
async fn tracers_start_in_order_finish_in_reverse_and_a_panic_in_one_is_contained() {
    for (panics_at_start, expected) in [(false, vec![1, 2, -2, -1]), (true, vec![2, -2])] {
        let log = Arc::new(Mutex::new(Vec::new()));
        let noting =
            |name, panics_at_start| Noting { name, panics_at_start, log: Arc::clone(&log) };
        let layer =
            ObserveLayer::client().tracer(noting(1, panics_at_start)).tracer(noting(2, false));
        let service = layer.layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }));
        assert_eq!(service.oneshot(7).await.unwrap(), 7);
        assert_eq!(*log.lock().unwrap(), expected);
    }
}
