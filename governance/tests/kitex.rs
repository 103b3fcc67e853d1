//! Kitex's governance documents are taken over, and what surprises users of its configuration
//! centres does not happen here.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outrigger::{
    Format, Governance, KitexConfig, MethodPolicy, PolicyEvent, PolicyFile, PolicyKind, PolicySet,
};
use outrigger_circuitbreak::State;
use outrigger_core::{Enforcement, Method, MethodRef, Observe};
use outrigger_ratelimit::ConnectionLimitPolicy;
use outrigger_retry::{RetryMode, RetryPolicy, TimeoutPolicy};
use tokio::time::{sleep, timeout};

const GET: MethodRef<'static> = MethodRef { service: "shop.Cart", method: "Get" };

fn set(text: &str) -> PolicySet {
    PolicySet::parse("policies.yaml", text, Format::Yaml).unwrap_or_else(|e| panic!("{e}"))
}

fn taken_over(config: KitexConfig) -> PolicySet {
    config.into_set().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_file_of_config_file_is_taken_over_for_one_client_and_service() {
    let json = r#"{
  "Web/shop.Cart": {
    "timeout": {"*": {"rpc_timeout_ms": 300}},
    "retry": {"Get": {"enable": true, "type": 1, "backup_policy": {"retry_delay_ms": 20}}},
    "circuitbreaker": {"Get": {"enable": true, "err_rate": 0.2, "min_sample": 30}}
  },
  "Batch/shop.Cart": {"timeout": {"*": {"rpc_timeout_ms": 9000}}},
  "shop.Cart": {"limit": {"qps_limit": 500, "connection_limit": 40}}
}"#;
    let set = taken_over(KitexConfig::new("shop.Cart").file("Web", json));
    let policy = set.method(GET);
    let attempt = policy.attempt_timeout().and_then(TimeoutPolicy::timeout);
    assert_eq!(attempt, Some(Duration::from_millis(300)));
    assert_eq!(policy.retry().map(RetryPolicy::mode), Some(RetryMode::Backup));
    assert!(policy.circuit_breaker().is_some());
    assert_eq!(set.server().connection_limit().map(ConnectionLimitPolicy::limit), Some(40));

    let said = KitexConfig::new("shop.Carts").file("Web", json).into_set().unwrap_err().to_string();
    assert!(said.contains("holds neither `Web/shop.Carts` nor `shop.Carts`"), "{said}");
    let wrong = r#"{"Web/shop.Cart": {"timeouts": {}}}"#;
    let said = KitexConfig::new("shop.Cart").file("Web", wrong).into_set().unwrap_err().to_string();
    assert!(said.contains("`timeouts` is no setting of Kitex's here"), "{said}");
    assert!(said.contains("did you mean `timeout`?"), "{said}");
}

#[test]
fn what_is_not_enabled_is_off_and_a_note_says_so_where_nothing_is_said() {
    let config = KitexConfig::new("shop.Cart").circuit_break(r#"{"Get": {"err_rate": 0.2}}"#);
    let set = taken_over(config);
    let breaker = set.method(GET).circuit_breaker().expect("there, but off");
    assert_eq!(breaker.enforcement(), Enforcement::Disabled);
    let notes: Vec<String> = set.notes().iter().map(ToString::to_string).collect();
    assert!(notes.iter().any(|note| note.contains("as Kitex reads it")), "{notes:?}");
}

/// Kitex: to install a suite turns on a time-out of 1 s and a breaker for every method.
#[test]
fn an_empty_configuration_governs_nothing() {
    for set in
        [taken_over(KitexConfig::new("shop.Cart")), set("defaults: {}"), PolicySet::default()]
    {
        assert!(set.method(GET).explain().is_empty(), "{:?}", set.method(GET).explain());
        assert!(set.service("shop.Cart").explain().is_empty());
    }
}

/// Kitex: a method that is removed from the breaker's map has the default breaker, not none.
#[tokio::test]
async fn what_is_deleted_is_gone_and_not_a_default_that_nobody_wrote() {
    let breaker = |json: &str| taken_over(KitexConfig::new("shop.Cart").circuit_break(json));
    let governance =
        Governance::new(breaker(r#"{"Get": {"enable": true, "err_rate": 0.2, "min_sample": 3}}"#));
    governance.method(GET).circuit_breaker().force_open();
    governance.replace(breaker("{}"));
    let state = governance.method(GET);
    assert!(state.policy().circuit_breaker().is_none());
    assert!(state.circuit_breaker().try_acquire().is_ok(), "nothing refuses");
    assert_eq!(state.circuit_breaker().state(), State::Closed);
}

/// Kitex: the breaker knows no `*`; a policy that is only disabled, and a mixed one, are refused.
#[test]
fn a_wildcard_a_switched_off_policy_and_a_mixed_one_are_all_understood() {
    let set = taken_over(
        KitexConfig::new("shop.Cart")
            .circuit_break(r#"{"*": {"enable": true, "err_rate": 0.2, "min_sample": 3}}"#)
            .retry(
                r#"{"Get": {"enable": false}, "Put": {"enable": true, "type": 2, "mixed_policy": {
                  "retry_delay_ms": 10, "stop_policy": {"max_retry_times": 2}}}}"#,
            ),
    );
    assert!(set.method(GET).circuit_breaker().is_some());
    let enforcement = |method| {
        let retry = set.method(MethodRef { service: "shop.Cart", method }).retry().copied();
        retry.map(|retry| (retry.mode(), retry.enforcement()))
    };
    assert_eq!(enforcement("Get"), Some((RetryMode::Failure, Enforcement::Disabled)));
    assert_eq!(enforcement("Put"), Some((RetryMode::Mixed, Enforcement::Enforced)));
}

/// Kitex looks for the method, then for `*`, and takes what it finds first.
#[test]
fn an_entry_of_a_method_stands_alone_in_its_document() {
    let config = KitexConfig::new("shop.Cart")
        .rpc_timeout(r#"{"*": {"rpc_timeout_ms": 100}, "Get": {"rpc_timeout_ms": 0}}"#)
        .circuit_break(
            r#"{"*": {"enable": false}, "Get": {"enable": true, "err_rate": 0.5, "min_sample": 2}}"#,
        )
        .retry(
            r#"{"*": {"enable": true, "failure_policy": {"stop_policy": {"max_retry_times": 5}}},
            "Get": {"enable": true, "failure_policy": {"stop_policy": {"max_duration_ms": 50}}}}"#,
        );
    let set = taken_over(config);
    let put = set.method(MethodRef { service: "shop.Cart", method: "Put" });
    let get = set.method(GET);
    let attempt = |policy: &MethodPolicy| policy.attempt_timeout().and_then(TimeoutPolicy::timeout);
    assert_eq!((attempt(put), attempt(get)), (Some(Duration::from_millis(100)), None));
    let breaker = |policy: &MethodPolicy| policy.enforcement_of(PolicyKind::CircuitBreaker);
    assert_eq!(breaker(put), Some(Enforcement::Disabled));
    assert_eq!(breaker(get), Some(Enforcement::Enforced));
    let retries = |policy: &MethodPolicy| policy.retry().map(RetryPolicy::retries);
    assert_eq!((retries(put), retries(get)), (Some(5), Some(0)), "none stated is none");
    let notes: Vec<String> = set.notes().iter().map(ToString::to_string).collect();
    assert!(notes.iter().any(|note| note.contains("`max_retry_times` is missing")), "{notes:?}");
}

/// Kitex: once code has configured retries, every remote change of any method is ignored.
#[test]
fn what_code_has_switched_keeps_nothing_of_the_file_out() {
    let governance = Governance::new(set("defaults: {timeout: 1s, circuit_breaker: {}}"));
    let get = Some(Method::new("shop.Cart", "Get"));
    governance.switch(get, Some(PolicyKind::CircuitBreaker), Some(Enforcement::Disabled));
    governance.replace(set("defaults: {timeout: 2s, circuit_breaker: {cool_down: 3s}}"));
    let state = governance.method(GET);
    assert_eq!(state.policy().timeout().unwrap().timeout(), Some(Duration::from_secs(2)));
    let breaker = state.policy().circuit_breaker().unwrap();
    assert_eq!(breaker.enforcement(), Enforcement::Disabled, "the switch stands");
    assert_eq!(breaker.cool_down(), Duration::from_secs(3), "and the file is followed");
    let put = governance.method(MethodRef { service: "shop.Cart", method: "Put" });
    assert_eq!(put.policy().circuit_breaker().unwrap().enforcement(), Enforcement::Enforced);
}

/// Kitex: no version, and nothing to go back to.
#[test]
fn sets_are_counted_and_an_earlier_one_can_be_put_in_force_again() {
    let governance = Governance::new(set("defaults: {timeout: 1s}"));
    let before = governance.set();
    governance.replace(set("defaults: {timeout: 2s}"));
    assert_eq!(governance.version(), 1);
    governance.replace(PolicySet::clone(&before));
    assert_eq!(governance.version(), 2);
    let timeout = governance.method(GET).policy().timeout().unwrap().timeout();
    assert_eq!(timeout, Some(Duration::from_secs(1)));
}

/// Remembers why sets were refused.
#[derive(Clone, Default)]
struct Refusals(Arc<Mutex<Vec<String>>>);

impl Observe<PolicyEvent> for Refusals {
    fn observe(&self, _source: &str, event: &PolicyEvent) {
        if let PolicyEvent::Refused { reason } = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(reason.to_string());
        }
    }
}

macro_rules! deaf {
    ($($event:ty),*) => {
        $(impl Observe<$event> for Refusals { fn observe(&self, _: &str, _: &$event) {} })*
    };
}

deaf!(
    outrigger_circuitbreak::CircuitBreakerEvent,
    outrigger_ratelimit::AdaptiveLimitEvent,
    outrigger_ratelimit::ClientThrottleEvent,
    outrigger_ratelimit::ConcurrencyLimitEvent,
    outrigger_ratelimit::RateLimitEvent,
    outrigger_retry::RetryEvent,
    outrigger_retry::TimeoutEvent
);

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let reached = async {
        while !reached() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), reached).await.expect(what);
}

/// Kitex: bad content is a line in the log; and a watcher dies where a file is replaced.
#[tokio::test]
async fn a_file_that_is_truncated_and_then_written_never_leaves_calls_ungoverned() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["policies.toml", "policies.yaml", "policies.json"] {
        let path = directory.path().join(name);
        let write = |seconds: u64| {
            let text = match name {
                "policies.toml" => format!("defaults.timeout = \"{seconds}s\"\n"),
                _ => format!("{{\"defaults\": {{\"timeout\": \"{seconds}s\"}}}}"),
            };
            std::fs::write(&path, text).unwrap();
        };
        let refusals = Refusals::default();
        let governance = Governance::with_observer(PolicySet::default(), refusals.clone());
        let seconds = || {
            let timeout =
                governance.method(GET).policy().timeout().and_then(TimeoutPolicy::timeout);
            timeout.map(|timeout| timeout.as_secs())
        };
        write(1);
        let file = PolicyFile::new(&path).unwrap().interval(Duration::from_millis(2));
        let following = tokio::spawn(governance.clone().follow_file(file));
        until("the first is read", || seconds() == Some(1)).await;

        std::fs::write(&path, "").unwrap();
        let refused = || refusals.0.lock().unwrap().len();
        until("the empty file is refused", || refused() == 1).await;
        assert!(refusals.0.lock().unwrap()[0].contains("the file is empty"));
        assert_eq!(seconds(), Some(1), "the last good set governs");
        write(2);
        until("the written file is read", || seconds() == Some(2)).await;
        assert_eq!(refused(), 1);

        std::fs::write(&path, b"\xff").unwrap();
        until("what is no text is refused", || refused() == 2).await;
        assert!(refusals.0.lock().unwrap()[1].contains("UTF-8"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        until("a folder is refused", || refused() == 3).await;
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(seconds(), Some(2), "the last good set governs");
        following.abort();
    }
}
