use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// How a duration stands in a policy file, for JSON schemas: `250ms`, `1h 30m`, `1.5s`.
///
/// Never made; it stands in the place of a `Duration` where a schema is derived.
#[derive(Clone, Copy, Debug)]
pub enum DurationInFile {}

/// The units of `humantime`, and of protobuf's JSON a fraction of seconds and below.
const PATTERN: &str = concat!(
    r"^(0|\s*([0-9]+\s*(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds?|secs?|s|minutes?|mins?|m|",
    r"hours?|hrs?|hr|h|days?|d|weeks?|wks?|w|months?|M|years?|yrs?|y)\s*)+",
    r"|[0-9]+\.[0-9]{0,9}(us|ms|s))$"
);

impl JsonSchema for DurationInFile {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit: `250ms`, `1.5s`, `1h 30m`.",
            "type": "string",
            "pattern": PATTERN,
            "examples": ["250ms", "1.5s", "1h 30m"],
        })
    }
}
