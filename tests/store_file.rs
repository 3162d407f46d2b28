//! The file store: what it keeps, what it refuses, and what every fault and every power cut at
//! every call leaves behind.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use portcullis::clock::{Clock, Timestamp};
use portcullis::keygen::RingKeyGenerator;
use portcullis::keys::{AuditRecord, KeySet};
use portcullis::store::audit::{self, AuditError, AuditVerdict, LineError};
use portcullis::store::conformance::{self, Samples};
use portcullis::store::faulty_layer::{Effect, Fault, FaultyLayer};
use portcullis::store::faulty_store::{FaultyStore, Gate, Step, Trouble};
use portcullis::store::file_layer::{FileLayer, RealLayer};
use portcullis::store::sealing::KekSecret;
use portcullis::store::sim_disk::SimDisk;
use portcullis::store::{
    CommitError, FileStore, FileStoreConfig, KeyStore, Keyring, MemoryStore, SideDocument,
    StoreError, StoreWarning, write_new_kek_on,
};
use portcullis::testing::ManualClock;
use rustix::io::Errno;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(NOW))
}

fn config(samples: &Samples, dir: &Path) -> FileStoreConfig {
    FileStoreConfig {
        dir: dir.to_owned(),
        issuer: samples.issuer.clone(),
        keyring: Arc::clone(&samples.keyring),
        clock: clock(),
    }
}

/// A store on real files, in a directory that is removed at the end.
struct Home {
    _temp: tempfile::TempDir,
    dir: PathBuf,
    samples: Samples,
}

impl Home {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self {
            dir: temp.path().join("data/keys"),
            _temp: temp,
            samples: Samples::new(),
        }
    }

    /// A store at revision 4: rotated, purged, raised.
    async fn used(&self) -> (FileStore, Vec<KeySet>) {
        let first = self.samples.first();
        let store = FileStore::create(self.config(), &first).await.unwrap();
        let mut history = vec![first];
        for step in [Samples::rotated, Samples::purged, Samples::raised] {
            history.push(advance(&store, &self.samples, history.last().unwrap(), step).await);
        }
        (store, history)
    }

    fn config(&self) -> FileStoreConfig {
        config(&self.samples, &self.dir)
    }

    async fn open(&self) -> Result<FileStore, StoreError> {
        FileStore::open(self.config()).await
    }

    async fn refusal(&self) -> StoreError {
        self.open().await.unwrap_err()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
        self.chmod(name, 0o600);
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn verify_audit(&self) -> Result<AuditVerdict, AuditError> {
        verify_audit(&self.samples, &self.read("audit.log"))
    }
}

async fn advance(
    store: &dyn KeyStore,
    samples: &Samples,
    set: &KeySet,
    step: fn(&Samples, &KeySet) -> KeySet,
) -> KeySet {
    let next = step(samples, set);
    let committed = store.commit(set.revision, &next).await.unwrap();
    assert!(committed.warnings.is_empty(), "{:?}", committed.warnings);
    next
}

fn verify_audit(samples: &Samples, log: &[u8]) -> Result<AuditVerdict, AuditError> {
    audit::verify(log, &samples.keyring, &samples.issuer)
}

fn intact(lines: u64) -> AuditVerdict {
    AuditVerdict {
        lines,
        first_revision: Some(1),
        last_revision: Some(lines),
        gaps: Vec::new(),
        torn: false,
    }
}

/// Private halves that `before` holds and `after` does not.
fn ended(before: &KeySet, after: &KeySet) -> Vec<String> {
    let halves = |set: &KeySet| {
        [
            set.active.sealed.data.clone(),
            set.pending.sealed.data.clone(),
        ]
    };
    let kept = halves(after);
    let gone = halves(before).into_iter();
    gone.filter(|half| !kept.contains(half)).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn files_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn assert_none_holds(files: &[(PathBuf, Vec<u8>)], halves: &[String], when: &str) {
    for (path, bytes) in files {
        for half in halves {
            assert!(
                !holds(bytes, half),
                "{when}: {} holds a private half that has ended",
                path.display()
            );
        }
    }
}

// Conformance.

#[tokio::test(flavor = "multi_thread")]
async fn file_store_conforms() {
    let temp = tempfile::tempdir().unwrap();
    let numbers = AtomicU32::new(0);
    conformance::run(|first| {
        let n = numbers.fetch_add(1, Ordering::Relaxed);
        let config = config(&Samples::new(), &temp.path().join(n.to_string()));
        async move { Arc::new(FileStore::create(config, &first).await.unwrap()) as Arc<dyn KeyStore> }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_store_on_a_simulated_disk_conforms() {
    conformance::run(|first| async move {
        let disk = Arc::new(SimDisk::new());
        let store = FileStore::create_on(config(&Samples::new(), sim_dir()), disk, &first).await;
        Arc::new(store.unwrap()) as Arc<dyn KeyStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_store_conforms() {
    conformance::run(|first| async move {
        Arc::new(MemoryStore::create(clock(), &first).unwrap()) as Arc<dyn KeyStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_store_without_faults_conforms() {
    conformance::run(|first| async move {
        let inner = Arc::new(MemoryStore::create(clock(), &first).unwrap());
        Arc::new(FaultyStore::new(inner)) as Arc<dyn KeyStore>
    })
    .await;
}

// What it keeps.

#[tokio::test]
async fn everything_survives_a_restart() {
    let home = Home::new();
    let (store, history) = home.used().await;
    store.save_side(SideDocument::Clients, b"{}").await.unwrap();
    drop(store);

    let store = home.open().await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.set, history[3]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let side = store.load_side(SideDocument::Clients).await.unwrap();
    assert_eq!(side.as_deref(), Some(&b"{}"[..]));
    assert_eq!(store.load_side(SideDocument::Counters).await.unwrap(), None);
    let events: Vec<AuditRecord> = history.into_iter().map(|set| set.last_event).collect();
    assert_eq!(store.audit_tail(9).await.unwrap(), events);
    assert_eq!(home.verify_audit().unwrap(), intact(4));
    assert_eq!(home.config().audit_log(), home.path("audit.log"));
}

#[tokio::test]
async fn files_are_private_from_the_start() {
    let home = Home::new();
    let (store, _) = home.used().await;
    store.save_side(SideDocument::Counters, b"1").await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&home.dir), 0o700);
    assert_eq!(mode(home.dir.parent().unwrap()), 0o700);
    let files = files_of(&home.dir);
    let names: Vec<_> = files
        .iter()
        .filter_map(|(path, _)| path.file_name())
        .collect();
    for name in [
        "keyset.json",
        "keyset.prev.json",
        "audit.log",
        "lock",
        "counters.json",
    ] {
        assert!(names.contains(&name.as_ref()), "{name} is missing");
    }
    assert_eq!(files.len(), 5);
    for (path, _) in files {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn store_now_is_never_before_the_last_use() {
    let home = Home::new();
    let first = home.samples.first();
    let used = first.high_water_time;
    let at = |now: Timestamp| FileStoreConfig {
        clock: Arc::new(ManualClock::at(now)),
        ..home.config()
    };
    drop(
        FileStore::create(at(Timestamp::default()), &first)
            .await
            .unwrap(),
    );
    let store = FileStore::open(at(Timestamp::default())).await.unwrap();
    assert_eq!(store.load().await.unwrap().store_now, used);
    drop(store);
    let later = used.plus(Duration::from_millis(5));
    let store = FileStore::open(at(later)).await.unwrap();
    assert_eq!(store.load().await.unwrap().store_now, later);
}

#[tokio::test]
async fn the_previous_generation_is_kept_unless_a_private_half_ended() {
    let home = Home::new();
    let first = home.samples.first();
    let store = FileStore::create(home.config(), &first).await.unwrap();
    let before = home.read("keyset.json");
    let raised = advance(&store, &home.samples, &first, Samples::raised).await;
    assert_eq!(home.read("keyset.prev.json"), before);
    let before = home.read("keyset.json");
    let raised = advance(&store, &home.samples, &raised, Samples::raised).await;
    assert_eq!(home.read("keyset.prev.json"), before);
    assert_ne!(home.read("keyset.json"), before);

    let ends: [fn(&Samples, &KeySet) -> KeySet; 3] = [
        Samples::rotated,
        Samples::with_pending_replaced,
        Samples::purged,
    ];
    let mut set = raised;
    for step in ends {
        let next = advance(&store, &home.samples, &set, step).await;
        let halves = ended(&set, &next);
        assert!(!halves.is_empty());
        assert_none_holds(&files_of(&home.dir), &halves, "after the commit");
        assert_eq!(home.read("keyset.prev.json"), home.read("keyset.json"));
        set = next;
    }
}

#[tokio::test]
async fn a_commit_whose_caller_went_away_is_carried_out() {
    let home = Home::new();
    let (store, history) = home.used().await;
    let next = home.samples.rotated(&history[3]);
    {
        let mut commit = store.commit(4, &next);
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(commit.as_mut().poll(&mut context), Poll::Pending));
    }
    assert_eq!(store.load().await.unwrap().set, next);
}

// What it refuses.

#[tokio::test]
async fn a_second_process_is_kept_out_and_told_who_has_it() {
    let home = Home::new();
    let (store, _) = home.used().await;
    let refusal = home.refusal().await;
    assert!(matches!(refusal, StoreError::Locked { .. }), "{refusal}");
    let me = format!("process {} since {NOW}", std::process::id());
    assert!(refusal.to_string().contains(&me), "{refusal}");
    let create = FileStore::create(home.config(), &home.samples.first()).await;
    assert!(matches!(create, Err(StoreError::AlreadyInitialised { .. })));
    drop(store);
    home.open().await.unwrap();
}

#[tokio::test]
async fn what_was_never_made_is_not_initialised_and_stays_untouched() {
    let home = Home::new();
    let refusal = home.refusal().await;
    assert!(
        matches!(refusal, StoreError::NotInitialised { .. }),
        "{refusal}"
    );
    assert!(refusal.to_string().contains("portcullis init"));
    assert!(!home.dir.exists());

    fs::create_dir_all(&home.dir).unwrap();
    assert!(matches!(
        home.refusal().await,
        StoreError::NotInitialised { .. }
    ));
    assert_eq!(fs::read_dir(&home.dir).unwrap().count(), 0);
}

#[tokio::test]
async fn a_key_set_is_never_overwritten_nor_made_anew_over_its_traces() {
    let home = Home::new();
    let (store, history) = home.used().await;
    drop(store);
    let before = home.read("keyset.json");
    let create = || FileStore::create(home.config(), &history[0]);
    let refusal = create().await.unwrap_err();
    assert!(
        matches!(refusal, StoreError::AlreadyInitialised { .. }),
        "{refusal}"
    );
    assert_eq!(home.read("keyset.json"), before);

    fs::remove_file(home.path("keyset.json")).unwrap();
    for gone in ["keyset.prev.json", "audit.log"] {
        for refusal in [home.refusal().await, create().await.unwrap_err()] {
            assert!(matches!(refusal, StoreError::Corrupt { .. }), "{refusal}");
            assert!(refusal.to_string().contains(gone), "{refusal}");
        }
        fs::remove_file(home.path(gone)).unwrap();
    }
    create().await.unwrap();
}

#[tokio::test]
async fn a_key_set_that_vanishes_while_running_is_an_error() {
    let home = Home::new();
    let (store, _) = home.used().await;
    let bytes = home.read("keyset.json");
    fs::remove_file(home.path("keyset.json")).unwrap();
    assert!(matches!(
        store.load().await,
        Err(StoreError::Corrupt { .. })
    ));
    home.write("keyset.json", bytes);
    store.load().await.unwrap();
}

#[tokio::test]
async fn wide_modes_are_refused_with_the_command_that_narrows_them() {
    let home = Home::new();
    let (store, _) = home.used().await;
    store.save_side(SideDocument::Clients, b"{}").await.unwrap();
    drop(store);
    let files = [
        "keyset.json",
        "keyset.prev.json",
        "audit.log",
        "lock",
        "clients.json",
    ];
    for name in files {
        for mode in [0o640, 0o604, 0o602, 0o700, 0o4600] {
            home.chmod(name, mode);
            let refusal = home.refusal().await;
            let text = refusal.to_string();
            assert!(
                matches!(&refusal, StoreError::Permissions { path, mode: found, .. }
                    if *path == home.path(name) && *found == mode),
                "{text}"
            );
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.contains("chmod 0600"), "{text}");
        }
        home.chmod(name, 0o600);
    }
    for mode in [0o750, 0o701, 0o777] {
        home.chmod("", mode);
        let text = home.refusal().await.to_string();
        assert!(text.contains("chmod 0700"), "{text}");
    }
    for mode in [0o700, 0o2700] {
        home.chmod("", mode);
        home.open().await.unwrap();
    }
}

#[tokio::test]
async fn another_issuer_or_another_key_encryption_key_is_refused() {
    let home = Home::new();
    let (store, _) = home.used().await;
    store.save_side(SideDocument::Clients, b"{}").await.unwrap();
    drop(store);
    let renamed = FileStoreConfig {
        issuer: "https://other.example".to_owned(),
        ..home.config()
    };
    let refusal = FileStore::open(renamed).await.unwrap_err();
    assert!(
        matches!(refusal, StoreError::WrongIssuer { .. }),
        "{refusal}"
    );
    assert!(refusal.to_string().contains(&home.samples.issuer));

    let other = Keyring::new([KekSecret::new([1; 32])]).unwrap();
    let wrong_key = FileStoreConfig {
        keyring: Arc::new(other),
        ..home.config()
    };
    let refusal = FileStore::open(wrong_key.clone()).await.unwrap_err();
    assert!(matches!(refusal, StoreError::NoKey { .. }), "{refusal}");
    assert!(refusal.to_string().contains("encryption_key_files"));
    home.open().await.unwrap();
}

#[tokio::test]
async fn a_new_key_encryption_key_in_front_takes_over_with_the_next_commit() {
    let home = Home::new();
    let (store, history) = home.used().await;
    drop(store);
    let with = |bytes: &[u8]| FileStoreConfig {
        keyring: Arc::new(Keyring::new(bytes.iter().map(|b| KekSecret::new([*b; 32]))).unwrap()),
        ..home.config()
    };
    let store = FileStore::open(with(&[9, 42])).await.unwrap();
    assert!(store.load().await.unwrap().warnings.is_empty());
    let next = advance(&store, &home.samples, &history[3], Samples::raised).await;
    drop(store);
    let only_new = FileStore::open(with(&[9])).await.unwrap();
    assert_eq!(only_new.load().await.unwrap().set, next);
    drop(only_new);
    assert!(matches!(
        FileStore::open(with(&[42])).await,
        Err(StoreError::NoKey { .. })
    ));
}

#[tokio::test]
async fn a_document_too_long_to_be_read_is_never_written() {
    let home = Home::new();
    let (store, history) = home.used().await;
    let mut next = home.samples.rotated(&history[3]);
    for n in 0..60_000 {
        let mut tombstone = next.tombstones[0].clone();
        tombstone.kid = format!("kid-{n}").parse().unwrap();
        next.tombstones.push(tombstone);
    }
    let refused = store.commit(4, &next).await.unwrap_err();
    assert!(
        refused.to_string().contains("longer than 16 MiB"),
        "{refused}"
    );
    assert_eq!(store.load().await.unwrap().set, history[3]);
}

// Tampering.

#[tokio::test]
async fn one_byte_changed_anywhere_is_refused_and_the_store_goes_on_once_it_is_put_right() {
    let home = Home::new();
    let (store, history) = home.used().await;
    let good = home.read("keyset.json");
    for at in 0..good.len() {
        for changed in [good[at] ^ 1, b' ', b'0'] {
            if changed == good[at] {
                continue;
            }
            let mut bad = good.clone();
            bad[at] = changed;
            home.write("keyset.json", &bad);
            let refusal = store
                .load()
                .await
                .expect_err(&format!("byte {at} as {changed}"));
            assert!(
                matches!(
                    refusal,
                    StoreError::Corrupt { .. }
                        | StoreError::Tampered { .. }
                        | StoreError::NoKey { .. }
                ),
                "{refusal}"
            );
            let next = home.samples.raised(&history[3]);
            store.commit(4, &next).await.unwrap_err();
            assert_eq!(home.read("keyset.json"), bad, "evidence was overwritten");
        }
    }
    home.write("keyset.json", &good);
    assert_eq!(store.load().await.unwrap().set, history[3]);
}

#[tokio::test]
async fn one_byte_changed_anywhere_is_refused_at_the_start() {
    let samples = Samples::new();
    let (disk, set) = used_disk(&samples).await;
    let path = sim_dir().join("keyset.json");
    let good = content_of(&disk, "keyset.json");
    let refused = |bad: Vec<u8>| {
        disk.put(&path, &bad);
        open_on(&samples, &disk)
    };
    for at in 0..good.len() {
        for changed in [good[at] ^ 1, good[at] ^ 0x20, b' '] {
            let mut bad = good.clone();
            bad[at] = changed;
            if bad != good {
                refused(bad)
                    .await
                    .expect_err(&format!("byte {at} as {changed}"));
            }
        }
        // White space means nothing to JSON; here it does.
        let inserted = [&good[..at], b" ", &good[at..]].concat();
        refused(inserted)
            .await
            .expect_err(&format!("a space at {at}"));
    }
    refused([&good[..], b"\n"].concat()).await.unwrap_err();
    refused(good[..good.len() - 1].to_vec()).await.unwrap_err();
    disk.put(&path, &good);
    let store = open_on(&samples, &disk).await.unwrap();
    assert_eq!(store.load().await.unwrap().set, set);
}

#[tokio::test]
async fn truncated_files_are_refused() {
    let home = Home::new();
    let (store, _) = home.used().await;
    let good = home.read("keyset.json");
    for len in (0..good.len()).step_by(13).chain([good.len() - 1]) {
        home.write("keyset.json", &good[..len]);
        let refusal = store.load().await.unwrap_err();
        assert!(
            matches!(
                refusal,
                StoreError::Corrupt { .. } | StoreError::Tampered { .. }
            ),
            "{len}: {refusal}"
        );
    }
    drop(store);
    home.write("keyset.json", b"");
    let refusal = home.refusal().await.to_string();
    assert!(refusal.contains("it is empty"), "{refusal}");
    home.write("keyset.json", [&good[..], &good[..]].concat());
    home.refusal().await;
}

#[tokio::test]
async fn edits_of_the_content_are_refused_with_the_rule() {
    let home = Home::new();
    let (store, history) = home.used().await;
    let good: Value = serde_json::from_slice(&home.read("keyset.json")).unwrap();
    let planted = history[0].active.public.clone();
    type Edit = fn(&mut Value, Value);
    let edits: [(&str, Edit); 6] = [
        ("a public key inserted as deprecated", |file, key| {
            file["document"]["keys"].as_array_mut().unwrap().push(key);
        }),
        ("a tombstone removed", |file, _| {
            let tombstones = file["document"]["tombstones"].as_array_mut().unwrap();
            tombstones.remove(0);
        }),
        ("a tombstone shortened", |file, _| {
            file["document"]["tombstones"][0]["tombstone_until"] = json!(0);
        }),
        ("the revision raised", |file, _| file["revision"] = json!(5)),
        ("the issuer changed", |file, _| {
            file["issuer"] = json!("https://evil.example")
        }),
        ("the time put back", |file, _| {
            file["document"]["high_water_time"] = json!(0);
        }),
    ];
    for (edit, apply) in edits {
        let mut file = good.clone();
        let key = json!({
            "kid": planted.kid, "alg": planted.alg, "state": "deprecated",
            "public_jwk": planted.jwk, "created_at": 0, "published_at": 0,
            "published_revision": 1, "activated_at": 0, "deprecated_at": 0,
            "verify_until": 9_999_999_999_999_i64, "max_ttl": 1000,
        });
        apply(&mut file, key);
        home.write("keyset.json", format!("{file}\n"));
        let refusal = store.load().await.unwrap_err();
        assert!(
            matches!(refusal, StoreError::Tampered { .. }),
            "{edit}: {refusal}"
        );
        assert!(
            refusal.to_string().contains("authentication code"),
            "{edit}"
        );
    }
    // Same content in another spelling.
    let pretty = serde_json::to_vec_pretty(&good).unwrap();
    home.write("keyset.json", pretty);
    store.load().await.unwrap_err();
}

#[tokio::test]
async fn an_older_generation_put_back_is_refused() {
    let home = Home::new();
    let first = home.samples.first();
    let store = FileStore::create(home.config(), &first).await.unwrap();
    let mut generations = vec![home.read("keyset.json")];
    let mut set = first;
    for step in [Samples::raised, Samples::purged] {
        set = advance(&store, &home.samples, &set, step).await;
        generations.push(home.read("keyset.json"));
    }
    // While running.
    for old in &generations[..2] {
        home.write("keyset.json", old);
        let refusal = store.load().await.unwrap_err();
        assert!(
            refusal.to_string().contains("it is an older one"),
            "{refusal}"
        );
        let commit = store.commit(3, &home.samples.raised(&set)).await;
        assert!(matches!(
            commit,
            Err(CommitError::Store(StoreError::Tampered { .. }))
        ));
    }
    drop(store);

    // At the start: either trace is enough.
    let traces = ["keyset.prev.json", "audit.log"];
    let kept: Vec<Vec<u8>> = traces.iter().map(|name| home.read(name)).collect();
    for (removed, other) in [(0, 1), (1, 0)] {
        fs::remove_file(home.path(traces[removed])).unwrap();
        let refusal = home.refusal().await.to_string();
        assert!(refusal.contains("proves that 3 was stored"), "{refusal}");
        assert!(refusal.contains(traces[other]), "{refusal}");
        home.write(traces[removed], &kept[removed]);
    }
    // The whole directory put back is beyond detection.
    fs::remove_file(home.path("audit.log")).unwrap();
    home.write("keyset.prev.json", &generations[1]);
    home.write("keyset.json", &generations[1]);
    home.open().await.unwrap();
}

#[tokio::test]
async fn another_document_of_the_same_revision_is_refused_while_running() {
    let home = Home::new();
    let (store, history) = home.used().await;
    let good = home.read("keyset.json");

    let fork = Home::new();
    let forked = FileStore::create(fork.config(), &history[2]).await.unwrap();
    let other = advance(&forked, &home.samples, &history[2], Samples::rotated).await;
    assert_eq!(other.revision, history[3].revision);
    home.write("keyset.json", fork.read("keyset.json"));
    let refusal = store.load().await.unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("another document of revision 4"),
        "{refusal}"
    );
    home.write("keyset.json", good);
    store.load().await.unwrap();
}

#[tokio::test]
async fn side_documents_are_authentic_and_cannot_be_swapped() {
    let home = Home::new();
    let (store, _) = home.used().await;
    store
        .save_side(SideDocument::Clients, b"{\"c\":1}")
        .await
        .unwrap();
    store
        .save_side(SideDocument::Counters, b"{\"n\":1}")
        .await
        .unwrap();
    let good = home.read("clients.json");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        home.write("clients.json", bad);
        store.load_side(SideDocument::Clients).await.unwrap_err();
    }
    home.write("clients.json", home.read("counters.json"));
    let refusal = store.load_side(SideDocument::Clients).await.unwrap_err();
    assert!(
        refusal.to_string().contains("another document"),
        "{refusal}"
    );
    home.write("clients.json", b"");
    store.load_side(SideDocument::Clients).await.unwrap_err();
    store
        .save_side(SideDocument::Clients, b"new")
        .await
        .unwrap();
    let loaded = store.load_side(SideDocument::Clients).await.unwrap();
    assert_eq!(loaded.as_deref(), Some(&b"new"[..]));
}

// The audit log.

#[tokio::test]
async fn an_edited_audit_log_is_found_out_line_by_line() {
    let home = Home::new();
    drop(home.used().await);
    let log = String::from_utf8(home.read("audit.log")).unwrap();
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 4);
    let bad_line = |log: &str| match verify_audit(&home.samples, log.as_bytes()) {
        Err(AuditError::Line { number, rule }) => (number, rule),
        other => panic!("{other:?}"),
    };

    let edited = log.replacen("a drill", "a thrill", 1);
    assert_eq!(bad_line(&edited), (2, LineError::Changed));
    let respelt = lines[0].replacen("\"record\":", "\"record\": ", 1) + &lines[1..].concat();
    assert_eq!(bad_line(&respelt), (1, LineError::Changed));
    let without_second = [lines[0], lines[2], lines[3]].concat();
    assert_eq!(bad_line(&without_second), (2, LineError::Unchained));
    let swapped = [lines[0], lines[2], lines[1], lines[3]].concat();
    assert_eq!(bad_line(&swapped), (2, LineError::Unchained));
    let doubled = [lines[0], lines[0]].concat();
    assert_eq!(bad_line(&doubled), (2, LineError::Unchained));
    let (number, rule) = bad_line(&(log.clone() + "{}\n"));
    assert!(matches!((number, rule), (5, LineError::Malformed(_))));
    for at in 0..log.len() - 1 {
        let mut bytes = log.clone().into_bytes();
        bytes[at] ^= 1;
        assert!(verify_audit(&home.samples, &bytes).is_err(), "byte {at}");
    }

    // Both ends can be cut off unnoticed, but the verdict says where the log begins and ends.
    let verdict = verify_audit(&home.samples, lines[1..3].concat().as_bytes()).unwrap();
    assert_eq!(
        (verdict.first_revision, verdict.last_revision),
        (Some(2), Some(3))
    );
    assert_eq!(
        verify_audit(&home.samples, b"").unwrap(),
        AuditVerdict::default()
    );
    let torn = verify_audit(&home.samples, &log.as_bytes()[..log.len() - 1]).unwrap();
    assert!(torn.torn && torn.lines == 3);

    let other = Keyring::new([KekSecret::new([1; 32])]).unwrap();
    assert!(matches!(
        audit::verify(log.as_bytes(), &other, &home.samples.issuer),
        Err(AuditError::Line {
            number: 1,
            rule: LineError::NoKey(_)
        })
    ));
    assert!(audit::verify(log.as_bytes(), &home.samples.keyring, "https://x").is_err());
}

#[tokio::test]
async fn a_torn_or_lost_audit_line_is_written_again_at_the_start() {
    let home = Home::new();
    drop(home.used().await);
    let log = home.read("audit.log");
    let last = log.len() - 1;
    let last_line = log[..last].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    let mut scrambled = log.clone();
    scrambled[last_line + 20..last].fill(0);
    let damaged = [
        log[..last].to_vec(),
        log[..last_line + 7].to_vec(),
        log[..last_line].to_vec(),
        [&log[..], b"{\"rec"].concat(),
        [&log[..last_line], &vec![0; 300]].concat(),
        scrambled,
    ];
    for damage in damaged {
        home.write("audit.log", &damage);
        let store = home.open().await.unwrap();
        let warnings = store.load().await.unwrap().warnings;
        assert_eq!(
            warnings.is_empty(),
            damage.len() == last_line,
            "{warnings:?}"
        );
        drop(store);
        assert_eq!(home.read("audit.log"), log);
    }
}

#[tokio::test]
async fn a_bad_audit_log_is_reported_but_stops_nothing() {
    let home = Home::new();
    let (store, history) = home.used().await;
    drop(store);
    let log = home.read("audit.log");

    fs::remove_file(home.path("audit.log")).unwrap();
    let store = home.open().await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.set, history[3]);
    assert!(loaded.warnings[0].to_string().contains("was missing"));
    assert!(store.load().await.unwrap().warnings.is_empty());
    drop(store);
    let verdict = home.verify_audit().unwrap();
    assert_eq!((verdict.first_revision, verdict.lines), (Some(4), 1));

    // Evidence in the middle stays where it is, and what follows is chained all the same.
    let edited = String::from_utf8(log.clone())
        .unwrap()
        .replacen("a drill", "a thrill", 1);
    home.write("audit.log", &edited);
    let store = home.open().await.unwrap();
    let warnings = store.load().await.unwrap().warnings;
    assert!(
        matches!(warnings[..], [StoreWarning::Audit { .. }]),
        "{warnings:?}"
    );
    advance(&store, &home.samples, &history[3], Samples::rotated).await;
    drop(store);
    assert!(home.read("audit.log").starts_with(edited.as_bytes()));
    assert!(matches!(
        home.verify_audit(),
        Err(AuditError::Line { number: 2, .. })
    ));
}

#[tokio::test]
async fn a_gap_in_the_audit_log_is_reported() {
    let home = Home::new();
    drop(home.used().await);
    let log = home.read("audit.log");
    let first_line = log.iter().position(|b| *b == b'\n').unwrap() + 1;
    home.write("audit.log", &log[..first_line]);
    let store = home.open().await.unwrap();
    let warnings = store.load().await.unwrap().warnings;
    assert!(
        warnings[0]
            .to_string()
            .contains("lacks the revisions 2 to 3"),
        "{warnings:?}"
    );
    assert_eq!(home.verify_audit().unwrap().gaps, [(2, 3)]);
}

#[tokio::test]
async fn an_archived_audit_log_goes_on_in_a_new_file() {
    let home = Home::new();
    let (store, history) = home.used().await;
    fs::rename(home.path("audit.log"), home.dir.join("../audit.1")).unwrap();
    advance(&store, &home.samples, &history[3], Samples::rotated).await;
    let archived = fs::read(home.dir.join("../audit.1")).unwrap();
    let whole = [archived, home.read("audit.log")].concat();
    assert_eq!(verify_audit(&home.samples, &whole).unwrap(), intact(5));
}

#[tokio::test]
async fn audit_lines_that_could_not_be_appended_come_later_and_then_survive_a_power_cut() {
    let samples = Samples::new();
    let (disk, mut set) = used_disk(&samples).await;
    let layer = FaultyLayer::new(Arc::new(disk.clone()));
    let store = open_on(&samples, &layer).await.unwrap();
    // Archived, so that the lines to come make a new file.
    let archive = content_of(&disk, "audit.log");
    disk.remove(&sim_dir().join("audit.log")).unwrap();
    layer.set(Fault {
        nth: 1,
        sticky: true,
        only: Some("audit.log"),
        errno: Errno::NOSPC.raw_os_error(),
        effect: Effect::Nothing,
    });
    for _ in 0..3 {
        let next = samples.rotated(&set);
        let warnings = store.commit(set.revision, &next).await.unwrap().warnings;
        assert!(
            warnings
                .iter()
                .all(|warning| matches!(warning, StoreWarning::AuditLag(_))),
            "{warnings:?}"
        );
        assert!(!warnings.is_empty());
        set = next;
    }
    assert!(layer.clear());
    let check = |set: &KeySet| {
        for state in disk.after_power_cut() {
            let log = [&archive[..], &content_of(&state, "audit.log")].concat();
            assert_eq!(verify_audit(&samples, &log).unwrap(), intact(set.revision));
        }
    };
    assert!(store.load().await.unwrap().warnings.is_empty());
    check(&set);
    for _ in 0..2 {
        set = advance(&store, &samples, &set, Samples::rotated).await;
        check(&set);
    }
}

// What a killed predecessor leaves.

#[tokio::test]
async fn leftovers_are_cleared_away_at_the_start() {
    let home = Home::new();
    let (store, history) = home.used().await;
    let old = home.read("keyset.json");
    let purged = advance(&store, &home.samples, &history[3], Samples::purged).await;
    drop(store);
    for name in [
        "keyset.json.tmp",
        "keyset.prev.json.tmp",
        "clients.json.tmp",
    ] {
        home.write(name, &old);
    }
    home.write("keyset.prev.json", &old);
    let halves = ended(&history[3], &purged);
    assert!(holds(&old, &halves[0]));

    let store = home.open().await.unwrap();
    assert_eq!(store.load().await.unwrap().set, purged);
    assert_none_holds(&files_of(&home.dir), &halves, "after the start");
    let left = files_of(&home.dir);
    assert!(
        left.iter()
            .all(|(path, _)| path.extension().unwrap_or_default() != "tmp")
    );

    // An unreadable previous generation may hold anything: it is replaced too.
    drop(store);
    home.write("keyset.prev.json", b"garbage");
    home.open().await.unwrap();
    assert_eq!(home.read("keyset.prev.json"), home.read("keyset.json"));
}

// Faults at every call.

fn sim_dir() -> &'static Path {
    Path::new("/data/keys")
}

type Transition = fn(&Samples, &KeySet) -> KeySet;

const TRANSITIONS: [(&str, Transition); 5] = [
    ("rotate", Samples::rotated),
    ("purge", Samples::purged),
    ("replace pending", Samples::with_pending_replaced),
    ("raise", Samples::raised),
    ("reseal", Samples::resealed),
];

const EFFECTS: [Effect; 3] = [Effect::Nothing, Effect::Torn, Effect::Done];

/// A simulated disk with a store at revision 3, whose previous generation differs.
async fn used_disk(samples: &Samples) -> (SimDisk, KeySet) {
    let disk = SimDisk::new();
    let first = samples.first();
    let store = create_on(samples, &disk, &first).await.unwrap();
    let rotated = advance(&store, samples, &first, Samples::rotated).await;
    let raised = advance(&store, samples, &rotated, Samples::raised).await;
    (disk, raised)
}

async fn create_on(
    samples: &Samples,
    layer: &(impl FileLayer + Clone + 'static),
    first: &KeySet,
) -> Result<FileStore, StoreError> {
    let layer = Arc::new(layer.clone());
    FileStore::create_on(config(samples, sim_dir()), layer, first).await
}

async fn open_on(
    samples: &Samples,
    layer: &(impl FileLayer + Clone + 'static),
) -> Result<FileStore, StoreError> {
    FileStore::open_on(config(samples, sim_dir()), Arc::new(layer.clone())).await
}

fn content_of(disk: &SimDisk, name: &str) -> Vec<u8> {
    let mut files = disk.files().into_iter();
    let file = files.find(|(path, _)| path.ends_with(name));
    file.map(|(_, bytes)| bytes).unwrap_or_default()
}

/// Every single fault, until the call number is so high that none strikes.
fn faults() -> impl Iterator<Item = Fault> {
    let errnos = [Errno::IO, Errno::NOSPC, Errno::ROFS];
    let kinds = errnos.into_iter().flat_map(|errno| {
        EFFECTS.into_iter().flat_map(move |effect| {
            [false, true].map(|sticky| Fault {
                nth: 0,
                sticky,
                only: None,
                errno: errno.raw_os_error(),
                effect,
            })
        })
    });
    kinds.collect::<Vec<_>>().into_iter()
}

#[tokio::test]
async fn every_fault_at_every_call_of_a_commit() {
    let samples = Samples::new();
    let (base, before) = used_disk(&samples).await;
    let (mut cases, mut refused, mut unknown, mut went_on) = (0, 0, 0, 0);
    for (name, transition) in TRANSITIONS {
        let after = transition(&samples, &before);
        let halves = ended(&before, &after);
        for kind in faults() {
            for nth in 1.. {
                let fault = Fault { nth, ..kind };
                let case = format!("{name}, {fault:?}");
                let disk = base.copy();
                let layer = FaultyLayer::new(Arc::new(disk.clone()));
                let store = open_on(&samples, &layer).await.unwrap();
                layer.set(fault);
                let outcome = store.commit(before.revision, &after).await;
                if let Ok(loaded) = store.load().await {
                    assert!(loaded.set == before || loaded.set == after, "{case}");
                    // What was reported is durable: no fault later takes it back.
                    for state in disk.after_power_cut() {
                        let restarted = open_on(&samples, &state).await.unwrap();
                        let found = restarted.load().await.unwrap().set;
                        assert!(found.revision >= loaded.set.revision, "{case}");
                    }
                }
                if !layer.clear() {
                    assert!(outcome.is_ok(), "{case}");
                    break;
                }

                // Healed: it says what happened, without a restart.
                cases += 1;
                let loaded = store.load().await.unwrap();
                match &outcome {
                    Ok(_) => {
                        went_on += 1;
                        assert_eq!(loaded.set, after, "{case}");
                        assert_none_holds(&disk.files(), &halves, &case);
                    }
                    Err(CommitError::Store(StoreError::OutcomeUnknown { .. })) => {
                        unknown += 1;
                        assert!(loaded.set == before || loaded.set == after, "{case}");
                    }
                    Err(CommitError::Store(_)) => {
                        refused += 1;
                        assert_eq!(loaded.set, before, "{case}");
                    }
                    Err(error) => panic!("{case}: {error}"),
                }
                if loaded.set == after {
                    assert_none_holds(&disk.files(), &halves, &case);
                }
                let next = advance(&store, &samples, &loaded.set, Samples::purged).await;
                assert_none_holds(&disk.files(), &ended(&before, &next), &case);
                drop(store);
                let restarted = open_on(&samples, &disk).await.unwrap();
                let reloaded = restarted.load().await.unwrap();
                assert_eq!(reloaded.set, next, "{case}");
                assert!(
                    reloaded.warnings.is_empty(),
                    "{case}: {:?}",
                    reloaded.warnings
                );
                let verdict = verify_audit(&samples, &content_of(&disk, "audit.log")).unwrap();
                assert_eq!(verdict, intact(next.revision), "{case}");
            }
        }
    }
    println!("{cases} cases: {refused} refused, {unknown} unknown, {went_on} committed");
    assert!(refused > 0 && unknown > 0 && went_on > 0);
}

#[tokio::test]
async fn every_power_cut_at_every_call_of_a_commit() {
    let samples = Samples::new();
    let (base, before) = used_disk(&samples).await;
    let mut states = 0;
    for (name, transition) in TRANSITIONS {
        let after = transition(&samples, &before);
        let halves = ended(&before, &after);
        for effect in EFFECTS {
            for nth in 1.. {
                let disk = base.copy();
                let layer = FaultyLayer::new(Arc::new(disk.clone()));
                let store = open_on(&samples, &layer).await.unwrap();
                // From this call on nothing reaches the disk any more.
                layer.set(Fault {
                    nth,
                    sticky: true,
                    only: None,
                    errno: Errno::IO.raw_os_error(),
                    effect,
                });
                let outcome = store.commit(before.revision, &after).await;
                drop(store);
                let struck = layer.clear();
                for state in disk.after_power_cut() {
                    states += 1;
                    let case = format!("{name}, {effect:?} at call {nth}");
                    if outcome.is_ok() {
                        assert_none_holds(&state.files(), &halves, &case);
                    }
                    let restarted = open_on(&samples, &state).await.unwrap();
                    let found = restarted.load().await.unwrap();
                    if outcome.is_ok() {
                        assert_eq!(found.set, after, "{case}: an acknowledged commit is lost");
                    } else {
                        assert!(found.set == before || found.set == after, "{case}");
                    }
                    if found.set == after {
                        assert_none_holds(&state.files(), &halves, &case);
                    }
                    let verdict = verify_audit(&samples, &content_of(&state, "audit.log")).unwrap();
                    assert_eq!(verdict, intact(found.set.revision), "{case}");
                    advance(&restarted, &samples, &found.set, Samples::rotated).await;
                }
                // Only the process was killed, the machine goes on: what its successor is told of
                // must not be taken back by a power cut later.
                let successor = open_on(&samples, &disk).await.unwrap();
                let told = successor.load().await.unwrap().set;
                for state in disk.after_power_cut() {
                    let restarted = open_on(&samples, &state).await.unwrap();
                    assert_eq!(restarted.load().await.unwrap().set, told);
                }
                if !struck {
                    break;
                }
            }
        }
    }
    println!("{states} states after power cuts");
    assert!(states > 500);
}

#[tokio::test]
async fn a_power_cut_after_a_fault_loses_nothing_acknowledged() {
    let samples = Samples::new();
    let (base, before) = used_disk(&samples).await;
    let after = samples.purged(&before);
    let halves = ended(&before, &after);
    let mut states = 0;
    for effect in EFFECTS {
        for first in 1.. {
            let mut first_struck = false;
            for second in first + 1.. {
                let disk = base.copy();
                let inner = FaultyLayer::new(Arc::new(disk.clone()));
                let outer = FaultyLayer::new(Arc::new(inner.clone()));
                let store = open_on(&samples, &outer).await.unwrap();
                let fault = |nth, sticky| Fault {
                    nth,
                    sticky,
                    only: None,
                    errno: Errno::IO.raw_os_error(),
                    effect,
                };
                inner.set(fault(first, false));
                outer.set(fault(second, true));
                let outcome = store.commit(before.revision, &after).await;
                drop(store);
                first_struck = inner.clear();
                let second_struck = outer.clear();
                for state in disk.after_power_cut() {
                    states += 1;
                    let case = format!("{effect:?} at call {first}, power cut at {second}");
                    let restarted = open_on(&samples, &state).await.unwrap();
                    let found = restarted.load().await.unwrap().set;
                    if outcome.is_ok() {
                        assert_eq!(found, after, "{case}: an acknowledged commit is lost");
                    } else {
                        assert!(found == before || found == after, "{case}");
                    }
                    if found == after {
                        assert_none_holds(&state.files(), &halves, &case);
                    }
                }
                if !second_struck {
                    break;
                }
            }
            if !first_struck {
                break;
            }
        }
    }
    println!("{states} states after a fault and a power cut");
    assert!(states > 500);
}

#[tokio::test]
async fn every_fault_and_power_cut_at_every_call_of_a_creation() {
    let samples = Samples::new();
    let first = samples.first();
    for kind in faults() {
        for nth in 1.. {
            let disk = SimDisk::new();
            let layer = FaultyLayer::new(Arc::new(disk.clone()));
            layer.set(Fault { nth, ..kind });
            let outcome = create_on(&samples, &layer, &first).await;
            let created = outcome.is_ok();
            drop(outcome);
            let struck = layer.clear();
            let mut states = disk.after_power_cut();
            states.push(disk);
            for state in states {
                match open_on(&samples, &state).await {
                    Ok(store) => assert_eq!(store.load().await.unwrap().set, first),
                    Err(StoreError::NotInitialised { .. }) if !created => {
                        // A second attempt succeeds, whatever the first one left.
                        let store = create_on(&samples, &state, &first).await.unwrap();
                        assert_eq!(store.load().await.unwrap().set, first);
                    }
                    Err(error) => panic!("{kind:?} at call {nth}: {error}"),
                }
            }
            if !struck {
                assert!(created);
                break;
            }
        }
    }
}

#[tokio::test]
async fn every_fault_at_every_call_of_an_opening() {
    let samples = Samples::new();
    let (base, set) = used_disk(&samples).await;
    for kind in faults() {
        for nth in 1.. {
            let disk = base.copy();
            let layer = FaultyLayer::new(Arc::new(disk.clone()));
            layer.set(Fault { nth, ..kind });
            let opened = open_on(&samples, &layer).await;
            if let Err(error) = &opened {
                assert!(
                    matches!(error, StoreError::Io { .. }),
                    "{kind:?} {nth}: {error}"
                );
            }
            drop(opened);
            let struck = layer.clear();
            let store = open_on(&samples, &disk).await.unwrap();
            assert_eq!(store.load().await.unwrap().set, set);
            if !struck {
                break;
            }
        }
    }
}

#[tokio::test]
async fn every_fault_at_every_call_for_a_side_document_leaves_the_old_or_the_new_one() {
    let samples = Samples::new();
    let (base, set) = used_disk(&samples).await;
    let name = SideDocument::Clients;
    let (old, new) = (vec![1; 3000], vec![2; 3000]);
    let store = open_on(&samples, &base).await.unwrap();
    store.save_side(name, &old).await.unwrap();
    drop(store);
    for kind in faults() {
        for nth in 1.. {
            let disk = base.copy();
            let layer = FaultyLayer::new(Arc::new(disk.clone()));
            let store = open_on(&samples, &layer).await.unwrap();
            layer.set(Fault { nth, ..kind });
            let saved = store.save_side(name, &new).await.is_ok();
            let struck = layer.clear();
            for state in disk.after_power_cut() {
                let restarted = open_on(&samples, &state).await.unwrap();
                let found = restarted.load_side(name).await.unwrap().unwrap();
                assert!(found == new || (!saved && found == old), "{kind:?} {nth}");
            }
            store.save_side(name, &new).await.unwrap();
            assert_eq!(store.load_side(name).await.unwrap().as_ref(), Some(&new));
            assert_eq!(store.load().await.unwrap().set, set);
            if !struck {
                assert!(saved);
                break;
            }
        }
    }
}

#[test]
fn a_key_encryption_key_appears_complete_or_not_at_all() {
    let path = Path::new("/secrets/kek");
    for kind in faults() {
        for nth in 1.. {
            let disk = SimDisk::new();
            let layer = FaultyLayer::new(Arc::new(disk.clone()));
            layer.set(Fault { nth, ..kind });
            let made = write_new_kek_on(&layer, path).is_ok();
            let struck = layer.clear();
            let mut states = disk.after_power_cut();
            states.push(disk);
            for state in states {
                if state.stat(path).unwrap().is_none() {
                    assert!(!made, "{kind:?} {nth}: an acknowledged key is lost");
                    write_new_kek_on(&state, path).unwrap();
                }
                Keyring::load_on(Arc::new(state), &[path]).unwrap();
            }
            if !struck {
                assert!(made);
                break;
            }
        }
    }
}

// A real read-only directory.

const READ_ONLY_CHILD: &str = "PORTCULLIS_TEST_READ_ONLY_DIR";

#[tokio::test]
async fn a_read_only_directory_is_a_clear_error_and_loses_nothing() {
    if let Ok(dir) = std::env::var(READ_ONLY_CHILD) {
        return refuse_read_only(Path::new(&dir)).await;
    }
    let home = Home::new();
    drop(home.used().await);
    let before = home.read("keyset.json");
    if !rustix::process::geteuid().is_root() {
        refuse_read_only(&home.dir).await;
    } else {
        // Modes do not bind root, so the same test runs as somebody else.
        let nobody = 65534;
        let me = std::env::current_exe().unwrap();
        for path in home
            .dir
            .ancestors()
            .take_while(|path| !path.ends_with("tmp"))
        {
            chown(path, Some(nobody), Some(nobody)).unwrap();
        }
        for (path, _) in files_of(&home.dir) {
            chown(path, Some(nobody), Some(nobody)).unwrap();
        }
        let binary = home.dir.join("../../test-binary");
        // By another process: a child that another test starts just then would inherit our open file,
        // and a file open for writing cannot be executed.
        let mut copy = std::process::Command::new("cp");
        assert!(copy.arg(me).arg(&binary).status().unwrap().success());
        chown(&binary, Some(nobody), Some(nobody)).unwrap();
        let output = std::os::unix::process::CommandExt::uid(
            std::process::Command::new(&binary)
                .args([
                    "--exact",
                    "a_read_only_directory_is_a_clear_error_and_loses_nothing",
                ])
                .env(READ_ONLY_CHILD, &home.dir),
            nobody,
        )
        .output()
        .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    assert_eq!(home.read("keyset.json"), before);
}

async fn refuse_read_only(dir: &Path) {
    let samples = Samples::with_keys(RingKeyGenerator);
    let config = config(&samples, dir);
    let set_mode = |mode| fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();

    let store = FileStore::open(config.clone()).await.unwrap();
    let set = store.load().await.unwrap().set;
    set_mode(0o500);
    let refused = store.commit(set.revision, &samples.purged(&set)).await;
    let loaded = store.load().await.unwrap().set;
    drop(store);
    fs::remove_file(dir.join("lock")).unwrap_err();
    set_mode(0o700);
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains(&*dir.to_string_lossy()) && text.contains("give the user"),
        "{text}"
    );
    assert_eq!(loaded, set);
    let store = FileStore::open(config).await.unwrap();
    assert_eq!(store.load().await.unwrap().set, set);
}

// The doubles themselves.

#[tokio::test]
async fn faulty_store_fails_where_it_is_told_to() {
    let samples = Samples::new();
    let first = samples.first();
    let next = samples.rotated(&first);
    let inner = Arc::new(MemoryStore::create(clock(), &first).unwrap());
    let store = Arc::new(FaultyStore::new(inner));

    store.once(Step::BeforeCommit, Trouble::Fail);
    store.once(Step::BeforeCommit, Trouble::LoseRace);
    assert!(matches!(
        store.commit(1, &next).await,
        Err(CommitError::Store(StoreError::Io { .. }))
    ));
    assert!(matches!(
        store.commit(1, &next).await,
        Err(CommitError::Conflict { current: 2 })
    ));
    assert_eq!(store.load().await.unwrap().set, first);

    store.once(Step::AfterCommit, Trouble::Fail);
    assert!(matches!(
        store.commit(1, &next).await,
        Err(CommitError::Store(StoreError::OutcomeUnknown {
            revision: 2,
            ..
        }))
    ));
    assert_eq!(store.load().await.unwrap().set, next);

    store.always(Step::Load, Trouble::Fail);
    store.load().await.unwrap_err();
    store.load().await.unwrap_err();
    store.heal();
    store.load().await.unwrap();

    let gate = Gate::closed();
    store.once(Step::SaveSide, Trouble::Hold(gate.clone()));
    let saving = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.save_side(SideDocument::Counters, b"1").await }
    });
    gate.reached(1).await;
    assert_eq!(store.load_side(SideDocument::Counters).await.unwrap(), None);
    gate.open();
    saving.await.unwrap().unwrap();
    assert!(
        store
            .load_side(SideDocument::Counters)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn an_empty_memory_store_is_not_initialised() {
    let store = MemoryStore::empty(clock());
    assert!(matches!(
        store.load().await,
        Err(StoreError::NotInitialised { .. })
    ));
    let next = Samples::new().first();
    assert!(matches!(
        store.commit(0, &next).await,
        Err(CommitError::Store(StoreError::NotInitialised { .. }))
    ));
}

#[test]
fn a_real_file_is_locked_against_a_second_handle() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("lock");
    let held = RealLayer.lock(&path, "first").unwrap();
    let taken = RealLayer.lock(&path, "second").unwrap();
    assert_eq!(format!("{taken:?}"), "Taken(\"first\")");
    drop(held);
    let held = RealLayer.lock(&path, "third").unwrap();
    assert!(format!("{held:?}").starts_with("Held"));
}
