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

pub(crate) mod scenario;

/// What a call takes of a worker on average.
pub(crate) const SERVICE: Duration = Duration::from_millis(100);
/// How long a limit may take to settle after a change.
pub(crate) const SETTLING: Duration = Duration::from_secs(10);

/// How what a call takes of a worker varies. All have a mean of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Evenly from half to one and a half.
    Uniform,
    Exponential,
    /// With sigma 1.
    Lognormal,
    /// Nine of ten take 0.2 and one 8.2: a cache that hits or misses.
    Bimodal,
}

impl Takes {
    pub(crate) const ALL: [Self; 4] =
        [Self::Uniform, Self::Exponential, Self::Lognormal, Self::Bimodal];

    fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Self::Uniform => 0.5 + rng.f64(),
            Self::Exponential => exponential(rng),
            Self::Lognormal => {
                // Box and Muller's.
                let normal =
                    (2.0 * exponential(rng)).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
                (normal - 0.5).exp()
            }
            Self::Bimodal => {
                if rng.f64() < 0.9 {
                    0.2
                } else {
                    8.2
                }
            }
        }
    }
}

fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

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
    pub(crate) takes: Takes,
    /// Which share of the calls fails whatever the load.
    pub(crate) fails: f64,
    /// In the first second of each ten so many times the calls come.
    pub(crate) burst: f64,
}

impl Phase {
    /// The calls that come, as a multiple of what the server can do.
    pub(crate) fn load(&self) -> f64 {
        let burst = 0.9 + 0.1 * self.burst;
        self.per_second * burst * self.slowness * SERVICE.as_secs_f64() / self.capacity_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "few workers")]
    pub(crate) const fn capacity_f64(&self) -> f64 {
        self.capacity as f64
    }

    fn per_second_at(&self, at: Duration) -> f64 {
        if at.as_secs().is_multiple_of(10) { self.per_second * self.burst } else { self.per_second }
    }
}

/// What a phase came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Without those that failed.
    pub(crate) served: u32,
    pub(crate) refused: u32,
    /// All of it after the limit had time to settle.
    pub(crate) settled: Settled,
}

/// What a phase came to after its first ten seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) came: u32,
    pub(crate) refused: u32,
    /// Refused while a worker was idle.
    pub(crate) refused_below: u32,
    pub(crate) mean_limit: f64,
}

impl Settled {
    pub(crate) fn refused_share(&self) -> f64 {
        f64::from(self.refused) / f64::from(self.came.max(1))
    }
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

    /// Lets a phase pass.
    pub(crate) fn run(&mut self, phase: &Phase) -> Report {
        self.watch(phase, |_, _, _| {})
    }

    /// Lets a phase pass; tells `see` at each event the time since the phase began, the limit, and
    /// the latency of the call that ends.
    pub(crate) fn watch(
        &mut self,
        phase: &Phase,
        mut see: impl FnMut(Duration, u32, Option<Duration>),
    ) -> Report {
        let start = self.now;
        let (settled_at, end) = (start + SETTLING, start + phase.lasts);
        let mut report = Report::default();
        let (mut weighted, mut lasted) = (0.0, 0.0);
        self.start_waiting(phase);
        while let Some(&Reverse((at, event))) = self.events.peek() {
            let (until, limit) = (at.min(end), self.limit.status().limit);
            if until > settled_at {
                let share = (until - self.now.max(settled_at)).as_secs_f64();
                weighted += f64::from(limit) * share;
                lasted += share;
            }
            self.now = until;
            if at >= end {
                break;
            }
            self.events.pop();
            let latency = match event {
                Event::Arrives => {
                    self.arrive(phase, start, &mut report);
                    None
                }
                Event::Done(index) => Some(self.finish(phase, index, &mut report)),
            };
            see(at - start, limit, latency);
        }
        report.settled.mean_limit = weighted / lasted;
        report
    }

    fn finish(&mut self, phase: &Phase, index: usize, report: &mut Report) -> Duration {
        let done = self.running[index].take().expect("it runs");
        self.free.push(index);
        self.busy -= 1;
        let fails = self.rng.f64() < phase.fails;
        let outcome = if fails { Outcome::Failure } else { Outcome::Success };
        done.permit.finish_at(outcome, self.now);
        report.served += u32::from(!fails);
        self.start_waiting(phase);
        self.now - done.since
    }

    fn arrive(&mut self, phase: &Phase, start: Instant, report: &mut Report) {
        let settled = &mut report.settled;
        let is_settled = u32::from(self.now >= start + SETTLING);
        settled.came += is_settled;
        if let Ok(permit) = self.limit.try_acquire_at(Asking::default(), self.now) {
            self.queue.push_back(Running { permit, since: self.now });
            self.start_waiting(phase);
        } else {
            report.refused += 1;
            settled.refused += is_settled;
            settled.refused_below += is_settled * u32::from(self.busy < phase.capacity);
        }
        let gap = exponential(&mut self.rng) / phase.per_second_at(self.now - start);
        self.schedule(gap, Event::Arrives);
    }

    fn start_waiting(&mut self, phase: &Phase) {
        while self.busy < phase.capacity
            && let Some(running) = self.queue.pop_front()
        {
            let takes = phase.takes.draw(&mut self.rng);
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
    Phase {
        lasts: Duration::from_secs(seconds),
        capacity,
        per_second: load * 20.0 / SERVICE.as_secs_f64(),
        slowness: 1.0,
        takes: Takes::Uniform,
        fails: 0.0,
        burst: 1.0,
    }
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
        server.run(phase)
    };
    phases.iter().map(&mut run).collect()
}
