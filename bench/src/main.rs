//! The same work done by Outrigger and by its peers, in one run; and the bad days, simulated.
//!
//! `cargo run --release -p outrigger-bench -- help` lists the subcommands. Each prints readable
//! tables; `--json FILE` adds its rows to a file for `figures` and `report`.
#![forbid(unsafe_code)]

mod contention;
mod kit;
mod overhead;
mod row;

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
}

fn main() -> ExitCode {
    let Arguments { what, quick, json } = Arguments::parse();
    let report = match what {
        What::Overhead => overhead::run(quick),
        What::Contention => contention::run(quick),
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
