//! `GET logs`: from the Log ID of an answer to the line that explains it, in memory and bounded.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod harness;

use std::sync::Arc;

use harness::process::free_ports;
use harness::{Gateway, OPERATOR, Options, VIEWER};
use portcullis::clock::SystemClock;
use portcullis::telemetry::{Format, Log};
use serde_json::Value;

async fn as_role(gateway: &Gateway, token: &str, path: &str) -> (u16, Value) {
    let request = gateway.http.get(format!("{}{path}", gateway.admin));
    let response = request.bearer_auth(token).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// The Log ID of a refusal with this status.
async fn refused(gateway: &Gateway, path: &str, status: u16) -> String {
    let response = gateway.http.get(format!("{}{path}", gateway.proxy));
    let response = response.send().await.unwrap();
    assert_eq!(response.status(), status);
    let problem: Value = response.json().await.unwrap();
    problem["log_id"].as_str().unwrap().to_owned()
}

fn with_a_dead_upstream() -> Options {
    let [dead] = free_ports();
    Options {
        upstreams: format!("  dead: {{ endpoints: [\"{dead}\"] }}"),
        routes:
            "routes:\n  - { name: dead, match: { prefix: /dead }, auth: none, upstream: dead }\n  \
                 - { name: api, match: { prefix: /api }, auth: {}, upstream: echo }"
                .to_owned(),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_id_from_an_answer_leads_to_exactly_one_line() {
    let gateway = Gateway::start(with_a_dead_upstream()).await;
    // At once, although another thread writes the log.
    for (path, status, event) in [
        ("/dead", 502, "request_failed"),
        ("/api", 401, "request_denied"),
        ("/nowhere", 404, "request_failed"),
        ("/dead", 502, "request_failed"),
    ] {
        let id = refused(&gateway, path, status).await;
        let (code, found) = as_role(&gateway, OPERATOR, &format!("/admin/v1/logs/{id}")).await;
        assert_eq!(code, 200, "{found}");
        assert_eq!(found["log_id"], id);
        let lines = found["lines"].as_array().unwrap();
        assert_eq!(lines.len(), 1, "{found}");
        assert_eq!(
            (&lines[0]["log_id"], &lines[0]["event"]),
            (&id.into(), &event.into())
        );
        assert_eq!(lines[0]["status"], status);
        // The line as it was written, all of it.
        assert!(gateway.log.lines().contains(&lines[0]), "{found}");
    }
    // An error of the admin API has its line as well.
    let (code, problem) = gateway.admin_get("/admin/v1/nowhere").await;
    assert_eq!(code, 404);
    let id = problem["log_id"].as_str().unwrap();
    let (code, found) = gateway.admin_get(&format!("/admin/v1/logs/{id}")).await;
    assert_eq!(
        (code, &found["lines"][0]["code"]),
        (200, &"NOT_FOUND".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_and_viewers_see_none() {
    let gateway = Gateway::start(Options::default()).await;
    let unknown = "/admin/v1/logs/3f2504e0-4f89-41d3-9a0c-0305e82c3301";
    let (code, problem) = as_role(&gateway, OPERATOR, unknown).await;
    assert_eq!((code, &problem["code"]), (404, &"LOG_ID_UNKNOWN".into()));
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("2000") && detail.contains("log.ring_lines"),
        "{detail}"
    );
    for (path, code, name) in [
        ("/admin/v1/logs/nonsense", 400, "BAD_LOG_ID"),
        ("/admin/v1/logs?limit=0", 400, "BAD_QUERY"),
        ("/admin/v1/logs?limit=1001", 400, "BAD_QUERY"),
        ("/admin/v1/logs?level=debug", 400, "BAD_QUERY"),
        ("/admin/v1/logs?what=1", 400, "BAD_QUERY"),
    ] {
        let (status, problem) = as_role(&gateway, OPERATOR, path).await;
        assert_eq!((status, &problem["code"]), (code, &name.into()), "{path}");
    }
    for path in [unknown, "/admin/v1/logs"] {
        let (status, problem) = as_role(&gateway, VIEWER, path).await;
        assert_eq!((status, &problem["code"]), (403, &"ROLE".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_lines_come_first_and_refusals_push_out_no_warning() {
    let gateway = Gateway::start(Options {
        more: "log: { ring_lines: 4 }".to_owned(),
        ..with_a_dead_upstream()
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(refused(&gateway, "/dead", 502).await);
    }
    let mut denied = Vec::new();
    for _ in 0..9 {
        denied.push(refused(&gateway, "/api", 401).await);
    }
    let of = |id: &str| format!("/admin/v1/logs/{id}");
    assert_eq!(gateway.admin_get(&of(&ids[5])).await.0, 200);
    assert_eq!(gateway.admin_get(&of(&denied[8])).await.0, 200);
    let shown = async |query: &str| -> Vec<String> {
        let (code, found) = gateway.admin_get(&format!("/admin/v1/logs{query}")).await;
        assert_eq!(code, 200, "{found}");
        let lines = found["lines"].as_array().unwrap();
        lines
            .iter()
            .map(|line| line["log_id"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    // The endpoint that went down has a line of its own, before the first refusal.
    assert_eq!(
        shown("").await,
        [5, 4, 3, 2].map(|at: usize| ids[at].clone())
    );
    assert_eq!(shown("?limit=1").await, [ids[5].clone()]);
    assert_eq!(
        shown("?limit=2&level=info").await,
        [denied[8].clone(), denied[7].clone()]
    );
    assert_eq!(shown("?level=info").await.len(), 8);
    assert_eq!(gateway.admin_get(&of(&denied[4])).await.0, 404);
    assert_eq!(gateway.admin_get(&of(&ids[1])).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_for_a_terminal_is_kept_as_json_all_the_same() {
    let (log, _writer) = Log::start(Format::Human, std::io::sink(), Arc::new(SystemClock));
    let gateway = Gateway::start(Options {
        log: Some(log),
        ..with_a_dead_upstream()
    })
    .await;
    let id = refused(&gateway, "/dead", 502).await;
    let (code, found) = gateway.admin_get(&format!("/admin/v1/logs/{id}")).await;
    assert_eq!(code, 200, "{found}");
    let line = &found["lines"][0];
    assert_eq!(
        (&line["level"], &line["path"]),
        (&"warn".into(), &"/dead".into())
    );
    assert!(
        line["time"].is_string() && line["cause"].is_string(),
        "{line}"
    );
}
