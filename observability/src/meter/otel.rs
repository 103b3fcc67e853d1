use std::sync::Arc;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, UpDownCounter},
};

use super::{Count, CountUpDown, Label, Meter, Metric, Record, Set};

/// Instruments of OpenTelemetry, made by the meter of the user's own SDK.
///
/// Only OpenTelemetry's API is used. Values are recorded whether or not a trace is sampled.
#[derive(Clone, Debug)]
pub struct OtelMeter {
    meter: opentelemetry::metrics::Meter,
}

impl OtelMeter {
    /// Takes the instruments of `meter`.
    ///
    /// ```
    /// use outrigger_observability::OtelMeter;
    ///
    /// let meter = OtelMeter::new(opentelemetry::global::meter("shop"));
    /// # drop(meter);
    /// ```
    #[must_use]
    pub const fn new(meter: opentelemetry::metrics::Meter) -> Self {
        Self { meter }
    }
}

/// An instrument with the labels of one series.
struct Series<I> {
    instrument: I,
    labels: Box<[KeyValue]>,
}

fn series<I>(instrument: I, labels: &[Label<'_>]) -> Arc<Series<I>> {
    let labels = labels.iter().map(|(name, value)| KeyValue::new(*name, (*value).to_owned()));
    Arc::new(Series { instrument, labels: labels.collect() })
}

impl Meter for OtelMeter {
    fn counter(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Count> {
        let builder = self.meter.u64_counter(metric.name);
        series(builder.with_unit(metric.unit).with_description(metric.help).build(), labels)
    }

    fn up_down(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn CountUpDown> {
        let builder = self.meter.i64_up_down_counter(metric.name);
        series(builder.with_unit(metric.unit).with_description(metric.help).build(), labels)
    }

    fn gauge(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Set> {
        let builder = self.meter.f64_gauge(metric.name);
        series(builder.with_unit(metric.unit).with_description(metric.help).build(), labels)
    }

    fn histogram(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Record> {
        let builder = self.meter.f64_histogram(metric.name).with_unit(metric.unit);
        let builder = builder.with_description(metric.help);
        series(builder.with_boundaries(metric.buckets.to_vec()).build(), labels)
    }
}

impl Count for Series<Counter<u64>> {
    fn count(&self, more: u64) {
        self.instrument.add(more, &self.labels);
    }
}

impl CountUpDown for Series<UpDownCounter<i64>> {
    fn add(&self, change: i32) {
        self.instrument.add(change.into(), &self.labels);
    }
}

impl Set for Series<Gauge<f64>> {
    fn set(&self, value: f64) {
        self.instrument.record(value, &self.labels);
    }
}

impl Record for Series<Histogram<f64>> {
    fn record(&self, value: f64) {
        self.instrument.record(value, &self.labels);
    }
}
