//! The preview of a purge: honest, and without effect.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod harness;

use std::time::Duration;

use harness::{Gateway, Options};

#[tokio::test(flavor = "multi_thread")]
async fn inv19_preview_bounds_what_a_purge_breaks_and_changes_nothing() {
    let gateway = Gateway::start(Options::default()).await;
    let before = gateway.lifecycle.current_set();
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(gateway.token().await);
    }
    gateway.rotate().await;
    tokens.push(gateway.token().await);

    let (status, preview) = gateway.admin_get("/admin/v1/keys/preview?purge=true").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&preview["live_tokens"], &preview["clients"]),
        (&6.into(), &1.into())
    );
    let by_state = |state: &str| {
        let keys = preview["keys"].as_array().unwrap();
        keys.iter().find(|key| key["state"] == state).unwrap()["live_tokens"].clone()
    };
    assert_eq!(
        (
            by_state("active"),
            by_state("deprecated"),
            by_state("pending")
        ),
        (1.into(), 5.into(), 0.into())
    );
    assert_eq!(
        gateway.lifecycle.current_set().revision,
        before.revision + 1,
        "the rotation alone"
    );

    gateway.purge().await;
    let mut broken = 0;
    for token in &tokens {
        broken += u64::from(gateway.status(token).await == 401);
    }
    assert!(preview["live_tokens"].as_u64().unwrap() >= broken);
    assert_eq!(
        gateway.admin_get("/admin/v1/keys/preview").await.1["live_tokens"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_tokens_leave_the_preview_within_a_bucket() {
    let gateway = Gateway::start(Options::default()).await;
    let _token = gateway.token().await;
    gateway.clock.advance(Duration::from_secs(3600 + 60 + 61));
    assert_eq!(
        gateway.admin_get("/admin/v1/keys/preview").await.1["live_tokens"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_can_be_asked_for_again() {
    let gateway = Gateway::start(Options::default()).await;
    let purge = gateway.purge().await;
    let id = purge["rotation_id"].as_str().unwrap();
    let (status, receipt) = gateway
        .admin_get(&format!("/admin/v1/keys/purges/{id}"))
        .await;
    assert_eq!((status, receipt), (200, purge["receipt"].clone()));
    for unknown in ["nonsense", "00000000-0000-4000-8000-000000000000"] {
        assert_eq!(
            gateway
                .admin_get(&format!("/admin/v1/keys/purges/{unknown}"))
                .await
                .0,
            404
        );
    }
}
