//! What governs is seen: as metrics, on the page, in the log.

mod support;

use outrigger::{
    Format, Governance, PolicySet,
    circuitbreak::CircuitBreakerPolicy,
    core::{Enforcement, MethodRef, Outcome},
    observability::{
        CannotChange, Change, Diagnosis, GovernanceMetrics, SpanEvents, StateLog, names,
    },
    ratelimit::RateLimitPolicy,
};

use crate::support::Memory;

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

#[tokio::test(start_paused = true)]
async fn reloads_and_refusals_are_counted_and_stand_on_the_page() {
    let meter = Memory::default();
    let metrics = GovernanceMetrics::new(meter.clone());
    let diagnosis = Diagnosis::new();
    let observer = (metrics, (diagnosis.clone(), (StateLog::default(), SpanEvents)));
    let governance = Governance::with_observer(policies(POLICIES), observer);
    governance.replace_text("policies.yaml", POLICIES, Format::Yaml).expect("valid");
    governance.replace_text("policies.yaml", "defaultz: {}", Format::Yaml).expect_err("a typo");

    let reloads = |result| {
        let labels = [(names::KEY, "policies.yaml"), (names::RESULT, result)];
        meter.sum(names::POLICY_RELOADS, &labels)
    };
    assert_eq!((reloads("applied"), reloads("refused")), (1, 1));
    assert_eq!(meter.told(names::POLICY_RELOADS, &[]), 2, "no other series");
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
