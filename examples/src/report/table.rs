use std::fmt;

use super::{Report, Row, Side};

/// Writes the report as a table for a person.
pub(super) fn write(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{}\n", report.scenario)?;
    write_side("with a circuit breaker", &report.governed, f)?;
    write_side("without", &report.ungoverned, f)?;
    writeln!(f, "state changes")?;
    for change in &report.state_changes {
        writeln!(f, "  {change}")?;
    }
    if !report.refused_by_servers.is_empty() {
        writeln!(f, "\nrefused by the servers themselves, of the calls of both")?;
    }
    for refusals in &report.refused_by_servers {
        writeln!(f, "{refusals}")?;
    }
    Ok(())
}

fn write_side(title: &str, side: &Side, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{title}")?;
    writeln!(
        f,
        "  {:<6}{:>7}{:>11}{:>8}{:>9}{:>9}{:>9}{:>18}",
        "server", "calls", "succeeded", "failed", "refused", "p50 ms", "p99 ms", "waited in vain s",
    )?;
    for row in side.servers.iter().chain([&side.total]) {
        write_row(row, f)?;
    }
    if let Some(us) = side.total.refusal_p99_us {
        writeln!(f, "  99 of 100 refused calls knew it within {us} µs")?;
    }
    writeln!(f)
}

fn write_row(row: &Row, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Row { server, calls, succeeded, failed, refused, p50_ms, p99_ms, waited_in_vain_s, .. } =
        row;
    writeln!(
        f,
        "  {server:<6}{calls:>7}{succeeded:>11}{failed:>8}{refused:>9}{p50_ms:>9.1}{p99_ms:>9.1}\
         {waited_in_vain_s:>18.1}",
    )
}
