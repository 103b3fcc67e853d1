use std::time::Duration;

use super::{Candidates, PickEntry, alias::Alias};

/// The less loaded of two that are drawn at random by weight: the power of two choices
/// (Mitzenmacher, 1996).
#[derive(Debug)]
pub(crate) struct TwoChoices {
    alias: Alias,
    load: Load,
    /// What an endpoint's load counts for, by its index: less the more it weighs. Empty when all
    /// weigh the same.
    factors: Box<[f32]>,
}

#[derive(Clone, Copy, Debug)]
enum Load {
    /// Calls in flight.
    Pending,
    /// Calls in flight times the peak latency, which is forgotten in so many seconds.
    PeakEwma { decay_s: f32 },
}

/// More load than any calls in flight come to.
const AVOIDED: f64 = 1e12;

impl TwoChoices {
    pub(super) fn least_pending(entries: &[PickEntry]) -> Self {
        Self::by(Load::Pending, entries)
    }

    pub(super) fn peak_ewma(entries: &[PickEntry], decay: Duration) -> Self {
        Self::by(Load::PeakEwma { decay_s: decay.as_secs_f32() }, entries)
    }

    fn by(load: Load, entries: &[PickEntry]) -> Self {
        Self { alias: Alias::build(entries), load, factors: factors(entries) }
    }

    pub(super) fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        let first = self.alias.pick(candidates)?;
        let Some(second) = self.another(first, candidates) else { return Some(first) };
        // Equals keep the proportions of the draw, so the first one is taken.
        let is_less = self.load(second, candidates) < self.load(first, candidates);
        Some(if is_less { second } else { first })
    }

    /// A second choice that is not the first.
    fn another(&self, first: u32, candidates: &mut Candidates<'_>) -> Option<u32> {
        if self.alias.entries().len() < 2 {
            return None;
        }
        (0..8).find_map(|_| {
            let drawn = self.alias.draw(candidates.rng())?;
            (drawn != first && candidates.accepts(drawn)).then_some(drawn)
        })
    }

    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "loads need no more")]
    fn load(&self, index: u32, candidates: &Candidates<'_>) -> f64 {
        let factor = self.factors.get(index as usize).copied().map_or(1.0, f64::from);
        let (calls, load) = candidates.calls_and_load(index);
        let pending = calls as f64 * factor;
        match self.load {
            Load::Pending if load.is_penalised(candidates.lazy_now()) => AVOIDED + pending,
            Load::Pending => pending,
            Load::PeakEwma { decay_s } => match load.peak().read(candidates.now(), decay_s) {
                Some(seconds) => f64::from(seconds) * (pending + 1.0),
                // Nothing is known: one call at a time finds out.
                None if pending > 0.0 => AVOIDED + pending,
                None => 0.0,
            },
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "loads need no more"
)]
fn factors(entries: &[PickEntry]) -> Box<[f32]> {
    let is_even = entries.windows(2).all(|pair| pair[0].weight == pair[1].weight);
    if is_even {
        return Box::default();
    }
    let total: f64 = entries.iter().map(|entry| f64::from(entry.weight)).sum();
    let mean = total / entries.len() as f64;
    let last = entries.iter().map(|entry| entry.index as usize).max().unwrap_or(0);
    let mut factors = vec![1.0; last + 1];
    for entry in entries {
        factors[entry.index as usize] = (mean / f64::from(entry.weight)) as f32;
    }
    factors.into()
}
