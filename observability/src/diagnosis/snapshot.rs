use serde::Serialize;
use serde_json::Value;

/// All that is known at one moment. Its JSON form is stable: fields are added, not renamed.
///
/// Times are in milliseconds; points in time are counted from the Unix epoch. Words such as states
/// and reasons are those of the metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The version of this form: 1.
    pub format: u32,
    /// When it was made.
    pub at_ms: u64,
    /// How long the [`Diagnosis`](crate::Diagnosis) has been there.
    pub up_ms: u64,
    /// Whether who has the token can change things where this was served.
    pub allows_changes: bool,
    /// The circuit breakers, in the order of registration, those of a panel by key.
    pub breakers: Vec<BreakerRow>,
    /// The limits.
    pub limits: Vec<LimitRow>,
    /// The retry budgets.
    pub budgets: Vec<BudgetRow>,
    /// The balancers with their endpoints.
    pub balancers: Vec<BalancerRow>,
    /// What happened of late, oldest first.
    pub events: Vec<EventRow>,
    /// Keys of panels, and endpoints, that are too many to be shown.
    pub left_out: u64,
    /// Events that were not noted since too many came at once.
    pub events_missed: u64,
}

/// A circuit breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BreakerRow {
    /// Names the row within the snapshot.
    pub id: String,
    /// The number of the registered part.
    pub part: u64,
    /// The name that it was registered under.
    pub name: String,
    /// The breaker's own name; that of its key in a panel.
    pub key: String,
    /// `closed`, `open`, `half_open` or `forced_open`.
    pub state: &'static str,
    /// `enforced`, `shadow` or `disabled`.
    pub enforcement: &'static str,
    /// How often its state has changed.
    pub generation: u64,
    /// How much of the cool-down is left, while it is open.
    pub cool_down_left_ms: Option<u64>,
    /// The calls in the window.
    pub window: StepRow,
    /// The window step by step, oldest first.
    pub steps: Vec<StepRow>,
    /// How long the window is; nothing for one of calls.
    pub window_ms: Option<u64>,
    /// The rule that opened it last.
    pub last_trip: Option<TripRow>,
    /// How often the policy was replaced.
    pub policy_version: u64,
    /// The policy as it stands in a policy file.
    pub policy: Value,
}

/// The calls in a window, or in a step of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StepRow {
    /// All that count.
    pub calls: u64,
    /// Those that failed or timed out.
    pub errors: u64,
    /// Those that were slow.
    pub slow: u64,
}

/// What opened a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TripRow {
    /// The rule.
    pub rule: &'static str,
    /// The calls that were in the window then.
    pub window: StepRow,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LimitRow {
    /// Names the row within the snapshot.
    pub id: String,
    /// The number of the registered part.
    pub part: u64,
    /// The name that it was registered under.
    pub name: String,
    /// The limit's own name; that of its key in a panel.
    pub key: String,
    /// `concurrency`, `rate`, `connections` or `throttle`.
    pub kind: &'static str,
    /// `enforced`, `shadow` or `disabled`.
    pub enforcement: &'static str,
    /// Calls or connections at once, or tokens that a bucket holds; nothing for a throttle.
    pub limit: Option<u64>,
    /// Calls or connections at present, or tokens taken; of a throttle, the calls in its window.
    pub used: u64,
    /// Calls that wait.
    pub waiting: u64,
    /// Tokens per second, of a rate limit.
    pub per_second: Option<f64>,
    /// The share of calls that a throttle refuses.
    pub refused_share: Option<f64>,
    /// Whether it is one of a panel, whose policy all its keys share.
    pub shares_policy: bool,
    /// How often the policy was replaced.
    pub policy_version: u64,
    /// The policy as it stands in a policy file.
    pub policy: Value,
}

/// A retry budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BudgetRow {
    /// Names the row within the snapshot.
    pub id: String,
    /// The number of the registered part.
    pub part: u64,
    /// The name that it was registered under.
    pub name: String,
    /// `ratio`, `throttle` or `unlimited`.
    pub kind: &'static str,
    /// Calls in the window.
    pub calls: u64,
    /// Further attempts that were sent in the window.
    pub attempts: u64,
    /// Further attempts that wait to be sent.
    pub waiting: u64,
    /// Further attempts that the calls in the window allow, of a ratio.
    pub allowed: Option<u64>,
    /// Further attempts that are left, or tokens of a throttle.
    pub left: Option<f64>,
    /// The share of calls, of a ratio.
    pub ratio: Option<f64>,
    /// How long the window is, of a ratio.
    pub window_ms: Option<u64>,
    /// How often the policy was replaced.
    pub policy_version: u64,
    /// The policy as it stands in a policy file.
    pub policy: Value,
}

/// A balancer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BalancerRow {
    /// Names the row within the snapshot.
    pub id: String,
    /// The number of the registered part.
    pub part: u64,
    /// The name that it was registered under.
    pub name: String,
    /// Whether so few endpoints are healthy that ejections are disregarded.
    pub is_panicking: bool,
    /// The endpoints, in the order of their keys.
    pub endpoints: Vec<EndpointRow>,
    /// How often the policy was replaced.
    pub policy_version: u64,
}

/// An endpoint of a balancer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EndpointRow {
    /// Its key.
    pub key: String,
    /// Its zone, if it has one.
    pub zone: Option<String>,
    /// `healthy`, `starting`, `failing`, `on_probation` or `ejected`.
    pub state: &'static str,
    /// Until it returns, while it is ejected.
    pub returns_in_ms: Option<u64>,
    /// Its weight.
    pub weight: u32,
    /// Its part of the weight of all that get calls at present, from 0 to 1.
    pub share: f64,
    /// Calls in flight on it.
    pub in_flight: u64,
    /// Calls that succeeded since it joined.
    pub successes: u64,
    /// Calls that failed since it joined.
    pub failures: u64,
    /// The mean latency of recent calls that were measured.
    pub latency_ms: Option<f64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventRow {
    /// Counts the events.
    pub number: u64,
    /// When it happened; the first time, where the same happened again and again.
    pub at_ms: u64,
    /// When it happened last.
    pub last_ms: u64,
    /// How many times it happened.
    pub times: u64,
    /// Which layer told of it: `circuitbreak`, `ratelimit`, `retry`, `loadbalance`; `by_hand` for a
    /// change that somebody made here.
    pub source: &'static str,
    /// What it is about, as the layer names it; empty when it has no name.
    pub key: String,
    /// What happened, as a stable word.
    pub kind: &'static str,
    /// How much it matters: `good`, `info`, `warning` or `bad`.
    pub level: &'static str,
    /// What happened, for people. Not stable.
    pub text: String,
}

/// A row that is told apart from others by its id.
pub(super) trait Row: PartialEq {
    fn id(&self) -> &str;
    fn belong(&mut self, part: u64, name: &str);
}

macro_rules! row {
    ($Row:ident, $own:expr) => {
        impl Row for $Row {
            fn id(&self) -> &str {
                &self.id
            }

            fn belong(&mut self, part: u64, name: &str) {
                let own: fn(&Self) -> &str = $own;
                self.id = format!("{part}/{}", own(self));
                self.part = part;
                name.clone_into(&mut self.name);
            }
        }
    };
}

row!(BreakerRow, |row| &row.key);
row!(LimitRow, |row| &row.key);
row!(BudgetRow, |_| "");
row!(BalancerRow, |_| "");
