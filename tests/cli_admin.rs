//! `portcullis status`, `logs` and `--watch` against an admin listener that answers what the test
//! wants, hostile text included; colours only where they belong.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use harness::lines::Lines;
use harness::peers::peer;
use harness::process::free_ports;
use harness::upstream::Upstream;
use harness::{PATIENCE, Process, eventually};
use serde_json::{Value, json};

fn read_line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    let _gone = reader.read_line(&mut line);
    line.trim_end().to_owned()
}

type Answers = Arc<Mutex<HashMap<String, (u16, Value)>>>;

/// An admin listener that knows a few answers and checks nothing.
struct Fake {
    address: SocketAddr,
    answers: Answers,
    /// Requests that got no answer.
    lost: Arc<AtomicUsize>,
    dir: tempfile::TempDir,
}

/// Instead of a status: the connection ends without an answer.
const HANGS_UP: u16 = 0;

impl Fake {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answers = Answers::default();
        let known = Arc::clone(&answers);
        let requests_lost = Arc::<AtomicUsize>::default();
        let lost = Arc::clone(&requests_lost);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
                let first = read_line(&mut reader);
                let mut body = 0;
                loop {
                    let line = read_line(&mut reader).to_ascii_lowercase();
                    if let Some(length) = line.strip_prefix("content-length:") {
                        body = length.trim().parse().unwrap_or(0);
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                // What is left unread when the connection closes would break the answer off.
                let _gone = reader.read_exact(&mut vec![0; body]);
                let path = first.split(' ').nth(1).unwrap_or_default();
                let unknown =
                    json!({ "code": "NOT_FOUND", "detail": "no such thing", "log_id": "x" });
                let (status, body) = known
                    .lock()
                    .expect("answers")
                    .get(path)
                    .cloned()
                    .unwrap_or((404, unknown));
                if status == HANGS_UP {
                    lost.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let body = body.to_string();
                let _gone = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("token"), "any").expect("a token file");
        Self {
            address,
            answers,
            lost: requests_lost,
            dir,
        }
    }

    fn answer(&self, path: &str, status: u16, body: Value) {
        let mut answers = self.answers.lock().expect("answers");
        answers.insert(path.to_owned(), (status, body));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(arguments)
            .env("PORTCULLIS_ADMIN_URL", format!("http://{}", self.address))
            .env("PORTCULLIS_ADMIN_TOKEN_FILE", "token")
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .current_dir(self.dir.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const HOSTILE: &str = "\u{1b}[2Jgone\u{202e}\nok      forged";

fn status(overall: &str) -> Value {
    json!({
        "version": "0.1.0",
        "now": "2026-11-25T10:00:00.000Z",
        "started_at": "2026-11-25T08:00:00.000Z",
        "issuer": "https://issuer.example",
        "overall": overall,
        "components": [
            {
                "id": "upstream:main", "kind": "upstream", "name": "main", "status": "error",
                "reason": format!("1 of 2 endpoints is down {HOSTILE}"), "since": "2026-11-25T09:58:00.000Z",
                "facts": { "endpoints": "2" },
                "endpoints": [
                    { "address": "10.0.0.1:80", "status": "error", "reason": "connection refused", "since": "2026-11-25T09:58:00.000Z" },
                    { "address": "10.0.0.2:80", "status": "ok", "reason": "all is well", "since": "2026-11-25T08:00:00.000Z" },
                ],
            },
            {
                "id": "key_store", "kind": "key_store", "name": "key store", "status": "warning",
                "reason": "slow", "since": "2026-11-25T09:59:30.000Z", "facts": {},
            },
            {
                "id": "gateway", "kind": "gateway", "name": "gateway", "status": "ok",
                "reason": "all is well", "since": "2026-11-25T08:00:00.000Z", "facts": { "workers": "2" },
            },
        ],
    })
}

#[test]
fn status_shows_every_component_and_its_exit_code_says_how_it_is() {
    let fake = Fake::start();
    for (overall, code) in [("ok", 0), ("warning", 1), ("error", 1)] {
        fake.answer("/admin/v1/status", 200, status(overall));
        let table = fake.run(&["status"]);
        assert_eq!(table.status.code(), Some(code), "{}", text(&table.stderr));
        let said = text(&table.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with(&overall.to_uppercase()), "{said}");
        assert!(lines[0].contains("up for 2 hours"), "{said}");
        let words: Vec<Vec<&str>> = lines
            .iter()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[1], ["STATUS", "COMPONENT", "SINCE", "WHY"]);
        assert_eq!(
            words[2][..6],
            ["ERROR", "upstream", "main", "2", "minutes", "ago"]
        );
        assert_eq!(words[3][..2], ["ERROR", "10.0.0.1:80"]);
        assert_eq!(words[4][..2], ["OK", "10.0.0.2:80"]);
        assert_eq!(
            words[5][..6],
            ["WARNING", "key", "store", "30", "seconds", "ago"]
        );
        assert_eq!(words[6][..2], ["OK", "gateway"]);
        assert!(said.contains("gateway: workers 2"), "{said}");
        // Nobody sends escapes down a pipe, neither ours nor somebody else's.
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
        assert!(said.contains("\\u001b[2Jgone\\u202e\\u000aok"), "{said}");
        let json = fake.run(&["status", "--output", "json"]);
        assert_eq!(json.status.code(), Some(code));
        assert!(!text(&json.stdout).contains(['\u{1b}', '\u{202e}']));
        let value: Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(value, status(overall));
        assert_eq!(text(&json.stdout).lines().count(), 1);
    }
    let [nobody] = free_ports();
    let output = fake.run(&["status", "--admin-url", &format!("http://{nobody}")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is the gateway running?"));
}

/// Runs a command of the shell on a terminal of its own.
fn on_a_terminal(fake: &Fake, arguments: &str, variables: &[(&str, &str)]) -> Option<String> {
    let script = peer("script")?;
    let binary = env!("CARGO_BIN_EXE_portcullis");
    let output = Command::new(script)
        .args(["-qec", &format!("{binary} {arguments}"), "/dev/null"])
        .current_dir(fake.dir.path())
        .env("PORTCULLIS_ADMIN_URL", format!("http://{}", fake.address))
        .env("PORTCULLIS_ADMIN_TOKEN_FILE", "token")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("script runs");
    Some(text(&output.stdout))
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let fake = Fake::start();
    fake.answer("/admin/v1/status", 200, status("error"));
    let Some(coloured) = on_a_terminal(&fake, "status", &[]) else {
        return;
    };
    assert!(
        coloured.contains("\u{1b}[1;31mERROR\u{1b}[0m"),
        "{coloured:?}"
    );
    assert!(coloured.contains("\u{1b}[32mOK\u{1b}[0m"), "{coloured:?}");
    // Only ours: what somebody else sent stays text.
    assert!(
        !coloured.contains("\u{1b}[2J") && coloured.contains("\\u001b[2J"),
        "{coloured:?}"
    );
    for variables in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = on_a_terminal(&fake, "status", &[variables]).expect("as before");
        assert!(
            plain.contains("ERROR") && !plain.contains('\u{1b}'),
            "{plain:?}"
        );
    }
    let empty = on_a_terminal(&fake, "status", &[("NO_COLOR", "")]).expect("as before");
    assert!(
        empty.contains("\u{1b}[32m"),
        "an empty NO_COLOR means nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_what_changes_survives_an_outage_and_ends_with_its_reader() {
    let fake = Fake::start();
    fake.answer("/admin/v1/status", 200, status("ok"));
    let watch = ["status", "--watch", "--interval", "1"];
    let mut watching = Lines::of(&mut fake.command(&watch));
    assert!(watching.until("at 20").ends_with('Z'));
    watching.until("OK ");
    // An outage ends nothing.
    fake.answer("/admin/v1/status", HANGS_UP, Value::Null);
    eventually("the watch misses an answer", || async {
        (fake.lost.load(Ordering::SeqCst) > 1).then_some(())
    })
    .await;
    fake.answer("/admin/v1/status", 200, status("error"));
    watching.until("ERROR ");
    watching.stop_reading();
    let watching = std::cell::RefCell::new(watching);
    eventually("the watch ends with its reader", || async {
        let child = &mut watching.borrow_mut().child;
        child.try_wait().expect("the child can be asked")
    })
    .await;

    // One object a line for scripts, and nothing but that.
    let watching = Lines::of(&mut fake.command(&[&watch[..], &["--output", "json"]].concat()));
    for _look in 0..2 {
        let line = watching.next().expect("a line");
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["overall"], "error");
    }
    let refused = fake.run(&["status", "--interval", "5"]);
    assert_eq!(refused.status.code(), Some(2), "an interval is of a watch");
    let refused = fake.run(&["status", "--watch", "--interval", "0"]);
    assert_eq!(refused.status.code(), Some(2));
}

const ID: &str = "0b1f6a1e-5a70-4c2e-9d0c-1f2a3b4c5d6e";

#[test]
fn logs_come_from_the_gateway_or_from_a_file() {
    let fake = Fake::start();
    let line = json!({
        "time": "2026-11-25T10:00:00.000Z", "level": "error", "event": "x", "message": "it failed",
        "log_id": ID, "path": HOSTILE,
    });
    let answer = json!({ "log_id": ID, "lines": [line] });
    fake.answer(&format!("/admin/v1/logs/{ID}"), 200, answer.clone());
    let table = fake.run(&["logs", ID]);
    let said = text(&table.stdout);
    assert_eq!(table.status.code(), Some(0), "{}", text(&table.stderr));
    assert!(
        said.starts_with("2026-11-25T10:00:00.000Z ERROR it failed"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
    let json = fake.run(&["logs", ID, "--output", "json"]);
    assert_eq!(
        serde_json::from_slice::<Value>(&json.stdout).expect("JSON"),
        answer
    );
    fake.answer(
        "/admin/v1/logs?limit=7",
        200,
        json!({ "lines": [line, line] }),
    );
    let newest = fake.run(&["logs", "-n", "7"]);
    assert_eq!(
        text(&newest.stdout).lines().count(),
        2,
        "{}",
        text(&newest.stderr)
    );

    // The ring is bounded; the file is not.
    let unknown = "11111111-2222-4333-8444-555555555555";
    let refused = fake.run(&["logs", unknown]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    let log = format!(
        "{{\"log_id\":\"{ID}\"}}\n{{\"level\":\"info\",\"message\":\"old\",\"log_id\":\"{unknown}\"}}\n"
    );
    std::fs::write(fake.dir.path().join("gateway.log"), log).expect("a log");
    let found = fake.run(&["logs", unknown, "--file", "gateway.log"]);
    assert_eq!(found.status.code(), Some(0));
    assert!(
        text(&found.stdout).contains("INFO old"),
        "{}",
        text(&found.stdout)
    );
    assert!(
        text(&found.stderr).contains("NOT_FOUND"),
        "{}",
        text(&found.stderr)
    );
    for (arguments, code) in [
        (
            &[
                "logs",
                "33333333-2222-4333-8444-555555555555",
                "--file",
                "gateway.log",
            ][..],
            1,
        ),
        (&["logs", unknown, "--file", "missing.log"], 2),
        (&["logs", "../keys"], 2),
        (&["logs", "--file", "gateway.log"], 2),
        (&["logs", "-n", "0"], 2),
    ] {
        let output = fake.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn what_a_gateway_says_is_harmless_in_tables_and_in_errors() {
    let fake = Fake::start();
    let client = json!({
        "id": HOSTILE, "state": "enabled", "source": "dynamic", "scopes": [HOSTILE],
        "tokens_not_before": null, "changed_at": HOSTILE, "changed_by": { "kind": "admin", "name": HOSTILE },
        "reason": HOSTILE,
    });
    fake.answer(
        "/admin/v1/clients?limit=1000&after=",
        200,
        json!({ "clients": [client], "enabled": 1, "disabled": 0, "revision": 1 }),
    );
    fake.answer("/admin/v1/clients/x", 200, client);
    let keys = json!({ "issuer": HOSTILE, "revision": 1, "next_rotation_at": HOSTILE,
        "keys": [{ "kid": HOSTILE, "alg": HOSTILE, "state": HOSTILE }] });
    fake.answer("/admin/v1/keys", 200, keys);
    fake.answer(
        "/admin/v1/keys/purges",
        400,
        json!({ "code": "BAD", "detail": HOSTILE, "log_id": HOSTILE, "rule": HOSTILE }),
    );
    for arguments in [
        &["clients", "list"][..],
        &["clients", "show", "x"],
        &["keys", "list"],
        &["keys", "list", "--output", "json"],
        &["keys", "purges"],
    ] {
        let output = fake.run(arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(
            said.contains("\\u001b[2Jgone\\u202e"),
            "{arguments:?}: {said}"
        );
        assert!(
            !said.contains(['\u{1b}', '\u{202e}']),
            "{arguments:?}: {said:?}"
        );
        let forged = said.lines().any(|line| line.starts_with("ok      forged"));
        assert!(!forged || arguments[1] == "purges", "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_watched_and_the_audit_is_followed() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&harness::process::Setup::new(upstream.address)).await;
    let start =
        |arguments: &[&str]| Lines::of(gateway.command(arguments).args(["--output", "json"]));
    let mut keys = start(&["keys", "list", "--watch", "--interval", "1"]);
    let mut audit = start(&["audit", "tail", "--follow"]);
    let next = |lines: &mut Lines| -> Value {
        let line = lines.next().expect("a line");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next(&mut keys)["revision"], 1);
    assert_eq!(next(&mut audit)["event"], "bootstrap");
    let rotated = gateway.rotate().await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while next(&mut keys)["revision"] != rotated["revision"] {
        assert!(
            std::time::Instant::now() < deadline,
            "the watch never sees the rotation"
        );
    }
    assert_eq!(next(&mut audit)["event"], "rotate");
    drop((keys, audit));
    let verdict = gateway.run(&["audit", "verify", "--output", "json"]);
    let verdict: Value = serde_json::from_slice(&verdict.stdout).expect("JSON");
    assert_eq!(
        (&verdict["intact"], &verdict["lines"]),
        (&true.into(), &2.into())
    );
    let path = gateway.dir.path().join("data/keys/audit.log");
    let mut log = String::new();
    std::fs::File::open(&path)
        .and_then(|mut file| file.read_to_string(&mut log))
        .expect("a log");
    std::fs::write(&path, log.replacen("bootstrap", "bootstrup", 1)).expect("it can be written");
    let verdict = gateway.run(&["audit", "verify", "--output", "json"]);
    assert_eq!(verdict.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&verdict.stdout).expect("JSON");
    assert_eq!(
        (&verdict["intact"], &verdict["problem"]["line"]),
        (&false.into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_needs_the_word_and_a_script_needs_yes() {
    let Some(script) = peer("script") else { return };
    let upstream = Upstream::echo();
    let gateway = Process::start(&harness::process::Setup::new(upstream.address)).await;
    let token = gateway.token().await;
    let typed = |words: &str| {
        let command = format!("{} keys rotate --purge", env!("CARGO_BIN_EXE_portcullis"));
        let mut child = Command::new(&script)
            .args(["-qec", &command, "/dev/null"])
            .current_dir(gateway.dir.path())
            .env("PORTCULLIS_CONFIG", "portcullis.yaml")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(words.as_bytes()).expect("it is typed");
        let output = child.wait_with_output().expect("it ends");
        drop(stdin);
        (output.status.code(), text(&output.stdout))
    };
    for words in ["no\n", "PURGE\n", "\n"] {
        let (code, said) = typed(words);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("nothing was changed"), "{said}");
        // The keys that would die are shown before the question.
        assert!(said.contains(&harness::kid(&token)), "{said}");
    }
    let refused = gateway.refused(&["keys", "rotate", "--purge"]).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert_eq!(gateway.status(&token).await, 200, "nothing was purged");
    let (code, said) = typed("purge\n");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(gateway.status(&token).await, 401);
}

/// Names of keys are base64url: one in 64 begins with a hyphen, and must be no option.
#[test]
fn a_key_may_have_a_name_that_looks_like_an_option() {
    let fake = Fake::start();
    let set = json!({ "revision": 2, "keys": [], "changed": true, "kind": "purge" });
    for kid in ["-KEO_x", "-c2f", "--abc", "-", "-h7"] {
        for verb in ["restore", "compromised"] {
            fake.answer(&format!("/admin/v1/keys/{kid}/{verb}"), 200, set.clone());
            let output = fake.run(&["keys", verb, kid, "--reason", "x"]);
            assert!(output.status.success(), "{kid}: {}", text(&output.stderr));
        }
        fake.answer("/admin/v1/keys", 200, set.clone());
        fake.answer("/admin/v1/keys/rotate", 200, set.clone());
        let output = fake.run(&["keys", "rotate", "--purge", "--kid", kid, "--yes"]);
        assert!(output.status.success(), "{kid}: {}", text(&output.stderr));
        fake.answer(
            &format!("/admin/v1/keys/preview?kids={kid}"),
            200,
            set.clone(),
        );
        let output = fake.run(&["keys", "preview", "--kid", kid]);
        assert!(output.status.success(), "{kid}: {}", text(&output.stderr));
    }
    // What is no name of a key is still wrong usage.
    for arguments in [
        &["keys", "restore"][..],
        &["keys", "restore", "--help-me", "kid"],
    ] {
        assert_eq!(fake.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn what_is_no_admin_listener_is_told_apart() {
    let fake = Fake::start();
    let refused = |arguments: &[&str], code: i32, word: &str| {
        let output = fake.run(&[&["status"], arguments].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(word), "{said}");
    };
    for url in ["ftp://127.0.0.1:1", "127.0.0.1:1", "http://", "x"] {
        refused(&["--admin-url", url], 2, "http:// or https://");
    }
    // As a proxy listener refuses an admin token.
    let body = json!({ "title": "Unauthorized", "detail": "the access token is not valid", "log_id": "x" });
    fake.answer("/admin/v1/status", 401, body);
    refused(&[], 1, "looks like a proxy listener");
    std::fs::write(fake.dir.path().join("empty"), "\n").expect("a file");
    refused(&["--token-file", "empty"], 3, "the file is empty");
}

const AT: &str = "2026-11-25T10:00:00.000Z";

fn client(source: &str, secrets: usize) -> Value {
    json!({
        "id": "app", "state": "enabled", "source": source, "scopes": ["read"],
        "secrets_created_at": vec![AT; secrets], "live_tokens": 7,
        "last_seen_at": AT, "last_failure_at": "2026-11-25T11:00:00.000Z",
        "last_failure_code": "key_purged", "tokens_not_before": null,
    })
}

#[test]
fn a_person_is_asked_before_a_third_secret_ends_one_of_two() {
    let fake = Fake::start();
    let rotated = json!({
        "changed": true, "revision": 4, "secret": "s3cret", "client": client("dynamic", 2),
        "ended_secret_created_at": AT,
    });
    fake.answer("/admin/v1/clients/app/rotate-secret", 200, rotated);
    fake.answer("/admin/v1/clients/app", 200, client("dynamic", 2));
    let Some(asked) = on_a_terminal(&fake, "clients rotate-secret app", &[]) else {
        return;
    };
    assert!(
        asked.contains("two secrets") && asked.contains(AT) && asked.contains("not confirmed"),
        "{asked}"
    );
    assert!(!asked.contains("s3cret"), "{asked}");
    let told = on_a_terminal(&fake, "clients rotate-secret app --yes", &[]).expect("as before");
    assert!(
        told.contains("s3cret") && told.contains(&format!("ended     the secret made at {AT}")),
        "{told}"
    );
    // One secret is left: nothing ends, and nobody is asked. Nor is a script.
    let script = fake.run(&["clients", "rotate-secret", "app"]);
    assert!(text(&script.stdout).contains("s3cret"), "{script:?}");
    fake.answer("/admin/v1/clients/app", 200, client("dynamic", 1));
    let told = on_a_terminal(&fake, "clients rotate-secret app", &[]).expect("as before");
    assert!(told.contains("s3cret"), "{told}");
}

#[test]
fn a_list_of_clients_says_what_they_did_and_who_is_gone() {
    let fake = Fake::start();
    let listed = json!({ "revision": 3, "enabled": 1, "disabled": 0, "clients": [client("static", 0), client("gone", 0)] });
    fake.answer("/admin/v1/clients?limit=1000&after=", 200, listed);
    let output = fake.run(&["clients", "list"]);
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    for heading in ["LIVE TOKENS", "LAST SEEN", "LAST FAILURE"] {
        assert!(lines[1].contains(heading), "{said}");
    }
    for word in ["enabled", " 7 ", AT, "2026-11-25T11:00:00.000Z key_purged"] {
        assert!(lines[2].contains(word), "{said}");
    }
    assert!(!lines[3].contains("enabled"), "{said}");
    let mut gone = client("gone", 0);
    gone["history"] = json!([]);
    fake.answer("/admin/v1/clients/app", 200, gone);
    let said = text(&fake.run(&["clients", "show", "app"]).stdout);
    assert!(said.contains("gone: neither"), "{said}");
    assert!(!said.contains("enabled"), "{said}");
}
