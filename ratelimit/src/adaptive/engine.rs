//! The rule: what a window's counts make of the limit. Knows neither tower nor async nor the
//! clock.

use std::time::Duration;

use super::{
    event::LimitChange,
    guard::{Guard, Seen},
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
    /// Which share of the calls is dropped whatever the limit.
    usual_drops: f64,
    /// How many windows have passed in which the limit was reached and did not grow.
    steady: u32,
    /// How many windows of the present probe are left.
    probing: u32,
    /// In how many windows in a row the limit grew.
    growing: u32,
    /// When the last window ended.
    last: Duration,
}

/// After so many windows at the limit that all were alike, more calls are let in.
const PROBE_EVERY: u32 = 15;
/// For so many windows.
const PROBE_FOR: u32 = 3;
/// So many standard errors of the latency more calls, and at least and at most these shares. BBR
/// probes with a quarter more.
const PROBE_ERRORS: f64 = 3.0;
const PROBE: (f64, f64) = (0.07, 0.25);
/// A limit grows when so much of it was used: a half in concurrency-limits.
const USED: f64 = 0.8;
/// A window lasts at least so many times the latency, so that most of its calls began in it.
const LATENCIES: f64 = 4.0;
/// What is usual goes so far towards the share of dropped calls of a window: it takes twenty.
const TO_USUAL: f64 = 0.05;
/// What is left of the limit at least after a window in which calls were dropped.
const LEAST_LEFT: f64 = 0.25;
/// The limit keeps calls out all the time when more than this share of them is refused.
const BOUND: f64 = 0.1;

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
        Self {
            limiter,
            guard: Guard::new(),
            limit: f64::from(policy.initial_limit()),
            usual_drops: 0.0,
            steady: 0,
            probing: 0,
            growing: 0,
            last: Duration::ZERO,
        }
    }

    pub(super) fn places(&self, policy: &AdaptiveLimitPolicy) -> u32 {
        let (least, most) = PROBE;
        let more = (PROBE_ERRORS * self.guard.error()).clamp(least, most);
        let probe = if self.probing > 0 { 1.0 + more } else { 1.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in bounds")]
        let up = |limit: f64| (limit - 1e-6).ceil() as u32;
        // At least one more while probing.
        let least = up(self.limit) + u32::from(self.probing > 0);
        up(self.limit * probe).max(least).clamp(policy.min_limit(), policy.max_limit())
    }

    /// How many calls a window needs.
    pub(super) fn samples(&self, policy: &AdaptiveLimitPolicy) -> u32 {
        self.guard.samples(policy.min_samples())
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
        let is_reached = counts.refused > 0 || counts.max_in_flight >= self.places(policy);
        let mut sample = self.sample(counts, at, policy);
        if !sample.is_dropping() {
            self.learn(&mut sample, counts, is_reached);
        }
        let reason = if sample.is_dropping() {
            let lasted = at.saturating_sub(self.last).as_secs_f64();
            self.limit = self.after_drops(&sample, lasted);
            LimitChange::Drops
        } else if self.probing > 0 {
            self.probing -= 1;
            LimitChange::Probe
        } else {
            let is_used = f64::from(counts.max_in_flight) >= self.limit * USED;
            self.follow(&sample, is_reached, is_used || counts.refused > 0)
        };
        self.last = at;
        self.usual_drops += TO_USUAL * (sample.drop_share() - self.usual_drops);
        self.limit = bounded(self.limit, policy);
        let latency = counts.mean_latency().unwrap_or(0.0);
        let needed = Duration::from_secs_f64((latency * LATENCIES).min(1e6));
        let next_window = needed.clamp(policy.min_window(), policy.max_window());
        Decision { places: self.places(policy), reason, next_window }
    }

    fn sample(&self, counts: &Counts, at: Duration, policy: &AdaptiveLimitPolicy) -> LimitSample {
        LimitSample {
            limit: self.limit,
            latency: counts.mean_latency().map(Duration::from_secs_f64),
            normal_latency: self.guard.normal().map(Duration::from_secs_f64),
            count: counts.count,
            dropped: counts.dropped,
            usual_drops: self.usual_drops.max(policy.tolerated_drops()),
            max_in_flight: counts.max_in_flight,
            growing: self.growing,
            confirmed: 0.0,
            at,
        }
    }

    /// Shows the window to the guard, and gives the sample what it makes of it.
    fn learn(&mut self, sample: &mut LimitSample, counts: &Counts, is_reached: bool) {
        let Some(latency) = counts.mean_latency() else { return };
        let refused = f64::from(counts.refused);
        self.guard.note(&Seen {
            calls: counts.mean_in_flight(),
            latency,
            square: counts.mean_square(),
            count: f64::from(counts.count),
            is_reached,
            is_bound: refused > BOUND * f64::from(counts.ended()),
        });
        sample.confirmed = self.guard.confirmed();
        let certain = self.guard.certain(is_reached.then_some(self.limit));
        // Before the guard knows anything, what was measured is all there is.
        if let Some(certain) = certain {
            sample.latency = Some(Duration::from_secs_f64(certain));
            sample.normal_latency = self.guard.normal().map(Duration::from_secs_f64);
        }
    }

    /// At least a step down; by half where half of the calls were dropped, and by three quarters
    /// where nearly all were: a callee that hangs is not met with one call fewer in a window. But
    /// as many calls as are done at once are let in, by Little's law: their throughput times the
    /// normal latency.
    fn after_drops(&mut self, sample: &LimitSample, lasted: f64) -> f64 {
        (self.steady, self.probing, self.growing) = (0, 0, 0);
        let said = self.limiter.next_limit(sample);
        let said = if said.is_finite() { said } else { sample.limit };
        let left = sample.limit * (1.0 - sample.excess_drops()).max(LEAST_LEFT);
        let done = self.guard.normal().map_or(0.0, |normal| normal * f64::from(sample.count));
        let done = if lasted > 0.0 { done / lasted } else { 0.0 };
        said.min(left).max(done).min(sample.limit)
    }

    fn follow(&mut self, sample: &LimitSample, is_reached: bool, is_used: bool) -> LimitChange {
        let said = self.limiter.next_limit(sample);
        let said = if said.is_finite() { said } else { self.limit };
        let is_blind = is_reached && (said <= self.limit || !self.guard.is_sure());
        self.steady = if is_blind { self.steady + 1 } else { 0 };
        if self.steady >= PROBE_EVERY {
            (self.steady, self.probing, self.growing) = (0, PROBE_FOR, 0);
            return LimitChange::Probe;
        }
        // What nobody comes near of need not grow.
        let grows = said > self.limit && is_used && !self.guard.is_learning();
        self.growing = if grows { self.growing + 1 } else { 0 };
        if said > self.limit {
            self.limit = if grows { said } else { self.limit };
            return LimitChange::Room;
        }
        // What nobody comes up to does no harm.
        if is_reached {
            self.limit = said;
        }
        LimitChange::Queue
    }
}

fn bounded(limit: f64, policy: &AdaptiveLimitPolicy) -> f64 {
    limit.clamp(f64::from(policy.min_limit()), f64::from(policy.max_limit()))
}

#[cfg(test)]
mod tests;
