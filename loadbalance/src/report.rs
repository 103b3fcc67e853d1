#[cfg(feature = "orca")]
mod orca;

/// What an endpoint says of its own load: the part of ORCA's `OrcaLoadReport` that weights are
/// made of.
///
/// ```
/// use outrigger_loadbalance::LoadReport;
///
/// let report = LoadReport { qps: 200.0, eps: 0.0, utilization: 0.5 };
/// assert_eq!(report.weight(1.0), Some(400.0));
/// // A tenth of the calls fail: the load counts a tenth higher.
/// let failing = LoadReport { eps: 20.0, ..report };
/// assert!((failing.weight(1.0).unwrap() - 333.33).abs() < 0.01);
/// assert_eq!(LoadReport { qps: 0.0, ..report }.weight(1.0), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the three figures of A58")]
pub struct LoadReport {
    /// Calls per second that it serves.
    pub qps: f64,
    /// Errors per second among them.
    pub eps: f64,
    /// How much of its capacity is in use: 1.0 is all of it; may be above.
    pub utilization: f64,
}

impl LoadReport {
    /// `qps / (utilization + eps / qps · error_penalty)`: gRPC's A58. `None` when the report says
    /// nothing usable.
    #[must_use]
    pub fn weight(&self, error_penalty: f64) -> Option<f64> {
        let is_usable = self.qps > 0.0 && self.utilization > 0.0;
        let weight = self.qps / (self.utilization + self.eps.max(0.0) / self.qps * error_penalty);
        (is_usable && weight.is_finite() && weight > 0.0).then_some(weight)
    }
}
