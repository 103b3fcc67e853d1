//! Bad days, simulated: the real layers under tokio's paused time and seeded randomness. The same
//! seed gives the same figures.

pub(crate) mod cascade;
pub(crate) mod grey;
pub(crate) mod herd;
pub(crate) mod priorities;
pub(crate) mod storm;
pub(crate) mod tail;

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

/// All of them.
pub(crate) fn all(quick: bool) -> Vec<Report> {
    let runs: [fn(bool) -> Report; 6] =
        [tail::run, storm::run, herd::run, grey::run, priorities::run, cascade::run];
    runs.into_iter().map(|run| run(quick)).collect()
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
