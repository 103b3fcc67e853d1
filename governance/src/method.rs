//! What governs one method, as types.

use std::sync::Arc;

use outrigger_circuitbreak::CircuitBreakerPolicy;
use outrigger_core::{Criticality, Enforcement};
use outrigger_loadbalance::BalancePolicy;
use outrigger_ratelimit::{ClientThrottlePolicy, ConcurrencyLimitPolicy, RateLimitPolicy};
use outrigger_retry::{BackupDelay, RetryBudgetPolicy, RetryPolicy, TimeoutPolicy};
use serde::de::DeserializeOwned;

use crate::{
    Problem,
    document::{Node, Table, Value, read},
    problem::nearest,
};

/// What governs one method: the policies that a file states for it, merged over those of its
/// service and the defaults.
///
/// What is not stated is `None`, and does not act.
#[derive(Clone, Debug, Default)]
pub struct MethodPolicy {
    pub(crate) timeout: Option<TimeoutPolicy>,
    pub(crate) attempt_timeout: Option<TimeoutPolicy>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) circuit_breaker: Option<CircuitBreakerPolicy>,
    pub(crate) concurrency_limit: Option<ConcurrencyLimitPolicy>,
    pub(crate) rate_limit: Option<RateLimitPolicy>,
    pub(crate) client_throttle: Option<ClientThrottlePolicy>,
    pub(crate) criticality: Option<Criticality>,
    /// The merged settings, each with its place.
    pub(crate) settings: Table,
}

/// What governs the calls to one service together.
#[derive(Clone, Debug, Default)]
pub struct ServicePolicy {
    pub(crate) retry_budget: Option<RetryBudgetPolicy>,
    pub(crate) balance: Option<BalancePolicy>,
}

/// The settings that hold a method's policies, in the order in which a call meets them.
pub(crate) const POLICIES: [&str; 7] = [
    "timeout",
    "rate_limit",
    "concurrency_limit",
    "client_throttle",
    "retry",
    "circuit_breaker",
    "attempt_timeout",
];

/// The other settings of a scope.
const OTHERS: [&str; 6] =
    ["retry_budget", "balance", "criticality", "enforcement", "use", "methods"];

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        $($(#[$doc])* #[must_use] pub const fn $name(&self) -> Option<&$type> { self.$name.as_ref() })*
    };
}

/// Hands the names of the policies that have an enforcement to a macro.
macro_rules! each_policy {
    ($use_them:ident) => {
        $use_them!(
            timeout,
            attempt_timeout,
            retry,
            circuit_breaker,
            concurrency_limit,
            rate_limit,
            client_throttle
        )
    };
}

impl MethodPolicy {
    getters! {
        /// How long a call may take, all attempts together.
        timeout: TimeoutPolicy,
        /// How long one attempt may take.
        attempt_timeout: TimeoutPolicy,
        /// How failed and late calls are sent again.
        retry: RetryPolicy,
        /// When calls are refused because they would fail.
        circuit_breaker: CircuitBreakerPolicy,
        /// How many calls may run at once.
        concurrency_limit: ConcurrencyLimitPolicy,
        /// How many calls may begin in a period.
        rate_limit: RateLimitPolicy,
        /// When a client holds calls back because the server refuses.
        client_throttle: ClientThrottlePolicy,
        /// How important the calls are.
        criticality: Criticality,
    }

    pub(crate) fn read(settings: Table, scope: &str, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader { settings: &settings, scope, problems };
        let policy = Self {
            timeout: reader.policy("timeout"),
            attempt_timeout: reader.policy("attempt_timeout"),
            retry: reader.policy("retry"),
            circuit_breaker: reader.policy("circuit_breaker"),
            concurrency_limit: reader.policy("concurrency_limit"),
            rate_limit: reader.policy("rate_limit"),
            client_throttle: reader.policy("client_throttle"),
            criticality: reader.policy("criticality"),
            settings: Table::default(),
        };
        reader.policy::<Enforcement>("enforcement");
        reader.unknown();
        reader.check(&policy);
        Self { settings, ..policy }
    }

    /// The same policies, each enforced, shadowed or disabled as `change` says by its name.
    pub(crate) fn enforced_by(
        mut self,
        change: impl Fn(&'static str) -> Option<Enforcement>,
    ) -> Self {
        macro_rules! change_each {
            ($($name:ident),*) => {$(
                if let (Some(policy), Some(enforcement)) = (&mut self.$name, change(stringify!($name))) {
                    *policy = policy.clone().with_enforcement(enforcement);
                }
            )*};
        }
        each_policy!(change_each);
        self
    }

    /// Whether the policy of this name in a file is enforced, shadowed or disabled; `None` where it
    /// is not stated.
    #[must_use]
    pub fn enforcement_of(&self, policy: &str) -> Option<Enforcement> {
        macro_rules! find {
            ($($name:ident),*) => {
                match policy {
                    $(stringify!($name) => self.$name.as_ref().map(|policy| policy.enforcement()),)*
                    _ => None,
                }
            };
        }
        each_policy!(find)
    }
}

impl ServicePolicy {
    getters! {
        /// How many retries and backup requests the calls to the service may make.
        retry_budget: RetryBudgetPolicy,
        /// How its endpoints are picked.
        balance: BalancePolicy,
    }

    /// What is in force: where nothing is stated, the crates' own defaults.
    pub(crate) fn in_force(&self) -> (RetryBudgetPolicy, BalancePolicy) {
        (self.retry_budget.unwrap_or_default(), self.balance.clone().unwrap_or_default())
    }

    pub(crate) fn read(settings: &Table, scope: &str, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader { settings, scope, problems };
        Self { retry_budget: reader.policy("retry_budget"), balance: reader.policy("balance") }
    }
}

struct Reader<'a> {
    settings: &'a Table,
    scope: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn policy<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let node = self.settings.get(name)?;
        if matches!(node.value, Value::Null) {
            return None;
        }
        let field = self.field(name);
        match read(node, &field) {
            Ok(policy) => Some(policy),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn field(&self, name: &str) -> String {
        [self.scope, name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }

    fn unknown(&mut self) {
        for entry in &self.settings.entries {
            let known = [&POLICIES[..], &OTHERS].concat();
            if !known.contains(&entry.key.as_str()) {
                let field = self.field(&entry.key);
                let problem = Problem::new(&entry.key_place, field, "is no setting here");
                self.problems.push(problem.help(nearest(&entry.key, &known)));
            }
        }
    }

    /// What each policy allows, but not the two together.
    fn check(&mut self, policy: &MethodPolicy) {
        let Some(overall) = policy.timeout.as_ref().and_then(TimeoutPolicy::timeout) else {
            return;
        };
        let attempt = policy.attempt_timeout.as_ref().and_then(TimeoutPolicy::timeout);
        if attempt.is_some_and(|attempt| attempt > overall) {
            self.beside("attempt_timeout", "timeout", "at most the overall `timeout`");
        }
        let delay = policy.retry.as_ref().and_then(RetryPolicy::backup_delay);
        if let Some(BackupDelay::Fixed(delay)) = delay
            && delay >= overall
        {
            self.beside("retry", "backup_delay", "shorter than the overall `timeout`");
        }
    }

    fn beside(&mut self, section: &str, field: &str, expected: &str) {
        let Some(node) = self.settings.get(section) else { return };
        let inner = node.as_table().and_then(|table| table.get(field)).unwrap_or(node);
        let path = format!("{}.{field}", self.field(section));
        self.problems.push(inner.problem(path, expected));
    }
}

/// One value of an effective policy, and where it comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explained {
    /// The setting, as a path of names with dots.
    pub field: String,
    /// Its value.
    pub value: String,
    /// `file:line:column` and the scope that states it; `None` for a built-in default.
    pub origin: Option<Arc<str>>,
}

impl MethodPolicy {
    /// Every setting of every policy that governs the method, with the origin of its value.
    #[must_use]
    pub fn explain(&self) -> Vec<Explained> {
        let mut all = Vec::new();
        let mut add = |name: &str, policy: Option<serde_json::Value>| {
            if let Some(policy) = policy {
                flatten(name, &policy, self.settings.get(name), &mut all);
            }
        };
        add("timeout", json(self.timeout()));
        add("rate_limit", json(self.rate_limit()));
        add("concurrency_limit", json(self.concurrency_limit()));
        add("client_throttle", json(self.client_throttle()));
        add("retry", json(self.retry()));
        add("circuit_breaker", json(self.circuit_breaker()));
        add("attempt_timeout", json(self.attempt_timeout()));
        add("criticality", json(self.criticality()));
        all
    }
}

fn json<T: serde::Serialize>(policy: Option<&T>) -> Option<serde_json::Value> {
    policy.and_then(|policy| serde_json::to_value(policy).ok())
}

fn flatten(
    field: &str,
    value: &serde_json::Value,
    origin: Option<&Node>,
    into: &mut Vec<Explained>,
) {
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let below = origin.and_then(Node::as_table).and_then(|table| table.get(key));
                flatten(&format!("{field}.{key}"), value, below, into);
            }
        }
        _ => {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let origin = origin.map(|node| match &*node.place.scope {
                "" => format!("{:?}", node.place).into(),
                scope => format!("{:?} ({scope})", node.place).into(),
            });
            into.push(Explained { field: field.to_owned(), value, origin });
        }
    }
}
