use std::cmp::Reverse;

use outrigger_loadbalance::{EndpointState, EndpointStatus, WeakBalance};

use super::{Diagnose, Part, keep_first, millis};
use crate::diagnosis::snapshot::{BalancerRow, EndpointRow};

impl<S: Send + Sync + 'static> Diagnose for WeakBalance<S> {
    fn snapshot(&self) -> Option<Part> {
        let balance = self.upgrade()?;
        let mut status = balance.status();
        let all: f64 = status.endpoints.iter().map(weight).sum();
        let left_out = keep_first(&mut status.endpoints, |endpoint| {
            (endpoint.state == EndpointState::Healthy, Reverse(endpoint.in_flight))
        });
        let endpoints = status.endpoints.iter().map(|endpoint| endpoint_row(endpoint, all));
        let mut endpoints: Vec<_> = endpoints.collect();
        endpoints.sort_by(|a, b| a.key.cmp(&b.key));
        let row = BalancerRow {
            id: String::new(),
            part: 0,
            name: String::new(),
            is_panicking: status.is_panicking,
            endpoints,
            policy_version: balance.policy().version(),
        };
        Some(Part::Balancer { row, left_out })
    }
}

/// The weight that counts at present.
fn weight(endpoint: &EndpointStatus) -> f64 {
    let weight = f64::from(endpoint.weight);
    match endpoint.state {
        EndpointState::Ejected { .. } => 0.0,
        EndpointState::Starting { share } => weight * share,
        _ => weight,
    }
}

fn endpoint_row(endpoint: &EndpointStatus, all: f64) -> EndpointRow {
    let (state, returns_in) = match endpoint.state {
        EndpointState::Starting { .. } => ("starting", None),
        EndpointState::Failing => ("failing", None),
        EndpointState::OnProbation => ("on_probation", None),
        EndpointState::Ejected { remaining } => ("ejected", Some(remaining)),
        _ => ("healthy", None),
    };
    EndpointRow {
        key: endpoint.key.clone(),
        zone: endpoint.zone.clone(),
        state,
        returns_in_ms: returns_in.map(millis),
        weight: endpoint.weight,
        share: if all > 0.0 { weight(endpoint) / all } else { 0.0 },
        in_flight: endpoint.in_flight,
        successes: endpoint.successes,
        failures: endpoint.failures,
        latency_ms: endpoint.latency.map(|latency| latency.as_secs_f64() * 1_000.0),
    }
}
