//! An axum server, governed by a policy file: limits for the whole server and for each route, all
//! changeable while it runs. What is refused is answered with a status that says why, and when to
//! come back.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use axum::{Router, body::Body, extract::MatchedPath, routing::get};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use outrigger::{Format, Governance, PolicySet};
use outrigger_core::{MethodRef, Rejection, RejectionResponseLayer};
use outrigger_examples::{Choice, Promises, Told};
use tokio::{net::TcpListener, time::sleep};
use tower::{BoxError, ServiceBuilder};

const ABOUT: &str = "An axum server, governed by a policy file.";

/// In a program this is a file: `PolicySet::load`, and `follow_file` to follow it.
const POLICIES: &str = "
server: {concurrency_limit: {limit: 2, max_waiting: 1, max_wait: 1s}}
services:
  shop:
    methods:
      '/cart/{user}': {rate_limit: {rate: 3, burst: 3, period: 1m}}
      '/report': {timeout: 100ms}
";

/// Methods are the routes that axum matched: `/cart/{user}`, never `/cart/17`.
fn route(request: &Request<Body>) -> Option<MethodRef<'_>> {
    let route = request.extensions().get::<MatchedPath>()?;
    Some(MethodRef { service: "shop", method: route.as_str() })
}

/// `map_err` gives the router, which cannot fail, an error to refuse with; the outermost layer makes
/// a response of it again.
fn shop(governance: &Governance) -> Router {
    let layers = ServiceBuilder::new()
        .layer(RejectionResponseLayer::new())
        .layer(governance.http_server(route))
        .map_err(Rejection::from);
    Router::new()
        .route("/cart/{user}", get(async || "2 apples"))
        .route("/report", get(async || sleep(Duration::from_secs(60)).await))
        .route("/busy", get(async || sleep(Duration::from_millis(300)).await))
        .layer(layers.into_inner())
}

#[tokio::main]
async fn main() -> ExitCode {
    let choice = Choice {
        name: "axum",
        about: ABOUT,
        play: || Box::pin(async { Ok(Box::new(play().await?) as Box<dyn Told>) }),
    };
    outrigger_examples::run(ABOUT, &[choice]).await
}

async fn play() -> Result<Promises, BoxError> {
    let governance = Governance::new(PolicySet::parse("policies.yaml", POLICIES, Format::Yaml)?);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let shop_at = Caller::of(listener.local_addr()?);
    let app = shop(&governance);
    tokio::spawn(async { axum::serve(listener, app).await });

    let mut promises = Promises::of(ABOUT);
    let mut carts = Vec::new();
    for user in 0..5 {
        carts.push(shop_at.get(&format!("/cart/{user}")).await?);
    }
    let served = carts.iter().filter(|answer| answer.status() == StatusCode::OK).count();
    promises.add("a route gives as many answers as its rate allows", served, served == 3);
    let refused = told(&carts[4]);
    let is_kept = refused == (StatusCode::TOO_MANY_REQUESTS, Some(20));
    promises.add("the rest hear when to come back", format!("{refused:?}"), is_kept);

    let late = told(&shop_at.get("/report").await?);
    let is_kept = late.0 == StatusCode::GATEWAY_TIMEOUT;
    promises.add("a slow handler is cut", format!("{late:?}"), is_kept);

    // Of four calls two run, one waits for a place, and one is refused.
    let busy = || shop_at.get("/busy");
    let answers = tokio::try_join!(busy(), busy(), busy(), busy())?;
    let answers: [_; 4] = answers.into();
    let refused = answers.iter().filter(|a| a.status() == StatusCode::TOO_MANY_REQUESTS).count();
    promises.add(
        "the server does so many calls at once",
        format!("{refused} refused"),
        refused == 1,
    );

    // While it runs. In a program the file was edited.
    let more = POLICIES.replace("rate: 3, burst: 3", "rate: 1000, burst: 1000");
    governance.replace_text(
        "policies.yaml",
        &more.replace("period: 1m", "period: 1s"),
        Format::Yaml,
    )?;
    sleep(Duration::from_millis(50)).await;
    let status = shop_at.get("/cart/6").await?.status();
    promises.add("a new limit counts at once", status, status == StatusCode::OK);
    Ok(promises)
}

/// Status and `Retry-After` in seconds.
fn told<B>(response: &Response<B>) -> (StatusCode, Option<u64>) {
    let after = response.headers().get(RETRY_AFTER);
    (response.status(), after.and_then(|after| after.to_str().ok()?.parse().ok()))
}

/// Asks a server over HTTP, ungoverned.
#[derive(Clone, Debug)]
struct Caller {
    client: Client<HttpConnector, Empty<Bytes>>,
    server: SocketAddr,
}

impl Caller {
    fn of(server: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), server }
    }

    async fn get(&self, path: &str) -> Result<Response<hyper::body::Incoming>, BoxError> {
        let request = Request::get(format!("http://{}{path}", self.server)).body(Empty::new())?;
        Ok(self.client.request(request).await?)
    }
}
