use std::time::Duration;

use super::Stamp;
use crate::sync::{AtomicU64, Ordering};

/// Failures in a row, and when the first of them was: one word, so that who reads the count never
/// reads the time of an older streak with it.
#[derive(Debug, Default)]
pub(super) struct Streak(AtomicU64);

/// Room for 16 million failures; more are not counted.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// What is left of the word counts milliseconds for 34 years.
const TIME: u64 = u64::MAX >> COUNT_BITS;

impl Streak {
    /// Counts a failure; gives back how many there are in a row, and how long ago the first was,
    /// to the millisecond.
    pub(super) fn lengthen(&self, now: Stamp) -> (u32, Duration) {
        let now_ms = now.millis() & TIME;
        let longer = |word: u64| match word & COUNT {
            0 => now_ms << COUNT_BITS | 1,
            COUNT => word,
            _ => word + 1,
        };
        let update = |word| Some(longer(word));
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        let word = longer(before.unwrap_or_else(|word| word));
        (count(word), Duration::from_millis(now_ms.saturating_sub(word >> COUNT_BITS)))
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        count(self.0.load(Ordering::Acquire))
    }

    pub(super) fn end(&self) {
        self.0.swap(0, Ordering::AcqRel);
    }
}

const fn count(word: u64) -> u32 {
    (word & COUNT) as u32
}

#[cfg(all(test, not(outrigger_loom)))]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Stamp {
        Stamp::from_nanos(ms * 1_000_000 + 1).expect("a moment is not 0")
    }

    #[test]
    fn the_time_is_that_of_the_first_failure_since_the_last_success() {
        let streak = Streak::default();
        let ms = Duration::from_millis;
        assert_eq!(streak.lengthen(at_ms(5)), (1, ms(0)));
        assert_eq!(streak.lengthen(at_ms(8)), (2, ms(3)));
        streak.end();
        assert_eq!(streak.lengthen(at_ms(3_600_000)), (1, ms(0)));
        assert_eq!(streak.lengthen(at_ms(3_599_999)), (2, ms(0)), "whose clock was read before");
        assert_eq!(streak.lengthen(at_ms(3_600_007)), (3, ms(7)));
    }

    #[test]
    fn a_full_count_stays_full_and_keeps_the_time() {
        let streak = Streak(AtomicU64::new(5 << COUNT_BITS | (COUNT - 1)));
        for _ in 0..2 {
            assert_eq!(streak.lengthen(at_ms(7)), ((1 << 24) - 1, Duration::from_millis(2)));
        }
    }
}
