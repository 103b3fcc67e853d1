//! Who records metrics, with a recorder installed: ours, the macros as people write them, and
//! tower-resilience with its metrics on.

use std::{io, path::Path, process::Command};

use super::ours;
#[cfg(feature = "peer-metrics")]
use super::tower_resilience;
use crate::{
    kit::{Calls, Case, Clock, Plain},
    row::{Row, read},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = ours::metered();
    cases.push(Case::new("observe", "bare", macros()));
    cases.push(Case::new("observe_cached_handles", "bare", handles()));
    #[cfg(feature = "peer-metrics")]
    cases.push(Case::new(
        "client_stack",
        "tower-resilience",
        crate::kit::Cloned(tower_resilience::stack(crate::kit::inner())),
    ));
    cases
}

/// A counter, a histogram and a gauge with labels, as people write them around a call.
fn macros() -> impl Calls {
    Plain(|_| {
        metrics::gauge!("calls_in_flight", "method" => "shop.Orders/Place").increment(1.0);
        let began = Clock::now();
        let labels = [("method", "shop.Orders/Place"), ("outcome", "success")];
        metrics::counter!("calls", &labels).increment(1);
        metrics::histogram!("call_duration", &labels).record(began.elapsed());
        metrics::gauge!("calls_in_flight", "method" => "shop.Orders/Place").decrement(1.0);
    })
}

/// The same with instruments that were looked up before: what the recorder itself takes.
fn handles() -> impl Calls {
    let labels = [("method", "shop.Orders/Place"), ("outcome", "success")];
    let in_flight = metrics::gauge!("calls_in_flight", "method" => "shop.Orders/Place");
    let (calls, duration) =
        (metrics::counter!("calls", &labels), metrics::histogram!("call_duration", &labels));
    Plain(move |_| {
        in_flight.increment(1.0);
        let began = Clock::now();
        calls.increment(1);
        duration.record(began.elapsed());
        in_flight.decrement(1.0);
    })
}

/// The rows of these cases, measured by a program of its own: tower-resilience has its metrics
/// either on or off in a program.
pub(super) fn of_another_build(is_quick: bool) -> io::Result<Vec<Row>> {
    let file = std::env::temp_dir().join(format!("outrigger-metered-{}.json", std::process::id()));
    let rows = build_and_run(is_quick, &file);
    let _ = std::fs::remove_file(&file);
    let mut rows = rows?;
    rows.retain(|row| row.name != "bare");
    Ok(rows)
}

fn build_and_run(is_quick: bool, file: &Path) -> io::Result<Vec<Row>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--package", "outrigger-bench", "--features"]);
    command.args(["peer-metrics", "--", "overhead", "--json"]).arg(file);
    if is_quick {
        command.arg("--quick");
    }
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).stdout(io::stderr()).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("cargo run --features peer-metrics: {status}")));
    }
    read(file)
}
