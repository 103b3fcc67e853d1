//! Scope over scope, field by field.

use crate::{
    document::{Entry, Node, Table, Value},
    method::POLICIES,
};

/// Settings that choose one of several forms: another choice replaces the whole.
const CHOICES: [&str; 7] =
    ["backoff", "backup_delay", "jitter", "picker", "retry_budget", "shed_waiting", "subset"];

/// Either stands in the place of the other, so the more exact scope's counts.
pub(super) const LIMITS: [&str; 2] = ["concurrency_limit", "adaptive_limit"];

/// A circuit breaker's window: of time or of calls.
pub(super) const WINDOWS: [&str; 2] = ["time_window", "count_window"];

/// What `over` says, and what `under` says of which `over` says nothing.
pub(super) fn merge(under: &Table, over: &Table) -> Table {
    let mut merged = under.clone();
    if let Some(enforcement) = over.get("enforcement") {
        enforce(&mut merged, enforcement, Stated::Replace);
    }
    let mut over = over.clone();
    if let Some(enforcement) = over.get("enforcement").cloned() {
        enforce(&mut over, &enforcement, Stated::Keep);
    }
    make_way(&mut merged, &over, LIMITS);
    for entry in over.entries {
        merge_entry(&mut merged, entry);
    }
    // What is stated only here is still within the wider scope.
    if let Some(enforcement) = merged.get("enforcement").cloned() {
        enforce(&mut merged, &enforcement, Stated::Keep);
    }
    merged
}

/// Where `over` states one of two that stand in each other's place, takes the other out of `under`.
fn make_way(under: &mut Table, over: &Table, pair: [&str; 2]) {
    for [one, other] in [pair, [pair[1], pair[0]]] {
        if over.states(one) && !over.states(other) {
            under.take(other);
        }
    }
}

/// What becomes of an enforcement that a policy states itself.
#[derive(Clone, Copy, PartialEq)]
enum Stated {
    Keep,
    Replace,
}

/// A scope's `enforcement` is that of each of its policies.
fn enforce(table: &mut Table, enforcement: &Node, stated: Stated) {
    for name in POLICIES.iter().chain(&["connection_limit"]) {
        if let Some(Node { value: Value::Table(policy), .. }) = table.get_mut(name)
            && (stated == Stated::Replace || policy.get("enforcement").is_none())
        {
            policy.set("enforcement", enforcement.clone());
        }
    }
}

fn merge_entry(under: &mut Table, mut over: Entry) {
    let Some(present) = under.entries.iter_mut().find(|entry| entry.key == over.key) else {
        return under.entries.push(over);
    };
    if let (Value::Table(old), Value::Table(new)) = (&mut present.value.value, &over.value.value) {
        let is_other_choice = CHOICES.contains(&&*over.key) && !same_keys(old, new);
        // A retry of another mode has other settings.
        let is_other_mode = over.key == "retry" && mode(new).is_some() && mode(new) != mode(old);
        if !is_other_choice && !is_other_mode {
            present.value.place = over.value.place;
            let Value::Table(new) = over.value.value else { unreachable!("seen above") };
            make_way(old, &new, WINDOWS);
            return new.entries.into_iter().for_each(|entry| merge_entry(old, entry));
        }
        // Whether it acts is no setting of a mode.
        if is_other_mode
            && let Some(entry) = old.take("enforcement")
            && new.get("enforcement").is_none()
            && let Value::Table(new) = &mut over.value.value
        {
            new.entries.push(entry);
        }
    }
    *present = over;
}

fn same_keys(a: &Table, b: &Table) -> bool {
    a.entries.len() == b.entries.len() && a.entries.iter().all(|e| b.entry(&e.key).is_some())
}

fn mode(retry: &Table) -> Option<&str> {
    retry.get("mode").and_then(Node::as_str)
}
