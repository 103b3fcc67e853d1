//! The published schema, asked about texts of any format.

use std::sync::LazyLock;

use jsonschema::Validator;
use outrigger::{Format, PolicySet};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

static SCHEMA: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft7::new(&PolicySet::schema()).expect("a valid schema"));

/// What the schema finds wrong with a text.
pub(crate) fn complaints(text: &str, format: Format) -> Vec<String> {
    let instance = match format {
        Format::Json => serde_json::from_str(text).expect("JSON"),
        Format::Toml => toml::from_str(text).expect("TOML"),
        _ => yaml(text),
    };
    SCHEMA
        .iter_errors(&instance)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// Fails unless the schema accepts the text.
pub(crate) fn assert_accepts(text: &str, format: Format) {
    assert_eq!(complaints(text, format), [""; 0], "{text}");
}

fn yaml(text: &str) -> Value {
    let mut events = Parser::new_from_str(text).map(|event| event.expect("YAML").0);
    loop {
        match events.next().expect("a document") {
            Event::StreamStart | Event::DocumentStart(_) => {}
            first => return node(first, &mut events),
        }
    }
}

fn node<'a>(event: Event<'a>, events: &mut impl Iterator<Item = Event<'a>>) -> Value {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
        Event::Scalar(text, ..) => text.into_owned().into(),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            while let Some(event) = events.next().filter(|event| *event != Event::SequenceEnd) {
                items.push(node(event, events));
            }
            items.into()
        }
        Event::MappingStart(..) => {
            let mut fields = Map::new();
            while let Some(Event::Scalar(key, ..)) = events.next() {
                let value = events.next().expect("a value");
                fields.insert(key.into_owned(), node(value, events));
            }
            fields.into()
        }
        other => panic!("{other:?}"),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}
