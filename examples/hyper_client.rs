//! An HTTP client, hyper-util's, with the composed stack: policies by route, bodies that are sent
//! again, and calls that are over when their body is over.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use outrigger::{Format, Governance, PolicySet};
use outrigger_core::{MethodRef, Rejection};
use outrigger_examples::{Choice, Promises, Told};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt};

const ABOUT: &str = "hyper-util's HTTP client with the composed stack.";

const POLICIES: &str = "
retry_budget: unlimited
services:
  shop:
    timeout: 5s
    circuit_breaker: {consecutive_failures: 3, cool_down: 1h}
    methods:
      'POST /orders/{id}': {retry: {mode: failure, idempotent: true, backoff: none}}
      'GET /download': {concurrency_limit: 1}
";

/// Methods are templates of paths, so that there are few of them: never the path itself.
fn route(request: &Request<Full<Bytes>>) -> Option<MethodRef<'_>> {
    let first = request.uri().path().split('/').nth(1);
    let method = match (request.method().as_str(), first) {
        ("POST", Some("orders")) => "POST /orders/{id}",
        ("GET", Some("download")) => "GET /download",
        ("GET", Some("stock")) => "GET /stock",
        _ => return None,
    };
    Some(MethodRef { service: "shop", method })
}

#[tokio::main]
async fn main() -> ExitCode {
    let choice = Choice {
        name: "hyper_client",
        about: ABOUT,
        play: || Box::pin(async { Ok(Box::new(play().await?) as Box<dyn Told>) }),
    };
    outrigger_examples::run(ABOUT, &[choice]).await
}

async fn play() -> Result<Promises, BoxError> {
    let (server, asked) = serve().await?;
    let governance = Governance::new(PolicySet::parse("policies.yaml", POLICIES, Format::Yaml)?);
    // hyper's error knows nothing of refusals; boxed, it is one of the errors that there may be.
    let client = ServiceBuilder::new()
        .layer(governance.http_client(route))
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build_http());

    let mut promises = Promises::of(ABOUT);
    let order = Request::post(format!("http://{server}/orders/17")).body(Full::from("2 apples"))?;
    let answer = read(client.clone().oneshot(order).await?).await?;
    let is_kept = answer == "2 apples" && asked.load(Ordering::Relaxed) == 2;
    promises.add("a failed call is sent again with its body", answer, is_kept);

    let download = || Request::get(format!("http://{server}/download")).body(Full::default());
    let under_way = client.clone().oneshot(download()?).await?;
    let refused = client.clone().oneshot(download()?).await.err().ok_or("one at a time")?;
    let is_kept = Rejection::find(&*refused).is_some();
    promises.add("a call is not over before its body is", refused, is_kept);
    let length = read(under_way).await?.len();
    let next = client.clone().oneshot(download()?).await?.status();
    let seen = format!("{length} bytes read, then {next}");
    promises.add("and gives its place back then", seen, next == StatusCode::OK);

    let stock = || Request::get(format!("http://{server}/stock")).body(Full::default());
    let mut failed = 0;
    for _ in 0..3 {
        let status = client.clone().oneshot(stock()?).await?.status();
        failed += u32::from(status == StatusCode::INTERNAL_SERVER_ERROR);
    }
    let refused = client.oneshot(stock()?).await.err().ok_or("the circuit is open")?;
    let is_kept = failed == 3 && Rejection::find(&*refused).is_some();
    promises.add("a status of 500 opens the circuit", refused, is_kept);
    Ok(promises)
}

async fn read<B>(response: Response<B>) -> Result<String, BoxError>
where
    B: Body<Error: Into<BoxError>>,
{
    let body = response.into_body().collect().await.map_err(Into::into)?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// A shop that fails the first order, whose downloads are long, and whose stock is broken.
async fn serve() -> std::io::Result<(SocketAddr, Arc<AtomicU64>)> {
    async fn order(
        State(asked): State<Arc<AtomicU64>>,
        order: String,
    ) -> Result<String, StatusCode> {
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Err(StatusCode::SERVICE_UNAVAILABLE),
            _ => Ok(order),
        }
    }
    let asked = Arc::new(AtomicU64::new(0));
    let router = Router::new()
        .route("/orders/{id}", post(order))
        .route("/download", get(async || Bytes::from(vec![b'x'; 10_000_000])))
        .route("/stock", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .with_state(Arc::clone(&asked));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok((address, asked))
}
