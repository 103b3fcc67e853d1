//! gRPC with tonic: client and server governed, each by a policy file of its own.
//!
//! The client's is `policies.yaml`, the eight lines of the README; the server's stands below.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use outrigger::{Format, Governance, PolicySet};
use outrigger_core::{Rejection, RejectionResponseLayer};
use outrigger_examples::{
    Choice, Promises, Told,
    greeter::{greet, serve_governed},
};
use tokio::time::sleep;
use tonic::{Code, Status, transport::Endpoint};
use tower::{BoxError, ServiceBuilder};

const ABOUT: &str = "A tonic client and a tonic server, each governed by a policy file.";

const OF_SERVER: &str = "server: {concurrency_limit: 8}";

#[tokio::main]
async fn main() -> ExitCode {
    let choice = Choice {
        name: "tonic",
        about: ABOUT,
        play: || Box::pin(async { Ok(Box::new(play().await?) as Box<dyn Told>) }),
    };
    outrigger_examples::run(ABOUT, &[choice]).await
}

async fn play() -> Result<Promises, BoxError> {
    // The server: its layer goes to `Server::builder().layer(..)`. `map_err` gives the routes, which
    // cannot fail, an error to refuse with; the outermost layer makes a response of it again.
    let of_server = Governance::new(PolicySet::parse("server.yaml", OF_SERVER, Format::Yaml)?);
    let layer = ServiceBuilder::new()
        .layer(RejectionResponseLayer::new())
        .layer(of_server.grpc_server())
        .map_err(Rejection::from)
        .into_inner();
    let asked = Arc::new(AtomicU64::new(0));
    let address = serve_governed(attend(Arc::clone(&asked)), layer).await?;

    // The client: layers around a channel, and `map_err` to make the channel's error a `Status`,
    // which has `From<Rejection>`.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies.yaml");
    let governance = Governance::new(PolicySet::load(file)?);
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let client = ServiceBuilder::new()
        .layer(governance.tonic_channel())
        .map_err(|error: tonic::transport::Error| Status::from_error(error.into()))
        .service(channel.clone());

    let mut promises = Promises::of(ABOUT);
    let words = greet(client.clone(), UNLUCKY).await?.words;
    let attempts = asked.load(Ordering::Relaxed);
    promises.add(
        "a failed call is sent again",
        format!("{words}, after {attempts}"),
        attempts == 2,
    );

    let late = greet(client.clone(), SLOW).await.expect_err("one second at most");
    promises.add("a late call is cut", late.message(), late.code() == Code::DeadlineExceeded);

    for _ in 0..40 {
        drop(greet(client.clone(), HOPELESS).await);
    }
    let asked_before = asked.load(Ordering::Relaxed);
    let refused = greet(client, HOPELESS).await.expect_err("the circuit is open");
    let by = Rejection::find(&refused).map_or("nobody", Rejection::layer);
    let is_kept = by == "circuitbreak" && asked.load(Ordering::Relaxed) == asked_before;
    promises.add("an open circuit refuses at once", refused.message(), is_kept);

    let busy = (0..20).map(|_| tokio::spawn(greet(channel.clone(), BUSY)));
    let mut exhausted = 0;
    for call in busy.collect::<Vec<_>>() {
        let answer = call.await?;
        exhausted += u32::from(answer.is_err_and(|s| s.code() == Code::ResourceExhausted));
    }
    let seen = format!("{exhausted} of 20 refused");
    promises.add("the server does 8 calls at once", seen, exhausted == 12);
    Ok(promises)
}

/// What the server does by the number that a caller says.
const UNLUCKY: u64 = 1;
const SLOW: u64 = 2;
const HOPELESS: u64 = 3;
const BUSY: u64 = 4;

type Answer = std::pin::Pin<Box<dyn Future<Output = bool> + Send>>;

fn attend(asked: Arc<AtomicU64>) -> impl Fn(u64) -> Answer + Clone + Send + Sync + 'static {
    move |number| {
        let before = asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match number {
                UNLUCKY => return before > 0,
                SLOW => sleep(Duration::from_secs(60)).await,
                BUSY => sleep(Duration::from_secs(1)).await,
                _ => return false,
            }
            true
        })
    }
}
