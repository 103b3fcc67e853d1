//! When a window ends, and what is kept from one to the next.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    engine::{Decision, Engine},
    limiter::{Aimd, Gradient2, Limiter, Vegas},
    policy::{AdaptiveLimitPolicy, LimitAlgorithm},
    window::{Counts, Tally},
};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What calls count in, without a lock.
#[derive(Debug)]
pub(super) struct Windows {
    start: Instant,
    tallies: Box<[Tally]>,
    /// When the present window may end, in nanoseconds after `start`.
    end_ns: AtomicU64,
    /// What a call takes, in nanoseconds; 0 when it is not known.
    normal_ns: AtomicU64,
    /// How many calls were let pass beyond the limit.
    beyond: AtomicU32,
}

impl Windows {
    pub(super) fn new(policy: &AdaptiveLimitPolicy, stripes: usize, start: Instant) -> Self {
        Self {
            start,
            tallies: (0..stripes).map(|_| Tally::default()).collect(),
            end_ns: AtomicU64::new(nanos(policy.min_window())),
            normal_ns: AtomicU64::new(0),
            beyond: AtomicU32::new(0),
        }
    }

    pub(super) fn tally(&self, stripe: usize) -> &Tally {
        &self.tallies[stripe]
    }

    pub(super) fn may_end(&self, now: Instant) -> bool {
        self.ns(now) >= self.end_ns.load(Ordering::Relaxed)
    }

    fn ns(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.start))
    }

    pub(super) fn beyond(&self) -> u32 {
        self.beyond.load(Ordering::Relaxed)
    }

    pub(super) fn pass_beyond(&self) {
        self.beyond.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave_beyond(&self) {
        self.beyond.fetch_sub(1, Ordering::Relaxed);
    }

    /// The present window is over at `end` at the latest.
    pub(super) fn end_by(&self, end: Instant) {
        self.end_ns.fetch_min(self.ns(end), Ordering::Relaxed);
    }

    pub(super) fn normal_latency(&self) -> Option<Duration> {
        match self.normal_ns.load(Ordering::Relaxed) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What one window hands to the next.
#[derive(Debug)]
pub(super) struct State {
    engine: Engine,
    policy: AdaptiveLimitPolicy,
    has_own_limiter: bool,
}

impl State {
    pub(super) fn new(policy: AdaptiveLimitPolicy, own: Option<Box<dyn Limiter>>) -> Self {
        let has_own_limiter = own.is_some();
        let limiter = own.unwrap_or_else(|| make(policy.algorithm()));
        Self { engine: Engine::new(limiter, &policy), policy, has_own_limiter }
    }

    /// The calls that may run.
    pub(super) fn places(&self) -> u32 {
        self.engine.places(&self.policy)
    }

    pub(super) const fn policy(&self) -> &AdaptiveLimitPolicy {
        &self.policy
    }

    /// Acts by `policy` from now on. The calls that may run.
    pub(super) fn set_policy(&mut self, policy: AdaptiveLimitPolicy) -> u32 {
        if policy.algorithm() != self.policy.algorithm() && !self.has_own_limiter {
            self.engine.set_limiter(make(policy.algorithm()));
        }
        self.policy = policy;
        self.engine.set_policy(&policy);
        self.places()
    }

    /// Ends the window if it has lasted long enough and seen enough.
    pub(super) fn end_window(&mut self, windows: &Windows, now: Instant) -> Option<Decision> {
        // Another call may have ended it since this one looked.
        if !windows.may_end(now) {
            return None;
        }
        let mut counts = Counts::default();
        windows.tallies.iter().for_each(|tally| tally.add_to(&mut counts));
        // A callee that hangs ends few calls. As many drops as calls may run say enough.
        let hangs = counts.dropped >= self.places();
        if counts.ended() < self.engine.samples(&self.policy) && !hangs {
            return None;
        }
        let mut counts = Counts::default();
        windows.tallies.iter().for_each(|tally| tally.take_into(&mut counts));
        let at = now.saturating_duration_since(windows.start);
        let decision = self.engine.end_window(&counts, at, &self.policy);
        let end = windows.ns(now).saturating_add(nanos(decision.next_window));
        windows.end_ns.store(end, Ordering::Relaxed);
        let normal = self.engine.normal().map_or(0, |s| nanos(Duration::from_secs_f64(s)));
        windows.normal_ns.store(normal, Ordering::Relaxed);
        Some(decision)
    }
}

fn make(algorithm: LimitAlgorithm) -> Box<dyn Limiter> {
    match algorithm {
        LimitAlgorithm::Vegas => Box::new(Vegas::new()),
        LimitAlgorithm::Gradient2 => Box::new(Gradient2::new()),
        LimitAlgorithm::Aimd => Box::new(Aimd::new()),
    }
}
