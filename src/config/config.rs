//! The configuration that the product runs with: complete, within bounds, free of contradictions.
//!
//! Built by [`Config::parse`] alone and never written back. No `Debug` output of anything here
//! shows a secret. Imports the plain data types of `keys`, `token`, `telemetry` and `gateway`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::gateway::limits::Limits;
use crate::gateway::routes::Route;
use crate::gateway::upstreams::UpstreamSpec;
use crate::keys::Algorithm;
use crate::keys::timing::Timing;
use crate::telemetry::{AccessLogSettings, TraceSettings};
use crate::token::CacheLimits;

use super::net::Cidr;

/// Everything that a configuration file says, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file that it came from.
    pub source: PathBuf,
    /// Where connections are taken.
    pub listeners: Listeners,
    /// Who the tokens are from.
    pub issuer: Issuer,
    /// The signing keys and their life cycle.
    pub keys: Keys,
    /// Clients that the file defines.
    pub clients: Vec<StaticClient>,
    /// Upstream services, in the order of the file.
    pub upstreams: Vec<UpstreamSpec>,
    /// Routes in order; the first match wins.
    pub routes: Vec<Route>,
    /// Bounds on what one connection or request may cost.
    pub limits: Limits,
    /// The process.
    pub server: ServerSettings,
    /// Log output.
    pub log: LogSettings,
    /// The access log; `None` when it is off.
    pub access_log: Option<AccessLogSettings>,
    /// Traces; `None` when they are off.
    pub tracing: Option<TraceSettings>,
}

/// Where connections are taken. No two of the addresses overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// At least one.
    pub proxy: Vec<ProxyListener>,
    /// Key operations; never without authentication.
    pub admin: AdminListener,
    /// Metrics and health; `None` when the file says `metrics: none`.
    pub metrics: Option<MetricsListener>,
}

/// A listener of the data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyListener {
    /// Address to bind.
    pub address: SocketAddr,
    /// What it answers.
    pub serves: Serves,
    /// TLS; `None` means plain text.
    pub tls: Option<TlsFiles>,
    /// Whether HTTP/2 is offered beside HTTP/1.1; only with TLS.
    pub h2: bool,
    /// What the file says about plain text on an address that others can reach.
    pub plain_text: PlainText,
    /// Whose word on where a request came from is taken; those of `behind_tls_proxy` too.
    pub trusted_proxies: Vec<Cidr>,
}

/// What a proxy listener answers; at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serves {
    /// The routes to upstreams.
    pub routes: bool,
    /// Token endpoint, JWKS and metadata.
    pub issuer: bool,
    /// `/livez` and `/readyz`.
    pub health: bool,
}

/// Files of a TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// PEM private key of the leaf.
    pub key_file: PathBuf,
    /// PEM authorities of which every downstream must show a certificate.
    pub client_ca_file: Option<PathBuf>,
}

/// What the file says about plain text on an address that is not loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainText {
    /// Nothing. Then the listener has TLS, or is on loopback, or carries no client secrets.
    Unstated,
    /// `insecure: true`: credentials may cross the network in plain text.
    Insecure,
    /// `behind_tls_proxy`: TLS ends in a proxy that connects from these networks; whoever accepts
    /// connections asks [`PlainText::admits`].
    BehindTlsProxy(Vec<Cidr>),
}

impl PlainText {
    /// Whether a connection from `peer` may be taken.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        match self {
            Self::Unstated | Self::Insecure => true,
            Self::BehindTlsProxy(networks) => networks.iter().any(|network| network.contains(peer)),
        }
    }
}

/// The listener for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminListener {
    /// Address to bind.
    pub address: SocketAddr,
    /// TLS; `None` means plain text.
    pub tls: Option<TlsFiles>,
    /// What the file says about plain text on an address that others can reach.
    pub plain_text: PlainText,
    /// PEM authorities by which the command line knows it; the gateway does not read them.
    pub ca_file: Option<PathBuf>,
    /// Names by which it may be asked for beside addresses and `localhost`; in lower case.
    pub allowed_hosts: Vec<String>,
    /// Longest time that a signed-in operator does nothing; at most the life time.
    pub session_idle_timeout: Duration,
    /// Longest time from signing in.
    pub session_lifetime: Duration,
    /// Who may use it; at least one.
    pub tokens: Vec<AdminToken>,
}

/// A credential of the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// Name in logs and audit records.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// Where the token comes from.
    pub source: AdminTokenSource,
}

/// What the bearer of an admin token may do; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees.
    Viewer,
    /// Rotates.
    Operator,
    /// Purges.
    Admin,
}

impl Role {
    /// The word of the configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an admin token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminTokenSource {
    /// A file that holds the token.
    File(PathBuf),
    /// A file that holds the token's hash.
    HashFile(PathBuf),
}

/// The listener for metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsListener {
    /// Address to bind.
    pub address: SocketAddr,
    /// TLS; `None` means plain text, which is fine: nothing here is secret.
    pub tls: Option<TlsFiles>,
}

/// Who the tokens are from, and what they are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The `iss` claim; an absolute URL without a slash at its end.
    pub url: String,
    /// The `aud` claim; at least one.
    pub audience: Vec<String>,
    /// Life time of a token, unless its client has its own; whole seconds.
    pub token_ttl: Duration,
    /// Algorithm of new signing keys.
    pub algorithm: Algorithm,
}

/// The signing keys: where they lie, and when they turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Where the key set lies.
    pub store: StoreSettings,
    /// Key-encryption keys: the first seals, all of them open.
    pub encryption_key_files: Vec<PathBuf>,
    /// The timings; every relation between them holds.
    pub timing: Timing,
}

/// Where the key set lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// One sealed document in this directory.
    File(PathBuf),
}

/// A client that the configuration file defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticClient {
    /// `client_id`.
    pub id: String,
    /// Where the hash of its secret comes from.
    pub secret: ClientSecretSource,
    /// Scopes it may ask for; also what it gets when it asks for none.
    pub scopes: Vec<String>,
    /// Life time of its tokens; whole seconds.
    pub token_ttl: Duration,
}

/// Where the hash of a client's secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientSecretSource {
    /// A file that holds the hash.
    HashFile(PathBuf),
    /// The hash itself.
    Hash(String),
}

impl fmt::Debug for ClientSecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HashFile(path) => f.debug_tuple("HashFile").field(path).finish(),
            Self::Hash(_) => f.write_str("Hash(…)"),
        }
    }
}

/// Settings of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Threads of the data path.
    pub workers: usize,
    /// Whether each worker has a socket and a runtime of its own. Off, one service of `workers`
    /// threads takes all connections of a listener: for comparison and diagnosis.
    pub sharding: bool,
    /// How long a stopping process waits for what is in flight, at most.
    pub shutdown_grace: Duration,
    /// How many verified tokens each key remembers.
    pub token_cache: CacheLimits,
}

impl ServerSettings {
    /// How each proxy listener is spread over threads: its services, and the threads of each.
    #[must_use]
    pub const fn spread(&self) -> (usize, usize) {
        if self.sharding {
            (self.workers, 1)
        } else {
            (1, self.workers)
        }
    }
}

/// Settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// How many of the newest lines are kept in memory for `GET logs`: of level warn and error, and as
    /// many others that have a Log ID.
    pub ring_lines: usize,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For eyes.
    Human,
}
