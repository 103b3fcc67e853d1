use std::time::Duration;

/// What a server says about when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a server says when, or never")]
pub enum Pushback {
    /// After so long.
    Wait(Duration),
    /// Not at all.
    Stop,
}
