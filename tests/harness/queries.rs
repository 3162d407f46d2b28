//! Every PromQL query that is shipped: of dashboards, alerts and documentation. Imports nothing of
//! ours, so that tests of files alone can take it without the rest of the harness.

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

use serde_json::Value;

/// A query, and where it stands.
#[derive(Clone, Debug)]
pub struct Query {
    pub place: String,
    pub text: String,
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
pub fn of_dashboards() -> Vec<Query> {
    let mut queries = Vec::new();
    for (file, board) in dashboards() {
        for panel in list(&board, "panels") {
            for target in list(panel, "targets") {
                queries.push(Query {
                    place: format!("{file}, panel {}", panel["title"]),
                    text: as_sent(&string(&target["expr"])),
                });
            }
        }
        for annotation in list(&board["annotations"], "list") {
            queries.push(Query {
                place: format!("{file}, annotation {}", annotation["name"]),
                text: as_sent(&string(&annotation["expr"])),
            });
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

/// Replaces Grafana's variables. Windows are long enough for whatever a test did.
fn as_sent(query: &str) -> String {
    let sent = query
        .replace("$instance", ".*")
        .replace("$route", ".*")
        .replace("$__rate_interval", "2m")
        .replace("$__interval", "2m")
        .replace("$__range", "2m");
    assert!(!sent.contains('$'), "an unknown variable in {query}");
    sent
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
            Query {
                place: format!("alerts.yml, {}", name.expect("a name")),
                text: rule["expr"].as_str().expect("an expression").to_owned(),
            }
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
            Query {
                place: format!("docs/metrics.md, {}", name_of(line)),
                text: query.unwrap_or_else(|| panic!("{line}")).to_owned(),
            }
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
