//! Traces: W3C context in and out, spans at a real collector, and no request that waits for it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::collector::{Collector, attribute, hex, the, value};
use harness::h2::H2Client;
use harness::raw::{Answer, RawClient, exchange};
use harness::upstream::Upstream;
use harness::{CLIENT, Gateway, Options, SECRET, kid};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use portcullis::lifecycle::scheduler;
use portcullis::store::faulty_store::{Step, Trouble};
use serde_json::{Value, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

async fn traced(collector: &Collector, more: &str) -> Gateway {
    Gateway::start(Options {
        more: format!("{}{more}", collector.section("")),
        ..Options::default()
    })
    .await
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn continuing(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")
}

/// The values of a field in the request that reached the echo upstream.
fn seen_by_upstream(answer: &Answer, name: &str) -> Vec<String> {
    let fields = answer.json()["headers"].clone();
    fields
        .as_array()
        .unwrap()
        .iter()
        .filter(|field| field[0] == name)
        .map(|field| field[1].as_str().unwrap().to_owned())
        .collect()
}

fn of_trace<'a>(spans: &'a [Span], trace: &str) -> Vec<&'a Span> {
    spans
        .iter()
        .filter(|span| hex(&span.trace_id) == trace)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_is_continued_and_passed_on() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("access.log");
    let collector = Collector::start();
    let access_log = format!("access_log: {{ target: {} }}\n", path.display());
    let gateway = traced(&collector, &access_log).await;
    let token = gateway.token().await;
    let fields = format!(
        "Authorization: Bearer {token}\r\n{}tracestate: vendor=1\r\n",
        continuing("01")
    );
    let answer = exchange(&gateway.proxy, get("/hello?code=hidden", &fields))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let spans = collector
        .wait_for(&gateway, "the spans of the request", |spans| {
            let mine: Vec<Span> = of_trace(spans, TRACE).into_iter().cloned().collect();
            (!mine.is_empty()).then_some(mine)
        })
        .await;
    assert_eq!(spans.len(), 3, "request, verification, upstream");
    let (request, verify, upstream) = (
        the(&spans, "GET api"),
        the(&spans, "verify token"),
        the(&spans, "upstream echo"),
    );
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(verify.parent_span_id, request.span_id);
    assert_eq!(upstream.parent_span_id, request.span_id);
    let kinds = [request, verify, upstream].map(Span::kind);
    assert_eq!(
        kinds,
        [SpanKind::Server, SpanKind::Internal, SpanKind::Client]
    );
    let onwards = format!("00-{TRACE}-{}-01", hex(&upstream.span_id));
    assert_eq!(seen_by_upstream(&answer, "traceparent"), [onwards]);
    assert_eq!(seen_by_upstream(&answer, "tracestate"), ["vendor=1"]);

    for (span, name, value) in [
        (request, "http.request.method", "GET"),
        (request, "url.path", "/hello"),
        (request, "http.response.status_code", "200"),
        (request, "url.scheme", "http"),
        (request, "http.route", "/*"),
        (request, "network.protocol.version", "1.1"),
        (request, "portcullis.route", "api"),
        (request, "portcullis.client_id", CLIENT),
        (verify, "portcullis.cache", "miss"),
        (verify, "portcullis.key_state", "active"),
        (verify, "portcullis.kid", &kid(&token)),
        (upstream, "portcullis.upstream", "echo"),
        (upstream, "http.request.method", "GET"),
        (
            upstream,
            "url.full",
            &format!("http://{}/hello", gateway.upstream.address),
        ),
        (
            upstream,
            "server.address",
            &gateway.upstream.address.ip().to_string(),
        ),
        (
            upstream,
            "server.port",
            &gateway.upstream.address.port().to_string(),
        ),
    ] {
        assert_eq!(attribute(span, name), value, "{name} of {}", span.name);
    }
    for span in [request, verify, upstream] {
        assert_eq!(span.trace_state, "vendor=1");
        assert_eq!(attribute(span, "error.type"), "");
        assert_eq!(attribute(span, "http.request.method_original"), "");
    }
    for child in [verify, upstream] {
        assert!(child.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(
            child.end_time_unix_nano <= request.end_time_unix_nano,
            "{child:?}"
        );
        assert!(child.end_time_unix_nano >= child.start_time_unix_nano);
    }
    assert!(
        spans.iter().all(|span| span.status.is_none()),
        "nothing failed"
    );

    gateway.flush_records().await;
    let line = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["path"] == "/hello")
        .unwrap();
    assert_eq!(line["trace_id"], TRACE, "the access log leads to the trace");

    // The second time the token is known.
    exchange(&gateway.proxy, get("/hello", &fields))
        .await
        .unwrap();
    collector
        .wait_for(&gateway, "a cache hit", |spans| {
            let hit = |span: &&Span| attribute(span, "portcullis.cache") == "hit";
            spans.iter().find(hit).map(|_| ())
        })
        .await;
    no_secret(&collector, &[&token]);
}

/// Nothing that arrived holds a secret.
fn no_secret(collector: &Collector, tokens: &[&str]) {
    let text = collector.text();
    assert!(!text.is_empty());
    for secret in [SECRET, "hidden", "eyJ"] {
        assert!(!text.contains(secret), "{secret}");
    }
    for token in tokens {
        for part in token.split('.') {
            assert!(!text.contains(part), "{part}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_traceparent_begins_a_trace_of_its_own() {
    let collector = Collector::start();
    let gateway = traced(&collector, "").await;
    for fields in [
        String::new(),
        format!("traceparent: 00-{TRACE}-{PARENT}-0x\r\ntracestate: vendor=1\r\n"),
        format!("{0}{0}tracestate: vendor=1\r\n", continuing("01")),
        "tracestate: vendor=1\r\n".to_owned(),
    ] {
        let answer = exchange(&gateway.proxy, get("/public", &fields))
            .await
            .unwrap();
        let [onwards] = &seen_by_upstream(&answer, "traceparent")[..] else {
            panic!("not one traceparent: {answer:?}")
        };
        let trace = onwards.split('-').nth(1).unwrap().to_owned();
        assert_ne!(trace, TRACE);
        assert!(onwards.ends_with("-01"));
        assert!(
            seen_by_upstream(&answer, "tracestate").is_empty(),
            "{fields}"
        );
        let request = collector
            .wait_for(&gateway, "the span", |spans| {
                let mine = of_trace(spans, &trace);
                mine.iter()
                    .find(|span| span.name == "GET public")
                    .map(|span| (*span).clone())
            })
            .await;
        assert!(request.parent_span_id.is_empty(), "a root");
    }
    // One that is well-formed, with a state that is not.
    let fields = format!("{}tracestate: {}\r\n", continuing("01"), "a=1,".repeat(200));
    let answer = exchange(&gateway.proxy, get("/public", &fields))
        .await
        .unwrap();
    assert!(seen_by_upstream(&answer, "traceparent")[0].contains(TRACE));
    assert!(seen_by_upstream(&answer, "tracestate").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_its_caller_does_not_record_is_passed_on_and_not_recorded() {
    let collector = Collector::start();
    let gateway = traced(&collector, "").await;
    let answer = exchange(&gateway.proxy, get("/public", &continuing("00")))
        .await
        .unwrap();
    let onwards = &seen_by_upstream(&answer, "traceparent")[0];
    assert!(onwards.starts_with(&format!("00-{TRACE}-")) && onwards.ends_with("-00"));
    assert!(
        !onwards.contains(PARENT),
        "the upstream's parent is the gateway"
    );
    // A later one that is recorded arrives, this one never does.
    exchange(&gateway.proxy, get("/public", "")).await.unwrap();
    let all = collector
        .wait_for(&gateway, "a span", |spans| {
            (!spans.is_empty()).then(|| spans.to_vec())
        })
        .await;
    assert!(of_trace(&all, TRACE).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tracing_the_fields_pass_unchanged() {
    let gateway = Gateway::start(Options::default()).await;
    for fields in [
        continuing("01"),
        "traceparent: whatever\r\n".to_owned(),
        format!("{0}{0}", continuing("01")),
        String::new(),
    ] {
        let request = get("/public", &format!("{fields}tracestate: Odd=,=\r\n"));
        let answer = exchange(&gateway.proxy, request).await.unwrap();
        let sent: Vec<&str> = fields
            .lines()
            .filter_map(|line| line.strip_prefix("traceparent: "))
            .collect();
        assert_eq!(seen_by_upstream(&answer, "traceparent"), sent);
        assert_eq!(seen_by_upstream(&answer, "tracestate"), ["Odd=,="]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_failures_issued_tokens_and_rotations_have_spans() {
    let collector = Collector::start();
    let gateway = Gateway::start(Options {
        more: collector.section(""),
        upstreams: "  gone: { endpoints: [\"127.0.0.1:9\"] }".to_owned(),
        routes: "
routes:
  - { name: gone, match: { path: /gone }, auth: none, upstream: gone }
  - { name: api, match: { prefix: / }, auth: {}, upstream: echo }
"
        .to_owned(),
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    gateway.rotate().await;
    let purge = gateway.purge().await;
    let fields = format!("Authorization: Bearer {token}\r\n");
    let refused = exchange(
        &gateway.proxy,
        get(&format!("/x/{token}?code=hidden"), &fields),
    )
    .await
    .unwrap();
    assert_eq!(refused.status, 401);
    let failed = exchange(&gateway.proxy, get("/gone", "")).await.unwrap();
    assert_eq!(failed.status, 502);
    let spans = collector
        .wait_for(&gateway, "all spans", |spans| {
            let names = [
                "POST issuer",
                "rotate keys",
                "purge keys",
                "GET api",
                "GET gone",
            ];
            let is_there = |name: &&str| spans.iter().any(|span| span.name == **name);
            names.iter().all(is_there).then(|| spans.to_vec())
        })
        .await;

    let (issuer, issue) = (the(&spans, "POST issuer"), the(&spans, "issue token"));
    assert_eq!(issue.parent_span_id, issuer.span_id);
    assert_eq!(issue.trace_id, issuer.trace_id);
    assert!(issuer.parent_span_id.is_empty());
    assert_eq!(attribute(issuer, "portcullis.client_id"), CLIENT);
    assert_eq!(attribute(issuer, "http.route"), "/oauth2/token");

    let (rotate, purged) = (the(&spans, "rotate keys"), the(&spans, "purge keys"));
    for span in [rotate, purged] {
        assert_eq!(attribute(span, "portcullis.trigger"), "manual");
        let changed = value(span, "portcullis.changed");
        assert_eq!(changed, Some(AttributeValue::BoolValue(true)));
        let revision = value(span, "portcullis.revision");
        assert!(
            matches!(revision, Some(AttributeValue::IntValue(1..))),
            "{revision:?}"
        );
        assert!(span.parent_span_id.is_empty(), "a trace of its own");
        assert!(span.end_time_unix_nano > span.start_time_unix_nano);
    }
    let drained = value(purged, "portcullis.drained");
    assert_eq!(drained, Some(AttributeValue::BoolValue(true)));
    assert_eq!(
        attribute(purged, "portcullis.purge_id"),
        purge["rotation_id"].as_str().unwrap()
    );

    let verify = the(&spans, "verify token");
    assert_eq!(attribute(verify, "portcullis.reason"), "key_purged");
    assert_eq!(attribute(verify, "portcullis.accepted"), "false");
    assert_eq!(attribute(verify, "portcullis.kid"), kid(&token));
    let request = the(&spans, "GET api");
    assert_eq!(verify.parent_span_id, request.span_id);
    assert_eq!(
        attribute(request, "portcullis.log_id"),
        refused.json()["log_id"].as_str().unwrap()
    );
    assert_eq!(attribute(request, "url.path"), "/x/[redacted]");
    assert!(
        request.status.is_none() && attribute(request, "error.type").is_empty(),
        "a refusal is no failure of the server"
    );
    assert_eq!(attribute(request, "portcullis.reason"), "key_purged");

    for name in ["GET gone", "upstream gone"] {
        let span = the(&spans, name);
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error);
        assert_eq!(span.status.as_ref().unwrap().message, "upstream_failed");
        assert_eq!(attribute(span, "error.type"), "upstream_failed");
    }
    no_secret(&collector, &[&token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_client_invented_is_in_no_name() {
    let collector = Collector::start();
    let gateway = traced(&collector, "").await;
    let fields = continuing("01");
    let invented = format!("FROB\u{7e}NNNN /public HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    exchange(&gateway.proxy, invented).await.unwrap();
    let spans = collector
        .wait_for(&gateway, "the spans", |spans| {
            (of_trace(spans, TRACE).len() == 2).then(|| spans.to_vec())
        })
        .await;
    for name in ["HTTP public", "upstream echo"] {
        let span = the(&spans, name);
        assert_eq!(attribute(span, "http.request.method"), "_OTHER");
        assert_eq!(attribute(span, "http.request.method_original"), "FROB~NNNN");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_http_2_has_the_names_of_the_conventions() {
    let collector = Collector::start();
    let gateway = Gateway::start(Options {
        more: collector.section(""),
        h2: true,
        ..Options::default()
    })
    .await;
    let (address, ca) = gateway.h2.clone().unwrap();
    let mut client = H2Client::connect(address, &ca).await;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    // A state may come in several fields; a member that looks like a token stays out.
    let fields = [
        ("traceparent", &*traceparent),
        ("tracestate", "a=1,b=eyJhbGciOiJFUzI1NiJ9"),
        ("tracestate", "c=3"),
    ];
    let ended = client
        .request("GET", "/public?code=hidden", &fields, b"")
        .await;
    assert_eq!(ended.status(), 200);
    let spans = collector
        .wait_for(&gateway, "the spans", |spans| {
            (of_trace(spans, TRACE).len() == 2).then(|| spans.to_vec())
        })
        .await;
    let request = the(&spans, "GET public");
    assert_eq!(attribute(request, "url.scheme"), "https");
    assert_eq!(attribute(request, "http.route"), "/public");
    assert_eq!(attribute(request, "network.protocol.version"), "2");
    assert!(spans.iter().all(|span| span.trace_state == "a=1,c=3"));
    no_secret(&collector, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_answers_itself_is_an_error_from_500_on() {
    let collector = Collector::start();
    let busy =
        Upstream::of(axum::Router::new().fallback(async || http::StatusCode::SERVICE_UNAVAILABLE));
    let gateway = Gateway::start(Options {
        more: collector.section(""),
        upstreams: format!("  busy: {{ endpoints: [\"{}\"] }}", busy.address),
        routes: "
routes:
  - { name: busy, match: { prefix: /busy }, auth: none, upstream: busy }
"
        .to_owned(),
        ..Options::default()
    })
    .await;
    exchange(&gateway.proxy, get("/busy", "")).await.unwrap();
    exchange(&gateway.proxy, get("/nowhere", "")).await.unwrap();
    let spans = collector
        .wait_for(&gateway, "the spans", |spans| {
            (spans.len() == 3).then(|| spans.to_vec())
        })
        .await;
    for name in ["GET busy", "upstream busy"] {
        let span = the(&spans, name);
        assert_eq!(attribute(span, "error.type"), "503");
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error);
    }
    assert_eq!(attribute(the(&spans, "GET busy"), "http.route"), "/busy/*");
    let unmatched = the(&spans, "GET none");
    assert_eq!(value(unmatched, "http.route"), None);
    assert_eq!(value(unmatched, "error.type"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_fails_leads_to_its_line_of_the_log() {
    let collector = Collector::start();
    let (gateway, store) = harness::faulty::start(Options {
        more: collector.section(""),
        ..Options::default()
    })
    .await;
    store.always(Step::BeforeCommit, Trouble::Fail);
    for (body, name) in [
        (json!({}), "rotate keys"),
        (json!({ "purge": true, "seen_revision": 1 }), "purge keys"),
    ] {
        let (status, problem) = gateway.admin_post("/admin/v1/keys/rotate", body).await;
        assert_eq!(status, 500, "{problem}");
        let log_id = problem["log_id"].as_str().unwrap();
        let span = collector
            .wait_for(&gateway, "the span", |spans| {
                spans.iter().find(|span| span.name == name).cloned()
            })
            .await;
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error);
        assert_eq!(attribute(&span, "portcullis.log_id"), log_id);
        let lines = gateway.log.lines();
        let lines = lines.iter().filter(|line| line["log_id"] == log_id);
        assert_eq!(lines.count(), 1);
    }

    // The schedule tries again and again and tells of the first time.
    gateway.clock.advance(Duration::from_hours(25));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let lifecycle = Arc::clone(&gateway.lifecycle);
    let running = tokio::spawn(scheduler::run(lifecycle, async move {
        let _ended = stopped.await;
    }));
    let log_ids = collector
        .wait_for(&gateway, "two tries", |spans| {
            let is_automatic = |span: &&Span| attribute(span, "portcullis.trigger") == "automatic";
            let tries = spans.iter().filter(is_automatic);
            let log_ids: Vec<String> = tries
                .map(|span| attribute(span, "portcullis.log_id"))
                .collect();
            (log_ids.len() >= 2).then_some(log_ids)
        })
        .await;
    drop(stop);
    running.await.unwrap();
    let lines = gateway.log.lines();
    let mut lines = lines
        .iter()
        .filter(|line| line["event"] == "schedule_failed");
    let line = lines.next().unwrap();
    assert!(lines.next().is_none());
    assert!(log_ids.iter().all(|log_id| line["log_id"] == *log_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_stop_leaves_behind_are_counted_and_told_of() {
    // It accepts connections and never answers.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hung.local_addr().unwrap());
    let gateway = Gateway::start(Options {
        more: format!("tracing: {{ sample_ratio: 1, otlp: {{ endpoint: \"{endpoint}\" }} }}\n"),
        ..Options::default()
    })
    .await;
    for _ in 0..3 {
        exchange(&gateway.proxy, get("/public", "")).await.unwrap();
    }
    gateway.settled().await;
    let records = gateway.records.clone();
    tokio::task::spawn_blocking(move || records.finish(Duration::from_millis(200)))
        .await
        .unwrap();
    assert_eq!(dropped(&gateway, "undeliverable").await, 6.0);
    let lines = gateway.log.lines();
    let told: Vec<&Value> = lines
        .iter()
        .filter(|line| line["event"] == "trace_spans_lost")
        .map(|line| &line["spans"])
        .collect();
    assert_eq!(told, [6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_traces_is_recorded() {
    let collector = Collector::start();
    let gateway = Gateway::start(Options {
        more: collector
            .section("")
            .replace("sample_ratio: 1", "sample_ratio: 0.5"),
        ..Options::default()
    })
    .await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    let mut recorded = 0;
    for _ in 0..400 {
        client.send(get("/public", "")).await;
        let answer = client.answer(false).await.unwrap();
        recorded += usize::from(seen_by_upstream(&answer, "traceparent")[0].ends_with("-01"));
    }
    // The chance to be further off is below one in a billion.
    assert!((140..=260).contains(&recorded), "{recorded} of 400");
    let requests = |spans: &[Span]| {
        spans
            .iter()
            .filter(|span| span.name == "GET public")
            .count()
    };
    collector
        .wait_for(&gateway, "the recorded ones", |spans| {
            (requests(spans) >= recorded).then_some(())
        })
        .await;
    assert_eq!(requests(&collector.spans()), recorded, "and no others");
}

async fn dropped(gateway: &Gateway, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    gateway
        .metric("portcullis_trace_spans_dropped_total", &labels)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn inv20_an_unreachable_collector_costs_no_request_and_every_lost_span_is_counted() {
    const REQUESTS: usize = 4000;
    let gateway = Gateway::start(Options {
        more: "tracing: { sample_ratio: 1, otlp: { endpoint: \"http://127.0.0.1:9\" } }\n"
            .to_owned(),
        workers: 1,
        ..Options::default()
    })
    .await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    for _ in 0..REQUESTS {
        client.send(get("/public", "")).await;
        assert_eq!(client.answer(false).await.unwrap().status, 200);
    }
    gateway.settled().await;
    gateway.flush_records().await;
    let lost = dropped(&gateway, "queue_full").await + dropped(&gateway, "undeliverable").await;
    assert_eq!(lost, 2.0 * REQUESTS as f64, "request and upstream of each");
    let told = |lines: &[Value]| {
        lines
            .iter()
            .filter(|line| line["event"] == "trace_export_failed")
            .count()
    };
    assert_eq!(told(&gateway.log.lines()), 1, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_busy_gets_the_spans_later() {
    let collector = Collector::start();
    let gateway = traced(&collector, "").await;
    collector.answer([503, 429]);
    exchange(&gateway.proxy, get("/public", &continuing("01")))
        .await
        .unwrap();
    // Nobody asks for a flush, which would not try again.
    harness::eventually("the spans", || async {
        (!of_trace(&collector.spans(), TRACE).is_empty()).then_some(())
    })
    .await;
    harness::eventually("the count", || async {
        let exported = gateway
            .metric("portcullis_trace_spans_exported_total", &[])
            .await;
        (exported == 2.0).then_some(())
    })
    .await;
    assert_eq!(dropped(&gateway, "undeliverable").await, 0.0);
    let events: Vec<Value> = gateway
        .log
        .lines()
        .iter()
        .map(|line| line["event"].clone())
        .collect();
    let told = |event: &str| events.iter().filter(|seen| *seen == event).count();
    assert_eq!(
        (told("trace_export_failed"), told("trace_export_recovered")),
        (1, 1)
    );

    // One that will never take them is not asked again.
    collector.answer([400]);
    exchange(&gateway.proxy, get("/public", "")).await.unwrap();
    harness::eventually("the loss", || async {
        (dropped(&gateway, "undeliverable").await == 2.0).then_some(())
    })
    .await;
    // And one that takes a part says so.
    collector.refuse(1);
    exchange(&gateway.proxy, get("/public", "")).await.unwrap();
    harness::eventually("the refused span", || async {
        (dropped(&gateway, "refused").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_asks_for_half_a_minute_costs_no_span() {
    let collector = Collector::start();
    let gateway = traced(&collector, "").await;
    collector.ask_for_pause(429, 30);
    exchange(&gateway.proxy, get("/public", &continuing("01")))
        .await
        .unwrap();
    harness::eventually("the line about the failure", || async {
        let lines = gateway.log.lines();
        lines
            .iter()
            .any(|line| line["event"] == "trace_export_failed")
            .then_some(())
    })
    .await;
    // Only a stop does not wait so long.
    gateway.flush_records().await;
    assert_eq!(of_trace(&collector.spans(), TRACE).len(), 2);
    assert_eq!(dropped(&gateway, "undeliverable").await, 0.0);
    assert_eq!(collector.arrivals().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_batch_waits_as_long_as_the_collector_asked() {
    let collector = Collector::start();
    let gateway = traced(&collector, "").await;
    for status in [429, 500] {
        collector.ask_for_pause(status, 2);
        exchange(&gateway.proxy, get("/public", "")).await.unwrap();
        gateway.flush_records().await;
        let before = collector.arrivals().len();
        exchange(&gateway.proxy, get("/public", "")).await.unwrap();
        let arrivals = harness::eventually("the next batch", || async {
            let arrivals = collector.arrivals();
            (arrivals.len() > before).then_some(arrivals)
        })
        .await;
        let pause = arrivals[before].duration_since(arrivals[before - 1]);
        assert!(pause >= Duration::from_secs(2), "{status}: {pause:?}");
    }
    assert_eq!(dropped(&gateway, "undeliverable").await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_for_the_collector_reach_it_and_nobody_else() {
    const KEY: &str = "collector-key-0123456789";
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("headers");
    harness::in_process::write_private(&file, &format!("# for the collector\nX-Api-Key: {KEY}\n"));
    let collector = Collector::start();
    let more = format!(", headers_file: {}", file.display());
    let gateway = Gateway::start(Options {
        more: collector.section(&more),
        ..Options::default()
    })
    .await;
    exchange(&gateway.proxy, get("/public", "")).await.unwrap();
    collector
        .wait_for(&gateway, "a span", |spans| {
            (!spans.is_empty()).then_some(())
        })
        .await;
    assert!(
        collector
            .headers()
            .iter()
            .all(|headers| headers["x-api-key"] == KEY)
    );
    assert!(!gateway.log.text().contains(KEY));
    assert!(!format!("{:?} {:?}", gateway.records, gateway.config).contains(KEY));
    assert!(!collector.text().contains(KEY));
}
