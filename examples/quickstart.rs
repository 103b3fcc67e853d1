//! A bad day of three real gRPC servers, governed by `policies.toml` and not. `--scenario breaker`
//! has a tonic client with a circuit breaker for each server, and one without; `--help` lists all.

use std::{env, process::ExitCode, time::Duration};

use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy};
use outrigger_core::Rejection;
use outrigger_examples::{
    Answer, Choice, Chronicle, Report, SERVERS, Scenario, Told, day, fleet,
    greeter::{self, Limits, Reply},
    serve, tail,
};
use outrigger_ratelimit::{ConcurrencyLimit, ConcurrencyLimitPolicy, RateLimit, RateLimitPolicy};
use tonic::{Status, transport::Endpoint};
use tower::{BoxError, ServiceBuilder};

const ABOUT: &str = "A bad day of three gRPC servers: the same load with governance and without.

`--serve [PORT]` instead keeps a load running until Ctrl-C, with a live page and metrics on 127.0.0.1.";

#[tokio::main]
async fn main() -> ExitCode {
    let choices = [
        Choice {
            name: "day",
            about: "late, failing and too busy servers, governed by examples/policies.toml and not",
            play: || Box::pin(day::play()),
        },
        Choice {
            name: "breaker",
            about: "a server fails for a while, with and without a circuit breaker",
            play: || Box::pin(async { Ok(Box::new(breakers().await?) as Box<dyn Told>) }),
        },
        Choice {
            name: "balance",
            about: "one of three servers stops, a fourth joins: who gets how many calls",
            play: || Box::pin(fleet::play()),
        },
        Choice {
            name: "tail",
            about: "a server is late now and then, with and without backup requests",
            play: || Box::pin(tail::play()),
        },
    ];
    match serve::asked_for(env::args().skip(1)) {
        Ok(Some(port)) => outrigger_examples::run_for_ever(serve::serve(port)).await,
        // What is wrong with the command line is told with the help.
        Ok(None) | Err(_) => outrigger_examples::run(ABOUT, &choices).await,
    }
}

async fn breakers() -> Result<Report, BoxError> {
    let scenario = Scenario::new("gRPC");
    let chronicle = scenario.chronicle();
    let (mut governed, mut ungoverned) = (Vec::new(), Vec::new());
    for server in 0..SERVERS.len() {
        let address = greeter::serve(scenario.health(server), limits(server, &chronicle)?).await?;
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        let breaker = breaker(server, &chronicle)?;
        governed.push(
            ServiceBuilder::new()
                .layer(CircuitBreakerLayer::from_handle(breaker).grpc())
                .map_err(|error: tonic::transport::Error| Status::from_error(error.into()))
                .service(channel.clone()),
        );
        ungoverned.push(channel);
    }
    let report = scenario
        .play(
            chronicle,
            |server, number| {
                let client = governed[server].clone();
                async move { answer(greeter::greet(client, number).await) }
            },
            |server, number| {
                let client = ungoverned[server].clone();
                async move { answer(greeter::greet(client, number).await) }
            },
        )
        .await;
    Ok(report)
}

/// A breaker for one server. It opens when half of at least 20 calls within half a second failed, or
/// took 250 ms; after a pause it lets a probe through, and closes when two in a row do well.
fn breaker(server: usize, chronicle: &Chronicle) -> Result<CircuitBreaker<Chronicle>, BoxError> {
    let policy = CircuitBreakerPolicy::builder()
        .time_window(Duration::from_millis(500))
        .error_rate(0.5, 20)
        .slow_calls(Duration::from_millis(250), 0.5, 20)
        .cool_down(Duration::from_millis(300))
        .probe_interval(Duration::from_millis(100))
        .build()?;
    let breaker = CircuitBreaker::builder(policy).name(SERVERS[server]);
    Ok(breaker.seed(Scenario::SEED).observe(chronicle.clone()).build())
}

/// The limits of one server: 32 calls at once, 16 more that wait for at most 50 ms, and 500 calls
/// in a second.
fn limits(server: usize, chronicle: &Chronicle) -> Result<Limits, BoxError> {
    let at_once = ConcurrencyLimitPolicy::builder()
        .limit(32)
        .max_waiting(16)
        .max_wait(Duration::from_millis(50))
        .build()?;
    let in_time = RateLimitPolicy::builder().rate(500).burst(50).build()?;
    let (name, chronicle) = (SERVERS[server], chronicle.clone());
    Ok(Limits {
        concurrency: ConcurrencyLimit::builder(at_once)
            .name(name)
            .observe(chronicle.clone())
            .build(),
        rate: RateLimit::builder(in_time).name(name).observe(chronicle).build(),
    })
}

fn answer(result: Result<Reply, Status>) -> Answer {
    match result {
        Ok(_) => Answer::Succeeded,
        Err(status) if Rejection::find(&status).is_some_and(|refusal| !refusal.was_sent()) => {
            Answer::Refused
        }
        Err(_) => Answer::Failed,
    }
}
