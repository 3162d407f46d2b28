//! What a wall clock that steps does to the life cycle, through the real schedule and listeners.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{Gateway, OPERATOR, Options, VIEWER};
use portcullis::clock::{Clock, STABLE_AFTER, StepReport, Timestamp};
use portcullis::keys::{Event, KeySet};
use portcullis::lifecycle::{Lifecycle, Parts, Policy};
use portcullis::store::KeyStore;
use portcullis::store::faulty_store::{FaultyStore, Gate, Step, Trouble};
use portcullis::telemetry::{Metrics, MetricsLabels};
use portcullis::testing::ManualClock;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const CONFIRM: &str = "/admin/v1/clock/confirm";

/// A gateway that sees the clock as a real one, with a deprecated key that an hour retires.
async fn gateway() -> Gateway {
    let gateway = Gateway::start(Options {
        steady_clock: true,
        ..Options::default()
    })
    .await;
    gateway.rotate().await;
    tick(&gateway).await;
    gateway
}

async fn tick(gateway: &Gateway) {
    gateway.lifecycle.tick().await.expect("what is due is done");
}

fn set(gateway: &Gateway) -> KeySet {
    gateway.lifecycle.current_set()
}

fn step(gateway: &Gateway, by: Duration) {
    gateway.clock.set(gateway.clock.now().plus(by));
}

async fn paused(gateway: &Gateway) -> Value {
    let (status, answer) = gateway.admin_get("/admin/v1/keys").await;
    assert_eq!(status, 200);
    answer["schedule_paused"].clone()
}

async fn confirm_as(gateway: &Gateway, token: &str, body: Value) -> (u16, Value) {
    let request = gateway
        .http
        .post(format!("{}{CONFIRM}", gateway.admin))
        .bearer_auth(token)
        .json(&body);
    let response = request.send().await.expect("the admin listener answers");
    (
        response.status().as_u16(),
        response.json().await.expect("JSON"),
    )
}

fn lines(gateway: &Gateway, event: &str) -> Vec<Value> {
    let mut lines = gateway.log.lines();
    lines.retain(|line| line["event"] == event);
    lines
}

async fn gauge(gateway: &Gateway) -> f64 {
    gateway
        .metric("portcullis_clock_step_pending_seconds", &[])
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn inv14_a_forward_step_retires_and_rotates_nothing_until_it_is_confirmed() {
    let start = Timestamp::from_seconds;
    let now = gateway().await.clock.now();
    for target in [
        now.plus(2 * HOUR),
        now.plus(DAY),
        now.plus(9 * DAY),
        // Beyond 31 and 32 bits of seconds.
        start(2_147_483_648),
        start(4_294_967_296),
        start(6_000_000_000),
    ] {
        let gateway = gateway().await;
        let token = gateway.token().await;
        let before = set(&gateway);
        let jwks = gateway.jwks().await;
        let size = target.since(gateway.clock.now());
        gateway.clock.set(target);
        for _ in 0..3 {
            tick(&gateway).await;
            assert_eq!(set(&gateway), before, "nothing happens at {target}");
            gateway.clock.advance(100 * SECOND);
        }
        assert_eq!(gateway.jwks().await, jwks);
        assert_eq!(gateway.status(&token).await, 401, "it fails closed");
        assert_eq!(gateway.status(&gateway.token().await).await, 200);

        let pause = paused(&gateway).await;
        assert_eq!(pause["since"], target.to_string());
        assert_eq!(pause["step_seconds"], size.as_secs());
        assert_eq!(pause["resumes_at"], target.plus(STABLE_AFTER).to_string());
        assert_eq!(pause["now"], gateway.clock.now().to_string());
        assert_eq!(gauge(&gateway).await, size.as_secs_f64());
        let stepped = lines(&gateway, "clock_stepped");
        assert_eq!(stepped.len(), 1, "one line: {stepped:?}");
        assert_eq!(stepped[0]["step_seconds"], size.as_secs());
        assert!(stepped[0]["log_id"].is_string());

        let (status, answer) = confirm_as(&gateway, OPERATOR, json!({})).await;
        assert_eq!((status, &answer["changed"]), (200, &json!(true)));
        assert_eq!(answer["confirmed"]["since"], pause["since"]);
        tick(&gateway).await;
        let after = set(&gateway);
        assert!(after.revision > before.revision, "what was due is done");
        assert!(
            after
                .deprecated
                .iter()
                .all(|key| key.public.kid != before.deprecated[0].public.kid),
            "retired"
        );
        if size >= DAY {
            assert_ne!(after.active, before.active, "rotated");
        }
        assert_eq!(paused(&gateway).await, Value::Null);
        assert_eq!(gauge(&gateway).await, 0.0);
        let over = lines(&gateway, "clock_step_over");
        assert_eq!(over.len(), 1, "{over:?}");
        assert_eq!(
            (&over[0]["how"], &over[0]["actor"]),
            (&json!("confirmed"), &json!("ops"))
        );
        let (status, answer) = confirm_as(&gateway, OPERATOR, json!({})).await;
        assert_eq!((status, &answer["changed"]), (200, &json!(false)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv14_a_step_in_the_middle_of_a_retirement_retires_nothing_more() {
    let slot: Arc<Mutex<Option<Arc<FaultyStore>>>> = Arc::default();
    let made = Arc::clone(&slot);
    let wrap = Box::new(move |inner| {
        let store = Arc::new(FaultyStore::new(inner));
        *made.lock().expect("no panic before") = Some(Arc::clone(&store));
        store as Arc<dyn KeyStore>
    });
    let gateway = Gateway::start(Options {
        steady_clock: true,
        wrap,
        ..Options::default()
    })
    .await;
    let store = slot.lock().expect("no panic before").take();
    let store = store.expect("it was wrapped");
    gateway.rotate().await;
    let first = set(&gateway).deprecated[0].clone();
    gateway.clock.advance(HOUR / 2);
    gateway.rotate().await;
    let before = set(&gateway);

    // The first key is due. Between the look at the clock and the store's own the clock steps.
    gateway
        .clock
        .advance(first.verify_until.since(gateway.clock.now()));
    let gate = Gate::closed();
    store.once(Step::Load, Trouble::Hold(gate.clone()));
    let lifecycle = Arc::clone(&gateway.lifecycle);
    let ticking = tokio::spawn(async move { lifecycle.tick().await });
    gate.reached(1).await;
    step(&gateway, 2 * DAY);
    gate.open();
    ticking.await.expect("no panic").expect("it ticks");
    let after = set(&gateway);
    assert_eq!(
        after.deprecated,
        before.deprecated[..1],
        "the other key stays"
    );
    assert_eq!(after.tombstones.len(), 1);
    assert_eq!(after.active, before.active, "nothing was rotated");
    tick(&gateway).await;
    assert_eq!(set(&gateway), after);
}

/// Wall time is put right just before every look for steps.
#[derive(Debug)]
struct PutRight {
    steady: Arc<dyn Clock>,
    wall: Arc<ManualClock>,
    right: Timestamp,
}

impl Clock for PutRight {
    fn now(&self) -> Timestamp {
        self.steady.now()
    }

    fn step_report(&self) -> StepReport {
        self.wall.set(self.right);
        self.steady.step_report()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv14_a_step_taken_back_in_the_middle_of_a_tick_does_nothing() {
    let gateway = gateway().await;
    // Past the idempotency window, which would hide a rotation that comes too early.
    gateway.clock.advance(HOUR / 2);
    let labels = MetricsLabels::default();
    let parts = Parts {
        store: Arc::clone(&gateway.env.store),
        keygen: Arc::clone(&gateway.env.keygen),
        keyring: Arc::clone(&gateway.env.keyring),
        clock: Arc::new(PutRight {
            steady: Arc::clone(&gateway.env.clock),
            wall: Arc::clone(&gateway.clock),
            right: gateway.clock.now(),
        }),
        metrics: Arc::new(Metrics::new(&labels).expect("metrics")),
        log: gateway.env.log.clone(),
    };
    let policy = Policy {
        issuer: gateway.config.issuer.url.clone(),
        algorithm: gateway.config.issuer.algorithm,
        timing: gateway.config.keys.timing.clone(),
        audience: gateway.config.issuer.audience.clone(),
        token_cache: gateway.config.server.token_cache,
    };
    let workers = vec!["worker".to_owned()];
    let lifecycle = Lifecycle::start(parts, policy, workers).await;
    let lifecycle = lifecycle.expect("it starts");
    let before = lifecycle.current_set();
    step(&gateway, 2 * DAY);
    paused(&gateway).await;
    lifecycle.tick().await.expect("it ticks");
    assert_eq!(lifecycle.current_set(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv14_ten_minutes_without_another_step_confirm_it() {
    let gateway = gateway().await;
    let before = set(&gateway);
    step(&gateway, 2 * HOUR);
    tick(&gateway).await;
    gateway
        .clock
        .advance(STABLE_AFTER - Duration::from_millis(1));
    tick(&gateway).await;
    assert_eq!(set(&gateway), before);
    gateway.clock.advance(Duration::from_millis(1));
    tick(&gateway).await;
    assert_eq!(set(&gateway).last_event.event, Event::Retire);
    assert_eq!(lines(&gateway, "clock_step_over")[0]["how"], "stable");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv14_a_step_taken_back_leaves_no_trace_on_keys_and_tokens() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    let before = set(&gateway);
    step(&gateway, 400 * DAY);
    tick(&gateway).await;
    assert_eq!(gateway.status(&token).await, 401);
    let from_the_future = gateway.token().await;
    gateway.clock.advance(SECOND);
    gateway.clock.set(gateway.clock.now().minus(400 * DAY));
    tick(&gateway).await;
    assert_eq!(set(&gateway), before);
    assert_eq!(paused(&gateway).await, Value::Null);
    assert_eq!(gateway.status(&token).await, 200, "good again");
    assert_eq!(gateway.status(&from_the_future).await, 401);
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
    assert_eq!(lines(&gateway, "clock_step_over")[0]["how"], "reverted");
    // Time goes on from where it really is.
    gateway.clock.advance(HOUR + 63 * SECOND);
    tick(&gateway).await;
    assert_eq!(set(&gateway), before);
    gateway.clock.advance(2 * SECOND);
    tick(&gateway).await;
    assert_eq!(set(&gateway).last_event.event, Event::Retire);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv14_rotate_and_purge_never_wait() {
    let gateway = gateway().await;
    let deprecated = set(&gateway).deprecated[0].public.kid.clone();
    step(&gateway, DAY);
    tick(&gateway).await;
    let rotated = gateway.rotate().await;
    assert_eq!(rotated["changed"], true, "the window is over by this clock");
    assert_eq!(rotated["at"], gateway.clock.now().to_string());
    assert!(
        set(&gateway)
            .deprecated
            .iter()
            .any(|key| key.public.kid == deprecated)
    );
    let token = gateway.token().await;
    let purged = gateway.purge().await;
    assert_eq!(purged["changed"], true);
    assert_eq!(gateway.status(&token).await, 401);
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
    assert!(
        !paused(&gateway).await.is_null(),
        "the schedule still waits"
    );

    // What was committed is never undercut, and no purged key comes back with the old time.
    let after = set(&gateway);
    let at = gateway.clock.now();
    gateway.clock.set(at.minus(DAY));
    tick(&gateway).await;
    assert_eq!(set(&gateway), after);
    assert_eq!(gateway.env.clock.now(), at);
    assert_eq!(gateway.status(&token).await, 401);
    assert_eq!(gateway.rotate().await["rotation_id"], purged["rotation_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv14_a_step_back_changes_nothing_at_all() {
    for back in [HOUR, DAY, 20_000 * DAY] {
        let gateway = gateway().await;
        let (token, before, at) = (gateway.token().await, set(&gateway), gateway.clock.now());
        gateway.clock.set(at.minus(back));
        for _ in 0..3 {
            tick(&gateway).await;
            assert_eq!(set(&gateway), before);
            assert_eq!(gateway.status(&token).await, 200);
            gateway.clock.advance(SECOND);
        }
        assert_eq!(gateway.env.clock.now(), at.plus(3 * SECOND));
        assert_eq!(paused(&gateway).await, Value::Null);
        // Corrected: the gateway was never away, so that is no step either.
        gateway.clock.set(at.plus(3 * SECOND));
        tick(&gateway).await;
        assert_eq!(paused(&gateway).await, Value::Null);
        assert_eq!(set(&gateway), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_step_that_was_seen_is_confirmed_and_only_by_an_operator() {
    let gateway = gateway().await;
    step(&gateway, DAY);
    let seen = paused(&gateway).await;
    let since = json!({ "since": seen["since"] });
    let (status, answer) = confirm_as(&gateway, VIEWER, since.clone()).await;
    assert_eq!((status, &answer["code"]), (403, &json!("ROLE")));
    for bad in [
        json!({ "since": null }),
        json!({ "since": 1 }),
        json!({ "force": true }),
    ] {
        let (status, answer) = confirm_as(&gateway, OPERATOR, bad).await;
        assert_eq!((status, &answer["code"]), (400, &json!("BAD_BODY")));
    }
    step(&gateway, DAY);
    let (status, answer) = confirm_as(&gateway, OPERATOR, since).await;
    assert_eq!(
        (status, &answer["code"]),
        (409, &json!("CLOCK_STEPPED_AGAIN")),
        "{answer}"
    );
    let again = paused(&gateway).await;
    assert!(
        answer["detail"]
            .as_str()
            .expect("text")
            .contains(again["since"].as_str().expect("text"))
    );
    assert_eq!(again["step_seconds"], 2 * DAY.as_secs());
    assert_eq!(lines(&gateway, "clock_stepped").len(), 2);
    let (status, _) = confirm_as(&gateway, OPERATOR, json!({ "since": again["since"] })).await;
    assert_eq!(status, 200);
    let labels = [("endpoint", "clock_confirm"), ("code", "4xx")];
    assert_eq!(
        gateway
            .metric("portcullis_admin_requests_total", &labels)
            .await,
        5.0
    );
}

/// Runs a verb of `keys` against the gateway, as an operator without a terminal.
fn keys(gateway: &Gateway, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("keys")
        .args(arguments)
        .args(["--admin-url", &gateway.admin, "--token-file"])
        .arg(gateway.dir.path().join("secrets/operator"))
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_pause_and_confirms_the_clock() {
    let gateway = gateway().await;
    let out = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let nothing = keys(&gateway, &["confirm-clock"]);
    assert_eq!(nothing.status.code(), Some(0), "{nothing:?}");
    assert!(out(&nothing).contains("nothing to confirm"));
    assert!(!out(&keys(&gateway, &["list"])).contains("PAUSED"));

    step(&gateway, DAY);
    tick(&gateway).await;
    let list = out(&keys(&gateway, &["list"]));
    assert!(
        list.contains("PAUSED: the clock stepped forward by 86400 s"),
        "{list}"
    );
    assert!(list.contains("confirm-clock"), "{list}");
    let asks = keys(&gateway, &["confirm-clock"]);
    assert_eq!(asks.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&asks.stderr).contains("add --yes"));
    assert!(!paused(&gateway).await.is_null());

    let done = keys(&gateway, &["confirm-clock", "--yes", "--output", "json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let answer: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(answer["changed"], true);
    assert_eq!(answer["confirmed"]["step_seconds"], 86400);
    assert!(paused(&gateway).await.is_null());

    let help = out(&keys(&gateway, &["confirm-clock", "--help"]));
    for taught in [
        "300 seconds",
        "ten minutes",
        "set it back",
        "never goes back",
    ] {
        assert!(help.contains(taught), "{taught}: {help}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv19_a_step_taken_back_makes_no_preview_too_low() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    step(&gateway, DAY);
    gateway.lifecycle.save_side_documents().await;
    gateway.clock.set(Timestamp::from_millis(
        gateway.clock.now().as_millis() - 86_400_000,
    ));
    assert_eq!(paused(&gateway).await, Value::Null, "taken back");
    assert_eq!(gateway.status(&token).await, 200);
    // A preview is taken anew after a second.
    gateway.clock.advance(Duration::from_secs(2));
    let (_, preview) = gateway.admin_get("/admin/v1/keys/preview").await;
    assert_eq!(preview["live_tokens"], 1, "{preview}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_shows_by_how_much_until_it_has_caught_up() {
    let gateway = gateway().await;
    let offset = async || {
        tick(&gateway).await;
        gateway.metric("portcullis_clock_offset_seconds", &[]).await
    };
    assert_eq!(offset().await, 0.0);
    let was = gateway.clock.now();
    gateway.clock.set(was.minus(HOUR));
    assert_eq!(offset().await, 3600.0);
    // Time that passes leaves it as it is; a clock that is put right ends it.
    gateway.clock.advance(60 * SECOND);
    assert_eq!(offset().await, 3600.0);
    gateway.clock.set(was.plus(60 * SECOND));
    assert_eq!(offset().await, 0.0);
}
