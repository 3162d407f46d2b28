//! One request with what must come of it, and the run of a table of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis::token::Rejection;
use serde_json::{Value, json};

use crate::harness::metrics;
use crate::harness::raw::exchange;
use crate::holder::House;

const REALM: &str = "Bearer realm=\"http://issuer.test\"";
const DENIED: &str = "portcullis_auth_denied_total";
const ALLOWED: &str = "portcullis_auth_allowed_total";

/// Beyond two hundred refusals a second the log lines are shared.
const A_SECOND: usize = 150;

/// What must come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It reaches the upstream.
    Accepted,
    /// It is refused for this reason; a broken *request* is `broken_syntax`.
    Refused(&'static str),
    /// It is refused with 403 that names this scope.
    Lacks(&'static str),
}

/// A request and its verdict.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    request: Vec<u8>,
    verdict: Verdict,
}

impl Case {
    /// `GET /hello` with `token`.
    pub(crate) fn new(name: impl Into<String>, token: impl AsRef<[u8]>, verdict: Verdict) -> Self {
        Self::on("/hello", name, token, verdict)
    }

    /// `GET path` with `token`.
    pub(crate) fn on(
        path: &str,
        name: impl Into<String>,
        token: impl AsRef<[u8]>,
        verdict: Verdict,
    ) -> Self {
        let fields = [b"Authorization: Bearer ", token.as_ref(), b"\r\n"].concat();
        let head = format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n");
        Self::raw(name, [head.as_bytes(), &fields, b"\r\n"].concat(), verdict)
    }

    /// A whole request, as it is sent.
    pub(crate) fn raw(
        name: impl Into<String>,
        request: impl Into<Vec<u8>>,
        verdict: Verdict,
    ) -> Self {
        Self {
            name: name.into(),
            request: request.into(),
            verdict,
        }
    }
}

/// Metric label, status, challenge and text of a refusal, as the design's table has them.
fn answer(verdict: Verdict) -> (&'static str, u16, String, &'static str) {
    let (reason, scope) = match verdict {
        Verdict::Refused(reason) => (reason, ""),
        Verdict::Lacks(scope) => ("insufficient_scope", scope),
        Verdict::Accepted => panic!("no refusal"),
    };
    let (status, error, text) = match reason {
        "missing" => (401, "", "a bearer token is required"),
        "broken_syntax" | "duplicate_header" | "too_large" => (
            400,
            "invalid_request",
            "the Authorization header is repeated, too large or not Bearer syntax",
        ),
        "insufficient_scope" => (
            403,
            "insufficient_scope",
            "the access token lacks a required scope",
        ),
        "key_purged" => (
            401,
            "invalid_token",
            "the signing key of the access token was revoked; request a new token",
        ),
        _ => (401, "invalid_token", "the access token is not valid"),
    };
    let mut challenge = REALM.to_owned();
    if !error.is_empty() {
        challenge += &format!(", error=\"{error}\", error_description=\"{text}\"");
    }
    if !scope.is_empty() {
        challenge += &format!(", scope=\"{scope}\"");
    }
    let label = match reason {
        "broken_syntax" => "malformed",
        other => other,
    };
    (label, status, challenge, text)
}

/// Sends every request of a table; panics with every verdict that is not the stated one, and when
/// the counters do not say the same. Returns the names.
pub(crate) async fn run(house: &House, cases: &[Case]) -> BTreeSet<String> {
    let gateway = &house.gateway;
    let before = gateway.scrape().await;
    let mut wrong = Vec::new();
    let mut expected: BTreeMap<&str, f64> = BTreeMap::new();
    for second in cases.chunks(A_SECOND) {
        let mut answers = Vec::new();
        for case in second {
            let answer = exchange(&gateway.proxy, &case.request).await;
            answers.push((case, answer));
        }
        let lines = gateway.log.lines();
        for (case, answer) in answers {
            let label = match case.verdict {
                Verdict::Accepted => "accepted",
                refused => self::answer(refused).0,
            };
            *expected.entry(label).or_default() += 1.0;
            let Some(answer) = answer else {
                wrong.push(format!("{}: no answer", case.name));
                continue;
            };
            let found = if case.verdict == Verdict::Accepted {
                (answer.status == 200).then_some(())
            } else {
                let (label, status, challenge, text) = self::answer(case.verdict);
                let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
                let named = |line: &&Value| {
                    line["event"] == json!("request_denied") && line["log_id"] == body["log_id"]
                };
                let lines: Vec<&Value> = lines.iter().filter(named).collect();
                let told = answer.status == status
                    && answer.header("www-authenticate") == Some(&challenge)
                    && (&body["detail"], &body["status"]) == (&json!(text), &json!(status));
                let logged = lines.len() == 1
                    && lines[0]["reason"] == json!(label)
                    && lines[0]["status"] == json!(status);
                (told && logged).then_some(())
            };
            if found.is_none() {
                let log_id = serde_json::from_str::<Value>(&answer.body).unwrap_or_default();
                let reason = lines
                    .iter()
                    .find(|line| {
                        line["event"] == json!("request_denied")
                            && line["log_id"] == log_id["log_id"]
                    })
                    .map(|line| line["reason"].to_string());
                wrong.push(format!(
                    "{}: {:?}, but {} {} {:?}",
                    case.name,
                    case.verdict,
                    answer.status,
                    reason.unwrap_or_default(),
                    answer.header("www-authenticate"),
                ));
            }
        }
        gateway.clock.advance(Duration::from_secs(1));
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );

    let after = gateway.scrape().await;
    let grown = |name: &str, labels: &[(&str, &str)]| {
        metrics::sum(&after, name, labels) - metrics::sum(&before, name, labels)
    };
    let reasons: BTreeSet<&str> = Rejection::ALL.map(Rejection::as_str).into();
    let mut counted: BTreeMap<&str, f64> = reasons
        .into_iter()
        .map(|reason| (reason, grown(DENIED, &[("reason", reason)])))
        .collect();
    counted.insert("accepted", grown(ALLOWED, &[]));
    counted.retain(|_, count| *count != 0.0);
    assert_eq!(counted, expected);

    let names: BTreeSet<String> = cases.iter().map(|case| case.name.clone()).collect();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own");
    names
}
