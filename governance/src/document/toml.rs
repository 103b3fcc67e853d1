use std::sync::Arc;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Entry, MAX_DEPTH, Node, Source, Table, Value, place};
use crate::Problem;

pub(super) fn parse(source: &Arc<Source>) -> Result<Node, Problem> {
    let document = DeTable::parse(&source.text).map_err(|error| {
        let range = error.span().unwrap_or_default();
        Problem::new(&place(source, range), "", error.message())
    })?;
    let here = place(source, document.span());
    if document.get_ref().is_empty() {
        // As in the other formats: perhaps it is only about to be written.
        return Err(Problem::new(&place(source, 0..0), "", "the file is empty"));
    }
    Ok(Node::new(Value::Table(table(source, document.get_ref(), 0)?), here))
}

fn table(source: &Arc<Source>, parsed: &DeTable<'_>, depth: usize) -> Result<Table, Problem> {
    let mut table = Table::default();
    for (key, value) in parsed {
        let key_place = place(source, key.span());
        let value = node(source, value, depth + 1)?;
        table.add(Entry { key: key.get_ref().to_string(), key_place, value })?;
    }
    // The parser sorts its tables; the reader wants the order of the file.
    table.entries.sort_by_key(|entry| entry.key_place.range.start);
    Ok(table)
}

fn node(
    source: &Arc<Source>,
    parsed: &Spanned<DeValue<'_>>,
    depth: usize,
) -> Result<Node, Problem> {
    let here = place(source, parsed.span());
    if depth > MAX_DEPTH {
        return Err(Problem::new(&here, "", "tables nest too deeply"));
    }
    let value = match parsed.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(yes) => Value::Bool(*yes),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            Value::Integer(number.map_err(|_| Problem::new(&here, "", "the number is too large"))?)
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse();
            Value::Float(number.map_err(|_| Problem::new(&here, "", "this is no number"))?)
        }
        DeValue::Datetime(_) => {
            return Err(Problem::new(&here, "", "no setting is a date; write a duration as `5s`"));
        }
        DeValue::Array(items) => Value::List(
            items.iter().map(|item| node(source, item, depth + 1)).collect::<Result<_, _>>()?,
        ),
        DeValue::Table(inner) => Value::Table(table(source, inner, depth)?),
    };
    Ok(Node::new(value, here))
}
