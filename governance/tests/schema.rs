//! The JSON schema of policy files: published as it is made, and true.

#[path = "support/rows.rs"]
mod rows;
#[path = "support/schema.rs"]
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use outrigger::{Format, PolicySet};
use serde_json::Value;

use crate::{
    rows::rows,
    schema::{assert_accepts, complaints},
};

/// `UPDATE_SCHEMA=1 cargo test -p outrigger --all-features --test schema` writes it anew.
#[test]
fn the_published_schema_is_the_one_that_is_made() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies.schema.json");
    let made = serde_json::to_string_pretty(&PolicySet::schema()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &made).expect("written");
    }
    let published = fs::read_to_string(&path).expect("it is published");
    assert!(published == made, "policies.schema.json is old: see this test for how to renew it");
}

#[test]
fn the_schema_is_one_and_says_what_every_setting_is() {
    let schema = PolicySet::schema();
    jsonschema::draft7::meta::validate(&schema).expect("valid by its own schema");
    let mut silent = Vec::new();
    for (name, definition) in schema["definitions"].as_object().expect("a table") {
        let properties = definition["properties"].as_object().into_iter().flatten();
        for (field, property) in properties.filter(|(_, property)| !is_other_word(property)) {
            let described = resolve(&schema, property).get("description");
            if property.get("description").or(described).is_none() {
                silent.push(format!("{name}.{field}"));
            }
        }
    }
    assert_eq!(silent, [""; 0], "settings without a description");
}

#[test]
fn the_schema_states_the_defaults_of_the_types() {
    let schema = PolicySet::schema();
    let mut compared = 0;
    for row in rows() {
        let scope = if row.scope == "server" { "Server" } else { "Template" };
        let section = &schema["definitions"][scope]["properties"][row.section];
        let section = resolve(&schema, section);
        let forms = section.get("anyOf").unwrap_or(&section["allOf"]);
        let policy = resolve(&schema, &forms[0]);
        for (field, default) in row.default.as_object().into_iter().flatten() {
            if let Some(stated) = policy["properties"][field].get("default") {
                assert_eq!(stated, default, "{scope}.{}.{field}", row.section);
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn every_valid_setting_is_accepted() {
    for row in rows() {
        assert_accepts(&row.file(), Format::Json);
    }
}

#[test]
fn the_example_files_are_accepted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for (name, format) in [("policies.toml", Format::Toml), ("policies.yaml", Format::Yaml)] {
        let text = fs::read_to_string(examples.join(name)).expect(name);
        assert_accepts(&text, format);
        seen += 1;
    }
    let policy_files = fs::read_dir(examples).expect("a directory").filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        let name = name.to_string_lossy();
        name.starts_with("polic")
    });
    assert_eq!(policy_files.count(), seen, "an example that is not checked here");
}

#[test]
fn every_form_of_a_file_is_accepted() {
    for text in [
        "",
        "$schema: https://example.org/policies.schema.json\nversion: 1\n",
        "defaults:\nservices:\n  a.B:\n    methods:\n      C:\n",
        "templates: {read: {timeout: 1s}}\ndefaults: {use: read}\nservices: {a: {use: [read]}}",
        "defaults: {timeout: off, retry: false, rate_limit: 100/s, concurrency_limit: 7}",
        "defaults: {rateLimit: {rate: 600/1m, maxWaiting: 3}, adaptiveLimit: aimd}",
        "defaults: {retry: {mode: mixed, backupDelay: 60ms, idempotent: true}, retryBudget: 20%, clientThrottle: 2}",
        "retry_budget: {percent: 10, minRetriesPerSecond: 0.1, ttl: 10s}\nbalance: {picker: maglev}",
        "server: {connection_limit: 9, enforcement: shadow, tokenBucket: {maxTokens: 3}}",
        "defaults: {concurrencyLimit: {algorithm: vegas, maxConcurrentCalls: 200}}",
    ] {
        let text = if text.is_empty() { "{}" } else { text };
        PolicySet::parse("p.yaml", text, Format::Yaml).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_accepts(text, Format::Yaml);
    }
}

#[test]
fn what_the_reader_refuses_by_name_type_or_form_the_schema_refuses_too() {
    for text in [
        "defalts: {}",
        "defaults: {circuit_braker: {}}",
        "defaults: {timeout: 5 parsecs}",
        "defaults: {timeout: 5}",
        "defaults: {timeout: {timeouts: 5s}}",
        "defaults: {circuit_breaker: {cooldown: 5s}}",
        "defaults: {circuit_breaker: {error_rate: {rate: many}}}",
        "defaults: {circuit_breaker: {slow_calls: {durations: 5s}}}",
        "defaults: {circuit_breaker: {abandoned: maybe}}",
        "defaults: {circuit_breaker: {failureRateThreshold: 500}}",
        "defaults: {rate_limit: {rate: -1}}",
        "defaults: {rate_limit: fast}",
        "defaults: {retry: {mode: fast}}",
        "defaults: {retry: {mode: failure, backoff: {fixd: {delay: 5ms}}}}",
        "defaults: {retry: {mode: failure, backoff: {fixed: {wait: 5ms}}}}",
        "defaults: {retry: {mode: failure, backoff: {fixed: {delay: 5ms}, random: {}}}}",
        "defaults: {retry: {mode: failure, idempotent: 1}}",
        "defaults: {concurrency_limit: {shed_waiting: {codel: {}}}}",
        "defaults: {adaptive_limit: bbr}",
        "defaults: {adaptive_limit: {algorithm: bbr}}",
        "defaults: {criticality: very}",
        "defaults: {enforcement: on}",
        "defaults: {methods: {}}",
        "defaults: 7",
        "services: {a: {methods: {b: {retry_budget: 10%}}}}",
        "services: {a: {balance: {picker: {peak_ewma: {decays: 1s}}}}}",
        "services: {a: {balance: {picker: fastest}}}",
        "services: {a: {retry_budget: 10 parts}}",
        "server: {timeout: 1s}",
        "server: {connection_limit: many}",
        "methodConfig: [{name: [{service: a, methods: b}]}]",
        "methodConfig: [{name: [{}], retryPolicy: {maxAttempts: 1}}]",
        "methodConfig: {}",
        "retryThrottling: {maxTokens: 0, tokenRatio: 1}",
    ] {
        PolicySet::parse("p.yaml", text, Format::Yaml).expect_err(text);
        assert_ne!(complaints(text, Format::Yaml), [""; 0], "{text}");
    }
}

/// A section, and what can stand in it: paths of names, and words that are values.
type Known = BTreeMap<String, BTreeSet<String>>;

/// The rows state every setting that the schema knows, in each of its forms.
#[test]
fn every_setting_and_every_choice_that_the_schema_knows_is_tested() {
    let schema = PolicySet::schema();
    let mut known = Known::new();
    for (scope, definition) in [("defaults", "Template"), ("server", "Server")] {
        let definition = &schema["definitions"][definition];
        for (section, property) in definition["properties"].as_object().expect("a table") {
            let others = [
                "use",
                "hedging",
                "hedging_policy",
                "retry_policy",
                "token_bucket",
                "per_attempt_timeout",
            ];
            let is_of_grpc = section.starts_with("max_") || section == "wait_for_ready";
            if !is_other_word(property)
                && !others.contains(&section.as_str())
                && !is_of_grpc
                && section != "enforcement"
            {
                collect(&schema, property, &format!("{scope}.{section}"), &mut known);
            }
        }
    }
    // A policy is the same on a server, and a choice wherever it stands.
    let section = |path: &str| path.split_once('.').map_or(path, |(_, path)| path).to_owned();
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let (mut stated, mut words_of) = (Known::new(), Known::new());
    for row in rows() {
        state(&row.stated, row.section, &mut stated);
    }
    for (path, words) in &stated {
        words_of.entry(last(path)).or_default().extend(words.iter().cloned());
    }
    let mut forgotten = Vec::new();
    for (path, words) in &known {
        let path = section(path);
        if !stated.contains_key(&path) {
            forgotten.push(path);
            continue;
        }
        // A choice is stated by its word, or as a table of that name.
        let is_tested = |word: &str| {
            let tested = words_of.get(&last(&path)).is_some_and(|words| words.contains(word));
            tested || stated.contains_key(&format!("{path}.{word}"))
        };
        forgotten.extend(
            words.iter().filter(|word| !is_tested(word)).map(|word| format!("{path}: {word}")),
        );
    }
    assert_eq!(forgotten, [""; 0], "in the schema, but in no row");
}

fn is_other_word(property: &Value) -> bool {
    property.get("doNotSuggest").is_some()
}

fn resolve<'a>(schema: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        Some(path) => resolve(schema, schema.pointer(path).expect(path)),
        None => value,
    }
}

fn collect(schema: &Value, value: &Value, path: &str, known: &mut Known) {
    let value = resolve(schema, value);
    known.entry(path.to_owned()).or_default();
    for form in ["anyOf", "allOf", "oneOf"] {
        let forms = value[form].as_array();
        // The words of Finagle for a budget are theirs; what must have an algorithm is adaptive.
        let is_ours = |form: &&Value| {
            let is_theirs = form["$ref"].as_str().unwrap_or("").ends_with("PercentBudget");
            !is_theirs && form.get("required").is_none()
        };
        for form in forms.into_iter().flatten().filter(is_ours) {
            collect(schema, form, path, known);
        }
    }
    let words = value["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let words = words.filter(|word| *word != "off").map(str::to_owned);
    known.entry(path.to_owned()).or_default().extend(words);
    let properties = value["properties"].as_object().into_iter().flatten();
    for (name, property) in properties.filter(|(_, property)| !is_other_word(property)) {
        if !name.ends_with("_ejection") && property.get("maxProperties").is_none() {
            collect(schema, property, &format!("{path}.{name}"), known);
        }
    }
}

fn state(value: &Value, path: &str, stated: &mut Known) {
    let words = stated.entry(path.to_owned()).or_default();
    match value {
        Value::String(word) => drop(words.insert(word.clone())),
        Value::Object(fields) => {
            for (name, value) in fields {
                state(value, &format!("{path}.{name}"), stated);
            }
        }
        _ => {}
    }
}
