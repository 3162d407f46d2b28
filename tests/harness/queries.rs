//! Every PromQL query that is shipped: of dashboards, alerts and documentation. Imports nothing of
//! ours but `grafana.rs` beside it, so that tests of files alone can take the two without the rest of
//! the harness.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code, of which each target uses a part"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::grafana::{ANNOTATION_POINTS, Look, Sent, WINDOW};

/// A query, and where it stands.
#[derive(Clone, Debug)]
pub struct Query {
    pub place: String,
    pub text: String,
    /// Of a query over a whole range: how long it is, and its step.
    pub over: Option<(Duration, Duration)>,
}

impl Query {
    /// One that is asked for a moment.
    pub fn now(place: String, text: String) -> Self {
        Self {
            place,
            text,
            over: None,
        }
    }

    fn over(place: String, look: Look, sent: Sent) -> Self {
        Self {
            place,
            text: sent.text,
            over: Some((look.length(), sent.step)),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &Path) -> String {
    fs::read_to_string(root().join(file))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The dashboards, each with its file's name.
pub fn dashboards() -> Vec<(String, Value)> {
    let dir = root().join("conf/grafana/dashboards");
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("the dashboards")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let board = serde_json::from_str(&text(&path))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), board)
        })
        .collect()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
        .to_owned()
}

/// The queries of panels and annotations, as Grafana sends them for all instances and routes.
pub fn of_dashboards(look: Look) -> Vec<Query> {
    let mut queries = of_annotations(look);
    for (file, board) in dashboards() {
        for panel in list(&board, "panels") {
            let columns = panel["gridPos"]["w"].as_u64().expect("a width");
            let points = WINDOW * u32::try_from(columns).expect("of 24") / 24;
            for target in list(panel, "targets") {
                let place = format!("{file}, panel {}", panel["title"]);
                let sent = look.sent(
                    &string(&target["expr"]),
                    points,
                    target["interval"].as_str(),
                );
                queries.push(if target["instant"] == true {
                    Query::now(place, sent.text)
                } else {
                    Query::over(place, look, sent)
                });
            }
        }
    }
    queries
}

/// The queries of the annotations alone, in both of the ways in which Grafana asks for them.
pub fn of_annotations(look: Look) -> Vec<Query> {
    let mut queries = Vec::new();
    for (file, board) in dashboards() {
        for annotation in list(&board["annotations"], "list") {
            for points in ANNOTATION_POINTS {
                let place = format!("{file}, annotation {}", annotation["name"]);
                let step = annotation["step"].as_str();
                let sent = look.sent(&string(&annotation["expr"]), points, step);
                queries.push(Query::over(place, look, sent));
            }
        }
    }
    queries
}

/// What Grafana asks for the values of its variables: metric and label.
pub fn of_variables() -> Vec<(String, String)> {
    let mut asked = Vec::new();
    for (file, board) in dashboards() {
        for variable in list(&board["templating"], "list") {
            let query = string(&variable["query"]["query"]);
            let inner = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'))
                .and_then(|rest| rest.split_once(", "))
                .unwrap_or_else(|| panic!("{file}: {query}"));
            asked.push((inner.0.to_owned(), inner.1.to_owned()));
        }
    }
    asked
}

/// The expressions of alerts and recording rules.
pub fn of_alerts() -> Vec<Query> {
    let rules: serde_yaml::Value =
        serde_yaml::from_str(&text(Path::new("conf/alerts.yml"))).expect("the alerts");
    let groups = rules["groups"].as_sequence().expect("groups");
    groups
        .iter()
        .flat_map(|group| group["rules"].as_sequence().expect("rules"))
        .map(|rule| {
            let name = rule["alert"].as_str().or_else(|| rule["record"].as_str());
            Query::now(
                format!("alerts.yml, {}", name.expect("a name")),
                rule["expr"].as_str().expect("an expression").to_owned(),
            )
        })
        .collect()
}

/// The example queries of `docs/metrics.md`: the last thing between backticks of each row.
pub fn of_document() -> Vec<Query> {
    text(Path::new("docs/metrics.md"))
        .lines()
        .filter(|line| is_metric(line))
        .map(|line| {
            let query = line
                .strip_suffix("` |")
                .and_then(|rest| rest.rsplit('`').next());
            Query::now(
                format!("docs/metrics.md, {}", name_of(line)),
                query.unwrap_or_else(|| panic!("{line}")).to_owned(),
            )
        })
        .collect()
}

/// The metrics that `docs/metrics.md` lists; a test of the library holds it against the registry.
pub fn documented_metrics() -> Vec<String> {
    text(Path::new("docs/metrics.md"))
        .lines()
        .filter(|line| is_metric(line))
        .map(name_of)
        .collect()
}

fn is_metric(line: &str) -> bool {
    ["| `portcullis_", "| `process_"]
        .iter()
        .any(|start| line.starts_with(start))
}

fn name_of(line: &str) -> String {
    line.split('`').nth(1).unwrap_or_default().to_owned()
}

/// The selectors of a query that name series of ours, with their labels: `up{…}`, `portcullis_…`.
pub fn selectors(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let end = rest[1..].find('"').expect("the string ends");
            rest = &rest[end + 2..];
            continue;
        }
        if !(first.is_ascii_alphabetic() || first == '_') {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let len = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
            .unwrap_or(rest.len());
        let name = &rest[..len];
        rest = &rest[len..];
        let starts = ["portcullis_", "portcullis:", "process_"];
        if name == "up" || starts.iter().any(|start| name.starts_with(start)) {
            let labels = if rest.starts_with('{') {
                let end = rest.find('}').expect("the labels end");
                &rest[..=end]
            } else {
                ""
            };
            found.push(format!("{name}{labels}"));
            rest = &rest[labels.len()..];
        }
    }
    found
}

/// The metric of a selector, as the registry names it; `None` for series that Prometheus makes.
pub fn metric_of(selector: &str) -> Option<String> {
    let name = selector.split('{').next().unwrap_or_default();
    if name == "up" || name.starts_with("portcullis:") {
        return None;
    }
    let of_histogram = ["_bucket", "_count", "_sum"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    // A counter of its own may end so too.
    let known = documented_metrics();
    let name = of_histogram
        .filter(|_| !known.iter().any(|of| of == name))
        .unwrap_or(name);
    Some(name.to_owned())
}
