//! `report`: writes the rows of a file as a page of tables.

use std::{fmt::Write as _, fs, io, path::Path, process::Command};

use crate::row::{Row, read, table};

/// What each group of measurements shows; those of simulations say it themselves.
const GROUPS: [(&str, &str); 3] = [
    (
        "overhead",
        "One call through each layer over an inner service that is ready at once: median of many short rounds of all cases in turn, with the spread, and the heap.",
    ),
    ("contention", "Calls per microsecond of one thread and of two on one shared layer value."),
    (
        "window",
        "A call through a circuit breaker with a window of time, less a bare call, by how many calls are in the window.",
    ),
];

/// Writes `page` from the rows of `file`.
pub(crate) fn write(file: &Path, page: &Path, date: &str) -> io::Result<()> {
    fs::write(page, text(&read(file)?, date, &machine()))
}

/// The processor, the compiler.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{model}, {cores} cores, {}", rustc.unwrap_or_default())
}

fn text(rows: &[Row], date: &str, machine: &str) -> String {
    let mut page = format!(
        "# Results\n\nWritten by `cargo run --release -p outrigger-bench -- report`, {date}, on {machine}. \
         Times of this machine say little; what counts are the ratios of one run, and what is \
         counted. Simulations run the real layers under paused time: the same seed gives the same \
         figures everywhere. The versions of the peers are those of `Cargo.lock`.\n"
    );
    for (group, about) in GROUPS.into_iter().chain(crate::sim::ABOUT) {
        let of: Vec<Row> = rows.iter().filter(|row| row.group == group).cloned().collect();
        if of.is_empty() {
            continue;
        }
        let command = format!("cargo run --release -p outrigger-bench -- {group}");
        let _ = write!(page, "\n## {group}\n\n{about}\n\n`{command}`\n\n");
        let mut lines = table(&of).into_iter();
        if let Some(head) = lines.next() {
            let _ = writeln!(page, "| {} |", head.join(" | "));
            let _ = writeln!(page, "|{}", " --- |".repeat(head.len()));
        }
        for line in lines {
            let _ = writeln!(page, "| {} |", line.join(" | "));
        }
        if let Some(figure) = crate::figures::of(group) {
            let _ = write!(page, "\n![{about}](figures/{figure})\n");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_its_table_and_its_command() {
        let row = Row {
            group: "tail".to_owned(),
            name: "fixed".to_owned(),
            system: "outrigger".to_owned(),
            metric: "p50_ms".to_owned(),
            value: 7.0,
            unit: "ms".to_owned(),
        };
        let page = text(&[row], "2026-01-01", "a machine");
        assert!(page.contains("## tail") && page.contains("-- tail`"), "{page}");
        assert!(page.contains("| fixed | outrigger | 7 |"), "{page}");
        assert!(!page.contains("## storm"), "{page}");
    }
}
