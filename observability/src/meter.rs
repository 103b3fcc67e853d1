use std::{fmt, sync::Arc};

#[cfg(feature = "metrics")]
mod facade;
#[cfg(feature = "opentelemetry")]
mod otel;

#[cfg(feature = "metrics")]
pub use self::facade::FacadeMeter;
#[cfg(feature = "opentelemetry")]
pub use self::otel::OtelMeter;

/// A metric that this crate exports: see [`names::ALL`](crate::names::ALL).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, with dots: `rpc.client.call.duration`.
    pub name: &'static str,
    /// What can be done with it.
    pub kind: Kind,
    /// The unit, as UCUM and OpenTelemetry write it: `s`, `{call}`.
    pub unit: &'static str,
    /// What it says, as one sentence.
    pub help: &'static str,
    /// The labels that it may carry, beside those that the user adds. An absent one is left out.
    pub labels: &'static [&'static str],
    /// The upper bounds of a histogram's buckets; empty for the other kinds.
    pub buckets: &'static [f64],
}

/// What can be done with a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Grows and shrinks by what is added.
    UpDown,
    /// Is set.
    Gauge,
    /// Counts values by their size.
    Histogram,
}

impl Metric {
    /// The name that a Prometheus server sees, by OpenTelemetry's rules: `_` for what is no letter,
    /// the unit `s` as `_seconds`, `_total` after a counter.
    ///
    /// `metrics-exporter-prometheus` names them alike with `with_recommended_naming(true)`.
    ///
    /// ```
    /// use outrigger_observability::names;
    ///
    /// let name = names::CLIENT_DURATION.prometheus_name();
    /// assert_eq!(name, "rpc_client_call_duration_seconds");
    /// ```
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let mut name = prometheus_label(self.name);
        if self.unit == "s" {
            name.push_str("_seconds");
        }
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }
}

/// The name of a label as a Prometheus server sees it: `_` for what is no letter and no digit.
#[must_use]
pub fn prometheus_label(label: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    label.chars().map(safe).collect()
}

/// A label's name and value.
pub type Label<'a> = (&'static str, &'a str);

/// Makes instruments: the seam between this crate and a system of metrics.
///
/// `FacadeMeter` (feature `metrics`) and `OtelMeter` (feature `opentelemetry`) are ready-made, a
/// tuple of two is both at once. An instrument is made once for each series and then kept, so
/// making one may be slow; using one must not be.
pub trait Meter: Send + Sync {
    /// The series of a [`Kind::Counter`] with these labels.
    fn counter(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Count>;
    /// The series of a [`Kind::UpDown`] with these labels.
    fn up_down(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn CountUpDown>;
    /// The series of a [`Kind::Gauge`] with these labels.
    fn gauge(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Set>;
    /// The series of a [`Kind::Histogram`] with these labels.
    fn histogram(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Record>;
}

/// A counter's series.
pub trait Count: Send + Sync {
    /// Adds to it.
    fn count(&self, more: u64);
}

/// The series of a count that also shrinks.
pub trait CountUpDown: Send + Sync {
    /// Adds to it, or takes from it.
    fn add(&self, change: i32);
}

/// A gauge's series.
pub trait Set: Send + Sync {
    /// Puts a value in the place of the last.
    fn set(&self, value: f64);
}

/// A histogram's series.
pub trait Record: Send + Sync {
    /// Takes a value in.
    fn record(&self, value: f64);
}

/// Where instruments come from, shared by all that use it.
#[derive(Clone)]
pub(crate) struct SharedMeter(pub(crate) Arc<dyn Meter>);

impl fmt::Debug for SharedMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedMeter")
    }
}

impl<M: Meter + ?Sized> Meter for Arc<M> {
    fn counter(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Count> {
        (**self).counter(metric, labels)
    }

    fn up_down(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn CountUpDown> {
        (**self).up_down(metric, labels)
    }

    fn gauge(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Set> {
        (**self).gauge(metric, labels)
    }

    fn histogram(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Record> {
        (**self).histogram(metric, labels)
    }
}

/// Both at once.
impl<A: Meter, B: Meter> Meter for (A, B) {
    fn counter(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Count> {
        Arc::new(Both(self.0.counter(metric, labels), self.1.counter(metric, labels)))
    }

    fn up_down(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn CountUpDown> {
        Arc::new(Both(self.0.up_down(metric, labels), self.1.up_down(metric, labels)))
    }

    fn gauge(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Set> {
        Arc::new(Both(self.0.gauge(metric, labels), self.1.gauge(metric, labels)))
    }

    fn histogram(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Record> {
        Arc::new(Both(self.0.histogram(metric, labels), self.1.histogram(metric, labels)))
    }
}

struct Both<I: ?Sized>(Arc<I>, Arc<I>);

impl Count for Both<dyn Count> {
    fn count(&self, more: u64) {
        self.0.count(more);
        self.1.count(more);
    }
}

impl CountUpDown for Both<dyn CountUpDown> {
    fn add(&self, change: i32) {
        self.0.add(change);
        self.1.add(change);
    }
}

impl Set for Both<dyn Set> {
    fn set(&self, value: f64) {
        self.0.set(value);
        self.1.set(value);
    }
}

impl Record for Both<dyn Record> {
    fn record(&self, value: f64) {
        self.0.record(value);
        self.1.record(value);
    }
}
