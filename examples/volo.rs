//! Thrift with Volo: client and server governed, each by policies of its own.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use outrigger::{Format, Governance, PolicySet, volo::rejection};
use outrigger_core::Rejection;
use outrigger_examples::{Choice, Promises, Told, thrift};
use tokio::time::sleep;
use tower::BoxError;
use volo_thrift::{ApplicationException, ApplicationExceptionKind, ServerError};

const ABOUT: &str = "A Volo client and a Volo server, each governed by a policy file.";

const OF_CLIENT: &str = "
retry_budget: 10%
services:
  outrigger.examples.Greeter:
    timeout: 300ms
    circuit_breaker: {error_rate: {rate: 0.5, minimum_calls: 20}}
    methods:
      Greet: {retry: {mode: failure, idempotent: true, backoff: none}}
";

/// With a time-out of its own, a server also gives up what its caller does not wait for: the client
/// tells it how long that is.
const OF_SERVER: &str = "
server: {concurrency_limit: 8}
defaults: {timeout: 5s}
";

#[tokio::main]
async fn main() -> ExitCode {
    let choice = Choice {
        name: "volo",
        about: ABOUT,
        play: || Box::pin(async { Ok(Box::new(play().await?) as Box<dyn Told>) }),
    };
    outrigger_examples::run(ABOUT, &[choice]).await
}

async fn play() -> Result<Promises, BoxError> {
    // The server: `GreeterServer::new(..).layer_front(of_server.volo_server())`.
    let of_server = Governance::new(PolicySet::parse("server.yaml", OF_SERVER, Format::Yaml)?);
    let asked = Arc::new(AtomicI64::new(0));
    let address = thrift::serve(attend(Arc::clone(&asked)), of_server.volo_server()).await?;

    // The client: `GreeterClientBuilder::new(..).layer_outer(governance.volo_client())`.
    let governance = Governance::new(PolicySet::parse("client.yaml", OF_CLIENT, Format::Yaml)?);
    let client = thrift::client(address, governance.volo_client());

    let mut promises = Promises::of(ABOUT);
    let words = client.greet(UNLUCKY).await?;
    let attempts = asked.load(Ordering::Relaxed);
    promises.add(
        "a failed call is sent again",
        format!("{words}, after {attempts}"),
        attempts == 2,
    );

    // Volo's error type stays; a refusal or a time-out is found in it.
    let late = client.greet(SLOW).await.expect_err("300 ms at most");
    let is_kept = rejection(&late).is_some_and(Rejection::was_sent);
    promises.add("a late call is cut", late, is_kept);

    for _ in 0..40 {
        drop(client.greet(HOPELESS).await);
    }
    let asked_before = asked.load(Ordering::Relaxed);
    let refused = client.greet(HOPELESS).await.expect_err("the circuit is open");
    let by = rejection(&refused).map_or("nobody", Rejection::layer);
    let is_kept = by == "circuitbreak" && asked.load(Ordering::Relaxed) == asked_before;
    promises.add("an open circuit refuses at once", refused, is_kept);

    let ungoverned = thrift::client(address, volo::layer::Identity::new());
    let call = |client: thrift::GreeterClient| async move { client.greet(BUSY).await };
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(call(ungoverned.clone()))).collect();
    let mut refused = 0;
    for call in calls {
        let answer = call.await?;
        refused += u32::from(answer.is_err_and(|error| error.to_string().contains("refused")));
    }
    let seen = format!("{refused} of 20 refused");
    promises.add("the server does 8 calls at once", seen, refused == 12);
    Ok(promises)
}

/// What the server does by the number that a caller says.
const UNLUCKY: i64 = 1;
const SLOW: i64 = 2;
const HOPELESS: i64 = 3;
const BUSY: i64 = 4;

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<String, ServerError>> + Send>>;

fn attend(asked: Arc<AtomicI64>) -> impl Fn(i64) -> Answer + Send + Sync + 'static {
    move |number| {
        let before = asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match number {
                UNLUCKY if before > 0 => {}
                SLOW => sleep(Duration::from_secs(60)).await,
                BUSY => sleep(Duration::from_secs(1)).await,
                _ => {
                    let kind = ApplicationExceptionKind::INTERNAL_ERROR;
                    return Err(ApplicationException::new(kind, "the greeter is unwell").into());
                }
            }
            Ok(format!("good day, caller {number}"))
        })
    }
}
