use outrigger_core::Observe;
use outrigger_ratelimit::{
    AdaptiveLimitEvent, ClientThrottleEvent, ConcurrencyLimitEvent, RateLimitEvent,
};

use super::{Level, Note, Told, short, spaced, would};
use crate::Diagnosis;

impl Observe<AdaptiveLimitEvent> for Diagnosis {
    fn observe(&self, key: &str, event: &AdaptiveLimitEvent) {
        if !matches!(event, AdaptiveLimitEvent::Waited { .. }) {
            self.note(key, Note::of(Told::Adaptive(*event)));
        }
    }
}

impl Observe<ConcurrencyLimitEvent> for Diagnosis {
    fn observe(&self, key: &str, event: &ConcurrencyLimitEvent) {
        // That a call waited is no news: how many wait stands in the snapshot.
        if !matches!(event, ConcurrencyLimitEvent::Waited { .. }) {
            self.note(key, Note::of(Told::Concurrency(*event)));
        }
    }
}

impl Observe<RateLimitEvent> for Diagnosis {
    fn observe(&self, key: &str, event: &RateLimitEvent) {
        if !matches!(event, RateLimitEvent::Waited { .. }) {
            self.note(key, Note::of(Told::Rate(*event)));
        }
    }
}

impl Observe<ClientThrottleEvent> for Diagnosis {
    fn observe(&self, key: &str, event: &ClientThrottleEvent) {
        self.note(key, Note::of(Told::Throttle(*event)));
    }
}

fn refused(reason: &'static str, shadow: bool, told: Told) -> Note {
    let level = if shadow { Level::Info } else { Level::Warning };
    Note::rare("ratelimit", "refused", level, told).frequent(reason)
}

fn other(kind: &'static str, told: Told) -> Note {
    Note::rare("ratelimit", kind, Level::Info, told).frequent("")
}

pub(super) fn note_adaptive(event: &AdaptiveLimitEvent, told: Told) -> Note {
    match event {
        AdaptiveLimitEvent::Changed { reason, .. } => {
            Note::rare("ratelimit", "limit_changed", Level::Info, told).frequent(reason.reason())
        }
        AdaptiveLimitEvent::Refused { reason, shadow, .. } => {
            refused(reason.reason(), *shadow, told)
        }
        AdaptiveLimitEvent::WouldWait { .. } => other("would_wait", told),
        _ => other("other", told),
    }
}

pub(super) fn note_concurrency(event: &ConcurrencyLimitEvent, told: Told) -> Note {
    match event {
        ConcurrencyLimitEvent::Refused { reason, shadow, .. } => {
            refused(reason.reason(), *shadow, told)
        }
        ConcurrencyLimitEvent::WouldWait { .. } => other("would_wait", told),
        _ => other("other", told),
    }
}

pub(super) fn note_rate(event: &RateLimitEvent, told: Told) -> Note {
    match event {
        RateLimitEvent::Refused { reason, shadow, .. } => refused(reason.reason(), *shadow, told),
        RateLimitEvent::WouldWait { .. } => other("would_wait", told),
        _ => other("other", told),
    }
}

pub(super) fn note_throttle(event: &ClientThrottleEvent, told: Told) -> Note {
    match event {
        ClientThrottleEvent::Refused { shadow, .. } => {
            refused(outrigger_ratelimit::THROTTLED, *shadow, told)
        }
        _ => other("other", told),
    }
}

const WOULD_REFUSE: &str = "would refuse a call";
const REFUSED: &str = "refused a call";

pub(super) fn text_of_adaptive(event: &AdaptiveLimitEvent) -> String {
    match event {
        AdaptiveLimitEvent::Changed { from, to, reason } => {
            format!("the limit went from {from} to {to}: {}", reason.reason())
        }
        AdaptiveLimitEvent::Refused { reason, in_flight, limit, shadow, .. } => {
            text_of_place(*shadow, reason.reason(), *in_flight, *limit)
        }
        AdaptiveLimitEvent::WouldWait { .. } => "would let a call wait".to_owned(),
        other => format!("{other:?}"),
    }
}

fn text_of_place(shadow: bool, reason: &str, in_flight: u32, limit: u32) -> String {
    let refused = would(shadow, WOULD_REFUSE, REFUSED);
    format!("{refused}: {}, {in_flight} of {limit} in flight", spaced(reason))
}

pub(super) fn text_of_concurrency(event: &ConcurrencyLimitEvent) -> String {
    match event {
        ConcurrencyLimitEvent::Refused { reason, in_flight, limit, shadow, .. } => {
            text_of_place(*shadow, reason.reason(), *in_flight, *limit)
        }
        ConcurrencyLimitEvent::WouldWait { .. } => "would let a call wait".to_owned(),
        other => format!("{other:?}"),
    }
}

pub(super) fn text_of_rate(event: &RateLimitEvent) -> String {
    match event {
        RateLimitEvent::Refused { reason, retry_after, shadow, .. } => {
            let refused = would(*shadow, WOULD_REFUSE, REFUSED);
            let tokens = retry_after.map(|wait| format!(", tokens in {}", short(wait)));
            let reason = spaced(reason.reason());
            format!("{refused}: {reason}{}", tokens.unwrap_or_default())
        }
        RateLimitEvent::WouldWait { wait } => format!("would let a call wait for {}", short(*wait)),
        other => format!("{other:?}"),
    }
}

pub(super) fn text_of_throttle(event: &ClientThrottleEvent) -> String {
    match event {
        ClientThrottleEvent::Refused { probability, requests, accepts, shadow, .. } => {
            let refused = would(*shadow, WOULD_REFUSE, REFUSED);
            let share = probability * 100.0;
            format!("{refused}: {accepts} of {requests} accepted, {share:.0} % refused here")
        }
        other => format!("{other:?}"),
    }
}
