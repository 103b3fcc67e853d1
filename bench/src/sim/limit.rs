//! `limit`: an adaptive limit over time, before a server whose capacity changes. Source row: H7.

#[path = "../../../ratelimit/examples/simulation/mod.rs"]
#[expect(dead_code, reason = "its examples and tests look at more of it")]
mod server;

use std::time::Duration;

use outrigger_ratelimit::{AdaptiveLimit, AdaptiveLimitPolicy, LimitAlgorithm};

use self::server::{Phase, SETTLING, Server, oracle, phase};
use super::simulate;
use crate::row::Report;

const CAPACITIES: [usize; 5] = [20, 10, 20, 40, 20];
const SEED: u64 = 7;
/// Of what 20 workers can do.
const LOAD: f64 = 1.5;

/// The limit at a moment, beside what the server has room for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) at_s: f64,
    pub(crate) limit: f64,
    pub(crate) capacity: f64,
}

fn phases(seconds: u64) -> Vec<Phase> {
    CAPACITIES.map(|capacity| phase(seconds, capacity, LOAD)).into()
}

fn policy(algorithm: LimitAlgorithm) -> AdaptiveLimitPolicy {
    AdaptiveLimitPolicy::builder().algorithm(algorithm).build().expect("a valid policy")
}

/// A limit that never says no.
fn none() -> AdaptiveLimitPolicy {
    let endless = 1_000_000;
    let policy = AdaptiveLimitPolicy::builder().min_limit(endless).initial_limit(endless);
    policy.max_limit(endless).build().expect("a valid policy")
}

/// The limit over five minutes, four times a second.
pub(crate) fn series(algorithm: LimitAlgorithm) -> Vec<Point> {
    simulate(async move {
        let mut server = Server::new(AdaptiveLimit::new(policy(algorithm)), SEED);
        let (mut points, mut begun) = (Vec::new(), 0.0);
        for phase in phases(60) {
            let capacity = phase.capacity_f64();
            let mut next = 0.0;
            server.watch(&phase, |since, limit, _| {
                while since.as_secs_f64() >= next {
                    points.push(Point { at_s: begun + next, limit: f64::from(limit), capacity });
                    next += 0.25;
                }
            });
            begun += phase.lasts.as_secs_f64();
        }
        points
    })
}

/// Seconds until the limit was within a third of the capacity, in the phase from `begin` to `end`.
fn settled_s(points: &[Point], begin: f64, end: f64) -> f64 {
    let within = points.iter().filter(|point| (begin..end).contains(&point.at_s));
    let mut near = within.filter(|point| (point.limit / point.capacity - 1.0).abs() <= 0.34);
    near.next().map_or(f64::NAN, |point| point.at_s - begin)
}

/// What a phase came to: the limit, its bounds, goodput against the right limit, latency, refusals.
struct Seen {
    phase: Phase,
    report: server::Report,
    goodput: f64,
    lowest: u32,
    highest: u32,
    mean_latency: Duration,
}

/// The bounds are those after the limit had time to settle.
fn see(server: &mut Server, phase: Phase, best: &server::Report) -> Seen {
    let (mut lowest, mut highest) = (u32::MAX, 0);
    let (mut ended, mut latencies) = (0_u32, Duration::ZERO);
    let report = server.watch(&phase, |since, limit, latency| {
        if since >= SETTLING {
            lowest = lowest.min(limit);
            highest = highest.max(limit);
        }
        if let Some(latency) = latency {
            ended += 1;
            latencies += latency;
        }
    });
    let goodput = f64::from(report.served) / f64::from(best.served);
    Seen { phase, report, goodput, lowest, highest, mean_latency: latencies / ended.max(1) }
}

fn play(policy: AdaptiveLimitPolicy, phases: Vec<Phase>) -> Vec<Seen> {
    simulate(async move {
        let best = oracle(&phases, SEED);
        let mut server = Server::new(AdaptiveLimit::new(policy), SEED);
        let see = |(phase, best)| see(&mut server, phase, &best);
        phases.into_iter().zip(best).map(see).collect()
    })
}

fn line(report: &mut Report, name: &str, seen: &Seen, (settled, published): (f64, [f64; 2])) {
    let Seen { phase, report: of, goodput, lowest, highest, mean_latency } = seen;
    let offered = of.served + of.refused;
    let refused = |calls: u32| f64::from(calls) / f64::from(offered.max(1));
    let is_limited = *highest < 1_000_000;
    let known = |limit: f64| if is_limited { limit } else { f64::NAN };
    report.line(
        name,
        "outrigger",
        &[
            ("load", phase.load(), "1"),
            ("mean_limit", known(of.settled.mean_limit), "calls"),
            ("lowest", known(f64::from(*lowest)), "calls"),
            ("highest", known(f64::from(*highest)), "calls"),
            ("settled_after_s", settled, "s"),
            ("goodput_of_the_right_limit", *goodput, "1"),
            ("refused", refused(of.refused), "1"),
            ("refused_beside_idle_worker", refused(of.settled.refused_below), "1"),
            ("mean_latency_ms", mean_latency.as_secs_f64() * 1e3, "ms"),
            ("published_vegas", published[0], "calls"),
            ("published_envoy", published[1], "calls"),
        ],
    );
}

pub(crate) fn run(quick: bool) -> Report {
    let mut report = super::report("limit");
    let unknown = [f64::NAN; 2];
    let seconds = if quick { 20 } else { 60 };
    for algorithm in [LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2, LimitAlgorithm::Aimd] {
        let points = series(algorithm);
        let seen = play(policy(algorithm), phases(seconds));
        for (number, seen) in seen.iter().enumerate() {
            let begin = 60.0 * f64::from(u8::try_from(number).unwrap_or(u8::MAX));
            // An unreached limit has no reason to come near.
            let is_reached = seen.phase.load() > 1.1;
            let settled = settled_s(&points, begin, begin + 60.0);
            let settled = if is_reached { settled } else { f64::NAN };
            let name = format!("{algorithm:?}, {}: {} workers", number + 1, seen.phase.capacity);
            line(&mut report, &name.to_lowercase(), seen, (settled, unknown));
        }
    }
    for (number, seen) in play(none(), phases(seconds)).iter().enumerate() {
        let name = format!("no limit, {}: {} workers", number + 1, seen.phase.capacity);
        line(&mut report, &name, seen, (f64::NAN, unknown));
    }
    for (workers, scale, vegas, envoy) in
        [(20, 1.0, 27.8, 30.5), (100, 5.0, 110.2, 136.7), (400, 20.0, 410.4, 522.9)]
    {
        let seconds = if quick { 20 } else { 120 };
        let saturated = phase(seconds, workers, LOAD * scale);
        let seen = play(policy(LimitAlgorithm::Vegas), vec![saturated, saturated]);
        let name = format!("vegas, saturated: {workers} workers");
        line(&mut report, &name, &seen[1], (f64::NAN, [vegas, envoy]));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_capacity_and_keeps_what_none_loses() {
        let points = series(LimitAlgorithm::default());
        // The second phase halves the capacity, the third gives it back.
        for (begin, end) in [(60.0, 120.0), (120.0, 180.0)] {
            let settled = settled_s(&points, begin, end);
            assert!(settled <= 10.0, "{settled} s after {begin} s");
        }
        let [with, without] = [policy(LimitAlgorithm::default()), none()]
            .map(|policy| play(policy, phases(20)).into_iter());
        for (with, without) in with.zip(without) {
            assert!(with.mean_latency.as_millis() < 250, "{:?}", with.mean_latency);
            assert!(without.mean_latency > with.mean_latency.mul_f64(2.0));
        }
    }
}
