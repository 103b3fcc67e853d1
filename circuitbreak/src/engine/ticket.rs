//! Leave to make one call, in one word.

use std::num::NonZeroU64;

use super::successes::tag;

/// Leave to make one call. Its permit spends it with the call's outcome, so it is not `Copy`.
///
/// One word, so that a permit travels in registers: the place of a probe, or else the tag of the
/// generation that let the call through, and when the call started.
#[derive(Debug)]
pub(crate) struct Ticket {
    word: u64,
}

/// What a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// A call on a circuit that was closed in the generation with this tag.
    Closed { tag: u64, start: Start },
    /// The probe of this name.
    Probe(NonZeroU64),
}

/// When a call started: in microseconds, without what goes beyond 101 days, so that up to 50 days can
/// be told to have passed. All bits are set where no rule asks for the latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start(u64);

const PROBE: u64 = 1 << 63;
const START_BITS: u32 = 43;
const START: u64 = (1 << START_BITS) - 1;
const NS_PER_US: u64 = 1_000;

impl Start {
    /// Whether it is known and at least `slow_ns` ago, and a microsecond ago at least.
    #[inline]
    pub(super) const fn is_ago(self, slow_ns: u64, now_ns: u64) -> bool {
        let passed_us = (now_ns / NS_PER_US).wrapping_sub(self.0) & START;
        let threshold_us = slow_ns / NS_PER_US;
        // More than half of what can be told is a `now` that was read before the start.
        let is_over = passed_us <= START / 2 && passed_us >= threshold_us && passed_us > 0;
        self.0 != START && is_over
    }
}

impl Ticket {
    /// Of no call.
    pub(crate) const fn void() -> Self {
        Self { word: 0 }
    }

    #[inline]
    pub(super) const fn closed(generation: u64) -> Self {
        Self { word: tag(generation) << START_BITS | START }
    }

    /// Names of probes are counted from 1, and do not come to 2^63.
    pub(super) const fn probe(id: NonZeroU64) -> Self {
        Self { word: PROBE | id.get() }
    }

    /// Notes when the call started. The start of a probe is known with its place.
    #[inline]
    pub(super) const fn start(&mut self, now_ns: u64) {
        if self.word & PROBE == 0 {
            // One number is kept for what is not known.
            let us = (now_ns / NS_PER_US) & START;
            let us = if us == START { us - 1 } else { us };
            self.word = self.word & !START | us;
        }
    }

    /// What it is for.
    #[inline]
    pub(super) const fn leave(&self) -> Leave {
        match NonZeroU64::new(self.word & !PROBE) {
            Some(id) if self.word & PROBE != 0 => Leave::Probe(id),
            _ => Leave::Closed { tag: self.word >> START_BITS, start: Start(self.word & START) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS_NS: u64 = 1_000_000;

    fn start_of(ticket: &Ticket) -> Start {
        match ticket.leave() {
            Leave::Closed { start, .. } => start,
            Leave::Probe(id) => panic!("probe {id}"),
        }
    }

    #[test]
    fn a_start_is_far_enough_ago_from_the_very_microsecond_on_even_when_its_count_begins_anew() {
        let wrap_ns = (START + 1) * NS_PER_US;
        for at_ns in [0, MS_NS, wrap_ns - 2 * NS_PER_US, wrap_ns, 7 * wrap_ns - MS_NS / 2] {
            let mut ticket = Ticket::closed(3);
            ticket.start(at_ns);
            let start = start_of(&ticket);
            assert!(start.is_ago(MS_NS, at_ns + MS_NS), "started at {at_ns}");
            assert!(!start.is_ago(MS_NS, at_ns + MS_NS - NS_PER_US), "started at {at_ns}");
        }
    }

    #[test]
    fn a_clock_that_was_read_just_before_the_start_makes_no_call_slow() {
        for at_ns in [MS_NS, (START + 1) * NS_PER_US] {
            let mut ticket = Ticket::closed(3);
            ticket.start(at_ns);
            let start = start_of(&ticket);
            for before_ns in [NS_PER_US, MS_NS] {
                assert!(!start.is_ago(MS_NS, at_ns - before_ns), "{before_ns} before {at_ns}");
            }
        }
    }

    #[test]
    fn a_call_that_took_no_time_is_never_slow_however_short_the_threshold() {
        let mut ticket = Ticket::closed(3);
        ticket.start(MS_NS);
        let start = start_of(&ticket);
        for slow_ns in [1, NS_PER_US - 1] {
            assert!(!start.is_ago(slow_ns, MS_NS));
            assert!(start.is_ago(slow_ns, MS_NS + NS_PER_US));
        }
    }

    #[test]
    fn a_call_whose_start_nobody_asked_for_is_never_slow() {
        assert!(!start_of(&Ticket::closed(3)).is_ago(0, u64::MAX));
    }

    #[test]
    fn a_ticket_tells_its_generation_whether_or_not_it_has_a_start() {
        let tag_of = |ticket: &Ticket| match ticket.leave() {
            Leave::Closed { tag, .. } => tag,
            Leave::Probe(id) => panic!("probe {id}"),
        };
        let mut ticket = Ticket::closed(3);
        assert_eq!(tag_of(&ticket), tag(3));
        ticket.start(u64::MAX);
        assert_eq!(tag_of(&ticket), tag(3));
        assert_eq!(tag_of(&Ticket::closed(u64::MAX)), tag(u64::MAX));
    }

    #[test]
    fn the_start_of_a_probe_leaves_its_name_as_it_is() {
        let id = NonZeroU64::new(42).unwrap();
        let mut ticket = Ticket::probe(id);
        ticket.start(MS_NS);
        assert_eq!(ticket.leave(), Leave::Probe(id));
    }
}
