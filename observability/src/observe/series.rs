use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;
use outrigger_core::{Method, MethodRef};

use super::{
    CallEnd, CallOutcome, Status,
    layer::{About, Side},
    resent::Resent,
};
use crate::{
    meter::{Count, CountUpDown, Label, Metric, Record, SharedMeter},
    names,
};

/// The instruments of every method that a layer has seen, up to a cap.
pub(super) struct Instruments {
    home: Arc<Home>,
    methods: papaya::HashMap<Method, Arc<MethodSeries>, RandomState>,
    /// Held while a method is added; looking one up never takes it.
    adding: Mutex<()>,
    unnamed: Arc<MethodSeries>,
}

/// What all methods of a layer have in common.
struct Home {
    meter: SharedMeter,
    about: About,
    caps: Arc<Caps>,
    /// Stands for all beyond the cap. `None` in the home of that series itself.
    overflow: Option<Arc<MethodSeries>>,
    /// What counts calls as they begin, if anything does.
    started: Option<&'static Metric>,
    /// Whether a metric tells how often a call was sent again.
    counts_resent: bool,
}

impl Home {
    fn new(
        meter: SharedMeter,
        about: About,
        caps: Arc<Caps>,
        overflow: Option<Arc<MethodSeries>>,
    ) -> Arc<Self> {
        let started = started_metric(&about);
        let counts_resent = about.side == Side::Client && is_grpc(&about);
        Arc::new(Self { meter, about, caps, overflow, started, counts_resent })
    }
}

/// How many series there are of each metric; shared by the layers of all peers.
#[derive(Debug)]
struct Caps {
    most: usize,
    methods: AtomicUsize,
    ends: AtomicUsize,
}

/// The series that stand for all beyond the cap: one for each outcome.
const KEPT_FOR_OVERFLOW: usize = 6;

impl Caps {
    fn take(used: &AtomicUsize, most: usize) -> bool {
        let more = |used| (used < most).then_some(used + 1);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn take_method(&self) -> bool {
        Self::take(&self.methods, self.most.saturating_sub(1))
    }

    fn take_end(&self) -> bool {
        Self::take(&self.ends, self.most.saturating_sub(KEPT_FOR_OVERFLOW))
    }

    fn give_back_end(&self) {
        self.ends.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Instruments {
    pub(super) fn new(meter: SharedMeter, about: About, most: usize) -> Self {
        let [methods, ends] = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let caps = Arc::new(Caps { most, methods, ends });
        // The overflow belongs to no peer.
        let of_overflow = About { peer: None, ..about.clone() };
        let home = Home::new(meter, of_overflow, caps, None);
        let overflow = Arc::new(MethodSeries::new(home, Name::Overflow));
        Self::beside(&overflow, about)
    }

    /// The instruments for another peer, under the same cap.
    pub(super) fn for_peer(&self, about: About) -> Option<Self> {
        self.home.overflow.as_ref().map(|overflow| Self::beside(overflow, about))
    }

    fn beside(overflow: &Arc<MethodSeries>, about: About) -> Self {
        let meter = overflow.home.meter.clone();
        let caps = Arc::clone(&overflow.home.caps);
        let home = Home::new(meter, about, caps, Some(Arc::clone(overflow)));
        let unnamed = Arc::new(MethodSeries::new(Arc::clone(&home), Name::Unnamed));
        let methods = papaya::HashMap::with_hasher(RandomState::default());
        Self { home, methods, adding: Mutex::new(()), unnamed }
    }

    /// The instruments of a method. They stay the method's for as long as there are any.
    pub(super) fn find(&self, method: Option<MethodRef<'_>>) -> Arc<MethodSeries> {
        let Some(method) = method else { return Arc::clone(&self.unnamed) };
        let known = self.methods.pin().get(&method).map(Arc::clone);
        known.unwrap_or_else(|| self.add(method))
    }

    #[cold]
    fn add(&self, method: MethodRef<'_>) -> Arc<MethodSeries> {
        let overflow = || self.home.overflow.clone().unwrap_or_else(|| Arc::clone(&self.unnamed));
        if self.home.caps.methods.load(Ordering::Relaxed) >= self.home.caps.most.saturating_sub(1) {
            return overflow();
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let methods = self.methods.pin();
        if let Some(series) = methods.get(&method) {
            return Arc::clone(series);
        }
        if !self.home.caps.take_method() {
            return overflow();
        }
        let name = Name::Method(method.to_owned());
        let series = Arc::new(MethodSeries::new(Arc::clone(&self.home), name));
        methods.insert(method.to_owned(), Arc::clone(&series));
        series
    }
}

impl fmt::Debug for Instruments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instruments")
            .field("about", &self.home.about)
            .field("methods", &self.methods.len())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Name {
    Method(Method),
    Unnamed,
    Overflow,
}

impl Name {
    fn as_str(&self) -> &str {
        match self {
            Self::Method(method) => method.as_str(),
            Self::Unnamed => names::UNNAMED,
            Self::Overflow => names::OTHER,
        }
    }
}

/// How many ends of one method have a series of their own: six outcomes, and a status with most.
const ENDS: usize = 16;

/// The instruments of one method, each made at its first use.
pub(super) struct MethodSeries {
    home: Arc<Home>,
    name: Name,
    in_flight: OnceLock<Arc<dyn CountUpDown>>,
    started: OnceLock<Arc<dyn Count>>,
    /// Filled from the front, and never emptied: the usual end is found at once.
    ends: [OnceLock<End>; ENDS],
    resent: [OnceLock<Arc<dyn Record>>; 3],
}

const RESENT: [&Metric; 3] =
    [names::GRPC_CALL_RETRIES, names::GRPC_CALL_TRANSPARENT_RETRIES, names::GRPC_CALL_HEDGES];

struct End {
    outcome: CallOutcome,
    status: Status,
    duration: Arc<dyn Record>,
}

impl MethodSeries {
    fn new(home: Arc<Home>, name: Name) -> Self {
        let ends = [const { OnceLock::new() }; ENDS];
        let resent = [const { OnceLock::new() }; 3];
        Self { home, name, in_flight: OnceLock::new(), started: OnceLock::new(), ends, resent }
    }

    /// Whether it is this method's alone: what is beyond the cap is looked up each time.
    pub(super) fn is_of(&self, method: Option<MethodRef<'_>>) -> bool {
        match (&self.name, method) {
            (Name::Method(own), Some(method)) => *own == method,
            (Name::Unnamed, None) => true,
            _ => false,
        }
    }

    /// Counts a call as under way.
    pub(super) fn begin(&self) {
        self.in_flight().add(1);
        if let Some(metric) = self.home.started {
            let make = || self.home.meter.0.counter(metric, &self.labels(metric));
            self.started.get_or_init(make).count(1);
        }
    }

    /// Counts the call as over. Called once for each [`begin`](Self::begin).
    #[inline]
    pub(super) fn end(&self, end: &CallEnd, resent: Option<Resent>) {
        self.in_flight().add(-1);
        self.record(end.outcome, end.status, end.duration.as_secs_f64());
        // gRFC A96: what is zero is not told.
        if let Some(resent) = resent.filter(|resent| *resent != Resent::default()) {
            self.record_resent(resent);
        }
    }

    /// Whether a metric tells how often a call was sent again.
    pub(super) fn counts_resent(&self) -> bool {
        self.home.counts_resent
    }

    #[cold]
    fn record_resent(&self, resent: Resent) {
        let counts = [resent.retries, resent.transparent, resent.hedges];
        for ((metric, place), count) in RESENT.iter().zip(&self.resent).zip(counts) {
            if count > 0 {
                let make = || self.home.meter.0.histogram(metric, &self.labels(metric));
                place.get_or_init(make).record(count.into());
            }
        }
    }

    fn in_flight(&self) -> &Arc<dyn CountUpDown> {
        self.in_flight.get_or_init(|| {
            let metric = in_flight_metric(self.home.about.side);
            self.home.meter.0.up_down(metric, &self.labels(metric))
        })
    }

    fn record(&self, outcome: CallOutcome, status: Status, seconds: f64) {
        for place in &self.ends {
            let end = match place.get() {
                Some(end) => end,
                None => match self.make_end(place, outcome, status) {
                    Some(end) => end,
                    None => break,
                },
            };
            if end.outcome == outcome && end.status == status {
                return end.duration.record(seconds);
            }
        }
        if let Some(overflow) = &self.home.overflow {
            overflow.record(outcome, Status::None, seconds);
        }
    }

    /// Fills a place, if the cap allows it. Another thread may have filled it with another end.
    #[cold]
    fn make_end<'a>(
        &self,
        place: &'a OnceLock<End>,
        outcome: CallOutcome,
        status: Status,
    ) -> Option<&'a End> {
        let is_overflow = self.home.overflow.is_none();
        if !is_overflow && !self.home.caps.take_end() {
            return None;
        }
        let mut is_made = false;
        let end = place.get_or_init(|| {
            is_made = true;
            let duration = self.duration_of(outcome, status);
            End { outcome, status, duration }
        });
        if !is_made && !is_overflow {
            self.home.caps.give_back_end();
        }
        Some(end)
    }

    fn duration_of(&self, outcome: CallOutcome, status: Status) -> Arc<dyn Record> {
        let metric = duration_metric(&self.home.about);
        let (code, error) = (status.code(), status.error_type(outcome));
        let mut labels = self.labels(metric);
        labels.push((names::OUTCOME, outcome.as_str()));
        if metric.labels.contains(&names::GRPC_STATUS) {
            labels.push((names::GRPC_STATUS, status.grpc_name(outcome)));
        } else {
            labels.extend(code.as_deref().map(|code| (names::STATUS_CODE, code)));
        }
        labels.extend(error.as_deref().map(|error| (names::ERROR_TYPE, error)));
        self.home.meter.0.histogram(metric, &labels)
    }

    /// The labels that do not depend on how a call ends.
    fn labels(&self, metric: &Metric) -> Vec<Label<'_>> {
        let about = &self.home.about;
        let is_grpcs_own = metric.labels.contains(&names::GRPC_METHOD);
        let [method, target] = if is_grpcs_own {
            [names::GRPC_METHOD, names::GRPC_TARGET]
        } else {
            [names::METHOD, names::SERVER_ADDRESS]
        };
        let is_overflow = matches!(self.name, Name::Overflow);
        let labels = [
            (method, Some(self.name.as_str())),
            (names::SYSTEM, about.system.as_deref()),
            (target, about.target.as_deref()),
            (names::PEER, about.peer.as_deref()),
            (names::OVERFLOW, is_overflow.then_some("true")),
        ];
        let has = |(name, value): (&'static str, Option<_>)| {
            value.filter(|_| metric.labels.contains(&name)).map(|value| (name, value))
        };
        labels.into_iter().filter_map(has).collect()
    }
}

impl fmt::Debug for MethodSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MethodSeries").field("name", &self.name).finish_non_exhaustive()
    }
}

fn is_grpc(about: &About) -> bool {
    about.system.as_deref() == Some("grpc")
}

fn in_flight_metric(side: Side) -> &'static Metric {
    match side {
        Side::Client => names::CLIENT_IN_FLIGHT,
        Side::Server => names::SERVER_IN_FLIGHT,
        Side::Attempt => names::ATTEMPTS_IN_FLIGHT,
    }
}

fn started_metric(about: &About) -> Option<&'static Metric> {
    match about.side {
        Side::Client | Side::Server => None,
        Side::Attempt if is_grpc(about) => Some(names::GRPC_ATTEMPT_STARTED),
        Side::Attempt => Some(names::ATTEMPT_STARTED),
    }
}

fn duration_metric(about: &About) -> &'static Metric {
    match about.side {
        Side::Client => names::CLIENT_DURATION,
        Side::Server => names::SERVER_DURATION,
        Side::Attempt if is_grpc(about) => names::GRPC_ATTEMPT_DURATION,
        Side::Attempt => names::ATTEMPT_DURATION,
    }
}
