//! Makes `docs/metrics.md` from the registry, the closed label sets and [`super::catalogue`], and
//! tests that the file is what is made. `make metrics-doc` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::catalogue::{CHAPTERS, Entry};
use super::tests::{exercise, metrics};
use super::*;
use crate::token::rejection::Rejection;

const RENEW: &str = "PORTCULLIS_RENEW";

const INTRO: &str = "# Metrics

<!-- Made from the code by `make metrics-doc`; a test compares. What is written here by hand is lost:
     texts stand in src/telemetry/metrics/catalogue/ and document.rs. -->

`GET /metrics` on the metrics listener (default `127.0.0.1:9902`) answers in the Prometheus text format, compressed
for whoever accepts gzip.

- Durations are in seconds, moments are Unix times in seconds.
- Label sets are closed. A label never holds a client, a path, or a `kid` that is not ours.
- Every series exists at 0 from the start, so `rate()` and `increase()` miss no first event. There are two exceptions:
  a series of `portcullis_http_requests_total` appears with its first request unless its `code` is `5xx`, and a series
  with a `kid` lives as long as that key or its tombstone. To reckon shares of all requests divide by
  `portcullis_http_request_duration_seconds_count`, which counts the same requests by route and is there from the start.
- Counters begin at 0 when the process starts. Queries with `rate()` and `increase()` allow for that.
- Alerts on these metrics stand in `conf/alerts.yml`, what to do about each in `docs/runbook.md`, dashboards in
  `conf/grafana/`.
";

const LABELS: &str = "## Labels

| Label | Values |
|---|---|
| `route` | the names of the configured routes; `issuer` for the issuer's own endpoints, `none` when no route matched |
| `method` | a method of the route, or `other`; a route that takes any method counts `GET`, `HEAD`, `POST`, `PUT`, `DELETE`, `OPTIONS` and `PATCH` by name |
| `upstream` | the names of the configured upstreams |
| `worker` | the workers of the proxy listeners, as a purge's receipt names them |
| `listener` | the listeners that speak TLS |
| `endpoint` | of an upstream: its configured endpoints; of the admin API: its endpoints, or `other` |
| `kid` | keys of ours and their tombstones, or `other`; never what a token claims |
| `state` | of a key: `pending`, `active`, `deprecated`, `retired`, `purged`; of a client: `enabled`, `disabled` |
| `version` | the program's version |
";

#[test]
fn the_document_is_what_the_code_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let made = document();
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap();
    let differs = written
        .lines()
        .zip(made.lines())
        .find(|(written, made)| written != made);
    assert!(
        written == made,
        "docs/metrics.md is not what the code says; `make metrics-doc` writes it anew: {differs:#?}"
    );
}

/// A metric that the catalogue does not know has no place in the document, and the other way round.
#[test]
fn the_catalogue_lists_every_metric_once_and_no_other() {
    let registered: BTreeSet<String> = metrics()
        .families
        .iter()
        .map(|family| family.name.clone())
        .collect();
    let listed: Vec<&str> = entries().map(|entry| entry.name).collect();
    let once: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed.len(), once.len(), "a metric is listed twice");
    let missing: Vec<_> = registered.difference(&once).collect();
    let surplus: Vec<_> = once.difference(&registered).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "src/telemetry/metrics/catalogue/ lacks {missing:?} and has {surplus:?} too many; then `make metrics-doc`"
    );
}

#[test]
fn example_queries_ask_for_the_metric_that_they_explain() {
    for entry in entries() {
        assert!(entry.query.contains(entry.name), "{}", entry.name);
        assert!(
            !entry.query.contains('|'),
            "{}: a bar would end the cell",
            entry.name
        );
    }
}

#[test]
fn every_label_is_explained() {
    let document = document();
    for family in &metrics().families {
        for label in &family.labels {
            let row = format!("| `{label}` | ");
            assert!(document.contains(&row), "{label} of {}", family.name);
        }
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    CHAPTERS.iter().flat_map(|chapter| chapter.entries)
}

fn document() -> String {
    let metrics = metrics();
    exercise(&metrics);
    let mut text = INTRO.to_owned();
    for chapter in CHAPTERS {
        write!(text, "\n## {}\n\n", chapter.title).unwrap();
        if !chapter.intro.is_empty() {
            write!(text, "{}\n\n", chapter.intro).unwrap();
        }
        text.push_str("| Name | Type | Labels | Unit | Meaning | Example query |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        for entry in chapter.entries {
            row(&mut text, &metrics, entry);
        }
    }
    text.push('\n');
    labels(&mut text);
    reasons(&mut text);
    buckets(&mut text, &metrics);
    text
}

fn row(text: &mut String, metrics: &Metrics, entry: &Entry) {
    let Some(family) = metrics
        .families
        .iter()
        .find(|family| family.name == entry.name)
    else {
        // The test of the catalogue says it better.
        return;
    };
    let labels: Vec<String> = family
        .labels
        .iter()
        .map(|label| format!("`{label}`"))
        .collect();
    let labels = if labels.is_empty() {
        "–".to_owned()
    } else {
        labels.join(", ")
    };
    let more = if entry.more.is_empty() {
        String::new()
    } else {
        format!(" {}", entry.more)
    };
    let asks = if entry.asks.is_empty() {
        String::new()
    } else {
        format!("{}: ", entry.asks)
    };
    writeln!(
        text,
        "| `{}` | {} | {labels} | {} | {}{more} | {asks}`{}` |",
        entry.name, family.kind, entry.unit, family.help, entry.query
    )
    .unwrap();
}

fn labels(text: &mut String) {
    text.push_str(LABELS);
    let mut list = |name: &str, values: Vec<&str>| {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        writeln!(text, "| `{name}` | {} |", values.join(", ")).unwrap();
    };
    macro_rules! closed {
        ($label:literal, $set:ty) => {
            list(
                $label,
                <$set>::ALL.iter().map(|value| value.as_str()).collect(),
            );
        };
    }
    closed!("cache", CacheLookup);
    closed!("cause", FailureCause);
    closed!("code", CodeClass);
    closed!("error", TokenError);
    closed!("grant", Grant);
    closed!("key_state", KeyStateLabel);
    closed!("kind", RotationKind);
    closed!("trigger", Trigger);
    let results = RotationResult::ALL.iter().map(|value| value.as_str());
    let found = ["hit", "miss"];
    list("result", results.chain(found).collect());
    text.push_str(
        "| `reason` | of a refused request see below; of other metrics see their rows |\n\n`code` is the class of the status, or `none` when the client went away before an answer. `result` is of a \
         rotation\n(`success`, `failure`, `unchanged`, `refused`) or of a lookup (`hit`, `miss`).\n",
    );
}

fn reasons(text: &mut String) {
    text.push_str(
        "\n## Reasons of a refusal\n\n| `reason` | What was wrong | Status |\n|---|---|---|\n",
    );
    let mut told = BTreeSet::new();
    for reason in Rejection::ALL {
        // Two kinds of malformed share a label.
        if told.insert(reason.as_str()) {
            writeln!(
                text,
                "| `{reason}` | {} | {} |",
                what_was_wrong(reason),
                status(reason)
            )
            .unwrap();
        }
    }
}

fn status(reason: Rejection) -> String {
    match reason {
        Rejection::Malformed | Rejection::BrokenSyntax => {
            "401, or 400 for a broken header".to_owned()
        }
        other => other.answer().status.to_string(),
    }
}

const fn what_was_wrong(reason: Rejection) -> &'static str {
    match reason {
        Rejection::Missing => "no bearer token was sent",
        Rejection::Malformed | Rejection::BrokenSyntax => {
            "not a well-formed access token, or a broken `Authorization` header"
        }
        Rejection::TooLarge => "longer than a token may be",
        Rejection::DuplicateHeader => "more than one `Authorization` header",
        Rejection::AlgNotAllowed => "an algorithm that is not the key's",
        Rejection::BadType => "`typ` is not `at+jwt`",
        Rejection::RateLimited => "too many refusals from that address",
        Rejection::UnknownKey => "no key of that name",
        Rejection::BadSignature => {
            "the signature does not verify, a forged name of a purged key included"
        }
        Rejection::Expired => "`exp` has passed",
        Rejection::NotYetValid => "`nbf` or `iat` lies in the future",
        Rejection::BadIssuer => "`iss` is not ours",
        Rejection::BadAudience => "the route serves none of the token's audiences",
        Rejection::InsufficientScope => "the token lacks a scope that the route demands",
        Rejection::ClaimRule => "a claim breaks a rule, such as a life time beyond the key's limit",
        Rejection::ClientRevoked => "the client was disabled, or its tokens were invalidated",
        Rejection::KeyPurged => "the signing key was purged, and nothing else was wrong",
        Rejection::CompromisedKeyInUse => {
            "a purged key signed it after its purge, or after it had stopped signing and so late that the purge did not matter"
        }
        Rejection::LifecycleViolation => "a retired key's token is still unexpired",
    }
}

fn buckets(text: &mut String, metrics: &Metrics) {
    text.push_str("\n## Buckets\n\nUpper bounds in seconds; each histogram ends with `+Inf`.\n");
    let gathered = metrics.registry.gather();
    for entry in entries() {
        let Some(family) = gathered
            .iter()
            .find(|family| family.name() == entry.name && !entry.buckets.is_empty())
        else {
            continue;
        };
        let bounds: Vec<String> = family
            .get_metric()
            .first()
            .unwrap()
            .get_histogram()
            .get_bucket()
            .iter()
            .map(|bucket| bucket.upper_bound().to_string())
            .collect();
        write!(
            text,
            "\n**`{}`**: {}\n\n{}\n",
            entry.name,
            bounds.join(", "),
            entry.buckets
        )
        .unwrap();
    }
}

#[test]
fn every_histogram_says_why_it_has_its_buckets() {
    let metrics = metrics();
    for family in &metrics.families {
        let entry = entries().find(|entry| entry.name == family.name).unwrap();
        assert_eq!(
            family.kind == "histogram",
            !entry.buckets.is_empty(),
            "{}",
            family.name
        );
    }
}
