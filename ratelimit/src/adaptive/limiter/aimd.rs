use super::{LimitSample, Limiter};

/// Additive increase, multiplicative decrease: one call more with every window, a tenth fewer when
/// the callee is congested.
///
/// Source: Chiu and Jain 1989; the constants are those of Netflix' concurrency-limits (`x 0.9`,
/// `+ 1`). Netflix calls it congestion when a call was dropped or took more than 5 s, which a
/// service that queues for long shows far too late. Here it is, besides drops, a window in which
/// calls took 1.15 times as long as normal. What is added grows with the windows in a row in which
/// the limit grew ([`LimitSample::haste`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aimd {
    increase: f64,
    backoff: f64,
    tolerance: f64,
}

impl Default for Aimd {
    fn default() -> Self {
        Self { increase: 1.0, backoff: 0.9, tolerance: 1.15 }
    }
}

impl Aimd {
    /// With the constants above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Limiter for Aimd {
    fn next_limit(&mut self, sample: &LimitSample) -> f64 {
        let fewer = sample.limit * self.backoff;
        if sample.is_dropping() {
            fewer
        } else if sample.slowness() > self.tolerance {
            sample.cut(fewer)
        } else {
            sample.limit + self.increase * sample.haste()
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "they come out exactly")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_more_while_all_is_well_and_a_tenth_fewer_when_congested() {
        let mut aimd = Aimd::new();
        let normal = Duration::from_millis(100);
        let sample = LimitSample::new(20.0, Duration::from_millis(114), normal);
        assert_eq!(aimd.next_limit(&sample), 21.0);
        let slow = LimitSample::new(20.0, Duration::from_millis(116), normal);
        assert_eq!(aimd.next_limit(&slow), 18.0);
        assert_eq!(aimd.next_limit(&LimitSample { confirmed: 19.0, ..slow }), 19.0);
        assert_eq!(aimd.next_limit(&LimitSample { dropped: 6, ..sample }), 18.0);
        assert_eq!(aimd.next_limit(&LimitSample { dropped: 4, ..sample }), 21.0);
    }
}
