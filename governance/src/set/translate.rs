//! The words of gRPC, resilience4j and Envoy, and short forms, into the settings of the crates.

use crate::{
    Problem,
    document::{Entry, Node, Table, Value},
    method::POLICIES,
};

use super::{
    breaker::circuit_breaker,
    grpc::{as_protobuf, codes_as_text, outlier_detection},
    merge::LIMITS,
    words::{CHANNELS_OWN, Form, SHORT, WORDS},
};

/// A share of the calls to a service that one of its methods states: a budget of the service, if
/// that states none.
pub(super) const MAX_EXTRA_LOAD: &str = "max_extra_load";

/// What was found while a file was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
    /// What was read, but not quite as it was written.
    pub(super) notes: Vec<Problem>,
}

impl Found {
    /// `entry` stands where `other` is stated too, and one would go unread.
    pub(super) fn beside(&mut self, entry: &Entry, other: &str) {
        let message = format!("stands beside `{other}`, which says the same; state one of them");
        self.problems.push(Problem::new(&entry.key_place, &entry.key, message));
    }
}

/// Keys in `lowerCamelCase` become `snake_case`, here and below. Both spellings in one table are
/// the same setting twice.
pub(super) fn snake_case(node: &mut Node, found: &mut Found) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| snake_case(item, found)),
        Value::Table(table) => {
            for entry in std::mem::take(&mut table.entries) {
                let Entry { key, key_place, mut value } = entry;
                snake_case(&mut value, found);
                if let Err(problem) = table.add(Entry { key: snake(&key), key_place, value }) {
                    found.problems.push(problem);
                }
            }
        }
        _ => {}
    }
}

pub(super) fn snake(key: &str) -> String {
    if key.starts_with(|c: char| c.is_ascii_uppercase()) {
        // No setting begins so, but names do.
        return key.to_owned();
    }
    let mut snake = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Turns one scope into the settings of the crates.
pub(super) fn scope(table: &mut Table, found: &mut Found) {
    words(table, "", found);
    let is_short_rate = table.get("rate_limit").is_some_and(|node| node.as_str().is_some());
    for (short, field) in SHORT {
        widen(table, short, field);
    }
    for name in POLICIES.iter().chain(&["connection_limit"]) {
        // `retry: off` takes away what a wider scope has.
        if let Some(node) = table.get_mut(name)
            && (matches!(node.value, Value::Bool(false)) || node.as_str() == Some("off"))
        {
            node.value = Value::Null;
        }
    }
    if let Some(Node { value: Value::String(class), .. }) = table.get_mut("criticality") {
        // The SRE book and protobuf write `CRITICAL_PLUS`.
        class.make_ascii_lowercase();
    }
    grpc_retry(table, found);
    hedging(table, found);
    token_bucket(table, found);
    within(table, "rate_limit", |limit| {
        words(limit, "rate_limit", found);
        rate(limit, found);
        // Who writes `100/s` alone means a hundred, in whatever order they come.
        if is_short_rate && let Some(count) = limit.get("rate").cloned() {
            limit.set("burst", count);
        }
    });
    within(table, "retry", |retry| {
        widen(retry, "backup_delay", "fixed");
        if let Some(codes) = retry.get_mut("retryable_status_codes") {
            codes_as_text(codes);
        }
    });
    within(table, "circuit_breaker", |breaker| circuit_breaker(breaker, found));
    adaptive_limit(table, found);
    within(table, "concurrency_limit", |limit| words(limit, "concurrency_limit", found));
    retry_budget(table, "retry_budget", found);
    retry_budget(table, MAX_EXTRA_LOAD, found);
    within(table, "balance", |balance| {
        words(balance, "balance", found);
        within(balance, "ejection", |ejection| outlier_detection(ejection, found));
    });
    for ignored in CHANNELS_OWN {
        if let Some(entry) = table.take(ignored) {
            let note = "is the channel's own affair; nothing here acts on it";
            found.notes.push(Problem::new(&entry.key_place, ignored, note));
        }
    }
}

/// Puts others' words of a section into ours.
pub(super) fn words(table: &mut Table, section: &str, found: &mut Found) {
    for word in WORDS.iter().filter(|word| word.section == section) {
        let change = match word.form {
            Form::Same => same,
            Form::Percent => percent,
            Form::Window | Form::WindowType => continue,
        };
        let Some(entry) = table.take(word.theirs) else { continue };
        let field = format!("{section}.{}", word.theirs);
        let value = Node::new(change(&entry.value, &field, found), entry.value.place.clone());
        let (outer, inner) = word
            .ours
            .split_once('.')
            .map_or((None, word.ours), |(outer, inner)| (Some(outer), inner));
        let table = match outer {
            None => &mut *table,
            Some(outer) => {
                if table.get(outer).is_none_or(|node| node.as_table().is_none()) {
                    if table.states(outer) {
                        found.beside(&entry, outer);
                    }
                    let empty = Value::Table(Table::default());
                    table.set(outer, Node::new(empty, value.place.clone()));
                }
                let Some(Node { value: Value::Table(inner), .. }) = table.get_mut(outer) else {
                    continue;
                };
                inner
            }
        };
        if let Some(first) = table.entry(inner) {
            let (line, _) = first.key_place.line_and_column();
            let message = format!("is `{}` in other words, which line {line} states", word.ours);
            found.problems.push(Problem::new(&entry.key_place, entry.key, message));
        }
        table.set(inner, value);
    }
}

/// A `concurrency_limit` with an `algorithm` is adaptive; so is a name of one alone.
fn adaptive_limit(table: &mut Table, found: &mut Found) {
    let of_algorithm = table.get("concurrency_limit").and_then(Node::as_table);
    if of_algorithm.is_some_and(|limit| limit.get("algorithm").is_some())
        && table.get("adaptive_limit").is_none()
    {
        rename(table, "concurrency_limit", "adaptive_limit");
    }
    within(table, "adaptive_limit", |limit| words(limit, "adaptive_limit", found));
    let [fixed, adaptive] = LIMITS.map(|name| table.entry(name));
    if let (Some(_), Some(adaptive)) = (is_stated(fixed), is_stated(adaptive)) {
        let message = "stands beside `concurrency_limit`; state one of them: `max_limit` bounds an \
                       adaptive limit";
        found.problems.push(Problem::new(&adaptive.key_place, "adaptive_limit", message));
    }
}

fn is_stated(entry: Option<&Entry>) -> Option<&Entry> {
    entry.filter(|entry| !matches!(entry.value.value, Value::Null))
}

fn within(table: &mut Table, key: &str, change: impl FnOnce(&mut Table)) {
    if let Some(Node { value: Value::Table(inner), .. }) = table.get_mut(key) {
        change(inner);
    }
}

pub(super) fn rename(table: &mut Table, from: &str, to: &str) {
    if let Some(entry) = table.take(from) {
        table.set(to, entry.value);
    }
}

/// A single value stands for a table with `field` alone.
fn widen(table: &mut Table, key: &str, field: &str) {
    if let Some(node) = table.get_mut(key)
        && matches!(&node.value, Value::String(_) | Value::Integer(_) | Value::Float(_))
        && node.as_str() != Some("off")
    {
        let mut inner = Table::default();
        inner.set(field, node.clone());
        node.value = Value::Table(inner);
    }
}

/// A number of percent as a share; what is no number stays, and is refused where it is read.
pub(super) fn percent(node: &Node, field: &str, found: &mut Found) -> Value {
    let Some(percent) = node.as_f64() else { return node.value.clone() };
    if !(0.0..=100.0).contains(&percent) {
        let expected = "a number of percent, from 0 to 100";
        let scope = if node.place.scope.is_empty() { "defaults" } else { &*node.place.scope };
        found.problems.push(node.problem(format!("{scope}.{field}"), expected));
        return Value::Float(1.0);
    }
    Value::Float(percent / 100.0)
}

fn same(node: &Node, _field: &str, _found: &mut Found) -> Value {
    node.value.clone()
}

/// `100/s`: so many per period.
fn rate(limit: &mut Table, found: &mut Found) {
    let Some(written) = limit.get("rate").cloned() else { return };
    let Some(text) = written.as_str() else { return };
    let mut refuse = |limit: &mut Table| {
        let field = format!("{}.rate_limit", written.place.scope);
        found.problems.push(written.problem(field, "a rate, such as `100/s` or `600/1m`"));
        limit.take("rate");
    };
    let parts = text.split_once('/').map(|(count, period)| (count.trim().parse(), period.trim()));
    let Some((Ok(count), period)) = parts else { return refuse(limit) };
    // `100/s` is short for `100/1s`.
    let period = if period.starts_with(|c: char| c.is_ascii_digit()) {
        period.to_owned()
    } else {
        format!("1{period}")
    };
    if humantime::parse_duration(&period).is_err() {
        return refuse(limit);
    }
    if let Some(entry) = limit.entry("period") {
        found.beside(entry, "rate");
    }
    limit.set("rate", Node::new(Value::Integer(count), written.place.clone()));
    limit.set("period", Node::new(Value::String(period), written.place));
}

/// Envoy's token bucket.
fn token_bucket(table: &mut Table, found: &mut Found) {
    let Some(mut entry) = table.take("token_bucket") else { return };
    if table.states("rate_limit") {
        found.beside(&entry, "rate_limit");
    }
    if let Value::Table(bucket) = &mut entry.value.value {
        words(bucket, "token_bucket", found);
    }
    table.set("rate_limit", entry.value);
}

/// `10%`, `{percent, minRetriesPerSecond, ttl}` or the crate's own form.
fn retry_budget(table: &mut Table, key: &str, found: &mut Found) {
    let Some(node) = table.get_mut(key) else { return };
    let place = node.place.clone();
    let shares = match &node.value {
        Value::Integer(_) | Value::Float(_) => Some(Value::Float(node.as_f64().unwrap_or(-1.0))),
        Value::String(text) => match text.strip_suffix('%').map(str::trim).map(str::parse::<f64>) {
            Some(Ok(percent)) => Some(Value::Float(percent / 100.0)),
            _ => None,
        },
        _ => None,
    };
    if let Some(share) = shares {
        node.value = choice("ratio", [("ratio", Node::new(share, place.clone()))], &place);
        return;
    }
    let Value::Table(budget) = &mut node.value else { return };
    let is_ours = ["ratio", "throttling", "unlimited"].iter().any(|key| budget.get(key).is_some());
    if is_ours {
        return;
    }
    let mut ratio = Table::default();
    if let Some(entry) = budget.take("percent") {
        let value =
            Node::new(percent(&entry.value, "retry_budget.percent", found), entry.value.place);
        ratio.set("ratio", value);
    }
    let window = budget.take("ttl");
    if let Some(entry) = budget.take("min_retries_per_second") {
        let seconds = match window.as_ref().map(|window| &window.value) {
            None => Some(10.0),
            Some(window) => seconds(window),
        };
        let reserve = entry.value.as_f64().zip(seconds).map(|(rate, seconds)| rate * seconds);
        match reserve {
            #[expect(clippy::cast_possible_truncation, reason = "a number of retries, in range")]
            Some(n) if (0.0..1e9).contains(&n) => {
                let reserve = Value::Integer(n.round() as i64);
                ratio.set("reserve", Node::new(reserve, entry.value.place));
            }
            _ => {
                let expected = "a number of retries per second, from 0";
                found.problems.push(entry.value.problem("retry_budget", expected));
            }
        }
    }
    if let Some(entry) = window {
        ratio.set("window", entry.value);
    }
    if ratio.entries.is_empty() {
        return;
    }
    // What is left is unknown, and refused by name.
    ratio.entries.append(&mut budget.entries);
    let mut whole = Table::default();
    whole.set("ratio", Node::new(Value::Table(ratio), place));
    node.value = Value::Table(whole);
}

fn seconds(node: &Node) -> Option<f64> {
    let text = node.as_str()?;
    let plain = text.strip_suffix('s').and_then(|n| n.parse().ok());
    plain.or_else(|| humantime::parse_duration(text).ok().map(|d| d.as_secs_f64()))
}

/// A table with a single key, which holds `fields`.
fn choice<const N: usize>(
    name: &str,
    fields: [(&str, Node); N],
    place: &crate::document::Place,
) -> Value {
    let mut inner = Table::default();
    for (field, value) in fields {
        inner.set(field, value);
    }
    let mut outer = Table::default();
    outer.set(name, Node::new(Value::Table(inner), place.clone()));
    Value::Table(outer)
}

/// gRPC's `retryPolicy` and `hedgingPolicy` (gRFC A6): one of them, never both.
fn grpc_retry(table: &mut Table, found: &mut Found) {
    let mut stated = |key| {
        let entry: Option<Entry> = table.take(key);
        entry.filter(|entry| !matches!(entry.value.value, Value::Null))
    };
    let (retry, hedging) = (stated("retry_policy"), stated("hedging_policy"));
    if let (Some(_), Some(hedging)) = (&retry, &hedging) {
        let message = "stands beside `retryPolicy`; gRPC allows one of them";
        found.problems.push(Problem::new(&hedging.key_place, "hedgingPolicy", message));
    }
    let Some(entry) = retry.or(hedging) else { return };
    for ours in ["retry", "hedging"] {
        if table.states(ours) {
            found.beside(&entry, ours);
        }
    }
    let is_hedging = entry.key == "hedging_policy";
    let place = entry.value.place.clone();
    let Value::Table(mut grpc) = entry.value.value else {
        found.problems.push(entry.value.problem(entry.key, "a table"));
        return;
    };
    as_protobuf(&mut grpc, &["max_attempts", "backoff_multiplier"]);
    let mut retry = Table::default();
    let mode = if is_hedging { "mixed" } else { "failure" };
    retry.set("mode", Node::new(Value::String(mode.to_owned()), place.clone()));
    if let Some(attempts) = grpc.take("max_attempts") {
        retry.set("retries", attempts_to_retries(&attempts.value, found));
    } else {
        found.problems.push(Problem::new(&place, "maxAttempts", "is missing"));
    }
    let codes = if is_hedging { "non_fatal_status_codes" } else { "retryable_status_codes" };
    let codes = grpc.take(codes).map(|entry| entry.value);
    let mut codes = codes.unwrap_or_else(|| Node::new(Value::List(Vec::new()), place.clone()));
    if !is_hedging && matches!(&codes.value, Value::List(codes) if codes.is_empty()) {
        let missing = "is empty; gRPC wants at least one code";
        found.problems.push(Problem::new(&codes.place, "retryableStatusCodes", missing));
    } else {
        codes_as_text(&mut codes);
        retry.set("retryable_status_codes", codes);
    }
    if is_hedging {
        let delay = grpc.take("hedging_delay").map(|entry| entry.value);
        let none = || Node::new(Value::String("0s".to_owned()), place.clone());
        let delay = delay.unwrap_or_else(none);
        let mut fixed = Table::default();
        fixed.set("fixed", delay);
        retry.set("backup_delay", Node::new(Value::Table(fixed), place.clone()));
    } else {
        retry.set("backoff", backoff(&mut grpc, &place, found));
    }
    // What is left is unknown, and refused by name.
    for entry in grpc.entries {
        found.problems.push(Problem::new(&entry.key_place, entry.key, "is no setting of gRPC's"));
    }
    table.set("retry", Node::new(Value::Table(retry), place));
}

/// gRPC counts the first attempt, and cuts what is above its cap of 5.
fn attempts_to_retries(attempts: &Node, found: &mut Found) -> Node {
    let retries = match attempts.value {
        Value::Integer(n) if n > 5 => {
            let note = format!("is {n}; gRPC cuts it to 5");
            found.notes.push(Problem::new(&attempts.place, "maxAttempts", note));
            4
        }
        Value::Integer(n) if n >= 2 => n - 1,
        _ => {
            found.problems.push(attempts.problem("maxAttempts", "a number of at least 2"));
            1
        }
    };
    Node::new(Value::Integer(retries), attempts.place.clone())
}

/// `min(initialBackoff * multiplier^n, maxBackoff)`, give or take a fifth.
fn backoff(grpc: &mut Table, place: &crate::document::Place, found: &mut Found) -> Node {
    let mut exponential = Table::default();
    for (theirs, ours) in
        [("initial_backoff", "base"), ("max_backoff", "max"), ("backoff_multiplier", "factor")]
    {
        match grpc.take(theirs) {
            Some(entry) => exponential.set(ours, entry.value),
            None => found.problems.push(Problem::new(place, theirs, "is missing")),
        }
    }
    let both = |key| exponential.get(key).and_then(seconds);
    if let (Some(base), Some(max)) = (both("base"), both("max"))
        && base > max
        && let Some(max) = exponential.get("max").cloned()
    {
        exponential.set("base", max);
    }
    let mut spread = Table::default();
    spread.set("spread", Node::new(Value::Float(0.2), place.clone()));
    exponential.set("jitter", Node::new(Value::Table(spread), place.clone()));
    let mut backoff = Table::default();
    backoff.set("exponential", Node::new(Value::Table(exponential), place.clone()));
    Node::new(Value::Table(backoff), place.clone())
}

/// `hedging: {delayQuantile, maxExtraLoad, minDelay}`: a backup request by a live quantile.
fn hedging(table: &mut Table, found: &mut Found) {
    let Some(entry) = table.take("hedging") else { return };
    let place = entry.value.place.clone();
    let Some(mut hedging) = entry.value.as_table().cloned() else {
        found.problems.push(entry.value.problem("hedging", "a table"));
        return;
    };
    let mut quantile = Table::default();
    for (theirs, ours) in
        [("delay_quantile", "quantile"), ("min_delay", "floor"), ("max_delay", "ceiling")]
    {
        if let Some(entry) = hedging.take(theirs) {
            quantile.set(ours, entry.value);
        }
    }
    let mut retry = match table.take("retry").map(|entry| entry.value.value) {
        Some(Value::Table(retry)) => retry,
        _ => Table::default(),
    };
    for ours in ["mode", "backup_delay"] {
        if retry.states(ours) {
            found.beside(&entry, "retry");
        }
    }
    hedging.entries.retain(|entry| {
        let is_twice = retry.states(&entry.key);
        if is_twice {
            found.beside(entry, "retry");
        }
        !is_twice
    });
    retry.set("mode", Node::new(Value::String("backup".to_owned()), place.clone()));
    let mut delay = Table::default();
    delay.set("quantile", Node::new(Value::Table(quantile), place.clone()));
    retry.set("backup_delay", Node::new(Value::Table(delay), place.clone()));
    if let Some(load) = hedging.take("max_extra_load") {
        let note = "is the budget of the whole service, for retries and backup requests";
        found.notes.push(Problem::new(&load.key_place, "maxExtraLoad", note));
        table.set(MAX_EXTRA_LOAD, load.value);
    }
    // `idempotent` and what else a retry knows; the unknown is refused by name.
    retry.entries.append(&mut hedging.entries);
    table.set("retry", Node::new(Value::Table(retry), place));
}
