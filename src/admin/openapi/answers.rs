//! The answers of an operation: those that it is there for, and its errors.

use serde_json::{Map, Value, json};

use super::super::operation::{Answer, AnswerHeader, Operation};
use super::document::{examples, put};
use super::schemas::Schemas;

const PROBLEM: &str = "application/problem+json";
const PROBLEM_SCHEMA: &str = "#/components/schemas/Problem";

const LOG_ID: AnswerHeader = AnswerHeader {
    name: "X-Log-Id",
    about: "The `log_id` of the body, for answers to HEAD and for scripts.",
    always: true,
};

const CHALLENGE: AnswerHeader = AnswerHeader {
    name: "WWW-Authenticate",
    about: "`Bearer`, with the realm.",
    always: true,
};

const RETRY_AFTER: AnswerHeader = AnswerHeader {
    name: "Retry-After",
    about: "Seconds to wait.",
    always: false,
};

/// Every answer by its status; errors that several operations share go into `problems`.
pub(super) fn responses(
    of: &Operation,
    schemas: &mut Schemas,
    problems: &mut Map<String, Value>,
) -> Value {
    let answers = of.answers.iter();
    let mut all: Map<String, Value> = answers
        .map(|answer| (answer.status.to_string(), response(of, answer, schemas)))
        .collect();
    for (status, codes) in of.problems() {
        let codes: Vec<&str> = codes.into_iter().collect();
        let made = problem(of, status, &codes);
        // Most errors are those of many operations.
        let made = if recorded(of, status).is_empty() {
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
    let examples = recorded(of, answer.status);
    match answer.content {
        Some((media, schema)) => {
            let content = json!({ "schema": schemas.sent(schema), "examples": examples });
            put(&mut made, "content", json!({ media: content }));
        }
        None if !examples.is_empty() => put(&mut made, "x-examples", examples),
        None => {}
    }
    if !answer.headers.is_empty() {
        put(&mut made, "headers", headers(&answer.headers));
    }
    made
}

/// What the examples were answered with that status.
fn recorded(of: &Operation, status: u16) -> Map<String, Value> {
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
    let examples = recorded(of, status);
    if !examples.is_empty() {
        put(&mut content, "examples", examples);
    }
    let mut made = json!({
        "description": listed.join(", "),
        "content": { PROBLEM: content },
    });
    let header = match status {
        401 => Some(CHALLENGE),
        429 | 503 => Some(RETRY_AFTER),
        409 if codes.contains(&"STILL_RUNNING") => Some(RETRY_AFTER),
        _ => None,
    };
    let shown: Vec<AnswerHeader> = [LOG_ID].into_iter().chain(header).collect();
    put(&mut made, "headers", headers(&shown));
    made
}

fn headers(all: &[AnswerHeader]) -> Map<String, Value> {
    let made = all.iter().map(|header| {
        let made = json!({
            "description": header.about,
            "required": header.always,
            "schema": { "type": "string" },
        });
        (header.name.to_owned(), made)
    });
    made.collect()
}
