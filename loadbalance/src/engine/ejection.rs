use std::{num::NonZeroU32, time::Duration};

use outrigger_core::InvalidPolicy;

/// When an endpoint is taken out of the picking for a while, and when it comes back.
///
/// The rules are joined by "or". Defaults are gRPC's (A50) and Envoy's where they have one; the
/// error rate is that of Kitex's instance breaker.
///
/// ```
/// use outrigger_loadbalance::EjectionPolicy;
///
/// let policy = EjectionPolicy::builder().consecutive_failures(3).max_ejected(0.3).build()?;
/// assert_eq!(policy.max_ejected(), 0.3);
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionPolicy {
    pub(crate) consecutive_failures: Option<NonZeroU32>,
    pub(crate) failing_for: Option<Duration>,
    pub(crate) error_rate: Option<f64>,
    pub(crate) error_rate_volume: u64,
    pub(crate) deviation: Option<f64>,
    pub(crate) deviation_volume: u64,
    pub(crate) latency: Option<f64>,
    pub(crate) latency_volume: u64,
    pub(crate) min_endpoints: usize,
    pub(crate) interval: Duration,
    pub(crate) base_time: Duration,
    pub(crate) max_time: Duration,
    pub(crate) jitter: f64,
    pub(crate) max_ejected: f64,
    pub(crate) may_eject_last: bool,
    pub(crate) panic_threshold: f64,
    pub(crate) probation_successes: u32,
}

impl EjectionPolicy {
    /// Starts from the defaults.
    pub fn builder() -> EjectionPolicyBuilder {
        EjectionPolicyBuilder { policy: Self::default() }
    }

    /// The share of endpoints that may be ejected at a time, the new one counted.
    #[must_use]
    pub const fn max_ejected(&self) -> f64 {
        self.max_ejected
    }

    /// The share of healthy endpoints below which ejections are disregarded.
    #[must_use]
    pub const fn panic_threshold(&self) -> f64 {
        self.panic_threshold
    }

    /// How many of `total` endpoints may be ejected at a time: the share, but at least one, and
    /// never the last unless allowed.
    pub(crate) fn cap(&self, total: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count"
        )]
        let share = (self.max_ejected * total as f64 + 1e-9).floor() as usize;
        let at_most = if self.may_eject_last { total } else { total.saturating_sub(1) };
        share.max(1).min(at_most)
    }

    /// Whether so many failures in a row, the first of them so long ago, are too many.
    pub(crate) fn is_too_long(&self, streak: u32, since_first: Duration) -> bool {
        let Some(limit) = self.consecutive_failures else { return false };
        streak >= limit.get()
            || streak >= 2 && self.failing_for.is_some_and(|longest| since_first >= longest)
    }

    /// How long the `times`-th ejection lasts, before jitter.
    pub(crate) fn time(&self, times: u32) -> Duration {
        self.base_time.saturating_mul(times).min(self.max_time.max(self.base_time))
    }
}

impl Default for EjectionPolicy {
    fn default() -> Self {
        Self {
            consecutive_failures: NonZeroU32::new(5),
            failing_for: Some(Duration::from_secs(30)),
            error_rate: Some(0.5),
            error_rate_volume: 50,
            deviation: Some(1.9),
            deviation_volume: 100,
            latency: None,
            latency_volume: 100,
            min_endpoints: 5,
            interval: Duration::from_secs(10),
            base_time: Duration::from_secs(30),
            max_time: Duration::from_secs(300),
            jitter: 0.1,
            max_ejected: 0.1,
            may_eject_last: false,
            panic_threshold: 0.5,
            probation_successes: 2,
        }
    }
}

/// Builds an [`EjectionPolicy`].
#[derive(Clone, Debug)]
#[must_use]
pub struct EjectionPolicyBuilder {
    policy: EjectionPolicy,
}

impl EjectionPolicyBuilder {
    /// Ejects after so many failures in a row; 0 switches the rule off. Default: 5 (Envoy).
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.policy.consecutive_failures = NonZeroU32::new(failures);
        self
    }

    /// With [`consecutive_failures`](Self::consecutive_failures), ejects also after fewer failures
    /// in a row, two at least, when the first of them is this long ago. An endpoint that pickers
    /// avoid, as two choices do with one that fails, is called so rarely that it would not be
    /// found out by their number for minutes. Default: 30 s, the time of a first ejection.
    pub fn failing_for(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.policy.failing_for = time.into();
        self
    }

    /// Ejects when this share of an interval's calls failed. It also sees what the deviation rule
    /// cannot: that many endpoints are bad. Default: 0.5 (Kitex's instance breaker).
    pub fn error_rate(mut self, share: impl Into<Option<f64>>) -> Self {
        self.policy.error_rate = share.into();
        self
    }

    /// How many calls an endpoint needs in an interval for the error rate. Default: 50 (A50).
    pub const fn error_rate_volume(mut self, calls: u64) -> Self {
        self.policy.error_rate_volume = calls;
        self
    }

    /// Ejects when the success rate lies this many standard deviations below the mean of all, and
    /// the difference is no chance (over five standard errors of the mean rate). Blind when a
    /// share of `1 / (1 + factor²)` is bad: 21.7 % for 1.9. Default: 1.9 (A50).
    pub fn deviation(mut self, factor: impl Into<Option<f64>>) -> Self {
        self.policy.deviation = factor.into();
        self
    }

    /// How many calls an endpoint needs in an interval for the deviation. Default: 100 (A50).
    pub const fn deviation_volume(mut self, calls: u64) -> Self {
        self.policy.deviation_volume = calls;
        self
    }

    /// Ejects when the mean latency of an interval is this many times the median of the endpoints'
    /// means. Reads the clock twice per call. Default: off.
    pub fn latency(mut self, factor: impl Into<Option<f64>>) -> Self {
        self.policy.latency = factor.into();
        self
    }

    /// How many calls an endpoint needs in an interval for the latency. Default: 100.
    pub const fn latency_volume(mut self, calls: u64) -> Self {
        self.policy.latency_volume = calls;
        self
    }

    /// How many endpoints with enough calls the rules that compare them need. Default: 5 (A50).
    pub const fn min_endpoints(mut self, endpoints: usize) -> Self {
        self.policy.min_endpoints = endpoints;
        self
    }

    /// Over which time rates are taken. Default: 10 s (A50).
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.policy.interval = interval;
        self
    }

    /// How long the first ejection lasts; the n-th in a row lasts n times that. Each healthy
    /// interval in between takes one off. Default: 30 s (A50).
    pub const fn base_time(mut self, time: Duration) -> Self {
        self.policy.base_time = time;
        self
    }

    /// How long an ejection lasts at most, before jitter. Default: 300 s (A50).
    pub const fn max_time(mut self, time: Duration) -> Self {
        self.policy.max_time = time;
        self
    }

    /// Lengthens each ejection at random by up to this share, so that endpoints that were ejected
    /// together do not return together. Default: 0.1.
    pub const fn jitter(mut self, share: f64) -> Self {
        self.policy.jitter = share;
        self
    }

    /// The share of endpoints that may be ejected at a time, *after* the ejection; one always may.
    /// Default: 0.1 (A50).
    pub const fn max_ejected(mut self, share: f64) -> Self {
        self.policy.max_ejected = share;
        self
    }

    /// Whether the last healthy endpoint may be ejected. Default: no.
    pub const fn may_eject_last(mut self, may: bool) -> Self {
        self.policy.may_eject_last = may;
        self
    }

    /// The share of healthy endpoints below which ejections are disregarded and all are balanced
    /// over. Default: 0.5 (Envoy).
    pub const fn panic_threshold(mut self, share: f64) -> Self {
        self.policy.panic_threshold = share;
        self
    }

    /// How many successes end the probation of an endpoint that returned; a failure before that
    /// ejects it again. Default: 2 (Kitex's half-open state).
    pub const fn probation_successes(mut self, successes: u32) -> Self {
        self.policy.probation_successes = successes;
        self
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] names the field: shares lie between 0 and 1, factors above 0 (latency:
    /// above 1), and `interval` and `base_time` are longer than 0.
    pub fn build(self) -> Result<EjectionPolicy, InvalidPolicy> {
        let Self { policy } = self;
        let share = |field, value: Option<f64>| match value {
            Some(value) if !(0.0..=1.0).contains(&value) => {
                Err(InvalidPolicy::new(field, value, "a share from 0 to 1"))
            }
            _ => Ok(()),
        };
        share("ejection.error_rate", policy.error_rate)?;
        share("ejection.jitter", Some(policy.jitter))?;
        share("ejection.max_ejected", Some(policy.max_ejected))?;
        share("ejection.panic_threshold", Some(policy.panic_threshold))?;
        let above = |field, value: Option<f64>, least: f64, expected| match value {
            Some(value) if !(value.is_finite() && value > least) => {
                Err(InvalidPolicy::new(field, value, expected))
            }
            _ => Ok(()),
        };
        above("ejection.deviation", policy.deviation, 0.0, "a factor above 0")?;
        above("ejection.latency", policy.latency, 1.0, "a factor above 1")?;
        for (field, time) in
            [("ejection.interval", policy.interval), ("ejection.base_time", policy.base_time)]
        {
            if time.is_zero() {
                return Err(InvalidPolicy::new(field, time, "longer than 0"));
            }
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_pools_lose_at_most_one_and_never_the_last() {
        let cap =
            |share, total| EjectionPolicy::builder().max_ejected(share).build().unwrap().cap(total);
        assert_eq!([0.1, 0.5, 0.67].map(|share| cap(share, 1)), [0, 0, 0]);
        assert_eq!([0.1, 0.5, 0.67].map(|share| cap(share, 2)), [1, 1, 1]);
        assert_eq!([0.1, 0.5, 0.67].map(|share| cap(share, 3)), [1, 1, 2]);
        assert_eq!([0.1, 0.5, 1.0].map(|share| cap(share, 10)), [1, 5, 9]);
        let last = EjectionPolicy::builder().may_eject_last(true).build().unwrap();
        assert_eq!(last.cap(1), 1);
    }

    #[test]
    fn many_failures_in_a_row_are_too_many_and_so_are_two_that_lie_far_apart() {
        let seconds = Duration::from_secs;
        let policy = EjectionPolicy::default();
        let too_long = |policy: &EjectionPolicy| {
            [(5, 0), (4, 29), (2, 30), (1, 1_000)]
                .map(|(streak, since)| policy.is_too_long(streak, seconds(since)))
        };
        assert_eq!(too_long(&policy), [true, false, true, false]);
        let by_number = EjectionPolicy::builder().failing_for(None).build().unwrap();
        assert_eq!(too_long(&by_number), [true, false, false, false]);
        let off = EjectionPolicy::builder().consecutive_failures(0).build().unwrap();
        assert_eq!(too_long(&off), [false; 4]);
    }

    #[test]
    fn ejections_grow_to_a_cap_and_do_not_overflow() {
        let policy = EjectionPolicy::default();
        let times = [1, 2, 9, 10, 11, u32::MAX].map(|times| policy.time(times).as_secs());
        assert_eq!(times, [30, 60, 270, 300, 300, 300]);
        let long = EjectionPolicy::builder().base_time(Duration::MAX).build().unwrap();
        assert_eq!(long.time(3), Duration::MAX);
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        let field = |builder: EjectionPolicyBuilder| builder.build().unwrap_err().field();
        let builder = EjectionPolicy::builder;
        assert_eq!(field(builder().error_rate(1.1)), "ejection.error_rate");
        assert_eq!(field(builder().jitter(f64::NAN)), "ejection.jitter");
        assert_eq!(field(builder().max_ejected(-0.1)), "ejection.max_ejected");
        assert_eq!(field(builder().panic_threshold(2.0)), "ejection.panic_threshold");
        assert_eq!(field(builder().deviation(0.0)), "ejection.deviation");
        assert_eq!(field(builder().latency(1.0)), "ejection.latency");
        assert_eq!(field(builder().interval(Duration::ZERO)), "ejection.interval");
    }
}
