//! What the types do not say of a file: scopes hold parts of policies, a choice may only be named,
//! and settings have other words and another spelling.

use serde_json::{Map, Value, json};

use crate::set::{Form, WORDS};

/// The rules of gRFC A50, which the reader puts into the words of ours.
pub(super) struct OfEjection {
    pub(super) success_rate: Value,
    pub(super) failure_percentage: Value,
}

/// Turns the schemas of whole policies into those of what a scope may say of them.
pub(super) fn all(definitions: &mut Map<String, Value>, of_ejection: OfEjection) {
    let whole = definitions.clone();
    for schema in definitions.values_mut() {
        choices(schema, &whole);
        parts(schema);
        plain_text(schema);
    }
    more_forms(definitions);
    let ejection = &mut definitions["EjectionInFile"]["properties"];
    ejection["success_rate_ejection"] = of_ejection.success_rate;
    ejection["failure_percentage_ejection"] = of_ejection.failure_percentage;
    words(definitions);
}

/// A choice is one of some names, or a table with one of them.
fn choices(schema: &mut Value, whole: &Map<String, Value>) {
    each_below(schema, &mut |below| choices(below, whole));
    let Some(variants) = schema.get("oneOf").and_then(Value::as_array) else { return };
    let (mut words, mut descriptions, mut tables) = (Vec::new(), Vec::new(), Map::new());
    for variant in variants {
        let description = variant.get("description").cloned().unwrap_or_default();
        let only_words = variant
            .get("const")
            .into_iter()
            .chain(variant.get("enum").and_then(Value::as_array).into_iter().flatten());
        for name in only_words.filter_map(Value::as_str) {
            words.push(name.to_owned());
            descriptions.push(description.clone());
            tables.insert(name.to_owned(), json!({ "type": "object", "maxProperties": 0 }));
        }
        for (name, inner) in
            variant.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            if may_be_only_named(inner, whole) {
                words.push(name.clone());
                descriptions.push(description.clone());
            }
            let mut inner = inner.clone();
            if inner.get("$ref").is_some() {
                inner = json!({ "allOf": [inner] });
            }
            inner["description"] = description.clone();
            tables.insert(name.clone(), inner);
        }
    }
    let fields = schema.as_object_mut().expect("it has a field");
    fields.remove("oneOf");
    let only_words = json!({ "type": "string", "enum": words, "enumDescriptions": descriptions });
    if tables.values().all(|table| table.get("maxProperties").is_some()) {
        fields.extend(only_words.as_object().cloned().unwrap_or_default());
        return;
    }
    let one = json!({
        "type": "object", "properties": tables, "additionalProperties": false,
        "minProperties": 1, "maxProperties": 1,
    });
    fields.insert("anyOf".to_owned(), json!([only_words, one]));
}

/// Whether nothing in it must be stated.
fn may_be_only_named(inner: &Value, whole: &Map<String, Value>) -> bool {
    let name = inner.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let inner = name.and_then(|name| whole.get(name)).unwrap_or(inner);
    inner.get("type").is_some_and(|kind| kind == "object") && inner.get("required").is_none()
}

/// What is missing in one scope may stand in a wider one.
fn parts(schema: &mut Value) {
    each_below(schema, &mut parts);
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("required");
    }
}

/// Descriptions without what only Rust's documentation shows: examples in code, and where links lead.
fn plain_text(schema: &mut Value) {
    each_below(schema, &mut plain_text);
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let prose = text.split("\n\n```").next().unwrap_or_default();
        let mut plain = String::with_capacity(prose.len());
        let mut rest = prose;
        while let Some((before, after)) = rest.split_once("](") {
            let opens = before.rfind('[').unwrap_or(before.len());
            plain.push_str(&before[..opens]);
            plain.push_str(before.get(opens + 1..).unwrap_or_default());
            rest = after.split_once(')').map_or("", |(_, rest)| rest);
        }
        plain.push_str(rest);
        *text = plain.replace("[`", "`").replace("`]", "`").replace("\n\n", "\u{0}");
        *text = text.replace('\n', " ").replace('\u{0}', "\n\n");
    }
}

/// Forms that the reader translates before a policy is read.
fn more_forms(definitions: &mut Map<String, Value>) {
    let also = |definitions: &mut Map<String, Value>, name: &str, field: &str, form: Value| {
        let schema = &mut definitions[name]["properties"][field];
        let mut whole = schema.take();
        let described = whole.as_object_mut().and_then(|schema| schema.remove("description"));
        *schema = json!({ "description": described, "anyOf": [whole, form] });
    };
    let rate = json!({
        "type": "string", "pattern": r"^[0-9]+\s*/\s*.+$", "examples": ["100/s", "600/1m"],
    });
    also(definitions, "RateLimitPolicy", "rate", rate);
    also(definitions, "RetryPolicy", "backup_delay", json!({ "$ref": "#/definitions/Duration" }));
    let codes = json!({ "type": "array", "items": { "type": ["string", "integer"] } });
    also(definitions, "RetryPolicy", "retryable_status_codes", codes);
}

/// The words of resilience4j and Envoy for settings of ours.
fn words(definitions: &mut Map<String, Value>) {
    for word in WORDS {
        let Some(name) = definition_of(word.section) else { continue };
        let path = word.ours.replace('.', "/properties/");
        let schema = match word.form {
            // The tables of two rules have names of their own.
            Form::Same if word.ours.contains('.') => {
                let description = format!("resilience4j's word for `{}`.", word.ours);
                json!({ "description": description })
            }
            Form::Same => {
                json!({ "allOf": [{ "$ref": format!("#/definitions/{name}/properties/{path}") }] })
            }
            Form::Percent => json!({
                "description": format!("`{}` in percent.", word.ours),
                "type": "number", "minimum": 0, "maximum": 100,
            }),
            Form::Window => json!({
                "description": "resilience4j's window: so many calls, or seconds where the type is `TIME_BASED`.",
                "type": "integer", "minimum": 1,
            }),
            Form::WindowType => json!({ "enum": ["COUNT_BASED", "TIME_BASED"] }),
        };
        let mut schema = schema;
        schema["doNotSuggest"] = true.into();
        definitions[name]["properties"][word.theirs] = schema;
    }
}

fn definition_of(section: &str) -> Option<&'static str> {
    Some(match section {
        "circuit_breaker" => "CircuitBreakerPolicy",
        "concurrency_limit" => "ConcurrencyLimitPolicy",
        "adaptive_limit" => "AdaptiveLimitPolicy",
        "rate_limit" => "RateLimitPolicy",
        "balance" => "BalancePolicy",
        "ejection" => "EjectionInFile",
        _ => return None,
    })
}

/// Every setting may also be written in `lowerCamelCase`. Editors suggest one spelling.
pub(super) fn both_spellings(schema: &mut Value, path: &str) {
    match schema {
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                both_spellings(item, &format!("{path}/{i}"));
            }
        }
        Value::Object(fields) => {
            for (name, below) in fields.iter_mut() {
                both_spellings(below, &format!("{path}/{name}"));
            }
            if let Some(Value::Object(properties)) = fields.get_mut("properties") {
                let snake: Vec<String> =
                    properties.keys().filter(|name| name.contains('_')).cloned().collect();
                for name in snake {
                    let same = json!({ "$ref": format!("{path}/properties/{name}") });
                    let twin = json!({ "allOf": [same], "doNotSuggest": true });
                    properties.insert(camel(&name), twin);
                }
            }
        }
        _ => {}
    }
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let mut letters = word.chars();
        let initial = letters.next().map(|c| c.to_ascii_uppercase());
        camel + &initial.into_iter().chain(letters).collect::<String>()
    })
}

fn each_below(schema: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(visit),
        Value::Object(fields) => fields.values_mut().for_each(visit),
        _ => {}
    }
}
