//! A request with what must come of it, the gateway that it goes to, and the run of a table.

use std::time::Duration;

use serde_json::Value;

use crate::harness::h2::{Ended, H2Client};
use crate::harness::raw::{Answer, RawClient};
use crate::harness::{Gateway, Options};
use crate::recorder::{Recorder, Seen};

/// `/open` and the host `open.test` are public, `/admin` wants a scope that the client has not, the
/// rest any token.
const ROUTES: &str = r"
routes:
  - { name: open, match: { prefix: /open }, auth: none, upstream: recorder }
  - { name: admin, match: { prefix: /admin }, auth: { scopes_all: [boss] }, upstream: recorder }
  - { name: guarded, match: { host: guarded.test, prefix: / }, auth: { scopes_all: [boss] }, upstream: recorder }
  - name: api
    match: { prefix: / }
    auth: { scopes_any: [read, write] }
    identity_headers: { X-Auth-Subject: sub, X-Auth-Client-Id: client_id, X-Auth-Scopes: scope }
    upstream: recorder
";

/// Beyond two hundred refusals a second the log lines are shared.
const A_SECOND: usize = 150;

/// What must come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is refused with this status.
    Refused(u16),
    /// It is forwarded, and this is the path that arrives.
    Forwarded(&'static str),
    /// Either will do; the general rules hold.
    Harmless,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) request: Vec<u8>,
    pub(crate) verdict: Verdict,
    /// The body that has to arrive when it is forwarded.
    pub(crate) body: Option<&'static [u8]>,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        request: impl Into<Vec<u8>>,
        verdict: Verdict,
    ) -> Self {
        Self {
            name: name.into(),
            request: request.into(),
            verdict,
            body: None,
        }
    }

    pub(crate) fn with_body(self, body: &'static [u8]) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }
}

/// The gateway, its upstream, and a good token.
pub(crate) struct House {
    pub(crate) gateway: Gateway,
    pub(crate) token: String,
    recorder: Recorder,
}

impl House {
    pub(crate) async fn new() -> Self {
        let recorder = Recorder::start().await;
        let gateway = Gateway::start(Options {
            routes: ROUTES.to_owned(),
            upstreams: format!("  recorder: {{ endpoints: [\"{}\"] }}\n", recorder.address),
            h2: true,
            ..Options::default()
        })
        .await;
        Self {
            token: gateway.token().await,
            gateway,
            recorder,
        }
    }

    /// The line with the good token.
    pub(crate) fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    /// Sends every request, each on a connection of its own; panics with all that went wrong.
    pub(crate) async fn run(&self, cases: &[Case]) {
        let mut wrong = Vec::new();
        for second in cases.chunks(A_SECOND) {
            for case in second {
                let answers = self.send(&case.request).await;
                let seen = self.recorder.take();
                if let Err(why) = self.judge(case, &answers, &seen) {
                    let answers: Vec<_> = answers
                        .iter()
                        .map(|answer| (answer.status, &answer.body))
                        .collect();
                    wrong.push(format!(
                        "{}: {why}\n  answers: {answers:?}\n  upstream: {seen:?}",
                        case.name
                    ));
                }
            }
            self.gateway.clock.advance(Duration::from_secs(1));
        }
        assert!(
            wrong.is_empty(),
            "{} wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }

    /// Every answer to what is sent on one connection, until it is closed or nothing more comes.
    async fn send(&self, request: &[u8]) -> Vec<Answer> {
        let head_only = request.starts_with(b"HEAD ");
        let mut client = RawClient::connect(&self.gateway.proxy).await;
        client.send(request).await;
        let mut answers = Vec::new();
        // Some wait for more of a request that never comes. A second answer follows at once.
        let mut patience = Duration::from_secs(2);
        while let Some(answer) = client.answer_within(patience, head_only).await {
            if answer.status >= 200 {
                patience = Duration::from_millis(30);
            }
            answers.push(answer);
        }
        answers
    }

    fn judge(&self, case: &Case, answers: &[Answer], seen: &[Seen]) -> Result<(), String> {
        let finals: Vec<&Answer> = answers
            .iter()
            .filter(|answer| answer.status >= 200)
            .collect();
        if let Some(bad) = answers.iter().find(|answer| answer.status >= 500) {
            return Err(format!("a failure of ours: {}", bad.status));
        }
        for refusal in finals.iter().filter(|answer| answer.status >= 400) {
            self.has_one_line(refusal)?;
            if refusal.header("date").is_none() {
                return Err("no Date".to_owned());
            }
            if refusal.body.contains(&self.token[self.token.len() - 40..]) {
                return Err("the answer repeats the token".to_owned());
            }
        }
        for request in seen {
            is_plain(request)?;
        }
        let first = finals.first().map(|answer| answer.status);
        match case.verdict {
            Verdict::Refused(status) if first != Some(status) => {
                Err(format!("refused with {status}? no, {first:?}"))
            }
            Verdict::Refused(_) if !seen.is_empty() => Err("it reached the upstream".to_owned()),
            Verdict::Forwarded(path) => {
                let [request] = seen else {
                    return Err(format!("forwarded as {} requests", seen.len()));
                };
                let target = request.line.split(' ').nth(1).unwrap_or_default();
                if first != Some(200) || target != path {
                    return Err(format!("forwarded as {path}? no, {:?}", request.line));
                }
                match case.body {
                    Some(body) if body != request.body => Err(format!(
                        "another body: {}",
                        String::from_utf8_lossy(&request.body)
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn has_one_line(&self, refusal: &Answer) -> Result<(), String> {
        let problem: Value = serde_json::from_str(&refusal.body).unwrap_or_default();
        let Some(log_id) = problem["log_id"].as_str() else {
            // An answer to HEAD has no body; its line is the business of other tests.
            return if refusal.body.is_empty() {
                Ok(())
            } else {
                Err(format!("no Log ID: {refusal:?}"))
            };
        };
        let lines = self.gateway.log.text();
        let count = lines.lines().filter(|line| line.contains(log_id)).count();
        if count == 1 {
            Ok(())
        } else {
            Err(format!("{count} lines of {log_id}"))
        }
    }

    /// The same over HTTP/2: blocks and bodies instead of bytes.
    pub(crate) async fn run_h2(&self, cases: &[H2Case]) {
        let (address, ca) = self.gateway.h2.clone().expect("a listener on HTTP/2");
        let mut wrong = Vec::new();
        for case in cases {
            let mut client = H2Client::connect(address, &ca).await;
            let ended = client.request_of(&case.block, &case.data).await;
            let seen = self.recorder.take();
            if let Err(why) = judge_h2(case, &ended, &seen) {
                wrong.push(format!(
                    "{}: {why}\n  {ended:?}\n  upstream: {seen:?}",
                    case.name
                ));
            }
            // The listener is none the worse for it.
            self.gateway.clock.advance(Duration::from_millis(20));
        }
        assert!(
            wrong.is_empty(),
            "{} wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

/// A request of HTTP/2.
pub(crate) struct H2Case {
    pub(crate) name: &'static str,
    pub(crate) block: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) verdict: Verdict,
}

/// What Pingora answers 400 without a body while it makes a stream a request, before anybody is asked.
const BY_PINGORA: [&str; 5] = [
    "no authority and no host",
    "an authority with a user",
    "a host that says something else",
    "an authority that says something else",
    "two hosts",
];

/// Of a malformed request a reset of the stream is as good as a refusal (RFC 9113 §8.1.1).
fn judge_h2(case: &H2Case, ended: &Ended, seen: &[Seen]) -> Result<(), String> {
    for request in seen {
        is_plain(request)?;
    }
    let status = ended.status();
    if status >= 500 {
        return Err(format!("a failure of ours: {status}"));
    }
    if let Ended::Answered(400.., body) = ended {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        if problem["log_id"].is_null() != BY_PINGORA.contains(&case.name) {
            return Err("a Log ID: only where no hook of ours is asked there is none".to_owned());
        }
    }
    match case.verdict {
        Verdict::Refused(_) if !seen.is_empty() => Err("it reached the upstream".to_owned()),
        Verdict::Refused(wanted) if status != 0 && status != wanted => {
            Err(format!("refused with {wanted}? no, {status}"))
        }
        Verdict::Forwarded(path) => {
            let [request] = seen else {
                return Err(format!("forwarded as {} requests", seen.len()));
            };
            let target = request.line.split(' ').nth(1).unwrap_or_default();
            if status == 200 && target == path {
                Ok(())
            } else {
                Err(format!("forwarded as {path}? no, {:?}", request.line))
            }
        }
        _ => Ok(()),
    }
}

/// The rules for whatever arrives upstream.
fn is_plain(request: &Seen) -> Result<(), String> {
    let Seen { line, fields, .. } = request;
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("a strange request line: {line:?}"));
    };
    if !method
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
    {
        return Err(format!("a strange method: {line:?}"));
    }
    if !target.starts_with('/') || target.starts_with("//") || target.contains('#') {
        return Err(format!("no origin form: {line:?}"));
    }
    if target.contains("smuggled") {
        return Err("a second request came through".to_owned());
    }
    for (name, value) in fields {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("a strange name: {name:?}"));
        }
        if value
            .bytes()
            .any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f)
        {
            return Err(format!("a strange value: {name}: {value:?}"));
        }
    }
    for gone in [
        "authorization",
        "proxy-authorization",
        "upgrade",
        "http2-settings",
        "forwarded",
        "x-real-ip",
        "keep-alive",
        "proxy-connection",
    ] {
        if !request.values(gone).is_empty() {
            return Err(format!("{gone} arrived"));
        }
    }
    for (name, _) in fields {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let ours = ["x-forwarded-for", "x-forwarded-proto"].contains(&&*name);
        if (name.starts_with("x-forwarded-") && !ours)
            || name.starts_with("x-original-ur")
            || name.starts_with("x-rewrite-ur")
        {
            return Err(format!(
                "{name} arrived: another request than the one that was judged"
            ));
        }
    }
    if request.values("host").len() != 1 {
        return Err(format!("{} Hosts", request.values("host").len()));
    }
    let framings =
        request.values("content-length").len() + request.values("transfer-encoding").len();
    if framings > 1 {
        return Err(format!("{framings} framings"));
    }
    let is_open = target.starts_with("/open");
    let subjects: &[&str] = if is_open { &[] } else { &["demo"] };
    if request.values("x-auth-subject") != subjects {
        return Err(format!(
            "the identity {:?}",
            request.values("x-auth-subject")
        ));
    }
    if target.starts_with("/admin") {
        return Err("behind a scope that nobody has".to_owned());
    }
    Ok(())
}
