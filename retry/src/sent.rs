/// Whether a call may have been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between")]
pub enum Sent {
    /// It never left this process: it may be repeated whatever it does.
    No,
    /// The peer says that it did not process it: it may be repeated at once, and for free.
    Refused,
    /// It may have been executed.
    Maybe,
}
