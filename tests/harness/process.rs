//! The real binary: `init`, `serve`, signals, exit codes.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::{CLIENT, PATIENCE, SECRET, eventually};

/// An installation in a directory of its own, and the gateway that runs there.
pub struct Process {
    pub dir: tempfile::TempDir,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
    pub http: reqwest::Client,
    child: Option<Child>,
    /// Whom the binary runs as, and the copy that this user may execute; see
    /// [`Process::without_root`].
    user: Option<(u32, PathBuf)>,
    /// Most files that it may open, whatever it asks for.
    pub open_files: Option<u32>,
}

/// What a test wants to say differently in the configuration.
pub struct Setup {
    pub upstream: String,
    pub algorithm: &'static str,
    /// More lines below `keys:`, each indented by two spaces.
    pub keys: String,
    pub token_ttl: &'static str,
    /// More top-level sections.
    pub more: String,
    /// More upstreams, each line indented by two spaces.
    pub upstreams: String,
    /// More routes before the one that takes everything, each line indented by two spaces.
    pub routes: String,
    /// More clients, each line indented by two spaces.
    pub clients: String,
    /// More keys of the proxy listener's map, each after a comma.
    pub proxy: String,
}

impl Setup {
    pub fn new(upstream: impl std::fmt::Display) -> Self {
        Self {
            upstream: upstream.to_string(),
            algorithm: "ES256",
            keys: String::new(),
            token_ttl: "1h",
            more: String::new(),
            upstreams: String::new(),
            routes: String::new(),
            clients: String::new(),
            proxy: String::new(),
        }
    }
}

impl Process {
    /// Writes a configuration and its client's secret; starts nothing.
    pub fn configure(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let [proxy, admin, metrics] = free_ports();
        std::fs::create_dir(dir.path().join("secrets")).expect("a directory");
        let hash = portcullis::clients::SecretHash::of_generated(
            SECRET.as_bytes(),
            &ring::rand::SystemRandom::new(),
        );
        super::in_process::write_private(
            &dir.path().join("secrets/demo.hash"),
            &hash.expect("a hash").to_string(),
        );
        let text = format!(
            r#"
listeners:
  proxy: {{ address: {proxy}{proxy_more} }}
  admin: {{ address: {admin}, tokens: [{{ name: ops, role: admin, file: secrets/admin.token }}] }}
  metrics: {{ address: {metrics} }}
issuer: {{ url: "http://{proxy}", audience: [api], token_ttl: {ttl}, algorithm: {algorithm} }}
keys:
  store: {{ file: data/keys }}
  encryption_key_files: [secrets/kek]
{keys}
clients:
  - {{ id: {CLIENT}, secret_hash_file: secrets/demo.hash, scopes: [read, write] }}
{clients}
upstreams:
  main: {{ endpoints: ["{upstream}"] }}
{upstreams}
{more}
routes:
{routes}
  - name: api
    match: {{ prefix: / }}
    auth: {{ scopes_any: [read, write] }}
    identity_headers: {{ X-Auth-Subject: sub, X-Auth-Client-Id: client_id, X-Auth-Scopes: scope }}
    upstream: main
"#,
            ttl = setup.token_ttl,
            algorithm = setup.algorithm,
            keys = setup.keys,
            upstream = setup.upstream,
            upstreams = setup.upstreams,
            more = setup.more,
            routes = setup.routes,
            clients = setup.clients,
            proxy_more = setup.proxy,
        );
        std::fs::write(dir.path().join("portcullis.yaml"), text).expect("a configuration");
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        Self {
            dir,
            proxy,
            admin,
            metrics,
            http,
            child: None,
            user: None,
            open_files: None,
        }
    }

    /// Configures, initialises and serves.
    pub async fn start(setup: &Setup) -> Self {
        let mut process = Self::configure(setup);
        let output = process.run(&["init"]);
        assert!(
            output.status.success(),
            "init failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        process.serve().await;
        process
    }

    /// Runs a command of the binary to its end in the installation's directory.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.user {
            None => match self.open_files {
                None => Command::new(env!("CARGO_BIN_EXE_portcullis")),
                Some(limit) => {
                    let mut command = Command::new("sh");
                    command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
                    command.arg(env!("CARGO_BIN_EXE_portcullis"));
                    command
                }
            },
            Some((uid, binary)) => {
                let mut command = Command::new(binary);
                command.uid(*uid).gid(*uid);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("PORTCULLIS_CONFIG", "portcullis.yaml");
        command
    }

    /// Runs the binary with `input` on its standard input, to its end.
    pub fn piped(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may have refused before it read.
        let _unread = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    /// Runs a command that must be refused: its output, and how long that took. One that is still
    /// running after [`PATIENCE`] fails the test.
    pub async fn refused(&self, arguments: &[&str]) -> Refused {
        let started = Instant::now();
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                break status;
            }
            if started.elapsed() > PATIENCE {
                child.kill().expect("it can be killed");
                panic!("{arguments:?} is not refused within {PATIENCE:?}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        };
        let took = started.elapsed();
        let output = child.wait_with_output().expect("it has ended");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
        Refused {
            code: status.code().expect("it ended by itself"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            took,
        }
    }

    /// Lets the binary run as an ordinary user, whom the modes of files bind; they do not bind
    /// root. Does nothing when the test itself is run by such a user.
    pub fn without_root(&mut self) {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let binary = self.dir.path().join("portcullis");
        // The build may lie where only root can go. A process of its own copies: a child that another
        // test starts just then would inherit our open file, and a file open for writing cannot be
        // executed.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_portcullis"))
            .arg(&binary)
            .status();
        assert!(copied.expect("cp runs").success(), "a copy of the binary");
        give(self.dir.path(), NOBODY);
        self.user = Some((NOBODY, binary));
    }

    /// Starts the gateway, its output in `serve.log`, and waits until it is ready.
    pub async fn serve(&mut self) {
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.log_path())
            .expect("a log file");
        let errors = log.try_clone().expect("a log file");
        let child = self
            .command(&["serve"])
            .stdout(log)
            .stderr(errors)
            .stdin(Stdio::null())
            .spawn();
        self.child = Some(child.expect("the binary starts"));
        let url = format!("http://{}/readyz", self.metrics);
        let (http, child) = (
            self.http.clone(),
            self.child.as_mut().expect("just started"),
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            if http
                .get(&url)
                .send()
                .await
                .is_ok_and(|response| response.status() == 200)
                && all_open(&[self.proxy, self.admin]).await
            {
                return;
            }
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                panic!(
                    "the gateway ended with {status}:\n{}",
                    std::fs::read_to_string(self.log_path()).unwrap_or_default()
                );
            }
            assert!(
                Instant::now() < deadline,
                "the gateway is not ready within {PATIENCE:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the gateway runs").id()
    }

    /// Sends a signal to the running gateway.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).expect("a pid"))
            .expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the signal is sent");
    }

    /// SIGKILL, and wait until it is gone.
    pub async fn kill(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::KILL);
        self.ended().await
    }

    /// SIGTERM, and wait until it is gone.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Waits until the gateway has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(self.child.take().expect("the gateway runs"));
        eventually("the end of the gateway", || async {
            child
                .borrow_mut()
                .try_wait()
                .expect("the child can be asked")
        })
        .await
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("serve.log")
    }

    /// Regular files that the gateway has open, as paths that lead to them even when they have no
    /// name any more; none when it does not run. The kernel shows them to root alone, because the
    /// process has made itself unreadable.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let Some(child) = &self.child else {
            return Vec::new();
        };
        let entries = match std::fs::read_dir(format!("/proc/{}/fd", child.id())) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Vec::new();
            }
            Err(error) => panic!("the gateway's open files: {error}"),
        };
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file())
            .collect()
    }

    /// Every JSON line that the gateway wrote.
    pub fn log_lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy)
    }

    pub fn admin_token(&self) -> String {
        read(&self.dir.path().join("secrets/admin.token"))
            .trim()
            .to_owned()
    }

    pub async fn token(&self) -> String {
        super::token(&self.http, &self.url(""), None).await
    }

    pub async fn status(&self, token: &str) -> u16 {
        let response = self
            .http
            .get(self.url("/hello"))
            .bearer_auth(token)
            .send()
            .await;
        response.expect("the gateway answers").status().as_u16()
    }

    pub async fn admin_post(
        &self,
        path: &str,
        body: serde_json::Value,
    ) -> (u16, serde_json::Value) {
        let request = self
            .http
            .post(format!("http://{}{path}", self.admin))
            .bearer_auth(self.admin_token())
            .json(&body);
        let response = request.send().await.expect("the admin listener answers");
        (
            response.status().as_u16(),
            response.json().await.expect("JSON"),
        )
    }

    pub async fn admin_get(&self, path: &str) -> serde_json::Value {
        let request = self
            .http
            .get(format!("http://{}{path}", self.admin))
            .bearer_auth(self.admin_token());
        request
            .send()
            .await
            .expect("the admin listener answers")
            .json()
            .await
            .expect("JSON")
    }

    pub async fn rotate(&self) -> serde_json::Value {
        let (status, body) = self
            .admin_post("/admin/v1/keys/rotate", serde_json::json!({}))
            .await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub async fn purge(&self) -> serde_json::Value {
        let seen = self.admin_get("/admin/v1/keys").await["revision"].clone();
        let body = serde_json::json!({ "purge": true, "seen_revision": seen });
        let (status, body) = self.admin_post("/admin/v1/keys/rotate", body).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub async fn jwks(&self) -> bytes::Bytes {
        let response = self
            .http
            .get(self.url("/.well-known/jwks.json"))
            .send()
            .await
            .expect("the JWKS");
        response.bytes().await.expect("bytes")
    }

    pub async fn scrape(&self) -> String {
        let response = self
            .http
            .get(format!("http://{}/metrics", self.metrics))
            .send()
            .await
            .expect("a scrape");
        response.text().await.expect("text")
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Refused {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: std::time::Duration,
}

/// Gives `path` and everything below it to a user.
fn give(path: &Path, uid: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("root may give files away");
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory") {
            give(&entry.expect("an entry").path(), uid);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

async fn all_open(addresses: &[SocketAddr]) -> bool {
    for address in addresses {
        if tokio::net::TcpStream::connect(address).await.is_err() {
            return false;
        }
    }
    true
}

/// Addresses that were free a moment ago, from below the range that the system gives to outgoing
/// connections, so that none of those takes one away again.
pub fn free_ports<const N: usize>() -> [SocketAddr; N] {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    const FIRST: u32 = 10_240;
    const COUNT: u32 = 22_000;
    // Other test programs run beside this one: each begins somewhere else.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(7919) % COUNT));
    [(); N].map(|()| {
        let mut candidates = (0..COUNT).map(|_| {
            let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
            SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("below 65536")))
        });
        let is_free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
        candidates.find(is_free).expect("a free port")
    })
}
