use std::{env, process::ExitCode};

use tower::BoxError;

use crate::report::Report;

/// How the report is printed.
#[derive(Clone, Copy, Debug)]
enum Format {
    Table,
    Json,
}

/// Runs an example as its command line says, prints its report, and gives its exit status: 0 only
/// when the breaker did what it is there for.
pub async fn run<F>(about: &str, example: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = Result<Report, BoxError>>,
{
    let format = match format(env::args().skip(1)) {
        Ok(Some(format)) => format,
        Ok(None) => {
            println!("{about}\n\n{OPTIONS}");
            return ExitCode::SUCCESS;
        }
        Err(unknown) => {
            eprintln!("unknown option `{unknown}`\n\n{OPTIONS}");
            return ExitCode::from(2);
        }
    };
    match example().await.and_then(|report| print(&report, format)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

const OPTIONS: &str = "Options:
  --json  print the report as one JSON object
  --help  print this help";

/// `None` stands for a call for help.
fn format(arguments: impl Iterator<Item = String>) -> Result<Option<Format>, String> {
    let mut format = Format::Table;
    for argument in arguments {
        match argument.as_str() {
            "--json" => format = Format::Json,
            "--help" | "-h" => return Ok(None),
            _ => return Err(argument),
        }
    }
    Ok(Some(format))
}

fn print(report: &Report, format: Format) -> Result<(), BoxError> {
    match format {
        Format::Table => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string(report)?),
    }
    Ok(report.check()?)
}
