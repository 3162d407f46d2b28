//! The whole application in this process, on ephemeral ports, with a clock that the test drives.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora::proxy::http_proxy;
use portcullis::app::{App, Env, Records};
use portcullis::clock::Clock;
use portcullis::config::Config;
use portcullis::keygen::{FixtureKeys, KeyGenerator};
use portcullis::keys::{Actor, Algorithm, FreshKey, transition};
use portcullis::lifecycle::Lifecycle;
use portcullis::listeners::{
    Ephemeral, Shared, Sources, Stop, TlsSpec, server_conf, start_on_ephemeral,
};
use portcullis::store::file_layer::{FileLayer, RealLayer};
use portcullis::store::{
    FileStore, FileStoreConfig, KeyStore, Keyring, MemoryStore, seal_fresh, write_new_kek,
};
use portcullis::telemetry::{Log, LogCapture};
use portcullis::testing::ManualClock;

use super::certificates::Certificates;
use super::upstream::Upstream;
use super::{ADMIN, CLIENT, OPERATOR, SECRET, VIEWER, metrics};

/// How a gateway is to be set up; start from `Options::default()`.
pub struct Options {
    pub algorithm: Algorithm,
    /// More lines below `keys:`, each indented by two spaces.
    pub keys: String,
    /// `token_ttl` of the issuer.
    pub token_ttl: &'static str,
    /// Everything from `routes:` on; `{upstream}` stands for the upstream's name `echo`.
    pub routes: String,
    /// More top-level sections.
    pub more: String,
    /// More upstreams, each line indented by two spaces.
    pub upstreams: String,
    /// More clients, each line indented by two spaces.
    pub clients: String,
    /// Keep the key set in files instead of memory.
    pub file_store: bool,
    /// What those files are on.
    pub layer: Arc<dyn FileLayer>,
    /// One more worker, on HTTP/2 over TLS.
    pub h2: bool,
    pub keygen: Arc<dyn KeyGenerator>,
    /// Wraps the store, for faults.
    pub wrap: Box<dyn FnOnce(Arc<dyn KeyStore>) -> Arc<dyn KeyStore>>,
    pub workers: usize,
    /// More of the section `server`, each entry behind a comma.
    pub server: &'static str,
    /// The gateway sees the clock as a real one: what `clock.set` does is a step.
    pub steady_clock: bool,
    /// Takes the place of the captured log.
    pub log: Option<Log>,
    /// More keys of the proxy listener, each behind a comma.
    pub listener: &'static str,
    /// More admin tokens, each line indented by six spaces; then more keys of the admin listener,
    /// each line indented by four.
    pub admin: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Es256,
            keys: String::new(),
            token_ttl: "1h",
            routes: ROUTES.to_owned(),
            more: String::new(),
            upstreams: String::new(),
            clients: String::new(),
            file_store: false,
            layer: Arc::new(RealLayer),
            h2: false,
            keygen: Arc::new(FixtureKeys::new()),
            wrap: Box::new(|store| store),
            workers: 2,
            server: "",
            steady_clock: false,
            log: None,
            listener: "",
            admin: String::new(),
        }
    }
}

/// The routes of a gateway unless a test says otherwise.
pub const ROUTES: &str = r#"
routes:
  - { name: public, match: { path: /public }, auth: none, upstream: echo }
  - name: write
    match: { prefix: /write }
    auth: { scopes_all: [write] }
    upstream: echo
  - name: other
    match: { prefix: /other }
    auth: { audiences: [other] }
    upstream: echo
  - name: api
    match: { prefix: / }
    auth: { scopes_any: [read, write] }
    identity_headers: { X-Auth-Subject: sub, X-Auth-Client-Id: client_id, X-Auth-Scopes: scope }
    upstream: echo
"#;

/// A running gateway; everything ends when it is dropped.
pub struct Gateway {
    /// `http://…` of the proxy listener's first worker.
    pub proxy: String,
    /// Of every worker, the first included.
    pub workers: Vec<String>,
    /// Of the worker on HTTP/2, with the authority of its certificate.
    pub h2: Option<(SocketAddr, PathBuf)>,
    pub admin: String,
    pub metrics: String,
    pub clock: Arc<ManualClock>,
    pub log: LogCapture,
    pub lifecycle: Arc<Lifecycle>,
    pub http: reqwest::Client,
    pub upstream: Upstream,
    pub config: Config,
    pub dir: tempfile::TempDir,
    pub env: Env,
    /// Boxed, because futures hold gateways.
    pub app: Box<App>,
    /// Access log and traces.
    pub records: Records,
    _listeners: Vec<Ephemeral>,
}

impl Gateway {
    pub async fn start(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let upstream = Upstream::echo();
        let clock = Arc::new(ManualClock::at_present());
        let config = config(&options, dir.path(), &upstream);
        write_new_kek(&dir.path().join("secrets/kek")).expect("a key-encryption key");
        let keyring =
            Arc::new(Keyring::load(&config.keys.encryption_key_files).expect("a keyring"));
        let seen = seen(&options, &clock);
        let store = store(&options, &config, &keyring, &seen, dir.path()).await;
        // Boxed: the future of every test that starts a gateway holds this one.
        Box::pin(Self::start_on(
            options,
            config,
            dir,
            upstream,
            (clock, seen),
            keyring,
            store,
        ))
        .await
    }

    /// Stops everything and starts a new gateway on the same files; the clock, the upstream and the
    /// key generator's stock live on. Needs `file_store`.
    pub async fn restart(self, mut options: Options) -> Self {
        let Self {
            clock,
            lifecycle,
            http,
            upstream,
            config,
            dir,
            env,
            app,
            _listeners: listeners,
            ..
        } = self;
        options.keygen = Arc::clone(&env.keygen);
        drop((lifecycle, http, env, app));
        for listener in listeners {
            listener.stop().await;
        }
        let keyring =
            Arc::new(Keyring::load(&config.keys.encryption_key_files).expect("a keyring"));
        let seen = seen(&options, &clock);
        let store = super::eventually("the store is unlocked", || async {
            FileStore::open(file_store(&config, &keyring, &seen, dir.path()))
                .await
                .ok()
        })
        .await;
        let store = Arc::new(store);
        Self::start_on(
            options,
            config,
            dir,
            upstream,
            (clock, seen),
            keyring,
            store,
        )
        .await
    }

    async fn start_on(
        options: Options,
        config: Config,
        dir: tempfile::TempDir,
        upstream: Upstream,
        (clock, dyn_clock): (Arc<ManualClock>, Arc<dyn Clock>),
        keyring: Arc<Keyring>,
        store: Arc<dyn KeyStore>,
    ) -> Self {
        let (captured, capture) = Log::capture(Arc::clone(&dyn_clock));
        let log = options.log.unwrap_or(captured);
        let store = (options.wrap)(store);
        let env = Env {
            clock: dyn_clock,
            keygen: options.keygen,
            store,
            keyring,
            log,
        };
        // Boxed, because futures hold it.
        let app = Box::pin(App::build(&config, env.clone(), Arc::new(|| false)))
            .await
            .expect("the application starts");

        let stop = Stop::new(config.server.shutdown_grace);
        let shared = Shared::new(stop, &config.limits, app.refusals());
        let sources = Sources::new(config.limits.max_connections_per_address);
        let mut listeners = Vec::new();
        let mut workers = Vec::new();
        let proxy_shared = Shared {
            refusals: app.proxy_refusals(),
            ..shared.clone()
        };
        let next = AtomicUsize::new(0);
        let conf = Arc::new(server_conf(config.server.shutdown_grace));
        for _ in 0..options.workers {
            let gateway = app.gateway(
                &config.listeners.proxy[0],
                next.fetch_add(1, Ordering::SeqCst),
            );
            let listener =
                start_on_ephemeral(http_proxy(&conf, gateway), None, &sources, &proxy_shared)
                    .expect("a worker");
            workers.push(format!("http://{}", listener.address));
            listeners.push(listener);
        }
        let h2 = options.h2.then(|| {
            let made = Certificates::make(dir.path());
            let tls = TlsSpec {
                cert_file: made.cert,
                key_file: made.key,
                client_ca_file: None,
                h2: true,
            };
            let gateway = app.gateway(&config.listeners.proxy[0], 0);
            let listener =
                start_on_ephemeral(http_proxy(&conf, gateway), Some(tls), &sources, &shared)
                    .expect("a worker");
            let address = listener.address;
            listeners.push(listener);
            (address, made.ca)
        });
        let tls = config.listeners.admin.tls.as_ref().map(|files| TlsSpec {
            cert_file: files.cert_file.clone(),
            key_file: files.key_file.clone(),
            client_ca_file: files.client_ca_file.clone(),
            h2: false,
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let admin =
            start_on_ephemeral(app.admin(), tls, &sources, &shared).expect("the admin listener");
        let metrics = start_on_ephemeral(app.metrics_app(), None, &sources, &shared)
            .expect("the metrics listener");
        let (admin_url, metrics_url) = (
            format!("{scheme}://{}", admin.address),
            format!("http://{}", metrics.address),
        );
        listeners.extend([admin, metrics]);
        Self {
            proxy: workers[0].clone(),
            workers,
            h2,
            admin: admin_url,
            metrics: metrics_url,
            clock,
            log: capture,
            lifecycle: Arc::clone(&app.lifecycle),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            upstream,
            config,
            dir,
            env,
            records: app.records(),
            app: Box::new(app),
            _listeners: listeners,
        }
    }

    /// Looks after the upstreams and at how everything is, until the guard is dropped.
    pub fn watch(&self) -> Watching {
        Watching(tokio::spawn(self.app.watch()))
    }

    /// The kid of the key that signs now.
    pub fn active_kid(&self) -> String {
        self.lifecycle.current_set().active.public.kid.to_string()
    }

    /// A token with every scope of the client.
    pub async fn token(&self) -> String {
        super::token(&self.http, &self.proxy, None).await
    }

    /// GETs `path` with `token`.
    pub async fn get(&self, path: &str, token: &str) -> reqwest::Response {
        let request = self
            .http
            .get(format!("{}{path}", self.proxy))
            .bearer_auth(token);
        request.send().await.expect("the gateway answers")
    }

    /// The status of `GET /hello` with `token`.
    pub async fn status(&self, token: &str) -> u16 {
        self.get("/hello", token).await.status().as_u16()
    }

    /// Posts to the admin API with the admin role.
    pub async fn admin_post(
        &self,
        path: &str,
        body: serde_json::Value,
    ) -> (u16, serde_json::Value) {
        let request = self
            .http
            .post(format!("{}{path}", self.admin))
            .bearer_auth(ADMIN)
            .json(&body);
        let response = request.send().await.expect("the admin listener answers");
        (
            response.status().as_u16(),
            response.json().await.expect("JSON"),
        )
    }

    /// Gets from the admin API with the admin role.
    pub async fn admin_get(&self, path: &str) -> (u16, serde_json::Value) {
        let request = self
            .http
            .get(format!("{}{path}", self.admin))
            .bearer_auth(ADMIN);
        let response = request.send().await.expect("the admin listener answers");
        (
            response.status().as_u16(),
            response.json().await.expect("JSON"),
        )
    }

    /// A plain Rotate that must answer 200.
    pub async fn rotate(&self) -> serde_json::Value {
        let (status, body) = self
            .admin_post("/admin/v1/keys/rotate", serde_json::json!({}))
            .await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// A Rotate and purge of everything seen now, which must answer 200.
    pub async fn purge(&self) -> serde_json::Value {
        let seen = self.lifecycle.current_set().revision;
        let body = serde_json::json!({ "purge": true, "seen_revision": seen });
        let (status, body) = self.admin_post("/admin/v1/keys/rotate", body).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The body of a scrape.
    pub async fn scrape(&self) -> String {
        let response = self
            .http
            .get(format!("{}/metrics", self.metrics))
            .send()
            .await
            .expect("a scrape");
        assert_eq!(response.status(), 200);
        response.text().await.expect("text")
    }

    /// The value of one series.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metrics::value(&self.scrape().await, name, labels)
    }

    /// Waits until no request is in flight: an answer reaches its client before the request has
    /// ended for the gateway.
    pub async fn settled(&self) {
        super::eventually("the end of all requests", || async {
            let scrape = self.scrape().await;
            let in_flight = |line: &&str| line.starts_with("portcullis_http_requests_in_flight{");
            scrape
                .lines()
                .filter(in_flight)
                .all(|line| line.ends_with(" 0"))
                .then_some(())
        })
        .await;
    }

    /// Has the access log and the spans of requests that have ended written and delivered, or lost.
    pub async fn flush_records(&self) {
        let records = self.records.clone();
        tokio::task::spawn_blocking(move || records.flush(super::PATIENCE))
            .await
            .expect("a flush");
    }

    /// The body of the JWKS endpoint.
    pub async fn jwks(&self) -> bytes::Bytes {
        let response = self
            .http
            .get(format!("{}/.well-known/jwks.json", self.proxy))
            .send()
            .await
            .expect("the JWKS");
        assert_eq!(response.status(), 200);
        response.bytes().await.expect("bytes")
    }
}

/// Ends what [`Gateway::watch`] began.
pub struct Watching(tokio::task::JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn config(options: &Options, dir: &Path, upstream: &Upstream) -> Config {
    let secrets = dir.join("secrets");
    std::fs::create_dir_all(&secrets).expect("a directory");
    for (name, token) in [("admin", ADMIN), ("operator", OPERATOR), ("viewer", VIEWER)] {
        write_private(&secrets.join(name), token);
    }
    let hash = portcullis::clients::SecretHash::of_generated(
        SECRET.as_bytes(),
        &ring::rand::SystemRandom::new(),
    );
    let hash_file = secrets.join("client.hash");
    write_private(&hash_file, &hash.expect("a hash").to_string());
    let dir = dir.display();
    let text = format!(
        r#"
listeners:
  proxy: {{ address: 127.0.0.1:1{listener} }}
  admin:
    address: 127.0.0.1:2
    tokens:
      - {{ name: boss, role: admin, file: {dir}/secrets/admin }}
      - {{ name: ops, role: operator, file: {dir}/secrets/operator }}
      - {{ name: eyes, role: viewer, file: {dir}/secrets/viewer }}
{admin}
  metrics: {{ address: 127.0.0.1:3 }}
issuer:
  url: http://issuer.test
  audience: [api]
  token_ttl: {ttl}
  algorithm: {algorithm}
keys:
  store: {{ file: {dir}/keys }}
  encryption_key_files: [{dir}/secrets/kek]
{keys}
clients:
  - {{ id: {CLIENT}, secret_hash_file: {hash_file}, scopes: [read, write] }}
{clients}
upstreams:
  echo: {{ endpoints: ["{upstream}"] }}
{upstreams}
server: {{ workers: {workers}{server} }}
{more}
{routes}
"#,
        ttl = options.token_ttl,
        algorithm = options.algorithm,
        keys = options.keys,
        hash_file = hash_file.display(),
        upstream = upstream.address,
        upstreams = options.upstreams,
        clients = options.clients,
        workers = options.workers,
        server = options.server,
        listener = options.listener,
        admin = options.admin,
        more = options.more,
        routes = options.routes,
    );
    let mut config = Config::parse(&text, Path::new("test.yaml"), &|_| None)
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    // All requests of a test come from one address, hostile ones by the hundred.
    if !options.more.contains("forged_tokens") {
        config.limits.forged_tokens = None;
    }
    config
}

/// Writes a file that nobody else may read.
pub fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("a file can be written");
}

async fn store(
    options: &Options,
    config: &Config,
    keyring: &Arc<Keyring>,
    clock: &Arc<dyn Clock>,
    dir: &Path,
) -> Arc<dyn KeyStore> {
    let clock = Arc::clone(clock);
    let fresh = || -> FreshKey {
        let generated = options.keygen.generate(options.algorithm).expect("a key");
        seal_fresh(generated, keyring, &config.issuer.url, 0, clock.now()).expect("it seals")
    };
    let actor = Actor::Offline("test".to_owned());
    let set = transition::bootstrap(
        &config.issuer.url,
        fresh(),
        fresh(),
        &config.keys.timing,
        actor,
        clock.now(),
    );
    if options.file_store {
        let file = file_store(config, keyring, &clock, dir);
        let layer = Arc::clone(&options.layer);
        let made = FileStore::create_on(file, layer, &set).await;
        Arc::new(made.expect("a file store"))
    } else {
        Arc::new(MemoryStore::create(clock, &set).expect("a memory store"))
    }
}

fn file_store(
    config: &Config,
    keyring: &Arc<Keyring>,
    clock: &Arc<dyn Clock>,
    dir: &Path,
) -> FileStoreConfig {
    FileStoreConfig {
        dir: dir.join("keys"),
        issuer: config.issuer.url.clone(),
        keyring: Arc::clone(keyring),
        clock: Arc::clone(clock),
    }
}

/// The clock as the gateway sees it.
fn seen(options: &Options, clock: &Arc<ManualClock>) -> Arc<dyn Clock> {
    if options.steady_clock {
        clock.steady()
    } else {
        Arc::<ManualClock>::clone(clock)
    }
}
