//! Every fenced shell command of README.md and docs/*.md, executed as it stands against a real
//! gateway in a scratch directory. What cannot be executed here is in [`RULES`] with its reason;
//! a rule that fits nothing fails, and so does a new command that fails.
//!
//! Addresses are replaced by free ones, and a few variables of the shell name what exists: `KID`,
//! `PURGED_KID`, `PURGE_ID`, `LOG_ID`, `SECRET`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of a test fail by panicking, and say what they leave out"
)]

mod harness;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use harness::eventually;
use harness::lines::Lines;
use harness::peers::peer;
use harness::process::free_ports;
use serde_json::{Value, json};

/// What is special about a command.
enum How {
    /// Not executed, and why.
    Left(&'static str),
    /// On a terminal, with this typed in.
    Typed(&'static str),
    /// Runs until somebody interrupts it; it says this before.
    Interrupted(&'static str),
    /// Its last line runs a gateway until SIGTERM, in a directory of its own.
    Serves,
    /// Line by line on a store whose key set is damaged; the exit code of each.
    Damaged(&'static [i32]),
}

use How::{Damaged, Interrupted, Left, Serves, Typed};

/// File, a part of the command, and what is special. The first that fits.
const RULES: &[(&str, &str, How)] = &[
    (
        "README.md",
        "make run",
        Left(
            "builds releases and runs this suite; the commands that the demo prints are executed by tests/acceptance_demo.rs",
        ),
    ),
    (
        "README.md",
        "keys rotate --purge     # asks first",
        Typed("purge\n"),
    ),
    ("README.md", "serve --config my.yaml", Serves),
    (
        "README.md",
        "make observe",
        Left("builds a release; tests/acceptance_observe.rs runs the script and what it prints"),
    ),
    (
        "README.md",
        "docker-compose exec",
        Left("needs a container engine; tests/acceptance_observe.rs runs the same without one"),
    ),
    (
        "README.md",
        "docker-compose build",
        Left("needs a container engine; tests/deployment.rs checks the compose file"),
    ),
    (
        "docs/reliability.md",
        "cargo test",
        Left("runs parts of this suite, or for hours"),
    ),
    (
        "docs/reliability.md",
        "make ",
        Left("runs for many minutes, or for hours"),
    ),
    (
        "docs/admin-api.md",
        "",
        Left("is executed by tests/openapi, with the names of an installation put in"),
    ),
    (
        "docs/rehearse.md",
        "portcullis rehearse",
        Left("takes minutes; tests/acceptance_rehearse.rs runs rehearsals with these options"),
    ),
    ("docs/store.md", "store recover", Damaged(&[1, 0])),
    ("docs/cli.md", "portcullis serve", Serves),
    ("docs/cli.md", "portcullis demo", Serves),
    (
        "docs/cli.md",
        "portcullis rehearse",
        Left("takes minutes; tests/acceptance_rehearse.rs runs rehearsals with these options"),
    ),
    (
        "docs/cli.md",
        "store recover --accept-rollback",
        Damaged(&[0]),
    ),
    ("docs/cli.md", "store recover", Damaged(&[1])),
    ("docs/cli.md", "keys list --watch", Interrupted("active")),
    ("docs/cli.md", "status --watch", Interrupted("OK")),
    ("docs/cli.md", "audit tail --follow", Interrupted("20")),
    (
        "docs/cli.md",
        "keys rotate --purge --reason 'leaked key'",
        Typed("purge\n"),
    ),
    (
        "docs/cli.md",
        "man -l -",
        Left("needs man(1), which small systems lack; tests/cli_help.rs checks the pages"),
    ),
];

/// One command, or a block of them that belong together.
struct Step {
    file: String,
    line: usize,
    text: String,
}

impl Step {
    fn name(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    fn how(&self) -> Option<&'static How> {
        let fits =
            |(file, part, _): &&(&str, &str, How)| *file == self.file && self.text.contains(part);
        RULES.iter().find(fits).map(|(_, _, how)| how)
    }
}

/// The fenced shell blocks of a file; those of the reference example by example.
fn steps_of(root: &Path, file: &str) -> Vec<Step> {
    let text = fs::read_to_string(root.join(file)).expect("a document");
    let mut steps = Vec::new();
    let mut open: Option<Step> = None;
    let mut is_shell = false;
    for (number, line) in text.lines().enumerate() {
        let begin = || Step {
            file: file.to_owned(),
            line: number + 2,
            text: String::new(),
        };
        if let Some(language) = line.trim_start().strip_prefix("```") {
            if open.is_some() || is_shell {
                steps.extend(open.take());
                is_shell = false;
            } else {
                is_shell = ["sh", "bash", "shell", "console"].contains(&language.trim());
                open = is_shell.then(begin);
            }
            continue;
        }
        let Some(step) = &mut open else { continue };
        if file == "docs/cli.md" && line.starts_with("# ") {
            steps.extend(open.replace(begin()));
            continue;
        }
        step.text.push_str(line);
        step.text.push('\n');
    }
    steps.retain(|step| !step.text.trim().is_empty());
    steps
}

fn documents(root: &Path) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(root.join("docs"))
        .expect("documents")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    found.sort();
    [vec!["README.md".to_owned()], found].concat()
}

/// What a reader of the documents has: the configuration, the binary in its place, a directory.
struct Scratch {
    dir: tempfile::TempDir,
    /// Proxy, admin, metrics, echo upstream.
    addresses: [SocketAddr; 4],
    http: reqwest::Client,
    demo: Option<Child>,
}

/// What the documents say instead.
const WRITTEN: [&str; 4] = [
    "127.0.0.1:8080",
    "127.0.0.1:9901",
    "127.0.0.1:9902",
    "127.0.0.1:9003",
];

impl Scratch {
    fn lay_out(root: &Path) -> Self {
        let scratch = Self {
            dir: tempfile::tempdir().expect("a directory"),
            addresses: free_ports(),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            demo: None,
        };
        for dir in ["conf", "bin", "target/release", "home"] {
            fs::create_dir_all(scratch.path(dir)).expect("a directory");
        }
        let config =
            fs::read_to_string(root.join("conf/portcullis.yaml")).expect("a configuration");
        fs::write(
            scratch.path("conf/portcullis.yaml"),
            scratch.adapted(&config),
        )
        .expect("a copy");
        fs::write(scratch.path("my.yaml"), scratch.adapted(&config)).expect("a copy");
        for place in ["bin/portcullis", "target/release/portcullis"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_portcullis"), scratch.path(place))
                .expect("a link");
        }
        for name in ["old-key.pem", "other-key.pem"] {
            let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
            fs::write(scratch.path(name), pem).expect("a key file");
        }
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// With the addresses of this directory.
    fn adapted(&self, text: &str) -> String {
        let pairs = WRITTEN.iter().zip(&self.addresses);
        pairs.fold(text.to_owned(), |text, (written, ours)| {
            text.replace(written, &ours.to_string())
        })
    }

    fn command(&self, program: &Path) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let ours = [self.path("bin")].into_iter();
        let peers = peer("jq")
            .and_then(|jq| jq.parent().map(Path::to_owned))
            .into_iter();
        let path = std::env::join_paths(ours.chain(peers).chain(std::env::split_paths(&path)));
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env("PATH", path.expect("a path"))
            .env("HOME", self.path("home"))
            .env("no_proxy", "*")
            .env("TERM", "xterm")
            .env_remove("PORTCULLIS_CONFIG")
            .stdin(Stdio::null());
        command
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = self.command(Path::new("bash"));
        command.args(["-e", "-u", "-o", "pipefail", "-c", &self.adapted(script)]);
        command
    }

    /// What `make run` leaves: gateway, echo upstream, secrets.
    async fn run_demo(&mut self) {
        let log = fs::File::create(self.path("gateway.log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        let mut command = self.command(&self.path("bin/portcullis"));
        let child = command.arg("demo").stdout(log).stderr(errors).spawn();
        self.demo = Some(child.expect("the binary starts"));
        self.ready().await;
    }

    async fn ready(&self) {
        let url = format!("http://{}/readyz", self.addresses[2]);
        eventually("the gateway is ready", || async {
            let response = self.http.get(&url).send().await.ok()?;
            (response.status() == 200).then_some(())
        })
        .await;
    }

    async fn admin(&self, path: &str, body: Option<Value>) -> Value {
        let url = format!("http://{}/admin/v1/{path}", self.addresses[1]);
        let token = fs::read_to_string(self.path("secrets/admin.token")).expect("an admin token");
        let request = match &body {
            None => self.http.get(&url),
            Some(body) => self.http.post(&url).json(body),
        };
        let response = request
            .bearer_auth(token.trim())
            .send()
            .await
            .expect("an answer");
        response.json().await.expect("JSON")
    }

    async fn token(&self) -> String {
        let secret = fs::read_to_string(self.path("secrets/demo.secret")).expect("a secret");
        let request = self
            .http
            .post(format!("http://{}/oauth2/token", self.addresses[0]))
            .basic_auth("demo", Some(secret.trim()))
            .form(&[("grant_type", "client_credentials")]);
        let answer: Value = request
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        answer["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token: {answer}"))
            .to_owned()
    }

    /// The status of a request with this token.
    async fn call(&self, token: &str) -> u16 {
        let request = self.http.get(format!("http://{}/hello", self.addresses[0]));
        request
            .bearer_auth(token)
            .send()
            .await
            .expect("an answer")
            .status()
            .as_u16()
    }

    /// Makes what a command names, and says the variables that it uses.
    async fn prepare(&self, text: &str) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        let uses = |name: &str| {
            text.contains(&format!("${name}")) || text.contains(&format!("\"${name}\""))
        };
        let active = async || {
            let set = self.admin("keys", None).await;
            let keys = set["keys"].as_array().cloned().unwrap_or_default();
            let active = keys.iter().find(|key| key["state"] == "active").cloned();
            active.expect("an active key")["kid"]
                .as_str()
                .expect("text")
                .to_owned()
        };
        if uses("KID") {
            variables.push(("KID", active().await));
        }
        if uses("PURGED_KID") {
            let kid = active().await;
            let body = json!({ "purge": true, "kids": [kid], "mistake_undo": true });
            let purged = self.admin("keys/rotate", Some(body)).await;
            assert_eq!(purged["changed"], true, "{purged}");
            variables.push(("PURGED_KID", kid));
        }
        if uses("PURGE_ID") {
            // With a client that it broke and that is back, so that a watch has an end.
            let token = self.token().await;
            let body = json!({ "purge": true, "kids": [active().await] });
            let purged = self.admin("keys/rotate", Some(body)).await;
            assert_eq!(self.call(&token).await, 401);
            assert_eq!(self.call(&self.token().await).await, 200);
            let id = purged["receipt"]["purge_id"]
                .as_str()
                .expect("an id")
                .to_owned();
            variables.push(("PURGE_ID", id));
        }
        if uses("LOG_ID") {
            let refused = self.admin("no/such/endpoint", None).await;
            variables.push((
                "LOG_ID",
                refused["log_id"].as_str().expect("an id").to_owned(),
            ));
        }
        if text.contains("portcullis status") {
            // It exits with 1 while an upstream was not found well yet.
            eventually("everything is ok", || async {
                let status = self.admin("status", None).await;
                (status["overall"] == "ok").then_some(())
            })
            .await;
        }
        let mut secret = "a-secret-that-nobody-has-0123456789".to_owned();
        if text.contains("billing") {
            let body = || Some(json!({}));
            self.admin("clients/billing/remove", body()).await;
            if !text.contains("clients add billing") {
                let body = json!({ "id": "billing", "scopes": ["read"] });
                let made = self.admin("clients", Some(body)).await;
                secret = made["secret"].as_str().expect("a secret").to_owned();
                let env = format!("CLIENT_ID=billing\nCLIENT_SECRET={secret}\n");
                for (name, text) in [("billing.secret", secret.as_str()), ("billing.env", &env)] {
                    let _absent = fs::remove_file(self.path(name));
                    harness::in_process::write_private(&self.path(name), text);
                }
            }
        }
        variables.push(("SECRET", secret));
        let old_kek = self.path("secrets/old-kek");
        if text.contains("secrets/old-kek") && !old_kek.exists() {
            portcullis::store::write_new_kek(&old_kek).expect("another key");
        }
        if text.contains("token.txt") {
            fs::write(self.path("token.txt"), self.token().await).expect("a token file");
        }
        variables
    }

    /// SIGTERM, and how it ended.
    async fn stop(child: Child) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the signal is sent");
        let child = std::cell::RefCell::new(child);
        let ended = eventually("it ends", || async {
            child
                .borrow_mut()
                .try_wait()
                .expect("the child can be asked")
        });
        ended.await.code()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(child) = &mut self.demo {
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(step: &Step, output: &Output) {
    assert!(
        output.status.success(),
        "{} ended with {}:\n{}\n{}{}",
        step.name(),
        output.status,
        step.text,
        text(&output.stdout),
        text(&output.stderr)
    );
}

async fn execute(root: &Path, shared: &Scratch, step: &Step) {
    match step.how() {
        Some(Left(why)) => println!("{} is left out: it {why}", step.name()),
        None => {
            let variables = shared.prepare(&step.text).await;
            let output = shared
                .shell(&step.text)
                .envs(variables)
                .output()
                .expect("bash runs");
            succeeded(step, &output);
            assert!(
                !text(&output.stderr).contains("panicked"),
                "{}",
                step.name()
            );
        }
        Some(Typed(input)) => {
            let Some(script) = peer("script") else { return };
            let variables = shared.prepare(&step.text).await;
            let file = shared.path("typed.sh");
            fs::write(&file, shared.adapted(&step.text)).expect("a script");
            let mut command = shared.command(&script);
            command
                .args(["-qec", "bash -e -u -o pipefail typed.sh", "/dev/null"])
                .envs(variables);
            let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            let mut child = child.expect("script runs");
            let mut stdin = child.stdin.take().expect("a pipe");
            stdin.write_all(input.as_bytes()).expect("it is typed");
            let output = child.wait_with_output().expect("it ends");
            drop(stdin);
            succeeded(step, &output);
            assert!(
                text(&output.stdout).contains("Type purge to go on"),
                "{}",
                step.name()
            );
        }
        Some(Interrupted(words)) => {
            let variables = shared.prepare(&step.text).await;
            let mut command = shared.shell(&format!("exec {}", step.text));
            // It is ended when it has said what it is for.
            Lines::of(command.envs(variables)).until(words);
        }
        Some(Serves) => {
            let mut own = Scratch::lay_out(root);
            let made = own.shell("portcullis init").output().expect("bash runs");
            succeeded(step, &made);
            let (before, last) = step
                .text
                .trim_end()
                .rsplit_once('\n')
                .unwrap_or(("", &step.text));
            let script = format!("{before}\nexec {last}");
            let child = own
                .shell(&script)
                .stdout(Stdio::null())
                .spawn()
                .expect("bash runs");
            own.demo = Some(child);
            own.ready().await;
            let child = own.demo.take().expect("just put there");
            assert_eq!(Scratch::stop(child).await, Some(0), "{}", step.name());
        }
        Some(Damaged(codes)) => {
            let own = Scratch::lay_out(root);
            let made = own.shell("portcullis init").output().expect("bash runs");
            succeeded(step, &made);
            fs::write(own.path("data/keys/keyset.json"), "{}").expect("it is damaged");
            let commands: Vec<&str> = step.text.lines().collect();
            assert_eq!(commands.len(), codes.len(), "{}", step.name());
            for (command, code) in commands.iter().zip(*codes) {
                let output = own.shell(command).output().expect("bash runs");
                assert_eq!(
                    output.status.code(),
                    Some(*code),
                    "{command}: {}",
                    text(&output.stderr)
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_command_does_what_it_says() {
    for program in ["curl", "openssl", "jq"] {
        if peer(program).is_none() {
            return;
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = std::collections::BTreeSet::new();
    let mut executed = 0;
    for file in documents(root) {
        let steps = steps_of(root, &file);
        if steps.is_empty() {
            continue;
        }
        // Each document begins anew, as its reader does.
        let mut scratch = Scratch::lay_out(root);
        scratch.run_demo().await;
        for step in &steps {
            let fits = |(file, part, _): &(&str, &str, How)| {
                *file == step.file && step.text.contains(part)
            };
            used.extend(RULES.iter().position(fits));
            execute(root, &scratch, step).await;
            executed += usize::from(!matches!(step.how(), Some(Left(_))));
        }
    }
    assert!(executed > 70, "only {executed} commands were executed");
    let stale: Vec<&str> = (0..RULES.len())
        .filter(|at| !used.contains(at))
        .map(|at| RULES[at].1)
        .collect();
    assert!(
        stale.is_empty(),
        "these rules fit nothing any more: {stale:?}"
    );
}

#[test]
fn blocks_are_found_and_the_reference_is_taken_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("docs")).expect("a directory");
    let document = "x\n```sh\n# one\na\nb\n# two\nc\n```\n```text\nnot this\n```\n```json\n{}\n```\n```bash\nd\n```\n";
    for (file, expected) in [
        ("docs/a.md", &["# one\na\nb\n# two\nc\n", "d\n"][..]),
        ("docs/cli.md", &["a\nb\n", "c\n", "d\n"]),
    ] {
        fs::write(dir.path().join(file), document).expect("a document");
        let found = steps_of(dir.path(), file);
        let texts: Vec<&str> = found.iter().map(|step| step.text.as_str()).collect();
        assert_eq!(texts, expected);
    }
}
