//! The breaker against a slow and obvious model of it, over random schedules of success, failure,
//! time-out, drop and time.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

mod support;

use std::time::Duration;

use outrigger_circuitbreak::{
    Abandoned, CircuitBreaker, CircuitBreakerPolicy, CircuitBreakerPolicyBuilder, Permit, State,
    WindowCounts,
};
use outrigger_core::Outcome;
use outrigger_testing::Walk;
use proptest::{prelude::*, test_runner::RngSeed};
use support::{MS, exact};
use tokio::time::Instant;

/// What may happen. Calls under way are named by their position, modulo their number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    Record(usize, Outcome),
    Drop(usize),
    Pass(u32),
    ForceOpen,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Success),
        4 => Just(Outcome::Failure),
        2 => Just(Outcome::Timeout),
        1 => Just(Outcome::Ignored),
    ];
    let step = prop_oneof![
        20 => Just(Step::Acquire),
        20 => (any::<usize>(), outcome).prop_map(|(call, outcome)| Step::Record(call, outcome)),
        3 => any::<usize>().prop_map(Step::Drop),
        8 => (0..150_u32).prop_map(Step::Pass),
        1 => (0..3_000_u32).prop_map(Step::Pass),
        1 => prop_oneof![Just(Step::ForceOpen), Just(Step::Reset)],
    ];
    prop::collection::vec(step, 1..300)
}

const WINDOW: Duration = Duration::from_secs(1);
const BUCKETS: u32 = 10;
const COOL_DOWN: Duration = Duration::from_millis(400);
const MAX_COOL_DOWN: Duration = Duration::from_secs(1);
const PROBE_INTERVAL: Duration = Duration::from_millis(60);
const PROBE_LIMIT: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_millis(250);
const MAX_PROBES: usize = 2;
const COUNT: usize = 8;

fn policy(counts_calls: bool, abandoned: Abandoned) -> CircuitBreakerPolicy {
    let window = |builder: CircuitBreakerPolicyBuilder| {
        if counts_calls {
            builder.count_window(8)
        } else {
            builder.time_window(WINDOW).window_buckets(BUCKETS)
        }
    };
    window(exact())
        .error_rate(0.5, 4)
        .consecutive_failures(5)
        .slow_calls(SLOW, 0.6, 3)
        .cool_down(COOL_DOWN)
        .cool_down_growth(2.0, MAX_COOL_DOWN)
        .probe_interval(PROBE_INTERVAL)
        .probe_limit(PROBE_LIMIT)
        .max_probes(2)
        .abandoned(abandoned)
        .build()
        .unwrap()
}

/// A call that counted: when it ended, and how.
type Ended = (Instant, Outcome, bool);

struct Model {
    start: Instant,
    counts_calls: bool,
    abandoned: Abandoned,
    state: State,
    era: u32,
    ended: Vec<Ended>,
    streak: u32,
    until: Instant,
    cool_down: Duration,
    repeats: u32,
    closed_since: Option<Instant>,
    probes: Vec<(u32, Instant)>,
    next_probe: u32,
    last_probe: Option<Instant>,
    probe_successes: u32,
}

#[derive(Clone, Copy)]
struct Ticket {
    era: u32,
    probe: Option<u32>,
    started: Instant,
}

impl Model {
    fn new(start: Instant, counts_calls: bool, abandoned: Abandoned) -> Self {
        Self {
            start,
            counts_calls,
            abandoned,
            state: State::Closed,
            era: 0,
            ended: vec![],
            streak: 0,
            until: start,
            cool_down: Duration::ZERO,
            repeats: 0,
            closed_since: None,
            probes: vec![],
            next_probe: 0,
            last_probe: None,
            probe_successes: 0,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.era += 1;
        self.ended.clear();
        self.streak = 0;
    }

    fn bucket(&self, at: Instant) -> u128 {
        (at - self.start).as_nanos() / (WINDOW / BUCKETS).as_nanos()
    }

    fn counts(&self, now: Instant) -> WindowCounts {
        let mut counts = WindowCounts::default();
        let skip = if self.counts_calls { self.ended.len().saturating_sub(COUNT) } else { 0 };
        for (at, outcome, slow) in &self.ended[skip..] {
            if !self.counts_calls && self.bucket(*at) + u128::from(BUCKETS) <= self.bucket(now) {
                continue;
            }
            counts.calls += 1;
            counts.failures += u64::from(*outcome == Outcome::Failure);
            counts.timeouts += u64::from(*outcome == Outcome::Timeout);
            counts.slow += u64::from(*slow);
        }
        counts
    }

    fn acquire(&mut self, now: Instant) -> Option<Ticket> {
        if self.state == State::Open && now >= self.until {
            self.enter(State::HalfOpen);
            (self.probes, self.last_probe, self.probe_successes) = (vec![], None, 0);
        }
        let ticket = |era, probe| Some(Ticket { era, probe, started: now });
        match self.state {
            State::Closed => ticket(self.era, None),
            State::HalfOpen => {
                self.probes.retain(|(_, started)| now < *started + PROBE_LIMIT);
                let too_soon = self.last_probe.is_some_and(|last| now < last + PROBE_INTERVAL);
                if too_soon || self.probes.len() >= MAX_PROBES {
                    return None;
                }
                let probe = self.next_probe;
                self.next_probe += 1;
                self.probes.push((probe, now));
                self.last_probe = Some(now);
                ticket(self.era, Some(probe))
            }
            _ => None,
        }
    }

    fn record(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) {
        let slow = now - ticket.started >= SLOW;
        if ticket.era != self.era {
            return;
        }
        match ticket.probe {
            Some(probe) if self.take(probe) => self.record_probe(outcome, slow, now),
            Some(_) => {}
            None if outcome == Outcome::Ignored => {}
            None => self.count((now, outcome, slow), outcome.is_failure(), now),
        }
    }

    fn drop_call(&mut self, ticket: Ticket, now: Instant) {
        let slow = now - ticket.started >= SLOW;
        match (self.abandoned, ticket.probe) {
            (Abandoned::Failure, _) => self.record(ticket, Outcome::Failure, now),
            (Abandoned::Slow, _) if slow => self.record(ticket, Outcome::Success, now),
            (_, Some(probe)) if ticket.era == self.era && self.take(probe) => {
                self.last_probe = None;
            }
            _ => {}
        }
    }

    fn take(&mut self, probe: u32) -> bool {
        let before = self.probes.len();
        self.probes.retain(|(other, _)| *other != probe);
        self.probes.len() < before
    }

    fn record_probe(&mut self, outcome: Outcome, slow: bool, now: Instant) {
        if outcome == Outcome::Ignored {
            return;
        }
        if outcome.is_failure() || slow {
            return self.open(now);
        }
        self.probe_successes += 1;
        if self.probe_successes == 2 {
            self.enter(State::Closed);
            self.closed_since = Some(now);
        }
    }

    fn count(&mut self, ended: Ended, is_error: bool, now: Instant) {
        self.ended.push(ended);
        self.streak = if is_error { self.streak + 1 } else { 0 };
        let counts = self.counts(now);
        let trips = (counts.calls >= 4 && counts.errors() * 2 >= counts.calls)
            || self.streak >= 5
            || (counts.calls >= 3 && counts.slow * 10 >= counts.calls * 6);
        if (is_error || ended.2) && trips {
            if self.closed_since.is_none_or(|since| now - since >= self.cool_down) {
                self.repeats = 0;
            }
            self.open(now);
        }
    }

    fn open(&mut self, now: Instant) {
        self.cool_down = (COOL_DOWN * 2_u32.pow(self.repeats.min(8))).min(MAX_COOL_DOWN);
        self.repeats += 1;
        self.until = now + self.cool_down;
        self.enter(State::Open);
    }

    fn force_open(&mut self) {
        if self.state != State::ForcedOpen {
            self.enter(State::ForcedOpen);
        }
    }

    fn reset(&mut self) {
        self.enter(State::Closed);
        (self.repeats, self.closed_since) = (0, None);
    }
}

async fn walk(steps: Vec<Step>, counts_calls: bool, abandoned: Abandoned) {
    let breaker = CircuitBreaker::new(policy(counts_calls, abandoned));
    let mut model = Model::new(Instant::now(), counts_calls, abandoned);
    let mut running: Vec<(Permit, Ticket)> = vec![];

    for (position, step) in steps.into_iter().enumerate() {
        let now = Instant::now();
        let len = running.len();
        match step {
            Step::Acquire => match (breaker.try_acquire(), model.acquire(now)) {
                (Ok(permit), Some(ticket)) => running.push((permit, ticket)),
                (Err(rejection), None) => {
                    let left = (model.state == State::Open).then(|| model.until - now);
                    assert_eq!(rejection.retry_after(), left, "step {position}");
                }
                (ours, theirs) => panic!("step {position}: {ours:?}, model {}", theirs.is_some()),
            },
            Step::Record(call, outcome) if len > 0 => {
                let (permit, ticket) = running.swap_remove(call % len);
                permit.record(outcome);
                model.record(ticket, outcome, now);
            }
            Step::Drop(call) if len > 0 => {
                let (permit, ticket) = running.swap_remove(call % len);
                drop(permit);
                model.drop_call(ticket, now);
            }
            Step::Record(..) | Step::Drop(_) => {}
            Step::Pass(ms) => tokio::time::advance(ms * MS).await,
            Step::ForceOpen => {
                breaker.force_open();
                model.force_open();
            }
            Step::Reset => {
                breaker.reset();
                model.reset();
            }
        }
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.state, model.state, "step {position}, {step:?}");
        assert_eq!(snapshot.counts, model.counts(Instant::now()), "step {position}, {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        rng_seed: RngSeed::Fixed(0x6f75_7472_6967),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_breaker_does_what_the_model_does(
        steps in steps(),
        counts_calls in any::<bool>(),
        abandoned in prop_oneof![
            Just(Abandoned::Ignored), Just(Abandoned::Failure), Just(Abandoned::Slow),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(walk(steps, counts_calls, abandoned));
    }
}

/// However probes end, half-open never lasts when calls keep coming: what resilience4j has
/// `maxWaitDurationInHalfOpenState` for.
#[tokio::test(start_paused = true)]
async fn half_open_ends_in_every_one_of_ten_thousand_random_interleavings() {
    let mut walk = Walk::new(5);
    for case in 0..10_000 {
        let breaker = CircuitBreaker::new(policy(false, Abandoned::Ignored));
        for _ in 0..4 {
            breaker.try_acquire().unwrap().record(Outcome::Failure);
        }
        tokio::time::advance(COOL_DOWN).await;
        let mut hung = Vec::new();
        for _ in 0..6 {
            match (breaker.try_acquire(), walk.below(4)) {
                (Ok(permit), 0) => drop(permit),
                (Ok(permit), 1) => permit.record(Outcome::Ignored),
                (Ok(permit), 2) => hung.push(permit),
                (Ok(permit), _) => permit.record(Outcome::Success),
                (Err(_), _) => {}
            }
            walk.pass(200 * MS).await;
        }
        // From now on every call ends well: within the probe limit the circuit is closed.
        for _ in 0..20 {
            if let Ok(permit) = breaker.try_acquire() {
                permit.record(Outcome::Success);
            }
            tokio::time::advance(PROBE_INTERVAL).await;
        }
        assert_eq!(breaker.state(), State::Closed, "case {case}");
    }
}
