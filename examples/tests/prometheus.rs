//! A real Prometheus server scrapes the serving quickstart and is asked what governance did.

use std::{fs, path::Path, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use outrigger_examples::serve::Serving;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tower::BoxError;

mod support;

use support::{DEADLINE, Program, tool};

type TestResult = Result<(), BoxError>;

const DASHBOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../observability/dashboards");

const RATE: &str = "sum(rate(rpc_client_call_duration_seconds_count[10s]))";
const ERROR_SHARE: &str = "sum(rate(rpc_client_call_duration_seconds_count{server_address=\"stock\",\
    outrigger_outcome=~\"failure|timeout\"}[10s])) \
    / sum(rate(rpc_client_call_duration_seconds_count{server_address=\"stock\"}[10s]))";
const STATES: &str = "outrigger_circuit_breaker_state == 1";

/// A Prometheus server that scrapes the quickstart every second.
struct Prometheus {
    address: String,
    _server: Program,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    async fn start(file: &Path, target: &str) -> Result<Self, BoxError> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("prometheus.yml");
        let told = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{DASHBOARDS}/alerts.yml']\n\
             scrape_configs:\n\
             - job_name: quickstart\n  \
               static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(&config, told)?;
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            "--web.listen-address=127.0.0.1:0".to_owned(),
        ];
        let server = Program::start(file, &arguments, "msg=\"Listening on\" address=").await?;
        Ok(Self { address: server.announced.clone(), _server: server, _folder: folder })
    }

    /// What its API answers.
    async fn get(&self, path: &str) -> Result<Value, BoxError> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
        let answer = client.get(format!("http://{}/api/v1/{path}", self.address).parse()?).await?;
        let body = answer.into_body().collect().await?.to_bytes();
        let mut answer: Value = serde_json::from_slice(&body)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&body)))?;
        if answer["status"] == "success" {
            return Ok(answer["data"].take());
        }
        Err(format!("{path}: {answer}").into())
    }

    /// What a query selects.
    async fn query(&self, promql: &str) -> Result<Vec<Value>, BoxError> {
        let encoded = promql.bytes().fold(String::new(), |all, byte| format!("{all}%{byte:02X}"));
        let mut data = self.get(&format!("query?query={encoded}")).await?;
        match data["result"].take() {
            Value::Array(series) => Ok(series),
            other => Err(format!("{promql}: {other}").into()),
        }
    }

    /// The one number that a query comes to, once it is as wanted.
    async fn until(&self, promql: &str, is_wanted: impl Fn(f64) -> bool) -> Result<f64, BoxError> {
        self.series_until(promql, |series| {
            let value = series.first()?["value"][1].as_str()?.parse().ok()?;
            (series.len() == 1 && is_wanted(value)).then_some(value)
        })
        .await
    }

    /// What is found among the series that a query selects, once it is there.
    async fn series_until<T>(
        &self,
        promql: &str,
        find: impl Fn(&[Value]) -> Option<T>,
    ) -> Result<T, BoxError> {
        let ends = Instant::now() + DEADLINE;
        loop {
            // Until it is ready it answers with no JSON.
            let answer = self.query(promql).await;
            match answer.as_deref().map(&find) {
                Ok(Some(found)) => return Ok(found),
                _ if Instant::now() < ends => sleep(Duration::from_millis(200)).await,
                _ => return Err(format!("{promql}: still {answer:?}").into()),
            }
        }
    }
}

/// The state of a circuit, if the answer tells just one.
fn state<'a>(series: &'a [Value], circuit: &str) -> Option<&'a str> {
    let mut states = series.iter().filter(|series| series["metric"]["outrigger_key"] == circuit);
    let state = states.next()?["metric"]["outrigger_state"].as_str();
    states.next().is_none().then_some(state).flatten()
}

/// The queries of a dashboard's panels.
fn queries(panels: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for panel in panels.as_array().into_iter().flatten() {
        let targets = panel["targets"].as_array().into_iter().flatten();
        found.extend(targets.filter_map(|target| target["expr"].as_str()).map(str::to_owned));
        found.extend(queries(&panel["panels"]));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_server_tells_rate_error_share_p99_and_the_state_of_breakers() -> TestResult {
    let Some(file) = tool("prometheus") else { return Ok(()) };
    let serving = Serving::start(0).await?;
    let target = serving.address()?.to_string();
    tokio::spawn(serving.run());
    let prometheus = Prometheus::start(&file, &target).await?;

    prometheus.until("up{job=\"quickstart\"}", |up| up >= 1.0).await?;
    // The load of all three callees together is about 210 calls per second, up and down by half.
    prometheus.until(RATE, |rate| (50.0..500.0).contains(&rate)).await?;

    // `stock` fails for a while: its calls fail, late, and its circuit opens.
    prometheus.until(ERROR_SHARE, |share| share > 0.2 && share < 1.0).await?;
    let p99 = |of: &str| {
        let buckets = format!("rpc_client_call_duration_seconds_bucket{{server_address=\"{of}\"}}");
        format!("histogram_quantile(0.99, sum by (le) (rate({buckets}[10s])))")
    };
    prometheus.until(&p99("stock"), |seconds| seconds > 0.1 && seconds < 10.0).await?;
    prometheus.until(&p99("mail"), |seconds| seconds > 0.0 && seconds < 10.0).await?;
    let is_open = |series: &[Value]| (state(series, "stock")? == "open").then_some(());
    prometheus.series_until(STATES, is_open).await?;
    let shop = |series: &[Value]| state(series, "shop").map(str::to_owned);
    assert_eq!(prometheus.series_until(STATES, shop).await?, "closed");

    // And it closes again by itself.
    let is_closed = |series: &[Value]| (state(series, "stock")? == "closed").then_some(());
    prometheus.series_until(STATES, is_closed).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_server_understands_every_query_of_the_dashboard_and_every_alert() -> TestResult
{
    let Some(file) = tool("prometheus") else { return Ok(()) };
    let serving = Serving::start(0).await?;
    let target = serving.address()?.to_string();
    tokio::spawn(serving.run());
    let prometheus = Prometheus::start(&file, &target).await?;
    prometheus.until("up{job=\"quickstart\"}", |up| up >= 1.0).await?;

    let dashboard = fs::read_to_string(format!("{DASHBOARDS}/outrigger.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let queries = queries(&dashboard["panels"]);
    assert!(queries.len() > 20, "{queries:?}");
    for query in queries {
        prometheus.query(&query.replace("$__rate_interval", "10s")).await?;
    }

    let ends = Instant::now() + DEADLINE;
    loop {
        let data = prometheus.get("rules").await?;
        let groups = data["groups"].as_array().ok_or("groups of rules")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
        let health: Vec<_> = rules.map(|rule| &rule["health"]).collect();
        assert!(!health.is_empty() && health.iter().all(|health| *health != "err"), "{data}");
        if health.iter().all(|health| *health == "ok") {
            return Ok(());
        }
        assert!(Instant::now() < ends, "not all were evaluated: {data}");
        sleep(Duration::from_millis(200)).await;
    }
}
