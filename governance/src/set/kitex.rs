//! Kitex's governance documents, as its config-center extensions keep them.

use std::sync::Arc;

use super::{Found, PolicySet, Scopes, ServiceScope, merge::merge};
use crate::{
    Format, InvalidPolicies, Problem,
    document::{self, Entry, Node, Place, Table, Value},
};

/// Kitex's JSON of one client and server: `rpc_timeout`, `retry`, `circuit_break` (each a table of
/// methods, `*` for all), `degradation` and `limit`.
///
/// | Kitex | here |
/// | --- | --- |
/// | `rpc_timeout_ms` | `attempt_timeout`: in Kitex too, each attempt has it for itself |
/// | `conn_timeout_ms` | `balance.connect_timeout`, from `*` alone: connections serve all methods |
/// | `failure_policy`, `backup_policy`, `mixed_policy` | `retry`, with stop policy and back-off |
/// | time-outs, and failures where code adds a predicate | both are sent again |
/// | `max_retry_times` is missing | `retries: 0`; a note says so |
/// | `cb_policy.error_rate` | nothing: a budget of calls bounds retries, not their error rate |
/// | `retry_same_node` | nothing: a further attempt goes elsewhere where there is another node |
/// | `enable: false`, or none | `enforcement: disabled`; whatever else stands there is not needed |
/// | `err_rate`, `min_sample` | `circuit_breaker.error_rate` |
/// | `qps_limit` | `server.rate_limit`, with a burst of a tenth: Kitex's steps of 100 ms |
/// | `connection_limit` | `server.connection_limit` |
/// | `degradation` | nothing: calls dropped at random; a note says so |
/// | a method that `circuit_break` does not name | no breaker, where Kitex has its default one |
///
/// What Kitex can state in code alone can be added in a file of ours: instance breaker, balancing,
/// half-open settings, fallback.
///
/// A method's entry in a document stands alone: nothing of `*` adds to it. A method that a document
/// no longer names falls back to `*`, and else to no policy: never to a
/// policy that nobody wrote.
#[derive(Clone, Debug, Default)]
pub struct KitexConfig {
    service: String,
    documents: Vec<(KitexDocument, String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum KitexDocument {
    RpcTimeout,
    Retry,
    CircuitBreak,
    Degradation,
    Limit,
    /// What `config-file` holds of this client.
    File(String),
}

impl KitexConfig {
    /// Documents for the calls to `service`; the methods of this service are those they name.
    #[must_use]
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), documents: Vec::new() }
    }

    fn with(mut self, document: KitexDocument, name: &str, json: &str) -> Self {
        self.documents.push((document, name.to_owned(), json.to_owned()));
        self
    }

    /// Adds `/KitexConfig/{client}/{server}/rpc_timeout`.
    #[must_use]
    pub fn rpc_timeout(self, json: &str) -> Self {
        self.with(KitexDocument::RpcTimeout, "rpc_timeout", json)
    }

    /// Adds `/KitexConfig/{client}/{server}/retry`.
    #[must_use]
    pub fn retry(self, json: &str) -> Self {
        self.with(KitexDocument::Retry, "retry", json)
    }

    /// Adds `/KitexConfig/{client}/{server}/circuit_break`.
    #[must_use]
    pub fn circuit_break(self, json: &str) -> Self {
        self.with(KitexDocument::CircuitBreak, "circuit_break", json)
    }

    /// Adds `/KitexConfig/{client}/{server}/degradation`.
    #[must_use]
    pub fn degradation(self, json: &str) -> Self {
        self.with(KitexDocument::Degradation, "degradation", json)
    }

    /// Adds `/KitexConfig/{server}/limit`.
    #[must_use]
    pub fn limit(self, json: &str) -> Self {
        self.with(KitexDocument::Limit, "limit", json)
    }

    /// Adds a file of Kitex's `config-file`: of its entries those for the calls of `client` to the
    /// service, `{client}/{server}`, and for the service itself, `{server}`.
    #[must_use]
    pub fn file(self, client: &str, json: &str) -> Self {
        self.with(KitexDocument::File(client.to_owned()), "config-file", json)
    }

    /// Translates the documents.
    ///
    /// # Errors
    ///
    /// Says everything that is wrong with them, each with document, line, column and field.
    pub fn into_set(self) -> Result<PolicySet, InvalidPolicies> {
        let mut found = Found::default();
        let mut scopes = Scopes::default();
        let mut service = ServiceScope {
            name: self.service,
            settings: Table::default(),
            methods: Vec::new(),
            precedence: super::Precedence::Sections,
        };
        for (document, name, json) in &self.documents {
            let root = document::parse(name, json, Format::Json)?;
            let parts = match document {
                KitexDocument::File(client) => of_file(&root, client, &service.name, &mut found),
                document => vec![(document.clone(), name.clone(), root)],
            };
            for (document, name, root) in parts {
                let Value::Table(entries) = root.value else {
                    found.problems.push(root.problem(name, "a table"));
                    continue;
                };
                match document {
                    KitexDocument::Limit => limit(entries, &mut scopes.server, &mut found),
                    KitexDocument::Degradation => {
                        let note = "drops calls at random, which nothing here does: left out";
                        found.notes.push(Problem::new(&root.place, "degradation", note));
                    }
                    _ => entries.entries.iter().for_each(|entry| {
                        method(&document, entry, &mut service, &mut found);
                    }),
                }
            }
        }
        scopes.services.push(service);
        let set = scopes.into_set(&mut found);
        if found.problems.is_empty() {
            Ok(PolicySet { notes: found.notes, ..set })
        } else {
            Err(InvalidPolicies::new(found.problems))
        }
    }
}

/// The documents that one file holds for the calls of `client` to `service`.
fn of_file(
    root: &Node,
    client: &str,
    service: &str,
    found: &mut Found,
) -> Vec<(KitexDocument, String, Node)> {
    const PARTS: [(&str, KitexDocument); 5] = [
        ("timeout", KitexDocument::RpcTimeout),
        ("retry", KitexDocument::Retry),
        ("circuitbreaker", KitexDocument::CircuitBreak),
        ("degradation", KitexDocument::Degradation),
        ("limit", KitexDocument::Limit),
    ];
    let names = [format!("{client}/{service}"), service.to_owned()];
    let entries: Vec<&Entry> = root
        .as_table()
        .map(|table| table.entries.iter().filter(|entry| names.contains(&entry.key)).collect())
        .unwrap_or_default();
    if entries.is_empty() {
        let message = format!("holds neither `{}` nor `{}`", names[0], names[1]);
        found.problems.push(Problem::new(&root.place, "config-file", message));
    }
    let mut parts = Vec::new();
    for entry in entries {
        let mut table = entry.value.as_table().cloned().unwrap_or_default();
        for (name, document) in PARTS {
            if let Some(part) = table.take(name) {
                parts.push((document, name.to_owned(), part.value));
            }
        }
        unknown(table, &PARTS.map(|(name, _)| name), found);
    }
    parts
}

fn method(document: &KitexDocument, entry: &Entry, service: &mut ServiceScope, found: &mut Found) {
    let scope = match entry.key.as_str() {
        "*" => service.name.clone(),
        method => format!("{}/{method}", service.name),
    };
    let mut node = entry.value.clone();
    node.label(&Arc::from(scope));
    let Value::Table(theirs) = node.value else {
        found.problems.push(entry.value.problem(&entry.key, "a table"));
        return;
    };
    let mut ours = Table::default();
    let is_all = entry.key == "*";
    match document {
        KitexDocument::RpcTimeout => rpc_timeout(theirs, &node.place, is_all, &mut ours, found),
        KitexDocument::Retry => ours.set("retry", retry(theirs, &node.place, found)),
        KitexDocument::CircuitBreak => {
            ours.set("circuit_breaker", circuit_break(theirs, &node.place, found));
        }
        KitexDocument::Degradation | KitexDocument::Limit | KitexDocument::File(_) => {}
    }
    if is_all {
        service.settings = merge(&service.settings, &ours);
    } else if let Some((_, own)) = service.methods.iter_mut().find(|(name, _)| *name == entry.key) {
        *own = merge(own, &ours);
    } else {
        service.methods.push((entry.key.clone(), ours));
    }
}

fn milliseconds(node: &Node) -> Node {
    let value = match node.value {
        Value::Integer(ms) if ms >= 0 => Value::String(format!("{ms}ms")),
        // Refused where it is read.
        _ => node.value.clone(),
    };
    Node::new(value, node.place.clone())
}

fn table(place: &Place, fields: impl IntoIterator<Item = (&'static str, Node)>) -> Node {
    let mut table = Table::default();
    for (field, value) in fields {
        table.set(field, value);
    }
    Node::new(Value::Table(table), place.clone())
}

fn text(value: &str, place: &Place) -> Node {
    Node::new(Value::String(value.to_owned()), place.clone())
}

fn unknown(left: Table, known: &[&str], found: &mut Found) {
    for entry in left.entries {
        let problem = Problem::new(&entry.key_place, &entry.key, "is no setting of Kitex's here");
        found.problems.push(problem.help(crate::problem::nearest(&entry.key, known)));
    }
}

fn rpc_timeout(
    mut theirs: Table,
    place: &Place,
    is_all: bool,
    ours: &mut Table,
    found: &mut Found,
) {
    // 0 is Kitex's way to say: none. So it reads what is missing.
    let stated = theirs.take("rpc_timeout_ms").map(|entry| entry.value);
    let timeout = match stated.filter(|node| !matches!(node.value, Value::Integer(0))) {
        Some(stated) => table(&stated.place, [("timeout", milliseconds(&stated))]),
        None => Node::new(Value::Null, place.clone()),
    };
    ours.set("attempt_timeout", timeout);
    if let Some(entry) = theirs.take("conn_timeout_ms") {
        if is_all {
            let place = entry.value.place.clone();
            let connect = milliseconds(&entry.value);
            ours.set("balance", table(&place, [("connect_timeout", connect)]));
        } else {
            let note = "is left out: connections serve all methods; state it for `*`";
            found.notes.push(Problem::new(&entry.key_place, "conn_timeout_ms", note));
        }
    }
    unknown(theirs, &["rpc_timeout_ms", "conn_timeout_ms"], found);
}

fn disabled(place: &Place) -> (&'static str, Node) {
    ("enforcement", text("disabled", place))
}

/// What Kitex does not find enabled is off.
fn is_off(theirs: &mut Table, place: &Place, found: &mut Found) -> bool {
    let Some(enable) = theirs.take("enable") else {
        let note = "is missing: switched off, as Kitex reads it";
        found.notes.push(Problem::new(place, "enable", note));
        return true;
    };
    let Value::Bool(enabled) = enable.value.value else {
        found.problems.push(enable.value.problem("enable", "`true` or `false`"));
        return false;
    };
    !enabled
}

/// Kitex numbers its kinds: 0 failure, 1 backup, 2 mixed.
fn retry(mut theirs: Table, place: &Place, found: &mut Found) -> Node {
    let mode = text("failure", place);
    if is_off(&mut theirs, place, found) {
        return table(place, [("mode", mode), disabled(place)]);
    }
    let kind = match theirs.take("type").map(|entry| entry.value) {
        None => 0,
        Some(Node { value: Value::Integer(kind @ 0..=2), .. }) => kind,
        Some(other) => {
            found.problems.push(other.problem("type", "0 (failure), 1 (backup) or 2 (mixed)"));
            0
        }
    };
    let names = ["failure_policy", "backup_policy", "mixed_policy"];
    let modes = ["failure", "backup", "mixed"];
    let at = usize::try_from(kind).unwrap_or(0);
    let Some(Entry { value: Node { value: Value::Table(mut policy), place }, .. }) =
        theirs.take(names[at])
    else {
        found.problems.push(Problem::new(place, names[at], "is missing"));
        return table(place, [("mode", mode)]);
    };
    // What of the other kinds stands beside it does not count in Kitex either.
    for name in names {
        theirs.take(name);
    }
    unknown(theirs, &["enable", "type", names[0], names[1], names[2]], found);
    let mut ours = Table::default();
    ours.set("mode", text(modes[at], &place));
    // Kitex sends a time-out again: who writes such a policy has declared the method.
    ours.set("idempotent", Node::new(Value::Bool(true), place.clone()));
    if let Some(delay) = policy.take("retry_delay_ms") {
        let fixed = table(&delay.value.place, [("fixed", milliseconds(&delay.value))]);
        ours.set("backup_delay", fixed);
    }
    if let Some(Entry { value: Node { value: Value::Table(stop), .. }, .. }) =
        policy.take("stop_policy")
    {
        stop_policy(stop, &mut ours, found);
    }
    if ours.get("retries").is_none() {
        let note = "is missing: 0, so that nothing is sent again, as Kitex reads it";
        found.notes.push(Problem::new(&place, "max_retry_times", note));
        ours.set("retries", Node::new(Value::Integer(0), place.clone()));
    }
    if let Some(Entry { value: Node { value: Value::Table(backoff), place }, .. }) =
        policy.take("backoff_policy")
    {
        ours.set("backoff", back_off(backoff, &place, found));
    } else if at == 0 {
        // Without one, Kitex does not wait.
        ours.set("backoff", text("none", &place));
    }
    if let Some(entry) = policy.take("retry_same_node") {
        let note = "is left out: a further attempt goes to another node where there is one";
        if matches!(entry.value.value, Value::Bool(true)) {
            found.notes.push(Problem::new(&entry.key_place, "retry_same_node", note));
        }
    }
    policy.take("extra");
    unknown(policy, &["stop_policy", "backoff_policy", "retry_delay_ms"], found);
    Node::new(Value::Table(ours), place)
}

fn stop_policy(mut stop: Table, ours: &mut Table, found: &mut Found) {
    if let Some(entry) = stop.take("max_retry_times") {
        ours.set("retries", entry.value);
    }
    if let Some(entry) = stop.take("max_duration_ms") {
        // 0 is Kitex's way to say: no limit.
        if !matches!(entry.value.value, Value::Integer(0)) {
            ours.set("max_duration", milliseconds(&entry.value));
        }
    }
    if let Some(entry) = stop.take("disable_chain_stop") {
        let stops = match entry.value.value {
            Value::Bool(disabled) => Value::Bool(!disabled),
            ref other => other.clone(),
        };
        ours.set("chain_stop", Node::new(stops, entry.value.place));
    }
    stop.take("ddl_stop");
    if let Some(entry) = stop.take("cb_policy") {
        let note = "is left out: the retry budget of the service bounds what retries add";
        found.notes.push(Problem::new(&entry.key_place, "cb_policy", note));
    }
    unknown(
        stop,
        &["max_retry_times", "max_duration_ms", "disable_chain_stop", "ddl_stop", "cb_policy"],
        found,
    );
}

fn back_off(mut backoff: Table, place: &Place, found: &mut Found) -> Node {
    let kind = backoff.take("backoff_type");
    let items = backoff.take("cfg_items").map(|entry| entry.value);
    let item = |name: &str| {
        let node = items.as_ref().and_then(Node::as_table).and_then(|items| items.get(name));
        node.map_or_else(|| text("0s", place), milliseconds)
    };
    match kind.as_ref().and_then(|kind| kind.value.as_str()) {
        None | Some("none") => text("none", place),
        Some("fixed") => {
            let fixed = table(place, [("delay", item("fix_ms"))]);
            table(place, [("fixed", fixed)])
        }
        Some("random") => {
            let random = table(place, [("min", item("min_ms")), ("max", item("max_ms"))]);
            table(place, [("random", random)])
        }
        Some(_) => {
            let node = kind.map_or_else(|| text("", place), |kind| kind.value);
            found.problems.push(node.problem("backoff_type", "none, fixed or random"));
            text("none", place)
        }
    }
}

fn circuit_break(mut theirs: Table, place: &Place, found: &mut Found) -> Node {
    let is_off = is_off(&mut theirs, place, found);
    let mut rate = Table::default();
    for (name, field) in [("err_rate", "rate"), ("min_sample", "minimum_calls")] {
        if let Some(entry) = theirs.take(name) {
            rate.set(field, entry.value);
        }
    }
    unknown(theirs, &["enable", "err_rate", "min_sample"], found);
    if is_off {
        return table(place, [disabled(place)]);
    }
    if rate.entries.is_empty() {
        return table(place, []);
    }
    table(place, [("error_rate", Node::new(Value::Table(rate), place.clone()))])
}

/// Kitex hands out its tokens in steps of 100 ms.
const STEPS_PER_SECOND: i64 = 10;

/// 0 is Kitex's way to say: no limit.
fn limit(mut theirs: Table, server: &mut Table, found: &mut Found) {
    if let Some(entry) = theirs.take("connection_limit")
        && !matches!(entry.value.value, Value::Integer(0))
    {
        let place = entry.value.place.clone();
        server.set("connection_limit", table(&place, [("limit", entry.value)]));
    }
    if let Some(entry) = theirs.take("qps_limit")
        && !matches!(entry.value.value, Value::Integer(0))
    {
        let place = entry.value.place.clone();
        let burst = match entry.value.value {
            Value::Integer(rate) => (rate / STEPS_PER_SECOND).max(1),
            _ => 1,
        };
        let burst = Node::new(Value::Integer(burst), place.clone());
        server.set("rate_limit", table(&place, [("rate", entry.value), ("burst", burst)]));
    }
    unknown(theirs, &["connection_limit", "qps_limit"], found);
}
