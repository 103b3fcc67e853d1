use super::{LimitSample, Limiter, step};

/// Follows the ratio of the normal latency to the present one.
///
/// Source: Netflix' concurrency-limits. With `step = max(1, log10(limit))`:
/// `gradient = clamp(normal / latency, 0.5, 1)`, and the limit goes to
/// `limit * gradient + step`; up at once, down by a fifth of the way.
///
/// Netflix takes the average of the last 600 samples for normal, and so learns the queue that it
/// built itself: the limit grows without end under saturation. Here the normal latency is guarded:
/// see [`AdaptiveLimit`](crate::AdaptiveLimit). With that, Netflix' tolerance of 1.5 and queue of 4
/// would settle at 34 calls where the callee has room for 20; this without tolerance at about 24.
/// Netflix smooths growth too, by which a small queue allowance takes a minute to follow a callee
/// that became faster; here `step` grows with the windows in a row in which the limit grew
/// ([`LimitSample::haste`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gradient2 {
    tolerance: f64,
    smoothing: f64,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self { tolerance: 1.0, smoothing: 0.2 }
    }
}

impl Gradient2 {
    /// With the constants above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Limiter for Gradient2 {
    fn next_limit(&mut self, sample: &LimitSample) -> f64 {
        let limit = sample.limit;
        let gradient = (self.tolerance / sample.slowness()).clamp(0.5, 1.0);
        let aim = if sample.is_dropping() {
            limit * 0.5
        } else {
            limit * gradient + step(limit) * sample.haste()
        };
        let fewer = limit + (aim - limit) * self.smoothing;
        match aim < limit {
            false => aim,
            true if sample.is_dropping() => fewer,
            true => sample.cut(fewer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_settles_a_little_above_the_capacity_and_does_not_leave() {
        let mut gradient = Gradient2::new();
        for capacity in [10.0_f64, 20.0, 100.0] {
            let mut limit = 200.0;
            for _ in 0..20_000 {
                let latency = Duration::from_secs_f64((limit / capacity).max(1.0));
                let sample = LimitSample::new(limit, latency, Duration::from_secs(1));
                limit = gradient.next_limit(&sample);
            }
            assert!((1.0..1.2).contains(&(limit / capacity)), "{limit} for {capacity}");
        }
    }

    #[test]
    fn one_slow_window_costs_at_most_a_tenth() {
        let slow = LimitSample::new(100.0, Duration::from_secs(60), Duration::from_millis(1));
        assert!(Gradient2::new().next_limit(&slow) >= 90.0);
    }

    #[test]
    fn a_step_up_grows_to_five_times_with_the_windows_in_which_the_limit_grew() {
        let well = LimitSample::new(100.0, Duration::from_secs(1), Duration::from_secs(1));
        let after = |growing| Gradient2::new().next_limit(&LimitSample { growing, ..well });
        assert!((after(0) - 102.0).abs() < 1e-9 && (after(u32::MAX) - 110.0).abs() < 1e-9);
    }

    #[test]
    fn a_latency_alone_cuts_no_further_than_is_confirmed_and_a_drop_does() {
        let slow = LimitSample::new(100.0, Duration::from_secs(3), Duration::from_secs(1));
        let slow = LimitSample { confirmed: 95.0, ..slow };
        assert!((Gradient2::new().next_limit(&slow) - 95.0).abs() < 1e-9);
        let dropping = LimitSample { dropped: 10, ..slow };
        assert!((Gradient2::new().next_limit(&dropping) - 90.0).abs() < 1e-9);
    }
}
