//! The rule: counts what was asked for and what was accepted, and draws lots. Knows neither tower
//! nor async nor the clock.

mod window;

#[cfg(all(test, outrigger_loom))]
mod loom;

use std::{sync::OnceLock, time::Duration};

use fastrand::Rng;
use outrigger_core::{Criticality, Enforcement};
use tokio::time::Instant;

pub use self::window::ThrottleCounts;
use self::window::{BUCKETS, Window};
use crate::{
    ClientThrottlePolicy, CutShort,
    sync::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

/// The statistics of one throttle.
#[derive(Debug)]
pub(crate) struct Engine {
    start: Instant,
    enforcement: AtomicU8,
    counts_cut_short: AtomicU8,
    min_requests: AtomicU32,
    /// The bits of an `f64`.
    k: AtomicU64,
    bucket_ns: AtomicU64,
    /// Each draw starts a generator from here, and moves it on.
    seed: AtomicU64,
    /// Made with the first call of a class: most callers know only one.
    classes: [OnceLock<Box<Window>>; Criticality::ALL.len()],
}

/// A call that is refused, or would be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) probability: f64,
    pub(crate) counts: ThrottleCounts,
}

/// An odd number near the golden part of 64 bits: seeds that follow each other lie far apart.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Engine {
    pub(crate) fn new(policy: &ClientThrottlePolicy, seed: u64, start: Instant) -> Self {
        let engine = Self {
            start,
            enforcement: AtomicU8::new(0),
            counts_cut_short: AtomicU8::new(0),
            min_requests: AtomicU32::new(0),
            k: AtomicU64::new(0),
            bucket_ns: AtomicU64::new(1),
            seed: AtomicU64::new(seed),
            classes: [(); 4].map(|()| OnceLock::new()),
        };
        engine.set_policy(policy, start);
        engine
    }

    /// Whether a call of this class may be sent. A refusal is counted here, a call that is sent by
    /// [`record`](Self::record): what runs still says nothing yet.
    pub(crate) fn admit(&self, class: Criticality, now: Instant) -> Result<(), Refusal> {
        let window = self.window(class, now);
        let counts = window.counts(self.ns(now));
        let probability = self.probability(counts);
        if probability <= 0.0 || self.draw() >= probability {
            return Ok(());
        }
        if self.enforcement() == Enforcement::Enforced {
            window.add(false);
        }
        Err(Refusal { probability, counts })
    }

    /// Counts a call that was sent.
    pub(crate) fn record(&self, class: Criticality, is_accepted: bool) {
        // A call that was sent was asked for first, so the window is there.
        if let Some(window) = self.classes[class as usize].get() {
            window.add(is_accepted);
        }
    }

    /// Counts a call that was sent and whose caller did not wait for the answer.
    pub(crate) fn record_cut_short(&self, class: Criticality) {
        if self.counts_cut_short.load(Ordering::Relaxed) != 0 {
            self.record(class, false);
        }
    }

    pub(crate) fn counts(&self, class: Criticality, now: Instant) -> ThrottleCounts {
        let window = self.classes[class as usize].get();
        window.map_or_else(ThrottleCounts::default, |window| window.counts(self.ns(now)))
    }

    /// How likely a call is refused that has these before it.
    pub(crate) fn probability(&self, counts: ThrottleCounts) -> f64 {
        if counts.requests < self.min_requests.load(Ordering::Relaxed) {
            return 0.0;
        }
        let (requests, accepts) = (f64::from(counts.requests), f64::from(counts.accepts));
        let k = f64::from_bits(self.k.load(Ordering::Relaxed));
        ((requests - k * accepts) / (requests + 1.0)).max(0.0)
    }

    /// Acts by `policy` from now on. One at a time.
    pub(crate) fn set_policy(&self, policy: &ClientThrottlePolicy, now: Instant) {
        self.min_requests.store(policy.min_requests(), Ordering::Relaxed);
        self.k.store(policy.k().to_bits(), Ordering::Relaxed);
        let counts_cut_short = policy.cut_short() == CutShort::NotAccepted;
        self.counts_cut_short.store(counts_cut_short.into(), Ordering::Relaxed);
        let bucket_ns = (saturating_ns(policy.window()) / BUCKETS).max(1);
        self.bucket_ns.store(bucket_ns, Ordering::Relaxed);
        for window in self.classes.iter().filter_map(OnceLock::get) {
            window.set_bucket(bucket_ns, self.ns(now));
        }
        self.enforcement.store(policy.enforcement() as u8, Ordering::Release);
    }

    pub(crate) fn enforcement(&self) -> Enforcement {
        match self.enforcement.load(Ordering::Acquire) {
            0 => Enforcement::Enforced,
            1 => Enforcement::Shadow,
            _ => Enforcement::Disabled,
        }
    }

    fn window(&self, class: Criticality, now: Instant) -> &Window {
        self.classes[class as usize].get_or_init(|| {
            let bucket_ns = self.bucket_ns.load(Ordering::Relaxed);
            Box::new(Window::new(bucket_ns, self.ns(now)))
        })
    }

    /// A number from 0 to 1.
    fn draw(&self) -> f64 {
        Rng::with_seed(self.seed.fetch_add(STEP, Ordering::Relaxed)).f64()
    }

    fn ns(&self, now: Instant) -> u64 {
        saturating_ns(now.saturating_duration_since(self.start))
    }
}

/// Without the 128 bits of `Duration::as_nanos`, since every call asks.
fn saturating_ns(duration: Duration) -> u64 {
    let whole_ns = duration.as_secs().saturating_mul(1_000_000_000);
    whole_ns.saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientThrottlePolicyBuilder;

    const CLASS: Criticality = Criticality::Critical;

    fn engine(
        change: impl FnOnce(ClientThrottlePolicyBuilder) -> ClientThrottlePolicyBuilder,
    ) -> (Engine, Instant) {
        let policy = change(ClientThrottlePolicy::builder()).build().unwrap();
        let start = Instant::now();
        (Engine::new(&policy, 1, start), start)
    }

    fn record(engine: &Engine, now: Instant, accepted: u32, not_accepted: u32) {
        engine.window(CLASS, now).counts(engine.ns(now));
        (0..accepted).for_each(|_| engine.record(CLASS, true));
        (0..not_accepted).for_each(|_| engine.record(CLASS, false));
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "the formula is exact for these")]
    fn the_probability_is_the_formula_of_the_book() {
        let (engine, _) = engine(|policy| policy);
        let of = |requests, accepts| engine.probability(ThrottleCounts { requests, accepts });
        assert_eq!(of(0, 0), 0.0);
        assert_eq!(of(100, 50), 0.0, "half may be refused before anything happens");
        assert_eq!(of(100, 40), 20.0 / 101.0);
        assert_eq!(of(100, 0), 100.0 / 101.0);
        assert_eq!(of(4, 0), 0.0, "too few to judge");
        assert_eq!(of(5, 0), 5.0 / 6.0);
    }

    #[test]
    fn a_refusal_stays_in_the_count_of_requests() {
        let (engine, start) = engine(|policy| policy);
        record(&engine, start, 0, 1_000);
        let refused = (0..1_000).filter(|_| engine.admit(CLASS, start).is_err()).count();
        let counts = engine.counts(CLASS, start);
        assert!(refused > 990, "{refused}");
        assert_eq!(u32::try_from(refused).unwrap() + 1_000, counts.requests);
        assert_eq!(counts.accepts, 0);
    }

    #[test]
    fn the_lots_fall_as_likely_as_said() {
        let (engine, start) = engine(|policy| policy);
        record(&engine, start, 1_000_000, 2_000_000);
        let refused = (0..100_000).filter(|_| engine.admit(CLASS, start).is_err()).count();
        // A third, and a little more with each refusal; four standard deviations are 600.
        assert!((33_000..35_000).contains(&refused), "{refused}");
    }

    #[test]
    fn each_class_has_its_own_statistics() {
        let (engine, start) = engine(|policy| policy);
        record(&engine, start, 0, 1_000);
        assert!(engine.admit(CLASS, start).is_err());
        assert!((0..1_000).all(|_| engine.admit(Criticality::CriticalPlus, start).is_ok()));
    }

    #[test]
    fn what_runs_still_counts_for_nothing() {
        let (engine, start) = engine(|policy| policy);
        assert!((0..10_000).all(|_| engine.admit(CLASS, start).is_ok()));
        assert_eq!(engine.counts(CLASS, start), ThrottleCounts::default());
    }

    #[test]
    fn a_shadow_refusal_counts_with_its_answer_only() {
        let (engine, start) = engine(|policy| policy.enforcement(Enforcement::Shadow));
        record(&engine, start, 0, 1_000);
        assert!((0..100).any(|_| engine.admit(CLASS, start).is_err()));
        assert_eq!(engine.counts(CLASS, start).requests, 1_000);
    }

    #[test]
    fn a_changed_policy_keeps_the_counts_and_acts_at_once() {
        let (engine, start) = engine(|policy| policy);
        record(&engine, start, 40, 60);
        let policy = ClientThrottlePolicy::builder().k(3.0).window(Duration::from_secs(10));
        let late = start + Duration::from_secs(100);
        engine.set_policy(&policy.build().unwrap(), late);
        let counts = engine.counts(CLASS, late);
        assert_eq!(counts, ThrottleCounts { requests: 100, accepts: 40 });
        assert!(engine.probability(counts) <= 0.0);
        let counts = engine.counts(CLASS, late + Duration::from_secs(11));
        assert_eq!(counts, ThrottleCounts::default());
    }

    #[test]
    fn a_clock_that_goes_back_or_far_ahead_does_not_panic() {
        let start = Instant::now() + Duration::from_secs(10);
        let engine = Engine::new(&ClientThrottlePolicy::default(), 1, start);
        let before = start.checked_sub(Duration::from_secs(5)).unwrap();
        assert!(engine.admit(CLASS, before).is_ok());
        record(&engine, start + Duration::from_secs(1_000_000_000), 1, 1);
        assert!(engine.admit(CLASS, before).is_ok());
        assert_eq!(engine.counts(CLASS, start).requests, 2);
    }
}
