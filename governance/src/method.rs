//! What governs one method, as types.

use std::{fmt, str::FromStr, sync::Arc};

use outrigger_circuitbreak::CircuitBreakerPolicy;
use outrigger_core::{Criticality, Enforcement, InvalidPolicy};
use outrigger_loadbalance::BalancePolicy;
use outrigger_ratelimit::{
    AdaptiveLimitPolicy, ClientThrottlePolicy, ConcurrencyLimitPolicy, RateLimitPolicy,
};
use outrigger_retry::{BackupDelay, RetryBudgetPolicy, RetryPolicy, TimeoutPolicy};
use serde::de::DeserializeOwned;

use crate::{
    Problem,
    document::{Entry, Node, Table, Value, read},
    problem::nearest,
};

/// Writes down once which policies a method can have: their names in a file and in the API, what
/// they are for, and their types, in the order in which a call meets them.
macro_rules! policies {
    ($($(#[doc = $doc:literal])+ $name:ident, $kind:ident: $type:ty,)+) => {
        /// Which policy of a method is meant, as to [`switch`](crate::Governance::switch) it.
        ///
        /// Written and read as it is named in a policy file.
        ///
        /// ```
        /// use outrigger::PolicyKind;
        ///
        /// assert_eq!("circuit_breaker".parse(), Ok(PolicyKind::CircuitBreaker));
        /// assert_eq!(PolicyKind::RateLimit.to_string(), "rate_limit");
        /// let error = "circuitbraker".parse::<PolicyKind>().unwrap_err();
        /// assert!(error.to_string().contains("`policy` is \"circuitbraker\"; it must be one of these: "));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum PolicyKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl PolicyKind {
            /// All of them, in the order in which a call meets them.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            const EXPECTED: &str = concat!("one of these:", $(" `", stringify!($name), "`"),+);

            /// Its name in a policy file, in `snake_case`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($name),)+
                }
            }
        }

        /// What governs one method: the policies that a file states for it, merged over those of
        /// its service and the defaults.
        ///
        /// What is not stated is `None`, and does not act.
        #[derive(Clone, Debug, Default)]
        pub struct MethodPolicy {
            $(pub(crate) $name: Option<$type>,)+
            pub(crate) criticality: Option<Criticality>,
            /// The merged settings, each with its place.
            pub(crate) settings: Table,
        }

        /// The settings that hold a method's policies, in the order in which a call meets them.
        pub(crate) const POLICIES: &[&str] = &[$(stringify!($name)),+];

        impl MethodPolicy {
            $($(#[doc = $doc])+ #[must_use] pub const fn $name(&self) -> Option<&$type> {
                self.$name.as_ref()
            })+

            fn read_policies(reader: &mut Reader<'_>) -> Self {
                Self { $($name: reader.policy(stringify!($name)),)+ ..Self::default() }
            }

            /// The name of each policy, what it is for, and the schema of its settings.
            #[cfg(feature = "schema")]
            pub(crate) fn schemas(
                generator: &mut schemars::SchemaGenerator,
            ) -> Vec<(&'static str, String, schemars::Schema)> {
                vec![$((
                    stringify!($name),
                    concat!($($doc),+).trim().to_owned(),
                    generator.subschema_for::<$type>(),
                )),+]
            }

            /// The same policies, each enforced, shadowed or disabled as `change` says.
            pub(crate) fn enforced_by(
                mut self,
                change: impl Fn(PolicyKind) -> Option<Enforcement>,
            ) -> Self {
                $(if let (Some(policy), Some(enforcement)) =
                    (&mut self.$name, change(PolicyKind::$kind))
                {
                    *policy = policy.clone().with_enforcement(enforcement);
                })+
                self
            }

            /// Whether a policy is enforced, shadowed or disabled; `None` where it is not stated.
            #[must_use]
            pub fn enforcement_of(&self, policy: PolicyKind) -> Option<Enforcement> {
                match policy {
                    $(PolicyKind::$kind => self.$name().map(|policy| policy.enforcement()),)+
                }
            }

            /// Every setting of every policy that governs the method, with the origin of its value.
            #[must_use]
            pub fn explain(&self) -> Vec<Explained> {
                let mut all = Vec::new();
                $(explain(stringify!($name), self.$name(), &self.settings, &mut all);)+
                explain_retry(self.retry(), &mut all);
                explain("criticality", self.criticality(), &self.settings, &mut all);
                all
            }
        }
    };
}

policies! {
    /// How long a call may take, all attempts together.
    timeout, Timeout: TimeoutPolicy,
    /// How many calls may begin in a period.
    rate_limit, RateLimit: RateLimitPolicy,
    /// How many calls may run at once.
    concurrency_limit, ConcurrencyLimit: ConcurrencyLimitPolicy,
    /// How the number of calls is found that may run at once. Stands in the place of a concurrency
    /// limit.
    adaptive_limit, AdaptiveLimit: AdaptiveLimitPolicy,
    /// When a client holds calls back because the server refuses.
    client_throttle, ClientThrottle: ClientThrottlePolicy,
    /// How failed and late calls are sent again.
    retry, Retry: RetryPolicy,
    /// When calls are refused because they would fail.
    circuit_breaker, CircuitBreaker: CircuitBreakerPolicy,
    /// How long one attempt may take.
    attempt_timeout, AttemptTimeout: TimeoutPolicy,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PolicyKind {
    type Err = InvalidPolicy;

    fn from_str(name: &str) -> Result<Self, InvalidPolicy> {
        let found = Self::ALL.iter().find(|kind| kind.as_str() == name);
        found.copied().ok_or_else(|| InvalidPolicy::new("policy", name, PolicyKind::EXPECTED))
    }
}

/// What governs the calls to one service together.
#[derive(Clone, Debug, Default)]
pub struct ServicePolicy {
    pub(crate) retry_budget: Option<RetryBudgetPolicy>,
    pub(crate) balance: Option<BalancePolicy>,
    /// The merged settings, each with its place.
    settings: Table,
}

/// The other settings of a scope.
const OTHERS: [&str; 4] = ["retry_budget", "balance", "criticality", "enforcement"];

impl MethodPolicy {
    /// How important the calls are.
    #[must_use]
    pub const fn criticality(&self) -> Option<&Criticality> {
        self.criticality.as_ref()
    }

    pub(crate) fn read(settings: Table, scope: &str, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader { settings: &settings, scope, problems };
        let mut policy = Self::read_policies(&mut reader);
        policy.criticality = reader.policy("criticality");
        reader.policy::<Enforcement>("enforcement");
        reader.unknown(&[POLICIES, &OTHERS].concat());
        reader.check(&policy);
        Self { settings, ..policy }
    }
}

impl ServicePolicy {
    /// How many retries and backup requests the calls to the service may make.
    #[must_use]
    pub const fn retry_budget(&self) -> Option<&RetryBudgetPolicy> {
        self.retry_budget.as_ref()
    }

    /// How its endpoints are picked.
    #[must_use]
    pub const fn balance(&self) -> Option<&BalancePolicy> {
        self.balance.as_ref()
    }

    /// Every setting of what governs the service, with the origin of its value.
    #[must_use]
    pub fn explain(&self) -> Vec<Explained> {
        let mut all = Vec::new();
        explain("retry_budget", self.retry_budget(), &self.settings, &mut all);
        explain("balance", self.balance(), &self.settings, &mut all);
        all
    }

    /// What is in force: where nothing is stated, the crates' own defaults.
    pub(crate) fn in_force(&self) -> (RetryBudgetPolicy, BalancePolicy) {
        (self.retry_budget.unwrap_or_default(), self.balance.clone().unwrap_or_default())
    }

    pub(crate) fn read(settings: &Table, scope: &str, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader { settings, scope, problems };
        let (retry_budget, balance) = (reader.policy("retry_budget"), reader.policy("balance"));
        Self { retry_budget, balance, settings: settings.clone() }
    }
}

/// Reads the sections of a scope, and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    pub(crate) settings: &'a Table,
    pub(crate) scope: &'a str,
    pub(crate) problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    pub(crate) fn policy<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
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

    pub(crate) fn unknown(&mut self, known: &[&str]) {
        for entry in &self.settings.entries {
            if !known.contains(&entry.key.as_str()) {
                let field = self.field(&entry.key);
                let problem = Problem::new(&entry.key_place, field, "is no setting here");
                let help = misplaced(entry).or_else(|| nearest(&entry.key, known));
                self.problems.push(problem.help(help));
            }
        }
    }

    /// What each policy allows, but not the two together.
    fn check(&mut self, policy: &MethodPolicy) {
        let timeout = |of: Option<&TimeoutPolicy>| of.and_then(TimeoutPolicy::timeout);
        let (overall, attempt) = (timeout(policy.timeout()), timeout(policy.attempt_timeout()));
        if overall.zip(attempt).is_some_and(|(overall, attempt)| attempt > overall) {
            self.beside("attempt_timeout", "timeout", "at most the overall `timeout`");
        }
        let delay = policy.retry().and_then(RetryPolicy::backup_delay);
        let Some(BackupDelay::Fixed(delay)) = delay else { return };
        if overall.is_some_and(|overall| delay >= overall) {
            self.beside("retry", "backup_delay", "shorter than the overall `timeout`");
        } else if attempt.is_some_and(|attempt| delay >= attempt) {
            let expected = "shorter than the `attempt_timeout`, which ends the attempt before";
            self.beside("retry", "backup_delay", expected);
        }
    }

    fn beside(&mut self, section: &str, field: &str, expected: &str) {
        let Some(node) = self.settings.get(section) else { return };
        let inner = node.as_table().and_then(|table| table.get(field)).unwrap_or(node);
        let section = self.field(section);
        let is_short = inner.place.range == node.place.range;
        let path = if is_short { section } else { format!("{section}.{field}") };
        self.problems.push(inner.problem(path, expected));
    }
}

/// What a name that is no setting may be the name of.
fn misplaced(entry: &Entry) -> Option<String> {
    if entry.key == "<<" {
        return Some("to share settings, put them below `templates` and name them by `use`".into());
    }
    let looks_like_a_name = entry.key.starts_with(|c: char| c.is_ascii_uppercase());
    let table = entry.value.as_table().filter(|_| looks_like_a_name)?;
    Some(match table.get("methods") {
        None => "settings of a method stand below `methods`".to_owned(),
        Some(_) => "a service's name with dots in it must be quoted: `\"shop.Cart\"`".to_owned(),
    })
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

fn explain<T: serde::Serialize>(
    name: &str,
    policy: Option<&T>,
    settings: &Table,
    into: &mut Vec<Explained>,
) {
    if let Some(Ok(policy)) = policy.map(serde_json::to_value) {
        flatten(name, &policy, settings.get(name), into);
    }
}

fn flatten(
    field: &str,
    value: &serde_json::Value,
    origin: Option<&Node>,
    into: &mut Vec<Explained>,
) {
    match value {
        serde_json::Value::Null => {}
        // A choice without settings of its own.
        serde_json::Value::Object(map) if map.is_empty() => {
            if let Some((outer, chosen)) = field.rsplit_once('.') {
                let (field, value) = (outer.to_owned(), chosen.to_owned());
                into.push(Explained { field, value, origin: origin.map(origin_of) });
            }
        }
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let below = origin.and_then(Node::as_table).and_then(|table| table.get(key));
                // A choice may be written as its name alone.
                let below = below.or_else(|| origin.filter(|node| node.as_str() == Some(key)));
                flatten(&format!("{field}.{key}"), value, below, into);
            }
        }
        _ => {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let origin = origin.map(origin_of);
            into.push(Explained { field: field.to_owned(), value, origin });
        }
    }
}

fn origin_of(node: &Node) -> Arc<str> {
    match &*node.place.scope {
        "" => format!("{:?}", node.place).into(),
        scope => format!("{:?} ({scope})", node.place).into(),
    }
}

/// What a policy leaves to its mode, by the policy's own word.
fn explain_retry(policy: Option<&RetryPolicy>, into: &mut Vec<Explained>) {
    let Some(policy) = policy else { return };
    let states = |into: &[Explained], field: &str| into.iter().any(|e| e.field.starts_with(field));
    if !states(into, "retry.retries") {
        flatten("retry.retries", &policy.retries().into(), None, into);
    }
    if !states(into, "retry.backoff")
        && let Ok(backoff) = serde_json::to_value(policy.backoff())
    {
        flatten("retry.backoff", &backoff, None, into);
    }
}
