//! The same work done by Outrigger and by its peers, in one run; and the bad days, simulated.
//!
//! `cargo run --release -p outrigger-bench -- help` lists the subcommands. Each prints readable
//! tables; `--json FILE` adds its rows to a file for `figures` and `report`. Simulations name the
//! source of what they simulate by a short name such as H1: `bench/SOURCES.md` has them all.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "peers"),
    expect(dead_code, reason = "what measures time serves those who are compared")
)]

#[cfg(feature = "peers")]
mod contention;
#[cfg(feature = "peers")]
mod figures;
mod instructions;
mod kit;
mod lookup;
mod overhead;
#[cfg(feature = "peers")]
mod pick;
#[cfg(feature = "peers")]
mod results;
mod row;
#[cfg(feature = "peers")]
mod rpc;
mod sim;
#[cfg(feature = "peers")]
mod targets;
#[cfg(feature = "peers")]
mod window;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    #[cfg(feature = "peers")]
    Overhead,
    /// Throughput of one and of two threads on one shared layer value.
    #[cfg(feature = "peers")]
    Contention,
    /// What it costs to record a call, by how many are in the window.
    #[cfg(feature = "peers")]
    Window,
    /// Finding what governs a method, quiet and while other policies are put in force.
    Lookup,
    /// Picking an endpoint, by how many there are: cost, build, memory, balance, disruption.
    #[cfg(feature = "peers")]
    Pick,
    /// Real calls of gRPC over loopback: throughput, latency, CPU time.
    #[cfg(feature = "peers")]
    Rpc,
    /// Instructions of a call through each of our layers, counted by callgrind and compared with
    /// those of the baseline.
    Instructions(instructions::Arguments),
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
    /// Everything: measures and simulates, draws the figures and writes the page, below `bench/`.
    #[cfg(feature = "peers")]
    All,
    /// Draws the figures; those of measurements from the rows of `--json`.
    #[cfg(feature = "peers")]
    Figures {
        /// Where to.
        #[arg(long, default_value = "bench/figures")]
        folder: PathBuf,
    },
    /// Writes the rows of `--json` as a page of tables.
    #[cfg(feature = "peers")]
    Report {
        /// Where to.
        #[arg(long, default_value = "bench/RESULTS.md")]
        page: PathBuf,
        /// The day of the run.
        #[arg(long, default_value_t = results::today())]
        date: String,
    },
}

fn main() -> ExitCode {
    let Arguments { what, quick, json } = Arguments::parse();
    let reports = match what {
        #[cfg(feature = "peers")]
        What::Overhead => match overhead::run(quick) {
            Ok(report) => vec![report],
            Err(error) => return exit(Err(error.to_string())),
        },
        #[cfg(feature = "peers")]
        What::Contention => vec![contention::run(quick)],
        #[cfg(feature = "peers")]
        What::Window => vec![window::run(quick)],
        #[cfg(feature = "peers")]
        What::Pick => vec![pick::run(quick)],
        #[cfg(feature = "peers")]
        What::Rpc => vec![rpc::run(quick)],
        What::Lookup => vec![lookup::run(quick)],
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
        What::Instructions(arguments) => return exit(instructions::run(&arguments)),
        #[cfg(feature = "peers")]
        What::All => return exit(all(quick, json)),
        #[cfg(feature = "peers")]
        What::Figures { folder } => {
            let rows = json.unwrap_or_default();
            return exit(figures::draw(&rows, &folder).map_err(|error| error.to_string()));
        }
        #[cfg(feature = "peers")]
        What::Report { page, date } => {
            let rows = json.unwrap_or_default();
            return exit(results::write(&rows, &page, &date).map_err(|error| error.to_string()));
        }
    };
    exit(reports.iter().try_for_each(|report| tell(report, json.as_deref())))
}

/// Prints a report, and writes its rows.
fn tell(report: &row::Report, json: Option<&Path>) -> Result<(), String> {
    print!("{report}");
    let written = json.map_or(Ok(()), |file| report.write(file));
    written.map_err(|error| format!("cannot write the rows: {error}"))
}

#[cfg(feature = "peers")]
fn all(quick: bool, json: Option<PathBuf>) -> Result<(), String> {
    let json = json.unwrap_or_else(|| "bench/results.json".into());
    let began = kit::Clock::now();
    let measured: [fn(bool) -> row::Report; 5] =
        [contention::run, window::run, lookup::run, pick::run, rpc::run];
    let text = |error: std::io::Error| error.to_string();
    tell(&overhead::run(quick).map_err(text)?, Some(&json))?;
    for run in measured {
        tell(&run(quick), Some(&json))?;
    }
    for report in sim::all(quick) {
        tell(&report, Some(&json))?;
    }
    figures::draw(&json, Path::new("bench/figures")).map_err(|error| error.to_string())?;
    results::write(&json, Path::new("bench/RESULTS.md"), &results::today()).map_err(text)?;
    print!("{}", results::aims(&row::read(&json).map_err(text)?));
    println!("in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
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
