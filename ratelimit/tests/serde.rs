//! Policies as they stand in files.
#![cfg(feature = "serde")]

use std::time::Duration;

use outrigger_ratelimit::{
    AdaptiveLimitPolicy, ClientThrottlePolicy, ConcurrencyLimitPolicy, CutShort, LimitAlgorithm,
    RateLimitPolicy, ShedWaiting,
};
use serde_json::{from_value, json, to_value};

#[test]
fn a_policy_reads_as_it_was_written_and_what_is_missing_is_the_default() {
    let policy: ConcurrencyLimitPolicy = from_value(json!({
        "limit": 100, "max_waiting": 50, "max_wait": "200ms",
        "shed_waiting": { "co_del": { "target": "5ms", "interval": "100ms" } },
    }))
    .expect("a valid policy");
    assert_eq!((policy.limit(), policy.shed_waiting()), (100, ShedWaiting::codel()));
    let written = to_value(policy).expect("it can be written");
    assert_eq!(from_value::<ConcurrencyLimitPolicy>(written).expect("and read"), policy);

    let policy: RateLimitPolicy =
        from_value(json!({ "rate": 600, "period": "1m", "burst": 5 })).expect("a valid policy");
    assert_eq!(policy.time_per_token(), Duration::from_millis(100));
    let written = to_value(policy).expect("it can be written");
    assert_eq!(from_value::<RateLimitPolicy>(written).expect("and read"), policy);

    let policy: ClientThrottlePolicy =
        from_value(json!({ "k": 1.5, "window": "30s", "cut_short": "not_accepted" }))
            .expect("a valid policy");
    assert_eq!((policy.k(), policy.cut_short()), (1.5, CutShort::NotAccepted));
    let written = to_value(policy).expect("it can be written");
    assert_eq!(from_value::<ClientThrottlePolicy>(written).expect("and read"), policy);

    let policy: AdaptiveLimitPolicy =
        from_value(json!({ "algorithm": "gradient2", "min_window": "1s", "max_limit": 200 }))
            .expect("a valid policy");
    assert_eq!((policy.algorithm(), policy.max_limit()), (LimitAlgorithm::Gradient2, 200));
    let written = to_value(policy).expect("it can be written");
    assert_eq!(from_value::<AdaptiveLimitPolicy>(written).expect("and read"), policy);
}

#[test]
fn what_is_unknown_or_impossible_is_refused_with_its_name() {
    let error = |value| from_value::<ConcurrencyLimitPolicy>(value).unwrap_err().to_string();
    assert_eq!(error(json!({ "limit": 0 })), "`limit` is 0; it must be at least 1");
    assert!(error(json!({ "limits": 3 })).contains("unknown field `limits`"));
    let error = |value| from_value::<RateLimitPolicy>(value).unwrap_err().to_string();
    assert!(error(json!({ "rate": 2_000_000 })).starts_with("`rate` is 2000000"));
    assert!(error(json!({ "qps": 3 })).contains("unknown field `qps`"));
    let error = |value| from_value::<ClientThrottlePolicy>(value).unwrap_err().to_string();
    assert_eq!(error(json!({ "k": 1 })), "`k` is 1.0; it must be from 1.01 to 100");
    assert!(error(json!({ "ratio": 3 })).contains("unknown field `ratio`"));
    let error = |value| from_value::<AdaptiveLimitPolicy>(value).unwrap_err().to_string();
    assert!(error(json!({ "max_limit": 3 })).starts_with("`initial_limit` is 20"));
    assert!(error(json!({ "algorithm": "bbr" })).contains("unknown variant `bbr`"));
}
