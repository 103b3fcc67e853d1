//! What the layers told, and how it reads.

#[cfg(feature = "circuitbreak")]
mod circuitbreak;
#[cfg(feature = "loadbalance")]
mod loadbalance;
#[cfg(feature = "ratelimit")]
mod ratelimit;
#[cfg(feature = "retry")]
mod retry;

use super::parts::Change;

/// An event, put into words when somebody reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub(super) source: &'static str,
    pub(super) kind: &'static str,
    /// Tells events of a kind apart that are not to be counted together.
    pub(super) detail: &'static str,
    pub(super) level: Level,
    /// Whether there may be one for every call.
    pub(super) is_frequent: bool,
    pub(super) told: Told,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    ByHand(Change),
    /// Whether a set of policies is in force now, or was refused.
    Reloaded(bool),
    #[cfg(feature = "circuitbreak")]
    Breaker(outrigger_circuitbreak::CircuitBreakerEvent),
    #[cfg(feature = "ratelimit")]
    Adaptive(outrigger_ratelimit::AdaptiveLimitEvent),
    #[cfg(feature = "ratelimit")]
    Concurrency(outrigger_ratelimit::ConcurrencyLimitEvent),
    #[cfg(feature = "ratelimit")]
    Rate(outrigger_ratelimit::RateLimitEvent),
    #[cfg(feature = "ratelimit")]
    Throttle(outrigger_ratelimit::ClientThrottleEvent),
    #[cfg(feature = "retry")]
    Retry(outrigger_retry::RetryEvent),
    #[cfg(feature = "retry")]
    Timeout(outrigger_retry::TimeoutEvent),
    #[cfg(feature = "loadbalance")]
    Balance(outrigger_loadbalance::BalanceEvent),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "circuitbreak", feature = "loadbalance")),
    expect(dead_code, reason = "each layer has its own use for them")
)]
pub(super) enum Level {
    Good,
    Info,
    Warning,
    Bad,
}

impl Level {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

impl Note {
    /// One that does not come with every call.
    pub(super) const fn rare(
        source: &'static str,
        kind: &'static str,
        level: Level,
        told: Told,
    ) -> Self {
        Self { source, kind, detail: "", level, is_frequent: false, told }
    }

    pub(super) fn of(told: Told) -> Self {
        match told {
            Told::ByHand(change) => Self::rare("by_hand", change.word(), Level::Warning, told),
            Told::Reloaded(true) => Self::rare("policies", "replaced", Level::Info, told),
            Told::Reloaded(false) => Self::rare("policies", "refused", Level::Bad, told),
            #[cfg(feature = "circuitbreak")]
            Told::Breaker(event) => circuitbreak::note(&event, told),
            #[cfg(feature = "ratelimit")]
            Told::Adaptive(event) => ratelimit::note_adaptive(&event, told),
            #[cfg(feature = "ratelimit")]
            Told::Concurrency(event) => ratelimit::note_concurrency(&event, told),
            #[cfg(feature = "ratelimit")]
            Told::Rate(event) => ratelimit::note_rate(&event, told),
            #[cfg(feature = "ratelimit")]
            Told::Throttle(event) => ratelimit::note_throttle(&event, told),
            #[cfg(feature = "retry")]
            Told::Retry(event) => retry::note(&event, told),
            #[cfg(feature = "retry")]
            Told::Timeout(event) => retry::note_timeout(&event, told),
            #[cfg(feature = "loadbalance")]
            Told::Balance(event) => loadbalance::note(&event, told),
        }
    }

    /// Counts together what comes with every call.
    #[cfg(any(
        feature = "circuitbreak",
        feature = "loadbalance",
        feature = "ratelimit",
        feature = "retry"
    ))]
    const fn frequent(self, detail: &'static str) -> Self {
        Self { detail, is_frequent: true, ..self }
    }

    /// Whether both are the same but for numbers.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let words = |note: &Self| (note.source, note.kind, note.detail, note.level);
        words(self) == words(other)
    }
}

impl Told {
    /// In words, for people.
    pub(super) fn text(self) -> String {
        match self {
            Self::ByHand(change) => match change {
                Change::ForceOpen => "forced open: refuses every call",
                Change::ForceClosed => "forced closed: every call passes",
                Change::Reset => "reset: closed, counts forgotten",
                Change::Enforce => "enforced again",
                Change::Shadow => "put in shadow: only says what it would do",
                Change::SwitchOff => "switched off",
            }
            .to_owned(),
            Self::Reloaded(true) => "a new set of policies is in force".to_owned(),
            Self::Reloaded(false) => {
                "a set of policies was refused, the one before stays in force".to_owned()
            }
            #[cfg(feature = "circuitbreak")]
            Self::Breaker(event) => circuitbreak::text(&event),
            #[cfg(feature = "ratelimit")]
            Self::Adaptive(event) => ratelimit::text_of_adaptive(&event),
            #[cfg(feature = "ratelimit")]
            Self::Concurrency(event) => ratelimit::text_of_concurrency(&event),
            #[cfg(feature = "ratelimit")]
            Self::Rate(event) => ratelimit::text_of_rate(&event),
            #[cfg(feature = "ratelimit")]
            Self::Throttle(event) => ratelimit::text_of_throttle(&event),
            #[cfg(feature = "retry")]
            Self::Retry(event) => retry::text(&event),
            #[cfg(feature = "retry")]
            Self::Timeout(event) => retry::text_of_timeout(&event),
            #[cfg(feature = "loadbalance")]
            Self::Balance(event) => loadbalance::text(&event),
        }
    }
}

/// A stable word as people read it.
#[cfg(any(
    feature = "circuitbreak",
    feature = "loadbalance",
    feature = "ratelimit",
    feature = "retry"
))]
fn spaced(word: &str) -> String {
    word.replace('_', " ")
}

/// A refusal as a shadowed policy tells it, or as an enforced one does.
#[cfg(any(feature = "circuitbreak", feature = "ratelimit", feature = "retry"))]
const fn would(shadow: bool, in_shadow: &'static str, enforced: &'static str) -> &'static str {
    if shadow { in_shadow } else { enforced }
}

/// A duration to three digits.
#[cfg(any(
    feature = "circuitbreak",
    feature = "loadbalance",
    feature = "ratelimit",
    feature = "retry"
))]
fn short(duration: std::time::Duration) -> String {
    let ms = duration.as_secs_f64() * 1_000.0;
    match ms {
        ..1.0 => format!("{ms:.2} ms"),
        1.0..10.0 => format!("{ms:.1} ms"),
        10.0..1_000.0 => format!("{ms:.0} ms"),
        1_000.0..60_000.0 => format!("{:.1} s", ms / 1_000.0),
        _ => format!("{:.1} min", ms / 60_000.0),
    }
}
