//! What `quickstart --serve` does: a load that never ends, with a live page and metrics of it.
//!
//! Three callees, each over gRPC behind the whole stack of a client. One endpoint of `shop` fails
//! now and then, and the balancer leaves it out; `stock` fails altogether for a while, and its
//! circuit opens; `mail` is asked too often in bursts, and its rate limit is reached.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, routing::get};
use fastrand::Rng;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerLayer, CircuitBreakerPolicy};
use outrigger_loadbalance::{
    Balance, BalancePolicy, BalanceService, EjectionPolicy, Endpoint, TonicEndpoint,
};
use outrigger_observability::{
    Diagnosis, DiagnosisService, FacadeMeter, GovernanceMetrics, Kind, ObserveLayer, names,
};
use outrigger_ratelimit::{
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitPolicy, RateLimit, RateLimitLayer,
    RateLimitPolicy,
};
use outrigger_retry::{ReplayBody, RetryBudget, RetryLayer, RetryPolicy};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tonic::{Status, body::Body, client::GrpcService};
use tower::{BoxError, ServiceBuilder};

use crate::greeter;

/// The port when none is named.
pub const DEFAULT_PORT: u16 = 9184;

/// The port that the command line asks to serve on; `None` where it does not ask.
///
/// # Errors
///
/// When what follows is no port.
pub fn asked_for(mut arguments: impl Iterator<Item = String>) -> Result<Option<u16>, String> {
    if arguments.by_ref().all(|argument| argument != "--serve") {
        return Ok(None);
    }
    let port = arguments.next().map(|port| port.parse().map_err(|_| format!("--serve {port}")));
    port.transpose().map(|port| Some(port.unwrap_or(DEFAULT_PORT)))
}

/// Serves page and metrics on 127.0.0.1 until Ctrl-C; on a port that the system gives, if `port`
/// is 0. Where the variable `OUTRIGGER_TOKEN` is set, who has it can change things on the page.
///
/// # Errors
///
/// When the port is taken, or a server cannot be started.
pub async fn serve(port: u16) -> Result<(), BoxError> {
    let serving = Serving::start(port).await?;
    let address = serving.address()?;
    println!("page     http://{address}/\nmetrics  http://{address}/metrics\nCtrl-C ends it.");
    io::stdout().flush()?;
    // Dropped, not shut down with grace: a page that listens would hold it up.
    tokio::select! {
        served = serving.run() => served?,
        ended = tokio::signal::ctrl_c() => ended?,
    }
    Ok(())
}

/// A load that goes on, with page and metrics that are served as long as [`run`](Self::run) is
/// polled.
#[derive(Debug)]
pub struct Serving {
    listener: TcpListener,
    router: Router,
    _kept: Kept,
}

impl Serving {
    /// Starts servers, clients and load, and listens on 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When the port is taken, or a server cannot be started.
    pub async fn start(port: u16) -> Result<Self, BoxError> {
        let seen = Seen::new()?;
        let kept = start(&seen).await?;
        let mut page = DiagnosisService::new(seen.diagnosis.clone());
        if let Ok(token) = std::env::var("OUTRIGGER_TOKEN") {
            page = page.allow_changes(token)?;
        }
        let render = move || {
            let seen = seen.clone();
            async move {
                seen.metrics.sample();
                seen.scrape.run_upkeep();
                seen.scrape.render()
            }
        };
        let router = Router::new().route("/metrics", get(render)).fallback_service(page);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        Ok(Self { listener, router, _kept: kept })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped.
    ///
    /// # Errors
    ///
    /// When it can listen no longer.
    pub async fn run(self) -> io::Result<()> {
        axum::serve(self.listener, self.router).await
    }
}

/// Who looks on.
#[derive(Clone)]
struct Seen {
    diagnosis: Diagnosis,
    metrics: GovernanceMetrics,
    meter: Arc<FacadeMeter>,
    scrape: PrometheusHandle,
}

impl Seen {
    fn new() -> Result<Self, BoxError> {
        let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
        for metric in names::of_kind(Kind::Histogram) {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, metric.buckets)?;
        }
        let recorder = builder.build_recorder();
        let scrape = recorder.handle();
        let meter = Arc::new(FacadeMeter::with_recorder(recorder));
        let metrics = GovernanceMetrics::new(Arc::clone(&meter));
        Ok(Self { diagnosis: Diagnosis::new(), metrics, meter, scrape })
    }

    /// An observer for a layer of what is called `name`.
    fn observer(&self, name: &'static str) -> (GovernanceMetrics, Diagnosis) {
        (self.metrics.named(name), self.diagnosis.clone())
    }
}

/// A server that fails now and then.
#[derive(Clone, Copy)]
struct Server {
    name: &'static str,
    /// In every period of this length ..
    every: Duration,
    /// .. it fails from here on ..
    from: Duration,
    /// .. for so long, three calls of four.
    lasting: Duration,
}

impl Server {
    const fn well(name: &'static str) -> Self {
        Self { name, every: Duration::MAX, from: Duration::MAX, lasting: Duration::ZERO }
    }

    const fn failing(name: &'static str, every: u64, from: u64, lasting: u64) -> Self {
        let seconds = Duration::from_secs;
        Self { name, every: seconds(every), from: seconds(from), lasting: seconds(lasting) }
    }

    fn fails_at(&self, time: Duration) -> bool {
        let into = Duration::from_secs_f64(time.as_secs_f64() % self.every.as_secs_f64());
        into >= self.from && into < self.from + self.lasting
    }

    async fn start(self) -> Result<TonicEndpoint, BoxError> {
        let began = Instant::now();
        let attend = move |number: u64| async move {
            let fails = self.fails_at(began.elapsed());
            let busy = 3.0 + fastrand::f64() * 9.0 + if fails { 120.0 } else { 0.0 };
            sleep(Duration::from_secs_f64(busy / 1_000.0)).await;
            !fails || number.is_multiple_of(4)
        };
        let address = greeter::serve_by(attend).await?;
        Ok(TonicEndpoint::of(format!("http://{address}").parse()?))
    }
}

/// What must live as long as it is to be seen.
type Kept = Vec<Box<dyn std::any::Any + Send + Sync>>;

async fn start(seen: &Seen) -> Result<Kept, BoxError> {
    let mut kept = Kept::new();
    let shop = [
        Server::well("shop-a:50051"),
        Server::failing("shop-b:50051", 40, 8, 9),
        Server::well("shop-c:50051"),
    ];
    kept.extend(callee(seen, "shop", &shop, (120.0, 400)).await?);
    kept.extend(
        callee(seen, "stock", &[Server::failing("stock:50051", 30, 4, 7)], (60.0, 200)).await?,
    );
    kept.extend(callee(seen, "mail", &[Server::well("mail:50051")], (30.0, 40)).await?);
    Ok(kept)
}

/// Starts a callee, the client's whole stack before it, and a load of so many calls per second
/// through a rate limit of so many.
async fn callee(
    seen: &Seen,
    name: &'static str,
    servers: &[Server],
    (calls_per_second, most_per_second): (f64, u32),
) -> Result<Kept, BoxError> {
    let ejection = EjectionPolicy::builder().base_time(Duration::from_secs(6)).build()?;
    let balance = Balance::new(BalancePolicy::builder().ejection(ejection).build()?)
        .observe(seen.observer(name));
    for server in servers {
        balance.insert(Endpoint::new(server.name, server.start().await?));
    }
    let breaker = CircuitBreaker::builder(
        CircuitBreakerPolicy::builder()
            .error_rate(0.5, 30)
            .cool_down(Duration::from_secs(3))
            .build()?,
    );
    let breaker = breaker.name(name).observe(seen.observer(name)).build();
    let concurrency = ConcurrencyLimitPolicy::builder().limit(24).build()?;
    let concurrency =
        ConcurrencyLimit::builder(concurrency).name(name).observe(seen.observer(name)).build();
    let rate =
        RateLimitPolicy::builder().rate(most_per_second).burst(most_per_second / 4).build()?;
    let rate = RateLimit::builder(rate).name(name).observe(seen.observer(name)).build();
    let budget = RetryBudget::default();

    let diagnosis = &seen.diagnosis;
    diagnosis.register("calls", breaker.downgrade());
    diagnosis.register("at once", concurrency.downgrade());
    diagnosis.register("per second", rate.downgrade());
    diagnosis.register(name, budget.downgrade());
    diagnosis.register(name, balance.downgrade());
    let kept: Kept = vec![
        Box::new(seen.metrics.watch_breaker(&breaker)),
        Box::new(seen.metrics.watch_concurrency(&concurrency)),
        Box::new(seen.metrics.watch_rate(&rate)),
        Box::new(seen.metrics.watch_budget(name, &budget)),
        Box::new(seen.metrics.watch_balance(name, &balance)),
    ];

    let retry = RetryPolicy::failure().idempotent(true).build()?;
    let client = ServiceBuilder::new()
        .layer(ObserveLayer::client().target(name).meter(Arc::clone(&seen.meter)).grpc())
        .layer(ConcurrencyLimitLayer::from_handle(concurrency).grpc())
        .layer(RateLimitLayer::from_handle(rate).grpc())
        .layer(RetryLayer::new(retry).observe(seen.observer(name)).budget(budget).grpc())
        .layer(ObserveLayer::attempt().target(name).meter(Arc::clone(&seen.meter)).grpc())
        .layer(CircuitBreakerLayer::from_handle(breaker).grpc())
        .map_request(|request: http::Request<ReplayBody<Body>>| request.map(Body::new))
        .service(BalanceService::new(balance).grpc());
    tokio::spawn(load(client, calls_per_second));
    Ok(kept)
}

/// Sends calls at a rate that comes and goes, each on a task of its own.
async fn load<S>(client: S, calls_per_second: f64)
where
    S: GrpcService<Body> + Clone + Send + 'static,
    S::Future: Send,
    S::ResponseBody: Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let mut rng = Rng::new();
    let began = Instant::now();
    for number in 0.. {
        let swing = 1.0 + 0.5 * (began.elapsed().as_secs_f64() / 3.0).sin();
        let wait = -rng.f64().max(1e-9).ln() / (calls_per_second * swing);
        sleep(Duration::from_secs_f64(wait.min(1.0))).await;
        let client = client.clone();
        tokio::spawn(async move {
            // What becomes of it is seen on the page.
            let _: Result<_, Status> = greeter::greet(client, number).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Option<u16>, String> {
        asked_for(arguments.iter().map(ToString::to_string))
    }

    #[test]
    fn the_command_line_says_whether_and_where_to_serve() {
        assert_eq!(asked(&["--json"]), Ok(None));
        assert_eq!(asked(&["--serve"]), Ok(Some(DEFAULT_PORT)));
        assert_eq!(asked(&["--serve", "0"]), Ok(Some(0)));
        assert_eq!(asked(&["--serve", "nowhere"]), Err("--serve nowhere".to_owned()));
    }

    #[test]
    fn a_server_fails_for_its_part_of_each_period() {
        let server = Server::failing("a", 30, 4, 7);
        let fails = |second| server.fails_at(Duration::from_secs(second));
        assert_eq!([0, 4, 10, 11, 34, 41].map(fails), [false, true, true, false, true, false]);
        assert!(!Server::well("a").fails_at(Duration::from_secs(1_000)));
    }
}
