//! `portcullis demo`: an empty directory, one command, and a story whose every command works as
//! printed.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::eventually;
use harness::peers::peer;
use harness::process::free_ports;

/// Ends the demo when dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_printed_story_works_as_printed() {
    if peer("curl").is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = lay_out(dir.path());
    let (mut demo, story) = start(dir.path());
    assert!(story.contains("Portcullis is running"), "{story}");
    let commands: Vec<&str> = story
        .lines()
        .filter(|line| line.starts_with("  "))
        .map(str::trim)
        .collect();
    assert!(commands.len() > 12, "{story}");

    // A person is slower than the listeners.
    eventually("the demo listens", || async {
        for address in &addresses {
            tokio::net::TcpStream::connect(address).await.ok()?;
        }
        Some(())
    })
    .await;
    let output = Command::new("bash")
        .args(["-u", "-c", &commands.join("\n")])
        .current_dir(dir.path())
        .env("no_proxy", "*")
        .output()
        .expect("bash runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{complaints}");
    assert_eq!(complaints, "", "{said}");

    let mut lines = said.lines();
    let mut next = || {
        lines
            .next()
            .unwrap_or_else(|| panic!("more was expected:\n{said}"))
    };
    let json = |line: &str| -> serde_json::Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    assert_eq!(next(), "200");
    let first = json(next());
    assert_eq!(first["changed"], true);
    assert_eq!((next(), next()), ("200", "200"));
    let second = json(next());
    assert_eq!(second["changed"], false);
    assert_eq!(second["rotation_id"], first["rotation_id"]);
    let purge = json(next());
    assert_eq!(
        (&purge["changed"], &purge["kind"]),
        (&true.into(), &"purge".into())
    );
    assert_eq!(purge["receipt"]["complete"], true);
    assert_eq!((next(), next(), next()), ("401", "401", "200"));
    let mut broken = 0.0;
    let table = loop {
        let line = next();
        if !line.starts_with("portcullis_purge_verification_failures_total{") {
            break line;
        }
        let (_, value) = line.rsplit_once(' ').expect("a value");
        broken += value.parse::<f64>().expect("a number");
    };
    assert_eq!(broken, 2.0, "{said}");
    assert!(table.starts_with("issuer http://"), "{table}");
    assert!(next().starts_with("STATE"), "{said}");
    assert!(next().starts_with("active"), "{said}");
    assert!(next().starts_with("pending"), "{said}");

    let pid = rustix::process::Pid::from_child(&demo.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the signal is sent");
    assert_eq!(demo.0.wait().expect("it ends").code(), Some(0));
    // The second time it goes on with what is there.
    let keys = std::fs::read(dir.path().join("data/keys/keyset.json")).expect("the key set");
    let (_demo, again) = start(dir.path());
    assert!(story.starts_with("made key-encryption key: "), "{story}");
    assert!(
        again.starts_with("\nPortcullis is running"),
        "nothing was made: {again}"
    );
    assert!(story.ends_with(&again), "the same story: {again}");
    let now = std::fs::read(dir.path().join("data/keys/keyset.json")).expect("the key set");
    assert_eq!(now, keys);
}

/// What a user finds after `make run` has built: the configuration, here with ports that are free,
/// and the binary in its place.
fn lay_out(dir: &Path) -> Vec<SocketAddr> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/portcullis.yaml");
    let mut conf = std::fs::read_to_string(sample).expect("the sample");
    let defaults = [
        "127.0.0.1:8080",
        "127.0.0.1:9901",
        "127.0.0.1:9902",
        "127.0.0.1:9003",
    ];
    let addresses = free_ports::<4>();
    for (default, free) in defaults.iter().zip(addresses) {
        assert!(conf.contains(default), "{default} is not in the sample");
        conf = conf.replace(default, &free.to_string());
    }
    std::fs::create_dir(dir.join("conf")).expect("a directory");
    std::fs::write(dir.join("conf/portcullis.yaml"), conf).expect("a file");
    std::fs::create_dir_all(dir.join("target/release")).expect("a directory");
    let binary = dir.join("target/release/portcullis");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_portcullis"), binary).expect("a link");
    addresses.to_vec()
}

/// Starts the demo and reads what it prints up to the story's last line; what is printed later
/// goes nowhere.
fn start(dir: &Path) -> (Demo, String) {
    let mut child = Command::new(dir.join("target/release/portcullis"))
        .arg("demo")
        .current_dir(dir)
        .env_remove("PORTCULLIS_CONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let demo = Demo(child);
    let mut story = String::new();
    loop {
        let mut line = String::new();
        let read = output.read_line(&mut line).expect("it prints text");
        assert!(read > 0, "the demo ended:\n{story}");
        // Events of the log come between.
        if !line.starts_with('{') {
            story.push_str(&line);
        }
        if line.starts_with("Stop with Ctrl-C") {
            break;
        }
    }
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    (demo, story)
}
