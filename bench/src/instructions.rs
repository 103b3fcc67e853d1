//! `instructions`: what a call through each of our layers takes, counted by callgrind.
//!
//! The time stands still (tokio's paused clock) and what picks by chance is seeded, so that two runs
//! of one program count the same. The counts are of one compiler and one architecture, and are
//! compared with no others.

use std::{
    collections::BTreeMap,
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::{
    kit::{Case, float},
    overhead::{bare, install_recorder, ours},
};

/// Calls of each case; enough that what begins and ends them does not count.
const CALLS: u64 = 2_000;
/// Counts may differ from the baseline by so much.
const TOLERANCE: f64 = 0.05;
/// The whole name: callgrind takes no pattern here for where to end a part.
const COUNTED: &str = concat!(module_path!(), "::counted_calls");
/// How the baseline is replaced.
const ACCEPT: &str =
    "cargo run --release -p outrigger-bench --no-default-features -- instructions --accept";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The counts to compare with.
    #[arg(long, default_value = "bench/instructions.json", value_name = "FILE")]
    baseline: PathBuf,
    /// Replaces the baseline by what is counted now.
    #[arg(long)]
    accept: bool,
    /// What callgrind is started with: makes the calls that it counts.
    #[arg(long, hide = true)]
    make_calls: bool,
}

/// What was counted, and by which compiler.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Counts {
    rustc: String,
    architecture: String,
    instructions_per_call: BTreeMap<String, f64>,
}

/// Counts and compares; says what is wrong.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.make_calls {
        make_calls();
        return Ok(());
    }
    let counts = count()?;
    let old = read(&arguments.baseline)?;
    let comparison = compare(old.as_ref(), &counts);
    print!("{}", comparison.text);
    if arguments.accept {
        let text = serde_json::to_string_pretty(&counts).map_err(|error| error.to_string())?;
        return fs::write(&arguments.baseline, text + "\n")
            .map_err(|error| format!("cannot write {}: {error}", arguments.baseline.display()));
    }
    if comparison.is_far {
        return Err(format!("counts changed by more than 5 %; to accept them:\n{ACCEPT}"));
    }
    Ok(())
}

/// The compiler at hand.
pub(crate) fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output().ok();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// The cases, each with a name of its own.
fn cases(runtime: &Runtime) -> Vec<Case> {
    install_recorder();
    let _inside = runtime.enter();
    let mut cases = vec![bare()];
    cases.extend(ours::cases());
    cases.extend(ours::metered());
    cases
}

fn paused() -> Runtime {
    let builder =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    builder.expect("the system has what a runtime needs")
}

/// Under callgrind: the calls of each case, counted apart.
fn make_calls() {
    let runtime = paused();
    for mut case in cases(&runtime) {
        case.make(&runtime, CALLS);
        counted_calls(&mut case, &runtime);
    }
}

/// What callgrind counts: it begins here, and writes a part down whenever this ends.
#[inline(never)]
fn counted_calls(case: &mut Case, runtime: &Runtime) {
    case.make(runtime, CALLS);
    // Something to do after the call, so that it is no jump and this function has an end.
    black_box(case);
}

/// Runs this program under callgrind.
fn count() -> Result<Counts, String> {
    let program = env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    let folder = env::temp_dir().join(format!("outrigger-instructions-{}", std::process::id()));
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    fs::create_dir_all(&folder).map_err(|error| failed("cannot make a folder", &error))?;
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", folder.join("part").display()))
        .arg(program)
        .args(["instructions", "--make-calls"])
        .output()
        .map_err(|error| failed("cannot start valgrind (`apt-get install valgrind`)", &error))?;
    if !output.status.success() {
        return Err(failed("valgrind", &String::from_utf8_lossy(&output.stderr)));
    }
    let counts = counts_in(&folder);
    fs::remove_dir_all(&folder).map_err(|error| failed("cannot remove a folder", &error))?;
    counts
}

/// The parts that callgrind wrote down, in the order of the cases.
fn counts_in(folder: &Path) -> Result<Counts, String> {
    let names = cases(&paused()).into_iter().map(|case| case.name.to_owned());
    let mut instructions_per_call = BTreeMap::new();
    for (name, number) in names.zip(1..) {
        let part = folder.join(format!("part.{number}"));
        let text = fs::read_to_string(&part)
            .map_err(|error| format!("no count of {name} in {}: {error}", part.display()))?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok());
        let total: u64 = total.filter(|&total| total > 0).ok_or("callgrind counted nothing")?;
        let per_call = (float(total) / float(CALLS) * 10.0).round() / 10.0;
        instructions_per_call.insert(name, per_call);
    }
    Ok(Counts { rustc: rustc(), architecture: env::consts::ARCH.to_owned(), instructions_per_call })
}

/// The baseline, if there is one.
fn read(file: &Path) -> Result<Option<Counts>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| wrong(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(&error)),
    }
}

/// The committed counts as a table of the page of results; `None` if there are none to read.
#[cfg(feature = "peers")]
pub(crate) fn table(file: &Path) -> Option<String> {
    use std::fmt::Write as _;

    let counts = read(file).ok().flatten()?;
    let mut text = format!(
        "Instructions of a call through each layer over an inner service that is ready at once, \
         counted by callgrind over {CALLS} calls with paused time: {}, {}. CI compares.\n\n\
         `cargo run --release -p outrigger-bench --no-default-features -- instructions`\n\n\
         | name | instructions |\n| --- | --- |\n",
        counts.rustc, counts.architecture,
    );
    for (name, count) in &counts.instructions_per_call {
        let _ = writeln!(text, "| {name} | {count:.0} |");
    }
    Some(text)
}

struct Comparison {
    text: String,
    is_far: bool,
}

/// Lays new counts beside old ones. Those of another compiler or architecture say nothing.
fn compare(old: Option<&Counts>, new: &Counts) -> Comparison {
    use std::fmt::Write as _;

    let mut text = format!("instructions of a call\n{:36}{:>10}{:>10}\n", "name", "old", "new");
    let is_alike =
        old.is_some_and(|old| (&old.rustc, &old.architecture) == (&new.rustc, &new.architecture));
    let mut is_far = false;
    let old_counts = old.map(|old| &old.instructions_per_call);
    for (name, &count) in &new.instructions_per_call {
        let before = old_counts.and_then(|counts| counts.get(name)).copied();
        let change = before.map_or(f64::INFINITY, |before| count / before - 1.0);
        let shown = before.map_or_else(|| "-".to_owned(), |before| format!("{before:.1}"));
        let far = change.abs() > TOLERANCE;
        is_far |= far;
        let mark = match before {
            None => "  new: not in the baseline".to_owned(),
            Some(_) if far => format!("  {:+.1} %", change * 100.0),
            Some(_) => String::new(),
        };
        let _ = writeln!(text, "{name:36}{shown:>10}{count:>10.1}{mark}");
    }
    for name in old_counts.into_iter().flat_map(BTreeMap::keys) {
        if !new.instructions_per_call.contains_key(name) {
            is_far = true;
            let _ = writeln!(text, "{name:36} is in the baseline, and was not counted");
        }
    }
    if let (Some(old), false) = (old, is_alike) {
        let _ = writeln!(
            text,
            "NOT COMPARED: the baseline is of {} on {}, this is {} on {}.\nTo make it anew: {ACCEPT}",
            old.rustc, old.architecture, new.rustc, new.architecture,
        );
    }
    Comparison { text, is_far: is_far && (is_alike || old.is_none()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rustc: &str, rows: &[(&str, f64)]) -> Counts {
        Counts {
            rustc: rustc.to_owned(),
            architecture: "x86_64".to_owned(),
            instructions_per_call: rows.iter().map(|&(row, n)| (row.to_owned(), n)).collect(),
        }
    }

    #[test]
    fn a_change_of_more_than_a_twentieth_fails_with_the_old_and_the_new_count() {
        let old = counts("1.95", &[("timeout", 100.0), ("observe", 100.0)]);
        let near = counts("1.95", &[("timeout", 104.0), ("observe", 96.0)]);
        assert!(!compare(Some(&old), &near).is_far);
        for count in [106.0, 94.0] {
            let far =
                compare(Some(&old), &counts("1.95", &[("timeout", count), ("observe", 100.0)]));
            assert!(far.is_far);
            assert!(far.text.contains("100.0") && far.text.contains(&format!("{count:.1}")));
        }
    }

    #[cfg(feature = "peers")]
    #[test]
    fn the_baseline_is_shown_row_by_row() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");
        let text = table(Path::new(file)).expect("it is committed");
        let is_row = |line: &str| line.starts_with("| timeout | ") && !line.contains(" 0 |");
        assert!(text.lines().any(is_row), "{text}");
        assert_eq!(table(Path::new("no such file")), None);
    }

    #[test]
    fn a_row_that_comes_or_goes_must_be_accepted_as_well() {
        let (one, other) = (counts("1.95", &[("a", 1.0)]), counts("1.95", &[("b", 1.0)]));
        assert!(compare(Some(&one), &other).is_far);
        assert!(compare(None, &one).is_far);
    }

    #[test]
    fn counts_of_another_compiler_are_not_compared_and_it_is_said() {
        let (old, new) = (counts("1.95", &[("a", 1.0)]), counts("1.96", &[("a", 2.0)]));
        let compared = compare(Some(&old), &new);
        assert!(!compared.is_far && compared.text.contains("NOT COMPARED"));
    }
}
