//! The main job: a bad day of three real gRPC servers, governed by `policies.toml` and not.

mod notes;
mod told;

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use outrigger::{Format, Governance, PolicySet};
use outrigger_core::{Rejection, RejectionResponseLayer};
use outrigger_loadbalance::{
    Balance, BalancePolicy, BalanceService, Endpoint, Picker, TonicEndpoint,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Status, body::Body, client::GrpcService};
use tower::{BoxError, ServiceBuilder};

use self::{
    notes::Notes,
    told::{Count, Day, Side},
};
use crate::{
    greeter::{self, Reply},
    program::Told,
    scenario::SERVERS,
};

const POLICIES: &str = include_str!("../policies.toml");
const NAME: &str = "policies.toml";
const SERVICE: &str = "outrigger.examples.Greeter";
const SEED: u64 = 3;

/// What a call takes of a worker, and how many workers a server has: 300 calls a second.
const WORK: Duration = Duration::from_millis(20);
const WORKERS: usize = 6;
/// A late answer takes so much longer.
const LATE: Duration = Duration::from_millis(250);
/// An answer that comes later than this is of no use.
const IN_TIME: Duration = Duration::from_millis(250);

/// A part of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    name: &'static str,
    /// How many calls come in a second, to all servers together.
    calls_per_second: u32,
}

/// Each lasts two seconds. In the last two twice as many calls come as the servers can do; between
/// them, the policies are replaced.
const PARTS: [Part; 7] = [
    Part { name: "all is well", calls_per_second: 300 },
    Part { name: "a is late", calls_per_second: 300 },
    Part { name: "b fails", calls_per_second: 300 },
    Part { name: "all fail", calls_per_second: 300 },
    Part { name: "all are back", calls_per_second: 300 },
    Part { name: "too many calls", calls_per_second: 1_800 },
    Part { name: "new policies", calls_per_second: 1_800 },
];
const LENGTH: Duration = Duration::from_secs(2);
const LATE_IN: usize = 1;
const FAILS_IN: usize = 2;
const DOWN_IN: usize = 3;
const RELOADED_FOR: usize = PARTS.len() - 1;

/// Plays the day with governance and, after it, without.
///
/// # Errors
///
/// When a server cannot be started or reached.
pub async fn play() -> Result<Box<dyn Told>, BoxError> {
    let notes = Notes::default();
    let governed = governed(&notes).await?;
    let ungoverned = ungoverned().await?;
    Ok(Box::new(Day::new(&governed, &ungoverned, &notes)))
}

async fn governed(notes: &Notes) -> Result<Side, BoxError> {
    let set = || PolicySet::parse(NAME, POLICIES, Format::Toml);
    let day = Started::default();
    let governance = Governance::with_observer(set()?, notes.clone());
    let balance = Balance::new(governance.balance(SERVICE)).observe(notes.clone());
    for (number, name) in SERVERS.into_iter().enumerate() {
        let server = Governance::with_observer(set()?, notes.of_servers());
        let layers = ServiceBuilder::new()
            .layer(RejectionResponseLayer::new())
            .layer(server.grpc_server())
            .map_err(Rejection::from)
            .into_inner();
        let address = greeter::serve_governed(day.server(number), layers).await?;
        balance
            .insert(Endpoint::new(name, TonicEndpoint::of(format!("http://{address}").parse()?)));
    }
    let client = ServiceBuilder::new()
        .layer(governance.tonic_client())
        .service(BalanceService::new(balance).grpc());
    let reload = || Ok(governance.replace_text(NAME, &edited(), Format::Toml)?);
    let parts = load(&day, client, reload).await?;
    Ok(Side { parts, attempts: day.attempts() })
}

/// The file as somebody edits it: the client sends no more than the servers can do.
fn edited() -> String {
    POLICIES.replace("\"5000/s\"", "{ rate = \"850/s\", burst = 20 }")
}

async fn ungoverned() -> Result<Side, BoxError> {
    let day = Started::default();
    let balance = Balance::new(
        BalancePolicy::builder().picker(Picker::WeightedRandom).ejection(None).build()?,
    );
    for (number, name) in SERVERS.into_iter().enumerate() {
        let address = greeter::serve_by(day.server(number)).await?;
        balance
            .insert(Endpoint::new(name, TonicEndpoint::of(format!("http://{address}").parse()?)));
    }
    let parts = load(&day, BalanceService::new(balance).grpc(), || Ok(())).await?;
    Ok(Side { parts, attempts: day.attempts() })
}

/// What the servers of one side share: when their day began, and what they were asked.
#[derive(Clone, Default)]
struct Started {
    shared: Arc<told::Shared>,
}

impl Started {
    /// The part of the day that it is.
    fn part(&self) -> usize {
        let elapsed = self.shared.began.get().map_or(Duration::ZERO, Instant::elapsed);
        usize::try_from(elapsed.as_millis() / LENGTH.as_millis()).unwrap_or(usize::MAX)
    }

    fn attempts(&self) -> u64 {
        self.shared.attempts.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What the server with this number does with a call.
    fn server(
        &self,
        server: usize,
    ) -> impl Fn(u64) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>>
    + Clone
    + Send
    + Sync
    + 'static {
        let (day, workers) = (self.clone(), Arc::new(Semaphore::new(WORKERS)));
        move |number| {
            // Not the calls that made the connections.
            if day.shared.began.get().is_some() {
                day.shared.attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            let (part, workers) = (day.part(), Arc::clone(&workers));
            Box::pin(async move {
                if (part == FAILS_IN && server == 1) || part == DOWN_IN {
                    return false;
                }
                // A call in ten of the late server, which is not the fault of its workers.
                if part == LATE_IN && server == 0 && number.is_multiple_of(10) {
                    sleep(LATE).await;
                }
                let _worker = workers.acquire().await;
                sleep(WORK).await;
                true
            })
        }
    }
}

/// Sends the day's calls at random times, each on a task of its own. `reload` is called before the
/// last part.
async fn load<S>(
    day: &Started,
    client: S,
    reload: impl Fn() -> Result<(), BoxError>,
) -> Result<Vec<Count>, BoxError>
where
    S: GrpcService<Body> + Clone + Send + 'static,
    S::Future: Send,
    S::ResponseBody: Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    // The connections are made before the day begins.
    for number in 0..30 {
        let _ = greeter::greet(client.clone(), number).await;
    }
    let mut rng = Rng::with_seed(SEED);
    let mut calls = JoinSet::new();
    let begin = *day.shared.began.get_or_init(Instant::now);
    for (number, part) in PARTS.iter().enumerate() {
        if number == RELOADED_FOR {
            reload()?;
        }
        let until = begin + LENGTH * u32::try_from(number + 1)?;
        let mut at = until - LENGTH;
        while at < until {
            sleep_until(at).await;
            let (client, id) = (client.clone(), rng.u64(..));
            calls.spawn(async move {
                let sent = Instant::now();
                let answer = greeter::greet(client, id).await;
                (number, answer, sent.elapsed())
            });
            let gap = -(1.0 - rng.f64()).ln() / f64::from(part.calls_per_second);
            at += Duration::from_secs_f64(gap);
        }
    }
    let mut counts: Vec<_> = PARTS.iter().map(|part| Count::new(part.name)).collect();
    while let Some(ended) = calls.join_next().await {
        let (number, answer, took) = ended?;
        counts[number].add(&answer, took);
    }
    Ok(counts)
}

/// Whether a call was refused before it did any work, here or by the server.
fn is_refusal(answer: &Result<Reply, Status>) -> bool {
    answer.as_ref().is_err_and(|status| {
        status.code() == tonic::Code::ResourceExhausted
            || Rejection::find(status).is_some_and(|refusal| !refusal.was_sent())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edited_policies_are_others_and_valid() {
        let parsed = |text: &str| PolicySet::parse(NAME, text, Format::Toml).expect("valid");
        let edited = edited();
        assert_ne!(edited, POLICIES);
        let greet = outrigger_core::MethodRef { service: SERVICE, method: "Greet" };
        let rate = |set: &PolicySet| set.method(greet).rate_limit().expect("stated").rate();
        assert_eq!((rate(&parsed(POLICIES)), rate(&parsed(&edited))), (5_000, 850));
    }

    #[test]
    fn the_part_of_the_day_is_told_by_the_time_since_it_began() {
        assert_eq!(Started::default().part(), 0);
    }
}
