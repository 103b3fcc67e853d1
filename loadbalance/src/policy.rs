use std::{fmt, sync::Arc, time::Duration};

use outrigger_core::{Enforcement, InvalidPolicy};

use crate::{BuildPicker, EjectionPolicy, SlowStartPolicy, SubsetPolicy, ZonePolicy};

#[cfg(feature = "serde")]
mod file;

/// All settings of a [`Balance`](crate::Balance).
///
/// ```
/// use outrigger_loadbalance::{BalancePolicy, Picker};
///
/// let policy = BalancePolicy::builder()
///     .picker(Picker::WeightedRandom)
///     .failover_picks(1)
///     .build()?;
/// assert_eq!(policy.failover_picks(), 1);
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BalancePolicy {
    enforcement: Enforcement,
    picker: Picker,
    failover_picks: u32,
    connect_timeout: Duration,
    ejection: Option<EjectionPolicy>,
    slow_start: Option<SlowStartPolicy>,
    zones: Option<ZonePolicy>,
    subset: Option<SubsetPolicy>,
    seed: Option<u64>,
}

impl BalancePolicy {
    /// Starts from the defaults.
    pub fn builder() -> BalancePolicyBuilder {
        BalancePolicyBuilder::default()
    }

    /// Whether ejection acts. Balancing itself goes on in any case: somebody must be picked.
    #[must_use]
    pub const fn enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// How an endpoint is picked.
    #[must_use]
    pub const fn picker(&self) -> &Picker {
        &self.picker
    }

    /// How many more endpoints a call may go to when one cannot be connected.
    #[must_use]
    pub const fn failover_picks(&self) -> u32 {
        self.failover_picks
    }

    /// How long an endpoint may take to become ready.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// When an endpoint is ejected.
    #[must_use]
    pub const fn ejection(&self) -> Option<&EjectionPolicy> {
        self.ejection.as_ref()
    }

    /// How the share of a new endpoint grows.
    #[must_use]
    pub const fn slow_start(&self) -> Option<&SlowStartPolicy> {
        self.slow_start.as_ref()
    }

    /// How the local zone is preferred.
    #[must_use]
    pub const fn zones(&self) -> Option<&ZonePolicy> {
        self.zones.as_ref()
    }

    /// Which part of the endpoints is used.
    #[must_use]
    pub const fn subset(&self) -> Option<&SubsetPolicy> {
        self.subset.as_ref()
    }

    pub(crate) const fn seed(&self) -> Option<u64> {
        self.seed
    }
}

impl Default for BalancePolicy {
    fn default() -> Self {
        let BalancePolicyBuilder { policy } = BalancePolicyBuilder::default();
        policy
    }
}

/// Builds a [`BalancePolicy`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BalancePolicyBuilder {
    policy: BalancePolicy,
}

impl Default for BalancePolicyBuilder {
    fn default() -> Self {
        Self {
            policy: BalancePolicy {
                enforcement: Enforcement::Enforced,
                picker: Picker::default(),
                failover_picks: 2,
                connect_timeout: Duration::from_secs(1),
                ejection: Some(EjectionPolicy::default()),
                slow_start: None,
                zones: None,
                subset: None,
                seed: None,
            },
        }
    }
}

impl BalancePolicyBuilder {
    /// Whether ejection acts, only says what it would do, or does nothing. Default: enforced.
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.policy.enforcement = enforcement;
        self
    }

    /// How an endpoint is picked. Default: [`Picker::PeakEwma`].
    pub fn picker(mut self, picker: Picker) -> Self {
        self.policy.picker = picker;
        self
    }

    /// How many more endpoints a call may go to when one cannot be connected, so that nothing was
    /// sent. Does not count as a retry. Default: 2.
    pub const fn failover_picks(mut self, picks: u32) -> Self {
        self.policy.failover_picks = picks;
        self
    }

    /// How long an endpoint may take to become ready before the call goes on to another. Default:
    /// 1 s, Finagle's limit for a TCP connect.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.policy.connect_timeout = timeout;
        self
    }

    /// When an endpoint is ejected; `None` for never. Default: [`EjectionPolicy::default`].
    pub fn ejection(mut self, ejection: impl Into<Option<EjectionPolicy>>) -> Self {
        self.policy.ejection = ejection.into();
        self
    }

    /// How the share of a new endpoint grows. Default: `None`, the whole share at once.
    pub fn slow_start(mut self, slow_start: impl Into<Option<SlowStartPolicy>>) -> Self {
        self.policy.slow_start = slow_start.into();
        self
    }

    /// How the local zone is preferred. Default: `None`, zones do not matter.
    pub fn zones(mut self, zones: impl Into<Option<ZonePolicy>>) -> Self {
        self.policy.zones = zones.into();
        self
    }

    /// Which part of the endpoints is used. Default: `None`, all.
    pub fn subset(mut self, subset: impl Into<Option<SubsetPolicy>>) -> Self {
        self.policy.subset = subset.into();
        self
    }

    /// Makes the random numbers repeatable, for tests and simulations. Default: none.
    pub fn seed(mut self, seed: impl Into<Option<u64>>) -> Self {
        self.policy.seed = seed.into();
        self
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] names the field: `connect_timeout` must not be 0; the settings of the
    /// picker must be possible (see [`Picker`]).
    pub fn build(self) -> Result<BalancePolicy, InvalidPolicy> {
        let Self { policy } = self;
        if policy.connect_timeout.is_zero() {
            let value = policy.connect_timeout;
            return Err(InvalidPolicy::new("connect_timeout", value, "longer than 0"));
        }
        policy.picker.check()?;
        Ok(policy)
    }
}

/// How an endpoint is picked.
///
/// | picker | source | cost of a pick | use it when |
/// | --- | --- | --- | --- |
/// | [`WeightedRandom`](Self::WeightedRandom) | alias table, Walker 1977, Vose 1991 | O(1), one random number | calls are alike and many; the cheapest, and no state between callers |
/// | [`RoundRobin`](Self::RoundRobin) | | O(1), one counter | endpoints and calls are alike and few; weights do not matter |
/// | [`SmoothWeightedRoundRobin`](Self::SmoothWeightedRoundRobin) | earliest deadline first, as in Envoy; precomputed | O(1), one counter | exact shares by weight, also over few calls |
/// | [`LeastPending`](Self::LeastPending) | two choices, Mitzenmacher 1996 | O(1), two random numbers | calls differ much in length, one caller carries most of the load |
/// | [`PeakEwma`](Self::PeakEwma) | Finagle's, with two choices | O(1), two random numbers, the clock | the default: also avoids endpoints that are slow for others |
/// | [`Reported`](Self::Reported) | gRPC's A58, static stride | one counter; O(highest / mean weight) turns | endpoints report their load and differ much in strength |
/// | [`ConsistentHash`](Self::ConsistentHash) | ring, Karger 1997, Kitex; bounded loads, Mirrokni et al. 2016 | O(log points) | a key should stay with its endpoint: caches, sessions |
/// | [`Maglev`](Self::Maglev) | Eisenbud et al. 2016 | O(1), one table look-up | as before, with more even load and a few more keys moved on change |
/// | [`PickFirst`](Self::PickFirst) | gRPC's `pick_first` | O(unusable ones before) | one endpoint should have all calls, the others stand by |
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Picker {
    /// At random, in proportion to the weights.
    WeightedRandom,
    /// One after the other, each as often. Weight 0 is left out.
    RoundRobin,
    /// One after the other, each in proportion to its weight and evenly spread.
    SmoothWeightedRoundRobin,
    /// The one of two with fewer calls in flight for its weight.
    LeastPending {
        /// How long an endpoint counts as busy after a failure, so that failing fast does not
        /// attract calls. Usual: 5 s.
        failure_penalty: Duration,
    },
    /// The one of two with the lower latency times calls in flight for its weight.
    PeakEwma {
        /// How fast old latencies are forgotten. Usual: 10 s, Finagle's.
        decay: Duration,
        /// What latency a failure counts as, at least. Usual: 5 s.
        failure_penalty: Duration,
    },
    /// One after the other, each in proportion to the capacity that the endpoints report
    /// ([`Balance::report`](crate::Balance::report), or trailers with the feature `orca`); without
    /// fresh reports, by the mean of the others.
    Reported(ReportedPolicy),
    /// By the request's key, on a ring of points.
    ConsistentHash {
        /// Points on the ring per unit of weight. Usual: 100, Kitex's. Beyond 2^20 points in all,
        /// or 100 per endpoint if that is more, all endpoints have half as many, and so on.
        points_per_weight: u32,
        /// An endpoint gets at most this multiple of its share of the calls in flight; what is
        /// beyond goes on around the ring. `None`: no bound. Usual: 1.25.
        load_bound: Option<f64>,
        /// What to do without a key.
        without_key: WithoutKey,
    },
    /// By the request's key, from a table.
    Maglev {
        /// Slots of the table, a prime number; should be over 100 times the number of endpoints.
        /// Usual: 65 537.
        table_size: u32,
        /// What to do without a key.
        without_key: WithoutKey,
    },
    /// All calls to one endpoint: the first that is usable. Weights do not matter, but 0.
    PickFirst {
        /// First is who comes first by key, or in an order that each balancer draws for itself
        /// (gRPC's `shuffleAddressList`, A62), so that not all callers go to the same endpoint.
        shuffle: bool,
    },
    /// A picker of the user's own. It is built while the balancer's endpoints are locked, so that
    /// they are those it is built for: a build must not ask or change the balancer, or it waits
    /// for ever. Picks run under no lock.
    Custom(CustomPicker),
}

impl Default for Picker {
    fn default() -> Self {
        Self::peak_ewma()
    }
}

impl Picker {
    /// [`LeastPending`](Self::LeastPending) with the usual settings.
    #[must_use]
    pub const fn least_pending() -> Self {
        Self::LeastPending { failure_penalty: Duration::from_secs(5) }
    }

    /// [`PeakEwma`](Self::PeakEwma) with the usual settings.
    #[must_use]
    pub const fn peak_ewma() -> Self {
        Self::PeakEwma { decay: Duration::from_secs(10), failure_penalty: Duration::from_secs(5) }
    }

    /// [`ConsistentHash`](Self::ConsistentHash) with the usual settings and no bound.
    #[must_use]
    pub const fn consistent_hash() -> Self {
        Self::ConsistentHash {
            points_per_weight: 100,
            load_bound: None,
            without_key: WithoutKey::Random,
        }
    }

    /// [`ConsistentHash`](Self::ConsistentHash) with the usual settings, bounded at 1.25.
    #[must_use]
    pub const fn bounded_consistent_hash() -> Self {
        Self::ConsistentHash {
            points_per_weight: 100,
            load_bound: Some(1.25),
            without_key: WithoutKey::Random,
        }
    }

    /// [`Maglev`](Self::Maglev) with the usual settings.
    #[must_use]
    pub const fn maglev() -> Self {
        Self::Maglev { table_size: 65_537, without_key: WithoutKey::Random }
    }

    /// [`Reported`](Self::Reported) with gRPC's settings.
    #[must_use]
    pub const fn reported() -> Self {
        Self::Reported(ReportedPolicy::GRPC)
    }

    /// A picker of the user's own. See [`Custom`](Self::Custom) for what a build must not do.
    pub fn custom(build: impl BuildPicker) -> Self {
        Self::Custom(CustomPicker(Arc::new(build)))
    }

    fn check(&self) -> Result<(), InvalidPolicy> {
        match self {
            Self::PeakEwma { decay, .. } if decay.is_zero() => {
                Err(InvalidPolicy::new("picker.decay", decay, "longer than 0"))
            }
            Self::ConsistentHash { points_per_weight: 0, .. } => {
                Err(InvalidPolicy::new("picker.points_per_weight", 0, "at least 1"))
            }
            Self::ConsistentHash { load_bound: Some(bound), .. }
                if !(bound.is_finite() && *bound > 1.0) =>
            {
                Err(InvalidPolicy::new("picker.load_bound", bound, "a factor above 1"))
            }
            Self::Maglev { table_size, .. }
                if !(3..=5_000_011).contains(table_size) || !is_prime(*table_size) =>
            {
                let expected = "a prime number from 3 to 5000011";
                Err(InvalidPolicy::new("picker.table_size", table_size, expected))
            }
            Self::Reported(policy)
                if !(policy.error_penalty.is_finite() && policy.error_penalty >= 0.0) =>
            {
                let value = policy.error_penalty;
                Err(InvalidPolicy::new("picker.error_penalty", value, "a factor of at least 0"))
            }
            _ => Ok(()),
        }
    }
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// What a consistent hash does with a request that has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WithoutKey {
    /// Picks at random by weight, as gRPC's ring hash does (A76).
    #[default]
    Random,
    /// Refuses the call, reason `no_hash_key`.
    Refuse,
}

/// How reported load becomes a weight: gRPC's A58.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportedPolicy {
    /// A new endpoint's reports count only after it has reported for this long. Usual: 10 s.
    pub blackout: Duration,
    /// A report is forgotten after this long. Usual: 3 min.
    pub expiration: Duration,
    /// How much a share of errors lowers the weight. Usual: 1.0.
    pub error_penalty: f64,
}

impl ReportedPolicy {
    const GRPC: Self = Self {
        blackout: Duration::from_secs(10),
        expiration: Duration::from_secs(180),
        error_penalty: 1.0,
    };
}

impl Default for ReportedPolicy {
    fn default() -> Self {
        Self::GRPC
    }
}

/// A picker of the user's own, as a setting.
#[derive(Clone)]
pub struct CustomPicker(pub(crate) Arc<dyn BuildPicker>);

/// The same value, not merely the same kind.
impl PartialEq for CustomPicker {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for CustomPicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomPicker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(picker: Picker) -> &'static str {
        BalancePolicy::builder().picker(picker).build().unwrap_err().field()
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        let without_key = WithoutKey::Random;
        for table_size in [0, 4, 65_536, 5_000_077] {
            assert_eq!(refused(Picker::Maglev { table_size, without_key }), "picker.table_size");
        }
        for bound in [f64::NAN, f64::INFINITY, 1.0, 0.0, -1.0] {
            let picker = Picker::ConsistentHash {
                points_per_weight: 1,
                load_bound: Some(bound),
                without_key,
            };
            assert_eq!(refused(picker), "picker.load_bound");
        }
        let picker = Picker::ConsistentHash { points_per_weight: 0, load_bound: None, without_key };
        assert_eq!(refused(picker), "picker.points_per_weight");
        let zero = BalancePolicy::builder().connect_timeout(Duration::ZERO).build();
        assert_eq!(zero.unwrap_err().field(), "connect_timeout");
    }
}
