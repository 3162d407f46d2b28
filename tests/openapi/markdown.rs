//! `docs/admin-api.md` from the document: the same facts for people, with commands to copy.

use std::fmt::Write as _;

use serde_json::Value;

use crate::document::{Document, Example, Operation};

/// A command that sends the request of an example.
pub fn curl(of: &Operation<'_>, example: &Example) -> String {
    let mut parts = Vec::new();
    let url = format!("\"$ADMIN{}\"", example.target(of.path));
    parts.push(match of.method.as_str() {
        "GET" => url,
        "POST" if example.request.is_some() => url,
        method => format!("-X {method} {url}"),
    });
    if of.role().is_some() {
        parts.push("-H \"Authorization: Bearer $TOKEN\"".to_owned());
    }
    for (name, value) in example.headers() {
        parts.push(format!("-H '{name}: {value}'"));
    }
    if let Some(body) = example.request.as_ref().filter(|body| !body.is_null()) {
        parts.push("-H 'Content-Type: application/json'".to_owned());
        let body = serde_json::to_string(body).expect("JSON");
        assert!(!body.contains('\''), "{body} does not fit between quotes");
        parts.push(format!("-d '{body}'"));
    }
    let options = match of.content(example.status) {
        Some(("text/event-stream", _)) => "-sSN --max-time 2",
        _ => "-sS",
    };
    format!("curl {options} {}", parts.join(" \\\n  "))
}

/// The whole text.
pub fn text(document: &Document) -> String {
    let mut out = String::new();
    let info = &document.0["info"];
    let operations = document.operations();
    out.push_str(INTRODUCTION);
    out.push_str(&shifted(
        info["description"].as_str().expect("a description"),
    ));
    out.push_str("\n## Operations\n| | needs | |\n|---|---|---|\n");
    for of in in_order(document, &operations) {
        let name = format!("{} {}", of.method, of.path);
        let needs = of.role().unwrap_or("nothing");
        let (summary, anchor) = (line(&of.body["summary"]), anchor(&name));
        line_to(
            &mut out,
            &format!("| [`{name}`](#{anchor}) | {needs} | {summary} |"),
        );
    }
    for tag in document.0["tags"].as_array().expect("tags") {
        let (name, about) = (line(&tag["name"]), line(&tag["description"]));
        line_to(&mut out, &format!("\n# {name}\n{about}"));
        for of in operations
            .iter()
            .filter(|of| of.body["tags"][0] == tag["name"])
        {
            operation(of, &mut out);
        }
    }
    line_to(&mut out, "\n# What is sent and answered");
    for (name, schema) in document.0["components"]["schemas"]
        .as_object()
        .expect("schemas")
    {
        line_to(&mut out, &format!("\n## {name}"));
        members(schema, &mut out);
    }
    out
}

const INTRODUCTION: &str = "\
<!-- Made from the code by `make api-docs`; a test compares it. -->
# The admin API
What the admin listener answers below `/admin/v1`: for the console, for `portcullis keys …` and
`portcullis clients …`, and for scripts of your own. The same for programs is
[openapi.json](openapi.json) (OpenAPI 3.1): `GET /admin/v1/openapi.json` of a running gateway, or
`portcullis openapi`.

The commands below take the address of the listener and an admin token from the environment. Each is
run by a test as it stands here, with the names of an installation put in.

```sh
ADMIN=http://127.0.0.1:9901
TOKEN=$(cat secrets/admin.token)
```

";

fn in_order<'a>(document: &Document, operations: &'a [Operation<'a>]) -> Vec<&'a Operation<'a>> {
    let tags = document.0["tags"].as_array().expect("tags");
    let of_tag = |tag: &Value| {
        let name = tag["name"].clone();
        operations
            .iter()
            .filter(move |of| of.body["tags"][0] == name)
    };
    tags.iter().flat_map(of_tag).collect()
}

fn operation(of: &Operation<'_>, out: &mut String) {
    let name = format!("{} {}", of.method, of.path);
    line_to(out, &format!("\n## {name}"));
    line_to(out, &format!("{}.\n", line(&of.body["summary"])));
    line_to(out, of.body["description"].as_str().expect("text"));
    line_to(out, "\n| | |\n|---|---|");
    line_to(out, &format!("| name | `{}` |", of.id()));
    line_to(out, &format!("| role | {} |", of.role().unwrap_or("none")));
    for parameter in of.parameters() {
        let (place, name) = (line(&parameter["in"]), line(&parameter["name"]));
        let kind = kind(&parameter["schema"]);
        let must = if parameter["required"] == true {
            ", required"
        } else {
            ""
        };
        let about = line(&parameter["description"]);
        line_to(
            out,
            &format!("| {place} `{name}` | {kind}{must}. {about} |"),
        );
    }
    if let Some(request) = of.request() {
        line_to(out, &format!("| body | {} |", kind(&request["schema"])));
    }
    for (status, response) in of.responses() {
        let about = line(&response["description"]);
        let content = of.content(status.parse().expect("a status"));
        let what = match content {
            Some(("application/problem+json", _)) | None => about,
            Some(("application/json", of)) => format!("{} {about}", kind(&of["schema"])),
            Some((media, _)) => format!("`{media}` {about}"),
        };
        let headers = response.get("headers").and_then(Value::as_object);
        let headers: Vec<String> = headers
            .into_iter()
            .flatten()
            // Every error has it; the introduction says so once.
            .filter(|(name, _)| *name != "X-Log-Id")
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let headers = if headers.is_empty() {
            String::new()
        } else {
            format!(" Header {}.", headers.join(", "))
        };
        line_to(out, &format!("| {status} | {what}{headers} |"));
    }
    for example in of.examples() {
        line_to(
            out,
            &format!(
                "\n`{}.{}`: {}\n\n```sh",
                of.id(),
                example.name,
                example.summary
            ),
        );
        line_to(out, &curl(of, &example));
        line_to(out, "```");
        if example.answer.is_null() || example.answer == "" {
            continue;
        }
        if let Some(text) = example.answer.as_str() {
            line_to(out, &format!("\n```text\n{}\n```", text.trim_end()));
            continue;
        }
        let answer = serde_json::to_string_pretty(&example.answer).expect("JSON");
        let shown = short(&answer);
        line_to(out, &format!("\n```json\n{shown}\n```"));
    }
}

/// At most so much of an answer that the page stays one.
fn short(text: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= LINES {
        return text.to_owned();
    }
    format!("{}\n  …", lines[..LINES].join("\n"))
}

/// A table of the members of an object, or one line on anything else.
fn members(schema: &Value, out: &mut String) {
    if let Some(about) = schema["description"].as_str() {
        line_to(out, &format!("{}\n", about.replace('\n', " ")));
    }
    let alternatives = ["oneOf", "anyOf"]
        .iter()
        .find_map(|of| schema[*of].as_array());
    let Some(properties) = schema["properties"].as_object() else {
        match alternatives {
            Some(all) => {
                for one in all {
                    line_to(out, &format!("- {}", alternative(one)));
                }
            }
            None => line_to(out, &format!("{}.", kind(schema))),
        }
        return;
    };
    if schema["additionalProperties"] == false {
        line_to(out, "Nothing else is taken.\n");
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    line_to(out, "| member | | |\n|---|---|---|");
    for (name, member) in properties {
        let must = if required.iter().any(|of| of == name) {
            ""
        } else {
            ", may be missing"
        };
        let (kind, about) = (kind(member), line(&member["description"]));
        line_to(out, &format!("| `{name}` | {kind}{must} | {about} |"));
    }
}

fn alternative(schema: &Value) -> String {
    match schema["properties"].as_object() {
        Some(members) => {
            let members = members
                .iter()
                .map(|(name, of)| format!("`{name}`: {}", kind(of)));
            members.collect::<Vec<_>>().join("; ")
        }
        None => kind(schema),
    }
}

/// What a schema takes, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(at) = schema["$ref"].as_str() {
        let name = at.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(any) = schema["anyOf"]
        .as_array()
        .or_else(|| schema["oneOf"].as_array())
    {
        let all: Vec<String> = any.iter().map(kind).collect();
        return all.join(" or ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = schema["enum"].as_array() {
        let all: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        return all.join(", ");
    }
    let types = match &schema["type"] {
        Value::String(one) => one.clone(),
        Value::Array(many) => many
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "anything".to_owned(),
    };
    let mut text = types;
    if text.starts_with("array") {
        let _ = write!(text, " of {}", kind(&schema["items"]));
    }
    if let Some(format) = schema["format"]
        .as_str()
        .filter(|of| !of.starts_with("uint"))
    {
        let _ = write!(text, " ({format})");
    }
    let bounds = [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "at least"),
        ("maxLength", "at most"),
        ("minItems", "at least"),
        ("maxItems", "at most"),
    ];
    for (name, word) in bounds {
        if let Some(bound) = schema[name].as_u64().filter(|bound| *bound > 0) {
            let _ = write!(text, " {word} {bound}");
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let _ = write!(text, ", `{}`", pattern.replace('|', "\\|"));
    }
    text
}

/// Headings one level down, lines as they are.
fn shifted(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

fn line(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace('\n', " ")
}

/// As GitHub names a heading.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

fn line_to(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}
