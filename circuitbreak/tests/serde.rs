//! A policy as it stands in a file.

#![cfg(feature = "serde")]

use std::time::Duration;

use outrigger_circuitbreak::{CircuitBreakerPolicy, WindowShape};
use outrigger_core::Enforcement;

fn parse(json: &str) -> Result<CircuitBreakerPolicy, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_set_keeps_its_default() {
    let policy = parse(r#"{ "cool_down": "250ms", "enforcement": "shadow" }"#).unwrap();
    assert_eq!(policy.cool_down(), Duration::from_millis(250));
    assert_eq!(policy.enforcement(), Enforcement::Shadow);
    let window = WindowShape::Time { duration: Duration::from_secs(10), buckets: 100 };
    assert_eq!(policy.window(), window);
}

#[test]
fn every_setting_can_stand_in_a_file_and_comes_back_as_it_was() {
    let json = r#"{
        "enforcement": "enforced",
        "time_window": "20s",
        "window_buckets": 40,
        "count_window": 100,
        "error_rate": { "enabled": true, "rate": 0.25, "minimum_calls": 20 },
        "error_count": 30,
        "consecutive_failures": 5,
        "consecutive_failures_lasting": { "failures": 3, "duration": "2s" },
        "slow_calls": { "duration": "800ms", "rate": 0.5, "minimum_calls": 10 },
        "cool_down": "1s",
        "cool_down_growth": 2.0,
        "max_cool_down": "30s",
        "cool_down_jitter": 0.1,
        "probe_interval": "50ms",
        "max_probes": 3,
        "successes_to_close": 4,
        "probe_limit": "10s",
        "abandoned": "slow"
    }"#;
    let policy = parse(json).unwrap();
    let written: serde_json::Value = serde_json::to_value(&policy).unwrap();
    let given: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(written, given);
}

#[test]
fn a_typo_a_wrong_unit_and_an_impossible_value_are_told() {
    let error = parse(r#"{ "cool_dwon": "5s" }"#).unwrap_err();
    assert!(error.contains("unknown field `cool_dwon`"), "{error}");
    let error = parse(r#"{ "cool_down": "5 parsecs" }"#).unwrap_err();
    assert!(error.contains("parsecs"), "{error}");
    let error = parse(r#"{ "error_rate": { "rate": 50 } }"#).unwrap_err();
    let said = "`error_rate.rate` is 50.0; it must be a share above 0 and at most 1";
    assert!(error.contains(said), "{error}");
}

#[test]
fn the_rule_on_the_error_rate_can_be_taken_out() {
    let policy =
        parse(r#"{ "error_rate": { "enabled": false }, "consecutive_failures": 3 }"#).unwrap();
    let breaker = outrigger_circuitbreak::CircuitBreaker::new(policy);
    for _ in 0..500 {
        breaker.try_acquire().unwrap().record(outrigger_core::Outcome::Success);
        breaker.try_acquire().unwrap().record(outrigger_core::Outcome::Failure);
    }
    assert_eq!(breaker.state(), outrigger_circuitbreak::State::Closed);
}
