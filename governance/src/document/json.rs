use std::sync::Arc;

use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{ObjectPropName, Value as Ast},
    common::{Range, Ranged},
    parse_to_ast,
};

use super::{Entry, Node, Source, Table, Value, place};
use crate::Problem;

/// JSON as RFC 8259 has it, and nothing looser.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(super) fn parse(source: &Arc<Source>) -> Result<Node, Problem> {
    let parsed = parse_to_ast(&source.text, &CollectOptions::default(), &STRICT);
    let parsed = parsed.map_err(|error| {
        let Range { start, end } = error.range();
        Problem::new(&place(source, start..end), "", error.kind().to_string())
    })?;
    match parsed.value {
        Some(value) => node(source, &value),
        None => Err(Problem::new(&place(source, 0..0), "", "the file is empty")),
    }
}

fn node(source: &Arc<Source>, ast: &Ast<'_>) -> Result<Node, Problem> {
    let Range { start, end } = ast.range();
    let here = place(source, start..end);
    let value =
        match ast {
            Ast::NullKeyword(_) => Value::Null,
            Ast::BooleanLit(literal) => Value::Bool(literal.value),
            Ast::StringLit(literal) => Value::String(literal.value.clone().into_owned()),
            Ast::NumberLit(literal) => match literal.value.parse().map(Value::Integer) {
                Ok(integer) => integer,
                Err(_) => Value::Float(literal.value.parse().map_err(|_| {
                    Problem::new(&here, "", format!("{} is no number", literal.value))
                })?),
            },
            Ast::Array(array) => Value::List(
                array.elements.iter().map(|item| node(source, item)).collect::<Result<_, _>>()?,
            ),
            Ast::Object(object) => {
                let mut table = Table::default();
                for property in &object.properties {
                    let Range { start, end } = property.name.range();
                    let key = match &property.name {
                        ObjectPropName::String(name) => name.value.clone().into_owned(),
                        ObjectPropName::Word(name) => name.value.to_owned(),
                    };
                    let key_place = place(source, start..end);
                    table.add(Entry { key, key_place, value: node(source, &property.value)? })?;
                }
                Value::Table(table)
            }
        };
    Ok(Node::new(value, here))
}
