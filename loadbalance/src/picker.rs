//! How an endpoint is picked. Each index is built off the call path and never changes.

mod alias;
mod candidates;
mod maglev;
mod pick_first;
mod reported;
mod ring;
mod round_robin;
mod two_choices;

pub use self::candidates::Candidates;
pub(crate) use self::candidates::{Filter, Home, Roll};
use self::{
    alias::Alias, maglev::Maglev, pick_first::PickFirst, reported::ByReport, ring::Ring,
    round_robin::RoundRobin, two_choices::TwoChoices,
};
use crate::{HashKey, Picker, WithoutKey};

/// An endpoint as a picker sees it when its index is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PickEntry {
    /// What [`Pick::pick`] gives back for it.
    pub index: u32,
    /// Its weight, at least 1.
    pub weight: u32,
    /// A stable hash of its key.
    pub id: u64,
}

/// Makes the index of a picker of the user's own; runs whenever endpoints change, never in a call.
///
/// ```
/// use outrigger_loadbalance::{Balance, BalancePolicy, Candidates, Endpoint, Pick, PickEntry, Picker};
///
/// struct First(Vec<PickEntry>);
///
/// impl Pick for First {
///     fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
///         self.0.iter().map(|entry| entry.index).find(|at| candidates.is_usable(*at))
///     }
/// }
///
/// let first = |entries: &[PickEntry]| Box::new(First(entries.to_vec())) as Box<dyn Pick>;
/// let policy = BalancePolicy::builder().picker(Picker::custom(first)).build()?;
/// let balance = Balance::new(policy);
/// balance.replace(["a", "b"].map(|key| Endpoint::new(key, ())));
/// assert_eq!(balance.pick().unwrap().key(), "a");
/// # Ok::<_, outrigger_core::InvalidPolicy>(())
/// ```
pub trait BuildPicker: Send + Sync + 'static {
    /// Builds the index over all endpoints of a weight above 0, in the order of their keys.
    fn build(&self, entries: &[PickEntry]) -> Box<dyn Pick>;
}

impl<F> BuildPicker for F
where
    F: Fn(&[PickEntry]) -> Box<dyn Pick> + Send + Sync + 'static,
{
    fn build(&self, entries: &[PickEntry]) -> Box<dyn Pick> {
        self(entries)
    }
}

/// An index that picks.
pub trait Pick: Send + Sync {
    /// Picks an endpoint that [`Candidates::is_usable`] by its index; `None` when there is none.
    fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32>;
}

/// The index of the picker that the policy names.
pub(crate) enum Index {
    Random(Alias),
    RoundRobin(RoundRobin),
    TwoChoices(TwoChoices),
    Reported(ByReport),
    Ring(Ring),
    Maglev(Maglev),
    PickFirst(PickFirst),
    Custom(Box<dyn Pick>),
}

/// What an index draws from where it is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeds {
    /// Stays with the balancer.
    pub(crate) of_balance: u64,
    /// Another for each build.
    pub(crate) of_build: u64,
}

impl Index {
    pub(crate) fn build(
        picker: &Picker,
        entries: &[PickEntry],
        lanes: usize,
        seeds: Seeds,
    ) -> Self {
        let seed = seeds.of_build;
        match picker {
            Picker::WeightedRandom => Self::Random(Alias::build(entries)),
            Picker::RoundRobin => Self::RoundRobin(RoundRobin::plain(entries, lanes, seed)),
            Picker::SmoothWeightedRoundRobin => {
                Self::RoundRobin(RoundRobin::smooth(entries, lanes, seed))
            }
            Picker::LeastPending { .. } => Self::TwoChoices(TwoChoices::least_pending(entries)),
            Picker::PeakEwma { decay, .. } => {
                Self::TwoChoices(TwoChoices::peak_ewma(entries, *decay))
            }
            Picker::Reported(_) => Self::Reported(ByReport::build(entries, lanes, seed)),
            Picker::ConsistentHash { points_per_weight, load_bound, without_key } => {
                Self::Ring(Ring::build(entries, *points_per_weight, *load_bound, *without_key))
            }
            Picker::Maglev { table_size, without_key } => {
                Self::Maglev(Maglev::build(entries, *table_size as usize, *without_key))
            }
            Picker::PickFirst { shuffle } => {
                let seed = shuffle.then_some(seeds.of_balance);
                Self::PickFirst(PickFirst::build(entries, seed))
            }
            Picker::Custom(custom) => Self::Custom(custom.0.build(entries)),
        }
    }

    #[inline]
    pub(crate) fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        match self {
            Self::Random(alias) => alias.pick(candidates),
            Self::RoundRobin(round) => round.pick(candidates),
            Self::TwoChoices(two) => two.pick(candidates),
            Self::Reported(by_report) => by_report.pick(candidates),
            Self::Ring(ring) => ring.pick(candidates),
            Self::Maglev(maglev) => maglev.pick(candidates),
            Self::PickFirst(first) => first.pick(candidates),
            Self::Custom(custom) => custom.pick(candidates),
        }
    }

    /// Whose a key is while everybody is usable, if this is a hashing picker.
    pub(crate) fn owner(&self, key: HashKey) -> Option<u32> {
        match self {
            Self::Ring(ring) => ring.owner(key),
            Self::Maglev(maglev) => maglev.owner(key.get()),
            _ => None,
        }
    }

    /// Whether a call without a key is to be refused.
    pub(crate) const fn requires_key(&self) -> bool {
        let without_key = match self {
            Self::Ring(ring) => ring.without_key(),
            Self::Maglev(maglev) => maglev.without_key(),
            _ => return false,
        };
        matches!(without_key, WithoutKey::Refuse)
    }

    /// Whether calls in flight are read at each pick: then all threads are shown those that wait.
    pub(crate) const fn reads_load(&self) -> bool {
        match self {
            Self::TwoChoices(_) | Self::Custom(_) => true,
            Self::Ring(ring) => ring.is_bounded(),
            _ => false,
        }
    }

    /// Whether picks may depend on the request's key.
    pub(crate) const fn reads_key(&self) -> bool {
        matches!(self, Self::Ring(_) | Self::Maglev(_) | Self::Custom(_))
    }

    /// Whether a key decides who is picked, the same for all callers.
    pub(crate) const fn is_by_key(&self) -> bool {
        matches!(self, Self::Ring(_) | Self::Maglev(_))
    }
}

/// The usable endpoint with the highest random weight for `key` (rendezvous hashing): where a
/// hashing picker ends up when its structure offers nobody usable. O(n), and rare.
fn by_rendezvous(key: HashKey, entries: &[PickEntry], candidates: &Candidates<'_>) -> Option<u32> {
    entries
        .iter()
        .filter(|entry| candidates.is_usable(entry.index))
        .max_by_key(|entry| crate::hash::mix(entry.id ^ key.get()))
        .map(|entry| entry.index)
}
