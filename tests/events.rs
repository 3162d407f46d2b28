//! `GET events`: what a console that only listens learns, and what listening may cost.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod harness;

use std::time::{Duration, Instant};

use harness::raw::RawClient;
use harness::{ADMIN, Gateway, Options, PATIENCE, VIEWER, eventually, faulty};
use portcullis::store::faulty_store::{Step, Trouble};
use serde_json::{Value, json};
use tokio::time::timeout;

/// One event.
#[derive(Clone, Debug)]
struct Event {
    id: u64,
    name: String,
    data: Value,
}

/// A client of the stream.
struct Listening {
    response: reqwest::Response,
    rest: String,
    retry: Option<u64>,
    last_id: u64,
}

impl Listening {
    async fn to(gateway: &Gateway) -> Self {
        Self::on(open(gateway, VIEWER).await)
    }

    fn on(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            response,
            rest: String::new(),
            retry: None,
            last_id: 0,
        }
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        let block = loop {
            if let Some((block, rest)) = self.rest.split_once("\n\n") {
                let block = block.to_owned();
                self.rest = rest.to_owned();
                break block;
            }
            let piece = timeout(PATIENCE, self.response.chunk()).await;
            let piece = piece.expect("an event or the end in time").ok().flatten()?;
            self.rest
                .push_str(std::str::from_utf8(&piece).expect("UTF-8"));
        };
        let mut event = Event {
            id: 0,
            name: String::new(),
            data: Value::Null,
        };
        for line in block.lines() {
            match line.split_once(": ").expect("a field") {
                ("id", id) => event.id = id.parse().expect("a number"),
                ("event", name) => event.name = name.to_owned(),
                ("data", data) => event.data = serde_json::from_str(data).expect("JSON"),
                ("retry", retry) => self.retry = Some(retry.parse().expect("a number")),
                other => panic!("{other:?}"),
            }
        }
        assert!(event.id > self.last_id, "ids grow");
        self.last_id = event.id;
        Some(event)
    }

    /// Reads on until the stream has ended.
    async fn ends(&mut self) {
        let ended = timeout(PATIENCE, async { while self.next().await.is_some() {} });
        ended.await.expect("the stream ends");
    }

    /// Reads on until an event of this name fits.
    async fn until(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name == name && fits(&event.data) {
                return event.data;
            }
            assert!(Instant::now() < deadline, "no {name} that fits");
        }
    }
}

async fn open(gateway: &Gateway, token: &str) -> reqwest::Response {
    let request = gateway
        .http
        .get(format!("{}/admin/v1/events", gateway.admin));
    request.bearer_auth(token).send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_learns_of_rotations_purges_clients_and_troubles() {
    let (gateway, store) = faulty::start(Options::default()).await;
    let mut listening = Listening::to(&gateway).await;
    let first = listening.next().await.expect("an event");
    assert_eq!(
        (&*first.name, &first.data["overall"]),
        ("status", &json!("ok"))
    );
    assert_eq!(listening.retry, Some(2000));
    let (code, status) = gateway.admin_get("/admin/v1/status").await;
    assert_eq!(code, 200);
    assert_eq!(
        first.data["components"][3]["id"],
        status["components"][3]["id"]
    );
    listening
        .until("tick", |tick| tick["now"].is_string())
        .await;

    let rotated = gateway.rotate().await;
    listening
        .until("keys", |keys| keys["revision"] == rotated["revision"])
        .await;

    let token = gateway.token().await;
    let purged = gateway.purge().await;
    let id = &purged["receipt"]["purge_id"];
    listening
        .until("purge", |purge| purge["purge_id"] == *id)
        .await;
    // Somebody fails because of it: the purge has news again.
    assert_eq!(gateway.status(&token).await, 401);
    listening
        .until("purge", |purge| purge["purge_id"] == *id)
        .await;

    let body = json!({ "reason": "leaves" });
    let (code, changed) = gateway
        .admin_post("/admin/v1/clients/demo/disable", body)
        .await;
    assert_eq!(code, 200, "{changed}");
    listening
        .until("clients", |clients| {
            clients["revision"] == changed["revision"]
        })
        .await;

    store.always(Step::BeforeCommit, Trouble::Fail);
    let seen = gateway.lifecycle.current_set().revision;
    let body = json!({ "purge": true, "seen_revision": seen });
    assert_eq!(
        gateway.admin_post("/admin/v1/keys/rotate", body).await.0,
        500
    );
    let status = listening
        .until("status", |status| status["overall"] == "error")
        .await;
    assert_eq!(status["components"][0]["id"], "key_store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_told_within_a_second() {
    let gateway = Gateway::start(Options::default()).await;
    let mut listening = Listening::to(&gateway).await;
    let mut shortest = Duration::MAX;
    // The machine may be busy with other things; then it is tried again.
    for _ in 0..5 {
        let started = Instant::now();
        let purged = gateway.purge().await;
        listening
            .until("keys", |keys| keys["revision"] == purged["revision"])
            .await;
        shortest = shortest.min(started.elapsed());
        if shortest < Duration::from_secs(1) {
            return;
        }
    }
    panic!("it took {shortest:?} at best");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_one_that_ends_makes_room() {
    let gateway = Gateway::start(Options::default()).await;
    assert_eq!(open(&gateway, "wrong").await.status(), 401);
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(Listening::to(&gateway).await);
    }
    let refused = open(&gateway, VIEWER).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let problem: Value = refused.json().await.expect("JSON");
    assert_eq!(problem["code"], "TOO_MANY_STREAMS");
    // Everything else works as ever.
    assert_eq!(gateway.admin_get("/admin/v1/status").await.0, 200);
    let other = open(&gateway, ADMIN).await;
    assert_eq!(other.status(), 200, "another token has places of its own");
    drop(streams.pop());
    eventually("the place is free", || async {
        (open(&gateway, VIEWER).await.status() == 200).then_some(())
    })
    .await;
}

/// Signs in as the page does; the cookie.
async fn sign_in(gateway: &Gateway) -> String {
    let request = gateway
        .http
        .post(format!("{}/admin/v1/session", gateway.admin))
        .json(&json!({ "token": VIEWER }));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let set = response.headers()["set-cookie"].to_str().expect("text");
    set.split(';').next().expect("a pair").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_session_that_opened_it() {
    let gateway = Gateway::start(Options::default()).await;
    let listen = async |cookie: &str| {
        let request = gateway
            .http
            .get(format!("{}/admin/v1/events", gateway.admin));
        let response = request.header("cookie", cookie).send().await;
        let mut listening = Listening::on(response.expect("an answer"));
        listening.until("tick", |_| true).await;
        listening
    };
    // By signing out, which ends one session and not the other.
    let (leaves, stays) = (sign_in(&gateway).await, sign_in(&gateway).await);
    let (mut left, mut kept) = (listen(&leaves).await, listen(&stays).await);
    let request = gateway
        .http
        .delete(format!("{}/admin/v1/session", gateway.admin))
        .header("cookie", &leaves)
        .header("origin", &gateway.admin)
        .header("x-portcullis-request", "1");
    assert_eq!(request.send().await.expect("an answer").status(), 204);
    left.ends().await;
    let rotated = gateway.rotate().await;
    kept.until("keys", |keys| keys["revision"] == rotated["revision"])
        .await;
    // By standing idle: listening is no activity.
    gateway.clock.advance(Duration::from_secs(31 * 60));
    kept.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_read_holds_up_nobody() {
    let gateway = Gateway::start(Options::default()).await;
    let mut silent = Vec::new();
    // One place of the token is left.
    for _ in 0..7 {
        let mut client = RawClient::connect(&gateway.admin).await;
        client
            .send(format!(
                "GET /admin/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {VIEWER}\r\n\r\n"
            ))
            .await;
        silent.push(client);
    }
    let mut listening = Listening::to(&gateway).await;
    for _ in 0..5 {
        let purged = gateway.purge().await;
        listening
            .until("keys", |keys| keys["revision"] == purged["revision"])
            .await;
        let token = gateway.token().await;
        assert_eq!(gateway.status(&token).await, 200);
    }
}
