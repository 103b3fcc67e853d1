use std::sync::Arc;

use outrigger_core::InvalidPolicy;

/// Prefers endpoints in the caller's own zone, as far as they have the capacity.
///
/// Callers are taken to be spread evenly over the zones, so the local endpoints owe
/// `total weight / zones`. They are good for `over_provisioning` times their healthy weight; what
/// is beyond spills over to the other zones in proportion to the weights there. The factor is
/// Envoy's 140 %: a zone keeps all its calls while 71 % of its share is healthy.
///
/// Does not apply to the hashing pickers: a key must have the same endpoint for all callers.
#[derive(Clone, Debug, PartialEq)]
pub struct ZonePolicy {
    pub(crate) local: Arc<str>,
    pub(crate) over_provisioning: f64,
}

impl ZonePolicy {
    /// Prefers the zone `local`.
    #[must_use]
    pub fn prefer(local: impl Into<Arc<str>>) -> Self {
        Self { local: local.into(), over_provisioning: 1.4 }
    }

    /// How many times its healthy weight the local zone is good for. Default: 1.4.
    ///
    /// # Errors
    ///
    /// When `factor` is not a number of at least 1.
    pub fn over_provisioning(mut self, factor: f64) -> Result<Self, InvalidPolicy> {
        if !(factor.is_finite() && factor >= 1.0) {
            let field = "zones.over_provisioning";
            return Err(InvalidPolicy::new(field, factor, "a factor of at least 1"));
        }
        self.over_provisioning = factor;
        Ok(self)
    }

    /// The caller's zone.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The share of calls that stays local.
    pub(crate) fn local_share(&self, healthy_local: f64, total: f64, zones: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful of zones")]
        let owed = total / zones.max(1) as f64;
        if owed <= 0.0 {
            return 0.0;
        }
        (self.over_provisioning * healthy_local / owed).min(1.0)
    }
}
