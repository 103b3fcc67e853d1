use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use outrigger_core::Outcome;

use super::{Fleet, Moment, Seat, Tally, clock::saturating_nanos, latency::PeakEwma};
use crate::{BalanceEvent, EndpointInfo, LoadReport, hash, sync};

/// One endpoint without its service: who it is, and how it does.
#[derive(Debug)]
pub(crate) struct Node {
    key: Arc<str>,
    id: u64,
    fleet: Arc<Fleet>,
    /// Set once, right after the node is made.
    seats: OnceLock<Box<[Weak<Seat>]>>,
    weight: AtomicU32,
    zone: Option<Arc<str>>,
    /// When it began to ramp up; 0: it does not.
    ramp_from: AtomicU64,
    /// Until when it is ejected; 0: it is not. Changed under the fleet's lock.
    ejected_until: AtomicU64,
    /// Until when it counts as busy after a failure; 0: it does not.
    penalty_until: AtomicU64,
    streak: AtomicU32,
    /// How many successes are missing until it is trusted again.
    probation: AtomicU32,
    /// Set when every seat was told that the endpoint is gone: only then can it be drained.
    removed: sync::AtomicBool,
    /// Set once the last call on a removed endpoint is over.
    drained: AtomicBool,
    peak: PeakEwma,
    /// A moving mean of the latency in nanoseconds, for reports; 0 before the first.
    mean: AtomicU64,
    reported: Reported,
    record: Mutex<Record>,
}

/// What the ejection rules remember of an endpoint; touched by sweeps and ejections only.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// How often in a row it was ejected.
    pub(super) times: u32,
    /// When it last returned.
    pub(super) returned: Option<Moment>,
    /// What the seats had counted at the last sweep.
    pub(super) swept: Tally,
}

#[derive(Debug, Default)]
struct Reported {
    /// The bits of an `f64`; 0: none.
    weight: AtomicU64,
    since: AtomicU64,
    last: AtomicU64,
}

impl Node {
    pub(crate) fn new(
        info: &EndpointInfo,
        fleet: &Arc<Fleet>,
        lanes: usize,
    ) -> (Arc<Self>, Vec<Arc<Seat>>) {
        let node = Arc::new(Self {
            key: Arc::clone(info.shared_key()),
            id: hash::endpoint_id(info.key()),
            fleet: Arc::clone(fleet),
            seats: OnceLock::new(),
            weight: AtomicU32::new(info.weight_value()),
            zone: info.shared_zone().cloned(),
            ramp_from: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
            penalty_until: AtomicU64::new(0),
            streak: AtomicU32::new(0),
            probation: AtomicU32::new(0),
            removed: sync::AtomicBool::new(false),
            drained: AtomicBool::new(false),
            peak: PeakEwma::default(),
            mean: AtomicU64::new(0),
            reported: Reported::default(),
            record: Mutex::default(),
        });
        let seats: Vec<_> = (0..lanes).map(|_| Arc::new(Seat::new(Arc::clone(&node)))).collect();
        let weak = seats.iter().map(Arc::downgrade).collect();
        let _first = node.seats.set(weak);
        (node, seats)
    }

    pub(crate) const fn key(&self) -> &Arc<str> {
        &self.key
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    pub(crate) const fn zone(&self) -> Option<&Arc<str>> {
        self.zone.as_ref()
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    fn seats(&self) -> impl Iterator<Item = Arc<Seat>> + '_ {
        self.seats.get().into_iter().flatten().filter_map(Weak::upgrade)
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.seats().map(|seat| seat.in_flight()).sum()
    }

    fn in_flight_now(&self) -> u64 {
        self.seats().map(|seat| seat.in_flight_now()).sum()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.seats().fold(Tally::default(), |sum, seat| sum.plus(seat.tally()))
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- coming and going ----

    /// No new call may begin. Says how many are in flight, and whether that was the end.
    pub(crate) fn remove(&self) -> (u64, Option<BalanceEvent>) {
        self.seats().for_each(|seat| seat.mark_removed());
        self.removed.store(true, Ordering::Release);
        (self.in_flight_now(), self.drained())
    }

    /// Whether the last call on this removed endpoint is over; says so once.
    pub(crate) fn drained(&self) -> Option<BalanceEvent> {
        let is_over = self.removed.load(Ordering::Acquire)
            && self.in_flight_now() == 0
            && !self.drained.swap(true, Ordering::SeqCst);
        is_over.then_some(BalanceEvent::Drained)
    }

    pub(crate) fn start_ramp(&self, now: Moment) {
        self.ramp_from.store(now.nanos(), Ordering::Relaxed);
    }

    pub(crate) fn ramp_from(&self) -> Option<Moment> {
        let from = self.ramp_from.load(Ordering::Relaxed);
        (from != 0).then(|| Moment::from_nanos(from))
    }

    // ---- health ----

    pub(crate) fn ejected_until(&self) -> Option<Moment> {
        let until = self.ejected_until.load(Ordering::Acquire);
        (until != 0).then(|| Moment::from_nanos(until))
    }

    pub(super) fn set_ejected_until(&self, until: Option<Moment>) {
        self.ejected_until.store(until.map_or(0, Moment::nanos), Ordering::Release);
    }

    /// Counts a failure; gives back how many there were in a row.
    pub(super) fn record_failure(&self, penalty_until: Option<Moment>) -> u32 {
        if let Some(until) = penalty_until {
            self.penalty_until.fetch_max(until.nanos(), Ordering::Relaxed);
        }
        let streak = self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.seats().for_each(|seat| seat.mark_troubled(true));
        streak
    }

    pub(super) fn record_success(&self) {
        self.streak.store(0, Ordering::Relaxed);
        let one_less = |missing: u32| missing.checked_sub(1);
        let was = self.probation.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if was.unwrap_or(0) <= 1 {
            self.seats().for_each(|seat| seat.mark_troubled(false));
        }
    }

    pub(crate) fn is_on_probation(&self) -> bool {
        self.probation.load(Ordering::Relaxed) > 0
    }

    pub(super) fn begin_probation(&self, successes: u32) {
        self.streak.store(0, Ordering::Relaxed);
        self.penalty_until.store(0, Ordering::Relaxed);
        self.probation.store(successes, Ordering::Relaxed);
        self.seats().for_each(|seat| seat.mark_troubled(successes > 0));
    }

    pub(super) fn end_probation(&self) {
        self.probation.store(0, Ordering::Relaxed);
    }

    // ---- load ----

    /// Whether it counts as busy since it failed not long ago.
    pub(crate) fn is_penalised(&self, now: impl FnOnce() -> Moment) -> bool {
        let until = self.penalty_until.load(Ordering::Relaxed);
        until != 0 && now().nanos() < until
    }

    pub(super) fn measure(&self, outcome: Option<Outcome>, took: Duration, now: Moment) {
        if outcome == Some(Outcome::Success) {
            let nanos = saturating_nanos(took).max(1);
            let next =
                |mean: u64| Some(if mean == 0 { nanos } else { mean - mean / 16 + nanos / 16 });
            let _always_some = self.mean.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        }
        let tuning = self.fleet.tuning();
        let Some(decay_s) = tuning.peak_decay_s else { return };
        let seconds = took.as_secs_f32();
        match outcome {
            Some(Outcome::Success) => self.peak.observe(seconds, now, decay_s),
            Some(Outcome::Failure | Outcome::Timeout) => {
                let penalty = tuning.failure_penalty.as_secs_f32();
                self.peak.at_least(seconds.max(penalty), now, decay_s);
            }
            Some(Outcome::Ignored) | None => self.peak.at_least(seconds, now, decay_s),
        }
    }

    pub(crate) fn peak_latency(&self, now: Moment, decay_s: f32) -> Option<f32> {
        self.peak.read(now, decay_s)
    }

    pub(crate) fn mean_latency(&self) -> Option<Duration> {
        let mean = self.mean.load(Ordering::Relaxed);
        (mean != 0).then(|| Duration::from_nanos(mean))
    }

    #[cfg(feature = "orca")]
    pub(crate) fn now(&self) -> Moment {
        self.fleet.clock().now()
    }

    /// Takes what the endpoint says of its load: gRPC's A58.
    pub(crate) fn report(&self, report: &LoadReport, now: Moment) {
        let tuning = self.fleet.tuning();
        let Some(weight) = report.weight(tuning.reported.error_penalty) else { return };
        let last = self.reported.last.swap(now.nanos(), Ordering::Relaxed);
        let expiration = saturating_nanos(tuning.reported.expiration);
        if last == 0 || now.nanos().saturating_sub(last) >= expiration {
            self.reported.since.store(now.nanos(), Ordering::Relaxed);
        }
        self.reported.weight.store(weight.to_bits(), Ordering::Relaxed);
    }

    /// The weight from fresh reports, if there are any.
    pub(crate) fn reported_weight(&self, now: Moment) -> Option<f64> {
        let tuning = self.fleet.tuning();
        let age = |stamp: &AtomicU64| now.nanos().saturating_sub(stamp.load(Ordering::Relaxed));
        let weight = f64::from_bits(self.reported.weight.load(Ordering::Relaxed));
        let is_fresh = age(&self.reported.last) < saturating_nanos(tuning.reported.expiration)
            && age(&self.reported.since) >= saturating_nanos(tuning.reported.blackout);
        (weight > 0.0 && is_fresh).then_some(weight)
    }
}
