//! What a purge answers when it cannot be over at once, and that nothing keeps it from executing:
//! a stuck worker is named, a caller that hangs up changes nothing, nobody else's work is waited
//! for.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod harness;

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use harness::raw::RawClient;
use harness::{ADMIN, CLIENT, Gateway, Options, PATIENCE, SECRET, eventually, faulty};
use portcullis::keys::Kid;
use portcullis::lifecycle::{Probe, Purpose, scheduler};
use portcullis::store::faulty_store::{Gate, Step, Trouble};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const ROTATE: &str = "/admin/v1/keys/rotate";
/// The drain's deadline is two seconds; what comes before and after it takes less than this.
const ANSWERED: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inv05_a_stuck_worker_is_named_and_the_receipt_turns_complete_when_it_lets_go() {
    let gateway = Gateway::start(Options::default()).await;
    let stuck = Stuck::watch(&gateway);
    for (purpose, name) in [
        (Purpose::Verify, "worker 1 (verify)"),
        (Purpose::Issue, "worker 1 (issue)"),
        (Purpose::Jwks, "worker 1 (jwks)"),
    ] {
        let request = stuck.hold(&gateway, purpose).await;
        let started = Instant::now();
        let (status, answer) = purge(&gateway).await;
        let took = started.elapsed();
        assert_eq!(status, 202, "{answer}");
        assert!(took < ANSWERED, "{took:?}");
        let names = answer["receipt"]["still_held_by"].as_array().unwrap();
        assert!(
            names.len() == 1 && names[0].as_str().unwrap().ends_with(name),
            "{names:?}"
        );
        let receipt = receipt(&gateway, &answer["rotation_id"]).await;
        assert_eq!(receipt["still_held_by"], answer["receipt"]["still_held_by"]);
        assert_eq!(
            (&receipt["complete"], &receipt["drained_at"]),
            (&json!(false), &Value::Null)
        );

        stuck.let_go();
        // It was accepted, or signed, before the purge, as the answer said.
        assert_eq!(request.await.unwrap(), 200);
        let receipt = complete(&gateway, &answer["rotation_id"]).await;
        assert_eq!(receipt["still_held_by"], json!([]));
        assert!(receipt["drained_at"].is_string(), "{receipt}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inv09_a_purge_executes_whatever_else_is_going_on() {
    let (gateway, store) = faulty::start(Options::default()).await;
    let stuck = Stuck::watch(&gateway);
    let executes = async |while_what: &str, status: u16| {
        let before = gateway.lifecycle.current_set();
        let started = Instant::now();
        let (got, answer) = tokio::time::timeout(PATIENCE, purge(&gateway))
            .await
            .unwrap_or_else(|_| panic!("no answer {while_what}"));
        let took = started.elapsed();
        assert_eq!(
            (got, &answer["changed"]),
            (status, &json!(true)),
            "{while_what}: {answer}"
        );
        assert!(took < ANSWERED, "{while_what}: {took:?}");
        let alive = gateway.lifecycle.current_set();
        for (_, old) in before.verifying() {
            assert!(
                alive.verifying().all(|(_, key)| key.kid != old.kid),
                "{while_what}"
            );
        }
        answer
    };

    gateway.rotate().await;
    executes("inside the window of a rotation", 200).await;
    executes("inside the window of a purge", 200).await;

    // Out of the window, so that the rotations below have something to do.
    gateway.clock.advance(Duration::from_secs(3600));
    for step in [Step::BeforeCommit, Step::Load] {
        let gate = Gate::closed();
        store.once(step, Trouble::Hold(gate.clone()));
        let rotation = rotate(&gateway);
        gate.reached(1).await;
        let answer = executes("while a rotation stands still in the store", 200).await;
        gate.open();
        // The rotation finds the purge, inside whose window it is now.
        let late = rotation.await.unwrap();
        assert_eq!(
            (&late["changed"], &late["rotation_id"]),
            (&json!(false), &answer["rotation_id"])
        );
        gateway.clock.advance(Duration::from_secs(3600));
    }

    let gate = Gate::closed();
    gateway.token().await;
    store.once(Step::SaveSide, Trouble::Hold(gate.clone()));
    let saving = tokio::spawn(scheduler::run(Arc::clone(&gateway.lifecycle), async {}));
    gate.reached(1).await;
    executes("while the counters are being saved", 200).await;
    gate.open();
    saving.await.unwrap();

    let request = stuck.hold(&gateway, Purpose::Verify).await;
    let first = executes("with a stuck worker", 202).await;
    let second = executes("while an earlier purge still drains", 202).await;
    assert_ne!(first["rotation_id"], second["rotation_id"]);
    stuck.let_go();
    assert_eq!(request.await.unwrap(), 200);
    for answer in [first, second] {
        complete(&gateway, &answer["rotation_id"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inv09_a_purge_whose_caller_hangs_up_runs_to_its_end() {
    let (gateway, store) = faulty::start(Options::default()).await;
    let stuck = Stuck::watch(&gateway);
    let token = gateway.token().await;

    let gate = Gate::closed();
    store.once(Step::BeforeCommit, Trouble::Hold(gate.clone()));
    let caller = purge_and_stay(&gateway).await;
    gate.reached(1).await;
    drop(caller);
    noticed(&gateway).await;
    gate.open();
    complete(&gateway, &purged(&gateway, 2).await).await;
    assert_eq!(gateway.status(&token).await, 401);

    let request = stuck.hold(&gateway, Purpose::Verify).await;
    let caller = purge_and_stay(&gateway).await;
    let id = purged(&gateway, 3).await;
    drop(caller);
    noticed(&gateway).await;
    stuck.let_go();
    assert_eq!(request.await.unwrap(), 200);
    complete(&gateway, &id).await;
}

/// Purges everything seen now; status and body of the answer.
async fn purge(gateway: &Gateway) -> (u16, Value) {
    let seen = gateway.lifecycle.current_set().revision;
    let body = json!({ "purge": true, "seen_revision": seen });
    gateway.admin_post(ROTATE, body).await
}

/// Sends a purge; the caller hangs up when what is returned is dropped.
async fn purge_and_stay(gateway: &Gateway) -> RawClient {
    let seen = gateway.lifecycle.current_set().revision;
    let body = json!({ "purge": true, "seen_revision": seen }).to_string();
    let mut client = RawClient::connect(&gateway.admin).await;
    let head = format!(
        "POST {ROTATE} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(head + &body).await;
    client
}

/// Gives a listener time to notice that a caller has hung up, if it looks: many round trips later.
async fn noticed(gateway: &Gateway) {
    for _ in 0..50 {
        gateway.admin_get("/admin/v1/keys").await;
    }
}

/// The id of the last purge, as soon as the published set has that revision.
async fn purged(gateway: &Gateway, revision: u64) -> Value {
    eventually("the purge is published", || async {
        let (_, keys) = gateway.admin_get("/admin/v1/keys").await;
        (keys["revision"] == revision).then(|| keys["last_rotation"]["rotation_id"].clone())
    })
    .await
}

fn rotate(gateway: &Gateway) -> JoinHandle<Value> {
    let request = gateway
        .http
        .post(format!("{}{ROTATE}", gateway.admin))
        .bearer_auth(ADMIN)
        .json(&json!({}));
    tokio::spawn(async move { request.send().await.unwrap().json().await.unwrap() })
}

async fn receipt(gateway: &Gateway, id: &Value) -> Value {
    let path = format!("/admin/v1/keys/purges/{}", id.as_str().unwrap());
    gateway.admin_get(&path).await.1
}

/// The receipt when it is complete; it may come a moment after what was committed shows.
async fn complete(gateway: &Gateway, id: &Value) -> Value {
    eventually("the receipt is complete", || async {
        let receipt = receipt(gateway, id).await;
        (receipt["complete"] == true).then_some(receipt)
    })
    .await
}

/// Makes one request of a purpose stand still in worker 1, holding its snapshot.
#[derive(Debug, Default)]
struct Stuck {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Idle,
    Waiting(Purpose),
    Holding,
}

impl Stuck {
    fn watch(gateway: &Gateway) -> Arc<Self> {
        let stuck = Arc::<Self>::default();
        gateway.lifecycle.testing_probe(Arc::<Self>::clone(&stuck));
        stuck
    }

    /// Sends a request and returns when it stands still; what it is answered in the end.
    async fn hold(&self, gateway: &Gateway, purpose: Purpose) -> JoinHandle<u16> {
        let (http, worker) = (&gateway.http, &gateway.workers[1]);
        let request = match purpose {
            Purpose::Verify => {
                let token = gateway.token().await;
                http.get(format!("{worker}/hello")).bearer_auth(token)
            }
            Purpose::Issue => http
                .post(format!("{worker}/oauth2/token"))
                .basic_auth(CLIENT, Some(SECRET))
                .form(&[("grant_type", "client_credentials")]),
            Purpose::Jwks => http.get(format!("{worker}/.well-known/jwks.json")),
        };
        *self.state.lock().unwrap() = State::Waiting(purpose);
        let sent = async move { request.send().await.unwrap().status().as_u16() };
        let sent = tokio::spawn(sent);
        eventually("the request stands still", || async {
            (*self.state.lock().unwrap() == State::Holding).then_some(())
        })
        .await;
        sent
    }

    fn let_go(&self) {
        *self.state.lock().unwrap() = State::Idle;
        self.changed.notify_all();
    }
}

impl Probe for Stuck {
    fn completing(&self, _worker: usize, purpose: Purpose, _kid: &Kid) {
        {
            let mut state = self.state.lock().unwrap();
            if *state != State::Waiting(purpose) {
                return;
            }
            *state = State::Holding;
        }
        // The listeners of this harness share the test's runtime, which must go on meanwhile.
        tokio::task::block_in_place(|| {
            let state = self.state.lock().unwrap();
            let held = |state: &mut State| *state == State::Holding;
            drop(self.changed.wait_timeout_while(state, PATIENCE, held));
        });
    }

    fn completed(&self, _worker: usize, _purpose: Purpose, _kid: &Kid) {}

    fn answering(&self, _kids: &[Kid]) {}
}
