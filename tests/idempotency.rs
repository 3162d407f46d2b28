//! A plain Rotate is idempotent for its window, whatever happens in it (invariant 10).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::{ADMIN, Gateway, Options};
use portcullis::clock::Clock as _;
use portcullis::keys::Event;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const CALLERS: usize = 64;
const WINDOW: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

fn options() -> Options {
    Options {
        file_store: true,
        steady_clock: true,
        ..Options::default()
    }
}

/// Everyone asks at once, each over a connection of their own.
async fn everybody_rotates(gateway: &Gateway) -> Vec<Value> {
    let barrier = Arc::new(Barrier::new(CALLERS));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (barrier, url) = (
            Arc::clone(&barrier),
            format!("{}/admin/v1/keys/rotate", gateway.admin),
        );
        callers.spawn(async move {
            let http = reqwest::Client::builder().no_proxy().build();
            let request = http
                .expect("a client")
                .post(url)
                .bearer_auth(ADMIN)
                .json(&json!({}));
            barrier.wait().await;
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status(), 200);
            response.json().await.expect("JSON")
        });
    }
    callers.join_all().await
}

/// The answer without what tells the call that did it from the others.
fn result(mut answer: Value) -> Value {
    answer["changed"] = Value::Null;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn inv10_callers_at_once_restarts_and_a_clock_set_back_get_one_activation_and_equal_answers()
{
    let gateway = Gateway::start(options()).await;
    let answers = everybody_rotates(&gateway).await;
    let at = gateway.clock.now();
    let changed = |answers: &[Value]| {
        answers
            .iter()
            .filter(|answer| answer["changed"] == true)
            .count()
    };
    assert_eq!(changed(&answers), 1, "exactly one did it");
    let first = result(answers[0].clone());
    for answer in answers {
        assert_eq!(result(answer), first);
    }
    let jwks = gateway.jwks().await;
    let same = async |gateway: &Gateway, when: &str| {
        let again = gateway.rotate().await;
        assert_eq!(again["changed"], false, "{when}");
        assert_eq!(result(again), first, "{when}");
        assert_eq!(gateway.jwks().await, jwks, "{when}");
    };

    gateway.clock.advance(Duration::from_secs(60));
    let gateway = Box::pin(gateway.restart(options())).await;
    same(&gateway, "after a restart").await;

    gateway.clock.set(gateway.clock.now().minus(HOUR));
    same(&gateway, "with the clock set back").await;
    gateway.clock.advance(Duration::from_secs(60));
    for answer in everybody_rotates(&gateway).await {
        assert_eq!(answer["changed"], false);
        assert_eq!(result(answer), first);
    }

    // A gateway that starts with a clock set back knows only the time of the last commit.
    let gateway = Box::pin(gateway.restart(options())).await;
    same(&gateway, "after a restart with the clock set back").await;
    assert_eq!(gateway.env.clock.now(), at);
    gateway.clock.advance(WINDOW - Duration::from_millis(1));
    same(&gateway, "in the last moment").await;

    let records = gateway.env.store.audit_tail(10).await.expect("the audit");
    let events: Vec<Event> = records.iter().map(|record| record.event).collect();
    assert_eq!(events, [Event::Bootstrap, Event::Rotate], "one activation");

    // Ten minutes after the last commit that it knows of the window is over, not an hour later.
    gateway.clock.advance(Duration::from_millis(1));
    let next = gateway.rotate().await;
    assert_eq!(next["changed"], true, "a clock set back prolongs nothing");
    assert_eq!(next["replaced"], first["activated"]);
}
