//! The dashboard and the alert rules ask for metrics and labels that are exported, and no others.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

use std::collections::BTreeSet;

use outrigger_observability::{Kind, Metric, names, prometheus_label};

const DASHBOARD: &str = include_str!("../dashboards/outrigger.json");
const ALERTS: &str = include_str!("../dashboards/alerts.yml");

fn dashboard_queries() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

fn alert_queries() -> Vec<String> {
    let lines = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: '"));
    lines.map(|query| query.strip_suffix('\'').unwrap().to_owned()).collect()
}

/// The words of a query, without what stands between quotes or in brackets.
fn words(query: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for (place, text) in query.split('"').enumerate() {
        if place % 2 == 0 {
            let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            words.extend(text.split(|c| !is_of_word(c)).map(str::to_owned));
        }
    }
    words.retain(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    words
}

/// The names under which a Prometheus server keeps a metric.
fn stored_names(metric: &Metric) -> Vec<String> {
    let name = metric.prometheus_name();
    match metric.kind {
        Kind::Histogram => ["bucket", "sum", "count"].map(|part| format!("{name}_{part}")).into(),
        _ => vec![name],
    }
}

const LANGUAGE: [&str; 9] =
    ["sum", "max", "by", "rate", "increase", "histogram_quantile", "le", "m", "__rate_interval"];

fn check(query: &str) -> Vec<&'static Metric> {
    let words = words(query);
    let asked: Vec<_> = names::ALL
        .iter()
        .copied()
        .filter(|metric| stored_names(metric).iter().any(|name| words.contains(name)))
        .collect();
    assert!(!asked.is_empty(), "asks for no metric of ours: {query}");
    for word in &words {
        let is_metric = asked.iter().any(|metric| stored_names(metric).contains(word));
        let has_label =
            |metric: &&Metric| metric.labels.iter().any(|label| prometheus_label(label) == *word);
        let is_label = asked.iter().all(has_label);
        let is_known = is_metric || is_label || LANGUAGE.contains(&word.as_str());
        assert!(is_known, "`{word}` is neither a metric nor a label: {query}");
    }
    asked
}

#[test]
fn the_dashboard_asks_for_what_is_exported() {
    let queries = dashboard_queries();
    assert!(queries.len() > 20);
    let asked: BTreeSet<_> =
        queries.iter().flat_map(|query| check(query)).map(|metric| metric.name).collect();
    for metric in [names::REJECTIONS, names::BREAKER_STATE, names::LIMIT, names::ENDPOINTS] {
        assert!(asked.contains(metric.name), "{} is not shown", metric.name);
    }
}

#[test]
fn the_alert_rules_ask_for_what_is_exported() {
    let queries = alert_queries();
    assert_eq!(queries.len(), ALERTS.matches("- alert:").count());
    for query in &queries {
        drop(check(query));
    }
}

#[test]
fn a_misspelt_metric_or_label_is_found() {
    for query in ["rate(outrigger_rejection_total[5m])", "sum by (reason) (outrigger_limit_value)"]
    {
        std::panic::catch_unwind(|| check(query)).unwrap_err();
    }
}

#[test]
fn no_two_metrics_have_one_name_and_histograms_alone_have_buckets() {
    let mut seen = BTreeSet::new();
    for metric in names::ALL {
        assert!(seen.insert(metric.prometheus_name()), "{} twice", metric.name);
        assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{}", metric.name);
        assert!(metric.buckets.is_sorted() && !metric.help.is_empty());
        assert_eq!(names::find(metric.name), Some(*metric));
    }
}
