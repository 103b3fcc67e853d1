use std::{
    collections::BTreeMap,
    fmt,
    sync::{OnceLock, atomic::AtomicU64},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;
use tonic::Status;

use super::{
    DOWN_IN, FAILS_IN, IN_TIME, LATE_IN, LENGTH, PARTS, RELOADED_FOR, SEED, WORK, WORKERS,
    is_refusal,
    notes::{self, Notes},
};
use crate::{
    greeter::Reply,
    program::{Told, json},
};

#[derive(Default)]
pub(super) struct Shared {
    pub(super) began: OnceLock<Instant>,
    pub(super) attempts: AtomicU64,
}

/// What became of one side's calls.
pub(super) struct Side {
    pub(super) parts: Vec<Count>,
    pub(super) attempts: u64,
}

/// What became of the calls of a part of the day.
pub(super) struct Count {
    name: &'static str,
    in_time: u64,
    late: u64,
    failed: u64,
    refused: u64,
    latency_us: Histogram<u64>,
}

impl Count {
    pub(super) fn new(name: &'static str) -> Self {
        let latency_us = Histogram::new(3).expect("three digits are within the range");
        Self { name, in_time: 0, late: 0, failed: 0, refused: 0, latency_us }
    }

    pub(super) fn add(&mut self, answer: &Result<Reply, Status>, took: Duration) {
        self.latency_us += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match answer {
            Ok(_) if took <= IN_TIME => self.in_time += 1,
            Ok(_) => self.late += 1,
            Err(_) if is_refusal(answer) => self.refused += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn row(&self) -> Row {
        let millis = |quantile| {
            let us = self.latency_us.value_at_quantile(quantile);
            Duration::from_micros(us).as_secs_f64() * 1e3
        };
        Row {
            part: self.name,
            calls: self.in_time + self.late + self.failed + self.refused,
            in_time: self.in_time,
            late: self.late,
            failed: self.failed,
            refused: self.refused,
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    part: &'static str,
    calls: u64,
    in_time: u64,
    late: u64,
    failed: u64,
    refused: u64,
    p50_ms: f64,
    p99_ms: f64,
}

/// The day with governance and without.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Day {
    seed: u64,
    governed: Vec<Row>,
    ungoverned: Vec<Row>,
    /// What the servers were asked, retries and backup requests among it.
    attempts_governed: u64,
    attempts_ungoverned: u64,
    governance: BTreeMap<&'static str, u64>,
}

impl Day {
    pub(super) fn new(governed: &Side, ungoverned: &Side, notes: &Notes) -> Self {
        let rows = |side: &Side| side.parts.iter().map(Count::row).collect();
        Self {
            seed: SEED,
            governed: rows(governed),
            ungoverned: rows(ungoverned),
            attempts_governed: governed.attempts,
            attempts_ungoverned: ungoverned.attempts,
            governance: notes.counts(),
        }
    }

    fn count(&self, what: &str) -> u64 {
        self.governance.get(what).copied().unwrap_or_default()
    }

    fn promises(&self) -> Vec<(bool, &'static str)> {
        let (with, without) = (&self.governed, &self.ungoverned);
        let in_time = |rows: &[Row]| rows.iter().map(|row| row.in_time).sum::<u64>();
        vec![
            (
                with[LATE_IN].p99_ms < without[LATE_IN].p99_ms / 2.0,
                "backup requests halve the p99 while a server is late now and then",
            ),
            (
                with[FAILS_IN].failed * 5 < without[FAILS_IN].failed,
                "retries and ejection spare callers four of five failures of one server",
            ),
            (with[DOWN_IN].refused > 0, "the open circuit refuses calls while all servers fail"),
            (self.count(notes::OPENED) > 0, "the circuit opens"),
            (self.count(notes::CLOSED) > 0, "the circuit closes again"),
            (
                with[RELOADED_FOR - 1].p99_ms < without[RELOADED_FOR - 1].p99_ms / 2.0,
                "with limits, those whom an overloaded server takes are served soon",
            ),
            (self.count(notes::RELOADED) == 1, "the policies are replaced once"),
            (
                self.count(notes::REFUSED_BY_RATE) > 0,
                "the new rate limit refuses calls before they are sent",
            ),
            (in_time(with) > in_time(without), "more calls are answered in time with governance"),
        ]
    }
}

impl Told for Day {
    fn to_json(&self) -> serde_json::Result<String> {
        json(self)
    }

    fn check(&self) -> Result<(), String> {
        match self.promises().into_iter().find(|(is_kept, _)| !is_kept) {
            None => Ok(()),
            Some((_, promise)) => Err(format!("a promise was not kept: {promise}")),
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = crate::scenario::SERVERS.len();
        writeln!(
            f,
            "A bad day of {servers} gRPC servers. Each can do {WORKERS} calls of {WORK:?} at once. {} parts of\n\
             {LENGTH:?}: {} calls per second, in the last two parts {}. An answer after {IN_TIME:?} is late.\n",
            PARTS.len(),
            PARTS[0].calls_per_second,
            PARTS[RELOADED_FOR].calls_per_second,
        )?;
        write_side("governed by examples/policies.toml", &self.governed, f)?;
        write_side("the same without governance", &self.ungoverned, f)?;
        writeln!(f, "what governance did")?;
        for (what, count) in &self.governance {
            writeln!(f, "{count:>8}  {what}")?;
        }
        writeln!(
            f,
            "{:>8}  calls that a server worked on, with governance",
            self.attempts_governed
        )?;
        writeln!(f, "{:>8}  the same without", self.attempts_ungoverned)
    }
}

fn write_side(title: &str, rows: &[Row], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{title}")?;
    writeln!(
        f,
        "  {:<16}{:>7}{:>9}{:>7}{:>8}{:>9}{:>9}{:>9}",
        "", "calls", "in time", "late", "failed", "refused", "p50 ms", "p99 ms",
    )?;
    for Row { part, calls, in_time, late, failed, refused, p50_ms, p99_ms } in rows {
        writeln!(
            f,
            "  {part:<16}{calls:>7}{in_time:>9}{late:>7}{failed:>8}{refused:>9}{p50_ms:>9.1}\
             {p99_ms:>9.1}",
        )?;
    }
    writeln!(f)
}
