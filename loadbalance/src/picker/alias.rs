use super::{Candidates, PickEntry};

/// Weighted random in O(1): the alias method of Walker (1977), built as by Vose (1991), in whole
/// numbers.
#[derive(Debug)]
pub(crate) struct Alias {
    /// One for each index; none where all weigh the same and no index is left out: then what is
    /// drawn is who is picked, and nothing is read.
    columns: Box<[Column]>,
    /// How many columns there are, or would be.
    width: u32,
    entries: Box<[PickEntry]>,
}

/// A column belongs to the endpoint with its index up to the threshold, and to `other` beyond.
#[derive(Clone, Copy, Debug)]
struct Column {
    threshold: u32,
    other: u32,
}

/// How often to draw before all are looked at.
const DRAWS: u32 = 32;

impl Alias {
    pub(super) fn build(entries: &[PickEntry]) -> Self {
        let width = entries.iter().map(|entry| entry.index + 1).max().unwrap_or(0);
        let is_even = (0..)
            .zip(entries)
            .all(|(at, entry)| entry.index == at && entry.weight == entries[0].weight);
        let columns = if is_even { Box::default() } else { columns(entries, width) };
        Self { columns, width, entries: entries.into() }
    }

    pub(super) fn entries(&self) -> &[PickEntry] {
        &self.entries
    }

    /// One at random by weight.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<u32> {
        let bits = rng.u64(..);
        #[expect(clippy::cast_possible_truncation, reason = "below the width; the lower half")]
        let (at, height) = ((((bits >> 32) * u64::from(self.width)) >> 32) as u32, bits as u32);
        match self.columns.get(at as usize) {
            Some(column) if height >= column.threshold => Some(column.other),
            None if self.width == 0 => None,
            _ => Some(at),
        }
    }

    /// One at random by weight among the usable. Drawing until one is accepted keeps the
    /// proportions among those that are left exact.
    #[inline]
    pub(super) fn pick(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        if candidates.is_open() {
            return self.draw(candidates.rng());
        }
        self.pick_usable(candidates)
    }

    fn pick_usable(&self, candidates: &mut Candidates<'_>) -> Option<u32> {
        for _ in 0..DRAWS {
            let drawn = self.draw(candidates.rng())?;
            if candidates.accepts(drawn) {
                return Some(drawn);
            }
        }
        candidates.scan(&self.entries)
    }
}

fn columns(entries: &[PickEntry], width: u32) -> Box<[Column]> {
    let total: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
    // Scaled so that a full column holds `total`. Indices that are left out have nothing.
    let mut left = vec![0_u64; width as usize];
    for entry in entries {
        left[entry.index as usize] = u64::from(entry.weight) * u64::from(width);
    }
    let mut columns: Box<[Column]> =
        (0..width).map(|own| Column { threshold: u32::MAX, other: own }).collect();
    let (mut small, mut large): (Vec<u32>, Vec<u32>) =
        (0..width).partition(|&at| left[at as usize] < total);
    while let (Some(short), Some(&long)) = (small.pop(), large.last()) {
        let part = left[short as usize];
        columns[short as usize] = Column { threshold: threshold(part, total), other: long };
        left[long as usize] -= total - part;
        if left[long as usize] < total {
            large.pop();
            small.push(long);
        }
    }
    columns
}

#[expect(clippy::cast_possible_truncation, reason = "a share of 2^32")]
const fn threshold(part: u64, total: u64) -> u32 {
    (((part as u128) << 32) / total as u128) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints of these weights; those of weight 0 are left out.
    fn entries(weights: &[u32]) -> Vec<PickEntry> {
        (0..)
            .zip(weights)
            .map(|(index, &weight)| PickEntry { index, weight, id: 1 })
            .filter(|entry| entry.weight > 0)
            .collect()
    }

    #[test]
    fn the_columns_hold_each_weight_exactly_to_a_part_in_two_to_the_32() {
        for weights in [
            &[1, 2, 3, 4][..],
            &[u32::MAX, 1, 1],
            &[7],
            &[10; 1_000],
            &[5, 1, 1],
            &[0, 3, 0, 0, 3, 1, 0],
            &[0, u32::MAX],
        ] {
            let width = u32::try_from(weights.len()).unwrap();
            let n = f64::from(width);
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let mut shares = vec![0.0; weights.len()];
            for (own, column) in columns(&entries(weights), width).iter().enumerate() {
                let share = f64::from(column.threshold) / 2_f64.powi(32) / n;
                shares[own] += share;
                shares[column.other as usize] += 1.0 / n - share;
            }
            for (share, &weight) in shares.iter().zip(weights) {
                assert!((share - f64::from(weight) / total).abs() < 1e-9, "{weights:?}");
            }
        }
    }

    #[test]
    fn draws_follow_the_weights_with_columns_and_without() {
        let mut rng = fastrand::Rng::with_seed(3);
        for weights in [&[2, 2, 2, 2][..], &[0, 1, 3, 0], &[0, 1, 1, 0, 0], &[4, 1]] {
            let alias = Alias::build(&entries(weights));
            let total: u32 = weights.iter().sum();
            let mut drawn = vec![0_u32; weights.len()];
            for _ in 0..10_000 * total {
                drawn[alias.draw(&mut rng).unwrap() as usize] += 1;
            }
            for (&drawn, &weight) in drawn.iter().zip(weights) {
                assert!(drawn.abs_diff(weight * 10_000) < 500, "{weights:?}: {drawn}");
            }
        }
    }

    #[test]
    fn nobody_is_drawn_from_nothing() {
        assert_eq!(Alias::build(&[]).draw(&mut fastrand::Rng::with_seed(1)), None);
    }
}
