//! Policies as they stand in a file.

#![cfg(feature = "serde")]

use std::time::Duration;

use outrigger_retry::{Backoff, RetryBudgetPolicy, RetryMode, RetryPolicy, TimeoutPolicy};

#[test]
fn what_is_not_set_keeps_its_default_and_a_typo_is_told() {
    let policy: TimeoutPolicy = serde_json::from_str(r#"{ "timeout": "250ms" }"#).expect("valid");
    assert_eq!(policy, TimeoutPolicy::after(Duration::from_millis(250)));
    let error = serde_json::from_str::<TimeoutPolicy>(r#"{ "timeuot": "1s" }"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `timeuot`"), "{error}");
}

#[test]
fn a_budget_comes_back_as_it_was_written_and_nonsense_is_refused() {
    let policy = RetryBudgetPolicy::builder().ratio(0.3).build().expect("valid");
    let written = serde_json::to_string(&policy).expect("plain data");
    let read: RetryBudgetPolicy = serde_json::from_str(&written).expect("what was written");
    assert_eq!(read, policy);
    let error =
        serde_json::from_str::<RetryBudgetPolicy>(r#"{ "ratio": { "ratio": 7.5 } }"#).unwrap_err();
    assert!(error.to_string().contains("`ratio` is 7.5"), "{error}");
}

#[test]
fn a_retry_policy_comes_back_as_it_was_written_and_nonsense_is_refused() {
    let text = r#"{ "mode": "mixed", "backup_delay": { "fixed": "13ms" }, "retries": 2, "idempotent": true,
        "backoff": { "fixed": { "delay": "5ms" } } }"#;
    let policy: RetryPolicy = serde_json::from_str(text).expect("valid");
    assert_eq!((policy.mode(), policy.retries()), (RetryMode::Mixed, 2));
    assert_eq!(policy.backoff(), Backoff::Fixed { delay: Duration::from_millis(5) });
    let written = serde_json::to_string(&policy).expect("plain data");
    assert_eq!(serde_json::from_str::<RetryPolicy>(&written).expect("what was written"), policy);

    let error = |text| serde_json::from_str::<RetryPolicy>(text).unwrap_err().to_string();
    assert!(error(r#"{ "mode": "failure", "retries": 6 }"#).contains("`retries` is 6"));
    assert!(error(r#"{ "mode": "hedge" }"#).contains("unknown variant `hedge`"));
    assert!(error(r#"{ "mode": "failure", "tries": 3 }"#).contains("unknown field `tries`"));
}
