//! Disabling clients, ending their tokens, and the clients of the store: through real listeners,
//! across restarts and failures.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use harness::forge::{PrivateKey, claims_with, good_claims};
use harness::in_process::ROUTES;
use harness::{
    ADMIN, CLIENT, Gateway, OPERATOR, Options, PATIENCE, SECRET, VIEWER, claims, eventually,
    without_activity,
};
use pingora::proxy::http_proxy;
use portcullis::app::{App, Env, StartError};
use portcullis::clients::SecretHash;
use portcullis::clock::{Clock as _, Timestamp};
use portcullis::config::{ClientSecretSource, Config, StaticClient};
use portcullis::keys::{AuditRecord, KeySet};
use portcullis::listeners::{Ephemeral, Shared, Sources, Stop, server_conf, start_on_ephemeral};
use portcullis::store::faulty_store::{FaultyStore, Gate, Step, Trouble};
use portcullis::store::{CommitError, Committed, KeyStore, Loaded, SideDocument, StoreError};
use serde_json::{Value, json};

const CLIENTS: &str = "/admin/v1/clients";

async fn gateway() -> Gateway {
    Gateway::start(Options::default()).await
}

/// A gateway whose store is wrapped by `wrap`, and what that made.
async fn wrapped<S: KeyStore + 'static>(
    options: Options,
    wrap: impl FnOnce(Arc<dyn KeyStore>) -> S + 'static,
) -> (Gateway, Arc<S>) {
    let made: Arc<Mutex<Option<Arc<S>>>> = Arc::default();
    let slot = Arc::clone(&made);
    let wrap = Box::new(move |inner| {
        let store = Arc::new(wrap(inner));
        *slot.lock().expect("no panic before") = Some(Arc::clone(&store));
        store as Arc<dyn KeyStore>
    });
    let gateway = Gateway::start(Options { wrap, ..options }).await;
    let store = made.lock().expect("no panic before").take();
    (gateway, store.expect("it was wrapped"))
}

/// `POST clients/{id}/{verb}` with the admin role.
async fn post(gateway: &Gateway, id: &str, verb: &str) -> (u16, Value) {
    gateway
        .admin_post(&format!("{CLIENTS}/{id}/{verb}"), json!({ "reason": verb }))
        .await
}

/// The same, which must answer 200.
async fn done(gateway: &Gateway, id: &str, verb: &str) -> Value {
    let (status, body) = post(gateway, id, verb).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn send(
    gateway: &Gateway,
    method: &str,
    path: &str,
    token: &str,
    if_match: Option<&str>,
    body: Option<Value>,
) -> (u16, Option<String>, Value) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = gateway
        .http
        .request(method, format!("{}{path}", gateway.admin))
        .bearer_auth(token);
    if let Some(if_match) = if_match {
        request = request.header("If-Match", if_match);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.expect("the admin listener answers");
    let (status, etag) = (answer.status().as_u16(), answer.headers().get("etag"));
    let etag = etag.map(|etag| etag.to_str().expect("ASCII").to_owned());
    (status, etag, answer.json().await.expect("JSON"))
}

/// Status and body of a token request at `proxy`.
async fn ask_at(gateway: &Gateway, proxy: &str, id: &str, secret: &str) -> (u16, Value) {
    let answer = gateway
        .http
        .post(format!("{proxy}/oauth2/token"))
        .basic_auth(id, Some(secret))
        .form(&[("grant_type", "client_credentials")])
        .send()
        .await
        .expect("the token endpoint answers");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

async fn ask(gateway: &Gateway, id: &str, secret: &str) -> (u16, Value) {
    ask_at(gateway, &gateway.proxy, id, secret).await
}

/// A token that must be handed out.
async fn token_of(gateway: &Gateway, id: &str, secret: &str) -> String {
    let (status, body) = ask(gateway, id, secret).await;
    assert_eq!(status, 200, "{body}");
    body["access_token"].as_str().expect("a token").to_owned()
}

/// Of a worker, with `token`.
async fn status_at(gateway: &Gateway, proxy: &str, token: &str) -> u16 {
    let request = gateway.http.get(format!("{proxy}/hello"));
    let answer = request.bearer_auth(token).send().await;
    answer.expect("an answer").status().as_u16()
}

async fn denied(gateway: &Gateway, reason: &str) -> f64 {
    gateway
        .metric(
            "portcullis_auth_denied_total",
            &[("route", "api"), ("reason", reason)],
        )
        .await
}

/// Moves the gateway's clock along with real time until it is dropped.
struct Running(tokio::task::JoinHandle<()>);

impl Running {
    fn of(gateway: &Gateway) -> Self {
        let (clock, start) = (Arc::clone(&gateway.clock), Instant::now());
        let origin = clock.now();
        Self(tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            loop {
                beat.tick().await;
                clock.set(origin.plus(start.elapsed()));
            }
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Another process on the same store: a gateway with one worker.
struct Restarted {
    app: App,
    proxy: String,
    _listener: Ephemeral,
}

async fn restarted(gateway: &Gateway, config: &Config) -> Result<Restarted, StartError> {
    let env: Env = gateway.env.clone();
    let app = App::build(config, env, Arc::new(|| false)).await?;
    let grace = config.server.shutdown_grace;
    let shared = Shared::new(Stop::new(grace), &config.limits, app.refusals());
    let sources = Sources::new(config.limits.max_connections_per_address);
    let conf = Arc::new(server_conf(grace));
    let proxy = http_proxy(&conf, app.gateway(&config.listeners.proxy[0], 0));
    let listener = start_on_ephemeral(proxy, None, &sources, &shared).expect("a worker");
    Ok(Restarted {
        app,
        proxy: format!("http://{}", listener.address),
        _listener: listener,
    })
}

// Disable, enable, invalidate.

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_client_is_out_on_the_next_request_and_enable_brings_it_back() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);

    let answer = done(&gateway, CLIENT, "disable").await;
    assert_eq!(
        (&answer["changed"], &answer["revision"]),
        (&json!(true), &json!(1))
    );
    let client = &answer["client"];
    assert_eq!(
        (&client["state"], &client["source"], &client["reason"]),
        (&json!("disabled"), &json!("static"), &json!("disable"))
    );
    for worker in &gateway.workers {
        assert_eq!(status_at(&gateway, worker, &token).await, 401);
    }
    assert_eq!(
        denied(&gateway, "client_revoked").await,
        gateway.workers.len() as f64
    );

    // At the token endpoint it looks exactly like a wrong secret.
    let (status, mut out) = ask(&gateway, CLIENT, SECRET).await;
    let (_, mut wrong) = ask(&gateway, "nobody", SECRET).await;
    assert_eq!((status, &out["error"]), (401, &json!("invalid_client")));
    for body in [&mut out, &mut wrong] {
        body.as_object_mut().expect("an object").remove("log_id");
    }
    assert_eq!(out, wrong);
    let clients = async |state| {
        gateway
            .metric("portcullis_clients", &[("state", state)])
            .await
    };
    assert_eq!(
        (clients("enabled").await, clients("disabled").await),
        (0.0, 1.0)
    );

    let again = done(&gateway, CLIENT, "disable").await;
    assert_eq!(
        (&again["changed"], &again["revision"]),
        (&json!(false), &json!(1))
    );
    let back = done(&gateway, CLIENT, "enable").await;
    assert_eq!(
        (&back["changed"], &back["client"]["state"]),
        (&json!(true), &json!("enabled"))
    );
    assert_eq!(
        gateway.status(&token).await,
        401,
        "what it had before it was disabled is never good again"
    );
    // A new one is dated behind those; until then the token endpoint waits.
    gateway.clock.advance(Duration::from_secs(1));
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
    assert_eq!(
        done(&gateway, CLIENT, "enable").await["changed"],
        json!(false)
    );
    assert_eq!(
        (clients("enabled").await, clients("disabled").await),
        (1.0, 0.0)
    );

    let (_, shown) = gateway.admin_get(&format!("{CLIENTS}/{CLIENT}")).await;
    let history: Vec<&Value> = shown["history"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    let actions: Vec<&Value> = history.iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["enable", "disable"]);
    let boss = json!({ "kind": "admin", "name": "boss" });
    assert!(
        history.iter().all(|event| event["actor"] == boss),
        "{shown}"
    );
    let lines = gateway.log.lines();
    let logged: Vec<(&Value, &Value, &Value)> = lines
        .iter()
        .filter(|line| line["event"] == "client_changed")
        .map(|line| (&line["action"], &line["actor"]["name"], &line["client_id"]))
        .collect();
    let (boss, client) = (&json!("boss"), &json!(CLIENT));
    assert_eq!(
        logged,
        [
            (&json!("disable"), boss, client),
            (&json!("enable"), boss, client)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidate_ends_what_was_issued_and_what_comes_after_works_at_once_without_leeway() {
    let gateway = Gateway::start(Options {
        keys: "  leeway: 0s".to_owned(),
        ..Options::default()
    })
    .await;
    let _running = Running::of(&gateway);
    let mut dead = Vec::new();
    for round in 0..4 {
        let old = gateway.token().await;
        assert_eq!(gateway.status(&old).await, 200);
        let answer = done(&gateway, CLIENT, "invalidate").await;
        dead.push(old);
        for (old, worker) in dead.iter().zip(gateway.workers.iter().cycle()) {
            assert_eq!(status_at(&gateway, worker, old).await, 401, "round {round}");
        }
        let asked = Instant::now();
        let fresh = gateway.token().await;
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "at most a second of waiting"
        );
        assert_eq!(gateway.status(&fresh).await, 200, "round {round}");
        let not_before = answer["client"]["tokens_not_before"]
            .as_str()
            .expect("a date");
        let issued_at = Timestamp::from_seconds(claims(&fresh)["iat"].as_i64().expect("iat"));
        assert!(
            issued_at.to_string().as_str() >= not_before,
            "{issued_at} < {not_before}"
        );
    }
}

/// After a step of the clock that was taken back: a token from that future would be refused until then,
/// and outlive its key.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_dated_far_ahead_of_the_clock() {
    let gateway = gateway().await;
    let day = Duration::from_secs(86_400);
    let now = gateway.clock.now();
    gateway.clock.advance(day);
    done(&gateway, CLIENT, "invalidate").await;
    gateway.clock.set(now);
    let ask = || async {
        let answer = gateway
            .http
            .post(format!("{}/oauth2/token", gateway.proxy))
            .basic_auth(CLIENT, Some(SECRET))
            .form(&[("grant_type", "client_credentials")])
            .send()
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON"))
    };
    let (status, answer) = ask().await;
    assert_eq!(
        (status, &answer["error"]),
        (503, &json!("temporarily_unavailable"))
    );
    gateway.clock.advance(day);
    assert_eq!(ask().await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_stands_still_is_not_waited_for() {
    let gateway = gateway().await;
    let old = gateway.token().await;
    done(&gateway, CLIENT, "invalidate").await;
    let asked = Instant::now();
    let fresh = gateway.token().await;
    assert!(asked.elapsed() < PATIENCE / 2);
    assert_eq!(gateway.status(&fresh).await, 200, "within the leeway");
    assert_eq!(gateway.status(&old).await, 401);
    let next = gateway.clock.now().as_seconds() + 1;
    assert_eq!(claims(&fresh)["iat"], json!(next));
    assert_eq!(claims(&fresh)["exp"], json!(next + 3600));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_invalidation_is_committed_no_token_of_that_client_is_handed_out() {
    let other = "other-secret-0123456789-0123456789";
    let hash = SecretHash::of_generated(other.as_bytes(), &ring::rand::SystemRandom::new());
    let options = Options {
        clients: format!(
            "  - {{ id: other, secret_hash: \"{}\", scopes: [read] }}",
            hash.expect("a hash")
        ),
        keys: "  leeway: 0s".to_owned(),
        ..Options::default()
    };
    let (gateway, store) = wrapped(options, FaultyStore::new).await;
    let _running = Running::of(&gateway);
    let gateway = Arc::new(gateway);
    let gate = Gate::closed();
    store.once(Step::SaveSide, Trouble::Hold(gate.clone()));
    let old = gateway.token().await;
    let change = {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { done(&gateway, CLIENT, "invalidate").await })
    };
    gate.reached(1).await;
    // Nothing is committed, so nothing has changed; but a token of now could outlive the change.
    assert_eq!(gateway.status(&old).await, 200);
    let (status, body) = ask(&gateway, CLIENT, SECRET).await;
    assert_eq!(
        (status, &body["error"]),
        (503, &json!("temporarily_unavailable"))
    );
    assert_eq!(
        ask(&gateway, CLIENT, "wrong").await.0,
        401,
        "only who it is learns of it"
    );
    let bystander = token_of(&gateway, "other", other).await;
    let waiting = {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { ask(&gateway, CLIENT, SECRET).await })
    };
    gate.open();
    let answer = change.await.expect("it ends");
    assert_eq!(answer["changed"], json!(true));
    assert_eq!(gateway.status(&old).await, 401);
    assert_eq!(gateway.status(&bystander).await, 200);
    let (status, body) = waiting.await.expect("it ends");
    // It waited for the end of the change, unless that took the machine too long.
    assert!(status == 200 || status == 503, "{body}");
    if let Some(token) = body["access_token"].as_str() {
        assert_eq!(gateway.status(token).await, 200);
    }
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_handed_out_before_an_invalidation_is_refused_after_it() {
    let gateway = Arc::new(
        Gateway::start(Options {
            keys: "  leeway: 0s".to_owned(),
            ..Options::default()
        })
        .await,
    );
    let _running = Running::of(&gateway);
    let handed_out: Arc<Mutex<Vec<String>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut askers = tokio::task::JoinSet::new();
    for lane in 0..4 {
        let worker = gateway.workers[lane % gateway.workers.len()].clone();
        let (gateway, handed_out) = (Arc::clone(&gateway), Arc::clone(&handed_out));
        let stop = Arc::clone(&stop);
        askers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let (status, body) = ask_at(&gateway, &worker, CLIENT, SECRET).await;
                if status == 200 {
                    let token = body["access_token"].as_str().expect("a token");
                    handed_out.lock().expect("no panic").push(token.to_owned());
                }
            }
        });
    }
    let mut ended = 0;
    for _ in 0..4 {
        eventually("a token is handed out", || async {
            (!handed_out.lock().expect("no panic").is_empty()).then_some(())
        })
        .await;
        let before = handed_out.lock().expect("no panic").clone();
        let answer = done(&gateway, CLIENT, "invalidate").await;
        for token in &before {
            assert_eq!(gateway.status(token).await, 401, "{answer}");
        }
        ended += before.len();
        handed_out.lock().expect("no panic").clear();
    }
    assert!(ended >= 4);
    stop.store(true, Ordering::SeqCst);
    askers.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv15_a_revoked_client_is_the_reason_unless_an_earlier_rule_is_and_never_a_purge() {
    let gateway = Gateway::start(Options {
        routes: ROUTES.to_owned(),
        ..Options::default()
    })
    .await;
    let (live, now) = (
        PrivateKey::active(&gateway),
        gateway.clock.now().as_seconds(),
    );
    let kinds = [
        ("good", good_claims(&gateway), "/x", "client_revoked"),
        (
            "expired",
            claims_with(&gateway, "exp", json!(now - 100)),
            "/x",
            "expired",
        ),
        (
            "too early",
            claims_with(&gateway, "nbf", json!(now + 120)),
            "/x",
            "not_yet_valid",
        ),
        (
            "issuer",
            claims_with(&gateway, "iss", json!("b")),
            "/x",
            "bad_issuer",
        ),
        (
            "audience",
            claims_with(&gateway, "aud", json!("b")),
            "/x",
            "bad_audience",
        ),
        (
            "too long",
            claims_with(&gateway, "exp", json!(now + 3601)),
            "/x",
            "claim_rule",
        ),
        (
            "scope",
            claims_with(&gateway, "scope", json!("read")),
            "/write",
            "client_revoked",
        ),
    ];
    let bystander = live.mint(&claims_with(&gateway, "client_id", json!("bystander")));
    let tokens = kinds.map(|(kind, claims, path, reason)| (kind, live.mint(&claims), path, reason));
    let forged = live.impostor().mint(&good_claims(&gateway));
    done(&gateway, CLIENT, "disable").await;

    let check = async |kind: &str, path: &str, token: &str, reason: &str| {
        let name = "portcullis_auth_denied_total";
        let route = if path == "/x" { "api" } else { "write" };
        let labels = [("route", route), ("reason", reason)];
        let all = async || harness::metrics::sum(&gateway.scrape().await, name, &[]);
        let (before, sum) = (gateway.metric(name, &labels).await, all().await);
        assert_eq!(gateway.get(path, token).await.status(), 401, "{kind}");
        assert_eq!(
            gateway.metric(name, &labels).await,
            before + 1.0,
            "{kind}: {reason}"
        );
        assert_eq!(all().await, sum + 1.0, "{kind}: one reason");
    };
    for (kind, token, path, reason) in &tokens {
        check(kind, path, token, reason).await;
    }
    check("forged", "/x", &forged, "bad_signature").await;
    assert_eq!(gateway.status(&bystander).await, 200);

    // A purge breaks nothing of a client that was shut out anyway.
    gateway.purge().await;
    for (kind, token, path, reason) in &tokens {
        check(kind, path, token, reason).await;
    }
    check("forged", "/x", &forged, "bad_signature").await;
    let purged = "portcullis_purge_verification_failures_total";
    let failures = async || harness::metrics::sum(&gateway.scrape().await, purged, &[]);
    assert_eq!(failures().await, 0.0);
    check("of another client", "/x", &bystander, "key_purged").await;
    assert_eq!(failures().await, 1.0);
    // Nor when it is let in again: its tokens ended when it was shut out.
    done(&gateway, CLIENT, "enable").await;
    check("let in again", "/x", &tokens[0].1, "client_revoked").await;
    assert_eq!(failures().await, 1.0);
}

// The store.

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_clients_survives_a_restart() {
    let gateway = Gateway::start(Options {
        file_store: true,
        ..Options::default()
    })
    .await;
    let old = gateway.token().await;
    done(&gateway, CLIENT, "invalidate").await;
    gateway.clock.advance(Duration::from_secs(2));
    let fresh = gateway.token().await;
    let second = restarted(&gateway, &gateway.config)
        .await
        .expect("it starts");
    assert_eq!(status_at(&gateway, &second.proxy, &old).await, 401);
    assert_eq!(status_at(&gateway, &second.proxy, &fresh).await, 200);
    done(&gateway, CLIENT, "disable").await;
    let third = restarted(&gateway, &gateway.config)
        .await
        .expect("it starts");
    assert_eq!(status_at(&gateway, &third.proxy, &fresh).await, 401);
    let asked = ask_at(&gateway, &third.proxy, CLIENT, SECRET).await;
    assert_eq!(asked.0, 401);
    let disabled = third.app.metrics.render();
    assert!(
        disabled.contains("portcullis_clients{state=\"disabled\"} 1"),
        "{disabled}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_document_that_cannot_be_trusted_stops_the_start() {
    let gateway = Gateway::start(Options {
        file_store: true,
        ..Options::default()
    })
    .await;
    done(&gateway, CLIENT, "disable").await;
    let file = gateway.dir.path().join("keys/clients.json");
    let good = std::fs::read(&file).expect("it was written");
    let start = async || restarted(&gateway, &gateway.config).await.map(|_| ());
    start().await.expect("it starts");
    let middle = good.len() / 2;
    let mut flipped = good.clone();
    flipped[middle] ^= 1;
    for bad in [
        &b""[..],
        b"{}",
        &good[..good.len() - 1],
        &good[..middle],
        &flipped,
    ] {
        std::fs::write(&file, bad).expect("it can be written");
        let error = start().await.expect_err("it does not start").to_string();
        assert!(
            error.contains("clients.json") && error.contains("restore"),
            "{error}"
        );
    }
    // Authentic, but nothing that this version wrote.
    for bad in [&b"{}"[..], b"", b"{\"schema\":2}"] {
        let store = &gateway.env.store;
        store
            .save_side(SideDocument::Clients, bad)
            .await
            .expect("it is saved");
        let error = start().await.expect_err("it does not start").to_string();
        assert!(error.contains("the clients document"), "{error}");
    }
    std::fs::write(&file, &good).expect("it can be written");
    start().await.expect("it starts again");
    // The running gateway was not disturbed by any of it.
    assert_eq!(ask(&gateway, CLIENT, SECRET).await.0, 401);
    assert_eq!(done(&gateway, CLIENT, "enable").await["revision"], json!(2));
}

/// What must be as it was before.
async fn nothing_changed(gateway: &Gateway, token: &str, before: &Value) {
    assert_eq!(gateway.status(token).await, 200);
    assert_eq!(ask(gateway, CLIENT, SECRET).await.0, 200);
    let (_, shown) = gateway.admin_get(&format!("{CLIENTS}/{CLIENT}")).await;
    let before = without_activity(before.clone());
    assert_eq!(without_activity(shown), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_changes_nothing_and_says_where_to_look() {
    let (gateway, store) = wrapped(Options::default(), FaultyStore::new).await;
    let token = gateway.token().await;
    let (_, before) = gateway.admin_get(&format!("{CLIENTS}/{CLIENT}")).await;
    for step in [Step::LoadSide, Step::SaveSide] {
        store.always(step, Trouble::Fail);
        for verb in ["disable", "invalidate"] {
            let (status, body) = post(&gateway, CLIENT, verb).await;
            assert_eq!(
                (status, &body["code"]),
                (500, &json!("CLIENT_CHANGE_FAILED"))
            );
            let log_id = body["log_id"].as_str().expect("a Log ID");
            assert!(
                body["detail"].as_str().expect("text").ends_with(log_id),
                "{body}"
            );
            let lines = gateway.log.lines();
            let line = lines.iter().find(|line| line["log_id"] == log_id);
            let cause = line.expect("its line")["cause"].as_str().expect("a cause");
            assert!(cause.contains("a fault was injected"), "{cause}");
            nothing_changed(&gateway, &token, &before).await;
        }
        store.heal();
    }
    assert_eq!(
        done(&gateway, CLIENT, "disable").await["revision"],
        json!(1)
    );
    assert_eq!(gateway.status(&token).await, 401);
}

/// A store whose saves take effect and fail all the same, as when a flush fails.
#[derive(Debug)]
struct Doubtful {
    inner: Arc<dyn KeyStore>,
    /// How many saves still do.
    failures: Mutex<u32>,
}

#[async_trait]
impl KeyStore for Doubtful {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.inner.load().await
    }

    async fn commit(&self, expected: u64, next: &KeySet) -> Result<Committed, CommitError> {
        self.inner.commit(expected, next).await
    }

    async fn load_side(&self, name: SideDocument) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.load_side(name).await
    }

    async fn save_side(&self, name: SideDocument, data: &[u8]) -> Result<(), StoreError> {
        self.inner.save_side(name, data).await?;
        let mut failures = self.failures.lock().expect("no panic before");
        if *failures == 0 || name != SideDocument::Clients {
            return Ok(());
        }
        *failures -= 1;
        Err(StoreError::Io {
            path: "doubtful".into(),
            step: "flush",
            source: std::io::Error::other("a flush failed"),
        })
    }

    async fn audit_tail(&self, count: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.inner.audit_tail(count).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_of_unknown_outcome_is_tried_again_and_settled_by_the_next_change() {
    let (gateway, store) = wrapped(Options::default(), |inner| Doubtful {
        inner,
        failures: Mutex::new(1),
    })
    .await;
    let token = gateway.token().await;
    assert_eq!(
        done(&gateway, CLIENT, "disable").await["revision"],
        json!(1)
    );
    assert_eq!(done(&gateway, CLIENT, "enable").await["revision"], json!(2));
    assert_eq!(gateway.status(&token).await, 401);
    gateway.clock.advance(Duration::from_secs(2));
    let token = gateway.token().await;

    *store.failures.lock().expect("no panic") = 2;
    assert_eq!(post(&gateway, CLIENT, "disable").await.0, 500);
    assert_eq!(
        gateway.status(&token).await,
        200,
        "in force is what was before"
    );
    // The store holds what failed; the next change goes on from what is in force.
    let answer = done(&gateway, CLIENT, "invalidate").await;
    assert_eq!(
        (&answer["revision"], &answer["client"]["state"]),
        (&json!(3), &json!("enabled"))
    );
    let second = restarted(&gateway, &gateway.config)
        .await
        .expect("it starts");
    gateway.clock.advance(Duration::from_secs(2));
    assert_eq!(ask_at(&gateway, &second.proxy, CLIENT, SECRET).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_document_put_back_under_a_running_gateway_is_found_out_at_the_next_change() {
    let gateway = gateway().await;
    let store = Arc::clone(&gateway.env.store);
    done(&gateway, CLIENT, "invalidate").await;
    let older = store
        .load_side(SideDocument::Clients)
        .await
        .expect("it loads");
    done(&gateway, CLIENT, "disable").await;
    let newest = store
        .load_side(SideDocument::Clients)
        .await
        .expect("it loads");
    let older = older.expect("there is one");
    store
        .save_side(SideDocument::Clients, &older)
        .await
        .expect("it is saved");
    let (status, body) = post(&gateway, CLIENT, "enable").await;
    assert_eq!(
        (status, &body["code"]),
        (500, &json!("CLIENT_CHANGE_FAILED"))
    );
    assert!(gateway.log.text().contains("not the one in force"));
    assert_eq!(
        ask(&gateway, CLIENT, SECRET).await.0,
        401,
        "what is in force stays"
    );
    let newest = newest.expect("there is one");
    store
        .save_side(SideDocument::Clients, &newest)
        .await
        .expect("it is saved");
    done(&gateway, CLIENT, "enable").await;
}

// Who may do what.

#[tokio::test(flavor = "multi_thread")]
async fn each_role_sees_and_does_what_it_may() {
    let gateway = gateway().await;
    let get = async |path: &str, token| send(&gateway, "GET", path, token, None, None).await;
    let one = format!("{CLIENTS}/{CLIENT}");
    let (status, etag, body) = get(CLIENTS, VIEWER).await;
    assert_eq!((status, etag.as_deref()), (200, Some("\"0\"")));
    assert_eq!(
        body,
        json!({ "revision": 0, "enabled": 1, "disabled": 0 }),
        "no names"
    );
    assert_eq!(get(&one, VIEWER).await.0, 403);
    let (_, _, body) = get(CLIENTS, OPERATOR).await;
    assert_eq!(body["clients"][0]["id"], json!(CLIENT));
    assert_eq!(body["clients"][0]["scopes"], json!(["read", "write"]));
    assert_eq!(body["clients"][0]["token_ttl_seconds"], json!(3600));
    assert_eq!(get(&one, OPERATOR).await.0, 200);
    for token in [VIEWER, OPERATOR] {
        let verbs = [
            "disable",
            "enable",
            "invalidate",
            "rotate-secret",
            "drop-old-secret",
            "remove",
        ];
        for path in verbs
            .map(|verb| format!("{one}/{verb}"))
            .iter()
            .chain([&CLIENTS.to_owned()])
        {
            let body = if path == CLIENTS {
                json!({ "id": "new" })
            } else {
                json!({})
            };
            let (status, _, body) = send(&gateway, "POST", path, token, None, Some(body)).await;
            assert_eq!((status, &body["code"]), (403, &json!("ROLE")), "{path}");
        }
    }
    let (_, _, body) = get(CLIENTS, ADMIN).await;
    assert_eq!(
        (&body["revision"], &body["enabled"]),
        (&json!(0), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_exactly_as_documented_changes_nothing_and_says_why() {
    let gateway = gateway().await;
    let disable = format!("{CLIENTS}/{CLIENT}/disable");
    let long = "x".repeat(257);
    for (path, body, status, code, word) in [
        (
            &*disable,
            json!({ "reason": null }),
            400,
            "BAD_BODY",
            "null",
        ),
        (&disable, json!({ "force": true }), 400, "BAD_BODY", "force"),
        (&disable, json!([]), 400, "BAD_BODY", "object"),
        (&disable, json!({ "reason": long }), 400, "BAD_BODY", "256"),
        (
            "/admin/v1/clients/stranger/disable",
            json!({}),
            404,
            "NO_SUCH_CLIENT",
            "`stranger`",
        ),
        (
            "/admin/v1/clients/a:b/disable",
            json!({}),
            404,
            "NO_SUCH_CLIENT",
            "client id",
        ),
        (
            "/admin/v1/clients/%FF/disable",
            json!({}),
            404,
            "NO_SUCH_CLIENT",
            "client id",
        ),
        (
            "/admin/v1/clients/demo/paint",
            json!({}),
            404,
            "NOT_FOUND",
            "endpoint",
        ),
        (
            "/admin/v1/clients/demo/disable/x",
            json!({}),
            404,
            "NOT_FOUND",
            "endpoint",
        ),
        (CLIENTS, json!({}), 400, "BAD_BODY", "id"),
        (
            CLIENTS,
            json!({ "id": "a:b" }),
            400,
            "BAD_BODY",
            "client id",
        ),
        (
            CLIENTS,
            json!({ "id": "a", "secret": "mine" }),
            400,
            "BAD_BODY",
            "secret",
        ),
        (
            CLIENTS,
            json!({ "id": "a", "scopes": ["b c"] }),
            400,
            "BAD_BODY",
            "scope",
        ),
        (
            CLIENTS,
            json!({ "id": "a", "token_ttl_seconds": 0 }),
            400,
            "BAD_BODY",
            "3600",
        ),
        (
            CLIENTS,
            json!({ "id": "a", "token_ttl_seconds": 3601 }),
            400,
            "BAD_BODY",
            "3600",
        ),
        (
            CLIENTS,
            json!({ "id": CLIENT }),
            409,
            "CLIENT_EXISTS",
            "`demo`",
        ),
        (
            "/admin/v1/clients/demo/rotate-secret",
            json!({}),
            409,
            "CLIENT_STATIC",
            "configuration",
        ),
        (
            "/admin/v1/clients/demo/remove",
            json!({}),
            409,
            "CLIENT_STATIC",
            "configuration",
        ),
    ] {
        let (got, answer) = gateway.admin_post(path, body.clone()).await;
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert_eq!(
            (got, &answer["code"]),
            (status, &json!(code)),
            "{path} {body}: {answer}"
        );
        assert!(detail.contains(word), "{path} {body}: {detail}");
        assert!(answer["log_id"].is_string(), "{answer}");
    }
    for (query, word) in [
        ("limit=0", "1 to 1000"),
        ("limit=1001", "1 to 1000"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("page=2", "page"),
    ] {
        let (status, body) = gateway.admin_get(&format!("{CLIENTS}?{query}")).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("BAD_QUERY")),
            "{query}"
        );
        assert!(
            body["detail"].as_str().expect("text").contains(word),
            "{body}"
        );
    }
    let (status, _) = gateway.admin_get("/admin/v1/clients/stranger").await;
    assert_eq!(status, 404);

    // A revision that the caller did not look at.
    for (if_match, status) in [
        ("\"1\"", 412),
        ("\"x\"", 412),
        ("W/\"0\"", 412),
        ("0", 412),
        ("\"0\", \"1\"", 412),
        ("\"0\"", 200),
        ("\"0\"", 412),
        ("\"1\"", 200),
        ("*", 200),
    ] {
        let body = Some(json!({}));
        let answer = send(&gateway, "POST", &disable, ADMIN, Some(if_match), body).await;
        assert_eq!(answer.0, status, "{if_match}: {}", answer.2);
        if status == 412 {
            assert_eq!(answer.2["code"], json!("REVISION_CHANGED"));
        }
    }
    let (_, body) = gateway.admin_get(CLIENTS).await;
    assert_eq!(
        (&body["revision"], &body["disabled"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_odd_names_work() {
    let gateway = gateway().await;
    let odd = "odd/name+% &?#";
    for id in ["a", "b", "z", odd] {
        let (status, body) = gateway.admin_post(CLIENTS, json!({ "id": id })).await;
        assert_eq!(status, 201, "{body}");
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (_, page) = gateway
            .admin_get(&format!("{CLIENTS}?limit=2&after={after}"))
            .await;
        let clients = page["clients"].as_array().expect("a list");
        assert!(clients.len() <= 2);
        seen.extend(
            clients
                .iter()
                .map(|client| client["id"].as_str().expect("text").to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = form(next),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "b", CLIENT, odd, "z"]);
    let path = "odd%2Fname%2B%25%20%26%3F%23";
    assert_eq!(
        done(&gateway, path, "disable").await["client"]["id"],
        json!(odd)
    );
    let (status, shown) = gateway.admin_get(&format!("{CLIENTS}/{path}")).await;
    assert_eq!((status, &shown["state"]), (200, &json!("disabled")));
}

fn form(text: &str) -> String {
    let pairs = url_pairs(&[("after", text)]);
    pairs.trim_start_matches("after=").to_owned()
}

fn url_pairs(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

// Clients of the store.

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_store_lives_beside_those_of_the_configuration() {
    let gateway = Gateway::start(Options {
        file_store: true,
        ..Options::default()
    })
    .await;
    let new = json!({ "id": "app", "scopes": ["read"], "token_ttl_seconds": 60, "reason": "new" });
    let (status, added) = gateway.admin_post(CLIENTS, new).await;
    assert_eq!((status, &added["changed"]), (201, &json!(true)));
    let first = added["secret"].as_str().expect("a secret").to_owned();
    assert!(first.len() >= 22);
    let token = token_of(&gateway, "app", &first).await;
    assert_eq!(gateway.status(&token).await, 200);
    let said = claims(&token);
    assert_eq!(
        (&said["client_id"], &said["scope"]),
        (&json!("app"), &json!("read"))
    );
    let (issued, expires) = (said["iat"].as_i64(), said["exp"].as_i64());
    assert_eq!(expires, issued.map(|issued| issued + 60));

    // Two secrets at a time: the client can change over without an interruption.
    let mut secrets = vec![first];
    let made_first = added["client"]["secrets_created_at"][0].clone();
    for ended in [json!(null), made_first.clone()] {
        gateway.clock.advance(Duration::from_secs(1));
        let rotated = done(&gateway, "app", "rotate-secret").await;
        assert_eq!(rotated["ended_secret_created_at"], ended, "{rotated}");
        secrets.push(rotated["secret"].as_str().expect("a secret").to_owned());
        let made = rotated["client"]["secrets_created_at"]
            .as_array()
            .expect("a list");
        assert_eq!(made.len(), 2);
    }
    let work = async |expected: [u16; 3]| {
        for (secret, status) in secrets.iter().zip(expected) {
            assert_eq!(ask(&gateway, "app", secret).await.0, status);
        }
    };
    work([401, 200, 200]).await;
    let (_, shown) = gateway.admin_get(&format!("{CLIENTS}/app")).await;
    assert_eq!(
        shown["history"][0]["ended_secret_created_at"], made_first,
        "{shown}"
    );
    let dropped = done(&gateway, "app", "drop-old-secret").await;
    assert_eq!(dropped["changed"], json!(true));
    assert_eq!(
        dropped["ended_secret_created_at"], shown["secrets_created_at"][0],
        "{dropped}"
    );
    assert_eq!(
        done(&gateway, "app", "drop-old-secret").await["changed"],
        json!(false)
    );
    work([401, 401, 200]).await;
    assert_eq!(
        gateway.status(&token).await,
        200,
        "its tokens do not care about secrets"
    );

    let second = restarted(&gateway, &gateway.config)
        .await
        .expect("it starts");
    assert_eq!(
        ask_at(&gateway, &second.proxy, "app", &secrets[2]).await.0,
        200
    );

    let gone = done(&gateway, "app", "remove").await;
    assert_eq!(gone["client"]["source"], json!("gone"));
    work([401, 401, 401]).await;
    assert_eq!(gateway.status(&token).await, 401);
    assert_eq!(post(&gateway, "app", "remove").await.0, 404);
    let (_, list) = gateway.admin_get(CLIENTS).await;
    assert_eq!(list["enabled"], json!(1));
    // Its id can be given out again, its tokens stay dead.
    let (status, again) = gateway.admin_post(CLIENTS, json!({ "id": "app" })).await;
    assert_eq!(status, 201);
    gateway.clock.advance(Duration::from_secs(2));
    let secret = again["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(gateway.status(&token).await, 401);
    assert_eq!(ask(&gateway, "app", &secret).await.0, 200);

    // A secret is in the answer that made it and nowhere else.
    secrets.push(secret);
    let file = std::fs::read(gateway.dir.path().join("keys/clients.json")).expect("a file");
    let store = gateway.env.store.load_side(SideDocument::Clients).await;
    let store = store.expect("it loads").expect("there is one");
    let (_, list) = gateway.admin_get(CLIENTS).await;
    let (_, shown) = gateway.admin_get(&format!("{CLIENTS}/app")).await;
    for text in [
        gateway.log.text(),
        list.to_string(),
        shown.to_string(),
        String::from_utf8_lossy(&file).into_owned(),
        String::from_utf8_lossy(&store).into_owned(),
        gateway.scrape().await,
    ] {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret is in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_configuration_wins_over_one_of_the_store() {
    let gateway = gateway().await;
    let (_, added) = gateway
        .admin_post(CLIENTS, json!({ "id": "late", "scopes": ["read"] }))
        .await;
    let of_store = added["secret"].as_str().expect("a secret").to_owned();
    let of_file = "the-configuration-knows-this-one-0";
    let hash = SecretHash::of_generated(of_file.as_bytes(), &ring::rand::SystemRandom::new());
    let mut config = gateway.config.clone();
    config.clients.push(StaticClient {
        id: "late".to_owned(),
        secret: ClientSecretSource::Hash(hash.expect("a hash").to_string()),
        scopes: vec!["write".to_owned()],
        token_ttl: Duration::from_secs(30),
    });
    let second = restarted(&gateway, &config).await.expect("it starts");
    assert_eq!(
        ask_at(&gateway, &second.proxy, "late", &of_store).await.0,
        401
    );
    let (status, body) = ask_at(&gateway, &second.proxy, "late", of_file).await;
    assert_eq!(
        (status, &body["scope"], &body["expires_in"]),
        (200, &json!("write"), &json!(30))
    );
    let lines = gateway.log.lines();
    let warned = lines.iter().find(|line| line["event"] == "client_shadowed");
    assert_eq!(warned.expect("a warning")["client_id"], json!("late"));
    // Without it the one of the store is there again.
    let third = restarted(&gateway, &gateway.config)
        .await
        .expect("it starts");
    assert_eq!(
        ask_at(&gateway, &third.proxy, "late", &of_store).await.0,
        200
    );
}

// What was done, and by whom.

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_all_clients_are_listed_newest_first_and_paged() {
    let gateway = gateway().await;
    let (status, _) = gateway
        .admin_post(CLIENTS, json!({ "id": "app", "reason": "new" }))
        .await;
    assert_eq!(status, 201);
    done(&gateway, CLIENT, "disable").await;
    done(&gateway, "app", "remove").await;
    let get = async |query: &str, token| {
        let path = format!("/admin/v1/client-changes{query}");
        send(&gateway, "GET", &path, token, None, None).await
    };
    let (status, etag, page) = get("?limit=2", OPERATOR).await;
    assert_eq!((status, etag.as_deref()), (200, Some("\"3\"")), "{page}");
    let said = |page: &Value| -> Vec<[Value; 4]> {
        let changes = page["changes"].as_array().expect("a list");
        let of = |change: &Value, name: &str| change[name].clone();
        changes
            .iter()
            .map(|change| ["revision", "client", "action", "reason"].map(|name| of(change, name)))
            .collect()
    };
    assert_eq!(
        said(&page),
        [
            [json!(3), json!("app"), json!("remove"), json!("remove")],
            [json!(2), json!(CLIENT), json!("disable"), json!("disable")],
        ]
    );
    let boss = json!({ "kind": "admin", "name": "boss" });
    assert_eq!(page["changes"][0]["actor"], boss);
    assert!(page["changes"][0]["at"].is_string());
    assert_eq!(page["next"], json!(2));
    let (_, _, last) = get("?limit=2&before=2", OPERATOR).await;
    assert_eq!(
        said(&last),
        [[json!(1), json!("app"), json!("add"), json!("new")]]
    );
    assert_eq!(last["next"], json!(null));
    assert_eq!(get("", VIEWER).await.0, 403, "names are for operators");
    for query in ["?limit=0", "?limit=1001", "?before=x"] {
        let (status, _, body) = get(query, OPERATOR).await;
        assert_eq!((status, &body["code"]), (400, &json!("BAD_QUERY")));
        let detail = body["detail"].as_str().expect("text");
        assert!(!detail.contains("deserialize"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_member_of_a_query_is_refused_by_its_name_everywhere() {
    let gateway = gateway().await;
    for (path, known) in [
        ("/admin/v1/keys?lmit=1", "takes no query"),
        ("/admin/v1/clients?limit=1&lmit=1", "`after`, `limit`"),
        ("/admin/v1/clients/demo?lmit", "takes no query"),
        ("/admin/v1/status?lmit=", "takes no query"),
        ("/admin/v1/keys/purges?lmit=1", "`before`, `limit`"),
    ] {
        let (status, body) = gateway.admin_get(path).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("BAD_QUERY")),
            "{path}"
        );
        let detail = body["detail"].as_str().expect("text");
        assert!(
            detail.contains("`lmit`") && detail.contains(known),
            "{detail}"
        );
    }
    let disable = format!("{CLIENTS}/{CLIENT}/disable?dry_run=true");
    let (status, _) = gateway.admin_post(&disable, json!({})).await;
    assert_eq!(status, 400);
    assert_eq!(ask(&gateway, CLIENT, SECRET).await.0, 200, "it did nothing");
}
