//! The rule: when calls pass, when the circuit opens, and when it closes again.
//!
//! Knows neither tower nor async, reads no clock and tells no observer: `now` comes in, and what
//! changed goes out. A call on a closed circuit takes no lock. A failed call, a probe and a change
//! of state take one for a few instructions, with nothing of the user's under it.

mod admit;
mod half_open;
#[cfg(all(test, outrigger_loom))]
mod loom;
mod record;
mod successes;
mod ticket;
mod window;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use fastrand::Rng;
use outrigger_core::Enforcement;
use tokio::time::Instant;

pub(crate) use self::{
    admit::{Admission, Refusal},
    record::Recorded,
    ticket::Ticket,
};
use self::{
    half_open::Probes,
    successes::{Successes, tag},
    window::{Window, saturating_ns},
};
use crate::{
    Cause, CircuitBreakerPolicy, State, StateChange, TripRule, WindowCounts,
    sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};

/// One circuit.
#[derive(Debug)]
pub(crate) struct Engine {
    epoch: Instant,
    /// The generation, then two bits of state. Changed only with `core` locked.
    word: AtomicU64,
    /// While open or half open: no call passes before then, in ns since `epoch`.
    gate_ns: AtomicU64,
    /// When the present bucket of a time window ends, in ns since `epoch`.
    bucket_end_ns: AtomicU64,
    /// Whether the last call failed, so that a success has a streak to end.
    has_streak: AtomicBool,
    /// Whether even a plain success must go through `core`: the window is one of calls.
    counts_calls: AtomicBool,
    /// From which duration on a call is slow; `u64::MAX` where no rule asks.
    slow_ns: AtomicU64,
    /// Mirrors the policy's enforcement.
    enforcement: AtomicU64,
    successes: Successes,
    core: Mutex<Core>,
}

/// What only changes now and then.
#[derive(Debug)]
struct Core {
    policy: Arc<CircuitBreakerPolicy>,
    window: Window,
    /// Failures in a row, and when the first of them ended.
    streak: u64,
    streak_since_ns: u64,
    probes: Probes,
    /// How often the circuit tripped without staying closed in between, for growing cool-downs.
    repeats: u32,
    last_cool_down: Duration,
    closed_since_ns: Option<u64>,
    last_trip: Option<(TripRule, WindowCounts)>,
    rng: Rng,
}

const NEVER: u64 = u64::MAX;

impl Engine {
    pub(crate) fn new(
        policy: Arc<CircuitBreakerPolicy>,
        epoch: Instant,
        stripes: usize,
        rng: Rng,
    ) -> Self {
        let core = Core {
            window: Window::new(policy.window(), 0),
            streak: 0,
            streak_since_ns: 0,
            probes: Probes::default(),
            repeats: 0,
            last_cool_down: Duration::ZERO,
            closed_since_ns: None,
            last_trip: None,
            rng,
            policy,
        };
        let engine = Self {
            epoch,
            word: AtomicU64::new(packed(0, State::Closed)),
            gate_ns: AtomicU64::new(0),
            bucket_end_ns: AtomicU64::new(0),
            has_streak: AtomicBool::new(false),
            counts_calls: AtomicBool::new(false),
            slow_ns: AtomicU64::new(NEVER),
            enforcement: AtomicU64::new(0),
            successes: Successes::new(stripes, 0),
            core: Mutex::new(core),
        };
        engine.mirror(&engine.lock());
        engine
    }

    /// Acts by `policy` from now on. The state stays; the counts stay when the window's shape does.
    pub(crate) fn set_policy(&self, policy: Arc<CircuitBreakerPolicy>, now: Instant) {
        let mut core = self.lock();
        if policy.window() != core.policy.window() {
            core.window = Window::new(policy.window(), self.ns(now));
            self.successes.restart(self.generation());
        }
        core.policy = policy;
        if self.state() == State::HalfOpen {
            let gate_ns = core.probes.gate_ns(&core.policy);
            self.gate_ns.store(gate_ns, Ordering::Relaxed);
        }
        self.mirror(&core);
    }

    /// Puts what a success looks at where it can be read without the lock.
    fn mirror(&self, core: &Core) {
        let bucket_end_ns = match &core.window {
            Window::Time(window) => window.bucket_end_ns(),
            Window::Count(_) => NEVER,
        };
        self.bucket_end_ns.store(bucket_end_ns, Ordering::Relaxed);
        let counts_calls = matches!(core.window, Window::Count(_));
        self.counts_calls.store(counts_calls, Ordering::Relaxed);
        let slow_ns = core.policy.slow_threshold().map_or(NEVER, saturating_ns);
        self.slow_ns.store(slow_ns, Ordering::Relaxed);
        self.enforcement.store(core.policy.enforcement() as u64, Ordering::Relaxed);
    }

    /// Whether the policy that the engine acts by acts.
    pub(crate) fn enforcement(&self) -> Enforcement {
        match self.enforcement.load(Ordering::Relaxed) {
            0 => Enforcement::Enforced,
            1 => Enforcement::Shadow,
            _ => Enforcement::Disabled,
        }
    }

    /// Whether the policy that the engine acts by does nothing.
    #[inline]
    pub(crate) fn is_disabled(&self) -> bool {
        self.enforcement.load(Ordering::Relaxed) == Enforcement::Disabled as u64
    }

    /// Whether the ticket of a call needs to know when the call started.
    #[inline]
    pub(crate) fn wants_latency(&self) -> bool {
        self.slow_ns.load(Ordering::Relaxed) != NEVER
    }

    /// Lets `ticket` know when its call started.
    #[inline]
    pub(crate) fn start(&self, ticket: &mut Ticket, now: Instant) {
        ticket.start(self.ns(now));
    }

    /// Forces the circuit open until it is reset.
    pub(crate) fn force_open(&self) -> Option<StateChange> {
        let mut core = self.lock();
        let is_new = self.state() != State::ForcedOpen;
        is_new.then(|| self.enter(&mut core, State::ForcedOpen, Cause::ByHand, NEVER))
    }

    /// Closes the circuit and forgets all counts and trips. No change if it is closed already.
    pub(crate) fn reset(&self) -> Option<StateChange> {
        let mut core = self.lock();
        let was_closed = self.state() == State::Closed;
        let change = self.enter(&mut core, State::Closed, Cause::ByHand, 0);
        core.repeats = 0;
        core.closed_since_ns = None;
        core.last_trip = None;
        (!was_closed).then_some(change)
    }

    /// Changes the state: the one place where a generation ends and the next begins.
    fn enter(&self, core: &mut Core, to: State, cause: Cause, gate_ns: u64) -> StateChange {
        let (generation, from) = unpacked(self.word.load(Ordering::Relaxed));
        let counts = self.counts_in(core);
        let generation = generation + 1;
        self.gate_ns.store(gate_ns, Ordering::Relaxed);
        self.word.store(packed(generation, to), Ordering::Release);
        self.successes.restart(generation);
        core.window.clear();
        core.probes.clear();
        core.streak = 0;
        self.has_streak.store(false, Ordering::Relaxed);
        StateChange { from, to, cause, counts, cool_down: None, generation }
    }

    /// Where the circuit stands.
    pub(crate) fn state(&self) -> State {
        unpacked(self.word.load(Ordering::Acquire)).1
    }

    /// Counts the changes of state.
    pub(crate) fn generation(&self) -> u64 {
        unpacked(self.word.load(Ordering::Acquire)).0
    }

    /// Whether it is closed in the generation with this tag.
    fn is_closed_in(&self, tag_of_generation: u64) -> bool {
        let (generation, state) = unpacked(self.word.load(Ordering::Acquire));
        state == State::Closed && tag(generation) == tag_of_generation
    }

    /// How much of the cool-down is left, while the circuit is open.
    pub(crate) fn cool_down_left(&self, now: Instant) -> Option<Duration> {
        let state = self.state();
        let gate_ns = self.gate_ns.load(Ordering::Relaxed);
        Self::refusal(state, gate_ns, self.ns(now)).retry_after
    }

    /// The calls in the window.
    pub(crate) fn counts(&self, now: Instant) -> WindowCounts {
        let mut core = self.lock();
        self.move_on(&mut core, self.ns(now));
        self.counts_in(&core)
    }

    /// The calls in the window in at most `most` steps, oldest first.
    pub(crate) fn window(&self, now: Instant, most: NonZeroUsize) -> Vec<WindowCounts> {
        let mut core = self.lock();
        self.move_on(&mut core, self.ns(now));
        match &core.window {
            Window::Time(window) => window.steps(self.successes.sum(), most),
            Window::Count(window) => window.steps(most),
        }
    }

    /// What opened the circuit last, and the calls that were in the window then.
    pub(crate) fn last_trip(&self) -> Option<(TripRule, WindowCounts)> {
        self.lock().last_trip
    }

    fn counts_in(&self, core: &Core) -> WindowCounts {
        match &core.window {
            Window::Time(window) => window.counts(self.successes.sum()),
            Window::Count(window) => window.counts(),
        }
    }

    fn move_on(&self, core: &mut Core, now_ns: u64) {
        if let Window::Time(window) = &mut core.window {
            window.move_on(now_ns, self.successes.sum());
            self.bucket_end_ns.store(window.bucket_end_ns(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // Nothing of the user's runs under the lock, and what does leaves the core whole.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn ns(&self, now: Instant) -> u64 {
        saturating_ns(now.saturating_duration_since(self.epoch))
    }
}

fn packed(generation: u64, state: State) -> u64 {
    let bits = match state {
        State::Closed => 0,
        State::Open => 1,
        State::HalfOpen => 2,
        State::ForcedOpen => 3,
    };
    generation << 2 | bits
}

fn unpacked(word: u64) -> (u64, State) {
    let state = match word & 3 {
        0 => State::Closed,
        1 => State::Open,
        2 => State::HalfOpen,
        _ => State::ForcedOpen,
    };
    (word >> 2, state)
}
