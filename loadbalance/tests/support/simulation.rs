//! Hosts with queues and workers under a seeded, virtual clock.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test's own figures and helpers"
)]

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use outrigger_core::Outcome;
use outrigger_loadbalance::{Balance, Picked};

/// What a host does with a call at a time, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Serves {
    /// Takes exponential time with this mean, in seconds.
    Within(f64),
    /// Fails after this time, without a worker.
    FailsIn(f64),
}

pub(crate) struct Simulation {
    pub(crate) balancers: Vec<Balance<usize>>,
    pub(crate) workers: usize,
    /// Calls per second.
    pub(crate) rate: f64,
    pub(crate) until: f64,
    pub(crate) seed: u64,
}

/// Something to do with all balancers.
pub(crate) type Deed<'a> = &'a dyn Fn(&[Balance<usize>]);

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) at: f64,
    pub(crate) took: f64,
    pub(crate) host: usize,
    pub(crate) failed: bool,
}

#[derive(Debug)]
enum Event {
    Arrival,
    Done { host: usize, held: Option<Held> },
    At(usize),
}

#[derive(Debug)]
struct Held {
    picked: Picked<usize>,
    at: f64,
    failed: bool,
    has_worker: bool,
}

#[derive(Default)]
struct Host {
    busy: usize,
    waiting: VecDeque<Held>,
}

impl Simulation {
    #[expect(clippy::too_many_lines, reason = "one loop over events")]
    /// Runs with a clock that stands in for tokio's; `then` are moments with something to do.
    pub(crate) async fn run(
        self,
        hosts: usize,
        serves: impl Fn(usize, f64) -> Serves,
        then: &[(f64, Deed<'_>)],
    ) -> Vec<Call> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut events: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let mut payloads = std::collections::HashMap::new();
        let mut serial = 0;
        let mut schedule = |events: &mut BinaryHeap<_>,
                            payloads: &mut std::collections::HashMap<u64, Event>,
                            at: f64,
                            event| {
            serial += 1;
            payloads.insert(serial, event);
            events.push(Reverse(((at * 1e9) as u64, serial)));
        };
        let mut machines: Vec<Host> = (0..hosts).map(|_| Host::default()).collect();
        let mut calls = Vec::new();
        schedule(&mut events, &mut payloads, 0.0, Event::Arrival);
        for (n, (at, _)) in then.iter().enumerate() {
            schedule(&mut events, &mut payloads, *at, Event::At(n));
        }
        let mut clock = 0_u64;
        while let Some(Reverse((at, serial))) = events.pop() {
            let event = payloads.remove(&serial).unwrap();
            tokio::time::advance(Duration::from_nanos(at - clock)).await;
            clock = at;
            let now = at as f64 / 1e9;
            let touched = match event {
                Event::At(n) => {
                    (then[n].1)(&self.balancers);
                    continue;
                }
                Event::Arrival => {
                    let next = now - rng.f64().max(1e-12).ln() / self.rate;
                    if next < self.until {
                        schedule(&mut events, &mut payloads, next, Event::Arrival);
                    }
                    let n = rng.usize(..self.balancers.len());
                    let mut picked = self.balancers[n].pick().unwrap();
                    let host = *picked.service();
                    let held = Held { picked, at: now, failed: false, has_worker: true };
                    match serves(host, now) {
                        Serves::FailsIn(time) => {
                            let held = Some(Held { failed: true, has_worker: false, ..held });
                            let done = Event::Done { host, held };
                            schedule(&mut events, &mut payloads, now + time, done);
                        }
                        Serves::Within(_) => {
                            machines[host].waiting.push_back(held);
                        }
                    }
                    host
                }
                Event::Done { host, held } => {
                    let held = held.unwrap();
                    machines[host].busy -= usize::from(held.has_worker);
                    let took = now - held.at;
                    calls.push(Call { at: held.at, took, host, failed: held.failed });
                    let outcome = if held.failed { Outcome::Failure } else { Outcome::Success };
                    held.picked.record(outcome);
                    host
                }
            };
            let machine = &mut machines[touched];
            while machine.busy < self.workers {
                let Some(held) = machine.waiting.pop_front() else { break };
                machine.busy += 1;
                let mean = match serves(touched, now) {
                    Serves::Within(mean) => mean,
                    Serves::FailsIn(time) => time,
                };
                let took = -rng.f64().max(1e-12).ln() * mean;
                let done = Event::Done { host: touched, held: Some(held) };
                schedule(&mut events, &mut payloads, now + took, done);
            }
        }
        calls
    }
}

pub(crate) fn quantile(calls: impl Iterator<Item = Call>, quantile: f64) -> f64 {
    let mut took: Vec<f64> = calls.map(|call| call.took).collect();
    took.sort_by(f64::total_cmp);
    took[((took.len() as f64 * quantile) as usize).min(took.len() - 1)]
}

pub(crate) fn share(calls: &[Call], host: usize, from: f64, to: f64) -> f64 {
    let within = calls.iter().filter(|call| (from..to).contains(&call.at));
    let all = within.clone().count();
    within.filter(|call| call.host == host).count() as f64 / all as f64
}
