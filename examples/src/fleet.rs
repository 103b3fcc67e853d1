//! A balancer over three real gRPC servers: one goes, another comes, and no call is lost.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use outrigger_loadbalance::{
    Balance, BalanceEvent, BalancePolicy, BalanceService, Endpoint, TonicEndpoint,
};
use serde::Serialize;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::BoxError;

use crate::{
    greeter,
    program::{Told, json},
};

const PER_SECOND: f64 = 400.0;
const LENGTH: Duration = Duration::from_secs(2);
const PARTS: [&str; 3] = ["a, b and c serve", "c stops", "d joins"];
const STOPS: usize = 1;
const JOINS: usize = 2;

/// What a part of the run came to.
#[derive(Clone, Debug, Default, Serialize)]
struct Part {
    name: &'static str,
    calls: u64,
    failed: u64,
    /// Calls by the server that took them.
    servers: BTreeMap<&'static str, u64>,
}

/// Who served how many calls.
#[derive(Clone, Debug, Serialize)]
struct Fleet {
    parts: Vec<Part>,
    connections_that_failed: u64,
}

/// What a server has answered in each part.
type Answered = Arc<Mutex<BTreeMap<(usize, &'static str), u64>>>;

/// Plays it.
///
/// # Errors
///
/// When a server cannot be started.
pub async fn play() -> Result<Box<dyn Told>, BoxError> {
    let begin = Instant::now();
    let answered = Answered::default();
    let server = |name| attend(name, begin, Arc::clone(&answered));
    let failed_connections = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&failed_connections);
    let balance =
        Balance::new(BalancePolicy::default()).observe(move |_: &str, event: &BalanceEvent| {
            if matches!(event, BalanceEvent::ConnectFailed { .. }) {
                noted.fetch_add(1, Ordering::Relaxed);
            }
        });
    let endpoint = |name, address: std::net::SocketAddr| {
        Ok::<_, BoxError>(Endpoint::new(
            name,
            TonicEndpoint::of(format!("http://{address}").parse()?),
        ))
    };
    for name in ["a", "b"] {
        balance.insert(endpoint(name, greeter::serve_by(server(name)).await?)?);
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    balance.insert(endpoint("c", greeter::serve_until(server("c"), stopped).await?)?);

    let client = BalanceService::new(balance.clone()).grpc();
    let (mut rng, mut calls) = (Rng::with_seed(1), JoinSet::new());
    let mut parts = PARTS.map(|name| Part { name, ..Part::default() });
    let (mut at, mut stop, mut has_joined) = (begin, Some(stop), false);
    let end = begin + LENGTH * u32::try_from(PARTS.len())?;
    while at < end {
        sleep_until(at).await;
        let now = part(begin).min(PARTS.len() - 1);
        if now == STOPS
            && let Some(stop) = stop.take()
        {
            // The balancer is not told: it finds out by itself.
            let _ = stop.send(());
        }
        if now == JOINS && !has_joined {
            has_joined = true;
            balance.insert(endpoint("d", greeter::serve_by(server("d")).await?)?);
        }
        let (client, id) = (client.clone(), rng.u64(..));
        calls.spawn(async move { (now, greeter::greet(client, id).await.is_ok()) });
        at += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / PER_SECOND);
    }
    while let Some(call) = calls.join_next().await {
        let (part, is_ok) = call?;
        parts[part].calls += 1;
        parts[part].failed += u64::from(!is_ok);
    }
    for ((part, name), count) in &*answered.lock().unwrap_or_else(PoisonError::into_inner) {
        *parts[(*part).min(PARTS.len() - 1)].servers.entry(name).or_default() += count;
    }
    let connections_that_failed = failed_connections.load(Ordering::Relaxed);
    Ok(Box::new(Fleet { parts: parts.into(), connections_that_failed }))
}

/// What the server of this name does with a call.
fn attend(
    name: &'static str,
    begin: Instant,
    answered: Answered,
) -> impl Fn(u64) -> Pin<Box<dyn Future<Output = bool> + Send>> + Clone + Send + Sync + 'static {
    move |_| {
        let mut all = answered.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry((part(begin), name)).or_default() += 1;
        Box::pin(async {
            sleep(Duration::from_millis(5)).await;
            true
        })
    }
}

fn part(begin: Instant) -> usize {
    usize::try_from(begin.elapsed().as_millis() / LENGTH.as_millis()).unwrap_or(usize::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a share of some hundred calls")]
fn share(part: &Part, server: &str) -> f64 {
    let count = part.servers.get(server).copied().unwrap_or_default();
    count as f64 / part.calls.max(1) as f64
}

impl Told for Fleet {
    fn to_json(&self) -> serde_json::Result<String> {
        json(self)
    }

    fn check(&self) -> Result<(), String> {
        let [before, stopped, joined] = &*self.parts else { return Err("three parts".to_owned()) };
        let promises = [
            (["a", "b", "c"].iter().all(|name| share(before, name) > 0.2), "calls are spread"),
            (share(stopped, "c") < 0.1, "a server that is gone gets no calls"),
            (share(joined, "d") > 0.1, "a server that joined gets its share"),
            (
                self.parts.iter().all(|part| part.failed * 100 <= part.calls),
                "at most the few calls fail that are under way to the server as it goes",
            ),
        ];
        match promises.iter().find(|(is_kept, _)| !is_kept) {
            None => Ok(()),
            Some((_, promise)) => Err(format!("a promise was not kept: {promise}")),
        }
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A balancer over gRPC servers, {PER_SECOND} calls per second. After {LENGTH:?} one of three stops,\n\
             after {:?} a fourth joins; the balancer is told of the fourth only.\n",
            LENGTH * 2,
        )?;
        writeln!(
            f,
            "  {:<18}{:>7}{:>8}{:>8}{:>8}{:>8}{:>8}",
            "share of the calls", "calls", "failed", "a", "b", "c", "d"
        )?;
        for part in &self.parts {
            write!(f, "  {:<18}{:>7}{:>8}", part.name, part.calls, part.failed)?;
            for server in ["a", "b", "c", "d"] {
                write!(f, "{:>6.0} %", share(part, server) * 100.0)?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\n  {} calls went on to another server, since they could not connect",
            self.connections_that_failed
        )
    }
}
