//! The file as it is written: one struct per section, every key optional, every value still text.
//!
//! What is missing, out of bounds or contradictory is judged by `convert`, which knows the key
//! path and can report everything at once. Nothing here implements `Debug`: values may be secrets.

use super::forms::{Named, OneOrMany, Scalar, WordOr};
use super::schema::{Key, Shape, Shaped};

/// Defines a section: the struct that serde reads, and the keys that `schema` knows.
macro_rules! section {
    ($name:ident { $($key:ident: $kind:ty),+ $(,)? }) => {
        #[derive(Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $name {
            $(pub(super) $key: Option<$kind>,)*
        }

        impl Shaped for $name {
            const SHAPE: Shape = Shape::Section(&[
                $(Key { field: stringify!($key), shape: <$kind as Shaped>::SHAPE },)*
            ]);
        }
    };
}

section!(RawConfig {
    listeners: RawListeners,
    issuer: RawIssuer,
    keys: RawKeys,
    clients: Vec<RawClient>,
    upstreams: Named<RawUpstream>,
    routes: Vec<RawRoute>,
    limits: RawLimits,
    server: RawServer,
    log: RawLog,
    access_log: WordOr<RawAccessLog>,
    tracing: WordOr<RawTracing>,
});

section!(RawListeners {
    proxy: OneOrMany<RawProxyListener>,
    admin: RawAdminListener,
    metrics: WordOr<RawMetricsListener>,
});

section!(RawProxyListener {
    address: Scalar,
    serves: Vec<Scalar>,
    tls: RawTls,
    h2: Scalar,
    insecure: Scalar,
    behind_tls_proxy: Vec<Scalar>,
    trusted_proxies: Vec<Scalar>,
});

section!(RawAdminListener {
    address: Scalar,
    tls: RawTls,
    insecure: Scalar,
    behind_tls_proxy: Vec<Scalar>,
    ca_file: Scalar,
    allowed_hosts: Vec<Scalar>,
    session_idle_timeout: Scalar,
    session_lifetime: Scalar,
    tokens: Vec<RawAdminToken>,
});

section!(RawMetricsListener {
    address: Scalar,
    tls: RawTls,
});

section!(RawTls {
    cert_file: Scalar,
    key_file: Scalar,
    client_ca_file: Scalar,
});

section!(RawAdminToken {
    name: Scalar,
    role: Scalar,
    file: Scalar,
    hash_file: Scalar,
});

section!(RawIssuer {
    url: Scalar,
    audience: Vec<Scalar>,
    token_ttl: Scalar,
    algorithm: Scalar,
});

section!(RawKeys {
    store: RawStore,
    encryption_key_files: Vec<Scalar>,
    rotation_interval: Scalar,
    idempotency_window: Scalar,
    prepublish: Scalar,
    jwks_max_age: Scalar,
    leeway: Scalar,
    clock_offset_max: Scalar,
    sign_drain: Scalar,
    isolation_grace: Scalar,
    replica_lease: Scalar,
    heartbeat: Scalar,
    barrier_timeout: Scalar,
});

section!(RawStore { file: Scalar });

section!(RawClient {
    id: Scalar,
    secret_hash_file: Scalar,
    secret_hash: Scalar,
    scopes: Vec<Scalar>,
    token_ttl: Scalar,
});

section!(RawUpstream {
    endpoints: Vec<Scalar>,
    tls: RawUpstreamTls,
    connect_timeout: Scalar,
    read_timeout: Scalar,
    write_timeout: Scalar,
    health_check: WordOr<RawHealthCheck>,
});

section!(RawHealthCheck {
    interval: Scalar,
    timeout: Scalar,
});

section!(RawUpstreamTls {
    server_name: Scalar,
    ca_file: Scalar,
});

section!(RawRoute {
    name: Scalar,
    r#match: RawMatch,
    auth: WordOr<RawAuth>,
    identity_headers: Named<Scalar>,
    forward_token: Scalar,
    upstream: Scalar,
});

section!(RawMatch {
    host: Scalar,
    path: Scalar,
    prefix: Scalar,
    methods: Vec<Scalar>,
});

section!(RawAuth {
    audiences: Vec<Scalar>,
    scopes_any: Vec<Scalar>,
    scopes_all: Vec<Scalar>,
});

section!(RawLimits {
    header_timeout: Scalar,
    keepalive_timeout: Scalar,
    max_header_bytes: Scalar,
    max_header_fields: Scalar,
    max_body_bytes: Scalar,
    max_connections_per_address: Scalar,
    allow_underscore_names: Scalar,
    forged_tokens: WordOr<RawForgedTokens>,
});

section!(RawForgedTokens {
    burst: Scalar,
    per_second: Scalar,
});

section!(RawServer {
    workers: Scalar,
    sharding: Scalar,
    shutdown_grace: Scalar,
    token_cache_entries: Scalar,
    token_cache_bytes: Scalar,
});

section!(RawLog {
    format: Scalar,
    ring_lines: Scalar,
});

section!(RawAccessLog {
    format: Scalar,
    target: Scalar,
    sample_successes: Scalar,
});

section!(RawTracing {
    otlp: RawOtlp,
    sample_ratio: Scalar,
});

section!(RawOtlp {
    endpoint: Scalar,
    protocol: Scalar,
    headers_file: Scalar,
    ca_file: Scalar,
    timeout: Scalar,
});
