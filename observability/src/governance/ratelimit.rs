use std::time::Duration;

use outrigger_core::Observe;
use outrigger_ratelimit::{
    AdaptiveLimit, AdaptiveLimitEvent, ClientThrottleEvent, ConcurrencyLimit,
    ConcurrencyLimitEvent, RateLimit, RateLimitEvent,
};

use super::{GovernanceMetrics, Watched, words::enforcement};
use crate::names;

const LAYER: &str = "ratelimit";
const ADAPTIVE: &str = "adaptive";
const CONCURRENCY: &str = "concurrency";
const RATE: &str = "rate";

impl Observe<ConcurrencyLimitEvent> for GovernanceMetrics {
    fn observe(&self, key: &str, event: &ConcurrencyLimitEvent) {
        match *event {
            ConcurrencyLimitEvent::Refused { reason, shadow, .. } => {
                self.rejected(LAYER, key, reason.reason(), shadow);
            }
            ConcurrencyLimitEvent::Waited { wait, .. } => {
                self.waited(key, CONCURRENCY, wait, false);
            }
            // How long is not known, since it did not happen.
            ConcurrencyLimitEvent::WouldWait { .. } => {
                self.waited(key, CONCURRENCY, Duration::ZERO, true);
            }
            _ => {}
        }
    }
}

/// How the limit moves is shown by [`GovernanceMetrics::watch_adaptive`].
impl Observe<AdaptiveLimitEvent> for GovernanceMetrics {
    fn observe(&self, key: &str, event: &AdaptiveLimitEvent) {
        match *event {
            AdaptiveLimitEvent::Refused { reason, shadow, .. } => {
                self.rejected(LAYER, key, reason.reason(), shadow);
            }
            AdaptiveLimitEvent::Waited { wait, .. } => self.waited(key, ADAPTIVE, wait, false),
            AdaptiveLimitEvent::WouldWait { .. } => {
                self.waited(key, ADAPTIVE, Duration::ZERO, true);
            }
            _ => {}
        }
    }
}

impl Observe<RateLimitEvent> for GovernanceMetrics {
    fn observe(&self, key: &str, event: &RateLimitEvent) {
        match *event {
            RateLimitEvent::Refused { reason, shadow, .. } => {
                self.rejected(LAYER, key, reason.reason(), shadow);
            }
            RateLimitEvent::Waited { wait } => self.waited(key, RATE, wait, false),
            RateLimitEvent::WouldWait { wait } => self.waited(key, RATE, wait, true),
            _ => {}
        }
    }
}

impl Observe<ClientThrottleEvent> for GovernanceMetrics {
    fn observe(&self, key: &str, event: &ClientThrottleEvent) {
        if let ClientThrottleEvent::Refused { shadow, .. } = *event {
            self.rejected(LAYER, key, outrigger_ratelimit::THROTTLED, shadow);
        }
    }
}

impl GovernanceMetrics {
    /// Shows how many calls may run, how many do, and how many wait.
    pub fn watch_concurrency<O>(&self, limit: &ConcurrencyLimit<O>) -> Watched
    where
        O: Send + Sync + 'static,
        ConcurrencyLimit<O>: Clone,
    {
        let limit = limit.clone();
        self.watch(move |families| {
            let labels = [(names::KEY, limit.name()), (names::SORT, CONCURRENCY)];
            families.set(names::LIMIT, &labels, limit.policy().load().limit().into());
            families.set(names::LIMIT_IN_USE, &labels, limit.in_flight().into());
            families.set(names::LIMIT_WAITING, &labels, limit.waiting().into());
        })
    }

    /// Shows how many calls an adaptive limit lets run at present, how many do, and how many wait.
    pub fn watch_adaptive<O>(&self, limit: &AdaptiveLimit<O>) -> Watched
    where
        O: Send + Sync + 'static,
    {
        let limit = limit.clone();
        self.watch(move |families| {
            let labels = [(names::KEY, limit.name()), (names::SORT, ADAPTIVE)];
            let status = limit.status();
            families.set(names::LIMIT, &labels, status.limit.into());
            families.set(names::LIMIT_IN_USE, &labels, status.in_flight.into());
            families.set(names::LIMIT_WAITING, &labels, status.waiting.into());
        })
    }

    /// Shows how many tokens a bucket holds, how many are taken, and how many calls wait.
    pub fn watch_rate<O>(&self, limit: &RateLimit<O>) -> Watched
    where
        O: Observe<RateLimitEvent> + Send + Sync + 'static,
        RateLimit<O>: Clone,
    {
        let limit = limit.clone();
        self.watch(move |families| {
            let burst = limit.policy().load().burst();
            let labels = [(names::KEY, limit.name()), (names::SORT, RATE)];
            families.set(names::LIMIT, &labels, burst.into());
            let taken = burst.saturating_sub(limit.tokens());
            families.set(names::LIMIT_IN_USE, &labels, taken.into());
            families.set(names::LIMIT_WAITING, &labels, limit.waiting().into());
        })
    }

    fn waited(&self, key: &str, sort: &'static str, wait: Duration, shadow: bool) {
        let labels = [
            (names::KEY, self.key(key)),
            (names::SORT, sort),
            (names::ENFORCEMENT, enforcement(shadow)),
        ];
        self.shared.families.record(names::LIMIT_WAIT, &labels, wait.as_secs_f64());
    }
}
