//! Faults of the disk, seen from outside: each call of the store fails in turn, while requests go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis::store::faulty_layer::{Effect, Fault, FaultyLayer};
use portcullis::store::file_layer::RealLayer;
use rustix::io::Errno;
use serde_json::{Value, json};

use super::harness::{Gateway, Options, kid};

const ROTATE: &str = "/admin/v1/keys/rotate";

/// More calls than a commit makes.
const MOST_CALLS: u64 = 200;

fn the_line(gateway: &Gateway, log_id: &str) -> Value {
    let lines = gateway.log.lines();
    let named: Vec<&Value> = lines
        .iter()
        .filter(|line| line["log_id"] == log_id)
        .collect();
    assert_eq!(named.len(), 1, "{log_id}: {named:?}");
    named[0].clone()
}

/// What came of one attempt with one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It was carried out all the same; what failed was beside it.
    Done,
    /// It was refused, and the keys are as they were.
    Refused,
    /// It was refused without knowing whether it is stored; it was.
    StoredAllTheSame,
}

/// Rotates, or rotates and purges, with a fault; checks everything that a caller could see.
async fn attempt(
    gateway: &Gateway,
    layer: &FaultyLayer,
    fault: Fault,
    purge: bool,
) -> Option<Outcome> {
    // Out of every idempotency window, so that each attempt is one of its own.
    gateway.clock.advance(Duration::from_secs(3600));
    gateway.lifecycle.tick().await.expect("upkeep");
    let token = gateway.token().await;
    let before = gateway.lifecycle.current_set();
    let jwks = gateway.jwks().await;
    let body = if purge {
        json!({ "purge": true, "seen_revision": before.revision, "mistake_undo": true })
    } else {
        json!({})
    };
    layer.set(fault);
    let (status, answer) = gateway.admin_post(ROTATE, body.clone()).await;
    // Traffic takes no notice while the fault lasts.
    let during = (gateway.status(&token).await, kid(&gateway.token().await));
    let struck = layer.clear();
    if !struck {
        assert_eq!(status, 200, "{answer}");
        return None;
    }
    let outcome = if status == 200 {
        Outcome::Done
    } else {
        assert_eq!(
            (status, &answer["code"]),
            (500, &json!("ROTATION_FAILED")),
            "{fault:?}: {answer}"
        );
        let log_id = answer["log_id"].as_str().expect("a Log ID");
        let line = the_line(gateway, log_id);
        let cause = line["cause"].as_str().unwrap_or_default();
        assert!(!cause.is_empty(), "{line}");
        assert_eq!(
            during,
            (200, kid(&token)),
            "{fault:?}: the old keys are in force"
        );
        assert_eq!(gateway.jwks().await, jwks, "{fault:?}");
        // Healed, the next look at the store says how it was.
        gateway
            .lifecycle
            .tick()
            .await
            .expect("the disk is well again");
        if gateway.lifecycle.current_set().revision == before.revision {
            Outcome::Refused
        } else {
            Outcome::StoredAllTheSame
        }
    };
    // It works again without a restart, and says so.
    let expected = if purge && outcome != Outcome::Refused {
        401
    } else {
        200
    };
    assert_eq!(
        gateway.status(&token).await,
        expected,
        "{fault:?}: {outcome:?}"
    );
    let seen = gateway.lifecycle.current_set().revision;
    let again = if purge {
        json!({ "purge": true, "seen_revision": seen })
    } else {
        json!({})
    };
    let (status, answer) = gateway.admin_post(ROTATE, again).await;
    assert_eq!(status, 200, "{fault:?}: {answer}");
    if outcome == Outcome::Refused {
        assert_eq!(
            answer["changed"], true,
            "{fault:?}: a failure opens no window"
        );
    }
    assert_eq!(
        gateway.status(&token).await,
        if purge { 401 } else { 200 },
        "{fault:?}"
    );
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
    Some(outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_the_store_may_fail_under_a_rotation_and_a_purge() {
    let layer = FaultyLayer::new(Arc::new(RealLayer));
    let gateway = Gateway::start(Options {
        file_store: true,
        layer: Arc::new(layer.clone()),
        token_ttl: "2h",
        keys: "  rotation_interval: 366d\n".to_owned(),
        ..Options::default()
    })
    .await;
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    let mut calls = 0;
    for purge in [false, true] {
        for (errno, effect) in [
            (Errno::IO, Effect::Nothing),
            (Errno::NOSPC, Effect::Torn),
            (Errno::ROFS, Effect::Nothing),
            (Errno::IO, Effect::Done),
        ] {
            for sticky in [false, true] {
                for nth in 1..MOST_CALLS {
                    let fault = Fault {
                        nth,
                        sticky,
                        only: None,
                        errno: errno.raw_os_error(),
                        effect,
                    };
                    let Some(outcome) = attempt(&gateway, &layer, fault, purge).await else {
                        calls = calls.max(nth - 1);
                        break;
                    };
                    *outcomes.entry(outcome).or_default() += 1;
                }
            }
        }
    }
    println!("{calls} calls at most; {outcomes:?}");
    assert!(outcomes[&Outcome::Refused] > 50, "{outcomes:?}");
    assert!(calls < MOST_CALLS - 1);
}
