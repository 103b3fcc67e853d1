use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Picker, ReportedPolicy, WithoutKey};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Picker"))]
pub(super) enum PickerInFile {
    /// At random, in proportion to the weights.
    WeightedRandom {},
    /// One after the other, each as often.
    RoundRobin {},
    /// One after the other, each in proportion to its weight and evenly spread.
    SmoothWeightedRoundRobin {},
    /// The one of two with fewer calls in flight for its weight.
    LeastPending(LeastPendingInFile),
    /// The one of two with the lower latency times calls in flight for its weight.
    PeakEwma(PeakEwmaInFile),
    /// One after the other, each in proportion to the capacity it reports: gRPC's static stride.
    Reported(ReportedInFile),
    /// By the request's key, on a ring of points.
    ConsistentHash(ConsistentHashInFile),
    /// By the request's key, from a table.
    Maglev(MaglevInFile),
    /// All calls to one endpoint: the first that is usable.
    PickFirst(PickFirstInFile),
}

in_file!(LeastPendingInFile {
    /// How long an endpoint counts as busy after a failure, or what latency it counts as.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    failure_penalty: Duration = Duration::from_secs(5),
});

in_file!(PeakEwmaInFile {
    /// How fast old latencies are forgotten.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    decay: Duration = Duration::from_secs(10),
    /// How long an endpoint counts as busy after a failure, or what latency it counts as.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    failure_penalty: Duration = Duration::from_secs(5),
});

in_file!(ReportedInFile {
    /// A new endpoint's reports count only after it has reported for so long.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    blackout: Duration = ReportedPolicy::GRPC.blackout,
    /// A report is forgotten after so long.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(feature = "schema", schemars(with = "outrigger_core::DurationInFile"))]
    expiration: Duration = ReportedPolicy::GRPC.expiration,
    /// How much a share of errors lowers the weight, at least 0.
    error_penalty: f64 = ReportedPolicy::GRPC.error_penalty,
});

in_file!(ConsistentHashInFile {
    /// Points on the ring per unit of weight, at least 1.
    points_per_weight: u32 = 100,
    /// An endpoint gets at most this multiple of its share of the calls in flight: above 1. Null: no
    /// bound.
    load_bound: Option<f64> = None,
    /// What to do without a key.
    without_key: WithoutKey = WithoutKey::Random,
});

in_file!(MaglevInFile {
    /// Slots of the table: a prime number from 3 to 5000011.
    table_size: u32 = 65_537,
    /// What to do without a key.
    without_key: WithoutKey = WithoutKey::Random,
});

in_file!(PickFirstInFile {
    /// Whether each balancer draws an order of its own, rather than that of the keys.
    shuffle: bool = false,
});

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
            PickerInFile::PickFirst(PickFirstInFile { shuffle }) => Self::PickFirst { shuffle },
        }
    }
}

impl PickerInFile {
    pub(super) fn of(picker: &Picker) -> Option<Self> {
        Some(match *picker {
            Picker::WeightedRandom => Self::WeightedRandom {},
            Picker::RoundRobin => Self::RoundRobin {},
            Picker::SmoothWeightedRoundRobin => Self::SmoothWeightedRoundRobin {},
            Picker::LeastPending { failure_penalty } => {
                Self::LeastPending(LeastPendingInFile { failure_penalty })
            }
            Picker::PeakEwma { decay, failure_penalty } => {
                Self::PeakEwma(PeakEwmaInFile { decay, failure_penalty })
            }
            Picker::Reported(ReportedPolicy { blackout, expiration, error_penalty }) => {
                Self::Reported(ReportedInFile { blackout, expiration, error_penalty })
            }
            Picker::ConsistentHash { points_per_weight, load_bound, without_key } => {
                let file = ConsistentHashInFile { points_per_weight, load_bound, without_key };
                Self::ConsistentHash(file)
            }
            Picker::Maglev { table_size, without_key } => {
                Self::Maglev(MaglevInFile { table_size, without_key })
            }
            Picker::PickFirst { shuffle } => Self::PickFirst(PickFirstInFile { shuffle }),
            Picker::Custom(_) => return None,
        })
    }
}
