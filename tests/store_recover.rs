//! A key set that was tampered with, lost, damaged, or written by another version: what a running
//! gateway does about it, what stops a start, and what `portcullis store recover` makes of it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod harness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harness::disk::{Contents, contents, set_mode};
use harness::process::{Setup, free_ports};
use harness::upstream::Upstream;
use harness::{Gateway, Options, Process, kid, without_activity};
use portcullis::clock::Timestamp;
use portcullis::keygen::{KeyGenerator as _, RingKeyGenerator};
use portcullis::keys::timing::Timing;
use portcullis::keys::transition::{self, Order};
use portcullis::keys::{Actor, Algorithm, Event, KeySet, KeyState, SCHEMA, Trigger};
use portcullis::store::conformance::Samples;
use portcullis::store::faulty_layer::{Effect, Fault, FaultyLayer};
use portcullis::store::file_layer::FileLayer;
use portcullis::store::file_recover::Later;
use portcullis::store::sim_disk::SimDisk;
use portcullis::store::{
    Damaged, FileStore, FileStoreConfig, KeyStore, Keyring, RecoverError, SideDocument, StoreError,
    audit, seal_fresh,
};
use portcullis::testing::ManualClock;
use rustix::io::Errno;
use serde_json::{Value, json};

const ROTATE: &str = "/admin/v1/keys/rotate";
const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// Tampering under a running gateway.

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_refuses_a_changed_store_by_name_and_keeps_serving() {
    let gateway = Gateway::start(Options {
        file_store: true,
        ..Options::default()
    })
    .await;
    let file = gateway.dir.path().join("keys/keyset.json");
    let planted = gateway.lifecycle.current_set().active.public;
    let first = std::fs::read(&file).unwrap();
    gateway.purge().await;
    let token = gateway.token().await;
    let good = std::fs::read(&file).unwrap();
    let (jwks, (_, keys)) = (
        gateway.jwks().await,
        gateway.admin_get("/admin/v1/keys").await,
    );

    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_slice(&good).unwrap();
        edit(&mut file);
        format!("{file}\n").into_bytes()
    };
    let mut flipped = good.clone();
    let middle = good.len() / 2;
    flipped[middle] ^= 1;
    let key = json!({
        "kid": planted.kid, "alg": planted.alg, "state": "deprecated",
        "public_jwk": planted.jwk, "created_at": 0, "published_at": 0,
        "published_revision": 1, "activated_at": 0, "deprecated_at": 0,
        "verify_until": 9_999_999_999_999_i64, "max_ttl": 3_600_000,
    });
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("a byte changed", flipped, "keyset.json"),
        (
            "a dead key's public half inserted as deprecated",
            edited(&|file| {
                let dead = &mut file["document"]["tombstones"];
                dead.as_array_mut()
                    .unwrap()
                    .retain(|tombstone| tombstone["kid"] != key["kid"]);
                file["document"]["keys"]
                    .as_array_mut()
                    .unwrap()
                    .push(key.clone());
            }),
            "authentication code does not match",
        ),
        (
            "a tombstone removed",
            edited(&|file| {
                file["document"]["tombstones"]
                    .as_array_mut()
                    .unwrap()
                    .remove(0);
            }),
            "authentication code does not match",
        ),
        ("an older generation put back", first, "it is an older one"),
        (
            "cut short",
            good[..good.len() / 3].to_vec(),
            "cannot be read",
        ),
        ("empty", Vec::new(), "it is empty"),
    ];
    let attempts = [
        json!({}),
        json!({ "purge": true, "seen_revision": keys["revision"] }),
    ];
    for (case, bytes, rule) in cases {
        std::fs::write(&file, &bytes).unwrap();
        for body in &attempts {
            let (status, problem) = gateway.admin_post(ROTATE, body.clone()).await;
            // A plain Rotate within the window would be answered from the store as well.
            assert_eq!(
                (status, &problem["code"]),
                (500, &json!("ROTATION_FAILED")),
                "{case}"
            );
            let said = problem["rule"].as_str().unwrap_or_default();
            assert!(
                said.contains(rule) && said.contains("keyset.json"),
                "{case}: {problem}"
            );
            let logged = gateway.log.lines();
            let line = logged
                .iter()
                .find(|line| line["log_id"] == problem["log_id"])
                .unwrap();
            assert_eq!(line["cause"], problem["rule"], "{case}");
        }
        assert_eq!(
            std::fs::read(&file).unwrap(),
            bytes,
            "{case}: evidence was overwritten"
        );
        assert_eq!(gateway.status(&token).await, 200, "{case}");
        assert_eq!(kid(&gateway.token().await), kid(&token), "{case}");
        assert_eq!(gateway.jwks().await, jwks, "{case}");
        let (_, after) = gateway.admin_get("/admin/v1/keys").await;
        let before = without_activity(keys.clone());
        assert_eq!(without_activity(after), before, "{case}");
    }
    // Put right, it goes on without a restart.
    std::fs::write(&file, &good).unwrap();
    gateway.purge().await;
    assert_eq!(gateway.status(&token).await, 401);
}

// Recovery with the real binary.

struct Wreck {
    gateway: Process,
    _upstream: Upstream,
    file: PathBuf,
    token: String,
    revision: u64,
    /// The sealed private halves that the key set held.
    halves: Vec<String>,
}

/// A gateway that rotated once and has stopped.
async fn stopped() -> Wreck {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup::new(upstream.address)).await;
    gateway.rotate().await;
    let token = gateway.token().await;
    let revision = gateway.admin_get("/admin/v1/keys").await["revision"]
        .as_u64()
        .unwrap();
    assert_eq!(gateway.terminate().await.code(), Some(0));
    let file = gateway.dir.path().join("data/keys/keyset.json");
    let halves = halves(&file);
    Wreck {
        gateway,
        _upstream: upstream,
        file,
        token,
        revision,
        halves,
    }
}

fn halves(file: &Path) -> Vec<String> {
    let set: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let keys = set["document"]["keys"].as_array().unwrap();
    let sealed = keys
        .iter()
        .filter_map(|key| key["sealed_private"]["data"].as_str());
    sealed.map(str::to_owned).collect()
}

fn assert_none_holds(found: &Contents, halves: &[String]) {
    for (path, (_, bytes)) in found {
        let text = text(bytes.as_deref().unwrap_or_default());
        for half in halves {
            assert!(!text.contains(half), "{} holds a dead key", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_set_is_recovered_only_on_an_operators_word() {
    type Damage = fn(&[u8]) -> Option<Vec<u8>>;
    let damages: [(&str, Damage); 3] = [
        ("missing", |_| None),
        ("truncated", |good| Some(good[..good.len() / 2].to_vec())),
        ("a byte changed", |good| {
            let mut bad = good.to_vec();
            let at = bad.len() / 2;
            bad[at] ^= 1;
            Some(bad)
        }),
    ];
    for (case, damage) in damages {
        let mut wreck = stopped().await;
        let (gateway, file) = (&mut wreck.gateway, &wreck.file);
        match damage(&std::fs::read(file).unwrap()) {
            Some(bytes) => std::fs::write(file, bytes).unwrap(),
            None => std::fs::remove_file(file).unwrap(),
        }
        let before = contents(gateway.dir.path());
        for arguments in [&["serve"][..], &["init"]] {
            let refused = gateway.refused(arguments).await;
            if arguments == ["serve"] {
                assert_eq!(refused.code, 3, "{case}: {}", refused.stderr);
                assert!(
                    refused.stderr.contains("store recover"),
                    "{}",
                    refused.stderr
                );
            }
            assert_eq!(contents(gateway.dir.path()), before, "{case}");
        }

        let looked = gateway.refused(&["store", "recover"]).await;
        assert_eq!(looked.code, 1, "{case}: {}", looked.stderr);
        assert!(
            looked.stderr.contains("--accept-rollback"),
            "{}",
            looked.stderr
        );
        let previous = format!("previous generation: revision {}", wreck.revision);
        assert!(
            looked.stdout.contains(&previous),
            "{case}: {}",
            looked.stdout
        );
        assert!(
            looked.stdout.contains(&kid(&wreck.token)),
            "{}",
            looked.stdout
        );
        assert_eq!(looked.stdout.contains("SHA-256"), case != "missing");
        assert_eq!(
            contents(gateway.dir.path()),
            before,
            "{case}: looking changed something"
        );

        let recovered = gateway.run(&["store", "recover", "--accept-rollback", "--reason", "disk"]);
        let said = text(&recovered.stdout);
        assert_eq!(
            recovered.status.code(),
            Some(0),
            "{}",
            text(&recovered.stderr)
        );
        assert!(said.contains("recovered: revision"), "{said}");
        assert_none_holds(&contents(gateway.dir.path()), &wreck.halves);
        let again = gateway
            .refused(&["store", "recover", "--accept-rollback"])
            .await;
        assert_eq!(again.code, 1, "{}", again.stderr);
        assert!(
            again.stderr.contains("nothing to recover"),
            "{}",
            again.stderr
        );

        gateway.serve().await;
        assert_eq!(gateway.status(&wreck.token).await, 401, "{case}");
        let fresh = gateway.token().await;
        assert_eq!(gateway.status(&fresh).await, 200, "{case}");
        let keys = gateway.admin_get("/admin/v1/keys").await;
        assert!(keys["revision"].as_u64().unwrap() > wreck.revision);
        let dead = keys["tombstones"].as_array().unwrap();
        let dead = dead
            .iter()
            .find(|dead| dead["kid"] == kid(&wreck.token))
            .unwrap();
        assert_eq!(
            (&dead["state"], &dead["mistake_undo"]),
            (&json!("purged"), &json!(false))
        );
        let failures = format!(
            "portcullis_purge_verification_failures_total{{kid=\"{}\"}} 1",
            kid(&wreck.token)
        );
        assert!(gateway.scrape().await.contains(&failures), "{case}");
        let log = gateway.run(&["audit", "verify"]);
        assert_eq!(log.status.code(), Some(0), "{}", text(&log.stderr));
        let tail = text(&gateway.run(&["audit", "tail"]).stdout);
        let last = tail.lines().last().unwrap();
        assert!(
            last.contains("recover") && last.contains("reason \"disk\""),
            "{tail}"
        );
        // The key-encryption key that sealed what died is not used any more.
        let kek = std::fs::read_to_string(gateway.dir.path().join("secrets/kek")).unwrap();
        assert_eq!(kek.lines().filter(|line| !line.starts_with('#')).count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovered_keys_live_on_only_where_that_is_spelt_out() {
    let mut wreck = stopped().await;
    let gateway = &mut wreck.gateway;
    std::fs::write(&wreck.file, b"").unwrap();
    let refused = gateway.refused(&["store", "recover", "--keep-keys"]).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let arguments = ["store", "recover", "--accept-rollback", "--keep-keys"];
    let recovered = gateway.run(&arguments);
    assert_eq!(
        recovered.status.code(),
        Some(0),
        "{}",
        text(&recovered.stderr)
    );
    gateway.serve().await;
    assert_eq!(gateway.status(&wreck.token).await, 200);
    assert_eq!(kid(&gateway.token().await), kid(&wreck.token));
    let keys = gateway.admin_get("/admin/v1/keys").await;
    assert_eq!(keys["revision"], json!(wreck.revision + 1));
    let kek = std::fs::read_to_string(gateway.dir.path().join("secrets/kek")).unwrap();
    assert_eq!(kek.lines().filter(|line| !line.starts_with('#')).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv07_a_recovery_revives_no_key_that_was_purged_later() {
    let mut wreck = stopped().await;
    let gateway = &mut wreck.gateway;
    let data = gateway.dir.path().join("data/keys");
    let older = std::fs::read(&wreck.file).unwrap();
    gateway.serve().await;
    gateway.purge().await;
    assert_eq!(gateway.status(&wreck.token).await, 401);
    assert_eq!(gateway.terminate().await.code(), Some(0));
    // Somebody put the generation from before the purge in the place of the previous one.
    let put_back = || {
        harness::in_process::write_private(&data.join("keyset.prev.json"), &text(&older));
        let _gone_already = std::fs::remove_file(data.join("keyset.json"));
    };
    put_back();
    let arguments = ["store", "recover", "--accept-rollback", "--keep-keys"];

    // A log that cannot be relied on is no proof that nothing was purged.
    let log = std::fs::read_to_string(data.join("audit.log")).unwrap();
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    for (bad, rule) in [
        (log.replacen("\"ops\"", "\"eve\"", 1), "line 2"),
        ([lines[0], lines[2]].concat(), "line 2"),
        (lines[0].to_owned(), "does not cover revision 2"),
        (log[..log.len() - 1].to_owned(), "incomplete"),
    ] {
        std::fs::write(data.join("audit.log"), &bad).unwrap();
        let before = contents(gateway.dir.path());
        let refused = gateway.refused(&arguments).await;
        assert_eq!(refused.code, 1, "{}", refused.stdout);
        assert!(
            refused.stderr.contains("intact audit log") && refused.stderr.contains(rule),
            "{rule}: {}",
            refused.stderr
        );
        assert_eq!(contents(gateway.dir.path()), before);
    }
    std::fs::write(data.join("audit.log"), &log).unwrap();

    let recovered = gateway.run(&arguments);
    let said = text(&recovered.stdout);
    assert_eq!(
        recovered.status.code(),
        Some(0),
        "{}",
        text(&recovered.stderr)
    );
    assert!(said.contains("these ended later"), "{said}");
    assert_none_holds(&contents(gateway.dir.path()), &wreck.halves);
    gateway.serve().await;
    assert_eq!(gateway.status(&wreck.token).await, 401);
    let keys = gateway.admin_get("/admin/v1/keys").await;
    assert_eq!(keys["revision"], 4);
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_is_not_called_for_says_why() {
    let [upstream] = free_ports();
    let mut gateway = Process::configure(&Setup::new(upstream));
    let command = ["store", "recover", "--accept-rollback"];
    let refused = gateway.refused(&command).await;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(gateway.run(&["init"]).status.success());
    let refused = gateway.refused(&command).await;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("intact at revision 1"),
        "{}",
        refused.stderr
    );
    gateway.serve().await;
    let refused = gateway.refused(&command).await;
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert_eq!(gateway.terminate().await.code(), Some(0));

    // Nothing left to recover from.
    let data = gateway.dir.path().join("data/keys");
    for name in ["keyset.json", "keyset.prev.json"] {
        std::fs::write(data.join(name), b"x").unwrap();
    }
    let before = contents(gateway.dir.path());
    let refused = gateway.refused(&command).await;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("keyset.prev.json"),
        "{}",
        refused.stderr
    );
    assert_eq!(contents(gateway.dir.path()), before);
    // A mode or a missing key-encryption key is no damage: mending that is the remedy.
    set_mode(&data.join("keyset.json"), 0o644);
    let refused = gateway.refused(&command).await;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("chmod"), "{}", refused.stderr);
}

// Recovery at the level of files.

fn sim_dir() -> &'static Path {
    Path::new("/data/keys")
}

fn config(samples: &Samples) -> FileStoreConfig {
    FileStoreConfig {
        dir: sim_dir().to_owned(),
        issuer: samples.issuer.clone(),
        keyring: Arc::clone(&samples.keyring),
        clock: Arc::new(ManualClock::at(NOW)),
    }
}

async fn examine(samples: &Samples, layer: Arc<dyn FileLayer>) -> Result<Damaged, RecoverError> {
    Damaged::examine_on(config(samples), layer).await
}

async fn step(
    store: &FileStore,
    samples: &Samples,
    set: &KeySet,
    step: fn(&Samples, &KeySet) -> KeySet,
) -> KeySet {
    let next = step(samples, set);
    drop(store.commit(set.revision, &next).await.unwrap());
    next
}

fn recovered(samples: &Samples, damaged: &Damaged, keep: bool) -> KeySet {
    let fresh = || {
        let generated = RingKeyGenerator.generate(Algorithm::Es256).unwrap();
        seal_fresh(generated, &samples.keyring, &samples.issuer, 0, NOW).unwrap()
    };
    let order = Order {
        id: uuid::Uuid::from_u128(7),
        trigger: Trigger::Manual,
        actor: Actor::Offline("test".to_owned()),
        reason: None,
        seen_revision: None,
        claim: None,
    };
    let ended = match &damaged.later {
        Later::Ended(ended) => ended.clone(),
        Later::Unknown(why) => panic!("{why}"),
    };
    transition::recover(
        &damaged.previous,
        damaged.proven_revision,
        keep.then_some(ended.as_slice()),
        (fresh(), fresh()),
        &order,
        &Timing::default(),
        NOW,
    )
}

#[tokio::test]
async fn the_audit_log_names_every_key_that_ended_after_the_previous_generation() {
    let samples = Samples::new();
    let first = samples.first();
    let disk = SimDisk::new();
    let store = FileStore::create_on(config(&samples), Arc::new(disk.clone()), &first)
        .await
        .unwrap();
    let old = disk.read(&sim_dir().join("keyset.json"), 1 << 20).unwrap();
    let mut set = first.clone();
    // The pending key of the first set is replaced, its active key deprecated, the next one purged.
    for change in [
        Samples::with_pending_replaced,
        Samples::rotated,
        Samples::purged,
        Samples::raised,
    ] {
        set = step(&store, &samples, &set, change).await;
    }
    drop(store);
    disk.remove(&sim_dir().join("keyset.json")).unwrap();
    disk.put(&sim_dir().join("keyset.prev.json"), &old);
    let damaged = examine(&samples, Arc::new(disk.clone())).await.unwrap();
    assert_eq!((damaged.previous.revision, damaged.proven_revision), (1, 5));
    let Later::Ended(ended) = &damaged.later else {
        panic!("{:?}", damaged.later)
    };
    for key in [&first.active.public.kid, &first.pending.public.kid] {
        assert!(ended.contains(key), "{key} lives on");
    }
    let next = recovered(&samples, &damaged, true);
    assert_eq!((next.revision, next.last_event.event), (6, Event::Recover));
    assert!(next.verifying().all(|(_, key)| !first.knows(&key.kid)));
    assert_eq!(next.tombstones.len(), 2);
    let warnings = damaged.replace(&next).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let store = FileStore::open_on(config(&samples), Arc::new(disk))
        .await
        .unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.set, next);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[tokio::test]
async fn inv12_a_recovery_is_crash_atomic_and_can_be_said_again() {
    let samples = Samples::new();
    let first = samples.first();
    let base = SimDisk::new();
    let store = FileStore::create_on(config(&samples), Arc::new(base.clone()), &first)
        .await
        .unwrap();
    let set = step(&store, &samples, &first, Samples::rotated).await;
    drop(store);
    base.put(&sim_dir().join("keyset.json"), b"garbage");
    let dead = [&set.active.sealed.data, &set.pending.sealed.data];
    let mut states = 0;
    for effect in [Effect::Nothing, Effect::Torn, Effect::Done] {
        for sticky in [false, true] {
            for nth in 1.. {
                let disk = base.copy();
                let layer = FaultyLayer::new(Arc::new(disk.clone()));
                let damaged = examine(&samples, Arc::new(layer.clone())).await.unwrap();
                let next = recovered(&samples, &damaged, false);
                layer.set(Fault {
                    nth,
                    sticky,
                    only: None,
                    errno: Errno::IO.raw_os_error(),
                    effect,
                });
                let outcome = damaged.replace(&next).await;
                let struck = layer.clear();
                for state in disk.after_power_cut() {
                    states += 1;
                    let case = format!("{effect:?} {sticky} at call {nth}");
                    let no_dead_half = || {
                        for (path, bytes) in state.files() {
                            let text = text(&bytes);
                            for half in dead {
                                assert!(!text.contains(half), "{case}: {}", path.display());
                            }
                        }
                    };
                    if outcome.is_ok() {
                        no_dead_half();
                    }
                    match examine(&samples, Arc::new(state.clone())).await {
                        Ok(again) => {
                            assert!(outcome.is_err(), "{case}: an acknowledged recovery is lost");
                            let next = recovered(&samples, &again, false);
                            drop(again.replace(&next).await.unwrap());
                        }
                        Err(RecoverError::Intact { revision }) => assert_eq!(revision, 3, "{case}"),
                        Err(error) => panic!("{case}: {error}"),
                    }
                    let store = FileStore::open_on(config(&samples), Arc::new(state.clone()))
                        .await
                        .unwrap();
                    let found = store.load().await.unwrap().set;
                    assert_eq!(
                        (found.revision, found.last_event.event),
                        (3, Event::Recover)
                    );
                    no_dead_half();
                    let log = state.read(&sim_dir().join("audit.log"), 1 << 20).unwrap();
                    let verdict =
                        audit::verify(&log[..], &samples.keyring, &samples.issuer).unwrap();
                    assert_eq!(verdict.last_revision, Some(3), "{case}");
                }
                if !struck {
                    assert!(outcome.is_ok());
                    break;
                }
            }
        }
    }
    assert!(states > 100, "{states}");
}

// Other versions' files.

/// What the version that wrote schema 1 left: `init`, a rotation, a purge declared a mistake, its
/// restore, and a purge of the pending key.
fn schema_1() -> (tempfile::TempDir, FileStoreConfig) {
    let temp = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema-1");
    let dir = temp.path().join("keys");
    std::fs::create_dir(&dir).unwrap();
    set_mode(&dir, 0o700);
    for entry in std::fs::read_dir(fixture.join("keys")).unwrap() {
        let from = entry.unwrap().path();
        let to = dir.join(from.file_name().unwrap());
        std::fs::copy(&from, &to).unwrap();
        set_mode(&to, 0o600);
    }
    let kek = temp.path().join("kek");
    std::fs::copy(fixture.join("kek"), &kek).unwrap();
    set_mode(&kek, 0o600);
    let config = FileStoreConfig {
        dir,
        issuer: "http://issuer.test".to_owned(),
        keyring: Arc::new(Keyring::load(&[&kek]).unwrap()),
        // Shortly after it was written.
        clock: Arc::new(ManualClock::at(Timestamp::from_seconds(1_795_577_000))),
    };
    (temp, config)
}

fn stored_schema(config: &FileStoreConfig, name: &str) -> Value {
    let bytes = std::fs::read(config.dir.join(name)).unwrap();
    let file: Value = serde_json::from_slice(&bytes).unwrap();
    file["document"]["schema"].clone()
}

#[tokio::test]
async fn a_key_set_of_schema_1_is_read_and_written_anew_by_the_next_commit() {
    let (_temp, config) = schema_1();
    assert_eq!(stored_schema(&config, "keyset.json"), json!(1));
    let store = FileStore::open(config.clone()).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let set = loaded.set;
    assert_eq!((set.revision, set.restore_epoch), (5, 1));
    let states: Vec<KeyState> = set.verifying().map(|(state, _)| state).collect();
    assert_eq!(
        states,
        [KeyState::Pending, KeyState::Active, KeyState::Deprecated]
    );
    assert_eq!(set.tombstones.len(), 1);
    assert_eq!(set.last_purge.as_ref().unwrap().revision, 5);
    assert_eq!(set.kek_demand, None);
    for (key, sealed) in [
        (&set.active.public, &set.active.sealed),
        (&set.pending.public, &set.pending.sealed),
    ] {
        config
            .keyring
            .open(&set.issuer, &key.kid, key.alg, sealed)
            .unwrap();
    }
    assert!(
        store
            .load_side(SideDocument::Counters)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        stored_schema(&config, "keyset.json"),
        json!(1),
        "reading wrote"
    );

    let max_ttl = set.active.public.max_ttl + Duration::from_secs(1);
    let next = transition::raise_max_ttl(&set, max_ttl, Actor::Scheduler, loaded.store_now);
    let next = next.unwrap();
    drop(store.commit(5, &next).await.unwrap());
    drop(store);
    assert_eq!(stored_schema(&config, "keyset.json"), json!(SCHEMA));
    let store = FileStore::open(config.clone()).await.unwrap();
    assert_eq!(store.load().await.unwrap().set, next);
    let log = std::fs::read(config.audit_log()).unwrap();
    let verdict = audit::verify(&log[..], &config.keyring, &config.issuer).unwrap();
    assert_eq!((verdict.lines, verdict.last_revision), (6, Some(6)));
}

#[tokio::test]
async fn the_previous_generation_of_schema_1_can_be_recovered() {
    let (_temp, config) = schema_1();
    std::fs::remove_file(config.dir.join("keyset.json")).unwrap();
    let damaged = Damaged::examine(config.clone()).await.unwrap();
    assert!(matches!(damaged.broken, StoreError::Corrupt { .. }));
    assert_eq!((damaged.previous.revision, damaged.proven_revision), (5, 5));
    assert_eq!(damaged.later, Later::Ended(Vec::new()));
}
