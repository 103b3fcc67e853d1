//! What governs is seen: as metrics, on the page, in the log.

mod support;

use outrigger::{
    Format, Governance, PolicyKind, PolicySet,
    circuitbreak::{CircuitBreakerPolicy, State},
    core::{Enforcement, Method, MethodRef, Outcome},
    observability::{
        CannotChange, Change, Diagnosis, GovernanceMetrics, LimitRow, SpanEvents, StateLog, names,
    },
    ratelimit::RateLimitPolicy,
};

use crate::support::Memory;

const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };
const ADD: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Add" };

const ENFORCED: Option<Enforcement> = Some(Enforcement::Enforced);

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

/// The part whose rows are the methods' limits of this kind.
fn part_of(diagnosis: &Diagnosis, kind: &str) -> u64 {
    let is_it = |row: &&LimitRow| row.kind == kind && row.key != "server";
    diagnosis.snapshot().limits.iter().find(is_it).expect("such a limit").part
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
    let rates = part_of(&diagnosis, "rate");
    let unsupported = diagnosis.change(rates, "shop.Cart/Get", Change::ForceOpen);
    assert_eq!(unsupported, Err(CannotChange::Unsupported));
    diagnosis.change(rates, "shop.Cart/Get", Change::SwitchOff).expect("it is there");
    let get = governance.method(GET);
    let rate = get.policy().rate_limit().map(RateLimitPolicy::enforcement);
    assert_eq!(rate, Some(Enforcement::Disabled));
    let others = get.policy().enforcement_of(PolicyKind::ConcurrencyLimit);
    assert_eq!(others, Some(Enforcement::Enforced), "another limit of the method");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_was_forced_closed_stays_so_through_the_next_change_of_anything() {
    let diagnosis = Diagnosis::new();
    let governance = Governance::with_observer(policies(POLICIES), diagnosis.clone());
    governance.show_on(&diagnosis, "shop", &[]);
    governance.method(GET).circuit_breaker().force_open();
    let breakers = 0;
    diagnosis.change(breakers, "shop.Cart/Get", Change::ForceClosed).expect("it is there");
    let method = Method::new("shop.Cart", "Add");
    governance.switch(Some(method), Some(PolicyKind::RateLimit), Some(Enforcement::Shadow));
    governance.replace(policies(POLICIES));

    let breaker = governance.method(GET).circuit_breaker().clone();
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.policy().load().enforcement(), Enforcement::Shadow);
    assert_eq!(
        governance.method(ADD).policy().enforcement_of(PolicyKind::CircuitBreaker),
        ENFORCED
    );
}

#[tokio::test(start_paused = true)]
async fn to_enforce_on_the_page_takes_a_switch_back_so_that_later_sets_count() {
    let diagnosis = Diagnosis::new();
    let governance = Governance::with_observer(policies(POLICIES), diagnosis.clone());
    governance.show_on(&diagnosis, "shop", &[]);
    let _ = governance.method(GET);
    let breakers = 0;
    let change = |change| diagnosis.change(breakers, "shop.Cart/Get", change).expect("it is there");
    let enforcement = || governance.method(GET).policy().enforcement_of(PolicyKind::CircuitBreaker);
    let shadowed = policies("defaults: {circuit_breaker: {enforcement: shadow}}");

    change(Change::SwitchOff);
    change(Change::Enforce);
    assert_eq!(enforcement(), ENFORCED);
    governance.replace(shadowed);
    assert_eq!(enforcement(), Some(Enforcement::Shadow), "no switch is left over the set");
    change(Change::Enforce);
    assert_eq!(enforcement(), ENFORCED, "over a set that says otherwise");
}

#[tokio::test(start_paused = true)]
async fn a_switch_counts_as_no_reload() {
    let meter = Memory::default();
    let diagnosis = Diagnosis::new();
    let observer = (GovernanceMetrics::new(meter.clone()), diagnosis.clone());
    let governance = Governance::with_observer(policies(POLICIES), observer);
    governance.switch(None, None, Some(Enforcement::Shadow));
    assert_eq!(meter.told(names::POLICY_RELOADS, &[]), 0);
    assert!(diagnosis.snapshot().events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_shown_however_many_methods_there_are() {
    let diagnosis = Diagnosis::new();
    let governance = Governance::with_observer(policies(POLICIES), diagnosis.clone());
    governance.show_on(&diagnosis, "shop", &[]);
    for n in 0..600 {
        let service = format!("shop.{n:03}");
        let _ = governance.method(MethodRef { service: &service, method: "Get" });
    }
    let last = MethodRef { service: "shop.zzz", method: "Get" };
    governance.method(last).circuit_breaker().force_open();
    let snapshot = diagnosis.snapshot();
    assert_eq!((snapshot.breakers.len(), snapshot.left_out), (200, 401));
    assert!(snapshot.breakers.iter().any(|row| row.key == "shop.zzz/Get"));
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_the_server_cannot_be_changed_on_the_page() {
    let diagnosis = Diagnosis::new();
    let governance = Governance::with_observer(policies(POLICIES), diagnosis.clone());
    governance.show_on(&diagnosis, "shop", &[]);
    let row = &diagnosis.snapshot().limits[0];
    assert_eq!((row.key.as_str(), row.limit), ("server", Some(64)));
    let answer = diagnosis.change(row.part, &row.key, Change::SwitchOff);
    assert_eq!(answer, Err(CannotChange::Unsupported));
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

    diagnosis
        .change(part_of(&diagnosis, "adaptive"), "shop.Cart/Get", Change::Shadow)
        .expect("it is there");
    let policy = *governance.method(GET).policy().adaptive_limit().expect("stated");
    assert_eq!(policy.enforcement(), Enforcement::Shadow);
}
