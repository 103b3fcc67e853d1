//! A meter that remembers, for tests.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use outrigger_observability::{Count, CountUpDown, Label, Meter, Metric, Record, Set};

/// The labels of a series, sorted by name.
pub(crate) type Labels = BTreeMap<&'static str, String>;

type AllSeries = BTreeMap<(&'static str, Labels), Arc<Series>>;

/// Remembers every series with its sum and how often it was told something.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    series: Arc<Mutex<AllSeries>>,
}

#[derive(Default)]
pub(crate) struct Series(Mutex<(f64, u64)>);

impl Series {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut now = self.0.lock().unwrap();
        *now = (change(now.0), now.1 + 1);
    }
}

impl Count for Series {
    fn count(&self, more: u64) {
        self.change(|sum| sum + f64::from(u32::try_from(more).unwrap()));
    }
}

impl CountUpDown for Series {
    fn add(&self, change: i32) {
        self.change(|sum| sum + f64::from(change));
    }
}

impl Set for Series {
    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl Record for Series {
    fn record(&self, value: f64) {
        self.change(|sum| sum + value);
    }
}

impl Memory {
    fn series(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<Series> {
        for (name, _) in labels {
            assert!(metric.labels.contains(name), "{} does not know {name}", metric.name);
        }
        let labels: Labels = labels.iter().map(|(name, value)| (*name, (*value).into())).collect();
        let mut series = self.series.lock().unwrap();
        Arc::clone(series.entry((metric.name, labels)).or_default())
    }

    /// The sum of all series of a metric that have these labels.
    pub(crate) fn sum(&self, metric: &Metric, labels: &[Label<'_>]) -> f64 {
        self.matching(metric, labels).iter().map(|(_, sum, _)| sum).sum()
    }

    /// How many values all series of a metric with these labels were told.
    pub(crate) fn count(&self, metric: &Metric, labels: &[Label<'_>]) -> u64 {
        self.matching(metric, labels).iter().map(|(_, _, told)| told).sum()
    }

    /// The series of a metric that have these labels, with their sums and counts.
    pub(crate) fn matching(
        &self,
        metric: &Metric,
        labels: &[Label<'_>],
    ) -> Vec<(Labels, f64, u64)> {
        let series = self.series.lock().unwrap();
        let has = |of: &Labels| {
            labels.iter().all(|(name, value)| of.get(name).map(String::as_str) == Some(*value))
        };
        let found = series.iter().filter(|((name, of), _)| *name == metric.name && has(of));
        found
            .map(|((_, labels), series)| {
                let (sum, told) = *series.0.lock().unwrap();
                (labels.clone(), sum, told)
            })
            .collect()
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
