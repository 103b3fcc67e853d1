//! `report`: writes the rows of a file as a page of tables.

use std::{fmt::Write as _, fs, io, path::Path};

use crate::{
    instructions::{self, rustc},
    row::{Row, read, table},
    targets,
};

/// How everything here is made.
const ALL: &str = "cargo run --release -p outrigger-bench -- all --json bench/results.json";

/// What each group of measurements shows; those of simulations say it themselves.
const GROUPS: &[(&str, &str)] = &[
    (
        "overhead",
        "One call through each layer over an inner service that is ready at once: median of many short rounds of all cases in turn, with the spread, and the heap.",
    ),
    ("contention", "Calls per microsecond of one thread and of two on one shared layer value."),
    (
        "window",
        "A call through a circuit breaker with a window of time, less a bare call, by how many calls are in the window.",
    ),
    (
        "lookup",
        "Finding what governs a method, as a stack does and (`kept`) with a share in it taken and let go, quiet and while another thread puts 10 000 sets a second in force; and how many sets one thread can put in force.",
    ),
    ("pick", "Picking one of many endpoints: cost, build, memory, balance, disruption."),
    (
        "rpc",
        "Real unary calls of tonic over loopback, client and server in one process: no middleware, our stack (composed by `Governance`, by hand, and with metrics), and the peers' stacks of the same layers.",
    ),
];

/// Writes `page` from the rows of `file`.
pub(crate) fn write(file: &Path, page: &Path, date: &str) -> io::Result<()> {
    let counts = instructions::table(&file.with_file_name("instructions.json"));
    fs::write(page, text(&read(file)?, counts.as_deref(), date, &machine()))
}

/// Today, as far as this machine knows.
pub(crate) fn today() -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// The peers, each with its version.
fn versions() -> String {
    const PEERS: [&str; 13] = [
        "tower",
        "tower-resilience-circuitbreaker",
        "tower-resilience-bulkhead",
        "tower-resilience-retry",
        "failsafe",
        "recloser",
        "seatbelt",
        "governor",
        "tower_governor",
        "hashring",
        "pingora-ketama",
        "tonic",
        "tokio",
    ];
    let lock = include_str!("../../Cargo.lock");
    let version = |name: &&str| {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let (_, rest) = lock.split_once(&entry)?;
        Some(format!("{name} {}", rest.split_once('"')?.0))
    };
    PEERS.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}

/// What was aimed at, as a table.
pub(crate) fn aims(rows: &[Row]) -> String {
    let mut page = String::from("| target | measured | aimed at | |\n| --- | --- | --- | --- |\n");
    for target in targets::all(rows) {
        let _ = writeln!(page, "| {} |", target.cells().join(" | "));
    }
    page
}

/// The processor, the compiler.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{model}, {cores} cores, {}", rustc())
}

fn text(rows: &[Row], counts: Option<&str>, date: &str, machine: &str) -> String {
    let mut page = format!(
        "# Results\n\nWritten by `cargo run --release -p outrigger-bench -- report`, {date}, on {machine}. \
         Times of this machine say little; what counts are the ratios of one run, and what is \
         counted. Simulations run the real layers under paused time: the same seed gives the same \
         figures everywhere. Rows such as H1 are those of [SOURCES.md](SOURCES.md).\n\n\
         Peers: {}.\n\nAll of it anew: `{ALL}`.\n",
        versions(),
    );
    let _ = write!(page, "\n## Targets\n\n{}", aims(rows));
    if let Some(counts) = counts {
        let _ = write!(page, "\n## instructions\n\n{counts}");
    }
    for (group, about) in GROUPS.iter().copied().chain(crate::sim::ABOUT) {
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
        let page = text(&[row], Some("counted\n"), "2026-01-01", "a machine");
        assert!(page.contains("## tail") && page.contains("-- tail`"), "{page}");
        assert!(page.contains("| fixed | outrigger | 7 |"), "{page}");
        assert!(!page.contains("## storm"), "{page}");
        assert!(page.contains("## instructions\n\ncounted\n"), "{page}");
    }
}
