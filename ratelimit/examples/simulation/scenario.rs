//! What the adaptive limit is measured by: phases, and how far from the right fixed limit each ends.

use outrigger_ratelimit::{AdaptiveLimit, AdaptiveLimitPolicy, LimitAlgorithm};

use super::{Phase, Report, Server, Takes, oracle, phase};

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) phases: Vec<Phase>,
}

/// A phase with what a limit came to in it, and what the right one would have.
pub(crate) struct Seen {
    pub(crate) phase: Phase,
    pub(crate) report: Report,
    pub(crate) right: Report,
}

impl Scenario {
    /// All, with calls whose work varies so.
    pub(crate) fn all(takes: Takes) -> Vec<Self> {
        let rest = |load| phase(60, 20, load);
        let capacities = |load| [20, 10, 20, 40, 20].map(|capacity| phase(60, capacity, load));
        let slow = |slowness, load| Phase { slowness, ..rest(load) };
        let failing = |fails: f64| [0.5, 0.8, 1.5].map(|load| Phase { fails, ..rest(load) });
        let of = |name, phases: &[Phase]| {
            let phases = phases.iter().map(|phase| Phase { takes, ..*phase }).collect();
            Self { name, phases }
        };
        vec![
            of("half busy, busy, overloaded", &[rest(0.5), rest(0.8), rest(1.5)]),
            of("capacity 20, 10, 20, 40, 20, load 1", &capacities(1.0)),
            of("the same, load 3", &capacities(3.0)),
            of("2 times slower and back, load 0.4", &[1.0, 2.0, 1.0].map(|by| slow(by, 0.4))),
            of("the same, load 1.5", &[1.0, 2.0, 1.0].map(|by| slow(by, 1.5))),
            of("100 wanted of a callee without limit", &[phase(120, 10_000, 5.0)]),
            of("bursts of 6 times the calls", &[Phase { burst: 6.0, ..phase(120, 20, 0.5) }]),
            of("10 calls a second", &[phase(300, 20, 0.05)]),
            of("3 % fail whatever the load", &failing(0.03)),
            of("10 % fail whatever the load", &failing(0.1)),
        ]
    }

    pub(crate) fn play(&self, algorithm: LimitAlgorithm, seed: u64) -> Vec<Seen> {
        let policy = AdaptiveLimitPolicy::builder().algorithm(algorithm).build().expect("valid");
        let mut server = Server::new(AdaptiveLimit::new(policy), seed);
        let of = |(phase, right): (&Phase, Report)| Seen {
            phase: *phase,
            report: server.run(phase),
            right,
        };
        self.phases.iter().zip(oracle(&self.phases, seed)).map(of).collect()
    }
}

impl Seen {
    /// The calls that were served, as a share of those the right limit would have served.
    pub(crate) fn goodput(&self) -> f64 {
        f64::from(self.report.served) / f64::from(self.right.served)
    }

    /// The limit as a multiple of the capacity, on average from ten seconds after a change.
    pub(crate) fn ratio(&self) -> f64 {
        self.report.settled.mean_limit / self.phase.capacity_f64()
    }

    /// Whether more calls come than the server can do, so that the limit is reached.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.phase.load() > 1.1
    }

    /// The share of calls that were refused beyond what the right limit refuses.
    pub(crate) fn refused_more(&self) -> f64 {
        self.report.settled.refused_share() - self.right.settled.refused_share()
    }

    /// At least nine tenths of the right goodput; under overload from 0.75 to 1.5 of the capacity;
    /// and without it at most one call in a hundred refused, or one more than by the right limit.
    pub(crate) fn is_well(&self) -> bool {
        let is_near = !self.is_overloaded() || (0.75..=1.5).contains(&self.ratio());
        let refused = self.report.settled.refused_share().min(self.refused_more());
        self.goodput() >= 0.9 && is_near && (self.phase.load() > 0.9 || refused <= 0.01)
    }
}
