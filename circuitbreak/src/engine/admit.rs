//! Which calls pass.

use std::time::Duration;

use tokio::time::Instant;

use super::{Engine, NEVER, Ticket, unpacked};
use crate::{Cause, State, StateChange, sync::Ordering};

/// Why a call does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) state: State,
    pub(crate) retry_after: Option<Duration>,
}

/// An answer to a call that asks to pass, and what else came of it.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) decision: Result<Ticket, Refusal>,
    pub(crate) change: Option<StateChange>,
    pub(crate) probe_lost: bool,
}

impl From<Result<Ticket, Refusal>> for Admission {
    fn from(decision: Result<Ticket, Refusal>) -> Self {
        Self { decision, change: None, probe_lost: false }
    }
}

impl Engine {
    /// Lets a call through if the circuit is closed: for which no clock is needed.
    #[inline]
    pub(crate) fn admit_closed(&self) -> Option<Ticket> {
        // `Acquire` pairs with the `Release` in `enter`, here and in `admit`: who sees a state sees
        // the gate that was set for it.
        let (generation, state) = unpacked(self.word.load(Ordering::Acquire));
        (state == State::Closed).then(|| Ticket::closed(generation))
    }

    /// Says how long to stay away if no call can pass at `now`, which is how most refusals are made.
    #[inline]
    pub(crate) fn refuse_before_gate(&self, now: Instant) -> Option<Refusal> {
        let (_, state) = unpacked(self.word.load(Ordering::Acquire));
        let gate_ns = self.gate_ns.load(Ordering::Relaxed);
        let now_ns = self.ns(now);
        let is_shut = matches!(state, State::Open | State::HalfOpen) && now_ns < gate_ns;
        is_shut.then(|| Self::refusal(state, gate_ns, now_ns))
    }

    /// Lets a call through, or says how long to stay away.
    pub(crate) fn admit(&self, now: Instant) -> Admission {
        let now_ns = self.ns(now);
        let (generation, state) = unpacked(self.word.load(Ordering::Acquire));
        match state {
            State::Closed => Ok(Ticket::closed(generation)).into(),
            State::ForcedOpen => Err(Refusal { state, retry_after: None }).into(),
            State::Open | State::HalfOpen => {
                let gate_ns = self.gate_ns.load(Ordering::Relaxed);
                if now_ns < gate_ns {
                    return Err(Self::refusal(state, gate_ns, now_ns)).into();
                }
                self.admit_probe(now_ns)
            }
        }
    }

    pub(super) fn refusal(state: State, gate_ns: u64, now_ns: u64) -> Refusal {
        let wait = Duration::from_nanos(gate_ns.saturating_sub(now_ns));
        let is_known = state == State::Open && gate_ns != NEVER;
        Refusal { state, retry_after: is_known.then_some(wait) }
    }

    fn admit_probe(&self, now_ns: u64) -> Admission {
        let mut core = self.lock();
        let core = &mut *core;
        let mut change = None;
        // Looked at again, since another call may have been here before.
        let (generation, state) = unpacked(self.word.load(Ordering::Relaxed));
        match state {
            State::Closed => return Ok(Ticket::closed(generation)).into(),
            State::ForcedOpen => return Err(Refusal { state, retry_after: None }).into(),
            State::Open => {
                let gate_ns = self.gate_ns.load(Ordering::Relaxed);
                if now_ns < gate_ns {
                    return Err(Self::refusal(state, gate_ns, now_ns)).into();
                }
                core.probes.restart(&core.policy);
                change = Some(self.enter(core, State::HalfOpen, Cause::CooledDown, 0));
            }
            State::HalfOpen => {}
        }
        let probe_lost = core.probes.drop_lost(now_ns);
        let probe = core.probes.admit(&core.policy, now_ns);
        let gate_ns = core.probes.gate_ns(&core.policy);
        self.gate_ns.store(gate_ns, Ordering::Relaxed);
        let decision = match probe {
            Some(id) => Ok(Ticket::probe(id)),
            None => Err(Self::refusal(State::HalfOpen, gate_ns, now_ns)),
        };
        Admission { decision, change, probe_lost }
    }
}
