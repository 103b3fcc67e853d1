//! All policies of a file.

mod breaker;
mod error;
mod grpc;
mod kitex;
mod merge;
mod server;
mod translate;
mod words;

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use outrigger_core::{Method, MethodRef, PerMethod};

#[cfg(feature = "schema")]
pub(crate) use self::words::{CHANNELS_OWN, Form, SHORT, WORDS};
pub use self::{error::LoadError, kitex::KitexConfig, server::ServerPolicy};
use self::{
    merge::merge,
    translate::{Found, snake},
};
use crate::{
    InvalidPolicies, MethodPolicy, Problem, ServicePolicy,
    document::{self, Entry, Node, Table, Value},
    problem::nearest,
};

/// How a policy file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// RFC 8259, nothing looser.
    Json,
    /// YAML 1.2.
    Yaml,
    /// TOML 1.
    Toml,
}

/// The policies of a file: what each method and service is governed by.
///
/// An exact method comes before its service, and that before the defaults, merged field by field.
/// A gRPC service config keeps gRPC's rule: the most exact entry of `methodConfig` counts alone, also
/// over that for every method (`"name": [{}]`). Below each stand our own `defaults`, if there are any.
///
/// ```
/// use std::time::Duration;
///
/// use outrigger::{Format, PolicySet};
/// use outrigger::core::MethodRef;
///
/// let set = PolicySet::parse(
///     "policies.yaml",
///     "
/// defaults:
///   timeout: 1s
///   circuit_breaker: {}
/// services:
///   shop.Cart:
///     methods:
///       Get: {timeout: 200ms}
/// ",
///     Format::Yaml,
/// )?;
/// let get = set.method(MethodRef { service: "shop.Cart", method: "Get" });
/// assert_eq!(get.timeout().unwrap().timeout(), Some(Duration::from_millis(200)));
/// assert!(get.circuit_breaker().is_some());
/// # Ok::<_, outrigger::InvalidPolicies>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    methods: PerMethod<Arc<MethodPolicy>>,
    named: Vec<Method>,
    services: HashMap<Box<str>, Arc<ServicePolicy>>,
    service_default: Arc<ServicePolicy>,
    server: ServerPolicy,
    notes: Vec<Problem>,
}

impl PolicySet {
    /// Reads a text; `name` is what it is called in messages.
    ///
    /// # Errors
    ///
    /// Says everything that is wrong with it, each with line, column, field and value.
    pub fn parse(name: &str, text: &str, format: Format) -> Result<Self, InvalidPolicies> {
        let root = document::parse(name, text, format)?;
        let mut found = Found::default();
        let set = Scopes::read(&root, &mut found).into_set(&mut found);
        if found.problems.is_empty() {
            Ok(Self { notes: found.notes, ..set })
        } else {
            Err(InvalidPolicies::new(found.problems))
        }
    }

    /// Reads a file, in the format that its extension tells: `json`, `yaml`, `yml` or `toml`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, its extension is another, or its content is invalid.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let format = document::format_of(path);
        let format = format.ok_or_else(|| LoadError::Extension(name.clone().into()))?;
        let text = fs::read_to_string(path)
            .map_err(|error| LoadError::File(name.clone().into(), error))?;
        Ok(Self::parse(&name, &text, format)?)
    }

    /// What governs `method`.
    #[must_use]
    pub fn method(&self, method: MethodRef<'_>) -> &MethodPolicy {
        self.methods.get(Some(method))
    }

    pub(crate) fn method_shared(&self, method: Option<MethodRef<'_>>) -> &Arc<MethodPolicy> {
        self.methods.get(method)
    }

    /// What governs the calls to `service` together.
    #[must_use]
    pub fn service(&self, service: &str) -> &ServicePolicy {
        self.services.get(service).unwrap_or(&self.service_default)
    }

    /// What governs a whole server.
    #[must_use]
    pub const fn server(&self) -> &ServerPolicy {
        &self.server
    }

    /// The methods that the file names, in its order.
    #[must_use]
    pub fn named_methods(&self) -> &[Method] {
        &self.named
    }

    /// What was read, but not quite as it was written, such as a `maxAttempts` that was cut.
    #[must_use]
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }
}

/// The scopes of a file, each in the settings of the crates.
#[derive(Default)]
struct Scopes {
    defaults: Table,
    /// gRPC's entry for every method that has no other.
    every_other: Option<Table>,
    services: Vec<ServiceScope>,
    server: Table,
}

struct ServiceScope {
    name: String,
    settings: Table,
    methods: Vec<(String, Table)>,
    precedence: Precedence,
}

/// How the scopes of a service stand to each other.
#[derive(Clone, Copy)]
enum Precedence {
    /// The more exact is merged over the wider.
    Merged,
    /// A section of the more exact stands alone, as in each of Kitex's documents.
    Sections,
    /// The most exact counts alone.
    Grpc {
        /// Whether there is one for the service as a whole.
        has_own: bool,
    },
}

pub(crate) const TOP: [&str; 13] = [
    "defaults",
    "services",
    "templates",
    "server",
    "retry_budget",
    "balance",
    "method_config",
    "retry_throttling",
    "load_balancing_config",
    "load_balancing_policy",
    "health_check_config",
    "$schema",
    "version",
];

/// What can stand in `server`.
pub(crate) const SERVER: [&str; 5] =
    ["connection_limit", "concurrency_limit", "adaptive_limit", "rate_limit", "enforcement"];

impl Scopes {
    fn read(root: &Node, found: &mut Found) -> Self {
        let Value::Table(top) = &root.value else {
            found.problems.push(root.problem("", "a table of `defaults`, `services` and the like"));
            return Self::default();
        };
        let mut scopes = Self::default();
        let mut parts: HashMap<String, Entry> = HashMap::new();
        for entry in &top.entries {
            let key = snake(&entry.key);
            if TOP.contains(&key.as_str()) {
                // One whose settings are all commented out, or unset in protobuf's JSON.
                if !matches!(entry.value.value, Value::Null)
                    && let Some(first) = parts.insert(key, entry.clone())
                {
                    found.beside(entry, &first.key);
                }
            } else {
                let problem = Problem::new(&entry.key_place, &entry.key, "is no setting here");
                found.problems.push(problem.help(nearest(&key, &TOP)));
            }
        }
        let templates = templates(parts.get("templates"), found);
        if let Some(entry) = parts.get("defaults") {
            scopes.defaults = settings(&entry.value, "defaults", &templates, found);
        }
        top_level(&mut scopes.defaults, &parts, found);
        if let Some(entry) = parts.get("server") {
            scopes.server = settings(&entry.value, "server", &templates, found);
        }
        match (parts.get("services"), parts.get("method_config")) {
            (Some(_), Some(config)) => {
                let message = "stands beside `services`; write the methods in one form";
                found.problems.push(Problem::new(&config.key_place, "methodConfig", message));
            }
            (Some(services), None) => scopes.services = short_form(services, &templates, found),
            (None, Some(config)) => scopes.grpc_form(config, &templates, found),
            (None, None) => {}
        }
        scopes
    }

    fn grpc_form(&mut self, config: &Entry, templates: &[(String, Table)], found: &mut Found) {
        for config in grpc::method_configs(&config.value, found) {
            let names = config.names.iter();
            // A config that nobody bears is still checked.
            let nobody = config.names.is_empty().then_some(None);
            for name in names.map(Some).chain(nobody) {
                let scope = match name {
                    None => "methodConfig".to_owned(),
                    Some(name) if name.service.is_empty() => {
                        "methodConfig: every method".to_owned()
                    }
                    Some(name) if name.method.is_empty() => name.service.clone(),
                    Some(name) => format!("{}/{}", name.service, name.method),
                };
                let settings = settings(&config.settings, &scope, templates, found);
                let Some(name) = name else {
                    let settings = without_load(settings);
                    MethodPolicy::read(settings, "methodConfig", &mut found.problems);
                    continue;
                };
                if name.service.is_empty() {
                    self.every_other = Some(settings);
                    continue;
                }
                let service = self.service(&name.service);
                if name.method.is_empty() {
                    service.settings = settings;
                    service.precedence = Precedence::Grpc { has_own: true };
                } else {
                    service.methods.push((name.method.clone(), settings));
                }
            }
        }
    }

    fn service(&mut self, name: &str) -> &mut ServiceScope {
        let at = self.services.iter().position(|service| service.name == name);
        let at = at.unwrap_or_else(|| {
            let (settings, methods) = (Table::default(), Vec::new());
            self.services.push(ServiceScope {
                name: name.to_owned(),
                settings,
                methods,
                precedence: Precedence::Grpc { has_own: false },
            });
            self.services.len() - 1
        });
        &mut self.services[at]
    }

    /// A load that a method states is its service's budget, if that states none.
    fn lift_loads(&mut self) {
        lift_load(&mut self.defaults, None);
        if let Some(every_other) = &mut self.every_other {
            lift_load(every_other, None);
        }
        for ServiceScope { settings, methods, .. } in &mut self.services {
            lift_load(settings, None);
            for (_, method) in methods {
                lift_load(method, Some(settings));
            }
        }
    }

    fn into_set(mut self, found: &mut Found) -> PolicySet {
        self.lift_loads();
        let problems = &mut found.problems;
        let every_other = match &self.every_other {
            Some(settings) => merge(&self.defaults, settings),
            None => self.defaults.clone(),
        };
        let default = MethodPolicy::read(every_other.clone(), "defaults", problems);
        let mut methods = PerMethod::new(Arc::new(default));
        let mut named = Vec::new();
        let mut services = HashMap::new();
        for service in &self.services {
            let of_service = merge(&every_other, &service.settings);
            let policy = ServicePolicy::read(&of_service, &service.name, problems);
            services.insert(service.name.as_str().into(), Arc::new(policy));
            // Before its methods', so that what is wrong with it is said of the service.
            let merged = match service.precedence {
                Precedence::Grpc { has_own: false } => every_other.clone(),
                _ => merge(&self.defaults, &service.settings),
            };
            let policy = MethodPolicy::read(merged.clone(), &service.name, problems);
            methods = methods.with_service(&service.name, Arc::new(policy));
            for (name, own) in &service.methods {
                let method = Method::new(&service.name, name);
                for key in ["retry_budget", "balance"] {
                    if let Some(entry) = own.entry(key) {
                        let field = format!("{method}.{key}");
                        let message = "is shared by all methods; state it for the service";
                        problems.push(Problem::new(&entry.key_place, field, message));
                    }
                }
                let settings = match service.precedence {
                    Precedence::Grpc { .. } => merge(&self.defaults, own),
                    Precedence::Merged => merge(&merged, own),
                    Precedence::Sections => {
                        let mut wider = merged.clone();
                        wider.entries.retain(|entry| own.get(&entry.key).is_none());
                        merge(&wider, own)
                    }
                };
                let policy = MethodPolicy::read(settings, method.as_str(), problems);
                methods = methods.with_method(method.clone(), Arc::new(policy));
                named.push(method);
            }
        }
        let service_default = Arc::new(ServicePolicy::read(&every_other, "defaults", problems));
        let server = ServerPolicy::read(&self.server, problems);
        PolicySet { methods, named, services, service_default, server, notes: Vec::new() }
    }
}

/// Copies a scope, translates it, and lets its templates stand below it.
fn settings(node: &Node, scope: &str, templates: &[(String, Table)], found: &mut Found) -> Table {
    let mut node = node.clone();
    node.label(&Arc::from(scope));
    translate::snake_case(&mut node, found);
    let problem = || node.problem(scope, "a table of settings");
    let Value::Table(mut table) = node.value else {
        if !matches!(node.value, Value::Null) {
            found.problems.push(problem());
        }
        return Table::default();
    };
    translate::scope(&mut table, found);
    let Some(used) = table.take("use") else { return merge(&Table::default(), &table) };
    if scope.starts_with(TEMPLATE) {
        let message = "stands in a template; a template uses no other";
        found.problems.push(Problem::new(&used.key_place, format!("{scope}.use"), message));
        return table;
    }
    let names = match &used.value.value {
        Value::List(names) => names.iter().collect(),
        _ => vec![&used.value],
    };
    let mut below = Table::default();
    for name in names {
        let template = templates.iter().find(|(known, _)| Some(known.as_str()) == name.as_str());
        if let Some((_, template)) = template {
            below = merge(&below, template);
        } else {
            let known: Vec<&str> = templates.iter().map(|(name, _)| name.as_str()).collect();
            let problem = name.problem(format!("{scope}.use"), "the name of a template");
            found.problems.push(problem.help(nearest(name.as_str().unwrap_or_default(), &known)));
        }
    }
    merge(&below, &table)
}

fn lift_load(from: &mut Table, service: Option<&mut Table>) {
    let Some(load) = from.take(translate::MAX_EXTRA_LOAD) else { return };
    let into = service.unwrap_or(from);
    if into.get("retry_budget").is_none() {
        into.entries.push(Entry { key: "retry_budget".to_owned(), ..load });
    }
}

fn without_load(mut settings: Table) -> Table {
    settings.take(translate::MAX_EXTRA_LOAD);
    settings
}

/// How the scopes of templates are called.
const TEMPLATE: &str = "template ";

fn templates(entry: Option<&Entry>, found: &mut Found) -> Vec<(String, Table)> {
    let Some(entry) = entry else { return Vec::new() };
    let Some(table) = entry.value.as_table() else {
        found.problems.push(entry.value.problem("templates", "a table of named settings"));
        return Vec::new();
    };
    let read = |entry: &Entry| {
        let scope = format!("{TEMPLATE}{}", entry.key);
        let settings = settings(&entry.value, &scope, &[], found);
        // Names are checked even if nobody uses it. What else is wrong may be what is merged with it.
        let mut problems = Vec::new();
        MethodPolicy::read(without_load(settings.clone()), &scope, &mut problems);
        problems.retain(|problem| problem.suggestion().is_some());
        found.problems.append(&mut problems);
        (entry.key.clone(), settings)
    };
    table.entries.iter().map(read).collect()
}

/// What gRPC states for a whole channel is a default of ours.
fn top_level(defaults: &mut Table, parts: &HashMap<String, Entry>, found: &mut Found) {
    let mut own = Table::default();
    for key in ["retry_budget", "balance"] {
        if let Some(entry) = parts.get(key) {
            own.entries.push(Entry { key: key.to_owned(), ..entry.clone() });
        }
    }
    let node = Node::new(Value::Table(own), top_place(parts));
    let mut own = settings(&node, "defaults", &[], found);
    grpc::of_channel(&mut own, parts, found);
    *defaults = merge(defaults, &own);
}

/// Any place of the file, for a table that nobody wrote.
fn top_place(parts: &HashMap<String, Entry>) -> document::Place {
    let mut places = parts.values().map(|entry| &entry.key_place);
    let first = places.next().cloned();
    first.unwrap_or_else(document::Place::nowhere)
}

fn short_form(
    services: &Entry,
    templates: &[(String, Table)],
    found: &mut Found,
) -> Vec<ServiceScope> {
    let Some(table) = services.value.as_table() else {
        found.problems.push(services.value.problem("services", "a table with services' names"));
        return Vec::new();
    };
    let mut scopes = Vec::new();
    for entry in &table.entries {
        let mut own = entry.value.clone();
        let methods = match &mut own.value {
            Value::Table(settings) => settings.take("methods"),
            _ => None,
        };
        let settings_of_service = settings(&own, &entry.key, templates, found);
        let mut of_methods = Vec::new();
        match methods.map(|methods| methods.value) {
            None | Some(Node { value: Value::Null, .. }) => {}
            Some(Node { value: Value::Table(methods), .. }) => {
                for method in &methods.entries {
                    let scope = format!("{}/{}", entry.key, method.key);
                    let settings = settings(&method.value, &scope, templates, found);
                    of_methods.push((method.key.clone(), settings));
                }
            }
            Some(other) => {
                let field = format!("{}.methods", entry.key);
                found.problems.push(other.problem(field, "a table with methods' names"));
            }
        }
        scopes.push(ServiceScope {
            name: entry.key.clone(),
            settings: settings_of_service,
            methods: of_methods,
            precedence: Precedence::Merged,
        });
    }
    scopes
}
