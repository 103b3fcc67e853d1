use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use equivalent::Equivalent;
use foldhash::fast::RandomState;

use crate::{
    meter::{Count, Label, Metric, Record, Set, SharedMeter},
    names,
};

/// The series of all metrics of governance, each made once, up to a cap for each metric.
pub(super) struct Families {
    meter: SharedMeter,
    most: usize,
    series: papaya::HashMap<Key, Instrument, RandomState>,
    /// How many series there are of each metric, in the order of [`names::ALL`].
    used: Box<[AtomicUsize]>,
}

enum Instrument {
    Count(Arc<dyn Count>),
    Set(Arc<dyn Set>),
    Record(Arc<dyn Record>),
}

struct Key {
    metric: &'static str,
    labels: Box<[(&'static str, Box<str>)]>,
}

/// The borrowed form. Labels with no value are as if they were not there.
struct KeyRef<'a> {
    metric: &'static str,
    labels: &'a [Label<'a>],
}

/// The labels whose values are not known beforehand.
const OPEN_ENDED: [&str; 2] = [names::KEY, names::PEER];
/// The other labels of a metric have no more combinations than this.
const KEPT_FOR_OVERFLOW: usize = 50;

impl Families {
    pub(super) fn new(meter: SharedMeter, most: usize) -> Self {
        let used = names::ALL.iter().map(|_| AtomicUsize::new(0)).collect();
        let series = papaya::HashMap::with_hasher(RandomState::default());
        Self { meter, most, series, used }
    }

    pub(super) fn count(&self, metric: &'static Metric, labels: &[Label<'_>], more: u64) {
        let make = |labels: &[Label<'_>]| Instrument::Count(self.meter.0.counter(metric, labels));
        self.with(metric, labels, make, |instrument| {
            if let Instrument::Count(counter) = instrument {
                counter.count(more);
            }
        });
    }

    /// The counter itself, for who counts into it with every call; `None` where the series is no
    /// counter.
    #[cfg(feature = "retry")]
    pub(super) fn counter(
        &self,
        metric: &'static Metric,
        labels: &[Label<'_>],
    ) -> Option<Arc<dyn Count>> {
        let make = |labels: &[Label<'_>]| Instrument::Count(self.meter.0.counter(metric, labels));
        self.with(metric, labels, make, |instrument| match instrument {
            Instrument::Count(counter) => Some(Arc::clone(counter)),
            Instrument::Set(_) | Instrument::Record(_) => None,
        })
    }

    pub(super) fn set(&self, metric: &'static Metric, labels: &[Label<'_>], value: f64) {
        let make = |labels: &[Label<'_>]| Instrument::Set(self.meter.0.gauge(metric, labels));
        self.with(metric, labels, make, |instrument| {
            if let Instrument::Set(gauge) = instrument {
                gauge.set(value);
            }
        });
    }

    pub(super) fn record(&self, metric: &'static Metric, labels: &[Label<'_>], value: f64) {
        let make =
            |labels: &[Label<'_>]| Instrument::Record(self.meter.0.histogram(metric, labels));
        self.with(metric, labels, make, |instrument| {
            if let Instrument::Record(histogram) = instrument {
                histogram.record(value);
            }
        });
    }

    fn with<R>(
        &self,
        metric: &'static Metric,
        labels: &[Label<'_>],
        make: impl Fn(&[Label<'_>]) -> Instrument,
        use_it: impl FnOnce(&Instrument) -> R,
    ) -> R {
        let series = self.series.pin();
        let key = KeyRef { metric: metric.name, labels };
        if let Some(instrument) = series.get(&key) {
            return use_it(instrument);
        }
        if self.may_add(metric) {
            return use_it(Self::add(&series, &key, &make));
        }
        let mut beyond: Vec<_> = labels.to_vec();
        for (name, value) in &mut beyond {
            if OPEN_ENDED.contains(name) && !value.is_empty() {
                *value = names::OTHER;
            }
        }
        beyond.push((names::OVERFLOW, "true"));
        let key = KeyRef { metric: metric.name, labels: &beyond };
        match series.get(&key) {
            Some(instrument) => use_it(instrument),
            None => use_it(Self::add(&series, &key, &make)),
        }
    }

    fn may_add(&self, metric: &Metric) -> bool {
        let at = names::ALL.iter().position(|known| known.name == metric.name);
        let Some(used) = at.and_then(|at| self.used.get(at)) else { return false };
        let most = self.most.saturating_sub(KEPT_FOR_OVERFLOW).max(1);
        let more = |used| (used < most).then_some(used + 1);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn add<'a>(
        series: &'a Pinned<'_>,
        key: &KeyRef<'_>,
        make: &impl Fn(&[Label<'_>]) -> Instrument,
    ) -> &'a Instrument {
        let labels: Vec<_> = key.present().collect();
        let instrument = make(&labels);
        let owned = labels.iter().map(|(name, value)| (*name, Box::from(*value))).collect();
        // Two threads that meet here make two instruments of one series.
        series.get_or_insert(Key { metric: key.metric, labels: owned }, instrument)
    }
}

type Pinned<'a> = papaya::HashMapRef<'a, Key, Instrument, RandomState, papaya::LocalGuard<'a>>;

impl<'a> KeyRef<'a> {
    fn present(&self) -> impl Iterator<Item = Label<'a>> {
        self.labels.iter().copied().filter(|(_, value)| !value.is_empty())
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.metric.hash(state);
        self.present().for_each(|label| label.hash(state));
    }
}

/// As [`KeyRef`] hashes, so that one finds the other.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.metric.hash(state);
        self.labels.iter().for_each(|(name, value)| (*name, &**value).hash(state));
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.metric == other.metric && self.labels == other.labels
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        let theirs = key.labels.iter().map(|(name, value)| (*name, &**value));
        self.metric == key.metric && self.present().eq(theirs)
    }
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Families").field("series", &self.series.len()).finish_non_exhaustive()
    }
}
