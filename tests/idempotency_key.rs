//! Repeated calls: `Idempotency-Key`, stale revisions, and what a stale purge reports.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod harness;

use std::time::Duration;

use harness::{Gateway, Options, kid};
use serde_json::{Value, json};

const ROTATE: &str = "/admin/v1/keys/rotate";

/// A call of the admin API as the admin, with more header fields: status, body, replayed or not.
async fn call(gateway: &Gateway, body: Value, headers: &[(&str, &str)]) -> (u16, Value, bool) {
    let mut request = gateway
        .http
        .post(format!("{}{ROTATE}", gateway.admin))
        .bearer_auth(harness::ADMIN)
        .json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let replayed = response.headers().contains_key("idempotency-replayed");
    (
        response.status().as_u16(),
        response.json().await.unwrap(),
        replayed,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn inv10_a_repeated_call_gets_the_first_result_after_the_window_too() {
    let gateway = Gateway::start(Options::default()).await;
    let key = [("idempotency-key", "rotate-1")];
    let (status, first, replayed) = call(&gateway, json!({}), &key).await;
    assert_eq!((status, replayed), (200, false), "{first}");
    gateway.clock.advance(Duration::from_secs(3600));
    let (status, again, replayed) = call(&gateway, json!({}), &key).await;
    assert_eq!((status, replayed), (200, true), "{again}");
    for same in ["rotation_id", "changed", "activated", "replaced", "at"] {
        assert_eq!(first[same], again[same], "{same}");
    }
    assert_eq!(first["revision"], again["revision"]);

    // Another body under the same key, and another key.
    let (status, problem, _) = call(&gateway, json!({ "reason": "x" }), &key).await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("IDEMPOTENCY_KEY_REUSED"))
    );
    let (_, other, replayed) = call(&gateway, json!({}), &[("idempotency-key", "rotate-2")]).await;
    assert!(!replayed && other["rotation_id"] != first["rotation_id"]);

    // A day later the key is free again.
    gateway.clock.advance(Duration::from_secs(24 * 3600));
    let (_, later, replayed) = call(&gateway, json!({}), &key).await;
    assert!(!replayed && later["rotation_id"] != first["rotation_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv09_a_purge_with_only_a_key_executes_unless_the_key_is_stored() {
    let gateway = Gateway::start(Options::default()).await;
    let (status, problem, _) = call(&gateway, json!({ "purge": true }), &[]).await;
    assert_eq!(status, 428, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("current revision is 1")
    );

    let key = [("idempotency-key", "purge-1")];
    let (_, first, _) = call(&gateway, json!({ "purge": true }), &key).await;
    assert_eq!(first["changed"], json!(true));
    let recovered = gateway.token().await;
    let (status, again, replayed) = call(&gateway, json!({ "purge": true }), &key).await;
    assert_eq!((status, replayed), (200, true), "{again}");
    assert_eq!(again["receipt"]["purge_id"], first["rotation_id"]);
    assert_eq!(
        gateway.status(&recovered).await,
        200,
        "a retry kills nobody"
    );

    // Another key means another purge, inside the window of the first.
    let (_, other, _) = call(
        &gateway,
        json!({ "purge": true }),
        &[("idempotency-key", "purge-2")],
    )
    .await;
    assert_eq!(other["changed"], json!(true));
    assert_eq!(gateway.status(&recovered).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_rotate_is_refused_outside_the_window_alone() {
    let gateway = Gateway::start(Options::default()).await;
    let (_, first, _) = call(&gateway, json!({ "seen_revision": 1 }), &[]).await;
    assert_eq!(first["changed"], json!(true));
    let (status, inside, _) = call(&gateway, json!({ "seen_revision": 1 }), &[]).await;
    assert_eq!((status, &inside["changed"]), (200, &json!(false)));
    gateway.clock.advance(Duration::from_secs(601));
    for (body, headers) in [
        (json!({ "seen_revision": 1 }), &[][..]),
        (json!({}), &[("if-match", "\"1\"")][..]),
    ] {
        let (status, problem, _) = call(&gateway, body, headers).await;
        assert_eq!((status, &problem["code"]), (412, &json!("STALE_REVISION")));
    }
    let (status, _, _) = call(&gateway, json!({}), &[("if-match", "7")]).await;
    assert_eq!(status, 400);
    let mismatch = call(
        &gateway,
        json!({ "seen_revision": 2 }),
        &[("if-match", "\"1\"")],
    )
    .await;
    assert_eq!(mismatch.0, 400);
    let (status, _, _) = call(&gateway, json!({}), &[("if-match", "\"2\"")]).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_purge_kills_all_that_verifies_and_names_what_was_not_seen() {
    let gateway = Gateway::start(Options::default()).await;
    let rotated = gateway.rotate().await;
    let pending = rotated["keys"][1]["kid"].clone();
    let (_, purged, _) = call(&gateway, json!({ "purge": true, "seen_revision": 1 }), &[]).await;
    assert_eq!(purged["changed"], json!(true));
    assert_eq!(purged["purged"].as_array().unwrap().len(), 3);
    assert_eq!(purged["unseen"], json!([pending]));
    let fresh = gateway.token().await;
    assert_eq!(json!(kid(&fresh)), purged["activated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_under_a_stale_if_match_does_nothing() {
    let gateway = Gateway::start(Options::default()).await;
    gateway.rotate().await;
    let token = gateway.token().await;
    let purge = json!({ "purge": true });
    let (status, problem, _) = call(&gateway, purge.clone(), &[("if-match", "\"1\"")]).await;
    assert_eq!((status, &problem["code"]), (412, &json!("STALE_REVISION")));
    assert_eq!(gateway.status(&token).await, 200, "nothing was purged");
    // `*` is true of every key set, and says of none that somebody looked at it.
    let (status, problem, _) = call(&gateway, purge.clone(), &[("if-match", "*")]).await;
    assert_eq!(
        (status, &problem["code"]),
        (428, &json!("SEEN_REVISION_REQUIRED"))
    );
    let (status, _, _) = call(&gateway, json!({}), &[("if-match", "*")]).await;
    assert_eq!(status, 200);
    let (status, done, _) = call(&gateway, purge.clone(), &[("if-match", "\"2\"")]).await;
    assert_eq!((status, &done["changed"]), (200, &json!(true)));
    assert_eq!(gateway.status(&token).await, 401);
    // What was asked for is in effect: a retry learns that.
    let (status, again, _) = call(&gateway, purge.clone(), &[("if-match", "\"2\"")]).await;
    assert_eq!((status, &again["changed"]), (200, &json!(false)));
    // The lenient form stays.
    let lenient = json!({ "purge": true, "seen_revision": 3 });
    let body = call(&gateway, lenient, &[("if-match", "*")]).await;
    assert_eq!((body.0, &body.1["changed"]), (200, &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_bounded_per_actor_and_a_purge_runs_unstored_at_the_cap() {
    let gateway = Gateway::start(Options::default()).await;
    for (headers, why) in [
        (&[("idempotency-key", "a b")][..], "a space"),
        (
            &[("idempotency-key", "a"), ("idempotency-key", "b")][..],
            "twice",
        ),
    ] {
        assert_eq!(call(&gateway, json!({}), headers).await.0, 400, "{why}");
    }
    for n in 0..256 {
        let name = format!("purge-{n}");
        let headers = [("idempotency-key", name.as_str())];
        let (status, answer, _) = call(&gateway, json!({ "purge": true }), &headers).await;
        assert_eq!(status, 200, "{answer}");
    }
    let over = [("idempotency-key", "over")];
    let (_, first, _) = call(&gateway, json!({ "purge": true }), &over).await;
    let (_, second, replayed) = call(&gateway, json!({ "purge": true }), &over).await;
    assert!(!replayed && first["rotation_id"] != second["rotation_id"]);

    gateway.clock.advance(Duration::from_secs(601));
    let (status, problem, _) = call(&gateway, json!({}), &over).await;
    assert_eq!(
        (status, &problem["code"]),
        (429, &json!("IDEMPOTENCY_FULL"))
    );
    // Without a key it goes.
    assert_eq!(call(&gateway, json!({}), &[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_a_compromise_is_raised_and_never_lowered() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    let body = json!({ "purge": true, "kids": [kid(&token)], "mistake_undo": true });
    assert_eq!(call(&gateway, body, &[]).await.0, 200);
    let path = format!("/admin/v1/keys/{}/", kid(&token));
    let mark = format!("{path}compromised");
    assert_eq!(gateway.admin_post(&mark, json!({})).await.0, 200);
    assert_eq!(gateway.admin_post(&mark, json!({})).await.0, 200, "again");
    let (status, problem) = gateway
        .admin_post(&format!("{path}restore"), json!({}))
        .await;
    assert_eq!((status, &problem["code"]), (409, &json!("COMPROMISED")));
    let (status, _) = gateway
        .admin_post("/admin/v1/keys/nobody/compromised", json!({}))
        .await;
    assert_eq!(status, 404);
}
