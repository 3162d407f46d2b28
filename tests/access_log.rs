//! The access log: every request its line, the same Log ID as in the log, nothing secret, exact
//! sampling, and no request that waits for it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use harness::forge::{PrivateKey, claims_with};
use harness::raw::{RawClient, exchange};
use harness::upstream::Upstream;
use harness::{CLIENT, Gateway, Options, PATIENCE, Process, SECRET, eventually, kid, process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const DROPPED: &str = "portcullis_access_log_dropped_total";

/// Lines that wait for the writer, of each worker.
const LANE_LINES: usize = 4096;

/// Where a test keeps its access log.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("access.log")
    }

    fn section(&self, more: &str) -> String {
        section(&self.path(), more)
    }
}

fn section(target: &Path, more: &str) -> String {
    format!("access_log: {{ target: {}{more} }}\n", target.display())
}

/// The lines of the access log so far, once all are written.
async fn lines(gateway: &Gateway, path: &Path) -> Vec<Value> {
    text(gateway, path)
        .await
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

async fn text(gateway: &Gateway, path: &Path) -> String {
    gateway.settled().await;
    gateway.flush_records().await;
    std::fs::read_to_string(path).unwrap()
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn bearer(path: &str, token: &str) -> String {
    get(path, &format!("Authorization: Bearer {token}\r\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_is_told_in_full() {
    let place = Place::new();
    let gateway = Gateway::start(Options {
        more: place.section(""),
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    let body = "0123456789";
    let request = format!(
        "POST /hello/there?code=hidden HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(&gateway.proxy, request).await.unwrap();
    assert_eq!(answer.status, 200);
    let lines = lines(&gateway, &place.path()).await;
    assert_eq!(lines.len(), 2, "the token and the request: {lines:?}");
    let of = |route: &str| lines.iter().find(|line| line["route"] == route).unwrap();
    let issued = of("issuer");
    assert_eq!(issued["path"], "/oauth2/token");
    assert_eq!(issued["client_id"], CLIENT);
    assert_eq!(issued["kid"], kid(&token));
    let line = of("api");
    let expected = json!({
        "stream": "access", "log_id": null, "route": "api", "method": "POST",
        "path": "/hello/there", "protocol": "HTTP/1.1", "status": 200, "reason": null,
        "key_state": "active", "client_id": CLIENT, "kid": kid(&token), "upstream": "echo",
        "endpoint": gateway.upstream.address.to_string(), "bytes_in": 10,
        "bytes_out": answer.body.len(), "trace_id": "0af7651916cd43dd8448eb211c80319c",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} in {line}");
    }
    let micros = |name: &str| line[name].as_u64().unwrap();
    assert!(micros("auth_us") + micros("upstream_us") <= micros("duration_us"));
    assert!(micros("upstream_us") > 0);
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    let now = portcullis::clock::Clock::now(&*gateway.env.clock).to_string();
    assert_eq!(
        line["time"].as_str().unwrap()[..15],
        now[..15],
        "the gateway's clock"
    );
    gateway.rotate().await;
    assert_eq!(gateway.status(&token).await, 200);
    let lines = self::lines(&gateway, &place.path()).await;
    assert_eq!(lines.last().unwrap()["key_state"], "deprecated");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv21_the_access_line_of_a_refusal_leads_to_its_one_log_line() {
    let place = Place::new();
    let gateway = Gateway::start(Options {
        more: place.section(", sample_successes: 0"),
        upstreams: "  gone: { endpoints: [\"127.0.0.1:9\"] }".to_owned(),
        routes: "
routes:
  - { name: gone, match: { path: /gone }, auth: none, upstream: gone }
  - { name: write, match: { prefix: /write }, auth: { scopes_all: [admin] }, upstream: echo }
  - { name: api, match: { prefix: /hello }, auth: { scopes_any: [read] }, upstream: echo }
"
        .to_owned(),
        listener: ", serves: [routes, issuer, health]",
        ..Options::default()
    })
    .await;
    let purged = gateway.token().await;
    gateway.purge().await;
    let good = gateway.token().await;
    let key = PrivateKey::active(&gateway);
    let expired = key.mint(&claims_with(&gateway, "exp", json!(1)));
    let form = |body: &str| {
        format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let grpc = "Content-Type: application/grpc\r\n";
    let cases = [
        (get("/hello?token=hidden", ""), "missing", "api"),
        (bearer("/hello", "x"), "malformed", "api"),
        (bearer("/hello", &expired), "expired", "api"),
        (bearer("/hello", &purged), "key_purged", "api"),
        (
            bearer("/hello", &format!("{good}AA")),
            "bad_signature",
            "api",
        ),
        (bearer("/write", &good), "insufficient_scope", "write"),
        (get("/nowhere", ""), "no_route", "none"),
        (get("/gone", ""), "upstream_failed", "gone"),
        (get("/hello/%2e%2e/x", ""), "bad_request", "none"),
        (get("/hello", grpc), "missing", "api"),
        (
            form("grant_type=client_credentials"),
            "invalid_client",
            "issuer",
        ),
        (
            form(&format!(
                "client_id={CLIENT}&client_secret={SECRET}&grant_type=password"
            )),
            "unsupported_grant_type",
            "issuer",
        ),
        (get("/oauth2/token", ""), "invalid_request", "issuer"),
        (form(&"x".repeat(70_000)), "bad_request", "issuer"),
        (
            "POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "bad_request",
            "health",
        ),
        // The guard refuses these; no gateway gets to see them.
        ("GET /hello\r\n\r\n".to_owned(), "bad_request", "none"),
        (
            get("/hello", "Transfer-Encoding: gzip\r\n"),
            "bad_request",
            "none",
        ),
    ];
    for (request, reason, route) in &cases {
        gateway.clock.advance(Duration::from_millis(50));
        let shown: String = request.chars().take(80).collect();
        let answer = exchange(&gateway.proxy, request).await.unwrap();
        let log_id = match answer.header("x-log-id") {
            Some(log_id) => log_id.to_owned(),
            None => answer.json()["log_id"].as_str().unwrap().to_owned(),
        };
        let log = gateway.log.text();
        assert_eq!(
            log.matches(&log_id).count(),
            1,
            "one line of the log: {shown}"
        );
        // Those that no route takes count nowhere as in flight.
        let told = eventually("the line of the refusal", || async {
            let mut told = lines(&gateway, &place.path()).await;
            told.retain(|line| line["log_id"] == log_id);
            (!told.is_empty()).then_some(told)
        })
        .await;
        assert_eq!(told.len(), 1, "one line of the access log: {shown}");
        let line = &told[0];
        assert_eq!(line["reason"], *reason, "{shown}\n{line}");
        assert_eq!(line["route"], *route, "{shown}\n{line}");
        assert_eq!(line["status"], answer.status, "{shown}\n{line}");
        assert_eq!(line["stream"], "access", "told apart from the log");
        // What tells the two apart for a forger is for operators alone.
        if answer.status == 401 && !["missing", "invalid_client", "key_purged"].contains(reason) {
            let uniform = answer.json()["detail"] == "the access token is not valid";
            assert!(uniform && !answer.body.contains(reason), "{answer:?}");
        }
    }
    // What the guard refused is counted, and nothing is claimed to be known of it.
    let (told, unread) = (lines(&gateway, &place.path()).await, 2);
    for line in &told[told.len() - unread..] {
        assert_eq!(
            (&line["method"], &line["path"]),
            (&Value::Null, &Value::Null)
        );
    }
    let labels = [("route", "none"), ("method", "other"), ("code", "4xx")];
    let counted = gateway
        .metric("portcullis_http_requests_total", &labels)
        .await;
    assert_eq!(counted, 2.0);
    // Of a client that only its token's signature proves.
    let told = lines(&gateway, &place.path()).await;
    let of = |reason: &str| told.iter().find(|line| line["reason"] == reason).unwrap();
    assert_eq!(of("expired")["client_id"], CLIENT);
    assert_eq!(of("key_purged")["kid"], kid(&purged));
    assert_eq!(of("bad_signature")["client_id"], Value::Null);
    assert_eq!(of("malformed")["kid"], Value::Null);
    assert_eq!(
        told.len(),
        cases.len(),
        "no success is written, and nothing twice"
    );
    let text = text(&gateway, &place.path()).await;
    for secret in [
        SECRET,
        "hidden",
        &good[good.len() - 40..],
        &purged[purged.len() - 40..],
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_ten_thousand_mixed_requests_every_refusal_has_its_line_and_sampling_is_exact() {
    const CONNECTIONS: usize = 8;
    const ROUNDS: usize = 250;
    let place = Place::new();
    let gateway = Gateway::start(Options {
        more: place.section(", sample_successes: 0.1"),
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    let forged = format!("{token}AA");
    let before = lines(&gateway, &place.path()).await.len();
    let mut load = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let url = gateway.workers[connection % 2].clone();
        let (token, forged) = (token.clone(), forged.clone());
        load.spawn(async move {
            let mut client = RawClient::connect(&url).await;
            let mut refused: BTreeMap<String, usize> = BTreeMap::new();
            for round in 0..ROUNDS {
                for (request, status) in [
                    (
                        bearer(&format!("/hello/{round}?secret=hidden"), &token),
                        200,
                    ),
                    (get("/public?secret=hidden", ""), 200),
                    (get(&format!("/hello?access_token={token}"), ""), 401),
                    (bearer("/hello", &forged), 401),
                    (bearer(&format!("/other/{token}"), &token), 401),
                ] {
                    client.send(request).await;
                    let answer = client.answer(false).await.unwrap();
                    assert_eq!(answer.status, status);
                    if status != 200 {
                        let log_id = answer.json()["log_id"].as_str().unwrap().to_owned();
                        *refused.entry(log_id).or_default() += 1;
                    }
                }
            }
            refused
        });
    }
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for (log_id, count) in load.join_all().await.into_iter().flatten() {
        *answered.entry(log_id).or_default() += count;
    }
    let lines = lines(&gateway, &place.path()).await.split_off(before);
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines.iter().filter(|line| line["status"] == 401) {
        let log_id = line["log_id"].as_str().unwrap().to_owned();
        *told.entry(log_id).or_default() += 1;
    }
    assert_eq!(
        answered, told,
        "every refusal has its line, under overload too"
    );
    assert_eq!(told.values().sum::<usize>(), CONNECTIONS * ROUNDS * 3);
    // Two workers with half of the successes each; the token before was one of the first's.
    let successes = lines.iter().filter(|line| line["status"] == 200);
    assert_eq!(successes.clone().count(), CONNECTIONS * ROUNDS * 2 / 10);
    for line in successes {
        assert_eq!(line["sample_rate"], 0.1);
    }
    assert_eq!(gateway.metric(DROPPED, &[]).await, 0.0);
    let text = text(&gateway, &place.path()).await;
    let signature = token.rsplit('.').next().unwrap();
    let payload = token.split('.').nth(1).unwrap();
    for secret in [SECRET, "hidden", "access_token", signature, payload] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(text.contains("/other/[redacted]"), "a token in a path");
    for line in text.lines() {
        assert!(line.len() < 1024, "{line}");
    }
}

/// Sends so many requests on one connection; all of them must be answered.
async fn requests(gateway: &Gateway, count: usize) {
    let mut client = RawClient::connect(&gateway.proxy).await;
    for _ in 0..count {
        client.send(get("/public", "")).await;
        assert_eq!(client.answer(false).await.unwrap().status, 200);
    }
    gateway.settled().await;
}

async fn dropped(gateway: &Gateway) -> usize {
    format!("{}", gateway.metric(DROPPED, &[]).await)
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn inv20_a_pipe_that_nobody_reads_holds_up_no_request_and_every_lost_line_is_counted() {
    const REQUESTS: usize = LANE_LINES + 1000;
    let place = Place::new();
    let made = Command::new("mkfifo").arg(place.path()).status().unwrap();
    assert!(made.success());
    let gateway = Gateway::start(Options {
        more: place.section(""),
        workers: 1,
        ..Options::default()
    })
    .await;
    // Reads when it is told to, or late enough for a request that waits for the log to have failed.
    let (read, told) = std::sync::mpsc::channel::<()>();
    let path = place.path();
    let reader = std::thread::spawn(move || {
        let _told_or_late = told.recv_timeout(2 * PATIENCE);
        std::fs::read_to_string(path).unwrap()
    });
    // The writer is stuck from its first line on; a request that waited for it would not be answered.
    requests(&gateway, REQUESTS).await;
    let lost = dropped(&gateway).await;
    assert!((1..=1000).contains(&lost), "{lost} lines dropped");

    read.send(()).unwrap();
    let records = gateway.records.clone();
    let flushed = move || records.access_log.unwrap().flush(PATIENCE);
    assert!(tokio::task::spawn_blocking(flushed).await.unwrap());
    assert_eq!(dropped(&gateway).await, lost, "nothing more is lost");
    drop(gateway);
    let text = tokio::task::spawn_blocking(move || reader.join().unwrap())
        .await
        .unwrap();
    assert_eq!(text.lines().count() + lost, REQUESTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv20_a_full_disk_holds_up_no_request_and_every_lost_line_is_counted() {
    const REQUESTS: usize = 500;
    let gateway = Gateway::start(Options {
        more: section(Path::new("/dev/full"), ""),
        ..Options::default()
    })
    .await;
    requests(&gateway, REQUESTS).await;
    let lost = eventually("every line is lost", || async {
        gateway.flush_records().await;
        let lost = dropped(&gateway).await;
        (lost >= REQUESTS).then_some(lost)
    })
    .await;
    assert_eq!(lost, REQUESTS);
    let told: Vec<Value> = gateway
        .log
        .lines()
        .into_iter()
        .filter(|line| line["event"] == "access_log_failed")
        .collect();
    assert_eq!(told.len(), 1, "told once: {told:?}");
    assert_eq!(told[0]["level"], "error");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_that_breaks_off_every_stream_tells_the_status_that_was_sent() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let half = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _read = socket.read(&mut request).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
            socket.write_all(answer).await.unwrap();
        }
    });
    let gateway = Gateway::start(Options {
        more: place.section(""),
        upstreams: format!("  half: {{ endpoints: [\"{address}\"], health_check: off }}"),
        routes: "
routes:
  - { name: half, match: { prefix: / }, auth: none, upstream: half }
"
        .to_owned(),
        ..Options::default()
    })
    .await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    client.send(get("/x", "")).await;
    client.ended().await;
    let line = eventually("the line of the request", || async {
        lines(&gateway, &place.path()).await.pop()
    })
    .await;
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&json!(200), &json!("upstream_failed"))
    );
    let log = gateway.log.text();
    let log = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<Value> = log.filter(|of| of["log_id"] == line["log_id"]).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["event"], &told[0]["status"]),
        (&json!("request_failed"), &json!(200))
    );
    assert_eq!(told[0]["broken_off"], true);
    let counted = [("route", "half"), ("method", "GET"), ("code", "2xx")];
    let failed = [("route", "half"), ("cause", "upstream_failed")];
    for (name, labels) in [
        ("portcullis_http_requests_total", &counted[..]),
        ("portcullis_request_failures_total", &failed[..]),
    ] {
        assert_eq!(gateway.metric(name, labels).await, 1.0, "{name}");
    }
    half.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_told_as_such() {
    let place = Place::new();
    let gate = Arc::new(Semaphore::new(0));
    let wait = {
        let gate = Arc::clone(&gate);
        move || {
            let gate = Arc::clone(&gate);
            async move { drop(gate.acquire().await) }
        }
    };
    let stuck = Upstream::of(Router::new().fallback(wait));
    let gateway = Gateway::start(Options {
        more: place.section(", sample_successes: 0"),
        upstreams: format!("  stuck: {{ endpoints: [\"{}\"] }}", stuck.address),
        routes: "
routes:
  - { name: stuck, match: { prefix: / }, auth: none, upstream: stuck }
"
        .to_owned(),
        ..Options::default()
    })
    .await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    client.send(get("/x", "")).await;
    let in_flight = [("route", "stuck")];
    eventually("the request is in flight", || async {
        let open = gateway.metric("portcullis_http_requests_in_flight", &in_flight);
        (open.await == 1.0).then_some(())
    })
    .await;
    drop(client);
    let line = eventually("the line of the request", || async {
        lines(&gateway, &place.path()).await.pop()
    })
    .await;
    assert_eq!(line["status"], Value::Null);
    assert_eq!(line["reason"], "client_gone");
    assert_eq!(line["upstream"], "stuck");
    gate.add_permits(1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_binary_writes_both_streams_to_stdout_and_flushes_at_the_end() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&process::Setup {
        more: "access_log: { format: json }".to_owned(),
        ..process::Setup::new(upstream.address)
    })
    .await;
    let token = gateway.token().await;
    for _ in 0..20 {
        assert_eq!(gateway.status(&token).await, 200);
    }
    assert_eq!(gateway.status("x").await, 401);
    assert!(gateway.terminate().await.success());
    let lines = gateway.log_lines();
    let (access, log): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| line["stream"] == "access");
    assert_eq!(access.len(), 22, "{access:?}");
    // By its status: workers hand over their lines on their own, so there is no order among them.
    let refused = access
        .iter()
        .find(|line| line["status"] == 401)
        .expect("the refusal has its access line");
    let of_log: Vec<_> = log
        .iter()
        .filter(|line| line["log_id"] == refused["log_id"])
        .collect();
    assert_eq!(of_log.len(), 1);
    assert!(log.iter().all(|line| line["event"].is_string()));
    assert!(access.iter().all(|line| line["event"].is_null()));
    assert_eq!(log.last().unwrap()["event"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_written_stops_the_start() {
    let upstream = Upstream::echo();
    let gateway = Process::configure(&process::Setup {
        more: "access_log: { target: ./missing/access.log }".to_owned(),
        ..process::Setup::new(upstream.address)
    });
    assert!(gateway.run(&["init"]).status.success());
    let refused = gateway.refused(&["serve"]).await;
    assert_eq!(refused.code, 2);
    let message = &refused.stderr;
    assert!(
        message.contains("./missing/access.log") && message.contains("directory must exist"),
        "{message}"
    );
}
