//! What observed calls allocate: nothing, with the Prometheus recorder behind the facade.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use outrigger_core::{MethodRef, Rejection};
use outrigger_observability::{FacadeMeter, Kind, ObserveLayer, names};
use tower::{BoxError, Layer, Service, service_fn};

/// The recorder puts the values of a histogram into blocks of so many, until they are scraped.
const BLOCK: u64 = 64;

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
    for metric in names::of_kind(Kind::Histogram) {
        let name = Matcher::Full(metric.name.to_owned());
        builder = builder.set_buckets_for_metric(name, metric.buckets).unwrap();
    }
    builder.build_recorder()
}

fn name(path: &u64) -> Option<MethodRef<'_>> {
    const PATHS: [&str; 2] = ["/shop.Orders/Place", "/shop.Orders/List"];
    MethodRef::from_grpc_path(PATHS[usize::from(path.is_multiple_of(2))])
}

fn answer(number: u64) -> Ready<Result<u64, Rejection>> {
    ready(match number {
        99 => Err(Rejection::unavailable("circuitbreak", "circuit_open")),
        number => Ok(number),
    })
}

fn call<S: Service<u64>>(service: &mut S, number: u64) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let call = pin!(service.call(number));
    assert!(matches!(call.poll(&mut cx), Poll::Ready(_)));
}

/// Allocations of 6400 calls, after a few.
fn allocations(mut work: impl FnMut(u64)) -> u64 {
    (0..100).for_each(&mut work);
    allocation_counter::measure(|| (0..100 * BLOCK).for_each(|number| work(number % 100)))
        .count_total
}

#[test]
fn a_call_of_a_known_method_allocates_nothing_but_the_recorders_own_blocks() {
    for layer in [ObserveLayer::client(), ObserveLayer::attempt(), ObserveLayer::server()] {
        let layer = layer.meter(FacadeMeter::with_recorder(recorder())).name_methods(name);
        let mut service = layer.layer(service_fn(answer));
        let allocations = allocations(|number| call(&mut service, number));
        // Three series of a histogram: two methods that answer, one that is refused as well.
        assert!(allocations <= 100 + 3, "{allocations} allocations in {} calls", 100 * BLOCK);
    }
}

#[test]
fn without_the_recorders_blocks_there_is_no_allocation_at_all() {
    use metrics::NoopRecorder;

    let layer = ObserveLayer::client().meter(FacadeMeter::with_recorder(NoopRecorder));
    let mut service = layer.name_methods(name).layer(service_fn(answer));
    assert_eq!(allocations(|number| call(&mut service, number)), 0);
}

#[test]
fn a_cancelled_call_allocates_nothing_either() {
    let meter = FacadeMeter::with_recorder(metrics::NoopRecorder);
    let layer = ObserveLayer::client().meter(meter);
    let never = service_fn(|_: u64| std::future::pending::<Result<u64, BoxError>>());
    let mut service = layer.layer(never);
    let allocations = allocations(|number| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        assert!(pin!(service.call(number)).poll(&mut cx).is_pending());
    });
    assert_eq!(allocations, 0);
}

#[cfg(feature = "tracing")]
#[test]
fn spans_allocate_nothing_while_nobody_listens() {
    let mut service = ObserveLayer::client().spans().layer(service_fn(answer));
    assert_eq!(allocations(|number| call(&mut service, number)), 0);
}

#[expect(clippy::ptr_arg, reason = "that is the request")]
fn path(path: &String) -> Option<MethodRef<'_>> {
    MethodRef::from_grpc_path(path)
}

#[test]
fn calls_beyond_the_cap_allocate_nothing() {
    let layer = ObserveLayer::server().meter(FacadeMeter::with_recorder(metrics::NoopRecorder));
    let layer = layer.max_series(std::num::NonZeroUsize::MIN).name_methods(path);
    let mut service = layer.layer(service_fn(|_: String| ready(Ok::<_, BoxError>(()))));
    let mut call = |path: String| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        assert!(matches!(pin!(service.call(path)).poll(&mut cx), Poll::Ready(Ok(()))));
    };
    (0..100).for_each(|number| call(format!("/scan/{number}")));
    let paths: Vec<_> = (100..1_000).map(|number| format!("/scan/{number}")).collect();
    let allocations = allocation_counter::measure(|| paths.into_iter().for_each(call)).count_total;
    assert_eq!(allocations, 0);
}
