/// What a call turned out to be, for governance.
///
/// The four classes are Kitex's error types (`TypeSuccess`, `TypeFailure`, `TypeTimeout`,
/// `TypeIgnorable`). The set is closed: every layer must know what to do with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Outcome {
    /// The callee did its work.
    Success,
    /// The callee failed, or could not be reached.
    Failure,
    /// The callee did not answer in time. Counts as a failure, and is told apart in reports.
    Timeout,
    /// Says nothing about the callee's health: the caller's own mistake, a refusal by a layer of
    /// ours, a cancelled call. Neither opens a circuit nor closes one.
    Ignored,
}

impl Outcome {
    /// Whether the callee is to blame: [`Failure`](Self::Failure) or [`Timeout`](Self::Timeout).
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::Timeout)
    }
}
