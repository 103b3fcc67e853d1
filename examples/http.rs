//! Plain HTTP: hyper-util's client with a circuit breaker for each server, and one without, before
//! three real axum servers of which one fails for a while.

use std::{io, net::SocketAddr, process::ExitCode, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy};
use outrigger_core::Rejection;
use outrigger_examples::{Answer, Choice, Chronicle, Health, Report, SERVERS, Scenario, Told};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

const ABOUT: &str = "Three HTTP servers, one of which fails for a while: the same load with a \
circuit breaker and without.";

#[tokio::main]
async fn main() -> ExitCode {
    let choice = Choice {
        name: "breaker",
        about: ABOUT,
        play: || Box::pin(async { Ok(Box::new(http().await?) as Box<dyn Told>) }),
    };
    outrigger_examples::run(ABOUT, &[choice]).await
}

async fn http() -> Result<Report, BoxError> {
    let scenario = Scenario::new("HTTP");
    let chronicle = scenario.chronicle();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let (mut addresses, mut governed) = (Vec::new(), Vec::new());
    for server in 0..SERVERS.len() {
        addresses.push(serve(scenario.health(server)).await?);
        let breaker = breaker(server, &chronicle)?;
        governed.push(
            ServiceBuilder::new()
                .layer(CircuitBreakerLayer::from_handle(breaker).http())
                .map_err(BoxError::from)
                .service(client.clone()),
        );
    }
    let ungoverned = ServiceBuilder::new().map_err(BoxError::from).service(client);
    let report = scenario
        .play(
            chronicle,
            |server, number| greet(governed[server].clone(), addresses[server], number),
            |server, number| greet(ungoverned.clone(), addresses[server], number),
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

/// Starts a server on a port that the system gives.
async fn serve(health: Health) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/greet/{number}", get(welcome)).with_state(health);
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}

async fn welcome(
    State(health): State<Health>,
    Path(number): Path<u64>,
) -> Result<String, StatusCode> {
    if health.is_able_to_answer(number).await {
        Ok(format!("good day, caller {number}"))
    } else {
        Err(StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// Asks the server through `service`, reads its answer to the end, and says what became of it.
async fn greet<S, B>(service: S, server: SocketAddr, number: u64) -> Answer
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Error: Into<BoxError>>,
{
    match read(service, server, number).await {
        Ok(status) if status.is_success() => Answer::Succeeded,
        Err(error) if Rejection::find(&*error).is_some_and(|refusal| !refusal.was_sent()) => {
            Answer::Refused
        }
        _ => Answer::Failed,
    }
}

async fn read<S, B>(service: S, server: SocketAddr, number: u64) -> Result<StatusCode, BoxError>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Error: Into<BoxError>>,
{
    let request = Request::get(format!("http://{server}/greet/{number}")).body(Empty::new())?;
    let response = service.oneshot(request).await?;
    let status = response.status();
    response.into_body().collect().await.map_err(Into::into)?;
    Ok(status)
}
