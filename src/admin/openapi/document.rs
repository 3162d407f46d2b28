//! Puts the document together: paths, parameters, bodies, components.

use serde_json::{Map, Value, json};

use super::super::auth::Role;
use super::super::error::Problem;
use super::super::operation::{Access, Example, Operation, Parameter, Place, Tag, schema_of};
use super::super::table::operations;
use super::answers::responses;
use super::prose;
use super::schemas::Schemas;

const JSON: &str = "application/json";

/// The whole document.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::new();
    schemas.sent(schema_of::<Problem<'static>>);
    let mut paths: Map<String, Value> = Map::new();
    let mut problems = Map::new();
    for of in operations() {
        let made = operation(of, &mut schemas, &mut problems);
        let path = paths.entry(of.path).or_insert_with(|| json!({}));
        put(path, &of.method.as_str().to_ascii_lowercase(), made);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": prose::SUMMARY,
            "description": prose::description(),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{
            "url": "http://127.0.0.1:9901",
            "description": "The admin listener where `listeners.admin.address` has it by default.",
        }],
        "tags": Tag::ALL.map(|tag| json!({ "name": tag.name(), "description": tag.about() })),
        "security": [{ "adminToken": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "responses": problems,
            "securitySchemes": {
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": prose::TOKEN,
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "portcullis_session",
                    "description": prose::SESSION,
                },
            },
        },
    })
}

fn operation(of: &Operation, schemas: &mut Schemas, problems: &mut Map<String, Value>) -> Value {
    let mut made = json!({
        "operationId": of.id,
        "tags": [of.tag.name()],
        "summary": of.summary,
        "description": description(of),
        "responses": responses(of, schemas, problems),
    });
    let parameters = parameters(of, schemas);
    if !parameters.is_empty() {
        put(&mut made, "parameters", parameters);
    }
    if let Some(body) = of.body {
        let content = json!({
            JSON: {
                "schema": schemas.received(body),
                "examples": examples(of, |example| example.body.clone()),
            },
        });
        let body = json!({ "required": true, "content": content });
        put(&mut made, "requestBody", body);
    }
    match of.access {
        Access::Open => put(&mut made, "security", json!([])),
        Access::Role(role) => put(&mut made, "x-role", role.as_str()),
    }
    made
}

fn description(of: &Operation) -> String {
    let role = match of.access {
        Access::Open => "Needs no credentials.",
        Access::Role(Role::Viewer) => "Needs the role `viewer`, `operator` or `admin`.",
        Access::Role(Role::Operator) => "Needs the role `operator` or `admin`.",
        Access::Role(Role::Admin) => "Needs the role `admin`.",
    };
    if of.about.is_empty() {
        role.to_owned()
    } else {
        format!("{}\n\n{role}", of.about)
    }
}

fn parameters(of: &Operation, schemas: &mut Schemas) -> Vec<Value> {
    let own = of.parameters.iter().map(|parameter| {
        let schema = schemas.received(parameter.schema);
        with_examples(of, parameter.name, fixed(parameter, schema))
    });
    let mut all: Vec<Value> = own.collect();
    let Some(query) = of.query else {
        return all;
    };
    for (name, mut schema, required) in schemas.members(query) {
        let about = schema
            .as_object_mut()
            .and_then(|of| of.remove("description"));
        let mut made = json!({
            "name": name,
            "in": "query",
            "required": required,
            "description": about.unwrap_or_default(),
        });
        if schema.get("type").is_some_and(|of| of == "array") {
            // Separated by commas in one value.
            put(&mut made, "style", "form");
            put(&mut made, "explode", false);
        }
        put(&mut made, "schema", schema);
        all.push(with_examples(of, &name, made));
    }
    all
}

fn fixed(parameter: &Parameter, schema: Value) -> Value {
    let place = match parameter.place {
        Place::Path => "path",
        Place::Header => "header",
    };
    json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.place == Place::Path,
        "description": parameter.about,
        "schema": schema,
    })
}

/// The parameter with the value that each example gives it.
fn with_examples(of: &Operation, name: &str, mut parameter: Value) -> Value {
    let value = |example: &Example| {
        let given = example.parameters.iter().find(|(of, _)| *of == name);
        given.map(|(_, value)| value.clone())
    };
    let examples = examples(of, value);
    if !examples.is_empty() {
        put(&mut parameter, "examples", examples);
    }
    parameter
}

/// By their names, what `value` finds in them.
pub(super) fn examples(
    of: &Operation,
    value: impl Fn(&Example) -> Option<Value>,
) -> Map<String, Value> {
    let all = of.examples.iter().filter_map(|example| {
        let made = json!({ "summary": example.summary, "value": value(example)? });
        Some((example.name.to_owned(), made))
    });
    all.collect()
}

/// Puts a member into an object.
pub(super) fn put(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(object) = object {
        object.insert(name.to_owned(), value.into());
    }
}
