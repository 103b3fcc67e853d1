//! A real gRPC server whose answers are late now and then, with backup requests and without.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use hdrhistogram::Histogram;
use outrigger_retry::{
    QuantileDelay, ReplayBody, RetryBudget, RetryEvent, RetryLayer, RetryPolicy,
};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Status, body::Body, client::GrpcService, transport::Endpoint};
use tower::{BoxError, ServiceBuilder};

use crate::{
    greeter::{self, Reply},
    program::{Told, json},
};

const SEED: u64 = 13;
const CALLS: u64 = 4_000;
const CALLS_PER_SECOND: u64 = 400;
/// 99 % of the answers take no longer than this.
const P99: Duration = Duration::from_millis(13);
const SLOWEST: Duration = Duration::from_millis(60);
/// Of some 40 slow answers 20 or more are overtaken; on a machine with other work fewer, since what
/// it is late by is in the quantile too.
const OVERTAKEN: u64 = 3;

/// The tail of the latencies, by how long a backup request waits.
#[derive(Clone, Debug, Serialize)]
pub struct Tail {
    seed: u64,
    calls: u64,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    name: &'static str,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    extra_calls_ratio: f64,
    backups_won: u64,
    failed: u64,
}

/// Sends the same calls three times: without backup requests, after a fixed delay, and after the
/// live p99 of the latencies.
///
/// # Errors
///
/// When a server cannot be started or reached.
pub async fn play() -> Result<Box<dyn Told>, BoxError> {
    let backup =
        |delay: outrigger_retry::BackupDelay| RetryPolicy::backup(delay).idempotent(true).build();
    let quantile = QuantileDelay::of(0.99);
    let policies = [
        ("none", RetryPolicy::off()),
        ("fixed", backup(P99.into())?),
        ("quantile", backup(quantile.into())?),
    ];
    let mut rows = Vec::new();
    for (name, policy) in policies {
        rows.push(measure(name, policy).await?);
    }
    Ok(Box::new(Tail { seed: SEED, calls: CALLS, rows }))
}

async fn measure(name: &'static str, policy: RetryPolicy) -> Result<Row, BoxError> {
    let (address, attempts) = serve().await?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let won = Arc::<AtomicU64>::default();
    let count = Arc::clone(&won);
    let observer = move |_: &str, event: &RetryEvent| {
        let is_won = matches!(event, RetryEvent::BackupWon { .. });
        count.fetch_add(u64::from(is_won), Ordering::Relaxed);
    };
    let retries = RetryLayer::new(policy).budget(RetryBudget::default()).observe(observer);
    let client = ServiceBuilder::new()
        .layer(retries.grpc())
        .map_request(|request: http::Request<ReplayBody<Body>>| request.map(Body::new))
        .map_err(|error: tonic::transport::Error| Status::from_error(error.into()))
        .service(channel);
    let (latencies, failed) = load(client).await?;
    let quantile = |quantile| ms(latencies.value_at_quantile(quantile));
    #[expect(clippy::cast_precision_loss, reason = "some thousand calls")]
    let extra = attempts.load(Ordering::Relaxed) as f64 / CALLS as f64 - 1.0;
    Ok(Row {
        name,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        p999_ms: quantile(0.999),
        max_ms: ms(latencies.max()),
        extra_calls_ratio: extra,
        backups_won: won.load(Ordering::Relaxed),
        failed,
    })
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a call")]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

/// Calls at even intervals, whatever became of the last.
async fn load<S>(client: S) -> Result<(Histogram<u64>, u64), BoxError>
where
    S: GrpcService<Body> + Clone + Send + 'static,
    S::Future: Send,
    S::ResponseBody: Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let begin = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        sleep_until(begin + Duration::from_micros(number * 1_000_000 / CALLS_PER_SECOND)).await;
        let client = client.clone();
        calls.spawn(async move {
            let begin = Instant::now();
            let answer: Result<Reply, Status> = greeter::greet(client, number).await;
            (begin.elapsed(), answer.is_ok())
        });
    }
    let (mut latencies, mut failed) = (Histogram::new(3)?, 0);
    while let Some(call) = calls.join_next().await {
        let (latency, is_ok) = call?;
        latencies += u64::try_from(latency.as_micros())?;
        failed += u64::from(!is_ok);
    }
    Ok((latencies, failed))
}

/// Starts a greeter that takes its time, and counts what it is asked.
async fn serve() -> Result<(SocketAddr, Arc<AtomicU64>), BoxError> {
    let attempts = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&attempts);
    let rng = Arc::new(Mutex::new(Rng::with_seed(SEED)));
    let attend = move |_number| {
        counted.fetch_add(1, Ordering::Relaxed);
        let takes = latency(&mut rng.lock().unwrap_or_else(PoisonError::into_inner));
        async move {
            sleep(takes).await;
            true
        }
    };
    Ok((greeter::serve_by(attend).await?, attempts))
}

/// 99 % evenly from 1 ms to 13, the others evenly to 60: the published figure of Kitex's backup
/// requests.
fn latency(rng: &mut Rng) -> Duration {
    let between =
        |least: Duration, most: Duration, share| least + most.saturating_sub(least).mul_f64(share);
    if rng.f64() < 0.99 {
        between(Duration::from_millis(1), P99, rng.f64())
    } else {
        between(P99, SLOWEST, rng.f64())
    }
}

impl Told for Tail {
    fn to_json(&self) -> serde_json::Result<String> {
        json(self)
    }

    /// Judged by what is counted: a busy machine is late by itself.
    fn check(&self) -> Result<(), String> {
        let [_, backups @ ..] = &self.rows[..] else { return Err("nothing was run".into()) };
        for row in backups {
            if row.backups_won < OVERTAKEN {
                return Err(format!("{}: {} backups won", row.name, row.backups_won));
            }
            if row.extra_calls_ratio > 0.1 {
                return Err(format!("{}: {} extra calls", row.name, row.extra_calls_ratio));
            }
        }
        match self.rows.iter().find(|row| row.failed > 0) {
            Some(row) => Err(format!("{}: {} calls failed", row.name, row.failed)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A gRPC server of which 99 % of the answers take at most {P99:?} and the slowest \
             {SLOWEST:?};\n{CALLS} calls, {CALLS_PER_SECOND} a second, one run after the other.\n"
        )?;
        writeln!(
            f,
            "backup after    p50 ms   p99 ms  p99.9 ms   max ms  extra calls  backups won"
        )?;
        for row in &self.rows {
            let Row {
                name, p50_ms, p99_ms, p999_ms, max_ms, extra_calls_ratio, backups_won, ..
            } = row;
            let extra = extra_calls_ratio * 100.0;
            writeln!(
                f,
                "{name:<13} {p50_ms:>8.1} {p99_ms:>8.1} {p999_ms:>9.1} {max_ms:>8.1} {extra:>10.2} % \
                 {backups_won:>12}"
            )?;
        }
        Ok(())
    }
}
