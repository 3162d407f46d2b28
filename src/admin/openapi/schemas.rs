//! From types to JSON Schema (2020-12, which OpenAPI 3.1 uses as it is), in the words of this API.
//!
//! What is received and what is sent are described apart, since one type may take less than it gives.
//! Two habits of the API are put in here, once, instead of at every member: a member of a request that
//! is there has a value; and a member of an answer whose name says that it is a date is one.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use super::super::operation::SchemaOf;

const PATH: &str = "/components/schemas";

/// Collects the schemas of a document.
pub(super) struct Schemas {
    received: SchemaGenerator,
    sent: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = PATH.into();
                settings.meta_schema = None;
            })
        };
        Self {
            received: settings().for_deserialize().into_generator(),
            sent: settings().for_serialize().into_generator(),
        }
    }

    /// The schema of something that callers send, or a reference to it.
    pub(super) fn received(&mut self, of: SchemaOf) -> Value {
        let mut schema = value(of(&mut self.received));
        each_object(&mut schema, &mut as_received);
        schema
    }

    /// The schema of something that callers get.
    pub(super) fn sent(&mut self, of: SchemaOf) -> Value {
        let mut schema = value(of(&mut self.sent));
        each_object(&mut schema, &mut as_sent);
        schema
    }

    /// The members of something that callers send, which must be an object.
    pub(super) fn members(&mut self, of: SchemaOf) -> Vec<(String, Value, bool)> {
        let schema = self.received(of);
        let name = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|at| at.rsplit('/').next());
        // A query is no schema of its own: it is taken apart.
        let taken = name.and_then(|name| self.received.definitions_mut().remove(name));
        let mut object = taken.unwrap_or(schema);
        each_object(&mut object, &mut as_received);
        let required = |name: &str| {
            let listed = object.get("required").and_then(Value::as_array);
            listed.is_some_and(|listed| listed.iter().any(|of| of == name))
        };
        let members = object.get("properties").and_then(Value::as_object);
        let members = members.into_iter().flatten();
        members
            .map(|(name, schema)| (name.clone(), schema.clone(), required(name)))
            .collect()
    }

    /// All that was referred to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut all = self.received.take_definitions(true);
        for schema in all.values_mut() {
            each_object(schema, &mut as_received);
        }
        for (name, mut schema) in self.sent.take_definitions(true) {
            each_object(&mut schema, &mut as_sent);
            all.insert(name, schema);
        }
        all
    }
}

fn value(schema: Schema) -> Value {
    schema.to_value()
}

/// Calls `change` for a value and all below it that are objects.
fn each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object
                .values_mut()
                .for_each(|below| each_object(below, change));
        }
        Value::Array(list) => list.iter_mut().for_each(|below| each_object(below, change)),
        _ => {}
    }
}

/// `null` is not the same as leaving a member out, and is refused.
fn as_received(schema: &mut Map<String, Value>) {
    without_null(schema);
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

fn as_sent(schema: &mut Map<String, Value>) {
    schema.remove("default");
    let Some(Value::Object(members)) = schema.get_mut("properties") else {
        return;
    };
    for (name, member) in members {
        let Value::Object(member) = member else {
            continue;
        };
        if is_date(name) {
            as_date(member);
        }
    }
}

/// Whether a member of that name is a date, when it is text.
fn is_date(name: &str) -> bool {
    const NAMES: [&str; 5] = [
        "at",
        "effective_everywhere_by",
        "now",
        "since",
        "tokens_not_before",
    ];
    NAMES.contains(&name)
        || ["_at", "_since", "_until"]
            .iter()
            .any(|end| name.ends_with(end))
}

fn as_date(member: &mut Map<String, Value>) {
    if is_of(member, "array") {
        if let Some(Value::Object(item)) = member.get_mut("items") {
            as_date(item);
        }
    } else if is_of(member, "string") {
        member.insert("format".into(), "date-time".into());
    }
}

fn is_of(schema: &Map<String, Value>, wanted: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(of)) => of == wanted,
        Some(Value::Array(of)) => of.iter().any(|of| of == wanted),
        _ => false,
    }
}

/// Takes `null` out of the types and alternatives of a schema.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|of| of != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.retain(|of| of.get("type").is_none_or(|of| of != "null"));
        if let [Value::Object(only)] = any.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (name, value) in only {
                schema.entry(name).or_insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::super::super::operation::schema_of;
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Question {
        must: String,
        #[serde(default)]
        #[schemars(range(min = 1, max = 9))]
        may: Option<u64>,
        nested: Option<Nested>,
    }

    #[derive(Deserialize, Serialize, JsonSchema)]
    struct Nested {
        since: Option<String>,
    }

    #[derive(Serialize, JsonSchema)]
    struct Reply {
        always_at: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seldom: Option<String>,
        made_at: Vec<String>,
        at: u64,
    }

    #[test]
    fn what_is_received_has_no_null_and_what_is_sent_has_dates() {
        let mut schemas = Schemas::new();
        schemas.received(schema_of::<Question>);
        schemas.sent(schema_of::<Reply>);
        let all = Value::Object(schemas.finish());
        let question = &all["Question"];
        assert_eq!(question["required"], json!(["must"]));
        assert_eq!(question["additionalProperties"], false);
        let may = &question["properties"]["may"];
        assert_eq!(
            (&may["type"], &may["maximum"]),
            (&json!("integer"), &json!(9))
        );
        assert!(may.get("default").is_none());
        let nested = &question["properties"]["nested"];
        assert_eq!(*nested, json!({ "$ref": "#/components/schemas/Nested" }));
        assert_eq!(all["Nested"]["properties"]["since"]["type"], "string");
        let reply = &all["Reply"]["properties"];
        assert_eq!(reply["always_at"]["type"], json!(["string", "null"]));
        assert_eq!(reply["always_at"]["format"], "date-time");
        assert_eq!(reply["seldom"]["type"], json!(["string", "null"]));
        assert_eq!(reply["made_at"]["items"]["format"], "date-time");
        assert!(reply["at"].get("format") != Some(&json!("date-time")));
    }
}
