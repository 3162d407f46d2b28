//! The document, taken apart: operations, their examples, and the schemas that judge answers.

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// The document as it is served, with shared answers put where they belong.
pub struct Document(pub Value);

/// One operation of it.
pub struct Operation<'a> {
    pub method: String,
    pub path: &'a str,
    pub body: &'a Map<String, Value>,
}

/// A request of an operation, and the answer that was recorded.
#[derive(Clone, Debug)]
pub struct Example {
    pub name: String,
    pub summary: String,
    /// Place, name, value.
    pub parameters: Vec<(String, String, Value)>,
    pub request: Option<Value>,
    pub status: u16,
    pub answer: Value,
}

impl Document {
    pub fn new() -> Self {
        let mut document: Value = serde_json::from_str(portcullis::admin::openapi()).expect("JSON");
        let shared = document["components"]["responses"].clone();
        for (_, methods) in document["paths"].as_object_mut().expect("paths") {
            for (_, operation) in methods.as_object_mut().expect("methods") {
                for (_, response) in operation["responses"].as_object_mut().expect("responses") {
                    let name = response["$ref"]
                        .as_str()
                        .and_then(|at| at.rsplit('/').next());
                    if let Some(name) = name.map(str::to_owned) {
                        *response = shared[&name].clone();
                        assert!(response.is_object(), "{name}");
                    }
                }
            }
        }
        Self(document)
    }

    pub fn operations(&self) -> Vec<Operation<'_>> {
        let mut all = Vec::new();
        for (path, methods) in self.0["paths"].as_object().expect("paths") {
            for (method, body) in methods.as_object().expect("methods") {
                all.push(Operation {
                    method: method.to_uppercase(),
                    path,
                    body: body.as_object().expect("an operation"),
                });
            }
        }
        all
    }

    /// Judges by a schema of the document; `closed` forbids members that it does not name.
    pub fn judge(&self, schema: &Value, closed: bool) -> Validator {
        let mut root = json!({ "components": self.0["components"], "allOf": [schema] });
        if closed {
            root["unevaluatedProperties"] = false.into();
        }
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .build(&root)
            .expect("a schema")
    }

    /// Fails unless `value` is what `schema` says.
    pub fn assert_valid(&self, what: &str, schema: &Value, value: &Value, closed: bool) {
        let errors: Vec<String> = self
            .judge(schema, closed)
            .iter_errors(value)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
    }
}

impl Operation<'_> {
    pub fn id(&self) -> &str {
        self.body["operationId"].as_str().expect("an id")
    }

    /// The role that it needs; none when it is open.
    pub fn role(&self) -> Option<&str> {
        self.body.get("x-role").and_then(Value::as_str)
    }

    pub fn parameters(&self) -> &[Value] {
        let all = self.body.get("parameters").and_then(Value::as_array);
        all.map_or(&[], Vec::as_slice)
    }

    /// Its request body, as JSON has it.
    pub fn request(&self) -> Option<&Value> {
        Some(&self.body.get("requestBody")?["content"]["application/json"])
    }

    pub fn responses(&self) -> &Map<String, Value> {
        self.body["responses"].as_object().expect("responses")
    }

    /// Media type and description of the content of an answer.
    pub fn content(&self, status: u16) -> Option<(&str, &Value)> {
        let response = self.responses().get(&status.to_string())?;
        let mut content = response.get("content")?.as_object()?.iter();
        content.next().map(|(media, of)| (media.as_str(), of))
    }

    /// Every example, found by its name in answers, parameters and body alike.
    pub fn examples(&self) -> Vec<Example> {
        let mut all = Vec::new();
        for status in self.responses().keys() {
            let status: u16 = status.parse().expect("a status");
            let examples = match self.content(status) {
                Some((_, of)) => &of["examples"],
                None => &self.responses()[&status.to_string()]["x-examples"],
            };
            for (name, example) in examples.as_object().into_iter().flatten() {
                all.push(Example {
                    name: name.clone(),
                    summary: example["summary"].as_str().unwrap_or_default().to_owned(),
                    parameters: self.given(name),
                    request: self
                        .request()
                        .map(|of| of["examples"][name]["value"].clone()),
                    status,
                    answer: example["value"].clone(),
                });
            }
        }
        all
    }

    fn given(&self, example: &str) -> Vec<(String, String, Value)> {
        let given = self.parameters().iter().filter_map(|parameter| {
            let value = parameter.get("examples")?.get(example)?["value"].clone();
            let text = |name: &str| parameter[name].as_str().unwrap_or_default().to_owned();
            Some((text("in"), text("name"), value))
        });
        given.collect()
    }
}

impl Example {
    /// Path and query, with the values of this example.
    pub fn target(&self, path: &str) -> String {
        let mut target = path.to_owned();
        let mut query = Vec::new();
        for (place, name, value) in &self.parameters {
            match place.as_str() {
                "path" => target = target.replace(&format!("{{{name}}}"), &text(value)),
                "query" => query.push(format!("{name}={}", text(value))),
                _ => {}
            }
        }
        if query.is_empty() {
            target
        } else {
            format!("{target}?{}", query.join("&"))
        }
    }

    pub fn headers(&self) -> Vec<(String, String)> {
        let headers = self
            .parameters
            .iter()
            .filter(|(place, _, _)| place == "header");
        headers
            .map(|(_, name, value)| (name.clone(), text(value)))
            .collect()
    }
}

/// A value as it stands in a header, a path or a query.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
