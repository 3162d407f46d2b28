//! The admin listener through real sockets: who may do what, what is refused and how, and that a
//! purge is over when it answers.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::raw::{Answer, exchange};
use harness::{ADMIN, Gateway, OPERATOR, Options, VIEWER, eventually, kid};
use portcullis::keygen::{FailingKeys, FixtureKeys};
use portcullis::lifecycle::Purpose;
use portcullis::store::faulty_store::{FaultyStore, Gate, Step, Trouble};
use serde_json::{Value, json};

const ROTATE: &str = "/admin/v1/keys/rotate";
const KEYS: &str = "/admin/v1/keys";

/// A request to the admin listener, to be bent.
struct Call {
    method: &'static str,
    path: &'static str,
    host: String,
    fields: Vec<String>,
    body: Option<String>,
}

impl Call {
    fn get(token: &str) -> Self {
        let fields = vec![format!("Authorization: Bearer {token}")];
        Self {
            method: "GET",
            path: KEYS,
            host: "127.0.0.1".to_owned(),
            fields,
            body: None,
        }
    }

    fn rotate(token: &str, body: impl ToString) -> Self {
        let fields = vec![
            format!("Authorization: Bearer {token}"),
            "Content-Type: application/json".to_owned(),
        ];
        let body = Some(body.to_string());
        Self {
            method: "POST",
            path: ROTATE,
            host: "127.0.0.1".to_owned(),
            fields,
            body,
        }
    }

    fn field(mut self, field: &str) -> Self {
        self.fields.push(field.to_owned());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|field| !field.starts_with(name));
        self
    }

    fn host(self, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            ..self
        }
    }

    async fn send(&self, gateway: &Gateway) -> Answer {
        let body = self.body.as_deref().unwrap_or_default();
        let mut request = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.path, self.host
        );
        for field in &self.fields {
            request.push_str(&format!("{field}\r\n"));
        }
        if self.body.is_some() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        exchange(&gateway.admin, format!("{request}\r\n{body}"))
            .await
            .expect("an answer")
    }
}

/// Sends `call`, which must fail with `status` and `code` and change nothing.
async fn refused(gateway: &Gateway, call: Call, status: u16, code: &str) -> Answer {
    let before = gateway.lifecycle.current_set();
    let answer = call.send(gateway).await;
    assert_eq!(answer.status, status, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["code"], code, "{body}");
    assert_eq!(answer.header("x-log-id"), body["log_id"].as_str());
    assert_eq!(
        (&body["status"], answer.header("content-type")),
        (&json!(status), Some("application/problem+json"))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(gateway.lifecycle.current_set(), before, "something changed");
    let line = the_line(gateway, &body);
    assert_eq!(
        (&line["status"], &line["code"]),
        (&json!(status), &json!(code))
    );
    answer
}

/// The one log line of an error body.
fn the_line(gateway: &Gateway, body: &Value) -> Value {
    let log_id = body["log_id"]
        .as_str()
        .unwrap_or_else(|| panic!("no Log ID in {body}"));
    let text = gateway.log.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(log_id)).collect();
    assert_eq!(lines.len(), 1, "{log_id} in {lines:?}");
    serde_json::from_str(lines[0]).expect("JSON")
}

async fn gateway() -> Gateway {
    Gateway::start(Options::default()).await
}

/// A gateway whose store can be made to fail.
async fn faulty() -> (Gateway, Arc<FaultyStore>) {
    let made: Arc<Mutex<Option<Arc<FaultyStore>>>> = Arc::default();
    let slot = Arc::clone(&made);
    let wrap = Box::new(move |inner| {
        let store = Arc::new(FaultyStore::new(inner));
        *slot.lock().expect("no panic before") = Some(Arc::clone(&store));
        store as Arc<dyn portcullis::store::KeyStore>
    });
    let gateway = Gateway::start(Options {
        wrap,
        ..Options::default()
    })
    .await;
    let store = made
        .lock()
        .expect("no panic before")
        .take()
        .expect("it was wrapped");
    (gateway, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_without_a_valid_token() {
    let gateway = gateway().await;
    let data_token = gateway.token().await;
    for call in [
        Call::get(ADMIN).without("Authorization"),
        Call::get(ADMIN).field(&format!("Authorization: Bearer {ADMIN}")),
        Call {
            fields: vec![format!("Authorization: Basic {ADMIN}")],
            ..Call::get("")
        },
        Call {
            fields: vec![format!("Cookie: token={ADMIN}")],
            ..Call::get("")
        },
        Call {
            path: "/admin/v1/unknown",
            ..Call::get("")
        }
        .without("Authorization"),
    ] {
        let answer = refused(&gateway, call, 401, "UNAUTHENTICATED").await;
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"portcullis admin\"")
        );
        assert!(!answer.body.contains("kid"), "{answer:?}");
    }
    for token in ["wrong", &ADMIN[1..], &format!("{ADMIN}x"), &data_token] {
        refused(&gateway, Call::get(token), 401, "WRONG_TOKEN").await;
    }
    for token in [VIEWER, OPERATOR, ADMIN] {
        let answer = Call::get(token).field("X-Other: 1").send(&gateway).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let any_case = Call {
        fields: vec![format!("authorization: bEARER {VIEWER}")],
        ..Call::get("")
    };
    assert_eq!(any_case.send(&gateway).await.status, 200);
    let log = gateway.log.text();
    for secret in [ADMIN, VIEWER, &data_token] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_list_shows_public_facts_only() {
    let gateway = gateway().await;
    gateway.rotate().await;
    let answer = Call::get(VIEWER).send(&gateway).await;
    assert_eq!(answer.header("etag"), Some("\"2\""));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.json();
    assert_eq!(
        (&body["revision"], &body["issuer"]),
        (&json!(2), &json!("http://issuer.test"))
    );
    let states: Vec<&str> = body["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| key["state"].as_str().expect("a state"))
        .collect();
    assert_eq!(states, ["active", "pending", "deprecated"]);
    assert!(
        body["keys"][2]["verify_until"]
            .as_str()
            .expect("a date")
            .ends_with('Z')
    );
    let stored = serde_json::to_value(gateway.lifecycle.current_set()).expect("JSON");
    for key in stored["keys"].as_array().expect("keys") {
        if let Some(sealed) = key["sealed_private"]["data"].as_str() {
            assert!(
                !answer.body.contains(sealed),
                "sealed or not, a private half is nobody's business"
            );
        }
    }
    assert!(!answer.body.contains("sealed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_what_it_may() {
    let gateway = gateway().await;
    refused(&gateway, Call::rotate(VIEWER, "{}"), 403, "ROLE").await;
    let purge = json!({ "purge": true, "seen_revision": 1 });
    refused(&gateway, Call::rotate(VIEWER, &purge), 403, "ROLE").await;
    refused(&gateway, Call::rotate(OPERATOR, &purge), 403, "ROLE").await;
    assert_eq!(
        Call::rotate(OPERATOR, "{}").send(&gateway).await.json()["changed"],
        true
    );
    assert_eq!(
        Call::rotate(ADMIN, json!({ "purge": true, "seen_revision": 2 }))
            .send(&gateway)
            .await
            .status,
        200
    );
    let record = gateway.lifecycle.current_set().last_event;
    assert_eq!(
        serde_json::to_value(record.actor).expect("JSON"),
        json!({ "kind": "admin", "name": "boss" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixth_wrong_token_in_a_minute_waits_but_the_right_one_never_does() {
    let gateway = gateway().await;
    for _ in 0..5 {
        refused(&gateway, Call::get("wrong"), 401, "WRONG_TOKEN").await;
    }
    for _ in 0..3 {
        let answer = refused(&gateway, Call::get("wrong"), 429, "THROTTLED").await;
        let wait: u64 = answer
            .header("retry-after")
            .expect("Retry-After")
            .parse()
            .expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
        let purge =
            json!({ "purge": true, "seen_revision": gateway.lifecycle.current_set().revision });
        assert_eq!(
            Call::rotate(ADMIN, purge).send(&gateway).await.status,
            200,
            "an emergency cannot be locked out"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_ours_is_421_even_with_the_right_token() {
    let gateway = gateway().await;
    for host in [
        "evil.test",
        "127.0.0.1.evil.test",
        "localhost.evil.test",
        "evil.test:9901",
        "gateway",
    ] {
        refused(
            &gateway,
            Call::rotate(ADMIN, "{}").host(host),
            421,
            "HOST_NOT_ALLOWED",
        )
        .await;
        refused(
            &gateway,
            Call::get(ADMIN).host(host),
            421,
            "HOST_NOT_ALLOWED",
        )
        .await;
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9901", "[::1]:9901"] {
        assert_eq!(
            Call::get(VIEWER).host(host).send(&gateway).await.status,
            200,
            "{host}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_origin_sends_changes_nothing() {
    let gateway = gateway().await;
    for field in [
        "Origin: http://evil.test",
        "Origin: null",
        "Origin: http://127.0.0.1:1",
        "Origin: ",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        refused(
            &gateway,
            Call::rotate(ADMIN, "{}").field(field),
            403,
            "CROSS_ORIGIN",
        )
        .await;
    }
    for field in [
        "Origin: http://127.0.0.1",
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-Site: none",
    ] {
        assert_eq!(
            Call::rotate(OPERATOR, "{}")
                .field(field)
                .send(&gateway)
                .await
                .status,
            200,
            "{field}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_exactly_what_is_documented_or_nothing_happens() {
    let gateway = gateway().await;
    let json = "Content-Type";
    for call in [
        Call::rotate(ADMIN, "{}").without(json),
        Call::rotate(ADMIN, "{}")
            .without(json)
            .field("Content-Type: text/plain"),
        Call::rotate(ADMIN, "purge=true")
            .without(json)
            .field("Content-Type: application/x-www-form-urlencoded"),
        Call::rotate(ADMIN, "{}")
            .without(json)
            .field("Content-Type: application/jsonx"),
    ] {
        refused(&gateway, call, 415, "MEDIA_TYPE").await;
    }
    for body in [
        "",
        "null",
        "[]",
        "true",
        "{",
        "{} {}",
        r#"{"purge":"true"}"#,
        r#"{"purge":null}"#,
        r#"{"purge":1}"#,
        r#"{"purge":true,"purge":false,"seen_revision":1}"#,
        r#"{"purge":true,"seen_revision":"1"}"#,
        r#"{"purge":true,"seen_revision":null}"#,
        r#"{"purge":true,"seen_revision":-1}"#,
        r#"{"purge":true,"seen_revision":1.0}"#,
        r#"{"purge":true,"seen_revision":99999999999999999999}"#,
        r#"{"purge":true,"seen_revision":1,"seen_revision":1}"#,
        r#"{"purge":true,"seen_revision":1,"force":true}"#,
        r#"{"PURGE":true,"seen_revision":1}"#,
        r#"{"reason":null}"#,
        r#"{"reason":["leak"]}"#,
        &format!(r#"{{"reason":"{}"}}"#, "x".repeat(257)),
    ] {
        let answer = refused(&gateway, Call::rotate(ADMIN, body), 400, "BAD_BODY").await;
        assert!(
            answer.json()["detail"]
                .as_str()
                .expect("text")
                .starts_with("nothing was changed: "),
            "{answer:?}"
        );
    }
    for (call, status, code) in [
        (
            Call {
                method: "GET",
                body: None,
                ..Call::rotate(ADMIN, "")
            },
            405,
            "METHOD",
        ),
        (
            Call {
                method: "PUT",
                ..Call::rotate(ADMIN, "{}")
            },
            405,
            "METHOD",
        ),
        (
            Call {
                path: "/admin/v1/keys/rotate/",
                ..Call::rotate(ADMIN, "{}")
            },
            404,
            "NOT_FOUND",
        ),
        (
            Call {
                path: "/admin",
                ..Call::get(ADMIN)
            },
            404,
            "NOT_FOUND",
        ),
    ] {
        refused(&gateway, call, status, code).await;
    }
    let large = Call::rotate(ADMIN, format!(r#"{{"reason":"{}"}}"#, "x".repeat(70_000)))
        .send(&gateway)
        .await;
    assert_eq!(large.status, 413);
    the_line(&gateway, &large.json());
    assert_eq!(gateway.lifecycle.current_set().revision, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_says_which_keys_it_means() {
    let gateway = gateway().await;
    let old = gateway.token().await;
    let answer = refused(
        &gateway,
        Call::rotate(ADMIN, r#"{"purge":true}"#),
        428,
        "SEEN_REVISION_REQUIRED",
    )
    .await;
    assert!(
        answer.json()["detail"]
            .as_str()
            .expect("text")
            .contains("the current revision is 1"),
        "{answer:?}"
    );
    let ahead = json!({ "purge": true, "seen_revision": 2 });
    refused(&gateway, Call::rotate(ADMIN, &ahead), 412, "REVISION_AHEAD").await;
    let unknown = json!({ "purge": true, "kids": ["nobodys"] });
    refused(&gateway, Call::rotate(ADMIN, &unknown), 404, "UNKNOWN_KID").await;
    assert_eq!(gateway.status(&old).await, 200);
    // A typo must not raise the alert on failures.
    for (result, count) in [("refused", 2.0), ("failure", 0.0)] {
        let labels = [("trigger", "manual"), ("kind", "purge"), ("result", result)];
        let counted = gateway
            .metric("portcullis_key_rotations_total", &labels)
            .await;
        assert_eq!(counted, count, "{result}");
    }

    let seen = json!({ "purge": true, "seen_revision": 1, "reason": "leaked" });
    let first = Call::rotate(ADMIN, &seen).send(&gateway).await;
    assert_eq!(first.status, 200, "{first:?}");
    let first = first.json();
    assert_eq!(
        (&first["changed"], &first["kind"]),
        (&json!(true), &json!("purge"))
    );
    let receipt = &first["receipt"];
    assert_eq!(
        (&receipt["complete"], &receipt["purge_id"]),
        (&json!(true), &first["rotation_id"])
    );
    assert_eq!(receipt["kids"].as_array().expect("kids").len(), 2);
    assert_eq!(
        (
            gateway.status(&old).await,
            gateway.status(&gateway.token().await).await
        ),
        (401, 200)
    );
    assert_eq!(
        gateway.lifecycle.current_set().last_event.reason.as_deref(),
        Some("leaked")
    );

    // The same call again, as a retry would send it: clients that recovered stay recovered.
    let recovered = gateway.token().await;
    let again = Call::rotate(ADMIN, &seen).send(&gateway).await.json();
    assert_eq!(again["changed"], false);
    for same in ["rotation_id", "revision", "keys", "at", "purged", "receipt"] {
        assert_eq!(again[same], first[same], "{same}");
    }
    assert_eq!(gateway.status(&recovered).await, 200);
    // A plain Rotate inside the window of a purge answers with the purge.
    let plain = Call::rotate(ADMIN, "{}").send(&gateway).await.json();
    assert_eq!(
        (&plain["changed"], &plain["rotation_id"]),
        (&json!(false), &first["rotation_id"])
    );
    // Inside the window, but meant: it executes.
    let second = json!({ "purge": true, "seen_revision": first["revision"] });
    let second = Call::rotate(ADMIN, second).send(&gateway).await.json();
    assert_eq!(second["changed"], true);
    assert_eq!(gateway.status(&recovered).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_get_one_rotation_and_one_answer() {
    let gateway = gateway().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (http, url) = (gateway.http.clone(), format!("{}{ROTATE}", gateway.admin));
        calls.spawn(async move {
            let answer = http
                .post(url)
                .bearer_auth(OPERATOR)
                .json(&json!({}))
                .send()
                .await
                .expect("an answer");
            assert_eq!(answer.status(), 200);
            answer.json::<Value>().await.expect("JSON")
        });
    }
    let answers = calls.join_all().await;
    let changed = answers
        .iter()
        .filter(|answer| answer["changed"] == true)
        .count();
    assert_eq!(changed, 1);
    for same in [
        "rotation_id",
        "at",
        "revision",
        "activated",
        "replaced",
        "keys",
    ] {
        assert!(
            answers
                .iter()
                .all(|answer| answer[same] == answers[0][same]),
            "{same}"
        );
    }
    assert_eq!(gateway.lifecycle.current_set().revision, 2);
    let labels = |result| {
        [
            ("trigger", "manual"),
            ("kind", "rotate"),
            ("result", result),
        ]
    };
    assert_eq!(
        gateway
            .metric("portcullis_key_rotations_total", &labels("success"))
            .await,
        1.0
    );
    assert_eq!(
        gateway
            .metric("portcullis_key_rotations_total", &labels("unchanged"))
            .await,
        63.0
    );
    assert_eq!(
        gateway
            .metric(
                "portcullis_admin_requests_total",
                &[("endpoint", "keys_rotate"), ("code", "2xx")]
            )
            .await,
        64.0
    );
}

/// The text that operators search their logs for.
const FAILED: &str = "Manual signing key rotation could not be completed. Check the system logs for more details. Log ID: ";

async fn fails_and_changes_nothing(gateway: &Gateway, token: &str, (name, call): (&str, Call)) {
    let before = gateway.lifecycle.current_set();
    let jwks = gateway.jwks().await;
    let answer = call.send(gateway).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["code"], "ROTATION_FAILED");
    let log_id = body["log_id"].as_str().expect("a Log ID");
    assert_eq!(body["detail"], format!("{FAILED}{log_id}"));
    let line = the_line(gateway, &body);
    assert_eq!(line["level"], "error");
    assert_eq!(line["operator"], name, "who asked: {line}");
    assert!(
        line["cause"]
            .as_str()
            .is_some_and(|cause| !cause.is_empty()),
        "{line}"
    );
    assert_eq!(gateway.lifecycle.current_set(), before);
    assert_eq!(gateway.jwks().await, jwks);
    assert_eq!(
        (
            gateway.status(token).await,
            gateway.status(&gateway.token().await).await
        ),
        (200, 200)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_leaves_the_old_keys_in_force_and_says_where_to_look() {
    let (gateway, store) = faulty().await;
    let token = gateway.token().await;
    for step in [Step::Load, Step::BeforeCommit] {
        store.always(step, Trouble::Fail);
        fails_and_changes_nothing(&gateway, &token, ("ops", Call::rotate(OPERATOR, "{}"))).await;
        let purge = json!({ "purge": true, "seen_revision": 1 });
        fails_and_changes_nothing(&gateway, &token, ("boss", Call::rotate(ADMIN, purge))).await;
        store.heal();
    }
    let labels = |kind| [("trigger", "manual"), ("kind", kind), ("result", "failure")];
    assert_eq!(
        gateway
            .metric("portcullis_key_rotations_total", &labels("rotate"))
            .await,
        2.0
    );
    assert_eq!(
        gateway
            .metric("portcullis_key_rotations_total", &labels("purge"))
            .await,
        2.0
    );
    // A failed attempt opens no window.
    assert_eq!(gateway.rotate().await["changed"], true);
    // A lost race is no failure: decided again on what the winner left.
    store.once(Step::BeforeCommit, Trouble::LoseRace);
    assert_eq!(gateway.purge().await["changed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_unknown_outcome_is_found_out_at_the_next_look() {
    let (gateway, store) = faulty().await;
    let token = gateway.token().await;
    store.once(Step::AfterCommit, Trouble::Fail);
    let purge = json!({ "purge": true, "seen_revision": 1 });
    let answer = Call::rotate(ADMIN, &purge).send(&gateway).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    gateway
        .lifecycle
        .tick()
        .await
        .expect("the schedule looks again");
    assert_eq!(
        gateway.lifecycle.current_set().revision,
        2,
        "it had taken effect"
    );
    assert_eq!(gateway.status(&token).await, 401);
    let again = Call::rotate(ADMIN, &purge).send(&gateway).await;
    assert_eq!(
        (again.status, &again.json()["changed"]),
        (200, &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_key_generator_leaves_the_old_keys_in_force() {
    // Two keys make the first set.
    let keys = Arc::new(FailingKeys::after(2, Arc::new(FixtureKeys::new())));
    let keygen = Arc::<FailingKeys>::clone(&keys);
    let gateway = Gateway::start(Options {
        keygen,
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    fails_and_changes_nothing(&gateway, &token, ("ops", Call::rotate(OPERATOR, "{}"))).await;
    // A purge needs two new keys: with one it must not have begun.
    keys.allow(1);
    let purge = json!({ "purge": true, "seen_revision": 1 });
    fails_and_changes_nothing(&gateway, &token, ("boss", Call::rotate(ADMIN, purge))).await;
    keys.allow(2);
    assert_eq!(gateway.purge().await["changed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_store_holds_up_no_request_and_no_other_operator() {
    let (gateway, store) = faulty().await;
    let token = gateway.token().await;
    let gate = Gate::closed();
    store.once(Step::BeforeCommit, Trouble::Hold(gate.clone()));
    let (http, url) = (gateway.http.clone(), format!("{}{ROTATE}", gateway.admin));
    let stuck = tokio::spawn(async move {
        http.post(url)
            .bearer_auth(OPERATOR)
            .json(&json!({}))
            .send()
            .await
            .expect("an answer")
            .json::<Value>()
            .await
    });
    gate.reached(1).await;
    assert_eq!(
        (
            gateway.status(&token).await,
            gateway.status(&gateway.token().await).await
        ),
        (200, 200)
    );
    assert!(
        gateway
            .scrape()
            .await
            .contains("portcullis_keyset_revision 1")
    );
    // Neither does it swallow a purge, which wins.
    let purge = gateway.purge().await;
    assert_eq!(purge["changed"], true);
    gate.open();
    let late = stuck.await.expect("no panic").expect("JSON");
    assert_eq!(
        (&late["changed"], &late["rotation_id"]),
        (&json!(false), &purge["rotation_id"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_waits_for_the_last_holder_and_names_it_when_that_takes_too_long() {
    let gateway = gateway().await;
    for purpose in [Purpose::Issue, Purpose::Jwks, Purpose::Verify] {
        let holder = gateway.lifecycle.published().hold(1, purpose);
        let started = Instant::now();
        let seen =
            json!({ "purge": true, "seen_revision": gateway.lifecycle.current_set().revision });
        let answer = Call::rotate(ADMIN, &seen).send(&gateway).await;
        let took = started.elapsed();
        assert_eq!(answer.status, 202, "{answer:?}");
        assert!(
            took >= Duration::from_millis(1900) && took < Duration::from_millis(2500),
            "{took:?}"
        );
        let receipt = &answer.json()["receipt"];
        assert_eq!(
            (&receipt["complete"], &receipt["drained_at"]),
            (&json!(false), &Value::Null)
        );
        let stuck = receipt["still_held_by"].as_array().expect("names");
        let name = stuck[0].as_str().expect("a name");
        let wanted = format!("worker 1 ({})", format!("{purpose:?}").to_lowercase());
        assert!(stuck.len() == 1 && name.ends_with(&wanted), "{stuck:?}");
        assert!(!holder.is_current());

        drop(holder);
        let retry = eventually("the receipt turns complete", || async {
            let answer = Call::rotate(ADMIN, &seen).send(&gateway).await;
            (answer.status == 200).then(|| answer.json())
        });
        let retry = retry.await;
        assert_eq!(
            (&retry["changed"], &retry["receipt"]["complete"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(retry["receipt"]["still_held_by"], json!([]));
    }
    let drained = gateway
        .log
        .lines()
        .iter()
        .filter(|line| line["event"] == "purge_drained")
        .count();
    assert!(drained <= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_held_by_a_slow_moment_only_is_complete() {
    let gateway = gateway().await;
    let holder = gateway.lifecycle.published().hold(0, Purpose::Issue);
    let (http, url) = (gateway.http.clone(), format!("{}{ROTATE}", gateway.admin));
    let purge = tokio::spawn(async move {
        let body = json!({ "purge": true, "seen_revision": 1 });
        http.post(url)
            .bearer_auth(ADMIN)
            .json(&body)
            .send()
            .await
            .expect("an answer")
    });
    eventually("the purge is committed", || async {
        (!holder.is_current()).then_some(())
    })
    .await;
    assert!(!purge.is_finished());
    drop(holder);
    let answer = purge.await.expect("no panic");
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["receipt"]["complete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_counts_requests_that_a_purged_key_admitted_and_that_are_still_open() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    // Admitted, and then its body does not come.
    let mut slow = harness::raw::RawClient::connect(&gateway.proxy).await;
    slow.send(format!("POST /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 4\r\n\r\nab")).await;
    let admitted = || async {
        let state = [("route", "api"), ("key_state", "active")];
        (gateway
            .metric("portcullis_auth_allowed_total", &state)
            .await
            == 1.0)
            .then_some(())
    };
    eventually("the request is admitted", admitted).await;
    let purge = gateway.purge().await;
    assert_eq!(
        purge["receipt"]["complete"], true,
        "an open request holds no snapshot"
    );
    assert_eq!(purge["receipt"]["open_requests"], 1);
    // What is in flight finishes, unless it is so old that it counts as a stream: then it is cut.
    // Either way it is no refusal that the metric would have to count.
    slow.send("cd").await;
    if let Some(answer) = slow.answer(false).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let series = [("kid", &*kid(&token))];
    let name = "portcullis_purge_verification_failures_total";
    assert_eq!(gateway.metric(name, &series).await, 0.0);
    let seen = json!({ "purge": true, "seen_revision": 1 });
    eventually("nothing is open any more", || async {
        let receipt = Call::rotate(ADMIN, &seen).send(&gateway).await.json();
        (receipt["receipt"]["open_requests"] == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_cancels_nothing() {
    let (gateway, store) = faulty().await;
    let gate = Gate::closed();
    store.once(Step::BeforeCommit, Trouble::Hold(gate.clone()));
    let mut client = harness::raw::RawClient::connect(&gateway.admin).await;
    client
        .send(format!(
            "POST {ROTATE} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATOR}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        ))
        .await;
    gate.reached(1).await;
    drop(client);
    gate.open();
    eventually("the rotation is committed all the same", || async {
        (gateway.lifecycle.current_set().revision == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv05_no_acceptance_is_sent_after_a_purge_has_answered() {
    let gateway = Gateway::start(Options {
        workers: 4,
        ..Options::default()
    })
    .await;
    for _ in 0..5 {
        let token = gateway.token().await;
        let old = kid(&token);
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut load = tokio::task::JoinSet::new();
        for worker in &gateway.workers {
            let (http, url, token, stop) = (
                gateway.http.clone(),
                worker.clone(),
                token.clone(),
                Arc::clone(&stop),
            );
            load.spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    let sent = Instant::now();
                    let answer = http
                        .get(format!("{url}/x"))
                        .bearer_auth(&token)
                        .send()
                        .await
                        .expect("an answer");
                    seen.push((sent, answer.status().as_u16()));
                }
                seen
            });
        }
        eventually("the load has begun", || async {
            let allowed = harness::metrics::sum(
                &gateway.scrape().await,
                "portcullis_auth_allowed_total",
                &[],
            );
            (allowed > 40.0).then_some(())
        })
        .await;
        let purge = gateway.purge().await;
        let answered = Instant::now();
        let purged: BTreeSet<&str> = purge["purged"]
            .as_array()
            .expect("kids")
            .iter()
            .map(|kid| kid.as_str().expect("a kid"))
            .collect();
        assert!(purged.contains(old.as_str()));
        let refused = || async {
            let metric = gateway
                .metric(
                    "portcullis_purge_verification_failures_total",
                    &[("kid", &old)],
                )
                .await;
            (metric >= 20.0).then_some(())
        };
        eventually("the load is refused", refused).await;
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let seen: Vec<(Instant, u16)> = load.join_all().await.into_iter().flatten().collect();
        assert!(seen.iter().all(|(_, status)| matches!(status, 200 | 401)));
        let late = seen
            .iter()
            .filter(|(sent, status)| *sent > answered && *status == 200)
            .count();
        assert_eq!(late, 0);
        let refusals = seen.iter().filter(|(_, status)| *status == 401).count();
        let metric = gateway
            .metric(
                "portcullis_purge_verification_failures_total",
                &[("kid", &old)],
            )
            .await;
        assert_eq!(
            metric, refusals as f64,
            "the metric counts what clients saw"
        );
    }
}
