//! A meter that remembers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use outrigger::observability::{Count, CountUpDown, Label, Meter, Metric, Record, Set};

type Labels = BTreeMap<&'static str, String>;
type AllSeries = BTreeMap<(&'static str, Labels), Arc<Series>>;

/// Remembers of every series the sum of whole numbers, and how often it was told something.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<AllSeries>>);

#[derive(Default)]
struct Series {
    sum: AtomicI64,
    told: AtomicU64,
}

impl Series {
    fn add(&self, more: i64) {
        self.sum.fetch_add(more, Ordering::Relaxed);
        self.told.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count for Series {
    fn count(&self, more: u64) {
        self.add(more.try_into().expect("small"));
    }
}

impl CountUpDown for Series {
    fn add(&self, change: i32) {
        self.add(change.into());
    }
}

impl Set for Series {
    fn set(&self, _value: f64) {
        self.add(0);
    }
}

impl Record for Series {
    fn record(&self, _value: f64) {
        self.add(0);
    }
}

impl Memory {
    fn series(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<Series> {
        let labels: Labels = labels.iter().map(|(name, value)| (*name, (*value).into())).collect();
        let mut series = self.0.lock().expect("not poisoned");
        Arc::clone(series.entry((metric.name, labels)).or_default())
    }

    fn total(&self, metric: &Metric, labels: &[Label<'_>], of: impl Fn(&Series) -> i64) -> i64 {
        let series = self.0.lock().expect("not poisoned");
        let has = |of: &Labels| {
            labels.iter().all(|(name, value)| of.get(name).map(String::as_str) == Some(*value))
        };
        let found = series.iter().filter(|((name, of), _)| *name == metric.name && has(of));
        found.map(|(_, series)| of(series)).sum()
    }

    /// The sum of all series of a metric that have these labels.
    pub(crate) fn sum(&self, metric: &Metric, labels: &[Label<'_>]) -> i64 {
        self.total(metric, labels, |series| series.sum.load(Ordering::Relaxed))
    }

    /// How often all series of a metric that have these labels were told something.
    pub(crate) fn told(&self, metric: &Metric, labels: &[Label<'_>]) -> i64 {
        let told = |series: &Series| series.told.load(Ordering::Relaxed);
        self.total(metric, labels, |series| told(series).try_into().expect("small"))
    }
}

impl Meter for Memory {
    fn counter(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Count> {
        self.series(metric, labels)
    }

    fn up_down(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn CountUpDown> {
        self.series(metric, labels)
    }

    fn gauge(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Set> {
        self.series(metric, labels)
    }

    fn histogram(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Record> {
        self.series(metric, labels)
    }
}
