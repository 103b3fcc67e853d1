//! Every setting of every crate can be stated in a file.

#[path = "support/rows.rs"]
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::rows::{Row, rows};

/// The rows themselves have compared what was read with what was built by hand. Here: no setting
/// is forgotten. A policy that is written back shows all its settings, so one that a row never
/// states, or states only as it is by default, is found.
#[test]
fn every_setting_of_every_policy_is_stated_with_a_value_other_than_its_default() {
    let mut sections: BTreeMap<_, Vec<Row>> = BTreeMap::new();
    for row in rows() {
        sections.entry((row.scope, row.section)).or_default().push(row);
    }
    let mut forgotten = Vec::new();
    for ((scope, section), rows) in &sections {
        let default = leaves(&rows[0].default);
        let written = rows.iter().flat_map(|row| leaves(&row.read).into_keys());
        let known: BTreeSet<String> = written.chain(default.keys().cloned()).collect();
        for path in known {
            let is_another = |row: &Row| {
                let stated = leaves(&row.stated).contains_key(&path);
                stated && leaves(&row.read).get(&path) != default.get(&path)
            };
            // What is a table in one row can be nothing in another.
            let is_a_table = |row: &Row| is_table(&row.stated, &path);
            if !rows.iter().any(|row| is_another(row) || is_a_table(row)) {
                forgotten.push(format!("{scope}.{section}.{path}"));
            }
        }
    }
    assert_eq!(forgotten, [""; 0], "settings that no row states");
    assert_eq!(sections.len(), 15, "the sections of a file");
}

fn is_table(value: &Value, path: &str) -> bool {
    path.split('.').try_fold(value, |value, name| value.get(name)).is_some_and(Value::is_object)
}

/// The file as a whole has no part that no row is about.
#[test]
fn a_row_shows_the_file_that_it_is_about() {
    let files: BTreeSet<String> = rows().iter().map(Row::file).collect();
    assert!(files.len() > 40, "{}", files.len());
}

/// Every value that is no table, with the path of names to it.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(&format!("{path}{dot}{name}"), value, into);
                }
            }
            _ => drop(into.insert(path.to_owned(), value.clone())),
        }
    }
    let mut all = BTreeMap::new();
    walk("", value, &mut all);
    all
}
