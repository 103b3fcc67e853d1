//! The adaptive limit in simulated time, before a server whose capacity is halved and doubled:
//! `cargo run --release -p outrigger-ratelimit --example adaptive`.

mod simulation;

use outrigger_core::InvalidPolicy;
use outrigger_ratelimit::{AdaptiveLimit, AdaptiveLimitPolicy, LimitAlgorithm};
use simulation::{Phase, Server, oracle, phase};

const ALGORITHMS: [LimitAlgorithm; 3] =
    [LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2, LimitAlgorithm::Aimd];
const CAPACITIES: [usize; 5] = [20, 10, 20, 40, 20];

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), InvalidPolicy> {
    println!("| algorithm | load | 20 | 10 | 20 | 40 | 20 |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for algorithm in ALGORITHMS {
        for load in [0.5, 1.0, 1.5, 3.0] {
            println!("| {algorithm:?} | {load} | {} |", row(algorithm, load)?);
        }
    }
    println!();
    for algorithm in ALGORITHMS {
        println!("{algorithm:?}: {}", many(algorithm)?);
    }
    Ok(())
}

/// What all phases came to in which more calls came than the server could do, over 20 seeds.
fn many(algorithm: LimitAlgorithm) -> Result<String, InvalidPolicy> {
    let (mut ratios, mut worst) = (Vec::new(), f64::INFINITY);
    for (seed, load) in (100..120).flat_map(|seed| [1.5, 2.0, 3.0].map(|load| (seed, load))) {
        let phases: Vec<Phase> = CAPACITIES.map(|capacity| phase(60, capacity, load)).into();
        let policy = AdaptiveLimitPolicy::builder().algorithm(algorithm).build()?;
        let mut server = Server::new(AdaptiveLimit::new(policy), seed);
        for (phase, oracle) in phases.iter().zip(oracle(&phases, seed)) {
            let report = server.run(phase, |_, _| {});
            worst = worst.min(f64::from(report.served) / f64::from(oracle.served));
            if phase.load() > 1.1 {
                ratios.push(report.mean_limit / phase.capacity_f64());
            }
        }
    }
    let off = ratios.iter().filter(|ratio| (**ratio - 1.0).abs() > 0.3).count();
    #[expect(clippy::cast_precision_loss, reason = "few phases")]
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    let all = ratios.len();
    Ok(format!(
        "{mean:.2} of the capacity on average; off by more than 30 % in {off} of {all} \
        phases; goodput at least {:.0} %",
        100.0 * worst
    ))
}

/// For each capacity the limit on average, and the goodput against that of the right limit.
fn row(algorithm: LimitAlgorithm, load: f64) -> Result<String, InvalidPolicy> {
    let phases: Vec<Phase> = CAPACITIES.map(|capacity| phase(60, capacity, load)).into();
    let policy = AdaptiveLimitPolicy::builder().algorithm(algorithm).build()?;
    let mut server = Server::new(AdaptiveLimit::new(policy), 7);
    let cells = phases.iter().zip(oracle(&phases, 7)).map(|(phase, oracle)| {
        let report = server.run(phase, |_, _| {});
        let goodput = 100.0 * f64::from(report.served) / f64::from(oracle.served);
        format!("{:.1}, {goodput:.0} %", report.mean_limit)
    });
    Ok(cells.collect::<Vec<_>>().join(" | "))
}
