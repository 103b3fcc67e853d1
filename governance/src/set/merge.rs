//! Scope over scope, field by field.

use crate::document::{Node, Table, Value};

/// Settings that choose one of several forms: another choice replaces the whole.
const CHOICES: [&str; 7] =
    ["backoff", "backup_delay", "jitter", "picker", "retry_budget", "shed_waiting", "subset"];

/// Settings that hold policies, in the order in which a call meets them.
pub(super) const POLICIES: [&str; 7] = [
    "timeout",
    "rate_limit",
    "concurrency_limit",
    "client_throttle",
    "retry",
    "circuit_breaker",
    "attempt_timeout",
];

/// What `over` says, and what `under` says of which `over` says nothing.
pub(super) fn merge(under: &Table, over: &Table) -> Table {
    let mut merged = under.clone();
    if let Some(enforcement) = over.get("enforcement") {
        enforce(&mut merged, enforcement);
    }
    let mut over = over.clone();
    if let Some(enforcement) = over.get("enforcement").cloned() {
        enforce(&mut over, &enforcement);
    }
    for entry in over.entries {
        merge_entry(&mut merged, &entry.key, entry.value);
    }
    merged
}

/// A scope's `enforcement` is that of each policy that does not state its own.
fn enforce(table: &mut Table, enforcement: &Node) {
    for name in POLICIES {
        if let Some(Node { value: Value::Table(policy), .. }) = table.get_mut(name) {
            policy.set("enforcement", enforcement.clone());
        }
    }
}

fn merge_entry(under: &mut Table, key: &str, over: Node) {
    let Some(present) = under.get_mut(key) else { return under.set(key, over) };
    let (Value::Table(old), Value::Table(new)) = (&mut present.value, &over.value) else {
        return under.set(key, over);
    };
    let is_other_choice = CHOICES.contains(&key) && !same_keys(old, new);
    // A retry of another mode has other settings.
    let is_other_mode = key == "retry" && mode(new).is_some() && mode(new) != mode(old);
    if is_other_choice || is_other_mode {
        return under.set(key, over);
    }
    present.place = over.place;
    let Value::Table(new) = over.value else { unreachable!("seen above") };
    for entry in new.entries {
        merge_entry(old, &entry.key, entry.value);
    }
}

fn same_keys(a: &Table, b: &Table) -> bool {
    a.entries.len() == b.entries.len() && a.entries.iter().all(|e| b.entry(&e.key).is_some())
}

fn mode(retry: &Table) -> Option<&str> {
    retry.get("mode").and_then(Node::as_str)
}
