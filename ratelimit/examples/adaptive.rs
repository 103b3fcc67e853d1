//! The adaptive limit in simulated time, before a server whose capacity is halved and doubled:
//! `cargo run --release -p outrigger-ratelimit --example adaptive`.

mod simulation;

use outrigger_ratelimit::{AdaptiveLimit, AdaptiveLimitPolicy, LimitAlgorithm};
use simulation::{Phase, Server, Spread, oracle, phase};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), outrigger_core::InvalidPolicy> {
    for spread in [Spread::Even, Spread::Exponential] {
    for algorithm in [LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2, LimitAlgorithm::Aimd] {
        for load in [0.5, 1.0, 1.5, 3.0] {
            for initial in [20, 100] {
            let phases: Vec<Phase> =
                [20, 10, 20, 40, 20].map(|capacity| phase(60, capacity, load)).into();
            let policy = AdaptiveLimitPolicy::builder().algorithm(algorithm).initial_limit(initial).build()?;
            let mut server = Server::new(AdaptiveLimit::new(policy), spread, 7);
            let oracle = oracle(&phases, spread, 7);
            print!("{spread:?} {algorithm:?} {load} {initial:3}:");
            for (phase, oracle) in phases.iter().zip(oracle) {
                let report = server.run(phase, |_, _| {});
                print!(
                    " | {} {:5.1}% {:4.1} [{}, {}] below {}",
                    phase.capacity,
                    100.0 * f64::from(report.served) / f64::from(oracle.served),
                    report.mean_limit,
                    report.lowest,
                    report.highest,
                    report.refused_below,
                );
            }
            println!();
            }
        }
    }
    }
    Ok(())
}
