use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use outrigger_core::{Enforcement, Observe};

use super::{
    Clock, EjectionPolicy, LazyNow, Node, SlowStartPolicy, Stamp, ZonePolicy,
    clock::saturating_nanos, outliers::Ejecting,
};
use crate::{BalanceEvent, BalancePolicy, EjectionRule, Picker, ReportedPolicy};

/// What endpoints share: settings, clock, observer, and the counts that ejection looks at.
pub(crate) struct Fleet {
    clock: Clock,
    tuning: ArcSwap<Tuning>,
    observer: ArcSwapOption<Observer>,
    ejected: AtomicUsize,
    size: AtomicUsize,
    is_panicking: AtomicBool,
    /// The last moment at which any endpoint ramps up.
    ramping_until: AtomicU64,
    /// The share of calls that stays in the local zone: the bits of an `f32`.
    local_share: AtomicU32,
    /// How fast the peak latency is forgotten: the bits of an `f32`; 0: nobody asks for it.
    peak_decay_s: AtomicU32,
    failure_penalty: AtomicU64,
    sums_latencies: AtomicBool,
    /// Calls in flight that a load bound looks at.
    bounded: Apart,
    next_sweep: AtomicU64,
    /// When the next ejected endpoint returns.
    next_return: AtomicU64,
    members: Mutex<Members>,
}

/// A count that many write, in a line that nobody else reads.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Apart(AtomicU64);

struct Observer(Box<dyn Observe<BalanceEvent> + Send + Sync>);

pub(super) struct Members {
    pub(super) nodes: Vec<Weak<Node>>,
    pub(super) rng: fastrand::Rng,
}

/// The settings that are read after the pick.
#[derive(Debug)]
pub(crate) struct Tuning {
    pub(crate) enforcement: Enforcement,
    pub(crate) ejection: Option<EjectionPolicy>,
    pub(crate) slow_start: Option<SlowStartPolicy>,
    pub(crate) zones: Option<ZonePolicy>,
    pub(crate) failure_penalty: Duration,
    pub(crate) peak_decay_s: Option<f32>,
    pub(crate) reported: ReportedPolicy,
}

impl Tuning {
    pub(crate) fn of(policy: &BalancePolicy) -> Self {
        let (failure_penalty, peak_decay_s) = match policy.picker() {
            Picker::LeastPending { failure_penalty } => (*failure_penalty, None),
            Picker::PeakEwma { decay, failure_penalty } => {
                (*failure_penalty, Some(decay.as_secs_f32()))
            }
            _ => (Duration::ZERO, None),
        };
        let reported = match policy.picker() {
            Picker::Reported(reported) => *reported,
            _ => ReportedPolicy::default(),
        };
        Self {
            enforcement: policy.enforcement(),
            ejection: policy.ejection().cloned(),
            slow_start: policy.slow_start().copied(),
            zones: policy.zones().cloned(),
            failure_penalty,
            peak_decay_s,
            reported,
        }
    }

    /// Whether each call's latency is needed.
    pub(crate) fn measures_all(&self) -> bool {
        self.peak_decay_s.is_some() || self.sums_latencies()
    }

    /// Whether a rule asks for the sum of latencies.
    fn sums_latencies(&self) -> bool {
        self.ejection.as_ref().is_some_and(|rules| rules.latency.is_some())
    }
}

/// Events to be told when no lock is held, with the keys of their endpoints.
pub(crate) type Told = Vec<(Arc<str>, BalanceEvent)>;

impl Fleet {
    pub(crate) fn new(clock: Clock, policy: &BalancePolicy) -> Self {
        let rng = policy.seed().map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let fleet = Self {
            clock,
            tuning: ArcSwap::from_pointee(Tuning::of(policy)),
            observer: ArcSwapOption::empty(),
            ejected: AtomicUsize::new(0),
            size: AtomicUsize::new(0),
            is_panicking: AtomicBool::new(false),
            ramping_until: AtomicU64::new(0),
            local_share: AtomicU32::new(1.0_f32.to_bits()),
            peak_decay_s: AtomicU32::new(0),
            failure_penalty: AtomicU64::new(0),
            sums_latencies: AtomicBool::new(false),
            bounded: Apart::default(),
            next_sweep: AtomicU64::new(0),
            next_return: AtomicU64::new(u64::MAX),
            members: Mutex::new(Members { nodes: Vec::new(), rng }),
        };
        fleet.tune(policy);
        fleet
    }

    /// Takes settings over.
    fn tune(&self, policy: &BalancePolicy) {
        let tuning = Tuning::of(policy);
        let decay_s = tuning.peak_decay_s.map_or(0, f32::to_bits);
        self.peak_decay_s.store(decay_s, Ordering::Relaxed);
        self.failure_penalty.store(saturating_nanos(tuning.failure_penalty), Ordering::Relaxed);
        self.sums_latencies.store(tuning.sums_latencies(), Ordering::Relaxed);
        self.tuning.store(Arc::new(tuning));
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn tuning(&self) -> Guard<Arc<Tuning>> {
        self.tuning.load()
    }

    pub(super) fn peak_decay_s(&self) -> Option<f32> {
        let bits = self.peak_decay_s.load(Ordering::Relaxed);
        (bits != 0).then(|| f32::from_bits(bits))
    }

    pub(super) fn failure_penalty(&self) -> Duration {
        Duration::from_nanos(self.failure_penalty.load(Ordering::Relaxed))
    }

    pub(super) fn sums_latencies(&self) -> bool {
        self.sums_latencies.load(Ordering::Relaxed)
    }

    // ---- telling ----

    pub(crate) fn set_observer(
        &self,
        observer: impl Observe<BalanceEvent> + Send + Sync + 'static,
    ) {
        self.observer.store(Some(Arc::new(Observer(Box::new(observer)))));
    }

    pub(crate) fn tell(&self, node: &Node, event: Option<BalanceEvent>) {
        if let Some(event) = event {
            self.tell_of(node.key(), &event);
        }
    }

    pub(crate) fn tell_of(&self, key: &str, event: &BalanceEvent) {
        if let Some(observer) = self.observer.load_full() {
            observer.0.observe(key, event);
        }
    }

    pub(crate) fn tell_all(&self, told: Told) {
        for (key, event) in told {
            self.tell_of(&key, &event);
        }
    }

    // ---- what a pick asks ----

    /// Whether ejected endpoints must be left out of a pick. Lets those return whose time is over.
    #[inline]
    pub(crate) fn leaves_out_ejected(&self, now: &LazyNow<'_>, policy: &BalancePolicy) -> bool {
        self.ejected() > 0 && self.still_leaves_out_ejected(now, policy)
    }

    fn still_leaves_out_ejected(&self, now: &LazyNow<'_>, policy: &BalancePolicy) -> bool {
        if now.get().nanos() >= self.next_return.load(Ordering::Relaxed) {
            self.return_due(now.get());
        }
        policy.enforcement() == Enforcement::Enforced && !self.is_panicking() && self.ejected() > 0
    }

    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    pub(crate) fn ejected(&self) -> usize {
        self.ejected.load(Ordering::Relaxed)
    }

    pub(crate) fn is_panicking(&self) -> bool {
        self.is_panicking.load(Ordering::Relaxed)
    }

    pub(crate) fn may_ramp(&self) -> bool {
        self.ramping_until.load(Ordering::Relaxed) != 0
    }

    /// Whether any endpoint ramps up at `now`; forgets it when none does any more.
    pub(crate) fn is_ramping(&self, now: Stamp) -> bool {
        let until = self.ramping_until.load(Ordering::Relaxed);
        if until != 0 && now.nanos() >= until {
            let _newer_stays =
                self.ramping_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
            return false;
        }
        until != 0
    }

    pub(crate) fn ramp(&self, node: &Node, now: Stamp, window: Duration) {
        node.start_ramp(now);
        self.ramping_until.fetch_max(now.after(window).nanos(), Ordering::Relaxed);
    }

    pub(crate) fn local_share(&self) -> f32 {
        f32::from_bits(self.local_share.load(Ordering::Relaxed))
    }

    /// Counts one more call that a load bound looks at; gives back how many there are now.
    pub(crate) fn enter_bounded(&self) -> u64 {
        self.bounded.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn leave_bounded(&self) {
        self.bounded.0.fetch_sub(1, Ordering::SeqCst);
    }

    // ---- ejection ----

    /// Takes over who is there and how they are governed. The caller tells the events.
    pub(crate) fn set_members(
        &self,
        nodes: impl Iterator<Item = Arc<Node>>,
        policy: &BalancePolicy,
    ) -> Told {
        let mut members = self.lock();
        self.tune(policy);
        members.nodes.clear();
        members.nodes.extend(nodes.map(|node| Arc::downgrade(&node)));
        let mut told = Told::new();
        self.recount(&members, &mut told);
        told
    }

    pub(super) fn record_failure(&self, node: &Arc<Node>) {
        let now = self.clock.now();
        let tuning = self.tuning.load();
        let (streak, since_first) = node.record_failure(now, tuning.failure_penalty);
        let Some(rules) = tuning.ejection.as_ref() else { return };
        if tuning.enforcement == Enforcement::Disabled {
            return;
        }
        let rule = if node.is_on_probation() {
            Some(EjectionRule::Probation)
        } else {
            rules.is_too_long(streak, since_first).then_some(EjectionRule::ConsecutiveFailures)
        };
        let is_due = self.is_sweep_due(now, rules);
        if (rule.is_none() || node.ejected_until().is_some()) && !is_due {
            return;
        }
        let mut told = Told::new();
        {
            let mut members = self.lock();
            if let Some(rule) = rule {
                Ejecting { fleet: self, members: &mut members, rules, tuning: &tuning, now }
                    .eject(node, rule, &mut told);
            }
            if is_due {
                Ejecting { fleet: self, members: &mut members, rules, tuning: &tuning, now }
                    .sweep(&mut told);
            }
        }
        drop(tuning);
        self.tell_all(told);
    }

    /// Whether an interval is over; one caller is told so.
    fn is_sweep_due(&self, now: Stamp, rules: &EjectionPolicy) -> bool {
        let due = self.next_sweep.load(Ordering::Relaxed);
        let next = now.after(rules.interval).nanos();
        let is_due = now.nanos() >= due
            && self
                .next_sweep
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        // The first failure of all, or the first latency that a rule asks for, starts the first
        // interval.
        is_due && due != 0
    }

    /// Where a rule asks for latencies, an interval ends without any failure as well.
    pub(crate) fn see_latency(&self, now: Stamp) {
        let is_due = now.nanos() >= self.next_sweep.load(Ordering::Relaxed);
        if is_due && self.sums_latencies() {
            self.sweep_if_due(now);
        }
    }

    /// Lets the rules look at an interval that is over, when no failure did so.
    pub(crate) fn sweep_if_due(&self, now: Stamp) {
        let tuning = self.tuning.load();
        let Some(rules) = tuning.ejection.as_ref() else { return };
        if tuning.enforcement == Enforcement::Disabled || !self.is_sweep_due(now, rules) {
            return;
        }
        let mut told = Told::new();
        {
            let mut members = self.lock();
            Ejecting { fleet: self, members: &mut members, rules, tuning: &tuning, now }
                .sweep(&mut told);
        }
        drop(tuning);
        self.tell_all(told);
    }

    /// Lets endpoints return whose time is over.
    pub(crate) fn return_due(&self, now: Stamp) {
        let tuning = self.tuning.load();
        let mut told = Told::new();
        {
            let members = self.lock();
            self.return_due_locked(&members, &tuning, now, &mut told);
        }
        drop(tuning);
        self.tell_all(told);
    }

    pub(super) fn return_due_locked(
        &self,
        members: &Members,
        tuning: &Tuning,
        now: Stamp,
        told: &mut Told,
    ) {
        let mut any = false;
        for node in members.nodes.iter().filter_map(Weak::upgrade) {
            if node.ejected_until().is_none_or(|until| now < until) {
                continue;
            }
            any = true;
            node.set_ejected_until(None);
            node.record().returned = Some(now);
            let successes = tuning.ejection.as_ref().map_or(0, |rules| rules.probation_successes);
            node.begin_probation(successes);
            if let Some(slow_start) = tuning.slow_start {
                self.ramp(&node, now, slow_start.window());
            }
            told.push((Arc::clone(node.key()), BalanceEvent::Returned));
        }
        if any {
            self.recount(members, told);
        }
    }

    /// Counts again who is healthy, after a change. Called with the lock held.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "shares")]
    pub(super) fn recount(&self, members: &Members, told: &mut Told) {
        let tuning = self.tuning.load();
        let local = tuning.zones.as_ref().map(ZonePolicy::local);
        let (mut size, mut ejected) = (0_usize, 0_usize);
        let (mut total, mut healthy_local) = (0.0, 0.0);
        let mut zones: Vec<&str> = Vec::new();
        let mut next_return = u64::MAX;
        let nodes: Vec<_> = members.nodes.iter().filter_map(Weak::upgrade).collect();
        for node in &nodes {
            let until = node.ejected_until();
            let is_ejected = until.is_some();
            next_return = next_return.min(until.map_or(u64::MAX, Stamp::nanos));
            size += 1;
            ejected += usize::from(is_ejected);
            let Some(local) = local else { continue };
            let zone = node.zone().map_or("", |zone| &**zone);
            let weight = f64::from(node.weight());
            total += weight;
            if zone == local && !is_ejected {
                healthy_local += weight;
            }
            if !zones.contains(&zone) {
                zones.push(zone);
            }
        }
        self.size.store(size, Ordering::Relaxed);
        self.next_return.store(next_return, Ordering::Relaxed);
        self.ejected.store(ejected, Ordering::Relaxed);
        if let Some(policy) = &tuning.zones {
            let share = policy.local_share(healthy_local, total, zones.len()) as f32;
            self.local_share.store(share.to_bits(), Ordering::Relaxed);
        }
        let healthy = if size == 0 { 1.0 } else { (size - ejected) as f64 / size as f64 };
        let threshold = tuning.ejection.as_ref().map_or(0.0, |rules| rules.panic_threshold);
        let panics = healthy < threshold;
        if self.is_panicking.swap(panics, Ordering::Relaxed) != panics {
            let event = if panics {
                BalanceEvent::PanicEntered { healthy }
            } else {
                BalanceEvent::PanicLeft { healthy }
            };
            told.push((Arc::from(""), event));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("size", &self.size)
            .field("ejected", &self.ejected)
            .field("is_panicking", &self.is_panicking)
            .finish_non_exhaustive()
    }
}
