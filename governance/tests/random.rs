//! Random policy files: each is refused with a place in it, or runs.

use outrigger::{Format, Governance, PolicySet};
use outrigger_core::{MethodRef, Rejection};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        (-3_i64..2_000).prop_map(|n| n.to_string()),
        Just(i64::MAX.to_string()),
        Just(".nan".to_owned()),
        Just("-.inf".to_owned()),
        (-0.5_f64..1.5).prop_map(|n| format!("{n}")),
        prop_oneof![
            Just("0s"),
            Just("1ms"),
            Just("250ms"),
            Just("1.5s"),
            Just("-1s"),
            Just("5 parsecs"),
            Just("99999999999h"),
            Just("100/s"),
            Just("10%"),
            Just("off"),
            Just("shadow"),
            Just("disabled"),
            Just("failure"),
            Just("backup"),
            Just("mixed"),
            Just("none"),
        ]
        .prop_map(|word| format!("{word:?}")),
    ]
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "timeout",
        "attempt_timeout",
        "retry",
        "circuit_breaker",
        "rate_limit",
        "concurrency_limit",
        "client_throttle",
        "retry_budget",
        "balance",
        "criticality",
        "enforcement",
        "mode",
        "retries",
        "backoff",
        "backup_delay",
        "fixed",
        "quantile",
        "idempotent",
        "error_rate",
        "rate",
        "minimum_calls",
        "cool_down",
        "slow_calls",
        "duration",
        "limit",
        "max_waiting",
        "max_wait",
        "burst",
        "period",
        "k",
        "window",
        "picker",
        "maglev",
        "table_size",
        "ratio",
        "hedgingPolicy",
        "retryPolicy",
        "maxAttempts",
        "tokenBucket",
        "slidingWindowSize",
        "use",
        "typo",
    ])
}

/// A value in YAML's flow style: nested tables and lists of known and unknown settings.
fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            4 => prop::collection::btree_map(key(), inner.clone(), 0..5).prop_map(|entries| {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
            1 => prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
        ]
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a namer")]
fn namer<'a>(call: &'a &'static str) -> Option<MethodRef<'a>> {
    Some(MethodRef { service: "a.B", method: call })
}

/// Runs some calls through a stack and another set put in its place.
fn run(set: PolicySet) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let governance = Governance::new(PolicySet::default());
        let client = governance.client(namer).layer(service_fn(async |call: &'static str| {
            if call == "Bad" { Err(Rejection::unavailable("test", "down")) } else { Ok(call) }
        }));
        governance.replace(set);
        for call in ["Get", "Bad", "Get", "Bad"] {
            // Whatever comes of it: it ends, and nothing panics.
            drop(client.clone().oneshot(call).await);
        }
        governance.replace(PolicySet::default());
        client.oneshot("Get").await.expect("governed by nothing");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_file_is_refused_with_a_place_in_it_or_runs(defaults in value(), of_method in value()) {
        let text = format!("defaults: {defaults}\nservices: {{a.B: {{methods: {{Get: {of_method}}}}}}}\n");
        match PolicySet::parse("p.yaml", &text, Format::Yaml) {
            Ok(set) => run(set),
            Err(refused) => {
                prop_assert!(!refused.problems().is_empty());
                for problem in refused.problems() {
                    prop_assert!((1..=2).contains(&problem.line()), "{problem}\n{text}");
                    prop_assert!(!problem.message().is_empty());
                    prop_assert!(!problem.render().is_empty());
                }
            }
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "[ -~\n]{0,80}|[\\[\\]{}:,\"a-c0-9.\n #&*!|>-]{0,60}|\\PC{0,40}") {
        for format in [Format::Json, Format::Yaml, Format::Toml] {
            if let Err(refused) = PolicySet::parse("p", &text, format) {
                prop_assert!(!refused.render().is_empty());
            }
        }
    }

    #[test]
    fn a_policy_that_reads_by_itself_reads_in_each_of_its_scopes(of_scope in value()) {
        let parse = |text: &str| PolicySet::parse("p.yaml", text, Format::Yaml).is_ok();
        let in_defaults = parse(&format!("defaults: {of_scope}\n"));
        let in_service = parse(&format!("services: {{a.B: {of_scope}}}\n"));
        prop_assert_eq!(in_defaults, in_service);
    }
}
