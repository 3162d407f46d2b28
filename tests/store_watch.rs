//! A store that cannot be read back is known before a rotation or a purge needs it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::sync::Arc;

use harness::{Gateway, Options, eventually, faulty};
use portcullis::store::faulty_store::{Gate, Step, Trouble};
use serde_json::Value;

/// Seconds: longer than a scrape takes on a busy machine.
const LONG: f64 = 1.0;

fn lines(gateway: &Gateway, event: &str) -> Vec<Value> {
    let mut lines = gateway.log.lines();
    lines.retain(|line| line["event"] == event);
    lines
}

async fn staleness(gateway: &Gateway) -> f64 {
    let name = "portcullis_keyset_staleness_seconds";
    gateway.metric(name, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_told_once_and_its_return_too() {
    let (gateway, store) = faulty::start(Options::default()).await;
    let token = gateway.token().await;
    let look = |before| gateway.lifecycle.look_at_store(before);
    assert!(!look(false).await);
    assert!(lines(&gateway, "store_unreadable").is_empty());

    store.always(Step::Load, Trouble::Fail);
    assert!(look(false).await);
    assert!(look(true).await);
    let told = lines(&gateway, "store_unreadable");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["log_id"].is_string(), "{told:?}");
    assert!(
        told[0]["cause"]
            .as_str()
            .is_some_and(|cause| !cause.is_empty())
    );
    eventually("it grows", || async {
        (staleness(&gateway).await > LONG).then_some(())
    })
    .await;
    assert_eq!(gateway.status(&token).await, 200, "traffic goes on");

    store.heal();
    assert!(!look(true).await);
    assert!(staleness(&gateway).await < LONG);
    assert_eq!(lines(&gateway, "store_readable").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn staleness_grows_while_a_look_at_the_store_hangs() {
    let (gateway, store) = faulty::start(Options::default()).await;
    let gate = Gate::closed();
    store.once(Step::Load, Trouble::Hold(gate.clone()));
    let lifecycle = Arc::clone(&gateway.lifecycle);
    let hanging = tokio::spawn(async move { lifecycle.look_at_store(false).await });
    gate.reached(1).await;
    let before = staleness(&gateway).await;
    eventually("it grows", || async {
        (staleness(&gateway).await > before + LONG).then_some(())
    })
    .await;
    gate.open();
    assert!(!hanging.await.expect("it ends"));
    assert!(staleness(&gateway).await < before + LONG);
}
