//! What the admin API shows of what keys, clients and purges do: live tokens, requests, last use, last
//! failure, failures over time.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod harness;

use std::time::Duration;

use harness::{CLIENT, Gateway, Options, VIEWER};
use portcullis::clock::Clock as _;
use serde_json::{Value, json};

async fn get(gateway: &Gateway, path: &str) -> Value {
    let (code, body) = gateway.admin_get(path).await;
    assert_eq!(code, 200, "{body}");
    body
}

async fn key(gateway: &Gateway, state: &str) -> Value {
    let keys = get(gateway, "/admin/v1/keys").await;
    let keys = keys["keys"].as_array().unwrap();
    keys.iter()
        .find(|key| key["state"] == state)
        .unwrap()
        .clone()
}

async fn client(gateway: &Gateway) -> Value {
    let clients = get(gateway, "/admin/v1/clients").await;
    let client = clients["clients"][0].clone();
    assert_eq!(client["id"], CLIENT);
    let alone = get(gateway, &format!("/admin/v1/clients/{CLIENT}")).await;
    for field in [
        "live_tokens",
        "last_seen_at",
        "last_failure_at",
        "last_failure_reason",
    ] {
        assert_eq!(alone[field], client[field], "{field}");
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_show_their_tokens_their_requests_and_their_past() {
    let gateway = Gateway::start(Options::default()).await;
    let fresh = key(&gateway, "active").await;
    assert_eq!(
        (&fresh["live_tokens"], &fresh["requests_5m"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(fresh["last_used_at"], Value::Null);

    let token = gateway.token().await;
    for _ in 0..7 {
        assert_eq!(gateway.status(&token).await, 200);
    }
    // The numbers are those of the last second.
    gateway.clock.advance(Duration::from_secs(2));
    let used_at = gateway.clock.now();
    let used = key(&gateway, "active").await;
    assert_eq!(
        (&used["live_tokens"], &used["requests_5m"]),
        (&json!(1), &json!(7))
    );
    assert_eq!(used["last_used_at"], used_at.to_string());
    let pending = key(&gateway, "pending").await;
    assert_eq!(
        (&pending["requests_5m"], &pending["last_used_at"]),
        (&json!(0), &Value::Null)
    );

    gateway.rotate().await;
    gateway.clock.advance(Duration::from_secs(310));
    let quiet = key(&gateway, "deprecated").await;
    assert_eq!(
        (&quiet["live_tokens"], &quiet["requests_5m"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(quiet["last_used_at"], used_at.to_string());

    let before = get(&gateway, "/admin/v1/keys").await;
    gateway.purge().await;
    let after = get(&gateway, "/admin/v1/keys").await;
    let tombstones = after["tombstones"].as_array().unwrap();
    assert_eq!(tombstones.len(), 3);
    for tombstone in tombstones {
        let keys = before["keys"].as_array().unwrap();
        let was = keys
            .iter()
            .find(|key| key["kid"] == tombstone["kid"])
            .unwrap();
        for date in ["created_at", "activated_at", "deprecated_at"] {
            // What never happened is null; a key that signed until its end was not deprecated.
            assert_eq!(tombstone[date], was[date], "{date} of {tombstone}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_when_they_were_last_seen_and_why_they_were_last_refused() {
    let gateway = Gateway::start(Options::default()).await;
    let unknown = client(&gateway).await;
    assert_eq!(unknown["live_tokens"], 0);
    for field in [
        "last_seen_at",
        "last_failure_at",
        "last_failure_code",
        "last_failure_reason",
    ] {
        assert_eq!(unknown[field], Value::Null, "{field}");
    }
    let token = gateway.token().await;
    gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    let seen_at = portcullis::clock::Timestamp::from_seconds(gateway.clock.now().as_seconds());
    gateway.clock.advance(Duration::from_secs(2));
    let seen = client(&gateway).await;
    assert_eq!(
        (&seen["live_tokens"], &seen["last_failure_at"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(seen["last_seen_at"], seen_at.to_string());

    // A scope that it does not have: refused, and proven to be its token.
    let refused_at = gateway.clock.now();
    assert_eq!(gateway.get("/other/x", &token).await.status(), 401);
    let refused = client(&gateway).await;
    assert_eq!(refused["last_failure_code"], "bad_audience");
    assert_eq!(refused["last_failure_at"], refused_at.to_string());
    let reason = refused["last_failure_reason"].as_str().unwrap();
    assert!(reason.contains("another audience"), "{reason}");

    // A forged token in its name is not its failure.
    let mut forged = token.clone();
    forged.replace_range(forged.len() - 8.., "AAAAAAAA");
    gateway.clock.advance(Duration::from_secs(2));
    assert_eq!(gateway.status(&forged).await, 401);
    assert_eq!(client(&gateway).await["last_failure_code"], "bad_audience");

    // Wrong secrets count for a client that exists, and for nobody else.
    for name in [CLIENT, "nobody"] {
        let request = gateway
            .http
            .post(format!("{}/oauth2/token", gateway.proxy))
            .basic_auth(name, Some("wrong"))
            .form(&[("grant_type", "client_credentials")]);
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    assert_eq!(
        client(&gateway).await["last_failure_code"],
        "invalid_client"
    );

    // Expired, long after; when it was last seen is still known.
    gateway.clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(gateway.status(&token).await, 401);
    let expired = client(&gateway).await;
    assert_eq!(expired["last_failure_code"], "expired");
    assert_eq!(
        (&expired["live_tokens"], &expired["last_seen_at"]),
        (&json!(0), &seen["last_seen_at"])
    );

    // Names are not for viewers.
    let request = gateway
        .http
        .get(format!("{}/admin/v1/clients", gateway.admin));
    let response = request.bearer_auth(VIEWER).send().await.unwrap();
    let view: Value = response.json().await.unwrap();
    assert_eq!(view.get("clients"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_holds_from_before_a_restart_is_not_counted_but_not_denied() {
    let options = || Options {
        file_store: true,
        ..Options::default()
    };
    let gateway = Gateway::start(options()).await;
    gateway.token().await;
    assert_eq!(client(&gateway).await["live_tokens"], 1);
    gateway.lifecycle.save_side_documents().await;
    let gateway = gateway.restart(options()).await;
    assert_eq!(client(&gateway).await["live_tokens"], Value::Null);
    gateway.token().await;
    assert_eq!(client(&gateway).await["live_tokens"], Value::Null);
    assert_eq!(key(&gateway, "active").await["live_tokens"], 2);
    // What was issued before has expired, and one more is known by itself.
    gateway.clock.advance(Duration::from_secs(2 * 3600));
    gateway.token().await;
    assert_eq!(client(&gateway).await["live_tokens"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_shows_its_failures_over_time_and_who_still_fails_why() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    let purged = gateway.purge().await;
    let id = purged["receipt"]["purge_id"].as_str().unwrap();
    let path = format!("/admin/v1/keys/purges/{id}");
    let none = get(&gateway, &path).await;
    assert_eq!(none["failures_over_time"]["bucket_seconds"], 10);
    for _ in 0..3 {
        assert_eq!(gateway.status(&token).await, 401);
    }
    get(&gateway, &path).await;
    gateway.clock.advance(Duration::from_secs(25));
    assert_eq!(gateway.status(&token).await, 401);
    let failing = get(&gateway, &path).await;
    let affected = &failing["recovery"]["clients"][0];
    assert_eq!(
        (&affected["client_id"], &affected["still_failing"]),
        (&json!(CLIENT), &json!(true))
    );
    assert_eq!(affected["last_failure_code"], "key_purged");
    let reason = affected["last_failure_reason"].as_str().unwrap();
    assert!(reason.contains("must ask for a new one"), "{reason}");

    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    let back = get(&gateway, &path).await;
    assert_eq!(back["recovery"]["clients"][0]["still_failing"], false);
    let buckets = back["failures_over_time"]["buckets"].as_array().unwrap();
    let counts: Vec<(u64, u64)> = buckets
        .iter()
        .map(|of| {
            (
                of["failures"].as_u64().unwrap(),
                of["recovered"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(counts, [(3, 0), (0, 0), (1, 1)]);
    assert_eq!(buckets[0]["at"], purged["at"]);

    // A week later there are still few of them, and nothing is lost.
    gateway.clock.advance(Duration::from_secs(6 * 24 * 3600));
    let later = get(&gateway, &path).await;
    let buckets = later["failures_over_time"]["buckets"].as_array().unwrap();
    assert!(buckets.len() <= 120);
    let sum: u64 = buckets
        .iter()
        .map(|of| of["failures"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 4);
    // What is known of clients is for operators.
    let request = gateway.http.get(format!("{}{path}", gateway.admin));
    let response = request.bearer_auth(VIEWER).send().await.unwrap();
    let view: Value = response.json().await.unwrap();
    assert_eq!(view["recovery"].get("clients"), None);
    assert!(view["failures_over_time"]["buckets"].is_array());
}
