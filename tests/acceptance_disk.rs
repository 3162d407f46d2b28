//! Damaged, unreadable, read-only and missing files: the documented exit code, a message that
//! names the file, and no byte changed.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::path::{Path, PathBuf};

use harness::disk::{contents, set_mode};
use harness::process::{Setup, free_ports};
use harness::upstream::Upstream;
use harness::{Process, kid, without_activity};

fn initialised() -> Process {
    let [upstream] = free_ports();
    let gateway = Process::configure(&Setup::new(upstream));
    init(&gateway);
    gateway
}

fn init(gateway: &Process) -> String {
    let output = gateway.run(&["init"]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// `command` ends with `code`, names `file`, and changes nothing.
async fn refused(gateway: &Process, command: &str, code: i32, file: &Path) -> String {
    let before = contents(gateway.dir.path());
    let refused = gateway.refused(&[command]).await;
    assert_eq!(refused.code, code, "{command}: {}", refused.stderr);
    let file = file.strip_prefix(gateway.dir.path()).expect("below it");
    let file = file.to_str().expect("a name");
    assert!(refused.stderr.contains(file), "{file}: {}", refused.stderr);
    assert_eq!(
        contents(gateway.dir.path()),
        before,
        "{command} changed something"
    );
    refused.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn init_twice_says_so_and_changes_nothing() {
    let gateway = initialised();
    let before = contents(gateway.dir.path());
    let said = init(&gateway);
    assert!(said.contains("already initialised"), "{said}");
    assert_eq!(contents(gateway.dir.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_prints_a_client_secret_once_and_keeps_it_private() {
    let [upstream] = free_ports();
    let gateway = Process::configure(&Setup::new(upstream));
    std::fs::remove_file(gateway.dir.path().join("secrets/demo.hash")).expect("it was there");
    let said = init(&gateway);
    let beside = gateway.dir.path().join("secrets/demo.secret");
    let secret = std::fs::read_to_string(&beside).expect("the secret");
    assert!(said.contains(secret.trim()), "{said}");
    assert!(!said.contains(&gateway.admin_token()), "{said}");
    let found = contents(gateway.dir.path());
    for (path, (mode, bytes)) in &found {
        let is_ours = path.strip_prefix(gateway.dir.path()).is_ok_and(|path| {
            path.starts_with("data/keys") || (path.starts_with("secrets") && bytes.is_some())
        });
        assert!(
            !is_ours || mode & 0o077 == 0,
            "{}: {mode:o}",
            path.display()
        );
    }
    assert!(!init(&gateway).contains(secret.trim()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_edited_or_older_key_set_stops_the_start() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup::new(upstream.address)).await;
    let file = gateway.dir.path().join("data/keys/keyset.json");
    let first = std::fs::read(&file).expect("the key set");
    gateway.rotate().await;
    let token = gateway.token().await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
    let good = std::fs::read(&file).expect("the key set");

    let mut damaged: Vec<(String, Vec<u8>)> = [0, 1, good.len() / 2, good.len() - 1]
        .map(|length| (format!("cut to {length}"), good[..length].to_vec()))
        .into();
    for at in (0..good.len()).step_by(good.len() / 12) {
        let mut edited = good.clone();
        edited[at] ^= 1;
        damaged.push((format!("byte {at}"), edited));
    }
    let text = String::from_utf8(good.clone()).expect("text");
    damaged.push(("longer".to_owned(), [good.as_slice(), b"x"].concat()));
    damaged.push(("older".to_owned(), first));
    damaged.push((
        "another text".to_owned(),
        text.replace("\"revision\"", "\"revisiom\"").into(),
    ));
    damaged.push(("zeros".to_owned(), vec![0; good.len()]));
    for (what, bytes) in damaged {
        if bytes == good {
            continue;
        }
        std::fs::write(&file, &bytes).expect("it can be written");
        let before = contents(gateway.dir.path());
        let refused = gateway.refused(&["serve"]).await;
        assert_eq!(refused.code, 3, "{what}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("keyset.json"),
            "{what}: {}",
            refused.stderr
        );
        assert_eq!(contents(gateway.dir.path()), before, "{what}");
        // It is not taken for an occasion to make new keys either.
        let output = gateway.run(&["init"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!said.contains("made"), "{what}: {said}");
        assert_eq!(contents(gateway.dir.path()), before, "{what}");
    }
    // The whole key set lost, while what lies beside it shows that there was one.
    std::fs::remove_file(&file).expect("it was there");
    for command in ["serve", "init"] {
        refused(&gateway, command, 3, &file).await;
    }
    // Put back, it is as before.
    std::fs::write(&file, &good).expect("it can be written");
    set_mode(&file, 0o600);
    gateway.serve().await;
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(kid(&gateway.token().await), kid(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_encryption_key_an_old_key_set_is_left_alone() {
    let gateway = initialised();
    let kek = gateway.dir.path().join("secrets/kek");
    let good = std::fs::read(&kek).expect("the key-encryption key");
    std::fs::remove_file(&kek).expect("it was there");
    for command in ["serve", "init"] {
        refused(&gateway, command, 3, &kek).await;
    }
    // Damaged, and one that is good but another.
    for bytes in [
        good[..good.len() / 2].to_vec(),
        Vec::new(),
        b"rubbish\n".to_vec(),
    ] {
        harness::in_process::write_private(&kek, &String::from_utf8(bytes).expect("text"));
        refused(&gateway, "serve", 3, &kek).await;
    }
    std::fs::remove_file(&kek).expect("it was there");
    portcullis::store::write_new_kek(&kek).expect("another key-encryption key");
    refused(
        &gateway,
        "serve",
        3,
        &gateway.dir.path().join("data/keys/keyset.json"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_others_may_read_or_that_we_may_not_stop_the_start() {
    let mut gateway = initialised();
    gateway.without_root();
    let path = |name: &str| -> PathBuf { gateway.dir.path().join(name) };
    let secrets = [
        "secrets/kek",
        "secrets/admin.token",
        "secrets/demo.hash",
        "data/keys/keyset.json",
    ];
    for name in secrets {
        let file = path(name);
        for mode in [0o640, 0o604, 0o666] {
            set_mode(&file, mode);
            let said = refused(&gateway, "serve", 3, &file).await;
            assert!(said.contains(&format!("{mode:04o}")), "{said}");
            assert!(said.contains("chmod"), "{said}");
        }
        set_mode(&file, 0o000);
        let said = refused(&gateway, "serve", 3, &file).await;
        assert!(said.to_lowercase().contains("permission denied"), "{said}");
        set_mode(&file, 0o600);
    }
    let dir = path("data/keys");
    set_mode(&dir, 0o755);
    refused(&gateway, "serve", 3, &dir).await;
    set_mode(&dir, 0o700);
    // A secret that is not there to be read is not replaced by a new one.
    set_mode(&path("secrets"), 0o000);
    let before = contents(&dir);
    let ended = gateway.refused(&["init"]).await;
    assert!(
        ended.code == 1 || ended.code == 3,
        "{}: {}",
        ended.code,
        ended.stderr
    );
    set_mode(&path("secrets"), 0o755);
    assert_eq!(contents(&dir), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_read_only_directory_a_rotation_fails_and_the_keys_stay_in_force() {
    let upstream = Upstream::echo();
    let mut gateway = Process::configure(&Setup::new(upstream.address));
    gateway.without_root();
    init(&gateway);
    gateway.serve().await;
    let token = gateway.token().await;
    let (jwks, keys) = (
        gateway.jwks().await,
        gateway.admin_get("/admin/v1/keys").await,
    );
    let dir = gateway.dir.path().join("data/keys");
    set_mode(&dir, 0o500);
    let before = contents(&dir);

    let path = "/admin/v1/keys/rotate";
    let mut ids = Vec::new();
    for body in [
        serde_json::json!({}),
        serde_json::json!({ "purge": true, "seen_revision": keys["revision"] }),
    ] {
        let (status, problem) = gateway.admin_post(path, body).await;
        assert_eq!(
            (status, &problem["code"]),
            (500, &"ROTATION_FAILED".into()),
            "{problem}"
        );
        let id = problem["log_id"].as_str().expect("a Log ID").to_owned();
        let text = "Manual signing key rotation could not be completed. \
                    Check the system logs for more details. Log ID: ";
        assert_eq!(problem["detail"], format!("{text}{id}"));
        ids.push(id);
    }
    let output = gateway.run(&["keys", "rotate"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Log ID: "), "{said}");

    assert_eq!(contents(&dir), before);
    assert_eq!(gateway.jwks().await, jwks);
    let after = gateway.admin_get("/admin/v1/keys").await;
    assert_eq!(without_activity(after), without_activity(keys));
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(kid(&gateway.token().await), kid(&token));

    // Writable again, it works without a restart: the failure has opened no window.
    set_mode(&dir, 0o700);
    assert_eq!(gateway.rotate().await["changed"], true);
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(gateway.terminate().await.code(), Some(0));
    let log = std::fs::read_to_string(gateway.log_path()).expect("a log");
    for id in ids {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&id)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).expect("JSON");
        let cause = line["cause"].as_str().expect("a cause");
        assert!(cause.contains("data/keys"), "{line}");
    }

    // A start that cannot even lock.
    std::fs::remove_file(dir.join("lock")).expect("it was there");
    set_mode(&dir, 0o500);
    refused(&gateway, "serve", 3, &dir.join("lock")).await;
    set_mode(&dir, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_where_nothing_can_be_written_says_so_and_goes_on_later() {
    let [upstream] = free_ports();
    let mut gateway = Process::configure(&Setup::new(upstream));
    gateway.without_root();
    set_mode(gateway.dir.path(), 0o500);
    let refused = gateway.refused(&["init"]).await;
    assert!(
        [1, 3].contains(&refused.code),
        "{}: {}",
        refused.code,
        refused.stderr
    );
    assert!(refused.stderr.contains("data"), "{}", refused.stderr);
    assert!(!gateway.dir.path().join("data").exists());
    set_mode(gateway.dir.path(), 0o700);
    init(&gateway);
    assert!(init(&gateway).contains("already initialised"));
}
