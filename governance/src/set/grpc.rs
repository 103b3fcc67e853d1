//! gRPC's service config: `methodConfig`, `loadBalancingConfig`, `retryThrottling`.

use std::collections::HashMap;

use super::translate::{Found, percent, snake_case, words};
use crate::{
    Problem,
    document::{Entry, Node, Place, Table, Value},
};

/// One entry of `methodConfig`: the names it is for, and its settings.
pub(super) struct MethodConfig {
    pub(super) names: Vec<Name>,
    pub(super) settings: Node,
}

/// A name of `methodConfig`; both parts empty stand for every method.
#[derive(Clone)]
pub(super) struct Name {
    pub(super) service: String,
    pub(super) method: String,
    pub(super) place: Place,
}

pub(super) fn method_configs(node: &Node, found: &mut Found) -> Vec<MethodConfig> {
    let Value::List(items) = &node.value else {
        found.problems.push(node.problem("methodConfig", "a list"));
        return Vec::new();
    };
    let mut seen: Vec<Name> = Vec::new();
    let mut configs = Vec::new();
    for item in items {
        let Value::Table(table) = &item.value else {
            found.problems.push(item.problem("methodConfig", "a list of tables"));
            continue;
        };
        let mut table = table.clone();
        let names = match table.take("name").map(|entry| entry.value) {
            Some(Node { value: Value::List(names), .. }) => {
                names.iter().filter_map(|name| read_name(name, found)).collect()
            }
            // gRPC: a config without a name is for nobody.
            None | Some(Node { value: Value::Null, .. }) => Vec::new(),
            Some(other) => {
                found.problems.push(other.problem("methodConfig.name", "a list"));
                Vec::new()
            }
        };
        for name in &names {
            let is_same =
                |other: &&Name| (&other.service, &other.method) == (&name.service, &name.method);
            if let Some(first) = seen.iter().find(is_same) {
                let (line, _) = first.place.line_and_column();
                let message = format!("stands twice; the first is on line {line}");
                let field = format!("{}/{}", name.service, name.method);
                found.problems.push(Problem::new(&name.place, field, message));
            }
            seen.push(name.clone());
        }
        let settings = Node::new(Value::Table(table), item.place.clone());
        configs.push(MethodConfig { names, settings });
    }
    configs
}

fn read_name(node: &Node, found: &mut Found) -> Option<Name> {
    let Some(table) = node.as_table() else {
        found.problems.push(node.problem("methodConfig.name", "a table of `service` and `method`"));
        return None;
    };
    let mut part = |key: &str| match table.get(key) {
        None | Some(Node { value: Value::Null, .. }) => String::new(),
        Some(Node { value: Value::String(text), .. }) => text.clone(),
        Some(other) => {
            found.problems.push(other.problem(format!("methodConfig.name.{key}"), "a name"));
            String::new()
        }
    };
    let (service, method) = (part("service"), part("method"));
    if let Some(entry) = table.entries.iter().find(|e| e.key != "service" && e.key != "method") {
        let problem = Problem::new(&entry.key_place, &entry.key, "is no setting here");
        found.problems.push(problem.help(Some("there are: service, method".to_owned())));
    }
    if service.is_empty() && !method.is_empty() {
        let message = "names a method without its service";
        found.problems.push(Problem::new(&node.place, "methodConfig.name", message));
        return None;
    }
    Some(Name { service, method, place: node.place.clone() })
}

/// What gRPC states for a whole channel.
pub(super) fn of_channel(own: &mut Table, parts: &HashMap<String, Entry>, found: &mut Found) {
    for (theirs, ours) in [
        ("retry_throttling", "retry_budget"),
        ("load_balancing_config", "balance"),
        ("load_balancing_policy", "balance"),
    ] {
        if let Some(entry) = parts.get(theirs).filter(|_| parts.contains_key(ours)) {
            found.beside(entry, ours);
        }
    }
    if let Some(entry) = parts.get("retry_throttling") {
        let mut entry = entry.clone();
        snake_case(&mut entry.value, found);
        own.set("retry_budget", retry_throttling(&entry));
    }
    if let Some(entry) = parts.get("load_balancing_config") {
        let mut entry = entry.clone();
        snake_case(&mut entry.value, found);
        if let Some(balance) = load_balancing(&entry, found) {
            own.set("balance", balance);
        }
    } else if let Some(entry) = parts.get("load_balancing_policy") {
        let mut named = Table::default();
        let name = entry.value.as_str().unwrap_or_default().to_ascii_lowercase();
        named.set(&name, Node::new(Value::Table(Table::default()), entry.value.place.clone()));
        let item = Node::new(Value::Table(named), entry.value.place.clone());
        let list = Node::new(Value::List(vec![item]), entry.value.place.clone());
        let entry = Entry { value: list, ..entry.clone() };
        if let Some(balance) = load_balancing(&entry, found) {
            own.set("balance", balance);
        }
    }
    if let Some(entry) = parts.get("health_check_config") {
        let left_out = "is the channel's own affair; nothing here acts on it";
        found.notes.push(Problem::new(&entry.key_place, "healthCheckConfig", left_out));
    }
}

/// The `balance` that the first supported entry of `loadBalancingConfig` stands for.
fn load_balancing(entry: &Entry, found: &mut Found) -> Option<Node> {
    let Value::List(items) = &entry.value.value else {
        found.problems.push(entry.value.problem("loadBalancingConfig", "a list"));
        return None;
    };
    let mut balance = Table::default();
    // gRPC ejects only where a policy says so.
    balance.set("ejection", Node::new(Value::Null, entry.value.place.clone()));
    for item in items {
        let Some([policy]) = item.as_table().map(|table| &*table.entries) else {
            let expected = "a table with the name of one policy";
            found.problems.push(item.problem("loadBalancingConfig", expected));
            return None;
        };
        if let Some(picker) = picker(policy, &mut balance, found) {
            balance.set("picker", picker);
            return Some(Node::new(Value::Table(balance), item.place.clone()));
        }
        let note = "is not supported; the next of the list is taken";
        found.notes.push(Problem::new(&policy.key_place, &policy.key, note));
    }
    let message = "names no policy that is supported";
    let help = "there are: pick_first, round_robin, weighted_round_robin, least_request_experimental, \
                ring_hash_experimental, outlier_detection_experimental";
    let problem = Problem::new(&entry.key_place, "loadBalancingConfig", message);
    found.problems.push(problem.help(Some(help.to_owned())));
    None
}

/// The picker of a policy of gRPC's; outlier detection around it becomes ejection.
fn picker(policy: &Entry, balance: &mut Table, found: &mut Found) -> Option<Node> {
    let place = policy.value.place.clone();
    let mut settings = match &policy.value.value {
        Value::Table(table) => table.clone(),
        _ => Table::default(),
    };
    let ours = match policy.key.as_str() {
        "round_robin" => ("round_robin", Table::default()),
        "pick_first" => {
            let mut first = Table::default();
            lift(&mut settings, "shuffle_address_list", &mut first, "shuffle");
            ("pick_first", first)
        }
        "least_request_experimental" | "least_request" => ("least_pending", Table::default()),
        "weighted_round_robin" => {
            let mut reported = Table::default();
            for (theirs, ours) in [
                ("blackout_period", "blackout"),
                ("weight_expiration_period", "expiration"),
                ("error_utilization_penalty", "error_penalty"),
            ] {
                if let Some(entry) = settings.take(theirs) {
                    reported.set(ours, entry.value);
                }
            }
            ("reported", reported)
        }
        "ring_hash_experimental" | "ring_hash" => ("consistent_hash", Table::default()),
        "outlier_detection_experimental" | "outlier_detection" => {
            let children = settings.take("child_policy");
            outlier_detection(&mut settings, found);
            only_stated_rules(&mut settings, &place);
            let Some(Entry { value: Node { value: Value::List(children), .. }, .. }) = children
            else {
                return None;
            };
            let child =
                children.iter().find_map(|child| match child.as_table().map(|t| &*t.entries) {
                    Some([policy]) => picker(policy, balance, found),
                    _ => None,
                })?;
            balance.set("ejection", Node::new(Value::Table(settings), place));
            return Some(child);
        }
        _ => return None,
    };
    let mut outer = Table::default();
    outer.set(ours.0, Node::new(Value::Table(ours.1), place.clone()));
    Some(Node::new(Value::Table(outer), place))
}

/// The names of gRFC A50.
pub(super) fn outlier_detection(ejection: &mut Table, found: &mut Found) {
    words(ejection, "ejection", found);
    rule(ejection, "success_rate_ejection", "deviation", |rule, ejection| {
        if let Some(factor) = rule.take("stdev_factor") {
            let thousandths = factor.value.as_f64().map(|n| Value::Float(n / 1_000.0));
            let value = thousandths.unwrap_or_else(|| factor.value.value.clone());
            ejection.set("deviation", Node::new(value, factor.value.place));
        }
        lift(rule, "request_volume", ejection, "deviation_volume");
    });
    rule(ejection, "failure_percentage_ejection", "error_rate", |rule, ejection| {
        if let Some(threshold) = rule.take("threshold") {
            let share =
                Node::new(percent(&threshold.value, "threshold", found), threshold.value.place);
            ejection.set("error_rate", share);
        }
        lift(rule, "request_volume", ejection, "error_rate_volume");
    });
}

/// One rule of gRFC A50, with its defaults; off, where it is enforced in no case.
fn rule(
    ejection: &mut Table,
    theirs: &str,
    ours: &str,
    translate: impl FnOnce(&mut Table, &mut Table),
) {
    let Some(Entry { value: Node { value: Value::Table(mut rule), place }, .. }) =
        ejection.take(theirs)
    else {
        return;
    };
    // Our own default is stricter than the 85 % of gRPC's.
    let usual = if ours == "error_rate" { Value::Float(0.85) } else { Value::Float(1.9) };
    ejection.set(ours, Node::new(usual, place.clone()));
    translate(&mut rule, ejection);
    lift(&mut rule, "minimum_hosts", ejection, "min_endpoints");
    let enforced = rule.take("enforcement_percentage");
    if enforced.is_some_and(|entry| entry.value.as_f64() == Some(0.0)) {
        ejection.set(ours, Node::new(Value::Null, place));
    }
    // What is left is unknown, and refused by name.
    ejection.entries.append(&mut rule.entries);
}

/// A rule that gRPC's form does not state is off; so is what gRPC does not know.
fn only_stated_rules(ejection: &mut Table, place: &Place) {
    let off = [
        ("deviation", Value::Null),
        ("error_rate", Value::Null),
        ("consecutive_failures", Value::Integer(0)),
        ("panic_threshold", Value::Float(0.0)),
    ];
    for (field, value) in off {
        if ejection.get(field).is_none() {
            ejection.set(field, Node::new(value, place.clone()));
        }
    }
}

fn lift(rule: &mut Table, from: &str, into: &mut Table, to: &str) {
    if let Some(entry) = rule.take(from) {
        into.set(to, entry.value);
    }
}

/// `retryThrottling` as a budget of tokens.
fn retry_throttling(entry: &Entry) -> Node {
    let mut value = entry.value.clone();
    if let Value::Table(table) = &mut value.value {
        as_protobuf(table, &["max_tokens", "token_ratio"]);
    }
    let mut throttling = Table::default();
    throttling.set("throttling", value);
    Node::new(Value::Table(throttling), entry.value.place.clone())
}

/// What protobuf's JSON allows: null for what is unset, numbers as strings, whole numbers with a
/// fraction of 0.
pub(super) fn as_protobuf(table: &mut Table, numbers: &[&str]) {
    table.entries.retain(|entry| !matches!(entry.value.value, Value::Null));
    for name in numbers {
        let Some(node) = table.get_mut(name) else { continue };
        let number = match &node.value {
            Value::String(text) => text.parse().ok(),
            Value::Float(number) => Some(*number),
            _ => None,
        };
        let Some(number) = number.filter(|number| number.is_finite()) else { continue };
        #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
        let whole = (number.fract() == 0.0 && number.abs() < 1e9).then_some(number as i64);
        node.value = whole.map_or(Value::Float(number), Value::Integer);
    }
}

/// gRPC allows the numbers of status codes.
pub(super) fn codes_as_text(codes: &mut Node) {
    if let Value::List(codes) = &mut codes.value {
        for code in codes {
            if let Value::Integer(number) = code.value {
                code.value = Value::String(number.to_string());
            }
        }
    }
}
