//! Dashboards, alerts, runbook and documentation agree with each other and with the gateway's
//! metrics. That the queries also answer is shown against a real Prometheus in
//! `acceptance_prometheus.rs`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

#[path = "harness/grafana.rs"]
mod grafana;
#[path = "harness/queries.rs"]
mod queries;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use grafana::Look;
use queries::{dashboards, documented_metrics, metric_of, of_alerts, of_dashboards, selectors};

fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> serde_yaml::Value {
    serde_yaml::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every alert, with its annotations.
fn alerts() -> Vec<(String, serde_yaml::Value)> {
    let rules = yaml("conf/alerts.yml");
    let groups = rules["groups"].as_sequence().expect("groups");
    groups
        .iter()
        .flat_map(|group| group["rules"].as_sequence().expect("rules"))
        .filter_map(|rule| {
            let name = rule["alert"].as_str()?;
            Some((name.to_owned(), rule["annotations"].clone()))
        })
        .collect()
}

/// The place of a heading, as it is linked to on the usual code hosts.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-')
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Headings of the runbook with the text below each.
fn sections() -> Vec<(String, String)> {
    let runbook = text("docs/runbook.md");
    let mut found: Vec<(String, String)> = Vec::new();
    for line in runbook.lines() {
        if line.starts_with('#') {
            found.push((
                line.trim_start_matches('#').trim().to_owned(),
                String::new(),
            ));
        } else if let Some((_, below)) = found.last_mut() {
            below.push_str(line);
            below.push('\n');
        }
    }
    found
}

#[test]
fn each_alert_has_its_section_in_the_runbook_and_each_section_its_alert() {
    let sections = sections();
    let alerts = alerts();
    assert!(alerts.len() >= 20, "{}", alerts.len());
    for (name, annotations) in &alerts {
        let (_, below) = sections
            .iter()
            .find(|(heading, _)| heading == name)
            .unwrap_or_else(|| panic!("docs/runbook.md has no section {name}"));
        for part in ["**Means**", "**Look**", "do**"] {
            assert!(
                below.to_lowercase().contains(&part.to_lowercase()),
                "{name} lacks {part}"
            );
        }
        assert_eq!(
            annotations["runbook_url"].as_str(),
            Some(format!("docs/runbook.md#{}", anchor(name)).as_str()),
            "{name}"
        );
    }
    let names: BTreeSet<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "two alerts share a name");
    for (heading, _) in &sections {
        assert!(
            !heading.starts_with("Portcullis") || names.contains(heading.as_str()),
            "docs/runbook.md has a section {heading}, but there is no such alert"
        );
    }
}

#[test]
fn a_rotation_by_hand_that_failed_has_a_section_for_each_cause() {
    let sections = sections();
    let place = |heading: &str| {
        sections
            .iter()
            .position(|(of, _)| of == heading)
            .unwrap_or_else(|| panic!("docs/runbook.md has no section {heading}"))
    };
    let at = place("A manual rotation could not be completed");
    for cause in ["Lock", "Store", "Propagation", "Disk", "Clock"] {
        assert!(place(cause) > at, "{cause} lies elsewhere");
    }
    // In the words of the answer, so that whoever searches for them lands here.
    let answer = "Manual signing key rotation could not be completed. Check the system logs for more details.";
    assert!(text("src/admin/error.rs").contains(answer));
    assert!(text("docs/runbook.md").replace('\n', " ").contains(answer));
}

#[test]
fn links_inside_the_runbook_lead_somewhere() {
    let runbook = text("docs/runbook.md");
    let anchors: BTreeSet<String> = sections()
        .iter()
        .map(|(heading, _)| anchor(heading))
        .collect();
    let mut links = 0;
    for link in runbook.split("](#").skip(1) {
        let link = link.split(')').next().unwrap_or_default();
        assert!(anchors.contains(link), "no heading for #{link}");
        links += 1;
    }
    assert!(links > 10, "{links}");
    // Codes that it explains are codes that the admin API answers with.
    let api = ["error", "clock", "refusal"]
        .map(|file| text(&format!("src/admin/{file}.rs")))
        .concat();
    let codes: BTreeSet<&str> = runbook
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.len() > 3 && code.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .filter(|code| *code != "PAUSED" && *code != "CERT_FILE" && *code != "LOG_ID")
        .collect();
    assert!(codes.len() >= 6, "{codes:?}");
    for code in codes {
        assert!(api.contains(&format!("\"{code}\"")), "no code {code}");
    }
}

#[test]
fn alerts_and_dashboards_use_metrics_that_the_gateway_has() {
    let known = documented_metrics();
    assert!(known.len() > 40, "{}", known.len());
    let mut used = BTreeSet::new();
    for query in of_dashboards(Look::of(Look::RANGES[0]))
        .into_iter()
        .chain(of_alerts())
    {
        for selector in selectors(&query.text) {
            let Some(metric) = metric_of(&selector) else {
                continue;
            };
            assert!(
                known.contains(&metric),
                "{}: there is no {metric}",
                query.place
            );
            used.insert(metric);
        }
    }
    // What nobody looks at need not be counted; a new metric gets a panel or an alert.
    let unused: Vec<&String> = known
        .iter()
        .filter(|metric| !used.contains(*metric))
        .filter(|metric| !UNWATCHED.contains(&metric.as_str()))
        .collect();
    assert!(unused.is_empty(), "no panel and no alert uses {unused:?}");
}

/// Metrics for questions that come up once in a while.
const UNWATCHED: [&str; 7] = [
    "portcullis_trace_spans_exported_total",
    "portcullis_token_cache_evictions_total",
    "portcullis_token_cache_entries",
    "portcullis_token_cache_bytes",
    "process_max_fds",
    "process_virtual_memory_bytes",
    "process_threads",
];

#[test]
fn the_healthy_gateway_of_the_alert_tests_has_every_metric_that_an_alert_uses() {
    let tests = yaml("conf/alerts_test.yml");
    let healthy = &tests["tests"][0];
    assert_eq!(healthy["name"].as_str(), Some("a healthy gateway is quiet"));
    let series: Vec<&str> = healthy["input_series"]
        .as_sequence()
        .expect("series")
        .iter()
        .filter_map(|series| series["series"].as_str())
        .collect();
    for query in of_alerts() {
        for selector in selectors(&query.text) {
            let name = selector.split('{').next().unwrap_or_default();
            assert!(
                name.starts_with("portcullis:")
                    || series.iter().any(|of| of.starts_with(&format!("{name}{{"))),
                "{}: whether it is silent on a healthy gateway is not tested: no series {name}",
                query.place
            );
        }
    }
}

#[test]
fn dashboards_name_the_provisioned_source_and_each_other() {
    let source = yaml("conf/grafana/provisioning/datasources/prometheus.yml");
    let source = &source["datasources"][0];
    let uid = source["uid"].as_str().expect("a uid");
    let interval = source["jsonData"]["timeInterval"].as_str();
    let scrapes = yaml("conf/prometheus.yml");
    assert_eq!(interval, scrapes["global"]["scrape_interval"].as_str());

    let boards = dashboards();
    let titles: Vec<&str> = boards
        .iter()
        .filter_map(|(_, board)| board["title"].as_str())
        .collect();
    assert_eq!(
        titles,
        [
            "Portcullis: keys",
            "Portcullis: overview",
            "Portcullis: purge"
        ]
    );
    for (file, board) in &boards {
        let stem = file.strip_suffix(".json").expect("JSON");
        assert_eq!(board["uid"], format!("portcullis-{stem}"));
        assert_eq!(board["tags"][0], "portcullis", "links find it by the tag");
        let mut ids = BTreeSet::new();
        let mut shown = 0;
        for panel in board["panels"].as_array().expect("panels") {
            assert!(ids.insert(panel["id"].as_u64()), "{file}: {}", panel["id"]);
            if panel["type"] == "row" {
                continue;
            }
            assert_eq!(
                panel["datasource"]["uid"], uid,
                "{file}: {}",
                panel["title"]
            );
            assert!(
                !panel["targets"].as_array().expect("targets").is_empty(),
                "{file}: {}",
                panel["title"]
            );
            let place = &panel["gridPos"];
            let right = place["x"].as_u64().zip(place["w"].as_u64());
            assert!(right.is_some_and(|(x, w)| x + w <= 24), "{file}: {place}");
            shown += 1;
        }
        assert!(shown >= 10, "{file}: {shown}");
        // Rotations and purges are lines in every graph.
        let annotations: Vec<&str> = board["annotations"]["list"]
            .as_array()
            .expect("annotations")
            .iter()
            .filter_map(|annotation| annotation["name"].as_str())
            .collect();
        assert_eq!(annotations, ["Rotate", "Rotate and purge"], "{file}");
    }
}

#[test]
fn windows_of_dashboards_hold_enough_scrapes() {
    let mut windows = 0;
    for range in Look::RANGES {
        let look = Look::of(range);
        for query in of_dashboards(look) {
            for window in query.text.split('[').skip(1) {
                let millis = window.split("ms]").next().expect("in milliseconds");
                let millis: u128 = millis.parse().expect("a number");
                // Two scrapes make a rate; one may be late and one lost.
                assert!(
                    millis >= 4 * look.scrape.as_millis(),
                    "{}, {range:?}: a window of {millis} ms",
                    query.place
                );
                windows += 1;
            }
        }
    }
    assert!(windows > 100, "{windows}");
}

#[test]
fn legends_tell_every_line_of_a_graph_from_the_others() {
    let mut lines = 0;
    for (file, board) in dashboards() {
        for panel in board["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                if target["range"] != true {
                    continue;
                }
                let query = target["expr"].as_str().expect("a query");
                let legend = target["legendFormat"].as_str().expect("a legend");
                let labels = match query.split_once("by (") {
                    Some((_, rest)) => rest.split(')').next().unwrap_or_default(),
                    None if query.contains("sum(") => "",
                    // Nothing is summed up: a line for each gateway.
                    None => "instance",
                };
                for label in labels.split(", ").filter(|of| !["", "le"].contains(of)) {
                    assert!(
                        legend.contains(&format!("{{{{{label}}}}}")),
                        "{file}, {}: {legend:?} lacks {label}",
                        panel["title"]
                    );
                }
                lines += 1;
            }
        }
    }
    assert!(lines > 40, "{lines}");
}

#[test]
fn dashboards_show_no_counter_as_it_stands() {
    // It begins at 0 with each start, unlike what stands beside it.
    for query in of_dashboards(Look::of(Look::RANGES[0])) {
        for selector in selectors(&query.text) {
            let counter = metric_of(&selector).is_some_and(|name| name.ends_with("_total"));
            let ends = ["[", " offset "].map(|end| format!("{selector}{end}"));
            assert!(
                !counter || ends.iter().any(|end| query.text.contains(end)),
                "{}: {selector}",
                query.place
            );
        }
    }
}

#[test]
fn only_a_failure_counts_as_one() {
    // What a caller got wrong is no failure, and a result that comes later need not be one.
    let look = Look::of(Look::RANGES[0]);
    for query in of_dashboards(look).into_iter().chain(of_alerts()) {
        for selector in selectors(&query.text) {
            let results = ["result!=", "result!~", "result=~"];
            assert!(
                !results.iter().any(|of| selector.contains(of)),
                "{}: {selector}",
                query.place
            );
        }
    }
}

#[test]
fn panels_do_not_lie_on_each_other() {
    for (file, board) in dashboards() {
        let mut taken = BTreeSet::new();
        for panel in board["panels"].as_array().expect("panels") {
            let number = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
            for x in number("x")..number("x") + number("w") {
                for y in number("y")..number("y") + number("h") {
                    assert!(taken.insert((x, y)), "{file}: {}", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn selectors_are_found_in_queries() {
    let query = r#"sum by (up_to) (rate(portcullis_a_total{code="5xx",x=~"up"}[5m])) / up > portcullis:b:c"#;
    assert_eq!(
        selectors(query),
        [
            r#"portcullis_a_total{code="5xx",x=~"up"}"#,
            "up",
            "portcullis:b:c"
        ]
    );
    assert_eq!(selectors("upstream + uptime + group"), Vec::<String>::new());
    let histogram = "portcullis_http_request_duration_seconds_bucket{le=\"1\"}";
    assert_eq!(
        metric_of(histogram).as_deref(),
        Some("portcullis_http_request_duration_seconds")
    );
}
