//! The cache of verified tokens: a hit is judged like a miss, and dies with its key.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::forge::{PrivateKey, claims_with, good_claims};
use harness::{CLIENT, Gateway, Options, eventually};
use serde_json::json;

async fn lookups(gateway: &Gateway) -> (f64, f64) {
    let count = |result| {
        let labels = [("result", result)];
        async move {
            gateway
                .metric("portcullis_token_cache_lookups_total", &labels)
                .await
        }
    };
    (count("hit").await, count("miss").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_is_judged_by_the_rules_of_its_own_route() {
    let gateway = Gateway::start(Options::default()).await;
    let key = PrivateKey::active(&gateway);
    let read_only = key.mint(&claims_with(&gateway, "scope", json!("read")));
    let get = |path| gateway.get(path, &read_only);
    for round in 0..3 {
        assert_eq!(get("/api").await.status(), 200, "{round}");
        assert_eq!(get("/write").await.status(), 403, "{round}");
        assert_eq!(get("/other").await.status(), 401, "{round}");
    }
    // Found on the first route, judged on every one.
    assert_eq!(lookups(&gateway).await, (8.0, 1.0));
    // What the first route refuses is remembered for the second.
    let token = key.mint(&claims_with(&gateway, "aud", json!("other")));
    assert_eq!(gateway.get("/api", &token).await.status(), 401);
    assert_eq!(gateway.get("/other", &token).await.status(), 200);
    assert_eq!(lookups(&gateway).await, (9.0, 2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_what_the_caches_of_all_keys_hold() {
    let gateway = Gateway::start(Options::default()).await;
    // They are taken once a second.
    let schedule = portcullis::lifecycle::scheduler::run(
        Arc::clone(&gateway.lifecycle),
        std::future::pending(),
    );
    let schedule = tokio::spawn(schedule);
    let held = async |entries: f64| {
        eventually("the figures of the cache", async || {
            let seen = gateway.metric("portcullis_token_cache_entries", &[]).await;
            (seen == entries).then_some(())
        })
        .await;
        gateway.metric("portcullis_token_cache_bytes", &[]).await
    };
    let mut lengths = 0;
    for _ in 0..2 {
        let key = PrivateKey::active(&gateway);
        for number in 0..3 {
            let token = key.mint(&claims_with(&gateway, "jti", json!(number.to_string())));
            assert_eq!(gateway.status(&token).await, 200);
            lengths += token.len();
        }
        gateway.rotate().await;
    }
    let bytes = held(6.0).await;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let lengths = lengths as f64;
    assert!(
        bytes > lengths && bytes < 10.0 * lengths,
        "{bytes}, tokens of {lengths}"
    );
    gateway.purge().await;
    assert_eq!(held(0.0).await, 0.0);
    schedule.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_is_judged_by_the_clock_and_the_state_of_the_client() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    let path = format!("/admin/v1/clients/{CLIENT}/");
    let change = async |verb: &str| {
        let (answer, body) = gateway
            .admin_post(&format!("{path}{verb}"), json!({}))
            .await;
        assert_eq!(answer, 200, "{body}");
    };
    for verb in ["disable", "enable"] {
        change(verb).await;
        assert_eq!(gateway.status(&token).await, 401, "{verb}");
    }
    gateway.clock.advance(Duration::from_secs(2));
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    change("invalidate").await;
    assert_eq!(gateway.status(&token).await, 401);
    let token = PrivateKey::active(&gateway).mint(&good_claims(&gateway));
    gateway.clock.advance(Duration::from_secs(2));
    let token_now = gateway.token().await;
    assert_eq!(gateway.status(&token_now).await, 200);
    gateway.clock.advance(Duration::from_secs(3600 + 60));
    assert_eq!(
        gateway.status(&token_now).await,
        401,
        "expired, though remembered"
    );
    drop(token);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_byte_is_another_token() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    for at in (0..token.len()).step_by(7) {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(bytes).unwrap();
        assert_eq!(gateway.status(&other).await, 401, "byte {at}");
    }
    let (hits, _) = lookups(&gateway).await;
    assert!(hits.abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv05_entries_stay_warm_across_a_rotation_and_die_with_a_purge() {
    let gateway = Gateway::start(Options::default()).await;
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    gateway.rotate().await;
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(lookups(&gateway).await, (1.0, 1.0));
    let body = json!({ "purge": true, "seen_revision": 2, "mistake_undo": true });
    let (status, answer) = gateway.admin_post("/admin/v1/keys/rotate", body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(gateway.status(&token).await, 401);
    // A restored key begins with nothing remembered.
    let path = format!("/admin/v1/keys/{}/restore", harness::kid(&token));
    assert_eq!(gateway.admin_post(&path, json!({})).await.0, 200);
    let (hits, misses) = lookups(&gateway).await;
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(lookups(&gateway).await, (hits, misses + 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_switched_off() {
    let options = Options {
        server: ", token_cache_entries: 0",
        ..Options::default()
    };
    let gateway = Gateway::start(options).await;
    let token = gateway.token().await;
    for _ in 0..3 {
        assert_eq!(gateway.status(&token).await, 200);
    }
    assert_eq!(lookups(&gateway).await, (0.0, 3.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_lookups_are_counted() {
    let gateway = Gateway::start(Options::default()).await;
    let key = PrivateKey::active(&gateway);
    let purged = gateway.token().await;
    gateway.purge().await;
    let unknown = key.sign(
        r#"{"alg":"ES256","kid":"nobody","typ":"at+jwt"}"#,
        &good_claims(&gateway).to_string(),
    );
    for token in [&purged, &unknown, "garbage", ""] {
        assert_eq!(gateway.get("/api", token).await.status().as_u16() / 100, 4);
    }
    assert_eq!(lookups(&gateway).await, (0.0, 0.0));
    // A token that names a live key is looked for, whatever is wrong with it.
    let live = PrivateKey::active(&gateway);
    let forged = live.impostor().mint(&good_claims(&gateway));
    assert_eq!(gateway.status(&forged).await, 401);
    assert_eq!(lookups(&gateway).await, (0.0, 1.0));
    let broken = format!("{}.A.e30", forged.split('.').next().unwrap());
    assert_eq!(gateway.status(&broken).await, 401);
    assert_eq!(lookups(&gateway).await, (0.0, 2.0));
}
