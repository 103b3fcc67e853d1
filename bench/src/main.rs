//! The same work done by Outrigger and by its peers, in one run; and the bad days, simulated.
//!
//! `cargo run --release -p outrigger-bench -- help` lists the subcommands. Each prints readable
//! tables; `--json FILE` adds its rows to a file for `figures` and `report`.
#![forbid(unsafe_code)]

mod contention;
mod kit;
mod overhead;
mod row;
mod sim;
mod window;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Fewer and shorter rounds; for a first look, not for figures to quote.
    #[arg(long, global = true)]
    quick: bool,
    /// Writes the rows to this file, in place of what it holds of the same groups.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Time and heap of one call through each layer, ours and the peers'.
    Overhead,
    /// Throughput of one and of two threads on one shared layer value.
    Contention,
    /// What it costs to record a call, by how many are in the window.
    Window,
    /// Simulated: the slowest calls, with and without backup requests.
    Tail,
    /// Simulated: a retry storm after a brown-out.
    Storm,
    /// Simulated: a server comes back to ten thousand clients.
    Herd,
    /// Simulated: one host of ten is slow, failing or cold.
    Grey,
    /// Simulated: critical calls and a flood of others.
    Priorities,
    /// Simulated: three tiers, the last at half its capacity.
    Cascade,
}

fn main() -> ExitCode {
    let Arguments { what, quick, json } = Arguments::parse();
    let report = match what {
        What::Overhead => overhead::run(quick),
        What::Contention => contention::run(quick),
        What::Window => window::run(quick),
        What::Tail => sim::tail::run(quick),
        What::Storm => sim::storm::run(quick),
        What::Herd => sim::herd::run(quick),
        What::Grey => sim::grey::run(quick),
        What::Priorities => sim::priorities::run(quick),
        What::Cascade => sim::cascade::run(quick),
    };
    print!("{report}");
    match json.map_or(Ok(()), |file| report.write(&file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the rows: {error}");
            ExitCode::FAILURE
        }
    }
}
