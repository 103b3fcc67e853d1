//! What a subcommand found: rows for machines, tables for people.

use std::{fmt, fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The subcommand or scenario.
    pub(crate) group: String,
    /// What was done.
    pub(crate) name: String,
    /// By whom.
    pub(crate) system: String,
    pub(crate) metric: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// All figures of one run, with the tables that show them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    group: String,
    notes: Vec<String>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(group: &str) -> Self {
        Self { group: group.to_owned(), ..Self::default() }
    }

    /// Adds a sentence that stands above the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a line: what was done, by whom, and each metric with its value and unit. What has no
    /// value is left out.
    pub(crate) fn line(&mut self, name: &str, system: &str, metrics: &[(&str, f64, &str)]) {
        let known = metrics.iter().filter(|(_, value, _)| value.is_finite());
        self.rows.extend(known.map(|&(metric, value, unit)| Row {
            group: self.group.clone(),
            name: name.to_owned(),
            system: system.to_owned(),
            metric: metric.to_owned(),
            value,
            unit: unit.to_owned(),
        }));
    }

    /// Adds rows of the same group that were found elsewhere.
    #[cfg(feature = "peers")]
    pub(crate) fn append(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Puts the rows into `file`, in place of those of the same group.
    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        let mut all = read(file)?;
        all.retain(|row| row.group != self.group);
        all.extend(self.rows.iter().cloned());
        let lines: Result<Vec<_>, _> = all.iter().map(serde_json::to_string).collect();
        fs::write(file, format!("[\n{}\n]\n", lines?.join(",\n")))
    }
}

/// The rows in a file; none if there is no file.
pub(crate) fn read(file: &Path) -> io::Result<Vec<Row>> {
    match fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.group)?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        write_table(f, &self.rows)?;
        writeln!(f)
    }
}

/// One line for each name and system, one column for each metric.
fn write_table(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let cells = table(rows);
    let columns = cells.first().map_or(0, Vec::len);
    let width = |column: usize| cells.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for line in &cells {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(f, "{cell:<width$}")?,
                1 => write!(f, "  {cell:<width$}")?,
                _ => write!(f, "  {cell:>width$}")?,
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

/// The head and the lines of a table, cell by cell.
pub(crate) fn table(rows: &[Row]) -> Vec<Vec<String>> {
    let mut metrics: Vec<&str> = Vec::new();
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        if !metrics.contains(&row.metric.as_str()) {
            metrics.push(&row.metric);
        }
        let line = (row.name.as_str(), row.system.as_str());
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let mut cells = vec![vec!["name".to_owned(), "system".to_owned()]];
    cells[0].extend(metrics.iter().map(|&metric| metric.to_owned()));
    for (name, system) in lines {
        let mut line = vec![name.to_owned(), system.to_owned()];
        line.extend(metrics.iter().map(|&metric| {
            let of = |row: &&Row| row.name == name && row.system == system && row.metric == metric;
            rows.iter().find(of).map_or_else(|| "-".to_owned(), |row| readable(row.value))
        }));
        cells.push(line);
    }
    cells
}

/// Three digits that count, and no more than two after the point.
pub(crate) fn readable(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "-".to_owned()
    } else if value.fract() == 0.0 || size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_name_and_system_and_a_column_for_each_metric() {
        let mut report = Report::new("overhead");
        let metrics = [("ns_per_call", 12.34, "ns"), ("allocs_per_call", 0.0, "allocations")];
        report.line("timeout", "outrigger", &metrics);
        report.line("timeout", "tower", &[("ns_per_call", 45.0, "ns")]);
        assert_eq!(
            table(&report.rows),
            [
                ["name", "system", "ns_per_call", "allocs_per_call"],
                ["timeout", "outrigger", "12.3", "0"],
                ["timeout", "tower", "45", "-"],
            ],
        );
    }
}
