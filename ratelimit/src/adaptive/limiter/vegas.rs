use super::{LimitSample, Limiter, step};

/// Keeps a short queue: as many calls more than the callee has room for as the logarithm of the
/// limit. The default.
///
/// Source: TCP Vegas (Brakmo and Peterson 1994), as Netflix' concurrency-limits has it. With the
/// queue `limit * (1 - normal / latency)` and `step = max(1, log10(limit))`:
///
/// | queue | next limit | Netflix |
/// | --- | --- | --- |
/// | up to half a `step` | `+ 2 step` | up to 1 step: `+ 6 step` |
/// | below `step` | `+ step` | below 3 steps |
/// | above `2 step`, or calls dropped | `- step`, or half of what is above if that is more | above 6 steps: `- step` |
///
/// Netflix' thresholds settle at 28 calls where the callee has room for 20; these at about 25. They
/// can be as low because the latency that they see is smoothed, and the normal latency is not the
/// least that was ever measured. A step up is the longer the more windows in a row the limit grew
/// ([`LimitSample::haste`]), up to five times; Netflix' are long from the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vegas {
    alpha: f64,
    beta: f64,
}

impl Default for Vegas {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 2.0 }
    }
}

impl Vegas {
    /// With the constants above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Limiter for Vegas {
    fn next_limit(&mut self, sample: &LimitSample) -> f64 {
        let (limit, step) = (sample.limit, step(sample.limit));
        let queue = sample.queue() / step;
        let fewer = limit - step * ((queue - self.beta) / 2.0).max(1.0);
        if sample.is_dropping() {
            fewer
        } else if queue > self.beta {
            sample.cut(fewer)
        } else if queue <= self.alpha / 2.0 {
            limit + 2.0 * step * sample.haste()
        } else if queue < self.alpha {
            limit + step * sample.haste()
        } else {
            limit
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "they come out exactly")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_queue_is_kept_between_one_step_and_two() {
        let mut vegas = Vegas::new();
        // A limit of 100 has a step of 2; the queue is `100 - capacity`.
        let mut with_queue = |queue: f64| {
            let latency = Duration::from_secs_f64(1.0 / (1.0 - queue / 100.0));
            vegas.next_limit(&LimitSample::new(100.0, latency, Duration::from_secs(1)))
        };
        assert_eq!([0.0, 0.9].map(&mut with_queue), [104.0; 2]);
        assert_eq!([1.1, 1.9].map(&mut with_queue), [102.0; 2]);
        assert_eq!([2.1, 3.9].map(&mut with_queue), [100.0; 2]);
        assert_eq!([4.1, 7.9].map(&mut with_queue), [98.0; 2]);
        assert_eq!([44.0, 64.0].map(|queue| with_queue(queue).round()), [80.0, 70.0]);
    }

    #[test]
    fn a_drop_is_a_step_down_however_fast_the_others_were() {
        let all_well = LimitSample::new(5.0, Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(Vegas::new().next_limit(&LimitSample { dropped: 10, ..all_well }), 4.0);
    }

    #[test]
    fn a_step_up_grows_to_five_times_with_the_windows_in_which_the_limit_grew() {
        let well = LimitSample::new(100.0, Duration::from_secs(1), Duration::from_secs(1));
        let after = |growing| Vegas::new().next_limit(&LimitSample { growing, ..well });
        assert_eq!((after(0), after(u32::MAX)), (104.0, 120.0));
    }

    #[test]
    fn a_latency_alone_cuts_no_further_than_is_confirmed_and_a_drop_does() {
        let slow = LimitSample::new(100.0, Duration::from_secs(3), Duration::from_secs(1));
        let slow = LimitSample { confirmed: 95.0, ..slow };
        assert_eq!(Vegas::new().next_limit(&slow), 95.0);
        assert!(Vegas::new().next_limit(&LimitSample { dropped: 10, ..slow }) < 95.0);
    }
}
