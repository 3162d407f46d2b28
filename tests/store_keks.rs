//! Key-encryption keys in use: a new one for a compromised purge, the demand for one where the
//! operator keeps the file, reseal, and that no file keeps a private half that has ended.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod harness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::disk::contents;
use harness::process::{Setup, free_ports};
use harness::{Gateway, OPERATOR, Options, Process, kid};
use portcullis::keygen::RingKeyGenerator;
use portcullis::keys::KeySet;
use portcullis::store::audit;
use portcullis::store::conformance::Samples;
use portcullis::store::faulty_layer::{Effect, Fault, FaultyLayer};
use portcullis::store::faulty_store::{FaultyStore, Step, Trouble};
use portcullis::store::file_layer::FileLayer;
use portcullis::store::sim_disk::SimDisk;
use portcullis::store::{
    FileStore, FileStoreConfig, KeyStore as _, Keyring, SideDocument, write_new_kek_on,
};
use portcullis::testing::ManualClock;
use rustix::io::Errno;
use serde_json::{Value, json};

const RESEAL: &str = "/admin/v1/keys/reseal";
const ROTATE: &str = "/admin/v1/keys/rotate";
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn gateway() -> Gateway {
    Gateway::start(Options {
        file_store: true,
        ..Options::default()
    })
    .await
}

fn kek_file(gateway: &Gateway) -> PathBuf {
    gateway.dir.path().join("secrets/kek")
}

/// The file's keys, the first line first.
fn keys_in(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let keys = text.lines().filter(|line| !line.starts_with('#'));
    keys.map(str::to_owned).collect()
}

/// Takes the mark away: from now on the file is the operator's.
fn hand_over(path: &Path) {
    let keys = keys_in(path).join("\n");
    std::fs::write(path, format!("{keys}\n")).unwrap();
}

/// What an operator does: a new key in the first line.
fn put_in_front(path: &Path, byte: u8) {
    let keys = [vec![URL_SAFE_NO_PAD.encode([byte; 32])], keys_in(path)].concat();
    std::fs::write(path, format!("{}\n", keys.join("\n"))).unwrap();
}

/// The key-encryption key that authenticates each document in the store, by file name.
fn authenticated_by(dir: &Path) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, file["kek"].as_str().unwrap().to_owned())
        })
        .collect();
    found.sort();
    found
}

fn halves_under(set: &KeySet) -> [&str; 2] {
    [&set.active.sealed.kek, &set.pending.sealed.kek]
}

/// What gives a private half away: its sealed form, and its plain form in every encoding.
fn traces(gateway: &Gateway, set: &KeySet) -> Vec<(String, Vec<Vec<u8>>)> {
    let keys = [
        (&set.active.public, &set.active.sealed),
        (&set.pending.public, &set.pending.sealed),
    ];
    let of = keys.map(|(key, sealed)| {
        let keyring = &gateway.env.keyring;
        let plain = keyring
            .open(&set.issuer, &key.kid, key.alg, sealed)
            .unwrap();
        let raw = URL_SAFE_NO_PAD.decode(&sealed.data).unwrap();
        let traces = vec![
            sealed.data.clone().into_bytes(),
            raw,
            plain.to_vec(),
            URL_SAFE_NO_PAD.encode(&plain).into_bytes(),
            STANDARD.encode(&plain).into_bytes(),
        ];
        (sealed.data.clone(), traces)
    });
    of.into()
}

fn assert_gone(gateway: &Gateway, before: &[(String, Vec<Vec<u8>>)], when: &str) {
    let set = gateway.lifecycle.current_set();
    let live = [&set.active.sealed.data, &set.pending.sealed.data];
    for (path, (_, bytes)) in contents(gateway.dir.path()) {
        let Some(bytes) = bytes else { continue };
        for (sealed, traces) in before {
            let ended = !live.contains(&sealed);
            for trace in traces.iter().filter(|_| ended) {
                let found = bytes.windows(trace.len()).any(|part| part == trace);
                assert!(
                    !found,
                    "{when}: {} holds a private half that has ended",
                    path.display()
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv17_no_file_keeps_a_private_half_that_has_ended() {
    let gateway = gateway().await;
    let data = gateway.dir.path().join("keys");
    // A dead predecessor's leftover is no hiding place either.
    let mut seen = traces(&gateway, &gateway.lifecycle.current_set());
    for (when, body) in [
        ("rotate", Some(json!({}))),
        ("reseal", None),
        ("purge by mistake", Some(json!({ "mistake_undo": true }))),
        ("purge", Some(json!({ "purge": true }))),
        ("reseal again", None),
    ] {
        let leftover = std::fs::read(data.join("keyset.json")).unwrap();
        harness::in_process::write_private(
            &data.join("keyset.json.tmp"),
            &String::from_utf8(leftover).unwrap(),
        );
        let (path, body) = match body {
            None => (RESEAL, json!({ "new_kek": true })),
            Some(mut body) => {
                if when.starts_with("purge") {
                    body["purge"] = json!(true);
                    body["seen_revision"] = json!(gateway.lifecycle.current_set().revision);
                }
                (ROTATE, body)
            }
        };
        let (status, answer) = gateway.admin_post(path, body).await;
        assert_eq!(
            (status, &answer["changed"]),
            (200, &json!(true)),
            "{when}: {answer}"
        );
        assert_gone(&gateway, &seen, when);
        seen.extend(traces(&gateway, &gateway.lifecycle.current_set()));
    }
    // A scan that finds nothing must be able to find something.
    let live = &gateway.lifecycle.current_set().active.sealed.data;
    let text = std::fs::read_to_string(data.join("keyset.prev.json")).unwrap();
    assert!(text.contains(live.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_purge_seals_under_a_new_key_encryption_key() {
    let gateway = gateway().await;
    let data = gateway.dir.path().join("keys");
    gateway
        .env
        .store
        .save_side(SideDocument::Counters, b"{}")
        .await
        .unwrap();
    let old = gateway.env.keyring.first_id();
    let body = json!({ "purge": true, "seen_revision": 1, "mistake_undo": true });
    let (status, _) = gateway.admin_post(ROTATE, body).await;
    assert_eq!(status, 200);
    assert_eq!(gateway.env.keyring.ids(), [old.as_str()], "nothing leaked");

    let token = gateway.token().await;
    let answer = gateway.purge().await;
    assert!(
        answer.get("key_encryption_key_demand").is_none(),
        "{answer}"
    );
    assert_eq!(gateway.status(&token).await, 401);
    let new = gateway.env.keyring.first_id();
    assert_eq!(gateway.env.keyring.ids(), [new.as_str(), &old]);
    assert_eq!(
        authenticated_by(&data),
        ["counters.json", "keyset.json", "keyset.prev.json"]
            .map(|name| (name.to_owned(), new.clone()))
    );
    assert_eq!(halves_under(&gateway.lifecycle.current_set()), [&new, &new]);

    // On disk before anything was sealed under it, so a restart reads all of it.
    let restarted = Keyring::load(&gateway.config.keys.encryption_key_files).unwrap();
    assert_eq!(restarted.ids(), gateway.env.keyring.ids());
    let log = std::fs::read(data.join("audit.log")).unwrap();
    let verdict = audit::verify(&log[..], &restarted, "http://issuer.test").unwrap();
    assert_eq!((verdict.lines, verdict.last_revision), (3, Some(3)));
    let lines = gateway.log.lines();
    let made = lines
        .iter()
        .find(|line| line["event"] == "key_encryption_key_made")
        .unwrap();
    assert_eq!(made["key_encryption_key"], json!(new));
    assert_eq!(made["older"], json!([old]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_that_proves_to_be_a_compromise_gets_its_new_key_encryption_key_too() {
    let gateway = gateway().await;
    let body = json!({ "purge": true, "seen_revision": 1, "mistake_undo": true });
    let (_, purged) = gateway.admin_post(ROTATE, body).await;
    let kids: Vec<portcullis::keys::Kid> =
        serde_json::from_value(purged["purged"].clone()).unwrap();
    let actor = portcullis::keys::Actor::Admin("test".to_owned());
    let order = portcullis::lifecycle::Lifecycle::order(actor, None);
    let (changed, _) = gateway
        .lifecycle
        .mark_compromised(&order, &kids)
        .await
        .unwrap();
    assert!(changed);
    assert_eq!(gateway.env.keyring.ids().len(), 2);
    let new = gateway.env.keyring.first_id();
    assert_eq!(halves_under(&gateway.lifecycle.current_set()), [&new, &new]);
    let again = gateway.lifecycle.mark_compromised(&order, &kids).await;
    assert!(!again.unwrap().0);
    assert_eq!(gateway.env.keyring.ids().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_purges_do_not_pile_key_encryption_keys_up() {
    let faulty: Arc<std::sync::OnceLock<Arc<FaultyStore>>> = Arc::default();
    let slot = Arc::clone(&faulty);
    let gateway = Gateway::start(Options {
        file_store: true,
        wrap: Box::new(move |store| {
            let store = Arc::new(FaultyStore::new(store));
            slot.set(Arc::clone(&store)).unwrap();
            store
        }),
        ..Options::default()
    })
    .await;
    let faulty = faulty.get().unwrap();
    let purge = || gateway.admin_post(ROTATE, json!({ "purge": true, "seen_revision": 1 }));
    faulty.always(Step::BeforeCommit, Trouble::Fail);
    for _ in 0..5 {
        assert_eq!(purge().await.0, 500);
    }
    faulty.heal();
    faulty.once(Step::BeforeCommit, Trouble::LoseRace);
    assert_eq!(purge().await.0, 200);
    assert_eq!(keys_in(&kek_file(&gateway)).len(), 2);
    let set = gateway.lifecycle.current_set();
    let new = gateway.env.keyring.first_id();
    assert_eq!(halves_under(&set), [&new, &new]);
    // The next purge gets its own.
    gateway.purge().await;
    assert_eq!(keys_in(&kek_file(&gateway)).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_at_once_make_one_key_encryption_key() {
    let gateway = gateway().await;
    let purges =
        (0..8).map(|_| gateway.admin_post(ROTATE, json!({ "purge": true, "seen_revision": 1 })));
    let answers = futures_join(purges).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    assert_eq!(keys_in(&kek_file(&gateway)).len(), 2);
    let new = gateway.env.keyring.first_id();
    assert_eq!(halves_under(&gateway.lifecycle.current_set()), [&new, &new]);
}

async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    // Polled in turn: every request is under way before the first answer.
    let mut pending: Vec<std::pin::Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        pending.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_named_keys_moves_the_halves_that_survive_it() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    gateway.rotate().await;
    let survivor = gateway.token().await;
    let body = json!({ "purge": true, "kids": [kid(&token)] });
    let (status, answer) = gateway.admin_post(ROTATE, body).await;
    assert_eq!(status, 200, "{answer}");
    let new = gateway.env.keyring.first_id();
    assert_eq!(halves_under(&gateway.lifecycle.current_set()), [&new, &new]);
    assert_eq!(gateway.env.keyring.ids().len(), 2);
    assert_eq!(gateway.status(&token).await, 401);
    assert_eq!(gateway.status(&survivor).await, 200);
    assert_eq!(kid(&gateway.token().await), kid(&survivor));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_key_encryption_key_is_demanded_until_there_is_a_new_one() {
    let gateway = gateway().await;
    let path = kek_file(&gateway);
    hand_over(&path);
    let before = std::fs::read(&path).unwrap();
    let demanded = || async {
        gateway
            .metric("portcullis_key_encryption_key_demanded", &[])
            .await
    };
    assert_eq!(demanded().await, 0.0);
    let old = gateway.env.keyring.first_id();
    let answer = gateway.purge().await;
    let demand = &answer["key_encryption_key_demand"];
    assert_eq!(demand["compromised"], json!([old]));
    assert_eq!(demand["purge_id"], answer["rotation_id"]);
    assert_eq!(std::fs::read(&path).unwrap(), before, "not ours to write");
    let (_, keys) = gateway.admin_get("/admin/v1/keys").await;
    assert_eq!(&keys["key_encryption_key_demand"], demand);
    let since = gateway
        .metric(
            "portcullis_key_encryption_key_demanded_timestamp_seconds",
            &[],
        )
        .await;
    let committed = gateway.lifecycle.current_set().high_water_time;
    assert_eq!((demanded().await, since), (1.0, committed.as_seconds_f64()));
    let said = |event: &str| {
        let lines = gateway.log.lines();
        let found = lines.into_iter().filter(|line| line["event"] == event);
        found.collect::<Vec<Value>>()
    };
    let warned = said("key_encryption_key_demanded");
    assert_eq!(warned.len(), 1);
    assert!(warned[0]["cause"].as_str().unwrap().contains("secrets/kek"));

    // A second purge leaves the date alone; a rotation does not end it.
    gateway.clock.advance(Duration::from_secs(3600));
    gateway.purge().await;
    gateway.clock.advance(Duration::from_secs(3600));
    gateway.rotate().await;
    let (_, keys) = gateway.admin_get("/admin/v1/keys").await;
    assert_eq!(&keys["key_encryption_key_demand"], demand);

    // The alarm: after a day, then once a day.
    for (advance, alarms) in [
        (DAY - Duration::from_secs(7201), 0),
        (Duration::from_secs(1), 1),
        (Duration::from_secs(3600), 1),
        (DAY, 2),
    ] {
        gateway.clock.advance(advance);
        gateway.lifecycle.tick().await.unwrap();
        gateway.lifecycle.tick().await.unwrap();
        assert_eq!(said("key_encryption_key_overdue").len(), alarms);
    }
    let alarm = &said("key_encryption_key_overdue")[0];
    assert_eq!(alarm["level"], "error", "{alarm}");

    // Without a new key a reseal changes nothing; with one it ends the demand.
    let (status, refused) = gateway.admin_post(RESEAL, json!({ "new_kek": true })).await;
    assert_eq!(
        (status, &refused["code"]),
        (409, &json!("KEY_ENCRYPTION_KEY"))
    );
    assert!(refused["detail"].as_str().unwrap().contains("not managed"));
    let (status, same) = gateway.admin_post(RESEAL, json!({})).await;
    assert_eq!((status, &same["changed"]), (200, &json!(false)));
    assert_eq!(&same["key_encryption_key_demand"], demand);
    put_in_front(&path, 7);
    let (status, done) = gateway
        .admin_post(RESEAL, json!({ "reason": "after the leak" }))
        .await;
    assert_eq!((status, &done["changed"]), (200, &json!(true)), "{done}");
    assert!(done.get("key_encryption_key_demand").is_none());
    assert_eq!(done["older_key_encryption_keys"], json!([old]));
    assert_eq!(demanded().await, 0.0);
    assert_eq!(gateway.lifecycle.current_set().kek_demand, None);
    assert_eq!(keys_in(&path).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_is_a_demand_and_no_failed_purge() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    // Not even a file any more.
    std::fs::remove_file(kek_file(&gateway)).unwrap();
    let answer = gateway.purge().await;
    assert!(
        answer.get("key_encryption_key_demand").is_some(),
        "{answer}"
    );
    assert_eq!(gateway.status(&token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn reseal_moves_everything_and_breaks_nothing() {
    let gateway = gateway().await;
    let data = gateway.dir.path().join("keys");
    gateway
        .env
        .store
        .save_side(SideDocument::Counters, b"{}")
        .await
        .unwrap();
    let token = gateway.token().await;
    let jwks = gateway.jwks().await;
    let operator = gateway
        .http
        .post(format!("{}{RESEAL}", gateway.admin))
        .bearer_auth(OPERATOR)
        .json(&json!({}));
    assert_eq!(operator.send().await.unwrap().status(), 403);
    let (status, _) = gateway.admin_post(RESEAL, json!({ "force": true })).await;
    assert_eq!(status, 400);

    let (status, same) = gateway.admin_post(RESEAL, json!({})).await;
    assert_eq!(
        (status, &same["changed"], &same["revision"]),
        (200, &json!(false), &json!(1))
    );
    let (status, done) = gateway
        .admin_post(RESEAL, json!({ "new_kek": true, "reason": "yearly" }))
        .await;
    assert_eq!((status, &done["revision"]), (200, &json!(2)), "{done}");
    let new = gateway.env.keyring.first_id();
    assert_eq!(done["key_encryption_key"], json!(new));
    assert!(authenticated_by(&data).iter().all(|(_, kek)| *kek == new));
    assert_eq!(halves_under(&gateway.lifecycle.current_set()), [&new, &new]);

    assert_eq!(gateway.jwks().await, jwks);
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(kid(&gateway.token().await), kid(&token));
    let records = gateway.env.store.audit_tail(1).await.unwrap();
    let record = serde_json::to_value(&records[0]).unwrap();
    assert_eq!(
        (&record["event"], &record["reason"]),
        (&json!("reseal"), &json!("yearly"))
    );
    // Said again, it says that there is nothing to do.
    let (_, again) = gateway.admin_post(RESEAL, json!({})).await;
    assert_eq!(
        (&again["changed"], &again["revision"]),
        (&json!(false), &json!(2))
    );
    // The new key alone opens all of it.
    let path = kek_file(&gateway);
    std::fs::write(&path, format!("{}\n", keys_in(&path)[0])).unwrap();
    let alone = Keyring::load(&[&path]).unwrap();
    let set = gateway.lifecycle.current_set();
    let active = &set.active;
    alone
        .open(
            &set.issuer,
            &active.public.kid,
            active.public.alg,
            &active.sealed,
        )
        .unwrap();
}

#[test]
fn a_new_key_encryption_key_survives_every_fault_and_power_cut() {
    let path = Path::new("/secrets/kek");
    let base = SimDisk::new();
    write_new_kek_on(&base, path).unwrap();
    let load = |disk: &SimDisk| Keyring::load_on(Arc::new(disk.clone()), &[path]).unwrap();
    let old = load(&base).ids();
    let mut states = 0;
    for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS] {
        for effect in [Effect::Nothing, Effect::Torn, Effect::Done] {
            for sticky in [false, true] {
                for nth in 1.. {
                    let disk = base.copy();
                    let layer = FaultyLayer::new(Arc::new(disk.clone()));
                    let keyring = Keyring::load_on(Arc::new(layer.clone()), &[path]).unwrap();
                    layer.set(Fault {
                        nth,
                        sticky,
                        only: None,
                        errno: errno.raw_os_error(),
                        effect,
                    });
                    let made = keyring.renew(&old).is_ok();
                    let struck = layer.clear();
                    let case = format!("{errno:?} {effect:?} {sticky} at call {nth}");
                    for state in disk.after_power_cut() {
                        states += 1;
                        let found = load(&state).ids();
                        assert!(found.ends_with(&old) && found.len() <= 2, "{case}");
                        if made {
                            assert_eq!(found, keyring.ids(), "{case}: an acknowledged key is lost");
                        }
                    }
                    if made {
                        assert_ne!(keyring.first_id(), old[0], "{case}");
                    } else {
                        assert_eq!(keyring.ids(), old, "{case}: a key seals that may vanish");
                    }
                    // Once the fault is gone, it succeeds, and nothing has piled up.
                    keyring.renew(&old).unwrap();
                    assert_eq!(keyring.ids().len(), 2, "{case}");
                    for state in disk.after_power_cut() {
                        assert_eq!(load(&state).ids(), keyring.ids(), "{case}");
                    }
                    assert!(disk.stat(Path::new("/secrets/.kek.new")).unwrap().is_none());
                    if !struck {
                        break;
                    }
                }
            }
        }
    }
    assert!(states > 200, "{states}");
}

#[tokio::test]
async fn inv12_a_purge_under_a_new_key_encryption_key_is_crash_atomic() {
    let kek = Path::new("/secrets/kek");
    let base = SimDisk::new();
    write_new_kek_on(&base, kek).unwrap();
    let load = |layer: Arc<dyn FileLayer>| Arc::new(Keyring::load_on(layer, &[kek]).unwrap());
    let mut samples = Samples::with_keys(RingKeyGenerator);
    samples.keyring = load(Arc::new(base.clone()));
    let config = |keyring: &Arc<Keyring>| FileStoreConfig {
        dir: "/data/keys".into(),
        issuer: "https://issuer.example".to_owned(),
        keyring: Arc::clone(keyring),
        clock: Arc::new(ManualClock::at_present()),
    };
    let before = samples.first();
    let disk = Arc::new(base.clone());
    let store = FileStore::create_on(config(&samples.keyring), disk, &before)
        .await
        .unwrap();
    for name in SideDocument::ALL {
        store.save_side(name, b"{}").await.unwrap();
    }
    drop(store);
    let old = samples.keyring.ids();
    let dead = [&before.active.sealed.data, &before.pending.sealed.data];
    let (mut states, mut demands) = (0, 0);
    for effect in [Effect::Nothing, Effect::Torn, Effect::Done] {
        for sticky in [false, true] {
            for nth in 1.. {
                let case = format!("{effect:?} {sticky} at call {nth}");
                let disk = base.copy();
                let layer = FaultyLayer::new(Arc::new(disk.clone()));
                samples.keyring = load(Arc::new(layer.clone()));
                let opened =
                    FileStore::open_on(config(&samples.keyring), Arc::new(layer.clone())).await;
                let store = opened.unwrap();
                layer.set(Fault {
                    nth,
                    sticky,
                    only: None,
                    errno: Errno::IO.raw_os_error(),
                    effect,
                });
                demands += u32::from(samples.keyring.renew(&old).is_err());
                let after = samples.purged(&before);
                let outcome = store.commit(1, &after).await;
                drop(store);
                let struck = layer.clear();
                for state in disk.after_power_cut() {
                    states += 1;
                    // What is on disk can be opened with what is on disk.
                    let keyring = load(Arc::new(state.clone()));
                    let found = FileStore::open_on(config(&keyring), Arc::new(state.clone())).await;
                    let store = found.unwrap_or_else(|error| panic!("{case}: {error}"));
                    let set = store.load().await.unwrap().set;
                    if outcome.is_ok() {
                        assert!(set == after, "{case}: an acknowledged purge is lost");
                    } else {
                        assert!(set == before || set == after, "{case}");
                    }
                    for name in SideDocument::ALL {
                        let side = store.load_side(name).await.unwrap();
                        assert_eq!(side.as_deref(), Some(&b"{}"[..]), "{case}");
                    }
                    for (path, bytes) in state.files().iter().filter(|_| set == after) {
                        let text = text(bytes);
                        for half in dead {
                            assert!(!text.contains(half), "{case}: {}", path.display());
                        }
                    }
                }
                if !struck {
                    assert!(outcome.is_ok());
                    break;
                }
            }
        }
    }
    assert!(states > 300 && demands > 20, "{states} {demands}");
}

// The real binary.

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_resealed_from_the_command_line_and_old_keys_can_go() {
    let mut gateway = Process::start(&Setup::new("127.0.0.1:9")).await;
    let kek = gateway.dir.path().join("secrets/kek");
    let reseal = gateway.run(&["keys", "reseal", "--new-kek", "--reason", "yearly"]);
    let said = text(&reseal.stdout);
    assert_eq!(reseal.status.code(), Some(0), "{}", text(&reseal.stderr));
    assert!(
        said.contains("revision 2") && said.contains("audit log"),
        "{said}"
    );

    let locked = gateway.refused(&["keys", "reseal", "--offline"]).await;
    assert_eq!(locked.code, 5, "{}", locked.stderr);
    assert!(
        locked.stderr.contains("locked by process"),
        "{}",
        locked.stderr
    );
    gateway.purge().await;
    assert_eq!(gateway.terminate().await.code(), Some(0));

    let offline = gateway.run(&[
        "keys",
        "reseal",
        "--offline",
        "--new-kek",
        "--output",
        "json",
    ]);
    let answer: Value = serde_json::from_slice(&offline.stdout).unwrap();
    assert_eq!(answer["changed"], true, "{}", text(&offline.stderr));
    assert_eq!(
        answer["older_key_encryption_keys"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let again = gateway.run(&["keys", "reseal", "--offline"]);
    assert!(text(&again.stdout).starts_with("nothing changed"));

    // All lines are checked, each under the key of its time.
    let verify = gateway.run(&["audit", "verify"]);
    assert!(
        text(&verify.stdout).starts_with("intact: 4 lines"),
        "{}",
        text(&verify.stderr)
    );
    let tail = text(&gateway.run(&["audit", "tail"]).stdout);
    assert!(
        tail.contains("reseal") && tail.contains("offline keys reseal"),
        "{tail}"
    );

    // The older keys taken away: everything works but the check of old lines, which says why.
    let all = std::fs::read_to_string(&kek).unwrap();
    let old = gateway.dir.path().join("secrets/old-kek");
    let keys = keys_in(&kek);
    harness::in_process::write_private(&kek, &format!("{}\n", keys[0]));
    harness::in_process::write_private(&old, &format!("{}\n", keys[1..].join("\n")));
    gateway.serve().await;
    gateway.token().await;
    let verify = gateway.run(&["audit", "verify"]);
    let said = text(&verify.stderr);
    assert_eq!(verify.status.code(), Some(1), "{said}");
    assert!(
        said.contains("line 1 ") && said.contains("--kek-file"),
        "{said}"
    );
    let verify = gateway.run(&["audit", "verify", "--kek-file", "secrets/old-kek"]);
    assert!(
        text(&verify.stdout).starts_with("intact: 4 lines"),
        "{}",
        text(&verify.stderr)
    );
    assert!(all.starts_with("# managed by portcullis"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_given_before_a_start_ends_the_demand() {
    let mut gateway = Process::start(&Setup::new("127.0.0.1:9")).await;
    let kek = gateway.dir.path().join("secrets/kek");
    hand_over(&kek);
    gateway.purge().await;
    let listed = text(&gateway.run(&["keys", "list"]).stdout);
    assert!(listed.contains("is DUE since"), "{listed}");
    assert_eq!(gateway.terminate().await.code(), Some(0));
    gateway.serve().await;
    assert!(
        gateway
            .scrape()
            .await
            .contains("portcullis_key_encryption_key_demanded 1")
    );
    assert_eq!(gateway.terminate().await.code(), Some(0));
    put_in_front(&kek, 9);
    gateway.serve().await;
    assert!(
        gateway
            .scrape()
            .await
            .contains("portcullis_key_encryption_key_demanded 0")
    );
    let tail = text(&gateway.run(&["audit", "tail"]).stdout);
    assert!(tail.lines().last().unwrap().contains("reseal"), "{tail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv17_the_gateway_leaves_no_core_dump_and_nobody_reads_its_memory() {
    let [upstream] = free_ports();
    let mut gateway = Process::configure(&Setup::new(upstream));
    gateway.without_root();
    assert!(gateway.run(&["init"]).status.success());
    gateway.serve().await;
    let proc = PathBuf::from(format!("/proc/{}", gateway.pid()));
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let columns: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(columns[4..6], ["0", "0"], "{core}");
    // What belongs to a process that is not dumpable belongs to root, so that its own user can
    // neither attach to it nor read its memory.
    use std::os::unix::fs::MetadataExt as _;
    let memory = std::fs::metadata(proc.join("mem")).unwrap();
    assert_eq!(
        memory.uid(),
        0,
        "/proc/PID/mem belongs to the gateway's user"
    );
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    let uid = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .unwrap();
    assert!(
        !uid.contains("\t0\t"),
        "the test proves nothing as root: {uid}"
    );
}
