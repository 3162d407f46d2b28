//! The Component Monitor: what `GET status` says of components that fail and come back, and what the
//! gateway does with an endpoint of an upstream that is down.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod harness;

use std::time::Duration;

use harness::toggled::Toggled;
use harness::{Gateway, Options, VIEWER, eventually, faulty};
use portcullis::store::faulty_store::{Step, Trouble};
use serde_json::Value;

/// One component of a status document.
fn component<'a>(status: &'a Value, id: &str) -> &'a Value {
    let components = status["components"].as_array().expect("components");
    components
        .iter()
        .find(|component| component["id"] == id)
        .unwrap_or_else(|| panic!("no {id} in {status}"))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

async fn status(gateway: &Gateway) -> Value {
    let (code, status) = gateway.admin_get("/admin/v1/status").await;
    assert_eq!(code, 200, "{status}");
    status
}

/// Waits until a component has this status; the whole document.
async fn until(gateway: &Gateway, id: &str, wanted: &str) -> Value {
    eventually(&format!("{id} turns {wanted}"), || async {
        let status = status(gateway).await;
        (component(&status, id)["status"] == wanted).then_some(status)
    })
    .await
}

fn to(endpoints: &[&Toggled], check: &str) -> Options {
    let list: Vec<String> = endpoints
        .iter()
        .map(|of| format!("\"{}\"", of.address))
        .collect();
    Options {
        upstreams: format!(
            "  shaky: {{ endpoints: [{}], health_check: {check} }}",
            list.join(", ")
        ),
        routes: format!(
            "{}\n  - {{ name: shaky, match: {{ prefix: /shaky }}, auth: none, upstream: shaky }}",
            "routes:"
        ),
        ..Options::default()
    }
}

async fn get(gateway: &Gateway) -> u16 {
    let request = gateway.http.get(format!("{}/shaky", gateway.proxy));
    let response = request.send().await.expect("the gateway answers");
    response.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_every_component_and_that_all_is_well() {
    let gateway = Gateway::start(Options::default()).await;
    let request = gateway
        .http
        .get(format!("{}/admin/v1/status", gateway.admin));
    let response = request.try_clone().unwrap().bearer_auth(VIEWER).send();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    let status: Value = response.json().await.unwrap();
    assert_eq!(status["overall"], "ok", "{status:#}");
    assert_eq!(status["issuer"], "http://issuer.test");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let ids: Vec<&str> = status["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| component["id"].as_str().unwrap())
        .collect();
    let expected = [
        "gateway",
        "key_store",
        "issuer",
        "scheduler",
        "upstream:echo",
    ];
    assert_eq!(ids, expected);
    for component in status["components"].as_array().unwrap() {
        assert_eq!(component["since"], status["started_at"], "{component}");
        assert!(component["facts"].is_object());
        assert_eq!(
            component["endpoints"].is_array(),
            component["kind"] == "upstream"
        );
    }
    assert_eq!(component(&status, "gateway")["facts"]["workers"], "2");
    assert_eq!(request.send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_killed_turns_error_with_reason_and_date_and_comes_back() {
    let mut upstream = Toggled::dead();
    upstream.start().await;
    let gateway = Gateway::start(to(&[&upstream], "{ interval: 100ms, timeout: 1s }")).await;
    let _watching = gateway.watch();
    assert_eq!(get(&gateway).await, 200);
    let labels = [
        ("upstream", "shaky"),
        ("endpoint", &*upstream.address.to_string()),
    ];
    let up = || gateway.metric("portcullis_upstream_endpoint_up", &labels);
    assert_eq!(up().await, 1.0);

    gateway.clock.advance(Duration::from_secs(60));
    let killed_at = portcullis::clock::Clock::now(&*gateway.clock).to_string();
    upstream.kill().await;
    // Nobody asks the upstream for anything: a check finds it out.
    let found = until(&gateway, "upstream:shaky", "error").await;
    assert_eq!(found["overall"], "error");
    assert_eq!(
        found["components"][0]["id"], "upstream:shaky",
        "errors first"
    );
    let shaky = component(&found, "upstream:shaky");
    assert_eq!(shaky["since"], killed_at);
    let reason = shaky["reason"].as_str().unwrap();
    assert!(reason.contains("refuses connections: start"), "{reason}");
    assert_eq!(shaky["facts"]["endpoints up"], "0 of 1");
    let endpoint = &shaky["endpoints"][0];
    assert_eq!(endpoint["address"], upstream.address.to_string());
    assert_eq!(
        (&endpoint["status"], &endpoint["since"]),
        (&shaky["status"], &shaky["since"])
    );
    assert_eq!(up().await, 0.0);

    gateway.clock.advance(Duration::from_secs(60));
    let back_at = portcullis::clock::Clock::now(&*gateway.clock).to_string();
    // Still down, and dated as before.
    let found = status(&gateway).await;
    assert_eq!(component(&found, "upstream:shaky")["since"], killed_at);
    upstream.start().await;
    let found = until(&gateway, "upstream:shaky", "ok").await;
    assert_eq!(component(&found, "upstream:shaky")["since"], back_at);
    assert_eq!(up().await, 1.0);
    assert_eq!(get(&gateway).await, 200);

    let told = gateway.log.lines();
    let told: Vec<&str> = told
        .iter()
        .filter_map(|line| line["event"].as_str())
        .filter(|event| event.starts_with("upstream_endpoint"))
        .collect();
    assert_eq!(told, ["upstream_endpoint_down", "upstream_endpoint_up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_tells_at_once_how_an_upstream_is() {
    let mut upstream = Toggled::dead();
    let gateway = Gateway::start(to(&[&upstream], "off")).await;
    let _watching = gateway.watch();
    assert_eq!(get(&gateway).await, 502);
    let found = until(&gateway, "upstream:shaky", "error").await;
    let shaky = component(&found, "upstream:shaky");
    assert_eq!(shaky["facts"]["health check"], "off");
    upstream.start().await;
    assert_eq!(get(&gateway).await, 200);
    until(&gateway, "upstream:shaky", "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_is_left_out_until_all_are() {
    let (mut first, mut second) = (Toggled::dead(), Toggled::dead());
    second.start().await;
    // No check is made: what is known of the endpoints comes from requests.
    let gateway = Gateway::start(to(&[&first, &second], "{ interval: 1h }")).await;
    for _ in 0..6 {
        assert_eq!(get(&gateway).await, 200);
    }
    let found = until(&gateway, "upstream:shaky", "warning").await;
    let shaky = component(&found, "upstream:shaky");
    assert_eq!(shaky["facts"]["endpoints up"], "1 of 2");
    assert_eq!(second.requests(), 6);
    // It could answer now, but nobody has looked yet.
    first.start().await;
    for _ in 0..6 {
        assert_eq!(get(&gateway).await, 200);
    }
    assert_eq!((first.requests(), second.requests()), (0, 12));
    // With the other one gone as well, even what counts as down is tried.
    second.kill().await;
    assert_eq!(get(&gateway).await, 200);
    assert_eq!(first.requests(), 1);
    eventually("they change places", || async {
        let found = status(&gateway).await;
        let endpoints = &component(&found, "upstream:shaky")["endpoints"];
        let statuses = [0, 1].map(|at| text(&endpoints[at]["status"]));
        (statuses == ["ok", "error"]).then_some(())
    })
    .await;
    for _ in 0..6 {
        assert_eq!(get(&gateway).await, 200);
    }
    // All are down: all are tried, and the answer is a failure, not a refusal to try.
    first.kill().await;
    assert_eq!(get(&gateway).await, 502);
    until(&gateway, "upstream:shaky", "error").await;
    second.start().await;
    for _ in 0..6 {
        assert_eq!(get(&gateway).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_shows_and_so_does_the_schedule_that_needs_it() {
    let (gateway, store) = faulty::start(Options::default()).await;
    let failed_at = portcullis::clock::Clock::now(&*gateway.clock).to_string();
    store.always(Step::BeforeCommit, Trouble::Fail);
    let path = "/admin/v1/keys/rotate";
    let (code, _) = gateway.admin_post(path, serde_json::json!({})).await;
    assert_eq!(code, 500);
    let found = until(&gateway, "key_store", "error").await;
    let key_store = component(&found, "key_store");
    assert_eq!(key_store["since"], failed_at);
    let reason = key_store["reason"].as_str().unwrap();
    assert!(reason.contains("failed to commit a key set"), "{reason}");
    assert!(reason.contains("a fault was injected"), "{reason}");
    assert_eq!(component(&found, "scheduler")["status"], "ok");

    // A day later the schedule fails at it, too.
    gateway.clock.advance(Duration::from_secs(25 * 3600));
    gateway.lifecycle.tick().await.expect_err("the store fails");
    let found = until(&gateway, "scheduler", "error").await;
    let scheduler = component(&found, "scheduler");
    let reason = scheduler["reason"].as_str().unwrap();
    assert!(reason.contains("fails: "), "{reason}");
    assert!(
        scheduler["facts"]["last failure"]
            .as_str()
            .unwrap()
            .contains("a fault was injected")
    );
    assert_eq!(component(&found, "key_store")["since"], failed_at);

    store.heal();
    gateway.lifecycle.tick().await.expect("it rotates");
    let found = until(&gateway, "scheduler", "ok").await;
    assert_eq!(component(&found, "key_store")["status"], "ok", "{found:#}");
    assert_eq!(found["overall"], "ok");
    assert!(component(&found, "key_store")["facts"]["last failure"].is_string());

    // The key set is safe, but what lies beside it cannot be saved.
    store.always(Step::SaveSide, Trouble::Fail);
    gateway.token().await;
    gateway.lifecycle.save_side_documents().await;
    let found = until(&gateway, "key_store", "warning").await;
    assert_eq!(found["overall"], "warning");
    store.heal();
    gateway.lifecycle.save_side_documents().await;
    until(&gateway, "key_store", "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_moves_forward_and_a_rotation_that_does_not_come_are_shown() {
    let gateway = Gateway::start(Options {
        steady_clock: true,
        ..Options::default()
    })
    .await;
    let ahead = portcullis::clock::Clock::now(&*gateway.clock).plus(Duration::from_secs(3600));
    gateway.clock.set(ahead);
    let found = until(&gateway, "scheduler", "warning").await;
    assert_eq!(component(&found, "gateway")["status"], "warning");
    let reason = component(&found, "scheduler")["reason"].as_str().unwrap();
    assert!(reason.contains("portcullis keys confirm-clock"), "{reason}");
    assert_eq!(component(&found, "scheduler")["since"], ahead.to_string());

    let gateway = Gateway::start(Options::default()).await;
    until(&gateway, "scheduler", "ok").await;
    gateway.clock.advance(Duration::from_secs(25 * 3600));
    let found = until(&gateway, "scheduler", "error").await;
    let reason = component(&found, "scheduler")["reason"].as_str().unwrap();
    assert!(reason.contains("did not happen"), "{reason}");
    gateway.lifecycle.tick().await.expect("it rotates");
    until(&gateway, "scheduler", "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_token_requests_show_when_they_are_most_of_them() {
    let gateway = Gateway::start(Options::default()).await;
    for _ in 0..25 {
        let request = gateway
            .http
            .post(format!("{}/oauth2/token", gateway.proxy))
            .basic_auth("demo", Some("wrong"))
            .form(&[("grant_type", "client_credentials")]);
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    let found = until(&gateway, "issuer", "warning").await;
    let facts = &component(&found, "issuer")["facts"];
    assert_eq!(facts["requests refused in 5 minutes"], "25");
    // Five minutes later it is forgotten.
    gateway.clock.advance(Duration::from_secs(400));
    status(&gateway).await;
    gateway.clock.advance(Duration::from_secs(400));
    until(&gateway, "issuer", "ok").await;
}
