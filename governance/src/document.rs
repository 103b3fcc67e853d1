//! A policy file as a tree of values, each of which knows where it stands.

mod de;
mod json;
mod toml;
mod yaml;

use std::{fmt, ops::Range, path::Path, sync::Arc};

pub(crate) use self::de::read;
use crate::{Format, Problem};

/// A text and what it is called in messages.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: Box<str>,
    pub(crate) text: Box<str>,
}

/// Where something stands, and as part of which scope.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    pub(crate) range: Range<usize>,
    /// `defaults`, the name of a service or of a method; empty elsewhere.
    pub(crate) scope: Arc<str>,
}

impl Place {
    /// No place of any file.
    pub(crate) fn nowhere() -> Self {
        place(&Arc::new(Source { name: "".into(), text: "".into() }), 0..0)
    }

    /// Line and column, both from 1, the column in characters.
    pub(crate) fn line_and_column(&self) -> (usize, usize) {
        let before = self.source.text.get(..self.range.start).unwrap_or(&self.source.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    List(Vec<Node>),
    Table(Table),
}

/// Keys with their values, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) const fn new(value: Value, place: Place) -> Self {
        Self { value, place }
    }

    /// The entries, if it is a table.
    pub(crate) const fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) const fn as_f64(&self) -> Option<f64> {
        match self.value {
            #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^52")]
            Value::Integer(n) => Some(n as f64),
            Value::Float(n) => Some(n),
            _ => None,
        }
    }

    /// Notes everywhere below that it is of `scope`.
    pub(crate) fn label(&mut self, scope: &Arc<str>) {
        self.place.scope = Arc::clone(scope);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.label(scope)),
            Value::Table(table) => {
                for entry in &mut table.entries {
                    entry.key_place.scope = Arc::clone(scope);
                    entry.value.label(scope);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn problem(&self, field: impl Into<String>, expected: impl fmt::Display) -> Problem {
        Problem::new(&self.place, field, format!("is {self}; it must be {expected}"))
    }
}

/// As messages and explanations show it: on one line.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("null"),
            Value::Bool(yes) => yes.fmt(f),
            Value::Integer(n) => n.fmt(f),
            Value::Float(n) => write!(f, "{n:?}"),
            Value::String(text) => write!(f, "{text:?}"),
            Value::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Value::Table(table) => {
                f.write_str("{")?;
                for (i, entry) in table.entries.iter().enumerate() {
                    write!(f, "{}{}: {}", if i == 0 { "" } else { ", " }, entry.key, entry.value)?;
                }
                f.write_str("}")
            }
        }
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Whether there is a value for `key`, be it to be read or not.
    pub(crate) fn states(&self, key: &str) -> bool {
        self.get(key).is_some_and(|node| !matches!(node.value, Value::Null))
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Sets `key`, as if it had been written where `value` is.
    pub(crate) fn set(&mut self, key: &str, value: Node) {
        if let Some(present) = self.get_mut(key) {
            *present = value;
        } else {
            let key_place = value.place.clone();
            self.entries.push(Entry { key: key.to_owned(), key_place, value });
        }
    }

    /// Adds an entry of a file; a key that is there already is a mistake.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<(), Problem> {
        if let Some(first) = self.entry(&entry.key) {
            let (line, _) = first.key_place.line_and_column();
            let message = format!("stands twice in one table; the first is on line {line}");
            return Err(Problem::new(&entry.key_place, entry.key, message));
        }
        self.entries.push(entry);
        Ok(())
    }
}

/// Reads a text as a tree.
pub(crate) fn parse(name: &str, text: &str, format: Format) -> Result<Node, Problem> {
    // Editors on Windows may begin a file so; no column counts it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Arc::new(Source { name: name.into(), text: text.into() });
    match format {
        Format::Json => json::parse(&source),
        Format::Yaml => yaml::parse(&source),
        Format::Toml => toml::parse(&source),
    }
}

/// Places in one source.
fn place(source: &Arc<Source>, range: Range<usize>) -> Place {
    Place { source: Arc::clone(source), range, scope: Arc::from("") }
}

/// The format that a path's extension tells.
pub(crate) fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "json" => Some(Format::Json),
        "yaml" | "yml" => Some(Format::Yaml),
        "toml" => Some(Format::Toml),
        _ => None,
    }
}

/// How deep values may nest: no policy needs a tenth of it, and no file may exhaust the stack.
const MAX_DEPTH: usize = 64;
