//! The rule: what a window's counts make of the limit. Knows neither tower nor async nor the
//! clock.

use std::time::Duration;

use super::{
    event::LimitChange,
    guard::Guard,
    limiter::{LimitSample, Limiter},
    policy::AdaptiveLimitPolicy,
    window::Counts,
};

/// The state that changes with a window.
#[derive(Debug)]
pub(super) struct Engine {
    limiter: Box<dyn Limiter>,
    guard: Guard,
    limit: f64,
    /// How many windows have passed in which the limit was reached and nothing could be learnt.
    steady: u32,
    /// How many windows of the present probe are left.
    probing: u32,
}

/// After so many windows at the limit that all were alike, more calls are let in.
const PROBE_EVERY: u32 = 15;
/// For so many windows.
const PROBE_FOR: u32 = 3;
/// So many times the calls.
const PROBE: f64 = 1.07;
/// A limit grows when so much of it was used: a half in concurrency-limits.
const USED: f64 = 0.8;
/// A window lasts at least so many times the latency, so that most of its calls began in it.
const LATENCIES: f64 = 4.0;
/// What a window came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision {
    /// The calls that may run from now on.
    pub(super) places: u32,
    pub(super) reason: LimitChange,
    /// How long the next window is to be.
    pub(super) next_window: Duration,
}

impl Engine {
    pub(super) fn new(limiter: Box<dyn Limiter>, policy: &AdaptiveLimitPolicy) -> Self {
        let limit = f64::from(policy.initial_limit());
        Self { limiter, guard: Guard::new(), limit, steady: 0, probing: 0 }
    }

    pub(super) fn places(&self, policy: &AdaptiveLimitPolicy) -> u32 {
        let probe = if self.probing > 0 { PROBE } else { 1.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in bounds")]
        let places = (self.limit * probe - 1e-6).ceil() as u32;
        // At least one more while probing.
        let places = if self.probing > 0 { places.max(self.floor_places() + 1) } else { places };
        places.clamp(policy.min_limit(), policy.max_limit())
    }

    fn floor_places(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in bounds")]
        let places = (self.limit - 1e-6).ceil() as u32;
        places
    }

    /// In seconds.
    pub(super) fn normal(&self) -> Option<f64> {
        self.guard.normal()
    }

    pub(super) fn set_limiter(&mut self, limiter: Box<dyn Limiter>) {
        self.limiter = limiter;
    }

    /// Keeps the limit in the bounds of a replaced policy.
    pub(super) fn set_policy(&mut self, policy: &AdaptiveLimitPolicy) {
        self.limit = bounded(self.limit, policy);
    }

    /// Learns of a window.
    pub(super) fn end_window(
        &mut self,
        counts: &Counts,
        at: Duration,
        policy: &AdaptiveLimitPolicy,
    ) -> Decision {
        let reached = counts.refused > 0 || counts.max_in_flight >= self.places(policy);
        let mut sample = self.sample(counts, at);
        if let Some(latency) = counts.mean_latency()
            && !sample.is_dropping()
        {
            self.guard.note(counts.mean_in_flight(), latency, reached);
            let at_limit =
                if reached { self.guard.smooth_at(self.limit) } else { self.guard.smooth() };
            sample.latency = Some(Duration::from_secs_f64(at_limit));
            sample.normal_latency = self.guard.normal().map(Duration::from_secs_f64);
        }
        let reason = if sample.is_dropping() {
            self.probing = 0;
            self.limit = self.after_drops(&sample);
            LimitChange::Drops
        } else if self.probing > 0 {
            self.probing -= 1;
            LimitChange::Probe
        } else {
            self.follow(&sample, reached)
        };
        self.limit = bounded(self.limit, policy);
        let latency = counts.mean_latency().unwrap_or(0.0);
        let needed = Duration::from_secs_f64((latency * LATENCIES).min(1e6));
        let next_window = needed.clamp(policy.min_window(), policy.max_window());
        Decision { places: self.places(policy), reason, next_window }
    }

    fn sample(&self, counts: &Counts, at: Duration) -> LimitSample {
        LimitSample {
            limit: self.limit,
            latency: counts.mean_latency().map(Duration::from_secs_f64),
            normal_latency: self.guard.normal().map(Duration::from_secs_f64),
            count: counts.count,
            dropped: counts.dropped,
            max_in_flight: counts.max_in_flight,
            at,
        }
    }

    /// At least a step down; half off where half of the calls were dropped, and three quarters
    /// where all were: a callee that hangs is not met with one call fewer in a window.
    fn after_drops(&mut self, sample: &LimitSample) -> f64 {
        self.steady = 0;
        let said = self.limiter.next_limit(sample).min(sample.limit);
        match sample.drop_share() {
            1.0.. => said.min(sample.limit / 4.0),
            0.5.. => said.min(sample.limit / 2.0),
            _ => said,
        }
    }

    fn follow(&mut self, sample: &LimitSample, reached: bool) -> LimitChange {
        let said = self.limiter.next_limit(sample);
        let said = if said.is_finite() { said } else { self.limit };
        let is_blind = reached && !self.guard.is_sure();
        self.steady = if is_blind { self.steady + 1 } else { 0 };
        if self.steady >= PROBE_EVERY {
            (self.steady, self.probing) = (0, PROBE_FOR);
            return LimitChange::Probe;
        }
        if said > self.limit {
            // What nobody comes near of need not grow.
            if f64::from(sample.max_in_flight) >= self.limit * USED {
                self.limit = said;
            }
            return LimitChange::Room;
        }
        // What nobody comes up to does no harm.
        if reached {
            self.limit = said;
        }
        LimitChange::Queue
    }
}

fn bounded(limit: f64, policy: &AdaptiveLimitPolicy) -> f64 {
    limit.clamp(f64::from(policy.min_limit()), f64::from(policy.max_limit()))
}
