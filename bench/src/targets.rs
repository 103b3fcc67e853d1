//! What was aimed at, as ratios of one run, and whether it was reached.

use crate::row::{Row, readable};

/// One aim and what came of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) what: String,
    /// Nothing where it was not measured.
    pub(crate) measured: Option<f64>,
    pub(crate) bound: Bound,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn at_most(what: impl Into<String>, measured: Option<f64>, most: f64) -> Self {
        Self { what: what.into(), measured, bound: Bound::AtMost(most) }
    }

    fn at_least(what: impl Into<String>, measured: Option<f64>, least: f64) -> Self {
        Self { what: what.into(), measured, bound: Bound::AtLeast(least) }
    }

    /// What, measured, aimed at, and what that comes to.
    pub(crate) fn cells(&self) -> [String; 4] {
        let (is_met, bound): (fn(f64, f64) -> bool, _) = match self.bound {
            Bound::AtMost(most) => (|measured, most| measured <= most, most),
            Bound::AtLeast(least) => (|measured, least| measured >= least, least),
        };
        let verdict = match self.measured {
            None => "not measured",
            Some(measured) if is_met(measured, bound) => "met",
            Some(_) => "missed",
        };
        let measured = self.measured.map_or_else(|| "-".to_owned(), precise);
        let word = match self.bound {
            Bound::AtMost(_) => "at most",
            Bound::AtLeast(_) => "at least",
        };
        let bound = format!("{word} {}", precise(bound));
        [self.what.clone(), measured, bound, verdict.to_owned()]
    }
}

/// Three places: what is 2 % too much must be seen.
fn precise(value: f64) -> String {
    if value.fract() == 0.0 { readable(value) } else { format!("{value:.3}") }
}

/// All of them, by the rows of a run.
pub(crate) fn all(rows: &[Row]) -> Vec<Target> {
    let run = Run(rows);
    let mut all = run.costs();
    all.extend(run.rpc());
    all.extend(run.budgets());
    all.extend(run.lookups());
    all.extend(run.contention());
    all
}

/// The rows of one run.
struct Run<'a>(&'a [Row]);

impl Run<'_> {
    fn of(&self, group: &str, name: &str, system: &str, metric: &str) -> Option<f64> {
        let is = |row: &&Row| {
            (row.group.as_str(), row.name.as_str()) == (group, name)
                && (row.system.as_str(), row.metric.as_str()) == (system, metric)
        };
        self.0.iter().find(is).map(|row| row.value)
    }

    fn over_bare(&self, name: &str, system: &str) -> Option<f64> {
        self.of("overhead", name, system, "over_bare_ns")
    }

    fn share(&self, name: &str, system: &str, peers_name: &str) -> Option<f64> {
        Some(self.over_bare(name, "outrigger")? / self.over_bare(peers_name, system)?)
    }

    fn allocs(&self, name: &str, system: &str) -> Option<f64> {
        self.of("overhead", name, system, "allocs_per_call")
    }

    /// Ours beside the peers'.
    fn costs(&self) -> Vec<Target> {
        let own_allocs = || {
            let recorders = self.allocs("observe_cached_handles", "bare")?;
            Some(self.allocs("client_stack", "outrigger")? - recorders)
        };
        let clock_reads = || {
            let recloser = self.over_bare("breaker_closed", "recloser")?;
            let more = self.over_bare("breaker_closed", "outrigger")? - recloser;
            Some(more / self.over_bare("clock_read", "bare")?)
        };
        let of_resilience = |name| self.share(name, "tower-resilience", name);
        vec![
            Target::at_most(
                "client_stack: allocations of a call, without the recorder's own",
                own_allocs(),
                0.0,
            ),
            Target::at_most(
                "client_stack, time over tower-resilience's, metrics on in both",
                of_resilience("client_stack"),
                0.125,
            ),
            Target::at_most(
                "client_stack_no_observe, time over tower-resilience's",
                of_resilience("client_stack_no_observe"),
                0.25,
            ),
            Target::at_most(
                "breaker_closed, time over tower-resilience's",
                of_resilience("breaker_closed"),
                0.25,
            ),
            Target::at_most(
                "breaker_closed, more than recloser's, in reads of the clock",
                clock_reads(),
                2.0,
            ),
            Target::at_most(
                "window, dearest over cheapest from 10 to 10^6 calls",
                window_spread(self.0),
                1.3,
            ),
            Target::at_most(
                "balance_p2c_10, time over tower's `Buffer<Balance>`",
                self.share("balance_p2c_10", "tower", "balance_p2c_10_buffer"),
                0.1,
            ),
        ]
    }

    fn rpc(&self) -> Vec<Target> {
        let of = |metric| self.of("rpc", "unary_64", "outrigger", metric);
        vec![
            Target::at_most(
                "rpc, CPU time of a call with our stack over one without, 64 in flight",
                of("cpu_ratio"),
                1.02,
            ),
            Target::at_most(
                "rpc, the same over a bare call with the same deadline in its header",
                of("deadline_ratio"),
                1.02,
            ),
            Target::at_most(
                "rpc, allocations that our stack adds to a call, to the nearest whole",
                of("allocs_over_bare").map(f64::round),
                1.0,
            ),
        ]
    }

    /// Nanoseconds over a bare call: they say something on a quiet machine only.
    fn budgets(&self) -> Vec<Target> {
        const NS: [(&str, f64); 12] = [
            ("breaker_closed", 60.0),
            ("breaker_refusal", 35.0),
            ("concurrency_limit", 25.0),
            ("timeout", 20.0),
            ("retry_first_ok", 25.0),
            ("backup_armed", 100.0),
            ("balance_weighted_random_10", 50.0),
            ("balance_weighted_random_10000", 50.0),
            ("ring_lookup_1000", 70.0),
            ("maglev_lookup_1000", 15.0),
            ("observe", 120.0),
            ("client_stack_no_observe", 200.0),
        ];
        let ns = NS.map(|(name, most)| {
            Target::at_most(format!("{name}, ns"), self.over_bare(name, "outrigger"), most)
        });
        let over_governor = |name: &str| {
            Some(self.over_bare(name, "outrigger")? - self.over_bare(name, "governor")?)
        };
        let rate = ["rate_limit", "rate_refusal"].map(|name| {
            Target::at_most(format!("{name}, ns more than governor's"), over_governor(name), 5.0)
        });
        let stack = self.over_bare("client_stack", "outrigger");
        let stack = Target::at_most("client_stack, ns", stack, 320.0);
        ns.into_iter().chain(rate).chain([stack]).collect()
    }

    /// Finding what governs a method, whatever is put in force meanwhile.
    fn lookups(&self) -> Vec<Target> {
        let ns = |name| self.of("lookup", name, "outrigger", "ns_per_lookup");
        let quiet = Target::at_most("look-up, quiet, ns", ns("quiet"), 20.0);
        let swapped = ["equal sets", "another time-out", "all policies and none"].map(|name| {
            [
                Target::at_most(format!("look-up, {name}, ns"), ns(name), 20.0),
                Target::at_most(
                    format!("look-up, {name}, over one beside a thread that only spins"),
                    ns(name).zip(ns("another thread spins")).map(|(swaps, spins)| swaps / spins),
                    1.1,
                ),
            ]
        });
        std::iter::once(quiet).chain(swapped.into_iter().flatten()).collect()
    }

    /// Two threads on one value over one thread: what is striped, and what counts exactly.
    fn contention(&self) -> Vec<Target> {
        const STRIPED: [&str; 6] = [
            "breaker_closed",
            "breaker_refusal",
            "balance_weighted_random_10",
            "balance_p2c_10",
            "maglev_lookup_1000",
            "policy_lookup",
        ];
        const EXACT: [&str; 3] = ["concurrency_limit", "rate_limit", "retry_first_ok"];
        let speedup = |name: &str, least| {
            let measured = self.of("contention", name, "outrigger", "speedup");
            Target::at_least(format!("{name}, two threads over one"), measured, least)
        };
        let striped = STRIPED.map(|name| speedup(name, 1.6));
        striped.into_iter().chain(EXACT.map(|name| speedup(name, 1.0))).collect()
    }
}

/// The dearest record over the cheapest.
fn window_spread(rows: &[Row]) -> Option<f64> {
    let records = rows.iter().filter(|row| row.group == "window" && row.system == "outrigger");
    let (least, most) = records.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), row| {
        (least.min(row.value), most.max(row.value))
    });
    (most > 0.0).then(|| most / least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, system: &str, value: f64) -> Row {
        Row {
            group: "overhead".to_owned(),
            name: name.to_owned(),
            system: system.to_owned(),
            metric: "over_bare_ns".to_owned(),
            value,
            unit: "ns".to_owned(),
        }
    }

    #[test]
    fn what_is_to_be_at_least_so_much_is_missed_below_it() {
        let verdict = |speedup| {
            let mut row = row("breaker_closed", "outrigger", speedup);
            (row.group, row.metric) = ("contention".to_owned(), "speedup".to_owned());
            let all = all(&[row]);
            let is_it = |target: &&Target| target.what == "breaker_closed, two threads over one";
            all.iter().find(is_it).expect("a target").cells()
        };
        assert_eq!(verdict(1.7)[1..], ["1.700", "at least 1.600", "met"]);
        assert_eq!(verdict(1.5)[3], "missed");
    }

    #[test]
    fn a_target_is_met_or_missed_by_the_ratio_of_one_run_or_not_measured() {
        let verdict = |ours: f64| {
            let rows = [
                row("breaker_closed", "outrigger", ours),
                row("breaker_closed", "tower-resilience", 200.0),
            ];
            all(&rows)[3].cells()[3].clone()
        };
        assert_eq!(verdict(50.0), "met");
        assert_eq!(verdict(51.0), "missed");
        assert_eq!(all(&[])[3].cells()[3], "not measured");
    }
}
