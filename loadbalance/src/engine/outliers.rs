//! The ejection rules: who is an outlier, and for how long it is left out.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use outrigger_core::Enforcement;

use super::{
    EjectionPolicy, Fleet, Node, Stamp, Tally,
    fleet::{Members, Told, Tuning},
};
use crate::{BalanceEvent, EjectionRule};

/// How far from chance a success rate must be, in standard errors, before it counts as deviating.
const SIGNIFICANCE: f64 = 5.0;

/// One look at the rules, with the lock held.
pub(super) struct Ejecting<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) members: &'a mut Members,
    pub(super) rules: &'a EjectionPolicy,
    pub(super) tuning: &'a Tuning,
    pub(super) now: Stamp,
}

impl Ejecting<'_> {
    pub(super) fn eject(&mut self, node: &Arc<Node>, rule: EjectionRule, told: &mut Told) {
        self.fleet.return_due_locked(self.members, self.tuning, self.now, told);
        let (size, ejected) = (self.fleet.size(), self.fleet.ejected());
        let is_member =
            self.members.nodes.iter().any(|member| member.as_ptr() == Arc::as_ptr(node));
        if node.ejected_until().is_some() || ejected + 1 > self.rules.cap(size) || !is_member {
            return;
        }
        let times = {
            let mut record = node.record();
            let healthy = record.returned.map_or(Duration::MAX, |since| self.now.since(since));
            let intervals = healthy.as_nanos() / self.rules.interval.as_nanos().max(1);
            let forgiven = u32::try_from(intervals).unwrap_or(u32::MAX);
            record.times = record.times.saturating_sub(forgiven).saturating_add(1);
            record.times
        };
        let duration = self.lengthened(self.rules.time(times));
        node.end_probation();
        node.set_ejected_until(Some(self.now.after(duration)));
        let enforced = self.tuning.enforcement == Enforcement::Enforced;
        told.push((Arc::clone(node.key()), BalanceEvent::Ejected { rule, duration, enforced }));
        self.fleet.recount(self.members, told);
    }

    /// Adds the jitter.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast to u64 saturates"
    )]
    fn lengthened(&mut self, time: Duration) -> Duration {
        let factor = 1.0 + self.rules.jitter * self.members.rng.f64();
        let nanos = super::clock::saturating_nanos(time) as f64 * factor;
        Duration::from_nanos(nanos as u64)
    }

    /// Applies the rules that look at an interval as a whole.
    pub(super) fn sweep(&mut self, told: &mut Told) {
        self.fleet.return_due_locked(self.members, self.tuning, self.now, told);
        let interval: Vec<(Arc<Node>, Tally)> = self
            .members
            .nodes
            .iter()
            .filter_map(Weak::upgrade)
            .map(|node| {
                let tally = node.tally();
                let mut record = node.record();
                let fresh = tally.minus(record.swept);
                record.swept = tally;
                drop(record);
                (node, fresh)
            })
            .collect();
        for (rule, outliers) in [
            (EjectionRule::ErrorRate, self.by_error_rate(&interval)),
            (EjectionRule::SuccessRateDeviation, self.by_deviation(&interval)),
            (EjectionRule::Latency, self.by_latency(&interval)),
        ] {
            for at in outliers {
                self.eject(&interval[at].0, rule, told);
            }
        }
    }

    fn by_error_rate(&self, interval: &[(Arc<Node>, Tally)]) -> Vec<usize> {
        let Some(limit) = self.rules.error_rate else { return Vec::new() };
        let volume = self.rules.error_rate_volume.max(1);
        let rates = rates(interval, volume);
        worst_first(rates.into_iter().filter(|(_, rate)| 1.0 - rate >= limit))
    }

    /// The success-rate rule of gRPC's A50, with a guard against chance.
    #[expect(clippy::cast_precision_loss, reason = "counts of calls")]
    fn by_deviation(&self, interval: &[(Arc<Node>, Tally)]) -> Vec<usize> {
        let Some(factor) = self.rules.deviation else { return Vec::new() };
        let rates = rates(interval, self.rules.deviation_volume.max(1));
        if rates.len() < self.rules.min_endpoints.max(1) {
            return Vec::new();
        }
        let n = rates.len() as f64;
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / n;
        let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / n;
        let threshold = mean - factor * variance.sqrt();
        let by_chance = |at: usize| {
            let calls = interval[at].1.calls() as f64;
            SIGNIFICANCE * (mean * (1.0 - mean) / calls).sqrt()
        };
        worst_first(
            rates
                .into_iter()
                .filter(|(at, rate)| *rate < threshold && mean - rate > by_chance(*at)),
        )
    }

    fn by_latency(&self, interval: &[(Arc<Node>, Tally)]) -> Vec<usize> {
        let Some(factor) = self.rules.latency else { return Vec::new() };
        let volume = self.rules.latency_volume.max(1);
        let means: Vec<(usize, f64)> = interval
            .iter()
            .enumerate()
            .filter(|(_, (_, tally))| tally.measured >= volume)
            .filter_map(|(at, (_, tally))| Some((at, tally.mean_latency()?.as_secs_f64())))
            .collect();
        if means.len() < self.rules.min_endpoints.max(1) {
            return Vec::new();
        }
        let mut sorted: Vec<f64> = means.iter().map(|(_, mean)| *mean).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        worst_first(
            means
                .into_iter()
                .filter(|(_, mean)| *mean > factor * median)
                .map(|(at, mean)| (at, -mean)),
        )
    }
}

/// The success rates of those that had enough calls and are not ejected already.
#[expect(clippy::cast_precision_loss, reason = "counts of calls")]
fn rates(interval: &[(Arc<Node>, Tally)], volume: u64) -> Vec<(usize, f64)> {
    interval
        .iter()
        .enumerate()
        .filter(|(_, (node, tally))| tally.calls() >= volume && node.ejected_until().is_none())
        .map(|(at, (_, tally))| (at, tally.successes as f64 / tally.calls() as f64))
        .collect()
}

fn worst_first(outliers: impl Iterator<Item = (usize, f64)>) -> Vec<usize> {
    let mut outliers: Vec<_> = outliers.collect();
    outliers.sort_by(|a, b| a.1.total_cmp(&b.1));
    outliers.into_iter().map(|(at, _)| at).collect()
}
