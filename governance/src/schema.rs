//! The JSON schema of policy files, for editors. It is made from the types that the reader reads,
//! and from its tables of short forms and of others' words.

mod grpc;
mod rework;

use outrigger_core::{Criticality, Enforcement};
use outrigger_loadbalance::BalancePolicy;
use outrigger_ratelimit::{
    AdaptiveLimitPolicy, ConcurrencyLimitPolicy, ConnectionLimitPolicy, RateLimitPolicy,
};
use outrigger_retry::RetryBudgetPolicy;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use self::grpc::{
    FailurePercentageEjection, Hedging, HedgingPolicy, LoadBalancing, Name, PercentBudget,
    RetryPolicy, RetryThrottling, SuccessRateEjection, TokenBucket,
};
use crate::{
    MethodPolicy, PolicySet,
    set::{CHANNELS_OWN, SERVER, SHORT, TOP, WORDS},
};

impl PolicySet {
    /// The JSON schema (draft 7) of policy files, in the short form and as a gRPC service config,
    /// with the default of every setting. Editors show it while a file is written.
    ///
    /// It knows no scope but the one that it looks at: what a policy must have may come from the
    /// defaults. [`parse`](Self::parse) is stricter.
    #[must_use]
    pub fn schema() -> Value {
        let mut generator = SchemaSettings::draft07().into_generator();
        let settings = scope(&mut generator);
        let service = of_service(&mut generator);
        let server = of_server(&mut generator);
        let top = top(&mut generator);
        let of_ejection = rework::OfEjection {
            success_rate: of::<SuccessRateEjection>(&mut generator),
            failure_percentage: of::<FailurePercentageEjection>(&mut generator),
        };
        // Of these only what they refer to is wanted, not their own names.
        let mut definitions = generator.take_definitions(true);
        rework::all(&mut definitions, of_ejection);

        let mut of_service = borrowed("Method", &settings);
        of_service.extend(service);
        let mut with_methods = borrowed("Template", &of_service);
        with_methods.insert("methods".into(), methods());
        let mut config = borrowed("Template", &of_service);
        config.insert("name".into(), names());
        for (name, properties) in [
            ("Method", settings),
            ("Service", with_methods),
            ("MethodConfig", config),
            ("Template", of_service),
            ("Server", server),
        ] {
            definitions.insert(name.into(), table(&properties));
        }
        let mut schema = table(&top);
        schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
        schema["title"] = "Outrigger policies".into();
        schema["description"] = "How the methods of services are governed.".into();
        schema["definitions"] = definitions.into();
        rework::both_spellings(&mut schema, "#");
        schema
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// The same settings as those of another table.
fn borrowed(from: &str, settings: &Map<String, Value>) -> Map<String, Value> {
    let borrow = |(name, schema): (&String, &Value)| {
        let same = reference(&format!("{from}/properties/{name}"));
        let is_other_word = schema.get("doNotSuggest").is_some();
        let other_word = json!({ "allOf": [same], "doNotSuggest": true });
        (name.clone(), if is_other_word { other_word } else { same })
    };
    settings.iter().map(borrow).collect()
}

fn table(properties: &Map<String, Value>) -> Value {
    json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
}

fn described(description: &str, any_of: impl IntoIterator<Item = Value>) -> Value {
    let forms: Vec<Value> = any_of.into_iter().collect();
    let kind = if forms.len() == 1 { "allOf" } else { "anyOf" };
    json!({ "description": description, kind: forms })
}

fn or_null(schema: Value) -> Value {
    let forms = vec![schema, json!({ "type": "null" })];
    json!({ "anyOf": forms })
}

/// A value that stands for a table with one field, or takes the policy away.
fn short_forms(name: &str, schema: &Value) -> Vec<Value> {
    let mut forms = vec![json!({ "enum": ["off", false, null] })];
    let field = SHORT.iter().find(|(short, _)| *short == name).map(|(_, field)| field);
    if let (Some(field), Some(policy)) = (field, schema["$ref"].as_str()) {
        forms.insert(0, json!({ "$ref": format!("{policy}/properties/{field}") }));
    }
    forms
}

fn policy(name: &str, description: &str, schema: Value) -> Value {
    let mut forms = short_forms(name, &schema);
    if name == "concurrency_limit" {
        let adaptive = reference("AdaptiveLimitPolicy");
        forms.push(json!({ "allOf": [adaptive], "required": ["algorithm"] }));
    }
    described(description, [schema].into_iter().chain(forms))
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// What can stand in every scope.
fn scope(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, description, schema) in MethodPolicy::schemas(generator) {
        all.insert(name.into(), policy(name, &description, schema.to_value()));
    }
    let upper = "^(SHEDDABLE|CRITICAL)(_PLUS)?$";
    let criticality = [of::<Criticality>(generator), json!({ "type": "string", "pattern": upper })];
    all.insert("criticality".into(), described("How important the calls are.", criticality));
    let enforcement = "For all policies of the scope that state none.";
    all.insert("enforcement".into(), described(enforcement, [of::<Enforcement>(generator)]));
    all.insert(
        "use".into(),
        json!({
            "description": "Templates that stand below these settings, the last uppermost.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        }),
    );
    for (name, description, schema) in [
        (
            "retry_policy",
            "gRPC's retries, in the place of `retry`.",
            or_null(of::<RetryPolicy>(generator)),
        ),
        (
            "hedging_policy",
            "gRPC's hedging, in the place of `retry`.",
            or_null(of::<HedgingPolicy>(generator)),
        ),
        (
            "hedging",
            "A backup request by a live quantile, in the place of `retry`.",
            of::<Hedging>(generator),
        ),
        ("token_bucket", "Envoy's words for `rate_limit`.", of::<TokenBucket>(generator)),
    ] {
        all.insert(name.into(), described(description, [schema]));
    }
    for word in WORDS.iter().filter(|word| word.section.is_empty()) {
        let same = reference(&format!("Method/properties/{}", word.ours));
        all.insert(word.theirs.into(), json!({ "allOf": [same], "doNotSuggest": true }));
    }
    for name in CHANNELS_OWN {
        let description = "The channel's own affair: read, and left alone.";
        all.insert(name.into(), json!({ "description": description }));
    }
    all
}

/// What can stand in every scope but that of one method.
fn of_service(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let budget = [
        of::<RetryBudgetPolicy>(generator),
        of::<PercentBudget>(generator),
        json!({ "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*%$" }),
        json!({ "type": "number", "minimum": 0, "maximum": 1 }),
    ];
    let budget =
        described("How many retries and backup requests the calls to a service may make.", budget);
    let balance =
        described("How a service's endpoints are picked.", [of::<BalancePolicy>(generator)]);
    let of_ejection =
        [of::<SuccessRateEjection>(generator), of::<FailurePercentageEjection>(generator)];
    drop(of_ejection);
    [("retry_budget".to_owned(), budget), ("balance".to_owned(), balance)].into_iter().collect()
}

fn of_server(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let schema = |generator: &mut SchemaGenerator, name: &str| match name {
        "connection_limit" => {
            ("How many connections may be open.", of::<ConnectionLimitPolicy>(generator))
        }
        "concurrency_limit" => {
            ("How many calls may run at once.", of::<ConcurrencyLimitPolicy>(generator))
        }
        "adaptive_limit" => (
            "How the number of calls is found that may run at once.",
            of::<AdaptiveLimitPolicy>(generator),
        ),
        "rate_limit" => ("How many calls may begin in a period.", of::<RateLimitPolicy>(generator)),
        _ => ("For all policies of the server that state none.", of::<Enforcement>(generator)),
    };
    let mut all = Map::new();
    for name in SERVER {
        let (description, schema) = schema(generator, name);
        all.insert(name.to_owned(), policy(name, description, schema));
    }
    all.insert("token_bucket".into(), of::<TokenBucket>(generator));
    all.insert("use".into(), reference("Method/properties/use"));
    all
}

fn methods() -> Value {
    json!({
        "description": "Settings of single methods, by their names.",
        "type": ["object", "null"],
        "additionalProperties": reference("Method"),
    })
}

fn names() -> Value {
    json!({
        "description": "Whom these settings are for. `{}` is every method.",
        "type": ["array", "null"],
        "items": reference("Name"),
    })
}

fn top(generator: &mut SchemaGenerator) -> Map<String, Value> {
    of::<Name>(generator);
    let named =
        |of: &str| json!({ "type": ["object", "null"], "additionalProperties": reference(of) });
    let mut all = Map::new();
    for name in TOP {
        let (description, schema) = match name {
            "defaults" => ("Settings of every method of every service.", reference("Template")),
            "services" => ("Settings of services, by their names.", named("Service")),
            "templates" => ("Settings that a scope takes over with `use`.", named("Template")),
            "server" => ("What governs a whole server, whatever the method.", reference("Server")),
            "retry_budget" | "balance" => (
                "That of the defaults.",
                or_null(reference(&format!("Template/properties/{name}"))),
            ),
            "method_config" => (
                "gRPC's form: the most exact entry counts alone.",
                json!({ "type": ["array", "null"], "items": reference("MethodConfig") }),
            ),
            "retry_throttling" => {
                ("gRPC's retry budget.", or_null(of::<RetryThrottling>(generator)))
            }
            "load_balancing_config" => (
                "gRPC's balancing: the first policy of the list that is supported counts.",
                json!({ "type": ["array", "null"], "items": of::<LoadBalancing>(generator) }),
            ),
            "load_balancing_policy" => {
                ("gRPC's older form of it.", json!({ "type": ["string", "null"] }))
            }
            "$schema" => ("This schema, for editors.", json!({ "type": "string" })),
            _ => ("Read, and left alone.", json!({})),
        };
        all.insert(name.to_owned(), described(description, [schema]));
    }
    all
}
