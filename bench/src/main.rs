//! The same work done by Outrigger and by its peers, in one run; and the bad days, simulated.
//!
//! `cargo run --release -p outrigger-bench -- help` lists the subcommands. Each prints readable
//! tables; `--json FILE` adds its rows to a file for `figures` and `report`.
#![forbid(unsafe_code)]

mod contention;
mod figures;
mod kit;
mod overhead;
mod results;
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
    /// Simulated: a metastable failure.
    Metastable,
    /// Simulated: a server comes back to ten thousand clients.
    Herd,
    /// Simulated: one host of ten is slow or failing.
    Grey,
    /// Simulated: a cold instance joins.
    #[command(name = "slow_start")]
    SlowStart,
    /// Simulated: one key of a consistent hash is hot.
    #[command(name = "hot_key")]
    HotKey,
    /// Simulated: one zone of three is lost.
    #[command(name = "zone_loss")]
    ZoneLoss,
    /// Simulated: critical calls and a flood of others.
    Priorities,
    /// Simulated: ten thousand clients that call once a minute.
    Sporadic,
    /// Simulated: bad policies are pushed, and rolled back.
    #[command(name = "bad_policy")]
    BadPolicy,
    /// Simulated: three tiers, the last at half its capacity.
    Cascade,
    /// Simulated: an adaptive limit over time.
    Limit,
    /// Simulated: a thousand clients and ten thousand instances.
    Scale,
    /// All simulations, one after the other.
    Simulations,
    /// Draws the figures; those of measurements from the rows of `--json`.
    Figures {
        /// Where to.
        #[arg(long, default_value = "bench/figures")]
        folder: PathBuf,
    },
    /// Writes the rows of `--json` as a page of tables.
    Report {
        /// Where to.
        #[arg(long, default_value = "bench/RESULTS.md")]
        page: PathBuf,
        /// The day of the run.
        #[arg(long)]
        date: String,
    },
}

fn main() -> ExitCode {
    let Arguments { what, quick, json } = Arguments::parse();
    let reports = match what {
        What::Overhead => vec![overhead::run(quick)],
        What::Contention => vec![contention::run(quick)],
        What::Window => vec![window::run(quick)],
        What::Tail => vec![sim::tail::run(quick)],
        What::Storm => vec![sim::storm::run(quick)],
        What::Metastable => vec![sim::storm::run_mongodb(quick)],
        What::Herd => vec![sim::herd::run(quick)],
        What::Grey => vec![sim::grey::run(quick)],
        What::Priorities => vec![sim::priorities::run(quick)],
        What::SlowStart => vec![sim::slow_start::run(quick)],
        What::HotKey => vec![sim::hot_key::run(quick)],
        What::ZoneLoss => vec![sim::zone_loss::run(quick)],
        What::Sporadic => vec![sim::sporadic::run(quick)],
        What::BadPolicy => vec![sim::bad_policy::run(quick)],
        What::Limit => vec![sim::limit::run(quick)],
        What::Scale => vec![sim::scale::run(quick)],
        What::Cascade => vec![sim::cascade::run(quick)],
        What::Simulations => sim::all(quick),
        What::Figures { folder } => {
            let rows = json.unwrap_or_default();
            return exit(figures::draw(&rows, &folder).map_err(|error| error.to_string()));
        }
        What::Report { page, date } => {
            let rows = json.unwrap_or_default();
            return exit(results::write(&rows, &page, &date).map_err(|error| error.to_string()));
        }
    };
    let write = |report: &row::Report| {
        print!("{report}");
        json.as_ref().map_or(Ok(()), |file| report.write(file))
    };
    let written = reports.iter().try_for_each(write);
    exit(written.map_err(|error| format!("cannot write the rows: {error}")))
}

fn exit(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
