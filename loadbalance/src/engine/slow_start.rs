use std::time::Duration;

use outrigger_core::InvalidPolicy;

/// How the share of a new endpoint grows: Envoy's slow start.
///
/// `t` after it joined, an endpoint has `max(min_share, (t / window)^(1 / aggression))` of its
/// weight. It applies to every picker but the hashing ones, where a key must keep its endpoint. A
/// fleet in which all are new does not ramp; an endpoint that returns from an ejection does.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger_loadbalance::SlowStartPolicy;
///
/// let policy = SlowStartPolicy::new(Duration::from_secs(30));
/// assert_eq!(policy.share(Duration::ZERO), 0.1);
/// assert_eq!(policy.share(Duration::from_secs(15)), 0.5);
/// assert_eq!(policy.share(Duration::from_secs(31)), 1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStartPolicy {
    pub(crate) window: Duration,
    pub(crate) aggression: f64,
    pub(crate) min_share: f64,
}

impl SlowStartPolicy {
    /// Grows linearly over `window`, from a tenth of the weight.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self { window, aggression: 1.0, min_share: 0.1 }
    }

    /// Bends the curve: above 1 it grows faster at first. Default: 1, a straight line.
    ///
    /// # Errors
    ///
    /// When `aggression` is not a number above 0.
    pub fn aggression(mut self, aggression: f64) -> Result<Self, InvalidPolicy> {
        if !(aggression.is_finite() && aggression > 0.0) {
            let field = "slow_start.aggression";
            return Err(InvalidPolicy::new(field, aggression, "a number above 0"));
        }
        self.aggression = aggression;
        Ok(self)
    }

    /// The share to start from. Default: 0.1.
    ///
    /// # Errors
    ///
    /// When `share` is not above 0 and at most 1.
    pub fn min_share(mut self, share: f64) -> Result<Self, InvalidPolicy> {
        if !(share > 0.0 && share <= 1.0) {
            let field = "slow_start.min_share";
            return Err(InvalidPolicy::new(field, share, "a share above 0 and at most 1"));
        }
        self.min_share = share;
        Ok(self)
    }

    /// How long the growth takes.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// The share of its weight that an endpoint has `age` after it joined.
    #[must_use]
    pub fn share(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let progress = age.as_secs_f64() / self.window.as_secs_f64();
        progress.powf(1.0 / self.aggression).max(self.min_share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_the_formula_of_envoy() {
        for aggression in [0.5, 1.0, 2.0] {
            let window = Duration::from_secs(30);
            let policy = SlowStartPolicy::new(window).aggression(aggression).unwrap();
            for second in 0..30 {
                let expected = (f64::from(second) / 30.0).powf(1.0 / aggression).max(0.1);
                let share = policy.share(Duration::from_secs(u64::try_from(second).unwrap()));
                assert!((share - expected).abs() < 0.001, "{second} s: {share}, {expected}");
            }
        }
    }

    #[test]
    fn extreme_ages_and_windows_do_not_panic() {
        assert!((SlowStartPolicy::new(Duration::ZERO).share(Duration::ZERO) - 1.0).abs() < 1e-9);
        assert!((SlowStartPolicy::new(Duration::MAX).share(Duration::ZERO) - 0.1).abs() < 1e-9);
        assert!(SlowStartPolicy::new(Duration::MAX).aggression(f64::NAN).is_err());
        assert!(SlowStartPolicy::new(Duration::MAX).min_share(0.0).is_err());
    }
}
