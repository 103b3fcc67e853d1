//! A server in simulated time: so many workers, and a queue before them. Latency grows with the
//! queue, and nothing else says that it is there. Calls come at random times and ask a real limit.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use fastrand::Rng;
use outrigger_core::Outcome;
use outrigger_ratelimit::{AdaptiveLimit, AdaptiveLimitPolicy, AdaptivePermit, Asking};
use tokio::time::Instant;

/// What a call takes of a worker on average.
pub(crate) const SERVICE: Duration = Duration::from_millis(100);
/// How long a limit may take to settle after a change.
pub(crate) const SETTLING: Duration = Duration::from_secs(10);

/// A part of a run in which nothing changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) lasts: Duration,
    /// How many workers the server has.
    pub(crate) capacity: usize,
    /// How many calls come in a second.
    pub(crate) per_second: f64,
    /// What a call takes of a worker, as a multiple of [`SERVICE`].
    pub(crate) slowness: f64,
}

impl Phase {
    /// The calls that come, as a multiple of what the server can do.
    pub(crate) fn load(&self) -> f64 {
        self.per_second * self.slowness * SERVICE.as_secs_f64() / self.capacity_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "few workers")]
    pub(crate) const fn capacity_f64(&self) -> f64 {
        self.capacity as f64
    }
}

/// What a phase came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) served: u32,
    pub(crate) refused: u32,
    /// Refused while a worker was idle, after the limit had time to settle.
    pub(crate) refused_below: u32,
    /// All of it after the limit had time to settle.
    pub(crate) mean_limit: f64,
    pub(crate) lowest: u32,
    pub(crate) highest: u32,
    pub(crate) mean_latency: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    /// The call with this number is done.
    Done(usize),
}

struct Running {
    permit: AdaptivePermit,
    since: Instant,
}

pub(crate) struct Server {
    limit: AdaptiveLimit,
    rng: Rng,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    queue: VecDeque<Running>,
    busy: usize,
}

impl Server {
    pub(crate) fn new(limit: AdaptiveLimit, seed: u64) -> Self {
        let now = Instant::now();
        let mut events = BinaryHeap::new();
        events.push(Reverse((now, Event::Arrives)));
        Self {
            limit,
            rng: Rng::with_seed(seed),
            now,
            events,
            running: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            busy: 0,
        }
    }

    pub(crate) const fn limit(&self) -> &AdaptiveLimit {
        &self.limit
    }

    /// Lets a phase pass; tells `watch` the time since it began and the limit after each event.
    pub(crate) fn run(&mut self, phase: &Phase, mut watch: impl FnMut(Duration, u32)) -> Report {
        let start = self.now;
        let end = start + phase.lasts;
        let mut report = Report { lowest: u32::MAX, ..Report::default() };
        let (mut weighted, mut settled, mut latencies) = (0.0, 0.0, 0.0);
        self.start_waiting(phase);
        while let Some(&Reverse((at, event))) = self.events.peek() {
            let limit = self.limit.status().limit;
            let until = at.min(end);
            if until >= start + SETTLING {
                let share = (until - self.now.max(start + SETTLING)).as_secs_f64();
                weighted += f64::from(limit) * share;
                settled += share;
                report.lowest = report.lowest.min(limit);
                report.highest = report.highest.max(limit);
            }
            self.now = until;
            if at >= end {
                break;
            }
            self.events.pop();
            watch(at - start, limit);
            match event {
                Event::Arrives => self.arrive(phase, at >= start + SETTLING, &mut report),
                Event::Done(index) => {
                    let done = self.running[index].take().expect("it runs");
                    self.free.push(index);
                    self.busy -= 1;
                    done.permit.finish_at(Outcome::Success, at);
                    report.served += 1;
                    latencies += (at - done.since).as_secs_f64();
                    self.start_waiting(phase);
                }
            }
        }
        report.mean_limit = weighted / settled;
        report.mean_latency = Duration::from_secs_f64(latencies / f64::from(report.served.max(1)));
        report
    }

    fn arrive(&mut self, phase: &Phase, is_settled: bool, report: &mut Report) {
        if let Ok(permit) = self.limit.try_acquire_at(Asking::default(), self.now) {
            self.queue.push_back(Running { permit, since: self.now });
            self.start_waiting(phase);
        } else {
            report.refused += 1;
            let has_idle = self.busy < phase.capacity;
            report.refused_below += u32::from(is_settled && has_idle);
        }
        let gap = -(1.0 - self.rng.f64()).ln() / phase.per_second;
        self.schedule(gap, Event::Arrives);
    }

    fn start_waiting(&mut self, phase: &Phase) {
        while self.busy < phase.capacity
            && let Some(running) = self.queue.pop_front()
        {
            // Evenly from half of the average to one and a half.
            let takes = 0.5 + self.rng.f64();
            let index = self.free.pop().unwrap_or(self.running.len());
            if index == self.running.len() {
                self.running.push(None);
            }
            self.running[index] = Some(running);
            self.busy += 1;
            self.schedule(takes * phase.slowness * SERVICE.as_secs_f64(), Event::Done(index));
        }
    }

    fn schedule(&mut self, after: f64, event: Event) {
        self.events.push(Reverse((self.now + Duration::from_secs_f64(after), event)));
    }
}

/// So many workers, and calls for so many times what 20 of them can do.
pub(crate) fn phase(seconds: u64, capacity: usize, load: f64) -> Phase {
    let lasts = Duration::from_secs(seconds);
    Phase { lasts, capacity, per_second: load * 20.0 / SERVICE.as_secs_f64(), slowness: 1.0 }
}

/// What a fixed limit gets that is always the capacity.
pub(crate) fn oracle(phases: &[Phase], seed: u64) -> Vec<Report> {
    let fixed = |capacity: usize| {
        let places = u32::try_from(capacity).expect("few workers");
        AdaptiveLimitPolicy::builder()
            .min_limit(places)
            .initial_limit(places)
            .max_limit(places)
            .build()
            .expect("valid")
    };
    let limit = AdaptiveLimit::new(fixed(phases[0].capacity));
    let mut server = Server::new(limit, seed);
    let mut run = |phase: &Phase| {
        server.limit().policy().replace(fixed(phase.capacity));
        server.limit().refresh();
        server.run(phase, |_, _| {})
    };
    phases.iter().map(&mut run).collect()
}
