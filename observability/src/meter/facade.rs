use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use metrics::{Key, Level, Metadata, Recorder, Unit};

use super::{Count, CountUpDown, Kind, Label, Meter, Metric, Record, Set};
use crate::names;

/// Instruments of the `metrics` facade: whichever recorder is installed takes the values.
///
/// Install the recorder before the first call: an instrument belongs to the recorder that was
/// there when its series was first seen.
///
/// Over `metrics-exporter-prometheus`, give the exporter the buckets, so that histograms are
/// histograms and no summaries, and its recommended names:
///
/// ```
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
/// use outrigger_observability::{Kind, names};
///
/// let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
/// for metric in names::of_kind(Kind::Histogram) {
///     let name = Matcher::Full(metric.name.to_owned());
///     builder = builder.set_buckets_for_metric(name, metric.buckets)?;
/// }
/// let recorder = builder.build_recorder();
/// # drop(recorder);
/// # Ok::<(), metrics_exporter_prometheus::BuildError>(())
/// ```
#[derive(Default)]
pub struct FacadeMeter {
    /// Otherwise the global one, or the thread's own.
    recorder: Option<Box<dyn Recorder + Send + Sync>>,
    described: AtomicBool,
}

impl FacadeMeter {
    /// Takes whichever recorder is installed when a series is first seen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `recorder`, which need not be installed.
    #[must_use]
    pub fn with_recorder(recorder: impl Recorder + Send + Sync + 'static) -> Self {
        Self { recorder: Some(Box::new(recorder)), described: AtomicBool::new(false) }
    }

    fn register<R>(&self, register: impl Fn(&dyn Recorder) -> R) -> R {
        let register = |recorder: &dyn Recorder| {
            // Once, at the first use, when the recorder is there.
            if !self.described.swap(true, Ordering::Relaxed) {
                describe_all(recorder);
            }
            register(recorder)
        };
        match &self.recorder {
            Some(recorder) => register(&**recorder),
            None => metrics::with_recorder(register),
        }
    }
}

impl fmt::Debug for FacadeMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FacadeMeter").finish_non_exhaustive()
    }
}

fn describe_all(recorder: &dyn Recorder) {
    for metric in names::ALL {
        let (name, unit) = (metric.name.into(), unit_of(metric));
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, unit, metric.help.into()),
            Kind::UpDown | Kind::Gauge => recorder.describe_gauge(name, unit, metric.help.into()),
            Kind::Histogram => recorder.describe_histogram(name, unit, metric.help.into()),
        }
    }
}

fn unit_of(metric: &Metric) -> Option<Unit> {
    (metric.unit == "s").then_some(Unit::Seconds)
}

fn key(metric: &'static Metric, labels: &[Label<'_>]) -> Key {
    let labels = labels.iter().map(|(name, value)| metrics::Label::new(*name, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

const METADATA: Metadata<'static> = Metadata::new("outrigger", Level::INFO, Some(module_path!()));

impl Meter for FacadeMeter {
    fn counter(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Count> {
        let key = key(metric, labels);
        Arc::new(self.register(|recorder| recorder.register_counter(&key, &METADATA)))
    }

    fn up_down(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn CountUpDown> {
        let key = key(metric, labels);
        Arc::new(self.register(|recorder| recorder.register_gauge(&key, &METADATA)))
    }

    fn gauge(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Set> {
        let key = key(metric, labels);
        Arc::new(self.register(|recorder| recorder.register_gauge(&key, &METADATA)))
    }

    fn histogram(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Record> {
        let key = key(metric, labels);
        Arc::new(self.register(|recorder| recorder.register_histogram(&key, &METADATA)))
    }
}

impl Count for metrics::Counter {
    fn count(&self, more: u64) {
        self.increment(more);
    }
}

impl CountUpDown for metrics::Gauge {
    fn add(&self, change: i32) {
        self.increment(f64::from(change));
    }
}

impl Set for metrics::Gauge {
    fn set(&self, value: f64) {
        Self::set(self, value);
    }
}

impl Record for metrics::Histogram {
    fn record(&self, value: f64) {
        Self::record(self, value);
    }
}
