use super::{Candidates, PickEntry};

/// Weighted random in O(1): the alias method of Walker (1977), built as by Vose (1991), in whole
/// numbers.
#[derive(Debug)]
pub(crate) struct Alias {
    columns: Box<[Column]>,
    entries: Box<[PickEntry]>,
}

/// A column belongs to `own` up to its threshold, and to `other` beyond.
#[derive(Clone, Copy, Debug)]
struct Column {
    threshold: u32,
    own: u32,
    other: u32,
}

/// How often to draw before all are looked at.
const DRAWS: u32 = 32;

impl Alias {
    pub(super) fn build(entries: &[PickEntry]) -> Self {
        Self { columns: columns(entries), entries: entries.into() }
    }

    pub(super) fn entries(&self) -> &[PickEntry] {
        &self.entries
    }

    /// One at random by weight.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<u32> {
        let bits = rng.u64(..);
        let n = self.columns.len() as u64;
        let at = (((bits >> 32) * n) >> 32) as usize;
        let column = self.columns.get(at)?;
        #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
        let height = bits as u32;
        Some(if height < column.threshold { column.own } else { column.other })
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

fn columns(entries: &[PickEntry]) -> Box<[Column]> {
    let total: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
    let n = entries.len() as u64;
    // Scaled so that a full column holds `total`.
    let mut left: Vec<u64> = entries.iter().map(|entry| u64::from(entry.weight) * n).collect();
    let full =
        |entry: &PickEntry| Column { threshold: u32::MAX, own: entry.index, other: entry.index };
    let mut columns: Box<[Column]> = entries.iter().map(full).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..entries.len()).partition(|&at| left[at] < total);
    while let (Some(short), Some(&long)) = (small.pop(), large.last()) {
        columns[short].threshold = threshold(left[short], total);
        columns[short].other = entries[long].index;
        left[long] -= total - left[short];
        if left[long] < total {
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

    fn entries(weights: &[u32]) -> Vec<PickEntry> {
        (0..).zip(weights).map(|(index, &weight)| PickEntry { index, weight, id: 1 }).collect()
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "a few weights")]
    fn the_columns_hold_each_weight_exactly_to_a_part_in_two_to_the_32() {
        for weights in [&[1, 2, 3, 4][..], &[u32::MAX, 1, 1], &[7], &[10; 1_000], &[5, 1, 1]] {
            let n = weights.len() as f64;
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let mut shares = vec![0.0; weights.len()];
            for column in &columns(&entries(weights)) {
                let own = f64::from(column.threshold) / 2_f64.powi(32) / n;
                shares[column.own as usize] += own;
                shares[column.other as usize] += 1.0 / n - own;
            }
            for (share, &weight) in shares.iter().zip(weights) {
                assert!((share - f64::from(weight) / total).abs() < 1e-9, "{weights:?}");
            }
        }
    }

    #[test]
    fn nobody_is_drawn_from_nothing() {
        assert_eq!(Alias::build(&[]).draw(&mut fastrand::Rng::with_seed(1)), None);
    }
}
