use std::{cmp::Reverse, fmt, hash::Hash};

use outrigger_core::{Criticality, Enforcement, Live};
use outrigger_ratelimit::{
    AdaptiveLimit, AdaptiveLimitPolicy, ClientThrottle, ClientThrottlePolicy, ConcurrencyLimit,
    ConcurrencyLimitPolicy, RateLimit, RateLimitPolicy, WeakAdaptiveLimit, WeakAdaptiveLimitPanel,
    WeakClientThrottle, WeakConcurrencyLimit, WeakConcurrencyLimitPanel, WeakConnectionLimit,
    WeakRateLimit, WeakRateLimitPanel,
};

use super::{CannotChange, Change, Diagnose, Part, as_data, enforcement_word, keep_first};
use crate::diagnosis::snapshot::LimitRow;

macro_rules! limit_alone {
    ($Weak:ident, $row:expr) => {
        impl<O: Send + Sync + 'static> Diagnose for $Weak<O> {
            fn snapshot(&self) -> Option<Part> {
                let rows = vec![$row(&self.upgrade()?)];
                Some(Part::Limits { rows, left_out: 0 })
            }

            fn change(&self, _key: &str, change: Change) -> Result<(), CannotChange> {
                let limit = self.upgrade().ok_or(CannotChange::NotFound)?;
                enforce(limit.policy(), change)?;
                limit.refresh();
                Ok(())
            }
        }
    };
}

limit_alone!(WeakAdaptiveLimit, adaptive);
limit_alone!(WeakConcurrencyLimit, concurrency);
limit_alone!(WeakRateLimit, rate);
limit_alone!(WeakClientThrottle, throttle);
limit_alone!(WeakConnectionLimit, |limit: &outrigger_ratelimit::ConnectionLimit<O>| {
    let policy = limit.policy().get();
    LimitRow {
        kind: "connections",
        limit: Some(policy.limit().into()),
        used: limit.open().into(),
        waiting: limit.waiting().into(),
        ..blank(limit.policy(), "connections")
    }
});

macro_rules! limits_of_panel {
    ($Weak:ident, $row:expr) => {
        /// A change is one of the policy, which all keys share.
        impl<K, O> Diagnose for $Weak<K, O>
        where
            K: Hash + Eq + Clone + fmt::Display + Send + Sync + 'static,
            O: Send + Sync + 'static,
        {
            fn snapshot(&self) -> Option<Part> {
                let listed = self.upgrade()?.list();
                let shared = |(_, limit)| LimitRow { shares_policy: true, ..$row(limit) };
                let mut rows: Vec<_> =
                    listed.iter().map(|(key, limit)| (key, limit)).map(shared).collect();
                let left_out = keep_first(&mut rows, |row| Reverse((row.waiting, row.used)));
                rows.sort_by(|a, b| a.key.cmp(&b.key));
                Some(Part::Limits { rows, left_out })
            }

            fn change(&self, key: &str, change: Change) -> Result<(), CannotChange> {
                let panel = self.upgrade().ok_or(CannotChange::NotFound)?;
                let listed = panel.list();
                if !listed.iter().any(|(_, limit)| limit.name() == key) {
                    return Err(CannotChange::NotFound);
                }
                enforce(panel.policy(), change)?;
                for (_, limit) in &listed {
                    limit.refresh();
                }
                Ok(())
            }
        }
    };
}

limits_of_panel!(WeakAdaptiveLimitPanel, adaptive);
limits_of_panel!(WeakConcurrencyLimitPanel, concurrency);
limits_of_panel!(WeakRateLimitPanel, rate);

fn adaptive<O>(limit: &AdaptiveLimit<O>) -> LimitRow {
    let status = limit.status();
    LimitRow {
        kind: "adaptive",
        limit: Some(status.limit.into()),
        used: status.in_flight.into(),
        waiting: status.waiting.into(),
        ..blank(limit.policy(), limit.name())
    }
}

fn concurrency<O>(limit: &ConcurrencyLimit<O>) -> LimitRow {
    LimitRow {
        limit: Some(limit.limit().into()),
        used: limit.in_flight().into(),
        waiting: limit.waiting().into(),
        ..blank(limit.policy(), limit.name())
    }
}

fn rate<O>(limit: &RateLimit<O>) -> LimitRow {
    let policy = limit.policy().get();
    LimitRow {
        kind: "rate",
        limit: Some(policy.burst().into()),
        used: policy.burst().saturating_sub(limit.tokens()).into(),
        waiting: limit.waiting().into(),
        per_second: Some(f64::from(policy.rate()) / policy.period().as_secs_f64()),
        ..blank(limit.policy(), limit.name())
    }
}

fn throttle<O>(throttle: &ClientThrottle<O>) -> LimitRow {
    LimitRow {
        kind: "throttle",
        used: throttle.counts(Criticality::Critical).requests.into(),
        refused_share: Some(throttle.refusal_probability(Criticality::Critical)),
        ..blank(throttle.policy(), throttle.name())
    }
}

fn blank<P: LimitPolicy>(policy: &Live<P>, key: &str) -> LimitRow {
    let (policy_version, policy) = (policy.version(), policy.get());
    LimitRow {
        id: String::new(),
        part: 0,
        name: String::new(),
        key: key.to_owned(),
        kind: "concurrency",
        enforcement: enforcement_word(policy.enforcement()),
        limit: None,
        used: 0,
        waiting: 0,
        per_second: None,
        refused_share: None,
        shares_policy: false,
        policy_version,
        policy: as_data(&*policy),
    }
}

fn enforce<P: LimitPolicy>(live: &Live<P>, change: Change) -> Result<(), CannotChange> {
    let enforcement = change.enforcement().filter(|_| change != Change::ForceClosed);
    let enforcement = enforcement.ok_or(CannotChange::Unsupported)?;
    live.update(|policy| policy.with(enforcement));
    Ok(())
}

/// What the policies of limits have in common.
trait LimitPolicy: serde::Serialize {
    fn enforcement(&self) -> Enforcement;
    fn with(&self, enforcement: Enforcement) -> Self;
}

macro_rules! limit_policy {
    ($Policy:ty) => {
        impl LimitPolicy for $Policy {
            fn enforcement(&self) -> Enforcement {
                <$Policy>::enforcement(self)
            }

            fn with(&self, enforcement: Enforcement) -> Self {
                self.with_enforcement(enforcement)
            }
        }
    };
}

limit_policy!(AdaptiveLimitPolicy);
limit_policy!(ClientThrottlePolicy);
limit_policy!(ConcurrencyLimitPolicy);
limit_policy!(RateLimitPolicy);
