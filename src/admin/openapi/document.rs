//! Puts the document together: paths, parameters, bodies, answers, errors, components.

use serde_json::{Map, Value, json};

use super::super::auth::Role;
use super::super::error::Problem;
use super::super::operation::{
    Access, Answer, Example, Operation, Parameter, Place, Tag, schema_of,
};
use super::super::table::operations;
use super::prose;
use super::schemas::Schemas;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const PROBLEM_SCHEMA: &str = "#/components/schemas/Problem";

/// The whole document.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::new();
    schemas.sent(schema_of::<Problem<'static>>);
    let mut paths: Map<String, Value> = Map::new();
    let mut problems: Map<String, Value> = Map::new();
    for of in operations() {
        let path = paths.entry(of.path).or_insert_with(|| json!({}));
        let made = operation(of, &mut schemas, &mut problems);
        path[of.method.as_str().to_ascii_lowercase()] = made;
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
        made["parameters"] = parameters.into();
    }
    if let Some(body) = of.body {
        made["requestBody"] = json!({
            "required": true,
            "content": {
                JSON: {
                    "schema": schemas.received(body),
                    "examples": examples(of, |example| example.body.clone()),
                },
            },
        });
    }
    match of.access {
        Access::Open => made["security"] = json!([]),
        Access::Role(role) => made["x-role"] = role.as_str().into(),
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
        if schema["type"] == "array" {
            // Separated by commas in one value.
            made["style"] = "form".into();
            made["explode"] = false.into();
        }
        made["schema"] = schema;
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
        parameter["examples"] = examples.into();
    }
    parameter
}

/// By their names, what `value` finds in them.
fn examples(of: &Operation, value: impl Fn(&Example) -> Option<Value>) -> Map<String, Value> {
    let all = of.examples.iter().filter_map(|example| {
        let made = json!({ "summary": example.summary, "value": value(example)? });
        Some((example.name.to_owned(), made))
    });
    all.collect()
}

fn responses(of: &Operation, schemas: &mut Schemas, problems: &mut Map<String, Value>) -> Value {
    let mut all = Map::new();
    for answer in &of.answers {
        all.insert(answer.status.to_string(), response(of, answer, schemas));
    }
    for (status, codes) in of.problems() {
        let codes: Vec<&str> = codes.into_iter().collect();
        let made = problem(of, status, &codes);
        // Most errors are those of many operations.
        let made = if answers(of, status).is_empty() {
            let name = format!("{status}.{}", codes.join("."));
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            problems.insert(name, made);
            reference
        } else {
            made
        };
        all.insert(status.to_string(), made);
    }
    all.into()
}

fn response(of: &Operation, answer: &Answer, schemas: &mut Schemas) -> Value {
    let mut made = json!({ "description": answer.about });
    if let Some((media, schema)) = answer.content {
        made["content"] = json!({
            media: {
                "schema": schemas.sent(schema),
                "examples": answers(of, answer.status),
            },
        });
    }
    if answer.content.is_none() {
        let names = of.examples.iter().filter(|of| of.status == answer.status);
        for example in names {
            made["x-examples"][example.name] = json!({ "summary": example.summary });
        }
    }
    for header in &answer.headers {
        made["headers"][header.name] = json!({
            "description": header.about,
            "required": header.always,
            "schema": { "type": "string" },
        });
    }
    made
}

/// What the examples were answered with that status.
fn answers(of: &Operation, status: u16) -> Map<String, Value> {
    examples(of, |example| {
        (example.status == status).then(|| {
            let recorded = serde_json::from_str(example.answer);
            // What is no JSON is text.
            recorded.unwrap_or_else(|_text| example.answer.into())
        })
    })
}

fn problem(of: &Operation, status: u16, codes: &[&str]) -> Value {
    let listed: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let mut content = json!({
        "schema": {
            "allOf": [
                { "$ref": PROBLEM_SCHEMA },
                { "properties": { "code": { "enum": codes }, "status": { "const": status } } },
            ],
        },
    });
    let examples = answers(of, status);
    if !examples.is_empty() {
        content["examples"] = examples.into();
    }
    let mut made = json!({
        "description": listed.join(", "),
        "content": { PROBLEM: content },
    });
    let header = match status {
        401 => Some(("WWW-Authenticate", "`Bearer`, with the realm.", true)),
        429 => Some(("Retry-After", "Seconds to wait.", false)),
        409 if codes.contains(&"STILL_RUNNING") => Some(("Retry-After", "Seconds to wait.", false)),
        _ => None,
    };
    if let Some((name, about, always)) = header {
        made["headers"][name] = json!({
            "description": about,
            "required": always,
            "schema": { "type": "string" },
        });
    }
    made
}
