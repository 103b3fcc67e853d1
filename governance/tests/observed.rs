//! What governs is seen: as metrics, on the page, in the log.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use outrigger::{
    Format, Governance, PolicySet,
    circuitbreak::CircuitBreakerPolicy,
    core::{Enforcement, MethodRef, Outcome},
    observability::{
        CannotChange, Change, Count, CountUpDown, Diagnosis, GovernanceMetrics, Label, Meter,
        Metric, Record, Set, SpanEvents, StateLog,
    },
    ratelimit::RateLimitPolicy,
};

const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };
const ADD: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Add" };

const POLICIES: &str = "
defaults:
  circuit_breaker: {}
services:
  shop.Cart:
    retry_budget: 10%
    methods:
      Get:
        rate_limit: 100/s
        concurrency_limit: {limit: 7}
server:
  concurrency_limit: {limit: 64}
";

fn policies(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).expect("valid")
}

type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

/// Keeps the counters, by name and labels.
#[derive(Clone, Default)]
struct Counters(Counts);

struct Counter {
    name: String,
    counts: Counts,
}

impl Meter for Counters {
    fn counter(&self, metric: &'static Metric, labels: &[Label<'_>]) -> Arc<dyn Count> {
        let labels: Vec<_> = labels.iter().map(|(_, value)| *value).collect();
        let name = format!("{} {}", metric.name, labels.join(" "));
        Arc::new(Counter { name, counts: Arc::clone(&self.0) })
    }

    fn up_down(&self, _: &'static Metric, _: &[Label<'_>]) -> Arc<dyn CountUpDown> {
        Arc::new(Nothing)
    }

    fn gauge(&self, _: &'static Metric, _: &[Label<'_>]) -> Arc<dyn Set> {
        Arc::new(Nothing)
    }

    fn histogram(&self, _: &'static Metric, _: &[Label<'_>]) -> Arc<dyn Record> {
        Arc::new(Nothing)
    }
}

impl Count for Counter {
    fn count(&self, more: u64) {
        *self.counts.lock().expect("not poisoned").entry(self.name.clone()).or_default() += more;
    }
}

struct Nothing;

impl CountUpDown for Nothing {
    fn add(&self, _: i32) {}
}

impl Set for Nothing {
    fn set(&self, _: f64) {}
}

impl Record for Nothing {
    fn record(&self, _: f64) {}
}

#[tokio::test(start_paused = true)]
async fn reloads_and_refusals_are_counted_and_stand_on_the_page() {
    let counters = Counters::default();
    let metrics = GovernanceMetrics::new(counters.clone());
    let diagnosis = Diagnosis::new();
    let observer = (metrics, (diagnosis.clone(), (StateLog::default(), SpanEvents)));
    let governance = Governance::with_observer(policies(POLICIES), observer);
    governance.replace_text("policies.yaml", POLICIES, Format::Yaml).expect("valid");
    governance.replace_text("policies.yaml", "defaultz: {}", Format::Yaml).expect_err("a typo");

    let counts = counters.0.lock().expect("not poisoned").clone();
    assert_eq!(counts["outrigger.policy.reloads policies.yaml applied"], 1);
    assert_eq!(counts["outrigger.policy.reloads policies.yaml refused"], 1);
    let texts: Vec<_> = diagnosis.snapshot().events.into_iter().map(|event| event.text).collect();
    assert!(texts.iter().any(|text| text.contains("is in force")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("was refused")), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn every_called_method_has_its_rows_and_they_go_with_the_governance() {
    let diagnosis = Diagnosis::new();
    let governance = Governance::with_observer(policies(POLICIES), diagnosis.clone());
    governance.show_on(&diagnosis, "shop", &["shop.Cart"]);
    assert!(diagnosis.snapshot().breakers.is_empty(), "nothing was called");

    let get = governance.method(GET);
    let _ = governance.method(ADD);
    get.circuit_breaker().try_acquire().expect("closed").record(Outcome::Success);
    let _running = get.concurrency_limit().try_acquire().expect("a place");
    let snapshot = diagnosis.snapshot();
    let keys: Vec<_> = snapshot.breakers.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["shop.Cart/Add", "shop.Cart/Get"]);
    let limits: Vec<_> = snapshot
        .limits
        .iter()
        .map(|row| (row.key.as_str(), row.kind, row.limit, row.used))
        .collect();
    assert_eq!(limits.len(), 3, "{limits:?}");
    assert!(limits.contains(&("shop.Cart/Get", "concurrency", Some(7), 1)), "{limits:?}");
    assert!(limits.iter().any(|(_, _, limit, _)| *limit == Some(64)), "the server's: {limits:?}");
    assert_eq!(snapshot.budgets.len(), 1);

    drop((governance, get));
    assert!(diagnosis.snapshot().breakers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_switched_on_the_page_outlives_a_reload() {
    let diagnosis = Diagnosis::new();
    let governance = Governance::with_observer(policies(POLICIES), diagnosis.clone());
    governance.show_on(&diagnosis, "shop", &[]);
    let _ = governance.method(GET);
    let breakers = 0;
    diagnosis.change(breakers, "shop.Cart/Get", Change::Shadow).expect("it is there");
    governance.replace(policies(POLICIES));
    let enforcement =
        || governance.method(GET).policy().circuit_breaker().map(CircuitBreakerPolicy::enforcement);
    assert_eq!(enforcement(), Some(Enforcement::Shadow));
    diagnosis.change(breakers, "shop.Cart/Get", Change::ForceOpen).expect("it is there");
    assert_eq!(diagnosis.snapshot().breakers[0].state, "forced_open");
    let unknown = diagnosis.change(breakers, "shop.Cart/None", Change::Shadow);
    assert_eq!(unknown, Err(CannotChange::NotFound));
    let limits = 1;
    let unsupported = diagnosis.change(limits, "shop.Cart/Get", Change::ForceOpen);
    assert_eq!(unsupported, Err(CannotChange::Unsupported));
    diagnosis.change(limits, "shop.Cart/Get", Change::SwitchOff).expect("it is there");
    let limit = governance.method(GET).policy().rate_limit().map(RateLimitPolicy::enforcement);
    assert_eq!(limit, Some(Enforcement::Disabled));
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_is_shown_and_switched_like_any_other() {
    let diagnosis = Diagnosis::new();
    let text = "
defaults: {adaptive_limit: {initial_limit: 9}}
server: {adaptive_limit: {initial_limit: 33}}
";
    let governance = Governance::with_observer(policies(text), diagnosis.clone());
    governance.show_on(&diagnosis, "shop", &[]);
    let get = governance.method(GET);
    let permit = get.adaptive_limit().expect("stated").try_acquire();
    let snapshot = diagnosis.snapshot();
    let rows: Vec<_> = snapshot
        .limits
        .iter()
        .map(|row| (row.key.as_str(), row.kind, row.limit, row.used))
        .collect();
    let expected = [("server", "adaptive", Some(33), 0), ("shop.Cart/Get", "adaptive", Some(9), 1)];
    assert!(expected.iter().all(|row| rows.contains(row)) && rows.len() == 2, "{rows:?}");
    permit.expect("a place").finish(Outcome::Success);

    let limits = 1;
    diagnosis.change(limits, "shop.Cart/Get", Change::Shadow).expect("it is there");
    let policy = *governance.method(GET).policy().adaptive_limit().expect("stated");
    assert_eq!(policy.enforcement(), Enforcement::Shadow);
}
