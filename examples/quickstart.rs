//! A tonic client with a circuit breaker for each server, and one without, before three real gRPC
//! servers of which one fails for a while.

use std::process::ExitCode;

use outrigger_core::Rejection;
use outrigger_examples::{
    Answer, Report, SERVERS, Scenario,
    greeter::{self, Reply},
};
use tonic::{Status, transport::Endpoint};
use tower::{BoxError, ServiceBuilder};

const ABOUT: &str = "Three gRPC servers, one of which fails for a while: the same load with a \
circuit breaker and without.";

#[tokio::main]
async fn main() -> ExitCode {
    outrigger_examples::run(ABOUT, quickstart).await
}

async fn quickstart() -> Result<Report, BoxError> {
    let scenario = Scenario::new("gRPC");
    let chronicle = scenario.chronicle();
    let (mut governed, mut ungoverned) = (Vec::new(), Vec::new());
    for server in 0..SERVERS.len() {
        let address = greeter::serve(scenario.health(server)).await?;
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        governed.push(
            ServiceBuilder::new()
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

fn answer(result: Result<Reply, Status>) -> Answer {
    match result {
        Ok(_) => Answer::Succeeded,
        Err(status) if Rejection::find(&status).is_some() => Answer::Refused,
        Err(_) => Answer::Failed,
    }
}
