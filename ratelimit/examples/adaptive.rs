//! The adaptive limit in simulated time, before a server whose capacity, speed and failures change
//! and whose latencies vary little, much or by cache hits:
//! `cargo run --release -p outrigger-ratelimit --example adaptive`.

mod simulation;

use outrigger_ratelimit::LimitAlgorithm;
use simulation::{
    Takes,
    scenario::{Scenario, Seen},
};

const ALGORITHMS: [LimitAlgorithm; 3] =
    [LimitAlgorithm::Vegas, LimitAlgorithm::Gradient2, LimitAlgorithm::Aimd];
const SEEDS: std::ops::Range<u64> = 100..120;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!(
        "| algorithm | latencies | scenario | well | goodput, worst and mean | limit / capacity under overload | refused more |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for algorithm in ALGORITHMS {
        let mut all = Vec::new();
        for takes in Takes::ALL {
            for scenario in Scenario::all(takes) {
                let seen: Vec<Seen> =
                    SEEDS.flat_map(|seed| scenario.play(algorithm, seed)).collect();
                println!("| {algorithm:?} | {takes:?} | {} | {} |", scenario.name, row(&seen));
                all.push((takes, seen));
            }
        }
        for takes in Takes::ALL {
            let of = all.iter().filter(|(of, _)| *of == takes);
            let seen: Vec<&Seen> = of.flat_map(|(_, seen)| seen).collect();
            println!("| {algorithm:?} | {takes:?} | all | {} |", row(seen.iter().copied()));
        }
    }
}

/// What the phases of one scenario came to, over all seeds.
fn row<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> String {
    let (mut goodput, mut ratio, mut refused) = (Range::new(), Range::new(), Range::new());
    let (mut well, mut count) = (0, 0);
    for seen in seen {
        count += 1;
        well += u32::from(seen.is_well());
        goodput.note(seen.goodput());
        if seen.is_overloaded() {
            ratio.note(seen.ratio());
        } else {
            refused.note(100.0 * seen.refused_more());
        }
    }
    let near = match ratio.count {
        0 => String::new(),
        _ => format!("{:.2} ({:.2} to {:.2})", ratio.mean(), ratio.least, ratio.most),
    };
    let more = match refused.count {
        0 => String::new(),
        _ => format!("{:.1} (at most {:.1}) points", refused.mean(), refused.most),
    };
    let (worst, mean) = (goodput.least, goodput.mean());
    format!("{well} of {count} | {worst:.2}, {mean:.2} | {near} | {more}")
}

/// The least, the most and the mean of some numbers.
struct Range {
    least: f64,
    most: f64,
    sum: f64,
    count: u32,
}

impl Range {
    const fn new() -> Self {
        Self { least: f64::INFINITY, most: f64::NEG_INFINITY, sum: 0.0, count: 0 }
    }

    fn note(&mut self, value: f64) {
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        self.sum += value;
        self.count += 1;
    }

    fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }
}
