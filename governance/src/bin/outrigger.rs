//! Checks policy files, and explains what they come to.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use outrigger::{LoadError, PolicySet};
use outrigger_core::MethodRef;

/// Checks policy files, and explains what they come to.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says whether a file is valid, and shows everything that is wrong with it.
    Check {
        /// A policy file: .json, .yaml, .yml or .toml.
        file: PathBuf,
    },
    /// Prints the policies of a method, and where each value comes from.
    Explain {
        /// A policy file.
        file: PathBuf,
        /// Its name, such as `shop.Cart/Get`.
        method: String,
    },
    /// Prints the JSON schema of policy files, for editors.
    Schema,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check { file } => load(&file).map(|set| check(&file, &set)),
        Command::Explain { file, method } => load(&file).and_then(|set| explain(&set, &method)),
        Command::Schema => schema(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn load(file: &PathBuf) -> Result<PolicySet, String> {
    PolicySet::load(file).map_err(|error| match error {
        LoadError::Invalid(problems) => problems.render(),
        error => error.to_string(),
    })
}

fn check(file: &std::path::Path, set: &PolicySet) {
    for note in set.notes() {
        println!("note: {note}");
    }
    let methods = set.named_methods().len();
    println!(
        "{}: valid, names {methods} method{}",
        file.display(),
        if methods == 1 { "" } else { "s" }
    );
}

fn schema() -> Result<(), String> {
    let json = serde_json::to_string_pretty(&PolicySet::schema());
    println!("{}", json.map_err(|error| error.to_string())?);
    Ok(())
}

fn explain(set: &PolicySet, method: &str) -> Result<(), String> {
    let name = method.trim_start_matches('/').rsplit_once('/');
    let Some((service, method)) =
        name.filter(|(service, method)| !service.is_empty() && !method.is_empty())
    else {
        return Err(format!(
            "{method:?} names no method; write SERVICE/METHOD, such as shop.Cart/Get"
        ));
    };
    let mut explained = set.method(MethodRef { service, method }).explain();
    explained.extend(set.service(service).explain());
    if explained.is_empty() {
        println!("no policy governs {service}/{method}");
    }
    let width = |part: fn(&outrigger::Explained) -> &str| {
        explained.iter().map(|value| part(value).chars().count()).max().unwrap_or(0)
    };
    let (fields, values) = (width(|value| &value.field), width(|value| &value.value));
    for explained in &explained {
        let origin = explained.origin.as_deref().unwrap_or("built-in default");
        println!("{:fields$}  {:values$}  {origin}", explained.field, explained.value);
    }
    Ok(())
}
