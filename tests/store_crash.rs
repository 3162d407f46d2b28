//! SIGKILL at random moments of commits: the store always loads as before or after the commit that
//! was under way, what was acknowledged is never lost, and no file holds a private half whose end
//! was acknowledged.
//!
//! The child is this test binary itself, told by an environment variable to commit in a loop. It
//! acknowledges each commit on its standard output once `commit` has answered.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the helpers of a test fail by panicking"
)]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::clock::SystemClock;
use portcullis::keygen::RingKeyGenerator;
use portcullis::keys::{KeySet, transition};
use portcullis::store::audit;
use portcullis::store::conformance::Samples;
use portcullis::store::{FileStore, FileStoreConfig, KeyStore, Keyring, write_new_kek};
use ring::rand::{SecureRandom, SystemRandom};

/// Kills in each of the two tests below: 480 in all. Commits in between rotate, purge, reseal, and
/// put new key-encryption keys into their file.
const KILLS: u32 = 240;
const CHILD_DIR: &str = "PORTCULLIS_TEST_CRASH_DIR";
const ACK: &str = "acknowledged ";

fn config(samples: &Samples, dir: &Path) -> FileStoreConfig {
    FileStoreConfig {
        dir: dir.to_owned(),
        issuer: samples.issuer.clone(),
        keyring: Arc::clone(&samples.keyring),
        clock: Arc::new(SystemClock),
    }
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

/// Not a test of its own: what the killed process does.
#[tokio::test]
async fn child_that_commits_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let mut samples = Samples::with_keys(RingKeyGenerator);
    samples.keyring = keyring(Path::new(&dir));
    let store = FileStore::open(config(&samples, Path::new(&dir)))
        .await
        .unwrap();
    let mut set = store.load().await.unwrap().set;
    loop {
        let next = step(&samples, &set);
        let committed = store.commit(set.revision, &next).await.unwrap();
        assert!(committed.warnings.is_empty(), "{:?}", committed.warnings);
        let mut line = format!("{ACK}{}", next.revision);
        for half in halves(&set).difference(&halves(&next)) {
            line.push(' ');
            line.push_str(half);
        }
        // One write, so that a line is either there or not. It fails when the parent is gone.
        let mut out = std::io::stdout().lock();
        out.write_all(format!("{line}\n").as_bytes()).unwrap();
        out.flush().unwrap();
        set = next;
    }
}

fn step(samples: &Samples, set: &KeySet) -> KeySet {
    if set.len() > 8 || set.tombstones.len() > 40 {
        let over = set
            .high_water_time
            .plus(Duration::from_secs(30 * 24 * 3600));
        if let Some(retired) = transition::retire(set, over) {
            return retired;
        }
    }
    match random(5) {
        0 => samples.rotated(set),
        1 => {
            // As a compromised purge does; not every time, because a file holds 32 keys. At that
            // bound it is refused, and the purge goes on.
            if random(6) == 0 {
                drop(samples.keyring.renew(&samples.keyring.ids()));
            }
            samples.purged(set)
        }
        2 => samples.with_pending_replaced(set),
        3 => samples.resealed(set),
        _ => samples.raised(set),
    }
}

/// What the file of key-encryption keys beside the store holds now.
fn keyring(dir: &Path) -> Arc<Keyring> {
    Arc::new(Keyring::load(&[kek_file(dir)]).unwrap())
}

fn kek_file(dir: &Path) -> PathBuf {
    dir.with_file_name("secrets").join("kek")
}

fn halves(set: &KeySet) -> HashSet<&str> {
    [&set.active.sealed, &set.pending.sealed]
        .map(|sealed| sealed.data.as_str())
        .into()
}

/// What the parent knows of the store.
struct Acknowledged {
    revision: u64,
    ended: Vec<String>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let Some((_, text)) = line.split_once(ACK) else {
            return;
        };
        let mut words = text.split(' ');
        self.revision = words.next().unwrap().parse().unwrap();
        self.ended.extend(words.map(str::to_owned));
    }
}

/// Kills the child after some acknowledgements and a random moment more, and reads what it still
/// had to say.
fn run_and_kill(dir: &Path, known: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_that_commits_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wanted = random(4);
    while wanted > 0 && read_line(&mut lines, known, &mut child) {
        wanted -= 1;
    }
    // Every instruction of a commit is a possible end, so the moment is measured by spinning, not
    // by a sleep, which would be too coarse.
    let moment = Duration::from_micros(random(20_000));
    let since = Instant::now();
    while since.elapsed() < moment {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        known.note(&line.unwrap());
    }
}

fn read_line(
    lines: &mut Lines<BufReader<ChildStdout>>,
    known: &mut Acknowledged,
    child: &mut Child,
) -> bool {
    loop {
        match lines.next() {
            Some(line) => {
                let line = line.unwrap();
                known.note(&line);
                if line.contains(ACK) {
                    return true;
                }
            }
            None => panic!("the child ended by itself: {:?}", child.wait()),
        }
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

async fn survive(kills: u32) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("keys");
    write_new_kek(&kek_file(&dir)).unwrap();
    let mut samples = Samples::new();
    samples.keyring = keyring(&dir);
    let first = samples.first();
    let mut known = Acknowledged {
        revision: first.revision,
        ended: Vec::new(),
    };
    drop(
        FileStore::create(config(&samples, &dir), &first)
            .await
            .unwrap(),
    );

    let (mut in_flight, mut leftovers) = (0, 0);
    for kill in 0..kills {
        run_and_kill(&dir, &mut known);
        for (path, bytes) in files(&dir) {
            leftovers += u32::from(path.extension().is_some_and(|end| end == "tmp"));
            let text = String::from_utf8_lossy(&bytes);
            for half in &known.ended {
                assert!(
                    !text.contains(half),
                    "kill {kill}: {} holds a dead key",
                    path.display()
                );
            }
        }
        samples.keyring = keyring(&dir);
        let config = config(&samples, &dir);
        let store = FileStore::open(config.clone()).await.unwrap();
        let found = store.load().await.unwrap().set.revision;
        assert!(
            found >= known.revision,
            "kill {kill}: revision {} is lost",
            known.revision
        );
        assert!(
            found <= known.revision + 1,
            "kill {kill}: {found} after {}",
            known.revision
        );
        in_flight += u64::from(found > known.revision);
        known.revision = found;
        // Ended long ago: searching for all of them for ever would only slow the test down.
        let old = known.ended.len().saturating_sub(200);
        known.ended.drain(..old);

        let log = fs::read(config.audit_log()).unwrap();
        let verdict = audit::verify(&log[..], &samples.keyring, &samples.issuer).unwrap();
        assert_eq!(verdict.first_revision, Some(1));
        assert_eq!(verdict.last_revision, Some(found));
        assert!(verdict.gaps.is_empty() && !verdict.torn, "{verdict:?}");
    }
    println!(
        "{kills} kills, {} revisions, {in_flight} committed but not acknowledged, \
         {leftovers} temporary files left, {} key-encryption keys",
        known.revision,
        samples.keyring.ids().len()
    );
    assert!(samples.keyring.ids().len() > 2);
    assert!(
        known.revision > u64::from(kills),
        "too few commits to mean anything"
    );
}

#[tokio::test]
async fn inv12_crash_atomic_under_sigkill() {
    survive(KILLS).await;
}

#[tokio::test]
async fn inv12_crash_atomic_under_sigkill_side_by_side() {
    survive(KILLS).await;
}
