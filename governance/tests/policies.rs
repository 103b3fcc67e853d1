//! What a policy file means, and what is said of one that is wrong.

#[cfg(feature = "schema")]
#[path = "support/schema.rs"]
mod schema;

use std::time::Duration;

use outrigger::{Format, PolicyKind, PolicySet};
use outrigger_circuitbreak::{CircuitBreakerPolicy, WindowShape};
use outrigger_core::{Criticality, Enforcement, MethodRef};
use outrigger_loadbalance::{EjectionPolicy, Picker};
use outrigger_retry::{Backoff, BackupDelay, GrpcCodes, Jitter, RetryBudgetPolicy, RetryMode};

const fn method(service: &'static str, method: &'static str) -> MethodRef<'static> {
    MethodRef { service, method }
}

fn yaml(text: &str) -> PolicySet {
    valid("policies.yaml", text, Format::Yaml)
}

fn json(text: &str) -> PolicySet {
    valid("p.json", text, Format::Json)
}

/// Reads a text, which the published schema has to accept too.
fn valid(name: &str, text: &str, format: Format) -> PolicySet {
    #[cfg(feature = "schema")]
    schema::assert_accepts(text, format);
    PolicySet::parse(name, text, format).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: &str) -> String {
    PolicySet::parse("p.yaml", text, Format::Yaml).expect_err("refused").to_string()
}

fn timeout_ms(set: &PolicySet, name: MethodRef<'_>) -> Option<u128> {
    let timeout = set.method(name).timeout()?.timeout()?;
    Some(timeout.as_millis())
}

#[test]
fn an_exact_method_comes_before_its_service_and_that_before_the_defaults() {
    let set = yaml(
        "
defaults: {timeout: 1s, rate_limit: 100/s}
services:
  shop.Cart:
    timeout: 500ms
    rate_limit: {burst: 7}
    methods:
      Get: {timeout: 200ms}
      Put: {rate_limit: off}
  shop.Empty:
",
    );
    let get = method("shop.Cart", "Get");
    for (name, expected) in [
        (get, 200),
        (method("shop.Cart", "Put"), 500),
        (method("shop.Cart", "Other"), 500),
        (method("shop.Empty", "Get"), 1_000),
        (method("other", "Get"), 1_000),
    ] {
        assert_eq!(timeout_ms(&set, name), Some(expected), "{name}");
    }
    // Field by field: the rate is the default's, the burst the service's.
    let rate = set.method(get).rate_limit().expect("there");
    assert_eq!((rate.rate(), rate.burst(), rate.period()), (100, 7, Duration::from_secs(1)));
    let rate = set.method(method("other", "Get")).rate_limit().expect("there");
    assert_eq!((rate.rate(), rate.burst()), (100, 100), "the short form's burst");
    assert!(set.method(method("shop.Cart", "Put")).rate_limit().is_none(), "taken away");
    assert!(set.method(get).circuit_breaker().is_none(), "what nobody states does not act");
    assert_eq!(set.named_methods().len(), 2);
}

#[test]
fn the_three_formats_mean_the_same() {
    let yaml_text = "
defaults:
  circuit_breaker: {error_rate: {rate: 0.25, minimum_calls: 10}, cool_down: 1.5s}
services:
  a.B:
    methods:
      C: {retry: {mode: backup, backup_delay: {fixed: 20ms}, idempotent: true}}
";
    let json = r#"{
  "defaults": {
    "circuitBreaker": {"errorRate": {"rate": 0.25, "minimumCalls": 10}, "coolDown": "1.5s"}
  },
  "services": {"a.B": {"methods": {"C": {
    "retry": {"mode": "backup", "backupDelay": {"fixed": "0.02s"}, "idempotent": true}
  }}}}
}"#;
    let toml = r#"
[defaults.circuit_breaker]
error_rate = { rate = 0.25, minimum_calls = 10 }
cool_down = "1500ms"

[services."a.B".methods.C.retry]
mode = "backup"
backup_delay = { fixed = "20ms" }
idempotent = true
"#;
    for (text, format) in [(yaml_text, Format::Yaml), (json, Format::Json), (toml, Format::Toml)] {
        let set = valid("p", text, format);
        let policy = set.method(method("a.B", "C"));
        let breaker = policy.circuit_breaker().expect("there");
        assert_eq!(breaker.cool_down(), Duration::from_millis(1_500));
        let retry = policy.retry().expect("there");
        assert_eq!(retry.mode(), RetryMode::Backup);
        assert_eq!(retry.backup_delay(), Some(BackupDelay::Fixed(Duration::from_millis(20))));
    }
}

#[test]
fn a_misspelt_setting_is_refused_with_its_place_and_the_nearest_name() {
    let said = refused("defaults:\n  circuit_braker: {}\n");
    let expected = "p.yaml:2:3: `defaults.circuit_braker` is no setting here \
                    (did you mean `circuit_breaker`?)";
    assert_eq!(said, expected);
    let said = refused("services:\n  a.B:\n    circuit_breaker:\n      cooldown: 5s\n");
    let expected = "p.yaml:4:7: `a.B.circuit_breaker.cooldown` is no setting here \
                    (did you mean `cool_down`?)";
    assert_eq!(said, expected);
    let said = refused("defalts: {}\n");
    assert!(said.contains("`defalts` is no setting here (did you mean `defaults`?)"), "{said}");
}

#[test]
fn a_wrong_value_is_refused_with_its_place_its_value_and_what_would_be_right() {
    for (text, expected) in [
        (
            "defaults:\n  circuit_breaker: {error_rate: {rate: 1.5}}\n",
            "p.yaml:2:40: `defaults.circuit_breaker.error_rate.rate` is 1.5; \
             it must be a share above 0 and at most 1",
        ),
        (
            "defaults:\n  timeout: 5 parsecs\n",
            "p.yaml:2:12: `defaults.timeout` is \"5 parsecs\"; it must be a duration",
        ),
        (
            "services:\n  a:\n    methods:\n      b: {retry: {mode: failure, retries: 9}}\n",
            "p.yaml:4:43: `a/b.retry.retries` is 9; it must be at most 5 (failure), 2 (backup), 4 (mixed)",
        ),
        (
            "defaults: {timeout: 100ms, attempt_timeout: 200ms}\n",
            "p.yaml:1:45: `defaults.attempt_timeout` is \"200ms\"; \
             it must be at most the overall `timeout`",
        ),
        (
            "defaults: {retry: {mode: backup, backup_delay: {fixed: 5ms}}}\n",
            "p.yaml:1:19: `defaults.retry.idempotent` is false; it must be ",
        ),
        (
            "defaults: {rate_limit: {rate: -1}}\n",
            "p.yaml:1:31: `defaults.rate_limit.rate` is -1; it must be ",
        ),
        (
            "defaults: {rate_limit: {rate: .nan}}\n",
            "p.yaml:1:31: `defaults.rate_limit.rate` is NaN; it must be a whole number",
        ),
        (
            "defaults: {criticality: very}\n",
            "p.yaml:1:25: `defaults.criticality` is \"very\"; it must be one of `sheddable`, ",
        ),
        ("defaults: 7\n", "p.yaml:1:11: `defaults` is 7; it must be a table of settings"),
        (
            "defaults: {timeout: 1s, timeout: 2s}\n",
            "p.yaml:1:25: `timeout` stands twice in one table; the first is on line 1",
        ),
    ] {
        let said = refused(text);
        assert!(said.starts_with(expected), "{said}\nexpected {expected}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_shown_in_the_file() {
    let text = "defaults:\n  timeot: 1s\n  circuit_breaker: {cool_down: 0s}\n";
    let refused = PolicySet::parse("p.yaml", text, Format::Yaml).unwrap_err();
    let lines: Vec<usize> = refused.problems().iter().map(outrigger::Problem::line).collect();
    assert_eq!(lines, [2, 3]);
    let shown = refused.render();
    for part in ["p.yaml:2:3", "2 |   timeot: 1s", "^^^^^^", "did you mean `timeout`?"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
}

#[test]
fn a_templates_settings_stand_below_those_of_who_uses_it() {
    let set = yaml(
        "
templates:
  read: {timeout: 100ms, retry: {mode: failure, idempotent: true, retries: 1}}
services:
  a.B:
    methods:
      Get: {use: read, retry: {retries: 3}}
",
    );
    let policy = set.method(method("a.B", "Get"));
    assert_eq!(policy.retry().unwrap().retries(), 3);
    assert!(policy.retry().unwrap().is_idempotent());
    let said = refused("templates: {read: {}}\ndefaults: {use: raed}\n");
    assert!(said.contains("did you mean `read`?"), "{said}");
    // What nobody uses is read all the same; only what it may yet be merged with can be missing.
    let said = refused("templates: {read: {circuit_breaker: {cooldown: 5s}}}\n");
    assert!(said.contains("`template read.circuit_breaker.cooldown` is no setting"), "{said}");
    yaml("templates: {read: {retry: {retries: 2}}}\n");
}

#[test]
fn a_scopes_enforcement_is_that_of_all_policies_that_state_none() {
    let set = yaml(
        "
defaults: {circuit_breaker: {}, rate_limit: 5/s}
services:
  a.B:
    enforcement: shadow
    methods:
      C: {circuit_breaker: {enforcement: disabled}, timeout: 1s}
",
    );
    let of = |name| {
        let policy = set.method(name);
        (
            policy.circuit_breaker().unwrap().enforcement(),
            policy.rate_limit().unwrap().enforcement(),
        )
    };
    assert_eq!(of(method("x", "y")), (Enforcement::Enforced, Enforcement::Enforced));
    assert_eq!(of(method("a.B", "x")), (Enforcement::Shadow, Enforcement::Shadow));
    assert_eq!(of(method("a.B", "C")), (Enforcement::Disabled, Enforcement::Shadow));
}

#[test]
fn another_choice_replaces_a_choice_and_another_mode_a_retry() {
    let set = yaml(
        "
defaults:
  balance: {picker: {peak_ewma: {decay: 3s}}}
  retry: {mode: backup, backup_delay: {fixed: 5ms}, idempotent: true}
services:
  a: {balance: {picker: {maglev: {}}}, retry: {mode: failure}}
  b: {balance: {picker: {peak_ewma: {failure_penalty: 1s}}}}
",
    );
    assert_eq!(*set.service("a").balance().unwrap().picker(), Picker::maglev());
    let merged =
        Picker::PeakEwma { decay: Duration::from_secs(3), failure_penalty: Duration::from_secs(1) };
    assert_eq!(*set.service("b").balance().unwrap().picker(), merged);
    assert_eq!(set.method(method("a", "m")).retry().unwrap().mode(), RetryMode::Failure);

    let set = yaml(
        "
defaults: {retry: {mode: failure, enforcement: disabled}}
services: {a: {retry: {mode: mixed, backup_delay: 5ms, idempotent: true}}}
",
    );
    let enforcement = set.method(method("a", "m")).enforcement_of(PolicyKind::Retry);
    assert_eq!(enforcement, Some(Enforcement::Disabled), "no setting of a mode");
}

#[test]
fn a_grpc_service_config_means_what_grpc_says() {
    let json = r#"{
  "loadBalancingConfig": [{"xds_thing": {}}, {"weighted_round_robin": {"blackoutPeriod": "5s"}}],
  "methodConfig": [
    {"name": [{}], "timeout": "2s", "waitForReady": true},
    {"name": [{"service": "echo.Echo"}], "timeout": "1s",
     "retryPolicy": {"maxAttempts": 9, "initialBackoff": "0.1s", "maxBackoff": "1s",
       "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", 4]}},
    {"name": [{"service": "echo.Echo", "method": "Get"}, {"service": "a.B"}],
     "hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "0.5s", "nonFatalStatusCodes": ["ABORTED"]}}
  ],
  "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
}"#;
    let set = self::json(json);
    let of_service = set.method(method("echo.Echo", "Put"));
    let retry = of_service.retry().expect("there");
    assert_eq!((retry.mode(), retry.retries()), (RetryMode::Failure, 4), "9 is cut to 5 attempts");
    let codes: Vec<_> = retry.retryable_status_codes().unwrap().names().collect();
    assert_eq!(codes, ["DEADLINE_EXCEEDED", "UNAVAILABLE"]);
    assert_eq!(timeout_ms(&set, method("echo.Echo", "Put")), Some(1_000));
    // The most exact entry counts alone: neither the service's nor that of every method adds to it.
    assert_eq!(timeout_ms(&set, method("echo.Echo", "Get")), None);
    let hedged = set.method(method("echo.Echo", "Get")).retry().expect("there");
    assert_eq!((hedged.mode(), hedged.retries()), (RetryMode::Mixed, 2));
    assert_eq!(hedged.backup_delay(), Some(BackupDelay::Fixed(Duration::from_millis(500))));
    assert_eq!(set.method(method("a.B", "x")).retry().unwrap().retries(), 2);
    assert_eq!(timeout_ms(&set, method("a.B", "x")), None);
    assert_eq!(timeout_ms(&set, method("other", "x")), Some(2_000));
    let Picker::Reported(reported) = *set.service("x").balance().unwrap().picker() else {
        panic!()
    };
    assert_eq!(reported.blackout, Duration::from_secs(5));
    assert!(set.service("x").retry_budget().is_some());
    let notes: Vec<String> = set.notes().iter().map(ToString::to_string).collect();
    assert!(notes.iter().any(|note| note.contains("gRPC cuts it to 5")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("`xds_thing` is not supported")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("`wait_for_ready`")), "{notes:?}");
}

/// gRPC looks for the method, then its service, then `{}`, and takes what it finds first.
#[test]
fn an_entry_for_every_method_is_for_those_without_another() {
    let json = r#"{
  "defaults": {"circuitBreaker": {}},
  "methodConfig": [
    {"name": [{}], "timeout": "1s", "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.1s",
      "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}},
    {"name": [{"service": "a.B"}], "timeout": "2s"},
    {"name": [{"service": "c.D", "method": "Get"}], "timeout": "3s"}
  ]
}"#;
    let set = self::json(json);
    for (name, ms, is_retried) in [
        (method("a.B", "Get"), 2_000, false),
        (method("c.D", "Get"), 3_000, false),
        (method("c.D", "Put"), 1_000, true),
        (method("e.F", "Get"), 1_000, true),
    ] {
        assert_eq!(timeout_ms(&set, name), Some(ms), "{name:?}");
        assert_eq!(set.method(name).retry().is_some(), is_retried, "{name:?}");
        assert!(set.method(name).circuit_breaker().is_some(), "our own defaults: {name:?}");
    }
}

#[test]
fn what_protobufs_json_and_grpc_allow_is_read() {
    let retry = |policy: &str| {
        let json =
            format!(r#"{{"methodConfig": [{{"name": [{{}}], "timeout": null, {policy}}}]}}"#);
        self::json(&json).method(method("a", "b")).retry().copied()
    };
    let written = r#""retryPolicy": {"maxAttempts": "3", "initialBackoff": "0.1s", "maxBackoff": "1s",
      "backoffMultiplier": "0.5", "retryableStatusCodes": [14]}, "hedgingPolicy": null"#;
    let read = retry(written).expect("there");
    let growing = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(1));
    let growing = growing.with_factor(0.5).with_jitter(Jitter::Spread(0.2));
    assert_eq!((read.retries(), read.backoff()), (2, growing));
    assert_eq!(retry(&written.replace(r#""3""#, "3.0")), Some(read));
    assert_eq!(retry(r#""retryPolicy": null"#), None);

    // Any failure is the answer, and late attempts are raced: at once, where no delay is stated.
    let hedged = retry(r#""hedgingPolicy": {"maxAttempts": 4}"#).expect("there");
    assert_eq!((hedged.mode(), hedged.retries()), (RetryMode::Mixed, 3));
    assert_eq!(hedged.backup_delay(), Some(BackupDelay::Fixed(Duration::ZERO)));
    assert!(hedged.retryable_status_codes().is_some_and(GrpcCodes::is_empty));

    let picker = |config: &str| {
        let set = self::json(&format!("{{{config}}}"));
        set.service("a").balance().map(|balance| balance.picker().clone())
    };
    let first = |shuffle| Some(Picker::PickFirst { shuffle });
    assert_eq!(picker(r#""loadBalancingPolicy": "PICK_FIRST""#), first(false));
    let shuffled = r#""loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]"#;
    assert_eq!(picker(shuffled), first(true));
    assert_eq!(picker(r#""loadBalancingConfig": null, "methodConfig": null"#), None);
    let throttling = r#"{"retryThrottling": {"maxTokens": "10", "tokenRatio": "0.25"}}"#;
    let plain = r#"{"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.25}}"#;
    let budget = |text| *self::json(text).service("a").retry_budget().expect("there");
    assert_eq!(budget(throttling), budget(plain));
}

#[test]
fn what_is_commented_out_and_what_an_editor_puts_first_does_not_matter() {
    let empty =
        "defaults:\nservices:\n  shop.Cart:\n    methods:\n      Get:\ntemplates:\nserver:\n";
    assert_eq!(yaml(empty).named_methods().len(), 1);
    for (name, text, format) in [
        ("p.json", r#"{"defaults": {"timeout": "1s"}}"#, Format::Json),
        ("p.yaml", "defaults: {timeout: 1s}", Format::Yaml),
        ("p.toml", "defaults.timeout = '1s'", Format::Toml),
    ] {
        let set = PolicySet::parse(name, &format!("\u{feff}{text}"), format).expect("valid");
        assert_eq!(timeout_ms(&set, method("a", "b")), Some(1_000), "{name}");
    }
}

#[test]
fn an_initial_backoff_above_the_maximum_is_cut_to_it() {
    let json = r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3,
      "initialBackoff": "2s", "maxBackoff": "1s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#;
    let set = self::json(json);
    let second = Duration::from_secs(1);
    let expected = Backoff::exponential(second, second).with_jitter(Jitter::Spread(0.2));
    assert_eq!(set.method(method("a", "b")).retry().unwrap().backoff(), expected);
}

#[test]
fn grpcs_outlier_detection_is_an_ejection() {
    let json = r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
      "interval": "5s", "baseEjectionTime": "20s", "maxEjectionPercent": 30,
      "successRateEjection": {"stdevFactor": 1500, "requestVolume": 50, "enforcementPercentage": 100},
      "failurePercentageEjection": {"threshold": 70, "minimumHosts": 4, "enforcementPercentage": 100},
      "childPolicy": [{"round_robin": {}}]}}]}"#;
    let set = self::json(json);
    let expected = EjectionPolicy::builder()
        .interval(Duration::from_secs(5))
        .base_time(Duration::from_secs(20))
        .max_ejected(0.3)
        .deviation(1.5)
        .deviation_volume(50)
        .error_rate(0.7)
        .min_endpoints(4)
        .consecutive_failures(0)
        .panic_threshold(0.0)
        .build()
        .expect("valid");
    let balance = set.service("a").balance().unwrap();
    assert_eq!((balance.picker(), balance.ejection()), (&Picker::RoundRobin, Some(&expected)));

    let ejection = |json: &str| {
        let set = self::json(json);
        set.service("a").balance().unwrap().ejection().cloned()
    };
    assert_eq!(ejection(r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#), None);
    let passed_over = r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
      "successRateEjection": {}, "childPolicy": [{"xds_thing": {}}]}}, {"round_robin": {}}]}"#;
    assert_eq!(ejection(passed_over), None, "it is not what is taken");
    let only_failures = ejection(
        r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
      "successRateEjection": {"enforcementPercentage": 0}, "failurePercentageEjection": {},
      "childPolicy": [{"round_robin": {}}]}}]}"#,
    );
    let expected = EjectionPolicy::builder()
        .deviation(None)
        .error_rate(0.85)
        .consecutive_failures(0)
        .panic_threshold(0.0)
        .build()
        .expect("valid");
    assert_eq!(only_failures, Some(expected), "gRPC's defaults, and a rule that is not enforced");
}

#[test]
fn a_window_of_time_and_one_of_calls_stand_in_each_others_place() {
    let set = yaml(
        "
defaults: {circuit_breaker: {count_window: 50}}
services:
  a: {circuit_breaker: {time_window: 5s}}
  b: {circuit_breaker: {consecutive_failures: 3}}
",
    );
    let window = |service| {
        set.method(method(service, "x")).circuit_breaker().map(CircuitBreakerPolicy::window)
    };
    let of_time = WindowShape::Time { duration: Duration::from_secs(5), buckets: 100 };
    assert_eq!(window("a"), Some(of_time));
    assert_eq!(window("b"), Some(WindowShape::Count { calls: 50 }));
    let said = refused(
        "defaults: {circuit_breaker: {slidingWindowType: TIMEBASED, slidingWindowSize: 100}}",
    );
    assert!(said.contains("is \"TIMEBASED\"; it must be `COUNT_BASED` or `TIME_BASED`"), "{said}");
    let said = refused("defaults: {circuit_breaker: {time_window: 5s, count_window: 50}}");
    let expected = "p.yaml:1:47: `count_window` stands beside `time_window`; the window is of time \
                    or of calls";
    assert_eq!(said, expected);
}

#[test]
fn what_says_the_same_in_two_forms_is_refused() {
    let grpc = "retryPolicy: {maxAttempts: 3, initialBackoff: 1s, maxBackoff: 1s, \
                backoffMultiplier: 2, retryableStatusCodes: [UNAVAILABLE]}";
    for (settings, beside) in [
        (format!("retry: {{mode: failure}}, {grpc}"), "retry"),
        (format!("hedging: {{delayQuantile: 0.9, idempotent: true}}, {grpc}"), "hedging"),
        ("retry: {mode: failure}, hedging: {delayQuantile: 0.9, idempotent: true}".into(), "retry"),
        (
            "retry: {idempotent: true}, hedging: {delayQuantile: 0.9, idempotent: true}".into(),
            "retry",
        ),
        ("rate_limit: 5/s, token_bucket: {maxTokens: 3}".into(), "rate_limit"),
        ("rate_limit: {rate: 100/s, period: 1m}".into(), "rate"),
        ("circuit_breaker: {slidingWindowSize: 10, count_window: 50}".into(), "count_window"),
        ("circuit_breaker: {failureRateThreshold: 50, error_rate: 0.9}".into(), "error_rate"),
    ] {
        let said = refused(&format!("defaults: {{{settings}}}"));
        assert!(said.contains(&format!("` stands beside `{beside}`, which says")), "{said}");
    }
    let said = refused("retryBudget: 10%\nretry_budget: 20%\n");
    let expected = "p.yaml:2:1: `retry_budget` stands beside `retryBudget`, which says the same; \
                    state one of them";
    assert_eq!(said, expected);
}

#[test]
fn what_grpc_states_for_a_channel_does_not_stand_beside_the_same_of_ours() {
    for (ours, theirs, name) in [
        (
            "retry_budget: 10%",
            "retryThrottling: {maxTokens: 9, tokenRatio: 0.1}",
            "retryThrottling",
        ),
        ("balance: {failover_picks: 1}", "loadBalancingPolicy: round_robin", "loadBalancingPolicy"),
        ("balance: {}", "loadBalancingConfig: [{round_robin: {}}]", "loadBalancingConfig"),
    ] {
        let said = refused(&format!("{ours}\n{theirs}\n"));
        assert!(said.starts_with(&format!("p.yaml:2:1: `{name}` stands beside `")), "{said}");
    }
}

#[test]
fn a_backup_request_that_could_never_be_sent_is_refused() {
    let said = refused(
        "defaults:\n  timeout: 100ms\n  retry: {mode: backup, backup_delay: {fixed: 100ms}, idempotent: true}\n",
    );
    let expected = "p.yaml:3:39: `defaults.retry.backup_delay` is {fixed: \"100ms\"}; \
                    it must be shorter than the overall `timeout`";
    assert_eq!(said, expected);
    let said = refused(
        "defaults:\n  attempt_timeout: 50ms\n  retry: {mode: mixed, backup_delay: 50ms, idempotent: true}\n",
    );
    assert!(said.contains("it must be shorter than the `attempt_timeout`"), "{said}");
}

/// One mistake each of a name, a value and a combination: all three are said, each where it is.
#[test]
fn every_format_says_where_its_mistakes_are() {
    let yaml = "defaults:
  timeout: 100ms
  circuit_braker: {}
services:
  a.B:
    attempt_timeout: 5s
    circuitBreaker: {coolDown: 0s}
";
    let json = r#"{"defaults": {
  "timeout": "100ms",
  "circuit_braker": {}},
  "services": {"a.B": {

    "attempt_timeout": "5s",
    "circuitBreaker": {"coolDown": "0s"}}}}
"#;
    let toml = "[defaults]
timeout = \"100ms\"
circuit_braker = {}

[services.\"a.B\"]
attempt_timeout = \"5s\"
circuitBreaker = { coolDown = \"0s\" }
";
    let expected = |columns: [usize; 3], name: &str| {
        format!(
            "{name}:3:{}: `defaults.circuit_braker` is no setting here (did you mean \
             `circuit_breaker`?)\n\
             {name}:6:{}: `a.B.attempt_timeout` is \"5s\"; it must be at most the overall `timeout`\n\
             {name}:7:{}: `a.B.circuit_breaker.cool_down` is \"0s\"; it must be longer than 0",
            columns[0], columns[1], columns[2]
        )
    };
    for (name, text, format, columns) in [
        ("p.yaml", yaml, Format::Yaml, [3, 22, 32]),
        ("p.json", json, Format::Json, [3, 24, 36]),
        ("p.toml", toml, Format::Toml, [1, 19, 31]),
    ] {
        let said = PolicySet::parse(name, text, format).expect_err("refused").to_string();
        assert_eq!(said, expected(columns, name));
    }
}

#[test]
fn what_would_confuse_is_said_in_the_words_of_the_file() {
    for (text, expected) in [
        (
            "defaults: {timeout: 500}",
            "`defaults.timeout` is 500; it must be a duration with its unit",
        ),
        ("defaults: {rate_limit: 100 per second}", "it must be a rate, such as `100/s`"),
        (
            "defaults: {rate_limit: {rate: 5, burst: 0}}",
            "`defaults.rate_limit.burst` is 0; it must be at least 1",
        ),
        ("defaults: {circuit_breaker: on}", "is \"on\"; it must be a table of settings"),
        ("defaults: {retry: {mode: failure, retries: many}}", "it must be a whole number"),
        ("defaults: {retry: {mode: failure, idempotent: 1}}", "is 1; it must be `true` or `false`"),
        (
            "defaults: {retry: {mode: fast}}",
            "is \"fast\"; it must be one of `failure`, `backup`, `mixed`",
        ),
        (
            "defaults: {retry: {mode: failure, backoff: exponential}}",
            "`defaults.retry.backoff.exponential.base` is missing",
        ),
        ("defaults: {retry_budget: {percent: 200}}", "is 200; it must be a number of percent"),
        (
            "defaults: {circuit_breaker: {failureRateThreshold: 500}}",
            "is 500; it must be a number of percent",
        ),
        ("services: {a.B: {Get: {timeout: 1s}}}", "(settings of a method stand below `methods`)"),
        ("services: {shop: {Cart: {methods: {}}}}", "must be quoted: `\"shop.Cart\"`"),
        ("templates: {a: {use: b}, b: {}}", "a template uses no other"),
        ("defaults: {methods: {Get: {timeout: 1s}}}", "`defaults.methods` is no setting here"),
        ("defaults: {rate_limit: 5/s, rateLimit: 6/s}", "`rate_limit` stands twice in one table"),
        ("defaults: {concurrency_limit: {limit: 5, maxRequests: 6}}", "is `limit` in other words"),
        ("server: {timeout: 1s}", "`server.timeout` is no setting here"),
    ] {
        let said = refused(text);
        assert!(said.contains(expected), "{said}\nexpected {expected}");
    }
}

#[test]
fn a_servers_limits_can_be_switched_and_taken_from_a_template() {
    let set = yaml(
        "
templates: {busy: {concurrency_limit: 64, rate_limit: 9/s}}
server: {use: busy, enforcement: shadow, rate_limit: off, connection_limit: {limit: 9, beyond: wait}}
",
    );
    let server = set.server();
    let concurrency = server.concurrency_limit().unwrap();
    assert_eq!((concurrency.limit(), concurrency.enforcement()), (64, Enforcement::Shadow));
    assert_eq!(server.connection_limit().unwrap().enforcement(), Enforcement::Shadow);
    assert!(server.rate_limit().is_none());
}

#[test]
fn what_grpc_refuses_is_refused() {
    let refuse = |json: &str| {
        PolicySet::parse("p.json", json, Format::Json).expect_err("refused").to_string()
    };
    for (json, expected) in [
        (
            r#"{"methodConfig": [{"name": [{"service": "a"}]}, {"name": [{"service": "a", "method": ""}]}]}"#,
            "`a/` stands twice",
        ),
        (
            r#"{"methodConfig": [{"name": [{"method": "x"}]}]}"#,
            "names a method without its service",
        ),
        (
            r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 1}}]}"#,
            "`maxAttempts` is 1; it must be a number of at least 2",
        ),
        (
            r#"{"methodConfig": [{"name": [{}], "retryPolicy": {}, "hedgingPolicy": {}}]}"#,
            "gRPC allows one of them",
        ),
        (r#"{"loadBalancingConfig": [{"mine": {}}]}"#, "names no policy that is supported"),
        (r#"{"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}"#, "max_tokens` is 0"),
        (r#"{"methodConfig": [], "services": {}}"#, "write the methods in one form"),
        (r#"{"defaults": {},}"#, "p.json:1:16"),
        ("", "the file is empty"),
    ] {
        let said = refuse(json);
        assert!(said.contains(expected), "{said}\nexpected {expected}");
    }
}

#[test]
fn the_words_of_resilience4j_and_envoy_are_understood() {
    let json = r#"{"methodConfig": [{
  "name": [{"service": "shop.Cart", "method": "Get"}, {"service": "shop.Catalog"}],
  "timeout": "1s", "perAttemptTimeout": "0.4s",
  "hedging": {"delayQuantile": 0.95, "maxExtraLoad": 0.05, "minDelay": "0.001s", "idempotent": true},
  "circuitBreaker": {"slidingWindowType": "TIME_BASED", "slidingWindowSize": 10,
    "minimumNumberOfCalls": 20, "failureRateThreshold": 50, "slowCallDurationThreshold": "0.5s",
    "slowCallRateThreshold": 80, "waitDurationInOpenState": "5s",
    "permittedNumberOfCallsInHalfOpenState": 10, "maxWaitDurationInHalfOpenState": "10s"},
  "concurrencyLimit": {"maxConcurrentCalls": 200},
  "tokenBucket": {"maxTokens": 100, "tokensPerFill": 10, "fillInterval": "0.1s"},
  "criticality": "CRITICAL_PLUS", "enforcement": "enforced"}],
  "retryBudget": {"percent": 10, "minRetriesPerSecond": 0.1, "ttl": "10s"}}"#;
    let set = self::json(json);
    let budget = |ratio: f64| RetryBudgetPolicy::builder().ratio(ratio).build().expect("valid");
    for (service, ratio) in [("shop.Cart", 0.05), ("shop.Catalog", 0.05), ("other", 0.1)] {
        assert_eq!(set.service(service).retry_budget(), Some(&budget(ratio)), "{service}");
    }
    let policy = set.method(method("shop.Cart", "Get"));
    let breaker = policy.circuit_breaker().unwrap();
    let window = WindowShape::Time { duration: Duration::from_secs(10), buckets: 100 };
    assert_eq!(breaker.window(), window);
    assert_eq!(breaker.slow_threshold(), Some(Duration::from_millis(500)));
    assert_eq!((breaker.max_probes(), breaker.probe_limit()), (10, Duration::from_secs(10)));
    assert_eq!(policy.concurrency_limit().unwrap().limit(), 200);
    let rate = policy.rate_limit().unwrap();
    assert_eq!((rate.rate(), rate.burst(), rate.period()), (10, 100, Duration::from_millis(100)));
    assert!(matches!(policy.retry().unwrap().backup_delay(), Some(BackupDelay::Quantile(_))));
    assert_eq!(policy.criticality(), Some(&Criticality::CriticalPlus));
}

#[test]
fn an_explanation_says_where_each_value_comes_from() {
    let set = yaml(
        "defaults: {timeout: 1s}
services:
  a.B:
    methods:
      C: {timeout: {honour_request: false}}
",
    );
    let explained = set.method(method("a.B", "C")).explain();
    let of = |field: &str| {
        let found = explained.iter().find(|explained| explained.field == field).expect(field);
        (found.value.clone(), found.origin.as_deref().map(str::to_owned))
    };
    let origin = |text: &str| Some(text.to_owned());
    assert_eq!(of("timeout.timeout"), ("1s".into(), origin("policies.yaml:1:21 (defaults)")));
    assert_eq!(
        of("timeout.honour_request"),
        ("false".into(), origin("policies.yaml:5:37 (a.B/C)"))
    );
    assert_eq!(of("timeout.enforcement"), ("enforced".into(), None));
}

#[test]
fn an_explanation_leaves_out_nothing_that_acts() {
    let set = yaml("defaults: {retry: {mode: failure}}\nbalance: {picker: round_robin}\n");
    let of_method = set.method(method("a", "b")).explain();
    let of_service = set.service("a").explain();
    let value = |field: &str| {
        let all = of_method.iter().chain(&of_service);
        let mut found = all.filter(|line| line.field == field);
        let line = found.next().map(|line| (line.value.clone(), line.origin.clone()));
        assert!(found.next().is_none(), "{field} once");
        line
    };
    assert_eq!(value("retry.retries"), Some(("2".to_owned(), None)));
    assert_eq!(value("retry.backoff.exponential.base"), Some(("25ms".to_owned(), None)));
    let (picker, origin) = value("balance.picker").expect("there");
    assert_eq!(picker, "round_robin");
    assert!(origin.is_some_and(|origin| origin.starts_with("policies.yaml:2:")));
}

#[test]
fn neither_depth_nor_aliases_exhaust_anything() {
    let deep = format!("defaults: {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(refused(&deep).contains("recursion limit"), "{}", refused(&deep));
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    PolicySet::parse("p.json", &deep, Format::Json).unwrap_err();
    let line = |i: u32| format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}]\n", i - 1);
    let bomb = "a0: &a0 {x: 1}\n".to_owned() + &(1..30).map(line).collect::<String>();
    assert!(refused(&bomb).contains("aliases copy more than"), "bounded");
}

#[test]
fn kitexs_documents_are_taken_over() {
    use outrigger::KitexConfig;
    let set = KitexConfig::new("shop.Cart")
        .rpc_timeout(r#"{"*": {"rpc_timeout_ms": 1000, "conn_timeout_ms": 50}, "Get": {"rpc_timeout_ms": 200}}"#)
        .retry(
            r#"{
  "*": {"enable": true, "type": 0, "failure_policy": {
    "stop_policy": {"max_retry_times": 3, "max_duration_ms": 2000, "disable_chain_stop": false,
      "ddl_stop": true, "cb_policy": {"error_rate": 0.1}},
    "backoff_policy": {"backoff_type": "random", "cfg_items": {"min_ms": 10, "max_ms": 20}},
    "retry_same_node": false}},
  "Get": {"enable": true, "type": 1, "backup_policy": {"retry_delay_ms": 15,
    "stop_policy": {"max_retry_times": 1}}},
  "Mixed": {"enable": true, "type": 2, "mixed_policy": {"retry_delay_ms": 15,
    "stop_policy": {"max_retry_times": 2}}},
  "Put": {"enable": false}
}"#,
        )
        .circuit_break(r#"{"*": {"enable": true, "err_rate": 0.3, "min_sample": 50}, "Put": {"enable": false}}"#)
        .degradation(r#"{"enable": true, "percentage": 30}"#)
        .limit(r#"{"connection_limit": 1000, "qps_limit": 2000}"#)
        .into_set()
        .unwrap_or_else(|e| panic!("{e}"));
    let of = |name| set.method(method("shop.Cart", name));
    assert_eq!(of("Other").retry().unwrap().retries(), 3);
    assert_eq!(of("Get").retry().unwrap().mode(), RetryMode::Backup);
    assert_eq!(of("Mixed").retry().unwrap().mode(), RetryMode::Mixed, "Kitex's sources refuse it");
    assert_eq!(of("Put").retry().unwrap().enforcement(), Enforcement::Disabled);
    let breaker = of("Put").circuit_breaker().unwrap();
    assert_eq!(
        breaker.enforcement(),
        Enforcement::Disabled,
        "a wildcard, and switched off for one"
    );
    let attempt = of("Get").attempt_timeout().unwrap().timeout();
    assert_eq!(attempt, Some(Duration::from_millis(200)), "Kitex's is one attempt's");
    assert_eq!(set.server().connection_limit().unwrap().limit(), 1_000);
    let rate = set.server().rate_limit().unwrap();
    assert_eq!((rate.rate(), rate.burst()), (2_000, 200), "in steps of 100 ms");
    let connect = set.service("shop.Cart").balance().unwrap().connect_timeout();
    assert_eq!(connect, Duration::from_millis(50));
    assert!(
        set.method(method("other", "Get")).timeout().is_none(),
        "no silent one-second time-out"
    );
    assert!(set.notes().iter().any(|note| note.to_string().contains("drops calls at random")));
    let wrong = KitexConfig::new("s").rpc_timeout("{\"*\": {\"rpc_timeout\": 5}}").into_set();
    let said = wrong.unwrap_err().to_string();
    assert!(
        said.contains("rpc_timeout:1:8") && said.contains("did you mean `rpc_timeout_ms`?"),
        "{said}"
    );
}
