mod chronicle;
mod table;

use std::{fmt, time::Duration};

use serde::Serialize;

pub use self::chronicle::Chronicle;
use self::chronicle::{Change, Refusals};
use crate::{
    load::Tally,
    program::{Told, json},
    scenario::{SERVERS, Scenario},
};

/// What a person wants to know afterwards: the same load with a breaker and without.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    #[serde(skip)]
    scenario: Scenario,
    seed: u64,
    seconds: f64,
    calls_per_second: u32,
    fault: Fault,
    governed: Side,
    ungoverned: Side,
    state_changes: Vec<Change>,
    /// What the servers' own limits refused, of both clients' calls.
    refused_by_servers: Vec<Refusals>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Fault {
    server: &'static str,
    from_s: f64,
    until_s: f64,
    answers_after_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Side {
    servers: Vec<Row>,
    total: Row,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    server: &'static str,
    calls: u64,
    succeeded: u64,
    failed: u64,
    refused: u64,
    p50_ms: f64,
    p99_ms: f64,
    /// How long callers waited, all together, for answers that were failures.
    waited_in_vain_s: f64,
    refusal_p99_us: Option<u64>,
}

impl Report {
    pub(crate) fn new(
        scenario: &Scenario,
        governed: &[Tally],
        ungoverned: &[Tally],
        chronicle: &Chronicle,
    ) -> Self {
        Self {
            scenario: scenario.clone(),
            seed: Scenario::SEED,
            seconds: seconds(Scenario::LENGTH),
            calls_per_second: Scenario::CALLS_PER_SECOND,
            fault: Fault {
                server: SERVERS[Scenario::FAULTY],
                from_s: seconds(Scenario::FAULT.start),
                until_s: seconds(Scenario::FAULT.end),
                answers_after_ms: millis(Scenario::SLOWNESS),
            },
            governed: Side::new(governed),
            ungoverned: Side::new(ungoverned),
            state_changes: chronicle.changes(),
            refused_by_servers: chronicle.refusals(),
        }
    }

    /// Whether the breakers did what they are there for, or else what they failed to do.
    fn promises(&self) -> Result<(), String> {
        let faulty = SERVERS[Scenario::FAULTY];
        let changes_of_faulty = || self.state_changes.iter().filter(|c| c.server == faulty);
        let [unwell, bare] =
            [&self.governed, &self.ungoverned].map(|s| s.servers[Scenario::FAULTY]);
        let promises = [
            (
                changes_of_faulty().any(|change| change.to == "open"),
                "the circuit of the failing server opens",
            ),
            (unwell.refused > 0, "calls to the failing server are refused fast"),
            (
                changes_of_faulty().next_back().is_some_and(|change| change.to == "closed"),
                "the circuit closes again once the server is well",
            ),
            (
                self.governed.total.refused == unwell.refused,
                "no call to a healthy server is refused",
            ),
            (
                self.state_changes.iter().all(|change| change.server == faulty),
                "the circuits of healthy servers stay closed",
            ),
            (unwell.failed < bare.failed, "fewer calls fail slowly with a breaker than without"),
            (bare.refused == 0, "nothing is refused where there is no breaker"),
        ];
        match promises.iter().find(|(is_kept, _)| !is_kept) {
            None => Ok(()),
            Some((_, promise)) => Err(format!("a promise was not kept: {promise}")),
        }
    }
}

impl Told for Report {
    fn to_json(&self) -> serde_json::Result<String> {
        json(self)
    }

    fn check(&self) -> Result<(), String> {
        self.promises()
    }
}

impl Side {
    fn new(tallies: &[Tally]) -> Self {
        let servers = SERVERS.iter().zip(tallies).map(|(name, tally)| Row::new(name, tally));
        Self { servers: servers.collect(), total: Row::new("all", &Tally::sum(tallies)) }
    }
}

impl Row {
    fn new(server: &'static str, tally: &Tally) -> Self {
        Self {
            server,
            calls: tally.calls(),
            succeeded: tally.succeeded,
            failed: tally.failed,
            refused: tally.refused,
            p50_ms: millis(tally.latency(0.5)),
            p99_ms: millis(tally.latency(0.99)),
            waited_in_vain_s: seconds(tally.in_vain),
            refusal_p99_us: tally.refusal_us_p99(),
        }
    }
}

/// To the microsecond, so that the number is short.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52 µs")]
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// To the millisecond.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52 ms")]
fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1_000.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::write(self, f)
    }
}

#[cfg(test)]
mod tests {
    use outrigger_ratelimit::{RateLimit, RateLimitPolicy};

    use super::*;

    fn row(server: &'static str, failed: u64, refused: u64) -> Row {
        let calls = 10 + failed + refused;
        Row {
            server,
            calls,
            succeeded: 10,
            failed,
            refused,
            p50_ms: 0.3,
            p99_ms: 1.2,
            waited_in_vain_s: 0.9,
            refusal_p99_us: (refused > 0).then_some(7),
        }
    }

    fn side(failed: u64, refused: u64) -> Side {
        let servers = vec![row("a", 0, 0), row("b", failed, refused), row("c", 0, 0)];
        Side { servers, total: row("all", failed, refused) }
    }

    fn change(server: &str, from: &'static str, to: &'static str) -> Change {
        Change {
            at_s: 3.2,
            server: server.to_owned(),
            from,
            to,
            cause: "error rate",
            calls: 30,
            failed: 20,
            slow: 0,
        }
    }

    fn kept() -> Report {
        let scenario = Scenario::new("made-up");
        let chronicle = scenario.chronicle();
        Report {
            governed: side(3, 20),
            ungoverned: side(23, 0),
            state_changes: vec![
                change("b", "closed", "open"),
                change("b", "open", "half_open"),
                change("b", "half_open", "closed"),
            ],
            ..Report::new(&scenario, &[], &[], &chronicle)
        }
    }

    #[test]
    fn a_breaker_that_opens_and_closes_again_keeps_its_promises() {
        assert_eq!(kept().check(), Ok(()));
    }

    #[test]
    fn each_broken_promise_is_told() {
        type Break = fn(&mut Report);
        let breaks: [(Break, &str); 7] = [
            (|report| report.state_changes.clear(), "opens"),
            (|report| report.governed = side(3, 0), "refused fast"),
            (|report| report.state_changes.truncate(2), "closes again"),
            (|report| report.governed.total.refused += 1, "healthy server is refused"),
            (|report| report.state_changes[1].server = "a".to_owned(), "healthy servers stay"),
            (|report| report.governed = side(23, 20), "fewer calls"),
            (|report| report.ungoverned = side(23, 1), "no breaker"),
        ];
        for (break_it, told) in breaks {
            let mut report = kept();
            break_it(&mut report);
            let error = report.check().unwrap_err();
            assert!(error.contains(told), "{told}: {error}");
        }
    }

    #[test]
    fn what_the_servers_refused_is_told_with_the_reason() {
        let chronicle = Scenario::new("made-up").chronicle();
        let policy = RateLimitPolicy::builder().rate(1).build().unwrap();
        let limit = RateLimit::builder(policy).name("b").observe(chronicle.clone()).build();
        let refused = (0..4).filter(|_| limit.try_acquire(1).is_err()).count();
        assert_eq!(refused, 3);
        let report = Report { refused_by_servers: chronicle.refusals(), ..kept() };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["refused_by_servers"][0]["reason"], "rate_reached");
        let table = report.to_string();
        assert!(table.ends_with("  b     3  by its rate limit: rate_reached\n"), "{table}");
    }

    #[test]
    fn the_json_report_says_the_same_as_the_table() {
        let report = kept();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["governed"]["servers"][1]["refused"], 20);
        assert_eq!(json["state_changes"][2]["to"], "closed");

        let table = report.to_string();
        assert!(table.contains("half_open -> closed"), "{table}");
        assert_eq!(table.matches("refused calls knew it within 7 µs").count(), 1, "{table}");
        let b = table.lines().find(|line| line.trim_start().starts_with('b')).unwrap();
        assert!(b.split_whitespace().eq(["b", "33", "10", "3", "20", "0.3", "1.2", "0.9"]), "{b}");
    }
}
