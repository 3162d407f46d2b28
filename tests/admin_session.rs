//! Signing in to the admin listener, through real sockets: what a session may do, when it ends, and
//! that nothing else in the operator's browser can use it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::certificates::Certificates;
use harness::in_process::write_private;
use harness::peers::peer;
use harness::raw::{Answer, exchange};
use harness::{ADMIN, Gateway, OPERATOR, Options, VIEWER, eventually};
use portcullis::admin::{MAX_SESSIONS, token_hash};
use serde_json::{Value, json};

const SESSION: &str = "/admin/v1/session";
const KEYS: &str = "/admin/v1/keys";
const ROTATE: &str = "/admin/v1/keys/rotate";

const HOST: &str = "127.0.0.1:9901";
const ORIGIN: &str = "Origin: http://127.0.0.1:9901";
const FROM_PAGE: &str = "X-Portcullis-Request: 1";
const BACKGROUND: &str = "X-Portcullis-Background: 1";

/// A request, to be bent.
struct Call {
    method: &'static str,
    path: String,
    host: &'static str,
    fields: Vec<String>,
    body: Option<String>,
}

impl Call {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            host: HOST,
            fields: Vec::new(),
            body: None,
        }
    }

    fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    fn post(path: impl Into<String>, body: impl ToString) -> Self {
        let mut call = Self::new("POST", path).field("Content-Type: application/json");
        call.body = Some(body.to_string());
        call
    }

    fn sign_in(token: &str) -> Self {
        Self::post(SESSION, json!({ "token": token }))
    }

    /// A change as the page sends it.
    fn by_page(self, cookie: &str) -> Self {
        self.cookie(cookie).field(ORIGIN).field(FROM_PAGE)
    }

    fn cookie(self, cookie: &str) -> Self {
        self.field(format!("Cookie: {cookie}"))
    }

    fn bearer(self, token: &str) -> Self {
        self.field(format!("Authorization: Bearer {token}"))
    }

    fn field(mut self, field: impl Into<String>) -> Self {
        self.fields.push(field.into());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|field| !field.starts_with(name));
        self
    }

    fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    async fn send(&self, gateway: &Gateway) -> Answer {
        let mut request = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.method, self.path, self.host
        );
        for field in &self.fields {
            request.push_str(&format!("{field}\r\n"));
        }
        let body = self.body.as_deref().unwrap_or_default();
        if self.body.is_some() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        exchange(&gateway.admin, format!("{request}\r\n{body}"))
            .await
            .expect("an answer")
    }

    async fn status(&self, gateway: &Gateway) -> u16 {
        self.send(gateway).await.status
    }
}

async fn gateway() -> Gateway {
    Gateway::start(Options::default()).await
}

/// Signs in; the cookie as the browser sends it back.
async fn sign_in(gateway: &Gateway, token: &str) -> String {
    let answer = Call::sign_in(token).send(gateway).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let set = answer.header("set-cookie").expect("a cookie");
    set.split(';').next().expect("a pair").to_owned()
}

async fn counted(gateway: &Gateway, reason: &str) -> f64 {
    gateway
        .metric("portcullis_admin_refusals_total", &[("reason", reason)])
        .await
}

/// Sends `call`, which must fail with `status` and `code`, change nothing, count once under
/// `reason`, and be in the log once, as a warning with its Log ID.
async fn refused(gateway: &Gateway, call: Call, status: u16, code: &str, reason: &str) -> Answer {
    let before = (
        gateway.lifecycle.current_set(),
        counted(gateway, reason).await,
    );
    let answer = call.send(gateway).await;
    let sent = (call.method, &call.path, &call.fields);
    assert_eq!(answer.status, status, "{sent:?}: {answer:?}");
    let body = answer.json();
    assert_eq!(body["code"], code, "{sent:?}: {body}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("set-cookie"), None, "{answer:?}");
    assert_eq!(gateway.lifecycle.current_set(), before.0, "{sent:?}");
    assert_eq!(counted(gateway, reason).await, before.1 + 1.0, "{sent:?}");
    let line = the_line(gateway, &body);
    assert_eq!(
        (&line["level"], &line["event"], &line["code"]),
        (&json!("warn"), &json!("admin_request_failed"), &json!(code)),
        "{line}"
    );
    assert_eq!(line["peer"], "127.0.0.1", "{line}");
    answer
}

/// The one log line of an error body.
fn the_line(gateway: &Gateway, body: &Value) -> Value {
    let log_id = body["log_id"].as_str().expect("a Log ID");
    let text = gateway.log.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(log_id)).collect();
    assert_eq!(lines.len(), 1, "{log_id} in {lines:?}");
    serde_json::from_str(lines[0]).expect("JSON")
}

/// The lines of an event.
fn lines(gateway: &Gateway, event: &str) -> Vec<Value> {
    let all = gateway.log.lines();
    all.into_iter()
        .filter(|line| line["event"] == event)
        .collect()
}

/// Who made the newest change of the key set.
fn last_actor(gateway: &Gateway) -> Value {
    serde_json::to_value(&gateway.lifecycle.current_set().last_event.actor).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_in_acts_under_their_name_until_they_sign_out() {
    let gateway = gateway().await;
    let now = gateway.env.clock.now();
    let answer = Call::sign_in(&format!(" {OPERATOR}\n"))
        .send(&gateway)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.json(),
        json!({
            "name": "ops",
            "role": "operator",
            "via": "session",
            "signed_in_at": now.to_string(),
            "expires_at": now.plus(Duration::from_secs(12 * 3600)).to_string(),
            "idle_expires_at": now.plus(Duration::from_secs(30 * 60)).to_string(),
        })
    );
    let set = answer.header("set-cookie").expect("a cookie");
    let (cookie, attributes) = set.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict");
    let (name, secret) = cookie.split_once('=').expect("a pair");
    assert_eq!(name, "portcullis_session");
    assert_eq!(secret.len(), 43, "256 bits in base64url");

    let who = Call::get(SESSION).cookie(cookie).send(&gateway).await;
    assert_eq!((who.status, who.json()), (200, answer.json()));
    let rotated = Call::post(ROTATE, "{}")
        .by_page(cookie)
        .send(&gateway)
        .await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(
        last_actor(&gateway),
        json!({ "kind": "admin", "name": "ops" })
    );
    let purge = json!({ "purge": true, "seen_revision": 2 });
    let purge = Call::post(ROTATE, purge).by_page(cookie);
    refused(&gateway, purge, 403, "ROLE", "role").await;

    let by_token = Call::get(SESSION).bearer(VIEWER).send(&gateway).await;
    assert_eq!(
        by_token.json(),
        json!({ "name": "eyes", "role": "viewer", "via": "token",
                "signed_in_at": null, "expires_at": null, "idle_expires_at": null })
    );

    let other = sign_in(&gateway, OPERATOR).await;
    let answer = Call::new("DELETE", SESSION)
        .by_page(cookie)
        .send(&gateway)
        .await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(
        answer.header("set-cookie"),
        Some("portcullis_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    );
    for call in [
        Call::get(SESSION).cookie(cookie),
        Call::get(KEYS).cookie(cookie),
        Call::post(ROTATE, "{}").by_page(cookie),
        Call::new("DELETE", SESSION).by_page(cookie),
    ] {
        refused(&gateway, call, 401, "UNAUTHENTICATED", "session_ended").await;
    }
    assert_eq!(Call::get(KEYS).cookie(&other).status(&gateway).await, 200);
    let gone = Call::new("DELETE", SESSION)
        .bearer(VIEWER)
        .send(&gateway)
        .await;
    assert_eq!((gone.status, gone.header("set-cookie")), (204, None));

    let signed_in = lines(&gateway, "admin_signed_in");
    let signed_out = lines(&gateway, "admin_signed_out");
    assert_eq!((signed_in.len(), signed_out.len()), (2, 1));
    for line in signed_in.iter().chain(&signed_out) {
        assert_eq!(
            (&line["operator"], &line["role"], &line["peer"]),
            (&json!("ops"), &json!("operator"), &json!("127.0.0.1")),
            "{line}"
        );
    }
    let log = gateway.log.text();
    for text in [secret, OPERATOR, VIEWER] {
        assert!(!log.contains(text), "{text} is in the log");
    }
    assert!(!gateway.scrape().await.contains(secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_cookie_needs_a_page_of_ours() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, ADMIN).await;
    let rotate = || Call::post(ROTATE, "{}").cookie(&cookie);
    let marked = || rotate().field(FROM_PAGE);
    // What a page of another origin can bring about, with every way of saying where it comes from.
    for call in [
        rotate(),
        rotate().field(ORIGIN),
        rotate().field("Sec-Fetch-Site: same-origin"),
        marked(),
        marked().field("Sec-Fetch-Site: none"),
        rotate().field(ORIGIN).field("X-Portcullis-Request: 2"),
        rotate().field(ORIGIN).field("X-Portcullis-Request:"),
        rotate().field(ORIGIN).field(FROM_PAGE).field(FROM_PAGE),
        Call::new("DELETE", SESSION).cookie(&cookie).field(ORIGIN),
    ] {
        refused(&gateway, call, 403, "CROSS_ORIGIN", "csrf").await;
    }
    for foreign in [
        "Origin: http://evil.test",
        "Origin: http://127.0.0.1:9902",
        "Origin: http://127.0.0.1",
        "Origin: null",
        "Origin: ftp://127.0.0.1:9901",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        for call in [
            marked().field(foreign),
            marked().field("Sec-Fetch-Site: same-origin").field(foreign),
            Call::new("DELETE", SESSION)
                .cookie(&cookie)
                .field(FROM_PAGE)
                .field(foreign),
            Call::sign_in(ADMIN).field(foreign),
            Call::post(ROTATE, "{}").bearer(ADMIN).field(foreign),
            // It could not read the answer; but neither is there a reason to give one.
            Call::get(KEYS).cookie(&cookie).field(foreign),
        ] {
            refused(&gateway, call, 403, "CROSS_ORIGIN", "cross_origin").await;
        }
    }
    // A form cannot send JSON.
    let form = marked()
        .field(ORIGIN)
        .without("Content-Type")
        .field("Content-Type: text/plain");
    assert_eq!(form.status(&gateway).await, 415);
    assert_eq!(gateway.lifecycle.current_set().revision, 1);

    let same_site = marked().field("Sec-Fetch-Site: same-origin");
    assert_eq!(same_site.status(&gateway).await, 200);
    assert_eq!(
        rotate()
            .field(ORIGIN)
            .field(FROM_PAGE)
            .status(&gateway)
            .await,
        200
    );
    assert_eq!(Call::get(KEYS).cookie(&cookie).status(&gateway).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_is_not_a_session_is_nobody() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, ADMIN).await;
    let (name, secret) = cookie.split_once('=').expect("a pair");
    let other = sign_in(&gateway, VIEWER).await;
    for bad in [
        format!("{name}="),
        format!("{name}={}", "A".repeat(43)),
        format!("{name}={}", &secret[1..]),
        format!("{name}={secret}x"),
        format!("{name}={ADMIN}"),
    ] {
        let call = Call::get(KEYS).cookie(&bad);
        refused(&gateway, call, 401, "UNAUTHENTICATED", "session_ended").await;
    }
    for call in [
        Call::get(KEYS),
        Call::get(KEYS).cookie(secret),
        Call::get(KEYS).cookie(&format!("__Host-{cookie}")),
        Call::get(KEYS).cookie(&format!("{cookie}; {other}")),
        Call::get(KEYS).cookie(&cookie).cookie(&other),
        // What is said aloud counts, not what the browser adds.
        Call::get(KEYS)
            .cookie(&cookie)
            .field(format!("Authorization: Basic {ADMIN}")),
        Call::get(KEYS).bearer(ADMIN).bearer(ADMIN),
        Call::new("DELETE", SESSION),
        Call::get(SESSION),
    ] {
        refused(&gateway, call, 401, "UNAUTHENTICATED", "unauthenticated").await;
    }
    let wrong = Call::get(KEYS).cookie(&cookie).bearer("wrong");
    refused(&gateway, wrong, 401, "WRONG_TOKEN", "wrong_token").await;
    let both = Call::get(SESSION)
        .cookie(&other)
        .bearer(ADMIN)
        .send(&gateway)
        .await;
    assert_eq!(both.json()["via"], "token");
    let among = format!("theme=dark; {cookie}; lang=de");
    assert_eq!(Call::get(KEYS).cookie(&among).status(&gateway).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_points_here_by_rebinding_gets_nothing() {
    let admin = "    allowed_hosts: [admin.example]".to_owned();
    let gateway = Gateway::start(Options {
        admin,
        ..Options::default()
    })
    .await;
    let cookie = sign_in(&gateway, ADMIN).await;
    for host in [
        "evil.test",
        "evil.test:9901",
        "x.admin.example",
        "127.0.0.1.evil.test",
    ] {
        let origin = format!("Origin: http://{host}");
        for call in [
            Call::get("/"),
            Call::get("/console/app.js"),
            Call::get(KEYS).cookie(&cookie),
            Call::get(KEYS).bearer(ADMIN),
            Call::sign_in(ADMIN).field(&origin),
            Call::post(ROTATE, "{}")
                .cookie(&cookie)
                .field(FROM_PAGE)
                .field(&origin),
        ] {
            let call = call.host(host);
            refused(&gateway, call, 421, "HOST_NOT_ALLOWED", "host_not_allowed").await;
        }
    }
    for host in [
        "admin.example",
        "Admin.Example:443",
        "localhost:9901",
        "[::1]:9901",
    ] {
        let call = Call::get(KEYS).cookie(&cookie).host(host);
        assert_eq!(call.status(&gateway).await, 200, "{host}");
    }
    let call = Call::post(ROTATE, "{}").cookie(&cookie).field(FROM_PAGE);
    let call = call
        .field("Origin: https://admin.example")
        .host("admin.example");
    assert_eq!(call.status(&gateway).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_url_is_refused_whatever_else_is_sent() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, ADMIN).await;
    for query in [
        "token",
        "access_token",
        "admin_token",
        "Admin-Token",
        "%74oken",
        "limit=1&api_key",
        "a=b;token",
        "portcullis_session",
    ] {
        for path in ["/", "/console/app.js", KEYS, ROTATE, SESSION, "/nowhere"] {
            let path = format!("{path}?{query}={ADMIN}");
            let call = match path.split('?').next() {
                Some(ROTATE) => Call::post(path, "{}").bearer(ADMIN),
                Some(SESSION) => Call::post(path, json!({ "token": ADMIN })),
                Some("/") => Call::get(path).host("evil.test"),
                _ => Call::get(path).cookie(&cookie),
            };
            let answer = refused(&gateway, call, 400, "TOKEN_IN_URL", "token_in_url").await;
            assert!(!answer.body.contains(ADMIN), "{answer:?}");
        }
    }
    let lines = gateway.log.text();
    assert!(!lines.contains(ADMIN), "a token is in the log");
    let call = Call::get("/admin/v1/clients?limit=10&after=token").bearer(ADMIN);
    assert_eq!(call.status(&gateway).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down_and_the_right_token_never() {
    let gateway = gateway().await;
    for _ in 0..4 {
        let call = Call::sign_in("a-guess-that-is-long-enough");
        refused(&gateway, call, 401, "WRONG_TOKEN", "wrong_token").await;
    }
    // Both ways to send a token count together.
    let call = Call::get(KEYS).bearer("a-guess");
    refused(&gateway, call, 401, "WRONG_TOKEN", "wrong_token").await;
    for call in [
        Call::sign_in("a-guess"),
        Call::sign_in(&ADMIN[1..]),
        Call::sign_in(""),
        Call::get(KEYS).bearer("a-guess"),
    ] {
        let answer = refused(&gateway, call, 429, "THROTTLED", "throttled").await;
        let wait = answer.header("retry-after").expect("Retry-After");
        let wait: u64 = wait.parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
    }
    assert_eq!(Call::get(KEYS).bearer(ADMIN).status(&gateway).await, 200);
    let cookie = sign_in(&gateway, ADMIN).await;
    let purge = json!({ "purge": true, "seen_revision": 1 });
    let purge = Call::post(ROTATE, purge).by_page(&cookie);
    assert_eq!(
        purge.status(&gateway).await,
        200,
        "an emergency cannot be locked out"
    );
    let call = Call::sign_in("a-guess");
    refused(&gateway, call, 429, "THROTTLED", "throttled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_guesses_shares_a_line_and_each_is_counted() {
    let gateway = gateway().await;
    let mut ids = BTreeSet::new();
    for _ in 0..230 {
        let answer = Call::sign_in("a-guess").send(&gateway).await.json();
        ids.insert(answer["log_id"].as_str().expect("a Log ID").to_owned());
    }
    assert_eq!(ids.len(), 201, "200 lines of their own, the rest share one");
    assert_eq!(counted(&gateway, "wrong_token").await, 5.0);
    assert_eq!(counted(&gateway, "throttled").await, 225.0);
    gateway.clock.advance(Duration::from_secs(2));
    let summary = eventually("the line that counts them", || async {
        lines(&gateway, "denials_summary").pop()
    });
    let summary = summary.await;
    assert_eq!(summary["reasons"], json!({ "throttled": 30 }));
    let log = gateway.log.text();
    for id in &ids {
        assert_eq!(log.matches(id.as_str()).count(), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_takes_exactly_a_token_and_quotes_nothing() {
    let gateway = gateway().await;
    let raw = |body: &str| {
        let mut call = Call::sign_in("");
        call.body = Some(body.to_owned());
        call
    };
    let bodies = [
        String::new(),
        "null".to_owned(),
        format!("\"{ADMIN}\""),
        format!("[\"{ADMIN}\"]"),
        format!("{{\"{ADMIN}\":1}}"),
        format!("{{\"token\":[\"{ADMIN}\"]}}"),
        format!("{{\"token\":\"{ADMIN}\",\"token\":\"x\"}}"),
        format!("{{\"token\":\"{ADMIN}\",\"remember\":\"{ADMIN}\"}}"),
        format!("{{\"token\":\"{ADMIN}\""),
        "{\"token\":null}".to_owned(),
        "{}".to_owned(),
    ];
    for body in bodies {
        let answer = raw(&body).send(&gateway).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("BAD_BODY")),
            "{body}"
        );
        assert!(!answer.body.contains(ADMIN), "{answer:?}");
        assert_eq!(answer.header("set-cookie"), None);
    }
    let form = raw(&format!("token={ADMIN}"))
        .without("Content-Type")
        .field("Content-Type: application/x-www-form-urlencoded");
    assert_eq!(form.status(&gateway).await, 415);
    assert_eq!(
        Call::new("PUT", SESSION)
            .bearer(ADMIN)
            .status(&gateway)
            .await,
        405
    );
    assert!(!gateway.log.text().contains(ADMIN), "a token is in the log");
    assert!(lines(&gateway, "admin_signed_in").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_and_changes_nothing() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, VIEWER).await;
    let kid = gateway.active_kid();
    for (path, body) in [
        (ROTATE.to_owned(), json!({})),
        (
            ROTATE.to_owned(),
            json!({ "purge": true, "seen_revision": 1 }),
        ),
        ("/admin/v1/keys/reseal".to_owned(), json!({})),
        ("/admin/v1/clock/confirm".to_owned(), json!({})),
        (
            "/admin/v1/keys/preview".to_owned(),
            json!({ "shadow": "1s" }),
        ),
        (format!("/admin/v1/keys/{kid}/restore"), json!({})),
        (format!("/admin/v1/keys/{kid}/compromised"), json!({})),
        ("/admin/v1/clients".to_owned(), json!({ "id": "new" })),
        ("/admin/v1/clients/demo/disable".to_owned(), json!({})),
    ] {
        let call = Call::post(path, body).by_page(&cookie);
        let answer = refused(&gateway, call, 403, "ROLE", "role").await;
        assert_eq!(the_line(&gateway, &answer.json())["operator"], "eyes");
    }
    for path in [KEYS, SESSION, "/admin/v1/keys/preview", "/admin/v1/clients"] {
        assert_eq!(
            Call::get(path).cookie(&cookie).status(&gateway).await,
            200,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_names_whoever_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let tokens = [
        "alices-token-0123456789012345",
        "bobs-token-012345678901234567",
    ];
    write_private(&dir.path().join("alice"), tokens[0]);
    write_private(&dir.path().join("bob"), &token_hash(tokens[1].as_bytes()));
    let admin = format!(
        "      - {{ name: alice, role: admin, file: {dir}/alice }}\n      - {{ name: bob, role: admin, hash_file: {dir}/bob }}",
        dir = dir.path().display()
    );
    let gateway = Gateway::start(Options {
        admin,
        ..Options::default()
    })
    .await;
    let purge = |seen: u64| json!({ "purge": true, "seen_revision": seen });
    let [alice, bob] = [
        sign_in(&gateway, tokens[0]).await,
        sign_in(&gateway, tokens[1]).await,
    ];
    for (revision, name, call) in [
        (1, "alice", Call::post(ROTATE, purge(1)).by_page(&alice)),
        (2, "bob", Call::post(ROTATE, purge(2)).by_page(&bob)),
        (3, "bob", Call::post(ROTATE, purge(3)).bearer(tokens[1])),
        (4, "boss", Call::post(ROTATE, purge(4)).bearer(ADMIN)),
        (
            5,
            "alice",
            Call::post(ROTATE, purge(5)).bearer(tokens[0]).cookie(&bob),
        ),
    ] {
        assert_eq!(gateway.lifecycle.current_set().revision, revision);
        assert_eq!(call.status(&gateway).await, 200, "{name}");
        assert_eq!(
            last_actor(&gateway),
            json!({ "kind": "admin", "name": name })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_stands_idle_and_when_it_is_old() {
    let gateway = gateway().await;
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let cookie = sign_in(&gateway, VIEWER).await;
    let who = || Call::get(SESSION).cookie(&cookie);
    let by_itself = || who().field(BACKGROUND);

    gateway.clock.advance(minutes(29));
    assert_eq!(who().status(&gateway).await, 200);
    gateway.clock.advance(minutes(20));
    // What the page asks for by itself is answered, and is no sign of an operator.
    let idle_until = by_itself().send(&gateway).await.json()["idle_expires_at"].clone();
    assert_eq!(
        idle_until,
        json!(gateway.env.clock.now().plus(minutes(10)).to_string())
    );
    // It goes on and on, so only its beginning is read.
    let events = gateway
        .http
        .get(format!("{}/admin/v1/events", gateway.admin));
    let events = events.header("cookie", &cookie).send().await;
    assert_eq!(events.expect("an answer").status(), 200);
    gateway
        .clock
        .advance(minutes(10) - Duration::from_millis(1));
    assert_eq!(by_itself().status(&gateway).await, 200);
    gateway.clock.advance(Duration::from_millis(1));
    let call = who();
    refused(&gateway, call, 401, "UNAUTHENTICATED", "session_ended").await;

    let cookie = sign_in(&gateway, VIEWER).await;
    let who = || Call::get(SESSION).cookie(&cookie);
    for _ in 0..35 {
        gateway.clock.advance(minutes(20));
        assert_eq!(who().status(&gateway).await, 200);
    }
    gateway
        .clock
        .advance(minutes(20) - Duration::from_millis(1));
    let last = who().send(&gateway).await;
    assert_eq!(last.status, 200);
    assert_eq!(last.json()["idle_expires_at"], last.json()["expires_at"]);
    gateway.clock.advance(Duration::from_millis(1));
    refused(&gateway, who(), 401, "UNAUTHENTICATED", "session_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_a_session_are_the_configured_ones() {
    let admin = "    session_idle_timeout: 10s\n    session_lifetime: 15s".to_owned();
    let gateway = Gateway::start(Options {
        admin,
        ..Options::default()
    })
    .await;
    let cookie = sign_in(&gateway, VIEWER).await;
    let seconds = Duration::from_secs;
    gateway.clock.advance(seconds(9));
    assert_eq!(Call::get(KEYS).cookie(&cookie).status(&gateway).await, 200);
    gateway.clock.advance(seconds(6));
    let call = Call::get(KEYS).cookie(&cookie);
    refused(&gateway, call, 401, "UNAUTHENTICATED", "session_ended").await;
    let cookie = sign_in(&gateway, VIEWER).await;
    gateway.clock.advance(seconds(10));
    let call = Call::get(KEYS).cookie(&cookie);
    refused(&gateway, call, 401, "UNAUTHENTICATED", "session_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bounded_and_nobody_pushes_out_another() {
    let gateway = gateway().await;
    let admin = sign_in(&gateway, ADMIN).await;
    // It is the oldest of all.
    gateway.clock.advance(Duration::from_secs(1));
    let mut viewers = Vec::new();
    for _ in 0..MAX_SESSIONS + 10 {
        viewers.push(sign_in(&gateway, VIEWER).await);
    }
    let is_alive =
        async |cookie: &str| Call::get(SESSION).cookie(cookie).status(&gateway).await == 200;
    assert!(is_alive(&admin).await);
    assert!(is_alive(viewers.last().expect("some")).await);
    let mut alive = 0;
    for viewer in &viewers {
        alive += usize::from(is_alive(viewer).await);
    }
    assert_eq!(alive, MAX_SESSIONS - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_sign_ins_get_sessions_of_their_own() {
    let gateway = gateway().await;
    let sign_ins = (0..32).map(|number| {
        let token = [ADMIN, OPERATOR, VIEWER][number % 3];
        sign_in(&gateway, token)
    });
    let cookies = futures(sign_ins).await;
    let mut names = Vec::new();
    for cookie in &cookies {
        let who = Call::get(SESSION).cookie(cookie).send(&gateway).await;
        names.push(who.json()["name"].clone());
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(*name, ["boss", "ops", "eyes"][number % 3]);
    }
    let mut distinct = cookies.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), cookies.len());
    assert_eq!(lines(&gateway, "admin_signed_in").len(), 32);
}

/// All of them at once, the results in their order.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, result) in &mut all {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *result = Some(value);
            }
        }
        if all.iter().all(|(_, result)| result.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    all.into_iter().filter_map(|(_, result)| result).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_again_ends_the_session_before() {
    let gateway = gateway().await;
    let first = sign_in(&gateway, VIEWER).await;
    // A wrong token leaves it alone.
    let wrong = Call::sign_in("wrong").by_page(&first);
    refused(&gateway, wrong, 401, "WRONG_TOKEN", "wrong_token").await;
    assert_eq!(Call::get(KEYS).cookie(&first).status(&gateway).await, 200);
    let again = Call::sign_in(OPERATOR).by_page(&first).send(&gateway).await;
    assert_eq!(again.json()["name"], "ops");
    let call = Call::get(KEYS).cookie(&first);
    refused(&gateway, call, 401, "UNAUTHENTICATED", "session_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_its_files_are_there_for_anybody() {
    const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                       font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let gateway = gateway().await;
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/console/app.js", "text/javascript; charset=utf-8"),
        ("/console/base.css", "text/css; charset=utf-8"),
        ("/console/favicon.svg", "image/svg+xml"),
    ] {
        let answer = Call::get(path).send(&gateway).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for (name, value) in [
            ("content-type", media_type),
            ("cache-control", "no-cache"),
            ("content-security-policy", CSP),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let etag = answer.header("etag").expect("an entity tag").to_owned();
        let head = Call::new("HEAD", path).send(&gateway).await;
        assert_eq!(
            (head.status, head.header("etag")),
            (200, Some(etag.as_str()))
        );
        let known = Call::get(path).field(format!("If-None-Match: {etag}"));
        let answer = known.send(&gateway).await;
        assert_eq!(
            (answer.status, answer.header("etag")),
            (304, Some(etag.as_str()))
        );
        assert_eq!(answer.header("content-security-policy"), Some(CSP));
        let stale = Call::get(path).field("If-None-Match: \"0\"");
        assert_eq!(stale.status(&gateway).await, 200);
        assert_eq!(Call::post(path, "{}").status(&gateway).await, 405, "{path}");
    }
    let page = Call::get("/").send(&gateway).await.body;
    for inline in ["<style", "onclick=", "javascript:", "http://", "https://"] {
        assert!(!page.contains(inline), "{inline} in the page");
    }
    for path in ["/console/nothing.js", "/console/..%2fmod.rs", "/console/"] {
        let answer = Call::get(path).send(&gateway).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert_eq!(the_line(&gateway, &answer.json())["code"], "NOT_FOUND");
    }
    let requests = [("endpoint", "console"), ("code", "2xx")];
    assert!(
        gateway
            .metric("portcullis_admin_requests_total", &requests)
            .await
            >= 12.0
    );
}

/// Runs curl against an admin listener under TLS; its output with the header of the answer.
struct Curl {
    curl: PathBuf,
    ca: PathBuf,
    port: u16,
}

impl Curl {
    fn run(&self, path: &str, more: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.curl)
            .args(["--silent", "--show-error", "--include", "--max-time", "20"])
            .args(["--noproxy", "*", "--cacert"])
            .arg(&self.ca)
            .args(["--resolve", &format!("localhost:{}:127.0.0.1", self.port)])
            .args(more)
            .arg(format!("https://localhost:{}{path}", self.port))
            .output()
            .expect("curl runs");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

async fn under_tls(files: &Certificates, client_ca: bool) -> Option<(Gateway, Curl)> {
    let curl = peer("curl")?;
    let show = |path: &Path| path.display().to_string();
    let client_ca = if client_ca {
        format!(", client_ca_file: {}", show(&files.ca))
    } else {
        String::new()
    };
    let admin = format!(
        "    tls: {{ cert_file: {}, key_file: {}{client_ca} }}",
        show(&files.cert),
        show(&files.key)
    );
    let gateway = Gateway::start(Options {
        admin,
        ..Options::default()
    })
    .await;
    let port = gateway
        .admin
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    let curl = Curl {
        curl,
        ca: files.ca.clone(),
        port: port.expect("a port"),
    };
    Some((gateway, curl))
}

#[tokio::test(flavor = "multi_thread")]
async fn under_tls_the_cookie_is_bound_to_host_and_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = Certificates::make(dir.path());
    let Some((gateway, curl)) = under_tls(&files, false).await else {
        return;
    };
    let body = json!({ "token": OPERATOR }).to_string();
    let json = ["--header", "Content-Type: application/json"];
    let sign_in = [&json[..], &["--data", &body]].concat();
    let answer = curl.run(SESSION, &sign_in).expect("an answer");
    let set = answer
        .lines()
        .find_map(|line| {
            line.strip_prefix("Set-Cookie: ")
                .or_else(|| line.strip_prefix("set-cookie: "))
        })
        .unwrap_or_else(|| panic!("no cookie in {answer}"));
    let (cookie, attributes) = set.trim().split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict; Secure");
    assert!(cookie.starts_with("__Host-portcullis_session="), "{cookie}");

    let rotate = |cookie: &str, origin: &str| {
        let (cookie, origin) = (format!("Cookie: {cookie}"), format!("Origin: {origin}"));
        let more = [
            "--header", &cookie, "--header", &origin, "--header", FROM_PAGE,
        ];
        let arguments = [&json[..], &more, &["--data", "{}"]].concat();
        let answer = curl.run(ROTATE, &arguments).expect("an answer");
        answer
            .split(' ')
            .nth(1)
            .map(str::to_owned)
            .expect("a status")
    };
    let ours = format!("https://localhost:{}", curl.port);
    let plain = format!("http://localhost:{}", curl.port);
    let unbound = cookie.trim_start_matches("__Host-");
    assert_eq!(
        rotate(cookie, &plain),
        "403",
        "an origin without TLS is another one"
    );
    assert_eq!(
        rotate(unbound, &ours),
        "401",
        "a cookie that anybody could have set"
    );
    assert_eq!(rotate(cookie, &ours), "200");
    assert_eq!(
        last_actor(&gateway),
        json!({ "kind": "admin", "name": "ops" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_demanded_certificate_there_is_no_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = Certificates::make(dir.path());
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).expect("a directory");
    let foreign = Certificates::make(&foreign);
    let Some((_gateway, curl)) = under_tls(&files, true).await else {
        return;
    };
    let bearer = format!("Authorization: Bearer {ADMIN}");
    let ask = |certificate: Option<&Certificates>, more: &[&str]| {
        let files = certificate.map(|files| {
            [
                files.cert.display().to_string(),
                files.key.display().to_string(),
            ]
        });
        let mut arguments = more.to_vec();
        if let Some([cert, key]) = &files {
            arguments.extend(["--cert", cert, "--key", key]);
        }
        curl.run(KEYS, &arguments)
    };
    let with_token = ["--header", bearer.as_str()];
    let refused = ask(None, &with_token).expect_err("no handshake without a certificate");
    assert!(!refused.is_empty());
    ask(Some(&foreign), &with_token)
        .expect_err("no handshake with a certificate of another authority");
    let answer = ask(Some(&files), &with_token).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The certificate comes on top of the token; it does not replace it.
    let answer = ask(Some(&files), &[]).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}
