//! The life cycle driven by a clock that the test moves: the schedule, the idempotency window,
//! retirement, tombstones, a change of algorithm.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::{Gateway, Options, eventually, kid};
use portcullis::clock::{Clock as _, Timestamp};
use portcullis::keygen::{GeneratedKey, KeyGenerator, KeygenError};
use portcullis::keys::{Algorithm, Event, KeySet};
use portcullis::lifecycle::{Lifecycle, LifecycleError, Parts, Policy, scheduler};
use portcullis::store::KeyStore;
use portcullis::telemetry::{Metrics, MetricsLabels};
use portcullis::testing::ManualClock;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn gateway() -> Gateway {
    Gateway::start(Options::default()).await
}

fn active(gateway: &Gateway) -> String {
    gateway.active_kid()
}

async fn tick(gateway: &Gateway) -> Timestamp {
    gateway.lifecycle.tick().await.expect("what is due is done")
}

fn tombstones(gateway: &Gateway) -> usize {
    gateway.lifecycle.current_set().tombstones.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_rotates_retires_and_forgets() {
    let gateway = gateway().await;
    let start = gateway.clock.now();
    let first = active(&gateway);
    assert_eq!(
        tick(&gateway).await,
        start.plus(DAY),
        "nothing is due before the interval is over"
    );
    gateway.clock.advance(DAY - Duration::from_millis(1));
    let token = gateway.token().await;
    tick(&gateway).await;
    assert_eq!(active(&gateway), first);

    gateway.clock.advance(Duration::from_millis(1));
    tick(&gateway).await;
    assert_ne!(active(&gateway), first);
    let set = gateway.lifecycle.current_set();
    assert_eq!((set.revision, set.last_event.event), (2, Event::Rotate));
    assert_eq!(
        serde_json::to_value(&set.last_event.actor).expect("JSON"),
        json!({ "kind": "scheduler" })
    );
    assert_eq!(gateway.status(&token).await, 200);
    let labels = [
        ("trigger", "automatic"),
        ("kind", "rotate"),
        ("result", "success"),
    ];
    assert_eq!(
        gateway
            .metric("portcullis_key_rotations_total", &labels)
            .await,
        1.0
    );
    assert_eq!(
        gateway
            .metric("portcullis_key_next_rotation_timestamp_seconds", &[])
            .await,
        start.plus(2 * DAY).as_seconds_f64()
    );
    // An automatic rotation opens the window too.
    assert_eq!(gateway.rotate().await["changed"], false);

    // The key verifies until the longest token that it can have signed has run out.
    let verify_until = set.deprecated[0].verify_until;
    assert_eq!(
        verify_until,
        start.plus(DAY + HOUR + Duration::from_secs(65))
    );
    gateway
        .clock
        .set(start.plus(DAY - Duration::from_millis(1) + HOUR));
    assert_eq!(gateway.status(&token).await, 200, "within the leeway");
    gateway
        .clock
        .set(Timestamp::from_millis(verify_until.as_millis() - 1));
    assert_eq!(tick(&gateway).await, verify_until);
    assert_eq!(
        gateway
            .metric("portcullis_signing_keys", &[("state", "deprecated")])
            .await,
        1.0
    );
    gateway.clock.set(verify_until);
    tick(&gateway).await;
    assert_eq!(
        gateway
            .metric("portcullis_signing_keys", &[("state", "deprecated")])
            .await,
        0.0
    );
    assert_eq!(
        gateway
            .metric("portcullis_signing_keys", &[("state", "retired")])
            .await,
        1.0
    );
    assert!(!String::from_utf8_lossy(&gateway.jwks().await).contains(&first));
    assert_eq!(gateway.get("/hello", &token).await.status(), 401);
    assert_eq!(
        gateway
            .metric("portcullis_lifecycle_violations_total", &[])
            .await,
        0.0
    );

    gateway.clock.set(Timestamp::from_millis(
        verify_until.plus(DAY).as_millis() - 1,
    ));
    tick(&gateway).await;
    let of_first = |set: KeySet| set.tombstones.iter().any(|dead| dead.kid.as_str() == first);
    assert!(
        of_first(gateway.lifecycle.current_set()),
        "the second rotation happened, the tombstone stays"
    );
    gateway.clock.set(verify_until.plus(DAY));
    tick(&gateway).await;
    assert!(!of_first(gateway.lifecycle.current_set()), "forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_due_for_long_is_done_once() {
    let gateway = gateway().await;
    gateway.clock.advance(10 * DAY);
    tick(&gateway).await;
    assert_eq!(
        gateway.lifecycle.current_set().revision,
        2,
        "one rotation, not ten"
    );
    assert_eq!(
        tick(&gateway).await.as_millis(),
        gateway.lifecycle.current_set().deprecated[0]
            .verify_until
            .as_millis()
    );
    assert_eq!(gateway.lifecycle.current_set().revision, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv10_the_window_holds_for_ten_minutes_whatever_the_clock_does() {
    let gateway = gateway().await;
    let first = gateway.rotate().await;
    let (at, jwks) = (gateway.clock.now(), gateway.jwks().await);
    let window = Duration::from_secs(600);
    for moment in [
        at,
        at.plus(MINUTE),
        Timestamp::from_millis(at.plus(window).as_millis() - 1),
        // Backwards, even before the rotation: neither reopened nor prolonged.
        at.minus(HOUR),
        at.minus(1000 * DAY),
    ] {
        gateway.clock.set(moment);
        let again = gateway.rotate().await;
        assert_eq!(again["changed"], false, "{moment}");
        for same in [
            "rotation_id",
            "revision",
            "keys",
            "at",
            "idempotency_window_until",
        ] {
            assert_eq!(again[same], first[same], "{same} at {moment}");
        }
        assert_eq!(gateway.jwks().await, jwks);
    }
    assert_eq!(
        first["idempotency_window_until"],
        at.plus(window).to_string()
    );
    gateway.clock.set(at.plus(window));
    let second = gateway.rotate().await;
    assert_eq!(second["changed"], true);
    assert_ne!(second["rotation_id"], first["rotation_id"]);
    assert_eq!(second["replaced"], first["activated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_not_swallowed_by_the_window_of_a_rotation() {
    let gateway = gateway().await;
    let rotation = gateway.rotate().await;
    let token = gateway.token().await;
    let purge = gateway.purge().await;
    assert_eq!(
        (&purge["changed"], &purge["replaced"]),
        (&json!(true), &rotation["activated"])
    );
    assert_eq!(
        gateway.status(&token).await,
        401,
        "it also kills the key just made"
    );
    assert_eq!(
        gateway.rotate().await["rotation_id"],
        purge["rotation_id"],
        "and opens a window of its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_of_a_purge_classify_for_a_week_and_are_then_forgotten() {
    let keys = "  rotation_interval: 30d".to_owned();
    let gateway = Gateway::start(Options {
        keys,
        token_ttl: "24h",
        ..Options::default()
    })
    .await;
    let old = gateway.token().await;
    gateway.purge().await;
    let purged_at = gateway.clock.now();
    assert_eq!(gateway.status(&old).await, 401);
    let name = "portcullis_purge_verification_failures_total";
    let series = [("kid", &*kid(&old))];
    assert_eq!(gateway.metric(name, &series).await, 1.0);
    gateway.clock.set(Timestamp::from_millis(
        purged_at.plus(7 * DAY).as_millis() - 1,
    ));
    tick(&gateway).await;
    assert_eq!(tombstones(&gateway), 2, "the pending key died too");
    assert_eq!(
        gateway.metric(name, &series).await,
        1.0,
        "the series stays as long as the tombstone"
    );
    gateway.clock.set(purged_at.plus(7 * DAY));
    tick(&gateway).await;
    assert_eq!(tombstones(&gateway), 0);
    assert_eq!(
        harness::metrics::sum(&gateway.scrape().await, name, &series),
        0.0
    );
    assert!(
        !gateway.scrape().await.contains(&kid(&old)),
        "an ended series just ends"
    );
    assert_eq!(
        gateway.lifecycle.current_set().last_event.event,
        Event::Retire
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_has_its_line_in_the_log_and_the_audit() {
    let gateway = gateway().await;
    gateway.rotate().await;
    gateway.purge().await;
    gateway.clock.advance(7 * DAY);
    tick(&gateway).await;
    let records = gateway.env.store.audit_tail(10).await.expect("the audit");
    let revisions: Vec<u64> = records.iter().map(|record| record.revision).collect();
    assert_eq!(revisions, [1, 2, 3, 4, 5]);
    let events: Vec<Event> = records.iter().map(|record| record.event).collect();
    assert_eq!(
        events,
        [
            Event::Bootstrap,
            Event::Rotate,
            Event::RotateAndPurge,
            Event::Retire,
            Event::Rotate
        ]
    );
    let lines = gateway.log.lines();
    let shown: Vec<u64> = lines
        .iter()
        .filter(|line| line["event"] == "key_set_published")
        .map(|line| line["revision"].as_u64().expect("a revision"))
        .collect();
    assert_eq!(shown, [1, 2, 3, 4, 5]);
}

/// Another process's life cycle over the same store, with a configuration of its own.
async fn another(
    gateway: &Gateway,
    change: impl FnOnce(&mut Policy),
) -> Result<Arc<Lifecycle>, LifecycleError> {
    another_with(gateway, Arc::clone(&gateway.env.keygen), change).await
}

async fn another_with(
    gateway: &Gateway,
    keygen: Arc<dyn KeyGenerator>,
    change: impl FnOnce(&mut Policy),
) -> Result<Arc<Lifecycle>, LifecycleError> {
    let labels = MetricsLabels {
        version: "test",
        routes: &[],
        upstreams: &[],
        admin_endpoints: &[],
        workers: &[],
    };
    let parts = Parts {
        store: Arc::clone(&gateway.env.store),
        keygen,
        keyring: Arc::clone(&gateway.env.keyring),
        clock: Arc::clone(&gateway.env.clock),
        metrics: Arc::new(Metrics::new(&labels).expect("metrics")),
        log: gateway.env.log.clone(),
    };
    let mut policy = Policy {
        issuer: gateway.config.issuer.url.clone(),
        algorithm: Algorithm::Es256,
        timing: gateway.config.keys.timing.clone(),
        audience: gateway.config.issuer.audience.clone(),
        token_cache: gateway.config.server.token_cache,
    };
    change(&mut policy);
    Lifecycle::start(parts, policy, vec!["worker".to_owned()]).await
}

fn manual() -> portcullis::keys::transition::Order {
    Lifecycle::order(portcullis::keys::Actor::Admin("test".to_owned()), None)
}

/// Takes a minute for a key.
#[derive(Debug)]
struct SlowKeys(Arc<ManualClock>, Arc<dyn KeyGenerator>);

impl KeyGenerator for SlowKeys {
    fn generate(&self, alg: Algorithm) -> Result<GeneratedKey, KeygenError> {
        self.0.advance(MINUTE);
        self.1.generate(alg)
    }
}

/// While a key is being made the old one signs: what it signs then must not outlive it, and is no
/// thief's work.
#[tokio::test(flavor = "multi_thread")]
async fn inv04_a_rotation_is_dated_after_its_keys_were_made() {
    let gateway = gateway().await;
    let keys = SlowKeys(Arc::clone(&gateway.clock), Arc::clone(&gateway.env.keygen));
    let lifecycle = another_with(&gateway, Arc::new(keys), |_policy| ()).await;
    let lifecycle = lifecycle.expect("it starts");
    let start = gateway.clock.now();
    let rotated = lifecycle.rotate(&manual()).await.expect("it rotates");
    let old = &rotated.set.deprecated[0];
    assert_eq!(old.deprecated_at, start.plus(MINUTE));
    assert_eq!(
        old.verify_until,
        start.plus(MINUTE + HOUR + Duration::from_secs(65))
    );
    let purged = lifecycle.purge(&manual(), rotated.set.revision).await;
    let purged = purged.expect("it purges");
    let died = purged.set.tombstones.iter().map(|dead| dead.died_at);
    assert_eq!(died.collect::<Vec<_>>(), [start.plus(3 * MINUTE); 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_algorithm_replaces_the_pending_key_which_must_stand_published_first() {
    let gateway = gateway().await;
    let before = gateway.lifecycle.current_set();
    let now_eddsa = another(&gateway, |policy| policy.algorithm = Algorithm::EdDsa)
        .await
        .expect("it starts");
    let set = now_eddsa.current_set();
    assert_eq!(
        (set.revision, set.last_event.event),
        (2, Event::ReplacePending)
    );
    assert_eq!(set.active, before.active, "the active key goes on");
    assert_eq!(set.pending.public.alg, Algorithm::EdDsa);
    assert!(set.tombstones.is_empty(), "it never signed");

    // R1–R3: a verifier may hold a JWKS answer without it for that long.
    let error = now_eddsa
        .rotate(&manual())
        .await
        .expect_err("too young")
        .to_string();
    let ready_at = gateway.clock.now().plus(10 * MINUTE).to_string();
    assert!(
        error.contains("published too recently") && error.contains(&ready_at),
        "{error}"
    );
    gateway
        .clock
        .advance(10 * MINUTE - Duration::from_millis(1));
    now_eddsa
        .rotate(&manual())
        .await
        .expect_err("still too young");
    gateway.clock.advance(Duration::from_millis(1));
    let rotated = now_eddsa.rotate(&manual()).await.expect("ready");
    assert_eq!(rotated.set.active.public.alg, Algorithm::EdDsa);
    assert_eq!(
        rotated.set.deprecated[0].public.alg,
        Algorithm::Es256,
        "which still verifies"
    );

    // Started again with the same algorithm: nothing to do.
    let again = another(&gateway, |policy| policy.algorithm = Algorithm::EdDsa)
        .await
        .expect("it starts");
    assert_eq!(again.current_set().revision, rotated.set.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv04_a_longer_token_life_is_committed_before_it_is_granted() {
    let gateway = gateway().await;
    let longer = another(&gateway, |policy| policy.timing.max_token_ttl = 2 * HOUR)
        .await
        .expect("it starts");
    let set = longer.current_set();
    assert_eq!(
        (set.revision, set.last_event.event),
        (2, Event::RaiseMaxTtl)
    );
    assert_eq!(set.active.public.max_ttl, 2 * HOUR);
    let rotated = longer.rotate(&manual()).await.expect("it rotates").set;
    let expected = gateway.clock.now().plus(2 * HOUR + Duration::from_secs(65));
    assert_eq!(rotated.deprecated[0].verify_until, expected);

    // A shorter one leaves the key its promise.
    let shorter = another(&gateway, |policy| policy.timing.max_token_ttl = MINUTE)
        .await
        .expect("it starts");
    assert_eq!(shorter.current_set().active.public.max_ttl, 2 * HOUR);
    assert_eq!(
        shorter.current_set().deprecated[0].verify_until,
        expected,
        "stored, never recomputed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn inv12_starting_never_creates_a_key_set() {
    let gateway = gateway().await;
    let empty: Arc<dyn KeyStore> = Arc::new(portcullis::store::MemoryStore::empty(Arc::clone(
        &gateway.env.clock,
    )));
    let env = portcullis::app::Env {
        store: Arc::clone(&empty),
        ..gateway.env.clone()
    };
    let error = portcullis::app::App::build(&gateway.config, env, Arc::new(|| false)).await;
    assert!(error.is_err(), "it does not start");
    assert!(empty.load().await.is_err(), "and nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_schedule_does_what_ticks_do_and_survives_failures() {
    use portcullis::store::faulty_store::{FaultyStore, Step, Trouble};
    let slot: Arc<std::sync::Mutex<Option<Arc<FaultyStore>>>> = Arc::default();
    let made = Arc::clone(&slot);
    let wrap = Box::new(move |inner| {
        let store = Arc::new(FaultyStore::new(inner));
        *made.lock().expect("no panic before") = Some(Arc::clone(&store));
        store as Arc<dyn KeyStore>
    });
    let gateway = Gateway::start(Options {
        wrap,
        ..Options::default()
    })
    .await;
    let store = slot
        .lock()
        .expect("no panic before")
        .take()
        .expect("it was wrapped");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(scheduler::run(Arc::clone(&gateway.lifecycle), async move {
        let _ended = stopped.await;
    }));

    store.always(Step::BeforeCommit, Trouble::Fail);
    gateway.clock.advance(DAY);
    let failures = || {
        gateway
            .log
            .lines()
            .into_iter()
            .filter(|line| line["event"] == "schedule_failed")
            .count()
    };
    eventually("the failure is reported", || async {
        (failures() == 1).then_some(())
    })
    .await;
    assert_eq!(gateway.lifecycle.current_set().revision, 1);
    store.heal();
    eventually("the rotation is made up for", || async {
        (gateway.lifecycle.current_set().revision == 2).then_some(())
    })
    .await;
    assert_eq!(failures(), 1, "one line for a row of failures");
    drop(stop);
    running.await.expect("the schedule ends");
}
