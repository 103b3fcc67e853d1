use std::{env, fmt, pin::Pin, process::ExitCode};

use serde::Serialize;
use tower::BoxError;

/// What an example prints at its end.
pub trait Told: fmt::Display {
    /// The same as one JSON object.
    ///
    /// # Errors
    ///
    /// When it has none.
    fn to_json(&self) -> serde_json::Result<String>;

    /// Whether the layers did what they are there for.
    ///
    /// # Errors
    ///
    /// Says in words what they failed to do.
    fn check(&self) -> Result<(), String>;
}

/// What a scenario does.
pub type Play = Pin<Box<dyn Future<Output = Result<Box<dyn Told>, BoxError>>>>;

/// A scenario that an example can play.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "an example lists its own")]
pub struct Choice {
    /// What to say after `--scenario`.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// Plays it.
    pub play: fn() -> Play,
}

/// How the outcome is printed.
#[derive(Clone, Copy, Debug)]
enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    format: Format,
    choice: Choice,
}

/// Runs an example as its command line says, prints what came of it, and gives its exit status: 0
/// only when the layers did what they are there for. The first of the choices is played when none
/// is named.
///
/// # Panics
///
/// When there is no choice.
pub async fn run(about: &str, choices: &[Choice]) -> ExitCode {
    let options = match options(env::args().skip(1), choices) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{about}\n\n{}", help(choices));
            return ExitCode::SUCCESS;
        }
        Err(unknown) => {
            eprintln!("unknown option `{unknown}`\n\n{}", help(choices));
            return ExitCode::from(2);
        }
    };
    let outcome = (options.choice.play)().await;
    match outcome.and_then(|outcome| print(&*outcome, options.format)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what ends only when somebody ends it, and gives its exit status.
pub async fn run_for_ever(work: impl Future<Output = Result<(), BoxError>>) -> ExitCode {
    match work.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn help(choices: &[Choice]) -> String {
    let mut help = "Options:\n".to_owned();
    if choices.len() > 1 {
        help += "  --scenario NAME  one of\n";
        for Choice { name, about, .. } in choices {
            help.extend(["      ", name, ": ", about, "\n"]);
        }
    }
    help + "  --json           print what came of it as one JSON object\n  --help           print this help"
}

/// `None` stands for a call for help.
fn options(
    mut arguments: impl Iterator<Item = String>,
    choices: &[Choice],
) -> Result<Option<Options>, String> {
    let mut options = Options { format: Format::Table, choice: choices[0] };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.format = Format::Json,
            "--scenario" => {
                let name = arguments.next().unwrap_or_default();
                let found = choices.iter().find(|choice| choice.name == name);
                options.choice = *found.ok_or_else(|| format!("--scenario {name}"))?;
            }
            "--help" | "-h" => return Ok(None),
            _ => return Err(argument),
        }
    }
    Ok(Some(options))
}

fn print(outcome: &dyn Told, format: Format) -> Result<(), BoxError> {
    match format {
        Format::Table => print!("{outcome}"),
        Format::Json => println!("{}", outcome.to_json()?),
    }
    Ok(outcome.check()?)
}

/// For outcomes that are serialized as they are.
pub(crate) fn json(outcome: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(outcome)
}
