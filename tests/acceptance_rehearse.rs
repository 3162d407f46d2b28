//! `portcullis rehearse`: a sound binary passes with every algorithm, a broken one fails with the
//! invariant that it breaks, and nothing is left behind.
//!
//! The broken binaries are the real one behind a shell script, and in some cases behind a relay
//! that lies: the product itself has no switch that breaks it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::process::free_ports;
use serde_json::Value;

const REAL: &str = env!("CARGO_BIN_EXE_portcullis");

/// What one gateway, black box, in a minute, cannot show.
const BEYOND: [u64; 3] = [2, 6, 14];
/// What needs a machine that answers sixteen calls within 800 ms, or an undisturbed moment.
const NEEDS_SPEED: [u64; 3] = [10, 19, 20];

/// A rehearsal that runs in a directory of its own; both end together.
struct Rehearsal {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Rehearsal {
    fn start(dir: tempfile::TempDir, arguments: &[&str]) -> Self {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/portcullis.yaml");
        std::fs::create_dir(dir.path().join("scratch")).expect("a directory");
        std::fs::create_dir(dir.path().join("here")).expect("a directory");
        let child = Command::new(REAL)
            .args(["rehearse", "--config", config, "--dir", "../scratch"])
            .args(arguments)
            .current_dir(dir.path().join("here"))
            .env_remove("PORTCULLIS_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self {
            dir,
            child: Some(child.expect("the rehearsal starts")),
        }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it runs")
    }

    /// Its end: exit code, report, and what it said on standard error.
    fn end(&mut self) -> (i32, Value, String) {
        let child = self.child.take().expect("it runs");
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let report = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
            panic!("{error}: {}\n{stderr}", String::from_utf8_lossy(&stdout))
        });
        (status.code().expect("it ended by itself"), report, stderr)
    }

    fn left(&self) -> Vec<PathBuf> {
        let entries = ["scratch", "here"].map(|name| self.dir.path().join(name));
        let entries = entries
            .into_iter()
            .flat_map(|dir| std::fs::read_dir(dir).expect("a directory"));
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn rows(report: &Value, verdict: &str) -> Vec<u64> {
    let rows = report["invariants"].as_array().expect("rows").iter();
    rows.filter(|row| row["verdict"] == verdict)
        .filter_map(|row| row["number"].as_u64())
        .collect()
}

/// The rows that are not held, and the steps that failed, for messages.
fn summary(report: &Value) -> String {
    let rows = report["invariants"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| row["verdict"] != "held");
    let rows = rows.map(|row| format!("{} {} {}", row["number"], row["problems"], row["why"]));
    let steps = report["steps"].as_array().into_iter().flatten();
    let steps = steps
        .filter(|step| step["outcome"] != "ok")
        .map(Value::to_string);
    rows.chain(steps).collect::<Vec<_>>().join("\n")
}

/// Nothing broken, nothing claimed, nothing left.
fn passed(rehearsal: &mut Rehearsal) -> Value {
    let (code, report, said) = rehearsal.end();
    assert_eq!(code, 0, "{said}\n{}", summary(&report));
    assert_eq!(report["passed"], true);
    assert_eq!(rows(&report, "broken"), [] as [u64; 0]);
    for number in rows(&report, "not_exercised") {
        let row = &report["invariants"][usize::try_from(number).expect("small")];
        assert!(
            BEYOND.contains(&number) || NEEDS_SPEED.contains(&number),
            "{row:#}"
        );
        assert!(
            row["why"].as_str().is_some_and(|why| why.len() > 10),
            "{row:#}"
        );
    }
    assert!(
        BEYOND
            .iter()
            .all(|number| rows(&report, "not_exercised").contains(number))
    );
    assert_eq!(rehearsal.left(), [] as [&Path; 0]);
    report
}

#[test]
fn a_sound_binary_holds_every_invariant_that_can_be_exercised() {
    let arguments = ["--algorithm", "ES256", "--output", "json", "--seed", "7"];
    let report = passed(&mut Rehearsal::start(directory(), &arguments));
    assert_eq!((&report["seed"], &report["kills"]), (&7.into(), &30.into()));
    assert_eq!(
        (&report["store"], &report["scratch"]),
        (&"file".into(), &Value::Null)
    );
    let steps = report["steps"].as_array().expect("steps");
    assert!(steps.len() > 20);
    assert!(
        steps.iter().all(|step| step["outcome"] == "ok"),
        "{steps:#?}"
    );
}

#[test]
fn the_other_algorithms_hold_too() {
    let mut running = ["EdDSA", "RS256"].map(|algorithm| {
        let arguments = ["--algorithm", algorithm, "--output", "json", "--kills", "4"];
        Rehearsal::start(directory(), &arguments)
    });
    for rehearsal in &mut running {
        passed(rehearsal);
    }
}

/// Makes a program that behaves like the gateway but for one thing.
type Wrapper = fn(&Path) -> PathBuf;

#[test]
fn each_kind_of_breakage_is_named() {
    // Each with the invariants that it breaks for certain.
    let breakages: [(&str, Wrapper, &[u64]); 7] = [
        (
            "a restart brings the old keys back",
            older_store,
            &[7, 8, 12],
        ),
        (
            "purged tokens are accepted",
            |dir| relay(dir, "proxy", accept_purged),
            &[5],
        ),
        (
            "refusals are counted twice",
            |dir| relay(dir, "metrics", count_twice),
            &[15],
        ),
        (
            "purges are taken for plain rotations",
            |dir| relay(dir, "admin", swallow_purge),
            &[9],
        ),
        ("serve makes keys", mint_keys, &[12]),
        (
            "the JWKS never changes",
            |dir| relay(dir, "proxy", stale_jwks),
            &[8, 11],
        ),
        (
            "Log IDs lead nowhere",
            |dir| relay(dir, "proxy", invent_log_ids),
            &[21],
        ),
    ];
    // A few at a time: each of them is a gateway under load.
    for group in breakages.chunks(4) {
        let running: Vec<_> = group
            .iter()
            .map(|(what, make, expected)| {
                let dir = directory();
                let binary = make(dir.path());
                let binary = binary.to_str().expect("a name");
                let arguments = ["--binary", binary, "--kills", "3", "--output", "json"];
                (what, expected, Rehearsal::start(dir, &arguments))
            })
            .collect();
        for (what, expected, mut rehearsal) in running {
            named(what, expected, &mut rehearsal);
        }
    }
}

fn named(what: &str, expected: &[u64], rehearsal: &mut Rehearsal) {
    let (code, report, said) = rehearsal.end();
    assert_eq!(code, 1, "{what}: {said}\n{}", summary(&report));
    assert_eq!(report["passed"], false, "{what}");
    let broken = rows(&report, "broken");
    for number in expected {
        assert!(
            broken.contains(number),
            "{what} breaks {number}: {}",
            summary(&report)
        );
        let row = &report["invariants"][usize::try_from(*number).expect("small")];
        let line = format!("{number} {}", row["name"].as_str().expect("a name"));
        assert!(said.contains(&line), "{what}: {line} is not in {said}");
        assert!(
            !row["problems"].as_array().expect("problems").is_empty(),
            "{what}"
        );
    }
    assert!(
        said.contains("--seed ") && said.contains("Do not put"),
        "{said}"
    );
    // The evidence is kept, for nobody else to read.
    let scratch = report["scratch"].as_str().expect("a directory");
    let mode = std::fs::metadata(scratch)
        .expect("it is kept")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_interruption_ends_every_process_and_leaves_nothing() {
    let mut rehearsal = Rehearsal::start(directory(), &["--algorithm", "ES256"]);
    let mut output = BufReader::new(rehearsal.child().stdout.take().expect("a pipe"));
    let address: SocketAddr = loop {
        let mut line = String::new();
        assert!(
            output.read_line(&mut line).expect("text") > 0,
            "it ended early"
        );
        if let Some((_, address)) = line.split_once("listening on ") {
            break address.trim().parse().expect("an address");
        }
    };
    let id = rustix::process::Pid::from_child(rehearsal.child());
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("the signal is sent");
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    let mut child = rehearsal.child.take().expect("it runs");
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut said)
        .expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(1), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert!(
        TcpStream::connect(address).is_err(),
        "the gateway still listens"
    );
    assert_eq!(rehearsal.left(), [] as [&Path; 0]);
}

#[test]
fn what_cannot_be_rehearsed_is_said_at_once() {
    let dir = directory();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/portcullis.yaml");
    let dead = script(dir.path(), "echo 'no such thing' >&2; exit 9");
    let dead = dead.to_str().expect("a name");
    for (arguments, code, expected) in [
        (["--binary", "/no/such/file"], 2, "/no/such/file"),
        (["--dir", "/no/such/dir"], 2, "--dir"),
        (["--algorithm", "HS256"], 2, "ES256"),
        (["--binary", dead], 1, "no such thing"),
    ] {
        let output = Command::new(REAL)
            .args(["rehearse", "--config", config])
            .args(arguments)
            .env("TMPDIR", dir.path())
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let left = std::fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(left, 1, "the script alone");
}

/// A program that runs shell commands.
fn script(dir: &Path, commands: &str) -> PathBuf {
    let path = dir.join("portcullis-broken");
    std::fs::write(&path, format!("#!/bin/sh\n{commands}\n")).expect("a file");
    harness::disk::set_mode(&path, 0o700);
    path
}

/// From its second start on it begins with the store of its first.
fn older_store(dir: &Path) -> PathBuf {
    let commands = r#"
if [ "$1" = serve ] && [ -f data/keys/keyset.json ]; then
  if [ -d snapshot ]; then rm -rf data/keys && cp -Rp snapshot data/keys; else cp -Rp data/keys snapshot; fi
fi
exec REAL "$@""#;
    script(dir, &commands.replace("REAL", REAL))
}

fn mint_keys(dir: &Path) -> PathBuf {
    let commands = r#"
if [ "$1" = serve ]; then REAL init --config "$3" >/dev/null 2>&1; fi
exec REAL "$@""#;
    script(dir, &commands.replace("REAL", REAL))
}

/// What a relay does with a request on its way, and with the answer.
type Lie = fn(Exchange<'_>);

struct Exchange<'a> {
    request: &'a mut String,
    answer: Option<&'a mut String>,
    memory: &'a mut Option<String>,
}

/// The gateway with one of its listeners behind a relay: it really listens elsewhere.
fn relay(dir: &Path, listener: &str, lie: Lie) -> PathBuf {
    let [behind] = free_ports();
    let announced = dir.join("listen");
    let commands = r#"
if [ "$1" = serve ]; then
  sed -E 's/^(  LISTENER: +\{ address: 127\.0\.0\.1:)[0-9]+/\1BEHIND/' "$3" > behind.yaml
  sed -nE 's/^  LISTENER: +\{ address: (127\.0\.0\.1:[0-9]+).*/\1/p' "$3" > ANNOUNCED.new
  mv ANNOUNCED.new ANNOUNCED
  exec REAL serve --config behind.yaml
fi
exec REAL "$@""#
        .replace("LISTENER", listener)
        .replace("BEHIND", &behind.port().to_string())
        .replace("ANNOUNCED", announced.to_str().expect("a name"))
        .replace("REAL", REAL);
    std::thread::spawn(move || {
        let deadline = Instant::now() + harness::PATIENCE;
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&announced) {
                break text.trim().to_owned();
            }
            assert!(Instant::now() < deadline, "the gateway never started");
            std::thread::park_timeout(Duration::from_millis(2));
        };
        let front = TcpListener::bind(address).expect("the port is free");
        let memory = Arc::new(Mutex::new(None));
        for connection in front.incoming().flatten() {
            let memory = Arc::clone(&memory);
            // A connection that breaks is the client's to notice.
            std::thread::spawn(move || pass_on(connection, behind, lie, &memory));
        }
    });
    script(dir, &commands)
}

/// One request and its answer.
fn pass_on(
    mut client: TcpStream,
    behind: SocketAddr,
    lie: Lie,
    memory: &Mutex<Option<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(digits) = lower.strip_prefix("content-length:") {
            length = digits.trim().parse().unwrap_or(0);
        } else if line == "\r\n" {
            break;
        } else if !lower.starts_with("connection:") {
            request.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.push_str("Connection: close\r\n\r\n");
    request.push_str(&String::from_utf8_lossy(&body));
    let exchange = |request: &mut String, answer: Option<&mut String>| {
        let mut memory = memory.lock().expect("no lie panics");
        lie(Exchange {
            request,
            answer,
            memory: &mut memory,
        });
    };
    exchange(&mut request, None);
    let (head, body) = request.split_once("\r\n\r\n").expect("just joined");
    let sent = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let sent = if body.is_empty() {
        request.clone()
    } else {
        sent
    };
    let mut gateway = TcpStream::connect(behind)?;
    gateway.write_all(sent.as_bytes())?;
    let mut answer = Vec::new();
    gateway.read_to_end(&mut answer)?;
    let mut answer = String::from_utf8_lossy(&answer).into_owned();
    exchange(&mut request, Some(&mut answer));
    client.write_all(answer.as_bytes())
}

/// An answer with another body.
fn rewritten(answer: &str, body: &str) -> String {
    let status = answer.lines().next().unwrap_or_default();
    format!(
        "{status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn accept_purged(exchange: Exchange<'_>) {
    if let Some(answer) = exchange.answer
        && answer.contains("was revoked")
    {
        *answer = rewritten("HTTP/1.1 200 OK", "ok");
    }
}

fn count_twice(exchange: Exchange<'_>) {
    let Some(answer) = exchange.answer else {
        return;
    };
    let double = |line: &str| match line.rsplit_once(' ') {
        Some((series, value))
            if series.starts_with("portcullis_purge_verification_failures_total{") =>
        {
            let value: f64 = value.parse().expect("a number");
            format!("{series} {}\n", value * 2.0)
        }
        _ => format!("{line}\n"),
    };
    let body: String = body_of(answer).lines().map(double).collect();
    *answer = rewritten(answer, &body);
}

fn swallow_purge(exchange: Exchange<'_>) {
    if exchange.answer.is_none()
        && let Some((head, body)) = exchange.request.split_once("\r\n\r\n")
        && serde_json::from_str::<Value>(body).is_ok_and(|body| body["purge"] == true)
    {
        *exchange.request = format!("{head}\r\n\r\n{{}}");
    }
}

fn stale_jwks(exchange: Exchange<'_>) {
    if let Some(answer) = exchange.answer
        && exchange.request.starts_with("GET /.well-known/jwks.json")
        && answer.starts_with("HTTP/1.1 200")
    {
        let body = exchange
            .memory
            .get_or_insert_with(|| body_of(answer).to_owned());
        *answer = rewritten(answer, body);
    }
}

fn invent_log_ids(exchange: Exchange<'_>) {
    let Some(answer) = exchange.answer else {
        return;
    };
    if let Some((before, after)) = answer.split_once("\"log_id\":\"")
        && let Some((_, rest)) = after.split_once('"')
    {
        let id = "00000000-0000-4000-8000-000000000000";
        *answer = format!("{before}\"log_id\":\"{id}\"{rest}");
    }
}
