//! reqwest with the composed stack. `reqwest::Client` is a tower service already; its request and
//! response are reqwest's own, and turn into those of the crate `http` and back.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use http::StatusCode;
use outrigger::{Format, Governance, PolicySet};
use outrigger_core::{MethodRef, Rejection};
use outrigger_examples::{Choice, Promises, Told};
use reqwest::{Body, Request, Response};
use tokio::{net::TcpListener, time::sleep};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

const ABOUT: &str = "reqwest with the composed stack.";

const POLICIES: &str = "
retry_budget: unlimited
services:
  shop.example:
    timeout: 300ms
    circuit_breaker: {consecutive_failures: 3, cool_down: 1h}
    methods:
      'POST /orders/{id}': {retry: {mode: failure, idempotent: true, backoff: none}}
      'GET /download': {timeout: 5s, concurrency_limit: 1}
";

/// Services are hosts, methods templates of paths, so that there are few of them.
fn route(request: &http::Request<Body>) -> Option<MethodRef<'_>> {
    let first = request.uri().path().split('/').nth(1);
    let method = match (request.method().as_str(), first) {
        ("POST", Some("orders")) => "POST /orders/{id}",
        ("GET", Some("download")) => "GET /download",
        ("GET", Some("report")) => "GET /report",
        ("GET", Some("stock")) => "GET /stock",
        _ => return None,
    };
    Some(MethodRef { service: request.uri().host()?, method })
}

/// From reqwest to `http`, through the layers, and back, on the way there and on the way home.
///
/// The bodies are wrapped, not read: a request's is kept while it is sent, in case it must be sent
/// again, and a call is over when the response's has ended. reqwest's error cannot be made of a
/// refusal; boxed, it is one of the errors that there may be, and `downcast_ref` finds it.
fn governed(
    governance: &Governance,
    client: reqwest::Client,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + use<> {
    ServiceBuilder::new()
        .filter(http::Request::<Body>::try_from)
        .map_response(|response: http::Response<_>| response.map(Body::wrap).into())
        .layer(governance.http_client(route))
        .filter(|request: http::Request<_>| Request::try_from(request.map(Body::wrap)))
        .map_response(http::Response::<Body>::from)
        .service(client)
}

#[tokio::main]
async fn main() -> ExitCode {
    let choice = Choice {
        name: "reqwest",
        about: ABOUT,
        play: || Box::pin(async { Ok(Box::new(play().await?) as Box<dyn Told>) }),
    };
    outrigger_examples::run(ABOUT, &[choice]).await
}

async fn play() -> Result<Promises, BoxError> {
    let (server, asked) = serve().await?;
    let client = reqwest::Client::builder().resolve("shop.example", server).build()?;
    let governance = Governance::new(PolicySet::parse("policies.yaml", POLICIES, Format::Yaml)?);
    let shop = governed(&governance, client.clone());
    let url = |path: &str| format!("http://shop.example:{}{path}", server.port());

    let mut promises = Promises::of(ABOUT);
    let order = client.post(url("/orders/17")).body("2 apples").build()?;
    let answer = shop.clone().oneshot(order).await?.text().await?;
    let is_kept = answer == "2 apples" && asked.load(Ordering::Relaxed) == 2;
    promises.add("a failed call is sent again with its body", answer, is_kept);

    let late = shop.clone().oneshot(client.get(url("/report")).build()?).await;
    let late = late.err().ok_or("it takes a minute")?;
    let is_kept = Rejection::find(&*late).is_some_and(Rejection::was_sent);
    promises.add("a late call is cut", late, is_kept);

    let download = || client.get(url("/download")).build();
    let under_way = shop.clone().oneshot(download()?).await?;
    let refused = shop.clone().oneshot(download()?).await.err().ok_or("one at a time")?;
    let is_kept = Rejection::find(&*refused).is_some();
    promises.add("a call is not over before its body is", refused, is_kept);
    let length = under_way.bytes().await?.len();
    let next = shop.clone().oneshot(download()?).await?.status();
    let seen = format!("{length} bytes read, then {next}");
    promises.add("and gives its place back then", seen, next == StatusCode::OK);

    let mut failed = 0;
    for _ in 0..3 {
        let response = shop.clone().oneshot(client.get(url("/stock")).build()?).await?;
        failed += u32::from(response.status() == StatusCode::INTERNAL_SERVER_ERROR);
    }
    let refused = shop.clone().oneshot(client.get(url("/stock")).build()?).await;
    let refused = refused.err().ok_or("the circuit is open")?;
    let is_kept = failed == 3 && Rejection::find(&*refused).is_some();
    promises.add("a status of 500 opens the circuit", refused, is_kept);

    let nowhere = client.get("http://127.0.0.1:1/").build()?;
    let error = shop.oneshot(nowhere).await.err().ok_or("nobody listens there")?;
    let is_kept = error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect);
    promises.add("reqwest's own errors stay", error, is_kept);
    Ok(promises)
}

/// A shop that fails the first order, whose report is late, whose downloads are long, and whose
/// stock is broken.
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
        .route("/report", get(async || sleep(Duration::from_secs(60)).await))
        .route("/download", get(async || vec![b'x'; 10_000_000]))
        .route("/stock", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .with_state(Arc::clone(&asked));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok((address, asked))
}
