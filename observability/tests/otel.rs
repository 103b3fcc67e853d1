//! What OpenTelemetry's SDK gets from the instruments: names, units, attributes, values, buckets.

use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, SdkMeterProvider,
    data::{AggregatedMetrics, HistogramDataPoint, Metric, MetricData, ResourceMetrics},
};
use outrigger_core::{MethodRef, Outcome};
use outrigger_observability::{ObserveLayer, OtelMeter, names};
use tokio::time::{Duration, sleep};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

fn find<'a>(all: &'a [ResourceMetrics], name: &str) -> &'a Metric {
    let scopes = all.iter().flat_map(ResourceMetrics::scope_metrics);
    let mut metrics = scopes.flat_map(opentelemetry_sdk::metrics::data::ScopeMetrics::metrics);
    metrics.find(|metric| metric.name() == name).expect("it is exported")
}

fn histogram(metric: &Metric) -> Vec<&HistogramDataPoint<f64>> {
    match metric.data() {
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            histogram.data_points().collect()
        }
        other => unreachable!("{other:?} is no histogram"),
    }
}

fn in_flight(metric: &Metric) -> Vec<i64> {
    match metric.data() {
        AggregatedMetrics::I64(MetricData::Sum(sum)) => {
            sum.data_points().map(opentelemetry_sdk::metrics::data::SumDataPoint::value).collect()
        }
        other => unreachable!("{other:?} is no sum"),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a request may name no method")]
fn method(_: &u64) -> Option<MethodRef<'_>> {
    Some(MethodRef { service: "shop.Cart", method: "Get" })
}

fn outcome(result: Result<&u64, &BoxError>) -> Outcome {
    match result {
        Ok(0) => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Timeout,
    }
}

#[tokio::test(start_paused = true)]
async fn calls_become_a_histogram_and_calls_in_flight_a_sum_with_the_conventions_attributes() {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    let meter = OtelMeter::new(provider.meter("test"));
    let mut service = ServiceBuilder::new()
        .layer(ObserveLayer::client().meter(meter).name_methods(method).classify(outcome))
        .service_fn(|request: u64| async move {
            sleep(Duration::from_millis(30)).await;
            Ok::<_, BoxError>(request)
        });
    for request in [1, 1, 1, 0] {
        service.ready().await.expect("ready").call(request).await.expect("it answers");
    }
    let running = service.ready().await.expect("ready").call(1);
    provider.force_flush().expect("it is kept in memory");
    drop(running);

    let all = exporter.get_finished_metrics().expect("it was exported");
    let duration = find(&all, names::CLIENT_DURATION.name);
    assert_eq!((duration.name(), duration.unit()), ("rpc.client.call.duration", "s"));
    let points = histogram(duration);
    let mut counts: Vec<_> = points.iter().map(|point| point.count()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 3]);
    for point in points {
        let bounds: Vec<_> = point.bounds().collect();
        assert_eq!(bounds, names::CLIENT_DURATION.buckets);
        let mean = point.sum() / f64::from(u32::try_from(point.count()).expect("few"));
        assert!((mean - 0.03).abs() < 0.002, "{mean}");
        let attributes: Vec<_> = point.attributes().cloned().collect();
        assert!(
            attributes.contains(&KeyValue::new("rpc.method", "shop.Cart/Get")),
            "{attributes:?}"
        );
    }
    assert_eq!(in_flight(find(&all, names::CLIENT_IN_FLIGHT.name)), [1]);
}
