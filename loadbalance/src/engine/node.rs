use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use outrigger_core::Outcome;

use super::{
    Block, Fleet, Load, Seat, Seated, Stamp, Tally, clock::saturating_nanos, streak::Streak,
};
use crate::{BalanceEvent, EndpointInfo, LoadReport, hash, sync};

/// One endpoint without its service: who it is, and how it does.
#[derive(Debug)]
pub(crate) struct Node {
    key: Arc<str>,
    id: u64,
    fleet: Arc<Fleet>,
    /// Where its seats and its load stand in the block.
    at: u32,
    banks: Arc<[Weak<[Seat]>]>,
    loads: Arc<[Load]>,
    weight: AtomicU32,
    zone: Option<Arc<str>>,
    /// When it began to ramp up; 0: it does not.
    ramp_from: AtomicU64,
    /// Until when it is ejected; 0: it is not. Changed under the fleet's lock.
    ejected_until: AtomicU64,
    /// The failures since the last success.
    streak: Streak,
    /// How many successes are missing until it is trusted again.
    probation: sync::AtomicU32,
    /// Set when every seat was told that the endpoint is gone: only then can it be drained.
    removed: sync::AtomicBool,
    /// Set once the last call on a removed endpoint is over.
    drained: AtomicBool,
    reported: Reported,
    record: Mutex<Record>,
}

/// What the ejection rules remember of an endpoint; touched by sweeps and ejections only.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// How often in a row it was ejected.
    pub(super) times: u32,
    /// When it last returned.
    pub(super) returned: Option<Stamp>,
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
    /// An endpoint that takes the seats at `at` in the block.
    pub(crate) fn new(
        info: &EndpointInfo,
        fleet: &Arc<Fleet>,
        block: &Block,
        at: u32,
    ) -> Arc<Self> {
        let node = Arc::new(Self {
            key: Arc::clone(info.shared_key()),
            id: hash::endpoint_id(info.key()),
            fleet: Arc::clone(fleet),
            at,
            banks: Arc::clone(block.weak_banks()),
            loads: Arc::clone(block.loads()),
            weight: AtomicU32::new(info.weight_value()),
            zone: info.shared_zone().cloned(),
            ramp_from: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
            streak: Streak::default(),
            probation: sync::AtomicU32::new(0),
            removed: sync::AtomicBool::new(false),
            drained: AtomicBool::new(false),
            reported: Reported::default(),
            record: Mutex::default(),
        });
        block.banks().iter().for_each(|bank| bank[at as usize].take(&node));
        node
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

    fn seats(&self) -> impl Iterator<Item = Seated> + '_ {
        self.banks.iter().filter_map(Weak::upgrade).map(|bank| Seated::new(bank, self.at))
    }

    pub(crate) fn load(&self) -> &Load {
        &self.loads[self.at as usize]
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

    pub(crate) fn start_ramp(&self, now: Stamp) {
        self.ramp_from.store(now.nanos(), Ordering::Relaxed);
    }

    pub(crate) fn ramp_from(&self) -> Option<Stamp> {
        Stamp::from_nanos(self.ramp_from.load(Ordering::Relaxed))
    }

    // ---- health ----

    pub(crate) fn ejected_until(&self) -> Option<Stamp> {
        Stamp::from_nanos(self.ejected_until.load(Ordering::Acquire))
    }

    pub(super) fn set_ejected_until(&self, until: Option<Stamp>) {
        self.ejected_until.store(until.map_or(0, Stamp::nanos), Ordering::Release);
    }

    /// Counts a failure; gives back how many there were in a row, and how long ago the first was.
    pub(super) fn record_failure(&self, now: Stamp, penalty: Duration) -> (u32, Duration) {
        if !penalty.is_zero() {
            self.load().penalise(now.after(penalty));
        }
        let streak = self.streak.lengthen(now);
        self.seats().for_each(|seat| seat.mark_troubled(true));
        streak
    }

    /// How many calls in a row have failed, up to the last one.
    pub(crate) fn failures_in_row(&self) -> u32 {
        self.streak.len()
    }

    pub(super) fn record_success(&self) {
        self.streak.end();
        let one_less = |missing: u32| missing.checked_sub(1);
        let was = self.probation.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        if was.unwrap_or(0) <= 1 {
            self.calm();
        }
    }

    /// Lets successes go by unseen, unless one has to be seen: looked at once more after the seats
    /// were marked, since a failure or a probation may begin at the same time. Who marks a seat
    /// last sees what the one before it did.
    fn calm(&self) {
        self.seats().for_each(|seat| seat.mark_troubled(false));
        if self.failures_in_row() > 0 || self.is_on_probation() {
            self.seats().for_each(|seat| seat.mark_troubled(true));
        }
    }

    pub(crate) fn is_on_probation(&self) -> bool {
        self.probation.load(Ordering::Acquire) > 0
    }

    pub(super) fn begin_probation(&self, successes: u32) {
        self.streak.end();
        self.load().forgive();
        self.probation.store(successes, Ordering::Release);
        if successes > 0 {
            self.seats().for_each(|seat| seat.mark_troubled(true));
        } else {
            self.calm();
        }
    }

    pub(super) fn end_probation(&self) {
        self.probation.store(0, Ordering::Release);
    }

    // ---- load ----

    /// Takes in what a call says of the latency, for peak EWMA.
    pub(super) fn measure(&self, outcome: Option<Outcome>, took: Duration, now: Stamp) {
        let Some(decay_s) = self.fleet.peak_decay_s() else { return };
        let seconds = took.as_secs_f32();
        let peak = self.load().peak();
        match outcome {
            Some(Outcome::Success) => peak.observe(seconds, now, decay_s),
            Some(Outcome::Failure | Outcome::Timeout) => {
                let penalty = self.fleet.failure_penalty().as_secs_f32();
                peak.at_least(seconds.max(penalty), now, decay_s);
            }
            Some(Outcome::Ignored) | None => peak.at_least(seconds, now, decay_s),
        }
    }

    /// The mean of what the lanes measured.
    pub(crate) fn mean_latency(&self) -> Option<Duration> {
        let means = self.seats().filter_map(|seat| seat.mean_latency_nanos());
        let (sum, lanes) =
            means.fold((0, 0), |(sum, n): (u64, u64), mean| (sum.saturating_add(mean), n + 1));
        sum.checked_div(lanes).map(Duration::from_nanos)
    }

    #[cfg(feature = "orca")]
    pub(crate) fn now(&self) -> Stamp {
        self.fleet.clock().now()
    }

    /// Takes what the endpoint says of its load: gRPC's A58.
    pub(crate) fn report(&self, report: &LoadReport, now: Stamp) {
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
    pub(crate) fn reported_weight(&self, now: Stamp) -> Option<f64> {
        let tuning = self.fleet.tuning();
        let age = |stamp: &AtomicU64| now.nanos().saturating_sub(stamp.load(Ordering::Relaxed));
        let weight = f64::from_bits(self.reported.weight.load(Ordering::Relaxed));
        let is_fresh = age(&self.reported.last) < saturating_nanos(tuning.reported.expiration)
            && age(&self.reported.since) >= saturating_nanos(tuning.reported.blackout);
        (weight > 0.0 && is_fresh).then_some(weight)
    }
}
