use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use outrigger_core::Observe;
use outrigger_loadbalance::{Balance, BalanceEvent, EndpointState, EndpointStatus};

use super::{
    GovernanceMetrics, Watched,
    family::Families,
    words::{enforcement, refused_word, rule_word},
};
use crate::names;

const LAYER: &str = "loadbalance";

/// The key of an event is an endpoint's; [`named`](GovernanceMetrics::named) says the balancer's.
impl Observe<BalanceEvent> for GovernanceMetrics {
    fn observe(&self, endpoint: &str, event: &BalanceEvent) {
        let key = (names::KEY, self.key(""));
        let peer = (names::PEER, endpoint);
        let families = &self.shared.families;
        let changed = |result| {
            families.count(names::ENDPOINT_CHANGES, &[key, (names::RESULT, result)], 1);
        };
        match *event {
            BalanceEvent::Added { .. } => changed("added"),
            BalanceEvent::Removed { .. } => changed("removed"),
            BalanceEvent::Drained => changed("drained"),
            BalanceEvent::Reweighted { .. } => changed("reweighted"),
            BalanceEvent::Returned => changed("returned"),
            BalanceEvent::Ejected { rule, enforced, .. } => {
                let reason = (names::REASON, rule_word(rule));
                let labels = [key, peer, reason, (names::ENFORCEMENT, enforcement(!enforced))];
                families.count(names::EJECTIONS, &labels, 1);
            }
            BalanceEvent::ConnectFailed { timed_out } => {
                let reason = if timed_out { "timed_out" } else { "not_ready" };
                let labels = [key, peer, (names::REASON, reason)];
                families.count(names::CONNECT_FAILURES, &labels, 1);
            }
            BalanceEvent::PanicEntered { .. } => families.set(names::BALANCER_PANIC, &[key], 1.0),
            BalanceEvent::PanicLeft { .. } => families.set(names::BALANCER_PANIC, &[key], 0.0),
            BalanceEvent::NoEndpoint => self.rejected(LAYER, "", "no_endpoint", false),
            BalanceEvent::UpdateRefused { cause } => {
                let labels = [key, (names::REASON, refused_word(cause))];
                families.count(names::UPDATES_REFUSED, &labels, 1);
            }
            _ => {}
        }
    }
}

impl GovernanceMetrics {
    /// Shows the endpoints of `balance` by state, and for each its calls, use and latency.
    ///
    /// `key` names the balancer, as [`named`](Self::named) does for its events.
    pub fn watch_balance<S>(&self, key: &str, balance: &Balance<S>) -> Watched
    where
        S: 'static,
        Balance<S>: Clone + Send + Sync,
    {
        let (key, balance) = (key.to_owned(), balance.clone());
        let seen = Mutex::new(HashMap::new());
        self.watch(move |families| {
            let status = balance.status();
            let mut counts = [0_u32; STATES.len()];
            for endpoint in &status.endpoints {
                counts[state_number(endpoint.state)] += 1;
            }
            for (state, count) in STATES.iter().zip(counts) {
                let labels = [(names::KEY, &*key), (names::STATE, *state)];
                families.set(names::ENDPOINTS, &labels, count.into());
            }
            let panics = f64::from(u8::from(status.is_panicking));
            families.set(names::BALANCER_PANIC, &[(names::KEY, &*key)], panics);
            let more = what_is_new(&seen, &status.endpoints);
            for (endpoint, more) in status.endpoints.iter().zip(more) {
                show_endpoint(families, &key, endpoint, more);
            }
        })
    }
}

/// Successes and failures of an endpoint.
type Tally = [u64; 2];

/// What was added to each endpoint's tally since the last look.
fn what_is_new(seen: &Mutex<HashMap<String, Tally>>, endpoints: &[EndpointStatus]) -> Vec<Tally> {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    // Only endpoints that are there are remembered.
    let mut before = std::mem::take(&mut *seen);
    let new = endpoints.iter().map(|endpoint| {
        let now = [endpoint.successes, endpoint.failures];
        let then = before.remove(&endpoint.key).unwrap_or_default();
        seen.insert(endpoint.key.clone(), now);
        // An endpoint that left and came back begins again.
        if now.iter().zip(then).any(|(now, then)| *now < then) {
            return now;
        }
        [now[0] - then[0], now[1] - then[1]]
    });
    new.collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn show_endpoint(families: &Families, key: &str, endpoint: &EndpointStatus, more: Tally) {
    let [key, peer] = [(names::KEY, key), (names::PEER, &*endpoint.key)];
    for (result, more) in ["success", "failure"].into_iter().zip(more) {
        families.count(names::ENDPOINT_CALLS, &[key, peer, (names::RESULT, result)], more);
    }
    families.set(names::ENDPOINT_IN_FLIGHT, &[key, peer], endpoint.in_flight as f64);
    if let Some(latency) = endpoint.latency {
        families.set(names::ENDPOINT_LATENCY, &[key, peer], latency.as_secs_f64());
    }
}

const STATES: [&str; 5] = ["healthy", "starting", "failing", "on_probation", "ejected"];

const fn state_number(state: EndpointState) -> usize {
    match state {
        EndpointState::Starting { .. } => 1,
        EndpointState::Failing => 2,
        EndpointState::OnProbation => 3,
        EndpointState::Ejected { .. } => 4,
        _ => 0,
    }
}
