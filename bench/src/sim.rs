//! Bad days, simulated: the real layers under tokio's paused time and seeded randomness. The same
//! seed gives the same figures. Each names its source row; the rows are those of `bench/SOURCES.md`.

pub(crate) mod bad_policy;
pub(crate) mod cascade;
pub(crate) mod grey;
pub(crate) mod herd;
pub(crate) mod hosts;
pub(crate) mod hot_key;
mod instance;
pub(crate) mod limit;
pub(crate) mod priorities;
pub(crate) mod scale;
pub(crate) mod slow_start;
pub(crate) mod sporadic;
pub(crate) mod storm;
pub(crate) mod tail;
pub(crate) mod zone_loss;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    sync::Semaphore,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};
use tower::BoxError;

use crate::row::Report;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What each of them shows, in the order in which they run. Columns that begin with `published`
/// hold the figures of the source, where it has one.
pub(crate) const ABOUT: [(&str, &str); 14] = [
    (
        "tail",
        "Simulated: what a backup request does to the slowest calls. First a service of which 99 % of the answers take at most 13 ms and the slowest 60 ms (published for Kitex' backup requests): backup never, after 13 ms, after the live p99. Then H5's workloads: bhope/hedge (50 000 calls, 20 in flight, lognormal of 5 ms, 5 % ten times slower; its README, and a simulation where it has no figure), and a leaf of 5 to 15 ms of which 1 % take a second, alone and for fan-outs of 100 (Dean and Barroso, The Tail at Scale; simulated).",
    ),
    (
        "storm",
        "Simulated (H1, MS-1): ten workers of 10 ms, 700 calls a second, attempts of at most 500 ms, 4 attempts; from 30 s to 40 s each call takes five times as long. Published: figures of a simulation outside of this project, three seeds each, the middle of its range. Where no recovery is stated there was none.",
    ),
    (
        "metastable",
        "Simulated (H16): 6 200 calls a second with a time-out of 3 s, a server that loses 78 % or 80 % of its capacity for 10 s. Published: the replay of a failure of MongoDB in Huang et al., Metastable Failures in the Wild (OSDI '22), whose capacity is not stated; 17 000 calls a second put its threshold between the two, as there.",
    ),
    (
        "herd",
        "Simulated (R4): ten thousand clients ask twice a second, and a server that was down for 20 s comes back; then 200 clients of 100 calls a second whose breakers, of ten probes each, all open together. Published: the mark, as many probes as the policy allows at one breaker, and in 100 ms a tenth of what a fleet without jitter sends.",
    ),
    (
        "grey",
        "Simulated (H9, R7 to R9): ten hosts of two workers, 10 ms a call; one is ill from 15 s to 45 s: ten times slower (1 000 calls a second), failing in 1 ms (1 400), failing three calls of ten (1 400). A fair share is 0.1. Published: the figures of H9 without ejection, from a simulation in the manner of Finagle's balancersim.",
    ),
    (
        "slow_start",
        "Simulated (H12): to ten hosts of two workers an eleventh comes that is eight times slower at first and as fast as all after 10 s. Published: H12, a simulation with Envoy's formula. Then the share of a new host by its age, and what the formula says.",
    ),
    (
        "hot_key",
        "Simulated (H11, R15): 20 000 requests for 10 000 keys, all held, on ten hosts of 160 points; then calls that end, of which three of ten are for one key. Published: H11, a simulation of consistent hashing with bounded loads (Mirrokni, 2016).",
    ),
    (
        "zone_loss",
        "Simulated (R17): three zones of ten hosts and a client in each; then half of zone a is gone, then all of it, then half of zone b as well. The mark: no host above 1.4 times its share while 71 % are healthy.",
    ),
    (
        "priorities",
        "Simulated (H13): before a server for 1 000 calls a second come 300 critical calls and 100 prefetches, twelve times as many prefetches for 30 s. Published: H13, a simulation in the shape of Netflix' prioritized load shedding, which reports at least 0.994 of the critical and some 0.2 of the prefetches at twelve times.",
    ),
    (
        "sporadic",
        "Simulated (R26): ten thousand clients of a call a minute before a server for 100 calls a second, 4 attempts of at most 2 s. Each client sees too little to act upon. The mark: goodput of 0.95 of the capacity.",
    ),
    (
        "bad_policy",
        "Simulated (R24): a client whose policies are pushed while it calls: a file that cannot be read, one that cannot be, one that is valid and harmful, and the first again. Beside it a client that takes what it gets and begins anew with each push. The mark: whole sets are refused, the last good one stays, and so does the state.",
    ),
    (
        "cascade",
        "Simulated (R18, H20): three tiers of which two retry twice; the last is at half its capacity for ten seconds. The marks: load on it at most 1.1 of the calls, critical calls served, next to no work for calls that are given up.",
    ),
    (
        "limit",
        "Simulated (H7): a server whose workers are halved, doubled and doubled again, and an adaptive limit that is told nothing; calls for 1.5 times what 20 workers can do. Then its fixed point for as many workers as stated under saturation. Published: H7, the fixed points of Vegas and of Envoy's gradient, from a simulation.",
    ),
    (
        "scale",
        "Simulated: a thousand clients with a stack each and ten thousand instances for 60 seconds; a hundred instances fail from 20 s to 40 s. What the machine needed for it is not part of what is the same each time.",
    ),
];

/// The system of rows that say what this machine needed: those differ from run to run.
pub(crate) const MACHINE: &str = "this machine";

/// An empty table of this name.
pub(crate) fn report(group: &str) -> Report {
    let mut report = Report::new(group);
    let about = ABOUT.iter().find(|(name, _)| *name == group).map_or("", |(_, about)| about);
    for sentence in about.split_inclusive(". ") {
        report.note(sentence.trim_end());
    }
    report
}

/// All, in the order of [`ABOUT`].
const RUNS: [fn(bool) -> Report; 14] = [
    tail::run,
    storm::run,
    storm::run_mongodb,
    herd::run,
    grey::run,
    slow_start::run,
    hot_key::run,
    zone_loss::run,
    priorities::run,
    sporadic::run,
    bad_policy::run,
    cascade::run,
    limit::run,
    scale::run,
];

/// All of them.
pub(crate) fn all(quick: bool) -> Vec<Report> {
    RUNS.into_iter().map(|run| run(quick)).collect()
}

/// Runs a simulation on one thread, whose time passes only while all wait.
pub(crate) fn simulate<T>(simulation: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), simulation)
}

/// The latencies of calls, sorted.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// In milliseconds; nothing where there are none.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among some 100 000 calls"
    )]
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let rank = (self.0.len() as f64 * quantile).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1].as_secs_f64() * 1_000.0
    }

    /// The share that took longer.
    pub(crate) fn share_above(&self, time: Duration) -> f64 {
        let within = self.0.partition_point(|taken| *taken <= time);
        share((self.0.len() - within) as u64, self.0.len() as u64)
    }
}

/// Exponentially distributed, with this mean.
pub(crate) fn exponential(rng: &mut Rng, mean: f64) -> Duration {
    Duration::from_secs_f64(-(1.0 - rng.f64()).ln() * mean)
}

/// Lets calls begin at random times, so many a second on average, until `until`; waits for all.
pub(crate) async fn open_load<F>(
    per_second: f64,
    until: Instant,
    rng: &mut Rng,
    mut call: impl FnMut(&mut Rng) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let mut at = Instant::now();
    let mut calls = Vec::new();
    loop {
        at += exponential(rng, 1.0 / per_second);
        if at >= until {
            break;
        }
        sleep_until(at).await;
        calls.push(spawn_local(call(rng)));
    }
    for call in calls {
        call.await.expect("a call does not panic");
    }
}

/// A server of so many workers with a queue before them that has no end. Its work goes on when the
/// caller has given up.
#[derive(Clone)]
pub(crate) struct Workers {
    free: Rc<Semaphore>,
    rng: Rc<RefCell<Rng>>,
    /// The mean time of a call, in seconds.
    mean: Rc<Cell<f64>>,
    pub(crate) done: Rc<Cell<u64>>,
}

impl Workers {
    pub(crate) fn new(workers: usize, mean: Duration, seed: u64) -> Self {
        Self {
            free: Rc::new(Semaphore::new(workers)),
            rng: Rc::new(RefCell::new(Rng::with_seed(seed))),
            mean: Rc::new(Cell::new(mean.as_secs_f64())),
            done: Rc::default(),
        }
    }

    /// From now on a call takes so long on average.
    pub(crate) fn take(&self, mean: Duration) {
        self.mean.set(mean.as_secs_f64());
    }

    pub(crate) fn work(&self) -> impl Future<Output = Result<(), BoxError>> + use<> {
        let own = self.clone();
        let work = spawn_local(async move {
            let _worker = own.free.acquire().await.expect("never closed");
            let takes = exponential(&mut own.rng.borrow_mut(), own.mean.get());
            sleep(takes).await;
            own.done.set(own.done.get() + 1);
        });
        async move { Ok(work.await?) }
    }
}

/// A share, and nothing of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of calls")]
pub(crate) fn share(part: u64, of: u64) -> f64 {
    if of == 0 { f64::NAN } else { part as f64 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but what this machine needed.
    fn tables() -> Vec<String> {
        let without_machine = |report: Report| {
            let text = report.to_string();
            let lines = text.lines().filter(|line| !line.contains(MACHINE));
            // The columns of those lines are wider or narrower for them.
            let words = lines.flat_map(str::split_whitespace);
            words.collect::<Vec<_>>().join(" ")
        };
        // Made of the same parts as the others, these take minutes where nothing is optimized.
        let takes_long = ["storm", "metastable", "herd", "grey", "cascade"];
        let runs = RUNS.into_iter().zip(ABOUT);
        let short = runs.filter(|(_, (name, _))| !takes_long.contains(name));
        short.map(|(run, _)| without_machine(run(true))).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (first, second) = (tables(), tables());
        for (first, second) in first.into_iter().zip(second) {
            assert_eq!(first, second);
        }
    }

    #[test]
    fn each_simulation_says_what_it_shows_and_has_a_name_of_its_own() {
        let mut names: Vec<&str> = ABOUT.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ABOUT.len());
    }
}
