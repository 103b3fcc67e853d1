//! What was aimed at, as ratios of one run, and whether it was reached.

use crate::row::{Row, readable};

/// One aim and what came of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    /// Nothing where it was not measured.
    pub(crate) measured: Option<f64>,
    pub(crate) at_most: f64,
}

impl Target {
    /// Measured, at most, and what that comes to.
    pub(crate) fn cells(&self) -> [String; 4] {
        let verdict = match self.measured {
            None => "not measured",
            Some(measured) if measured <= self.at_most => "met",
            Some(_) => "missed",
        };
        let measured = self.measured.map_or_else(|| "-".to_owned(), precise);
        [self.what.to_owned(), measured, precise(self.at_most), verdict.to_owned()]
    }
}

/// Three places: what is 2 % too much must be seen.
fn precise(value: f64) -> String {
    if value.fract() == 0.0 { readable(value) } else { format!("{value:.3}") }
}

/// All of them, by the rows of a run.
pub(crate) fn all(rows: &[Row]) -> Vec<Target> {
    let of = |group: &str, name: &str, system: &str, metric: &str| {
        let is = |row: &&Row| {
            (row.group.as_str(), row.name.as_str()) == (group, name)
                && (row.system.as_str(), row.metric.as_str()) == (system, metric)
        };
        rows.iter().find(is).map(|row| row.value)
    };
    let over_bare = |name: &str, system: &str| of("overhead", name, system, "over_bare_ns");
    let share = |name: &str, system: &str, peers_name: &str| {
        Some(over_bare(name, "outrigger")? / over_bare(peers_name, system)?)
    };
    let allocs = |name: &str, system: &str| of("overhead", name, system, "allocs_per_call");
    let own_allocs =
        || Some(allocs("client_stack", "outrigger")? - allocs("observe_cached_handles", "bare")?);
    let clock_reads = || {
        let more =
            over_bare("breaker_closed", "outrigger")? - over_bare("breaker_closed", "recloser")?;
        Some(more / over_bare("clock_read", "bare")?)
    };
    let target = |what, measured, at_most| Target { what, measured, at_most };
    vec![
        target(
            "client_stack: allocations of a call, without the recorder's own",
            own_allocs(),
            0.0,
        ),
        target(
            "client_stack, time over tower-resilience's, metrics on in both",
            share("client_stack", "tower-resilience", "client_stack"),
            0.125,
        ),
        target(
            "client_stack_no_observe, time over tower-resilience's",
            share("client_stack_no_observe", "tower-resilience", "client_stack_no_observe"),
            0.25,
        ),
        target(
            "breaker_closed, time over tower-resilience's",
            share("breaker_closed", "tower-resilience", "breaker_closed"),
            0.25,
        ),
        target("breaker_closed, more than recloser's, in reads of the clock", clock_reads(), 2.0),
        target("window, dearest over cheapest from 10 to 10^6 calls", window_spread(rows), 1.3),
        target(
            "balance_p2c_10, time over tower's `Buffer<Balance>`",
            share("balance_p2c_10", "tower", "balance_p2c_10_buffer"),
            0.1,
        ),
        target(
            "rpc, CPU time of a call with our stack over one without, 64 in flight",
            of("rpc", "unary_64", "outrigger", "cpu_ratio"),
            1.02,
        ),
    ]
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
