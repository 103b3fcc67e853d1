use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::EjectionPolicy;

in_file!(EjectionInFile {
    /// Ejects after so many failures in a row. 0 takes the rule out.
    consecutive_failures: u32 = 5,
    /// Ejects after at least two failures in a row of which the first is so long ago. Null takes the
    /// rule out.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<outrigger_core::DurationInFile>"))]
    failing_for: Option<Duration> = EjectionPolicy::default().failing_for,
    /// Ejects when this share of an interval's calls failed. Null takes the rule out.
    error_rate: Option<f64> = EjectionPolicy::default().error_rate,
    /// How many calls an endpoint needs in an interval for the error rate.
    error_rate_volume: u64 = EjectionPolicy::default().error_rate_volume,
    /// Ejects whose success rate lies so many standard deviations below the mean of all. Null takes
    /// the rule out.
    deviation: Option<f64> = EjectionPolicy::default().deviation,
    /// How many calls an endpoint needs in an interval for the deviation.
    deviation_volume: u64 = EjectionPolicy::default().deviation_volume,
    /// Ejects whose mean latency is so many times the median of the endpoints' means: above 1. Null
    /// takes the rule out.
    latency: Option<f64> = EjectionPolicy::default().latency,
    /// How many calls an endpoint needs in an interval for the latency.
    latency_volume: u64 = EjectionPolicy::default().latency_volume,
    /// How many endpoints with enough calls the rules that compare them need.
    min_endpoints: usize = EjectionPolicy::default().min_endpoints,
    /// Over which time rates are taken.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    interval: Duration = EjectionPolicy::default().interval,
    /// How long the first ejection lasts; the n-th in a row lasts n times that.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    base_time: Duration = EjectionPolicy::default().base_time,
    /// How long an ejection lasts at most.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    max_time: Duration = EjectionPolicy::default().max_time,
    /// Prolongs each ejection at random by up to this share of it.
    jitter: f64 = EjectionPolicy::default().jitter,
    /// The share of endpoints that may be ejected at a time; one always may.
    max_ejected: f64 = EjectionPolicy::default().max_ejected,
    /// Whether the last endpoint may be ejected.
    may_eject_last: bool = EjectionPolicy::default().may_eject_last,
    /// The share of healthy endpoints below which ejections are disregarded. 0: they never are.
    panic_threshold: f64 = EjectionPolicy::default().panic_threshold,
    /// How many successes end the probation of an endpoint that returned; a failure before that
    /// ejects it again.
    probation_successes: u32 = EjectionPolicy::default().probation_successes,
});

impl EjectionInFile {
    pub(super) fn checked(self) -> Result<EjectionPolicy, outrigger_core::InvalidPolicy> {
        EjectionPolicy::builder()
            .consecutive_failures(self.consecutive_failures)
            .failing_for(self.failing_for)
            .error_rate(self.error_rate)
            .error_rate_volume(self.error_rate_volume)
            .deviation(self.deviation)
            .deviation_volume(self.deviation_volume)
            .latency(self.latency)
            .latency_volume(self.latency_volume)
            .min_endpoints(self.min_endpoints)
            .interval(self.interval)
            .base_time(self.base_time)
            .max_time(self.max_time)
            .jitter(self.jitter)
            .max_ejected(self.max_ejected)
            .may_eject_last(self.may_eject_last)
            .panic_threshold(self.panic_threshold)
            .probation_successes(self.probation_successes)
            .build()
    }
}

impl From<&EjectionPolicy> for EjectionInFile {
    fn from(policy: &EjectionPolicy) -> Self {
        let &EjectionPolicy {
            consecutive_failures,
            failing_for,
            error_rate,
            error_rate_volume,
            deviation,
            deviation_volume,
            latency,
            latency_volume,
            min_endpoints,
            interval,
            base_time,
            max_time,
            jitter,
            max_ejected,
            may_eject_last,
            panic_threshold,
            probation_successes,
        } = policy;
        Self {
            // 0 takes the rule out.
            consecutive_failures: consecutive_failures.map_or(0, NonZeroU32::get),
            failing_for,
            error_rate,
            error_rate_volume,
            deviation,
            deviation_volume,
            latency,
            latency_volume,
            min_endpoints,
            interval,
            base_time,
            max_time,
            jitter,
            max_ejected,
            may_eject_last,
            panic_threshold,
            probation_successes,
        }
    }
}
