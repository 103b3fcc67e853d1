use std::time::Duration;

use fastrand::Rng;
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::scenario::{SERVERS, Scenario};

/// What became of a call, for the one who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a report has a column for each")]
pub enum Answer {
    /// The server did its work.
    Succeeded,
    /// The server failed, or could not be reached.
    Failed,
    /// A layer refused the call; it was not sent.
    Refused,
}

/// What became of many calls.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    /// What callers waited for answers that were failures.
    pub(crate) in_vain: Duration,
    latency_us: Histogram<u64>,
    refusal_us: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are within the range");
        Self {
            succeeded: 0,
            failed: 0,
            refused: 0,
            in_vain: Duration::ZERO,
            latency_us: histogram(),
            refusal_us: histogram(),
        }
    }

    fn add(&mut self, answer: Answer, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_us += latency_us;
        match answer {
            Answer::Succeeded => self.succeeded += 1,
            Answer::Failed => {
                self.failed += 1;
                self.in_vain += latency;
            }
            Answer::Refused => {
                self.refused += 1;
                self.refusal_us += latency_us;
            }
        }
    }

    /// What became of all calls, to whichever server.
    pub(crate) fn sum(tallies: &[Self]) -> Self {
        let mut sum = Self::new();
        for tally in tallies {
            sum.succeeded += tally.succeeded;
            sum.failed += tally.failed;
            sum.refused += tally.refused;
            sum.in_vain += tally.in_vain;
            sum.latency_us += &tally.latency_us;
            sum.refusal_us += &tally.refusal_us;
        }
        sum
    }

    pub(crate) const fn calls(&self) -> u64 {
        self.succeeded + self.failed + self.refused
    }

    /// The time within which the share `quantile` of all calls had an answer, a refusal among them.
    pub(crate) fn latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency_us.value_at_quantile(quantile))
    }

    /// The time within which 99 of 100 refused calls knew it; `None` where none was refused.
    pub(crate) fn refusal_us_p99(&self) -> Option<u64> {
        (self.refused > 0).then(|| self.refusal_us.value_at_quantile(0.99))
    }
}

/// Sends calls at a steady rate from `start` on, each on a task of its own: a slow answer delays no
/// later call, as it would not with many callers. Gives one tally for each server.
///
/// Which call goes to which server is the same in each run.
pub(crate) async fn send<F>(start: Instant, client: impl Fn(usize, u64) -> F) -> Vec<Tally>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let mut rng = Rng::with_seed(Scenario::SEED);
    let calls = Scenario::LENGTH.as_secs() * u64::from(Scenario::CALLS_PER_SECOND);
    let mut running = JoinSet::new();
    for number in 0..calls {
        let due = Duration::from_secs(number) / Scenario::CALLS_PER_SECOND;
        sleep_until(start + due).await;
        let server = rng.usize(..SERVERS.len());
        running.spawn(timed(server, client(server, number)));
    }

    let mut tallies = vec![Tally::new(); SERVERS.len()];
    for (server, answer, latency) in running.join_all().await {
        tallies[server].add(answer, latency);
    }
    tallies
}

async fn timed<F>(server: usize, call: F) -> (usize, Answer, Duration)
where
    F: Future<Output = Answer>,
{
    let sent = Instant::now();
    let answer = call.await;
    (server, answer, sent.elapsed())
}
