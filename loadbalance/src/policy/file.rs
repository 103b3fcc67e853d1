//! Policies from configuration files, through twins that refuse what they do not know.

use std::time::Duration;

use outrigger_core::Enforcement;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use self::{
    ejection::EjectionInFile,
    picker::{PeakEwmaInFile, PickerInFile},
};
use super::BalancePolicy;
use crate::{SlowStartPolicy, SubsetPolicy, ZonePolicy, engine::subset::Caller};

/// A twin of settings each of which has a usual value.
macro_rules! in_file {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty = $usual:expr),* $(,)? }) => {
        #[derive(Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub(super) struct $name { $($(#[$meta])* $field: $type),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $usual),* }
            }
        }
    };
}

mod ejection;
mod picker;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "BalancePolicy"))]
struct PolicyInFile {
    /// Whether ejection acts, only says what it would do, or does nothing.
    enforcement: Enforcement,
    /// How an endpoint is picked.
    picker: PickerInFile,
    /// How many more endpoints a call may go to when one cannot be connected. No retry is counted.
    failover_picks: u32,
    /// How long an endpoint may take to become ready before the call goes on to another.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    connect_timeout: Duration,
    /// When an endpoint is ejected. Null: never.
    ejection: Option<EjectionInFile>,
    /// How the share of a new endpoint grows. Null: it has its whole share at once.
    slow_start: Option<SlowStartInFile>,
    /// How the local zone is preferred. Null: zones do not matter.
    zones: Option<ZonesInFile>,
    /// Which part of the endpoints is used. Null: all.
    subset: Option<SubsetInFile>,
    /// Makes the random numbers repeatable, for tests and simulations.
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

#[cfg(feature = "schema")]
impl schemars::JsonSchema for BalancePolicy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        PolicyInFile::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        PolicyInFile::json_schema(generator)
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
            .ejection(ejection.map_err(D::Error::custom)?)
            .slow_start(slow_start.map_err(D::Error::custom)?)
            .zones(zones.map_err(D::Error::custom)?)
            .subset(file.subset.map(SubsetPolicy::from))
            .seed(file.seed)
            .build()
            .map_err(D::Error::custom)
    }
}

/// A picker of the user's own does not stand in a file.
impl Serialize for BalancePolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            enforcement,
            picker,
            failover_picks,
            connect_timeout,
            ejection,
            slow_start,
            zones,
            subset,
            seed,
        } = self;
        let picker = PickerInFile::of(picker)
            .ok_or_else(|| S::Error::custom("a picker of the user's own stands in no file"))?;
        let file = PolicyInFile {
            enforcement: *enforcement,
            picker,
            failover_picks: *failover_picks,
            connect_timeout: *connect_timeout,
            ejection: ejection.as_ref().map(EjectionInFile::from),
            slow_start: slow_start.as_ref().map(SlowStartInFile::from),
            zones: zones.as_ref().map(ZonesInFile::from),
            subset: subset.as_ref().map(SubsetInFile::from),
            seed: *seed,
        };
        file.serialize(serializer)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "SlowStart"))]
struct SlowStartInFile {
    /// How long the share grows.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    window: Duration,
    /// Bends the curve: above 1 it grows faster at first. Null stands for 1.
    aggression: Option<f64>,
    /// The share to start from: above 0, at most 1. Null stands for 0.1.
    min_share: Option<f64>,
}

impl SlowStartInFile {
    fn checked(self) -> Result<SlowStartPolicy, outrigger_core::InvalidPolicy> {
        SlowStartPolicy::new(self.window)
            .aggression(self.aggression.unwrap_or(1.0))?
            .min_share(self.min_share.unwrap_or(0.1))
    }
}

impl From<&SlowStartPolicy> for SlowStartInFile {
    fn from(policy: &SlowStartPolicy) -> Self {
        let &SlowStartPolicy { window, aggression, min_share } = policy;
        Self { window, aggression: Some(aggression), min_share: Some(min_share) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Zones"))]
struct ZonesInFile {
    /// The caller's own zone.
    prefer: String,
    /// How many times its healthy weight the local zone is good for, at least 1. Null stands for 1.4.
    over_provisioning: Option<f64>,
}

impl ZonesInFile {
    fn checked(self) -> Result<ZonePolicy, outrigger_core::InvalidPolicy> {
        ZonePolicy::prefer(self.prefer).over_provisioning(self.over_provisioning.unwrap_or(1.4))
    }
}

impl From<&ZonePolicy> for ZonesInFile {
    fn from(policy: &ZonePolicy) -> Self {
        let ZonePolicy { local, over_provisioning } = policy;
        Self { prefer: local.to_string(), over_provisioning: Some(*over_provisioning) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Subset"))]
enum SubsetInFile {
    /// For callers that are numbered from 0.
    ByIndex {
        /// The caller's number.
        index: u32,
        /// How many endpoints it uses.
        size: usize,
    },
    /// For callers that only have a name.
    ByName {
        /// The caller's name.
        name: String,
        /// How many endpoints it uses.
        size: usize,
    },
}

impl From<SubsetInFile> for SubsetPolicy {
    fn from(file: SubsetInFile) -> Self {
        match file {
            SubsetInFile::ByIndex { index, size } => Self::by_index(index, size),
            SubsetInFile::ByName { name, size } => Self::by_name(name, size),
        }
    }
}

impl From<&SubsetPolicy> for SubsetInFile {
    fn from(policy: &SubsetPolicy) -> Self {
        let SubsetPolicy { size, caller } = policy;
        match caller {
            Caller::Index(index) => Self::ByIndex { index: *index, size: *size },
            Caller::Name(name) => Self::ByName { name: name.to_string(), size: *size },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EjectionPolicy, Picker, WithoutKey};

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
            ("pick_first", Picker::PickFirst { shuffle: false }),
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
        let written = serde_json::to_string(&policy).unwrap();
        assert_eq!(read(&written).unwrap(), policy, "{written}");
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
