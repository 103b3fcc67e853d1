//! Policies from configuration files, through twins that refuse what they do not know.

use std::time::Duration;

use outrigger_core::Enforcement;
use serde::{Deserialize, Deserializer, de::Error};

use super::{BalancePolicy, Picker, ReportedPolicy, WithoutKey};
use crate::{EjectionPolicy, SlowStartPolicy, SubsetPolicy, ZonePolicy};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyInFile {
    enforcement: Enforcement,
    picker: PickerInFile,
    failover_picks: u32,
    #[serde(with = "humantime_serde")]
    connect_timeout: Duration,
    ejection: Option<EjectionInFile>,
    slow_start: Option<SlowStartInFile>,
    zones: Option<ZonesInFile>,
    subset: Option<SubsetInFile>,
    seed: Option<u64>,
}

impl Default for PolicyInFile {
    fn default() -> Self {
        let policy = BalancePolicy::default();
        Self {
            enforcement: policy.enforcement,
            picker: PickerInFile::PeakEwma(PeakEwmaInFile::default()),
            failover_picks: policy.failover_picks,
            connect_timeout: policy.connect_timeout,
            ejection: Some(EjectionInFile::default()),
            slow_start: None,
            zones: None,
            subset: None,
            seed: None,
        }
    }
}

impl<'de> Deserialize<'de> for BalancePolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = PolicyInFile::deserialize(deserializer)?;
        let ejection = file.ejection.map(EjectionInFile::checked).transpose();
        let slow_start = file.slow_start.map(SlowStartInFile::checked).transpose();
        let zones = file.zones.map(ZonesInFile::checked).transpose();
        Self::builder()
            .enforcement(file.enforcement)
            .picker(file.picker.into())
            .failover_picks(file.failover_picks)
            .connect_timeout(file.connect_timeout)
            .ejection(ejection.map_err(Error::custom)?)
            .slow_start(slow_start.map_err(Error::custom)?)
            .zones(zones.map_err(Error::custom)?)
            .subset(file.subset.map(SubsetPolicy::from))
            .seed(file.seed)
            .build()
            .map_err(Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum PickerInFile {
    WeightedRandom {},
    RoundRobin {},
    SmoothWeightedRoundRobin {},
    LeastPending(LeastPendingInFile),
    PeakEwma(PeakEwmaInFile),
    Reported(ReportedInFile),
    ConsistentHash(ConsistentHashInFile),
    Maglev(MaglevInFile),
}

macro_rules! in_file {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty = $usual:expr),* $(,)? }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct $name { $($(#[$meta])* $field: $type),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $usual),* }
            }
        }
    };
}

in_file!(LeastPendingInFile {
    #[serde(with = "humantime_serde")]
    failure_penalty: Duration = Duration::from_secs(5),
});

in_file!(PeakEwmaInFile {
    #[serde(with = "humantime_serde")]
    decay: Duration = Duration::from_secs(10),
    #[serde(with = "humantime_serde")]
    failure_penalty: Duration = Duration::from_secs(5),
});

in_file!(ReportedInFile {
    #[serde(with = "humantime_serde")]
    blackout: Duration = ReportedPolicy::GRPC.blackout,
    #[serde(with = "humantime_serde")]
    expiration: Duration = ReportedPolicy::GRPC.expiration,
    error_penalty: f64 = ReportedPolicy::GRPC.error_penalty,
});

in_file!(ConsistentHashInFile {
    points_per_weight: u32 = 100,
    load_bound: Option<f64> = None,
    without_key: WithoutKey = WithoutKey::Random,
});

in_file!(MaglevInFile { table_size: u32 = 65_537, without_key: WithoutKey = WithoutKey::Random });

impl From<PickerInFile> for Picker {
    fn from(file: PickerInFile) -> Self {
        match file {
            PickerInFile::WeightedRandom {} => Self::WeightedRandom,
            PickerInFile::RoundRobin {} => Self::RoundRobin,
            PickerInFile::SmoothWeightedRoundRobin {} => Self::SmoothWeightedRoundRobin,
            PickerInFile::LeastPending(LeastPendingInFile { failure_penalty }) => {
                Self::LeastPending { failure_penalty }
            }
            PickerInFile::PeakEwma(PeakEwmaInFile { decay, failure_penalty }) => {
                Self::PeakEwma { decay, failure_penalty }
            }
            PickerInFile::Reported(ReportedInFile { blackout, expiration, error_penalty }) => {
                Self::Reported(ReportedPolicy { blackout, expiration, error_penalty })
            }
            PickerInFile::ConsistentHash(file) => {
                let ConsistentHashInFile { points_per_weight, load_bound, without_key } = file;
                Self::ConsistentHash { points_per_weight, load_bound, without_key }
            }
            PickerInFile::Maglev(MaglevInFile { table_size, without_key }) => {
                Self::Maglev { table_size, without_key }
            }
        }
    }
}

in_file!(EjectionInFile {
    consecutive_failures: u32 = 5,
    #[serde(with = "humantime_serde")]
    failing_for: Option<Duration> = EjectionPolicy::default().failing_for,
    error_rate: Option<f64> = EjectionPolicy::default().error_rate,
    error_rate_volume: u64 = EjectionPolicy::default().error_rate_volume,
    deviation: Option<f64> = EjectionPolicy::default().deviation,
    deviation_volume: u64 = EjectionPolicy::default().deviation_volume,
    latency: Option<f64> = EjectionPolicy::default().latency,
    latency_volume: u64 = EjectionPolicy::default().latency_volume,
    min_endpoints: usize = EjectionPolicy::default().min_endpoints,
    #[serde(with = "humantime_serde")]
    interval: Duration = EjectionPolicy::default().interval,
    #[serde(with = "humantime_serde")]
    base_time: Duration = EjectionPolicy::default().base_time,
    #[serde(with = "humantime_serde")]
    max_time: Duration = EjectionPolicy::default().max_time,
    jitter: f64 = EjectionPolicy::default().jitter,
    max_ejected: f64 = EjectionPolicy::default().max_ejected,
    may_eject_last: bool = EjectionPolicy::default().may_eject_last,
    panic_threshold: f64 = EjectionPolicy::default().panic_threshold,
    probation_successes: u32 = EjectionPolicy::default().probation_successes,
});

impl EjectionInFile {
    fn checked(self) -> Result<EjectionPolicy, outrigger_core::InvalidPolicy> {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowStartInFile {
    #[serde(with = "humantime_serde")]
    window: Duration,
    aggression: Option<f64>,
    min_share: Option<f64>,
}

impl SlowStartInFile {
    fn checked(self) -> Result<SlowStartPolicy, outrigger_core::InvalidPolicy> {
        SlowStartPolicy::new(self.window)
            .aggression(self.aggression.unwrap_or(1.0))?
            .min_share(self.min_share.unwrap_or(0.1))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZonesInFile {
    prefer: String,
    over_provisioning: Option<f64>,
}

impl ZonesInFile {
    fn checked(self) -> Result<ZonePolicy, outrigger_core::InvalidPolicy> {
        ZonePolicy::prefer(self.prefer).over_provisioning(self.over_provisioning.unwrap_or(1.4))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum SubsetInFile {
    ByIndex { index: u32, size: usize },
    ByName { name: String, size: usize },
}

impl From<SubsetInFile> for SubsetPolicy {
    fn from(file: SubsetInFile) -> Self {
        match file {
            SubsetInFile::ByIndex { index, size } => Self::by_index(index, size),
            SubsetInFile::ByName { name, size } => Self::by_name(name, size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<BalancePolicy, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(read("{}").unwrap(), BalancePolicy::default());
        assert_eq!(read(r#"{"ejection": {}}"#).unwrap(), BalancePolicy::default());
        assert_eq!(read(r#"{"ejection": null}"#).unwrap().ejection(), None);
        for (name, usual) in [
            ("weighted_random", Picker::WeightedRandom),
            ("round_robin", Picker::RoundRobin),
            ("smooth_weighted_round_robin", Picker::SmoothWeightedRoundRobin),
            ("least_pending", Picker::least_pending()),
            ("peak_ewma", Picker::peak_ewma()),
            ("reported", Picker::reported()),
            ("consistent_hash", Picker::consistent_hash()),
            ("maglev", Picker::maglev()),
        ] {
            let policy = read(&format!(r#"{{"picker": {{"{name}": {{}}}}}}"#)).unwrap();
            assert_eq!(*policy.picker(), usual);
        }
    }

    #[test]
    fn every_setting_is_read() {
        let policy = read(
            r#"{
                "enforcement": "shadow",
                "picker": {"consistent_hash": {"points_per_weight": 160, "load_bound": 1.5, "without_key": "refuse"}},
                "failover_picks": 1,
                "connect_timeout": "250ms",
                "ejection": {"consecutive_failures": 3, "latency": 3.0, "base_time": "1m", "max_ejected": 0.3},
                "slow_start": {"window": "30s", "aggression": 2.0},
                "zones": {"prefer": "a", "over_provisioning": 1.2},
                "subset": {"by_index": {"index": 3, "size": 20}},
                "seed": 7
            }"#,
        )
        .unwrap();
        let ejection = EjectionPolicy::builder()
            .consecutive_failures(3)
            .latency(3.0)
            .base_time(Duration::from_secs(60))
            .max_ejected(0.3)
            .build()
            .unwrap();
        let expected = BalancePolicy::builder()
            .enforcement(Enforcement::Shadow)
            .picker(Picker::ConsistentHash {
                points_per_weight: 160,
                load_bound: Some(1.5),
                without_key: WithoutKey::Refuse,
            })
            .failover_picks(1)
            .connect_timeout(Duration::from_millis(250))
            .ejection(ejection)
            .slow_start(SlowStartPolicy::new(Duration::from_secs(30)).aggression(2.0).unwrap())
            .zones(ZonePolicy::prefer("a").over_provisioning(1.2).unwrap())
            .subset(SubsetPolicy::by_index(3, 20))
            .seed(7)
            .build()
            .unwrap();
        assert_eq!(policy, expected);
    }

    #[test]
    fn the_unknown_and_the_impossible_are_refused_by_name() {
        for (json, named) in [
            (r#"{"pikcer": {}}"#, "pikcer"),
            (r#"{"ejection": {"eject": 1}}"#, "eject"),
            (r#"{"picker": {"maglev": {"table_size": 65536}}}"#, "picker.table_size"),
            (r#"{"picker": {"maglev": {"size": 7}}}"#, "size"),
            (r#"{"slow_start": {"window": "30s", "aggression": 0}}"#, "slow_start.aggression"),
            (r#"{"zones": {"prefer": "a", "over_provisioning": 0.5}}"#, "zones.over_provisioning"),
            (r#"{"ejection": {"max_ejected": 2}}"#, "ejection.max_ejected"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(named), "{json}: {error}");
        }
    }
}
