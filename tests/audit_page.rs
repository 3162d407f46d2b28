//! `GET audit`: the record of what was done to the keys, in pages, and whether it is intact.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod harness;

use std::time::Instant;

use harness::{Gateway, OPERATOR, Options, VIEWER};
use serde_json::{Value, json};

async fn get(gateway: &Gateway, token: &str, query: &str) -> (u16, Value) {
    let request = gateway
        .http
        .get(format!("{}/admin/v1/audit{query}", gateway.admin));
    let response = request.bearer_auth(token).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn with_files() -> Options {
    Options {
        file_store: true,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_revision_has_a_record_that_says_who_and_why() {
    for options in [Options::default(), with_files()] {
        let gateway = Gateway::start(options).await;
        let rotated = gateway.rotate().await;
        let body = json!({
            "purge": true, "mistake_undo": true, "reason": "a drill",
            "seen_revision": gateway.lifecycle.current_set().revision,
        });
        let (code, purged) = gateway.admin_post("/admin/v1/keys/rotate", body).await;
        assert_eq!(code, 200, "{purged}");

        let (code, page) = get(&gateway, OPERATOR, "").await;
        assert_eq!(code, 200, "{page}");
        assert_eq!(
            (&page["verified"], &page["problem"]),
            (&json!(true), &Value::Null)
        );
        let records = page["records"].as_array().unwrap();
        let revisions: Vec<u64> = records
            .iter()
            .map(|record| record["revision"].as_u64().unwrap())
            .collect();
        let newest = gateway.lifecycle.current_set().revision;
        assert_eq!(revisions, (1..=newest).rev().collect::<Vec<_>>());
        let (purge, rotation) = (&records[0], &records[1]);
        assert_eq!(purge["event"], "rotate_and_purge");
        assert_eq!(purge["actor"], json!({ "kind": "admin", "name": "boss" }));
        assert_eq!(purge["reason"], "a drill");
        assert_eq!(purge["purged"].as_array().unwrap().len(), 3);
        assert_eq!(purge["at"], purged["at"]);
        assert_eq!(rotation["event_id"], rotated["rotation_id"]);

        let (_, first) = get(&gateway, OPERATOR, "?limit=2").await;
        assert_eq!(first["records"].as_array().unwrap()[..], records[..2]);
        assert_eq!(first["next"], records[1]["revision"]);
        let query = format!("?limit=100&before={}", first["next"]);
        let (_, rest) = get(&gateway, OPERATOR, &query).await;
        assert_eq!(rest["records"].as_array().unwrap()[..], records[2..]);
        assert_eq!(rest["next"], Value::Null);
        let (_, none) = get(&gateway, OPERATOR, "?before=1").await;
        assert_eq!(
            (&none["records"], &none["next"]),
            (&json!([]), &Value::Null)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_bounds_hold() {
    let gateway = Gateway::start(Options::default()).await;
    let (code, problem) = get(&gateway, VIEWER, "").await;
    assert_eq!((code, &problem["code"]), (403, &json!("ROLE")));
    for query in [
        "?limit=0",
        "?limit=501",
        "?before=-1",
        "?before=x",
        "?after=1",
    ] {
        let (code, problem) = get(&gateway, OPERATOR, query).await;
        assert_eq!(
            (code, &problem["code"]),
            (400, &json!("BAD_QUERY")),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_changed_says_so_and_asking_often_costs_little() {
    let gateway = Gateway::start(with_files()).await;
    gateway.rotate().await;
    let path = gateway.dir.path().join("keys/audit.log");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replacen("\"bootstrap\"", "\"rotate\"", 1);
    assert_ne!(changed, text, "there is a first record");
    std::fs::write(&path, changed).unwrap();
    let (code, page) = get(&gateway, OPERATOR, "").await;
    assert_eq!((code, &page["verified"]), (200, &json!(false)));
    assert_eq!(page["problem"]["line"], 1);
    let rule = page["problem"]["rule"].as_str().unwrap();
    assert!(rule.contains("does not match"), "{rule}");
    assert_eq!(page["records"].as_array().unwrap().len(), 2);

    // Whoever asks all the time, and whoever changes keys meanwhile, do not get in each other's way.
    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(get(&gateway, OPERATOR, "?limit=500").await.0, 200);
    }
    gateway.purge().await;
    assert!(started.elapsed().as_secs() < 20);
    std::fs::remove_file(&path).unwrap();
    let (_, page) = get(&gateway, OPERATOR, "").await;
    assert_eq!(
        (&page["verified"], &page["records"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(page["problem"]["line"], Value::Null);
}
