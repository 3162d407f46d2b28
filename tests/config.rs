//! The configuration file: samples, bad input, secrets, bounds.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis::config::{
    ClientSecretSource, Config, ConfigError, ConfigErrors, LogFormat, PlainText, known_keys,
};
use portcullis::gateway::limits::Limits;
use portcullis::gateway::routes::{Auth, PathRule};
use portcullis::keys::Algorithm;
use portcullis::keys::timing::{IsolationGrace, Timing};
use portcullis::telemetry::{AccessFormat, AccessTarget, SampleRate};
use proptest::prelude::*;

const SAMPLES: [&str; 4] = [
    "portcullis.yaml",
    "portcullis.full.yaml",
    "test-fast.yaml",
    "compose.yaml",
];

/// A good configuration; the table of bad inputs changes one thing in it. Line numbers below count
/// from its first line.
const GOOD: &str = "\
listeners:
  proxy: { address: 127.0.0.1:8080 }
  admin:
    tokens:
      - { name: ops, role: admin, file: secrets/admin.token }
issuer:
  url: http://127.0.0.1:8080
  audience: [api]
  token_ttl: 1h
keys:
  store: { file: data/keys }
  encryption_key_files: [secrets/kek]
  rotation_interval: 24h
clients:
  - id: demo
    secret_hash_file: secrets/demo.hash
    scopes: [read, write]
upstreams:
  echo:
    endpoints: [\"127.0.0.1:9003\"]
routes:
  - name: health
    match: { path: /healthz }
    auth: none
    upstream: echo
  - name: api
    match: { prefix: /api, methods: [GET] }
    auth: { scopes_any: [read] }
    identity_headers: { X-Auth-Subject: sub }
    upstream: echo
";

/// One way to spoil [`GOOD`], and the one error that it must give.
struct Bad {
    replace: &'static str,
    with: &'static str,
    path: &'static str,
    line: usize,
    value: Option<&'static str>,
    rule: &'static str,
}

const fn bad(
    replace: &'static str,
    with: &'static str,
    path: &'static str,
    line: usize,
    value: Option<&'static str>,
    rule: &'static str,
) -> Bad {
    Bad {
        replace,
        with,
        path,
        line,
        value,
        rule,
    }
}

#[rustfmt::skip] // a table: one case a line
const LISTENERS: &[Bad] = &[
    bad("listeners:", "lisener:", "lisener", 1, None, "unknown key `lisener`, did you mean `listeners`?"),
    bad("{ address: 127.0.0.1:8080 }", "{ adress: 127.0.0.1:8080 }", "listeners.proxy.adress", 2, None, "did you mean `address`?"),
    bad("{ address: 127.0.0.1:8080 }", "{ banana: 1 }", "listeners.proxy.banana", 2, None, "unknown key `banana`"),
    bad("{ address: 127.0.0.1:8080 }", "{ h2: false }", "listeners.proxy.address", 2, None, "this key is required"),
    bad("{ address: 127.0.0.1:8080 }", "127.0.0.1:8080", "listeners.proxy", 2, None, "a map must stand here, not a single value"),
    bad("{ address: 127.0.0.1:8080 }", "[]", "listeners.proxy", 2, None, "at least one proxy listener"),
    bad("  proxy: { address: 127.0.0.1:8080 }\n", "", "listeners.proxy", 1, None, "this key is required"),
    bad("127.0.0.1:8080 }", "localhost:8080 }", "listeners.proxy.address", 2, Some("localhost:8080"), "an IP address and a port"),
    bad("127.0.0.1:8080 }", "127.0.0.1 }", "listeners.proxy.address", 2, Some("127.0.0.1"), "an IP address and a port"),
    bad("127.0.0.1:8080 }", "127.0.0.1:0 }", "listeners.proxy.address", 2, Some("127.0.0.1:0"), "a fixed port"),
    bad("127.0.0.1:8080 }", "127.0.0.1:65536 }", "listeners.proxy.address", 2, Some("127.0.0.1:65536"), "an IP address and a port"),
    bad("127.0.0.1:8080 }", "127.0.0.1:9901 }", "listeners.admin.address", 3, None, "`listeners.proxy.address` takes this one already"),
    bad("127.0.0.1:8080 }", "127.0.0.1:9902 }", "listeners.metrics.address", 1, None, "`listeners.proxy.address` takes this one already"),
    bad("{ address: 127.0.0.1:8080 }", "\n    - address: 127.0.0.1:80\n    - address: 0.0.0.0:80\n      insecure: true", "listeners.proxy[1].address", 4, Some("0.0.0.0:80"), "`listeners.proxy[0].address` takes this one already"),
    bad("127.0.0.1:8080 }", "0.0.0.0:8080 }", "listeners.proxy.address", 2, Some("0.0.0.0:8080"), "the token endpoint receives client secrets"),
    bad("127.0.0.1:8080 }", "'[::]:8080', serves: [issuer] }", "listeners.proxy.address", 2, Some("[::]:8080"), "the token endpoint receives client secrets"),
    bad("127.0.0.1:8080 }", "0.0.0.0:8080, insecure: yes }", "listeners.proxy.insecure", 2, Some("yes"), "one of `true` and `false`"),
    bad("127.0.0.1:8080 }", "0.0.0.0:8080, insecure: true, behind_tls_proxy: [10.0.0.0/8] }", "listeners.proxy.insecure", 2, None, "contradict"),
    bad("127.0.0.1:8080 }", "0.0.0.0:8080, behind_tls_proxy: [10.0.0.1/8] }", "listeners.proxy.behind_tls_proxy[0]", 2, Some("10.0.0.1/8"), "no bits set behind its prefix"),
    bad("127.0.0.1:8080 }", "0.0.0.0:8080, behind_tls_proxy: [10.0.0.1] }", "listeners.proxy.behind_tls_proxy[0]", 2, Some("10.0.0.1"), "address/prefix length"),
    bad("127.0.0.1:8080 }", "127.0.0.1:8080, trusted_proxies: [] }", "listeners.proxy.trusted_proxies", 2, None, "names at least one network"),
    bad("127.0.0.1:8080 }", "127.0.0.1:8080, trusted_proxies: [a] }", "listeners.proxy.trusted_proxies[0]", 2, Some("a"), "address/prefix length"),
    bad("127.0.0.1:8080 }", "127.0.0.1:8080, trusted_proxies: [10.0.0.0/8], behind_tls_proxy: [10.0.0.0/8] }", "listeners.proxy.trusted_proxies", 2, None, "names the trusted proxies already"),
    bad("127.0.0.1:8080 }", "0.0.0.0:8080, behind_tls_proxy: [] }", "listeners.proxy.behind_tls_proxy", 2, None, "names at least one network"),
    bad("127.0.0.1:8080 }", "0.0.0.0:8080, tls: { cert_file: c } }", "listeners.proxy.tls.key_file", 2, None, "this key is required"),
    bad("127.0.0.1:8080 }", "0.0.0.0:8080, insecure: true, tls: { cert_file: c, key_file: k } }", "listeners.proxy.insecure", 2, None, "`tls` and `insecure: true` contradict"),
    bad("127.0.0.1:8080 }", "127.0.0.1:8080, serves: [routes, isuer] }", "listeners.proxy.serves[1]", 2, Some("isuer"), "one of `routes`, `issuer` and `health`"),
    bad("127.0.0.1:8080 }", "127.0.0.1:8080, serves: [] }", "listeners.proxy.serves", 2, None, "serves at least one of"),
    bad("127.0.0.1:8080 }", "127.0.0.1:8080, serves: [issuer, issuer] }", "listeners.proxy.serves[1]", 2, Some("issuer"), "only once"),
    bad("127.0.0.1:8080 }", "127.0.0.1:8080, h2: true }", "listeners.proxy.h2", 2, Some("true"), "`h2` needs `tls`"),
    bad("127.0.0.1:8080 }", "127.0.0.1:8080, h2: 1 }", "listeners.proxy.h2", 2, Some("1"), "one of `true` and `false`"),
    bad("  admin:\n    tokens:\n      - { name: ops, role: admin, file: secrets/admin.token }\n", "", "listeners.admin", 1, None, "this key is required"),
    bad("    tokens:\n      - { name: ops, role: admin, file: secrets/admin.token }", "    tokens: []", "listeners.admin.tokens", 4, None, "needs at least one token"),
    bad("    tokens:\n      - { name: ops, role: admin, file: secrets/admin.token }", "    address: 127.0.0.1:9901", "listeners.admin.tokens", 3, None, "needs at least one token"),
    bad("    tokens:\n", "    address: 192.0.2.1:9901\n    tokens:\n", "listeners.admin.address", 4, Some("192.0.2.1:9901"), "the admin listener receives admin tokens"),
    bad("    tokens:\n", "    ca_file: ca.pem\n    tokens:\n", "listeners.admin.ca_file", 4, Some("ca.pem"), "of use only where the admin listener has `tls`"),
    bad("    tokens:\n", "    session_lifetime: 8d\n    tokens:\n", "listeners.admin.session_lifetime", 4, Some("8d"), "1s ≤ this ≤ 7d"),
    bad("    tokens:\n", "    session_idle_timeout: 0s\n    tokens:\n", "listeners.admin.session_idle_timeout", 4, Some("0s"), "1s ≤ this ≤ 7d"),
    bad("    tokens:\n", "    session_idle_timeout: 13h\n    tokens:\n", "listeners.admin.session_idle_timeout", 4, Some("13h"), "session_idle_timeout ≤ session_lifetime, which is 12h"),
    bad("    tokens:\n", "    allowed_hosts: ['*.example.com']\n    tokens:\n", "listeners.admin.allowed_hosts[0]", 4, Some("*.example.com"), "a DNS name without scheme, port and wildcard"),
    bad("    tokens:\n", "    allowed_hosts: [a.test, 10.0.0.1]\n    tokens:\n", "listeners.admin.allowed_hosts[1]", 4, Some("10.0.0.1"), "addresses need no entry"),
    bad("    tokens:\n", "    allowed_hosts: [a.test, A.test]\n    tokens:\n", "listeners.admin.allowed_hosts[1]", 4, Some("A.test"), "only once"),
    bad("name: ops,", "", "listeners.admin.tokens[0].name", 5, None, "this key is required"),
    bad("role: admin", "role: root", "listeners.admin.tokens[0].role", 5, Some("root"), "one of `viewer`, `operator` and `admin`"),
    bad(", file: secrets/admin.token", "", "listeners.admin.tokens[0].file", 5, None, "this key is required"),
    bad("file: secrets/admin.token", "file: a, hash_file: b", "listeners.admin.tokens[0].hash_file", 5, Some("b"), "exactly one of `file` and `hash_file`"),
    bad("secrets/admin.token }", "a }\n      - { name: ops, role: viewer, file: b }", "listeners.admin.tokens[1].name", 6, Some("ops"), "only once"),
    bad("name: ops", "name: the ops", "listeners.admin.tokens[0].name", 5, Some("the ops"), "1 to 64 characters of"),
    bad("issuer:\n", "  metrics: off\nissuer:\n", "listeners.metrics", 6, Some("off"), "`metrics` is a map, or the word `none`"),
];

#[rustfmt::skip] // a table: one case a line
const ISSUER: &[Bad] = &[
    bad("  url: http://127.0.0.1:8080\n", "", "issuer.url", 6, None, "this key is required"),
    bad("http://127.0.0.1:8080\n", "127.0.0.1:8080\n", "issuer.url", 7, Some("127.0.0.1:8080"), "absolute http or https URL"),
    bad("http://127.0.0.1:8080\n", "http://127.0.0.1:8080/\n", "issuer.url", 7, Some("http://127.0.0.1:8080/"), "slash at its end"),
    bad("http://127.0.0.1:8080\n", "https://a.test?x=1\n", "issuer.url", 7, Some("https://a.test?x=1"), "without user, query, fragment"),
    bad("http://127.0.0.1:8080\n", "https://a.test#x\n", "issuer.url", 7, Some("https://a.test#x"), "without user, query, fragment"),
    bad("http://127.0.0.1:8080\n", "https://me:hunter2@a.test\n", "issuer.url", 7, Some("(not shown, it holds an `@`)"), "without user, query, fragment"),
    bad("http://127.0.0.1:8080\n", "https://a.test/x/../y\n", "issuer.url", 7, Some("https://a.test/x/../y"), "dot segments"),
    bad("http://127.0.0.1:8080\n", "https://a.test/x/:y\n", "issuer.url", 7, Some("https://a.test/x/:y"), "absolute http or https URL"),
    bad("http://127.0.0.1:8080\n", "https://a.test/*y\n", "issuer.url", 7, Some("https://a.test/*y"), "absolute http or https URL"),
    bad("http://127.0.0.1:8080\n", "https://A.test\n", "issuer.url", 7, Some("https://A.test"), "absolute http or https URL"),
    bad("http://127.0.0.1:8080\n", "https://a.test:0\n", "issuer.url", 7, Some("https://a.test:0"), "absolute http or https URL"),
    bad("audience: [api]", "audience: []", "issuer.audience", 8, None, "a token needs an audience"),
    bad("audience: [api]", "audience: api", "issuer.audience", 8, None, "a list must stand here, not a single value"),
    bad("audience: [api]", "audience: [api, 'a b']", "issuer.audience[1]", 8, Some("a b"), "printable ASCII characters without spaces"),
    bad("audience: [api]", "audience: [api, api]", "issuer.audience[1]", 8, Some("api"), "only once"),
    bad("token_ttl: 1h", "token_ttl: 3600", "issuer.token_ttl", 9, Some("3600"), "a duration needs a unit"),
    bad("token_ttl: 1h", "token_ttl: 25h", "issuer.token_ttl", 9, Some("25h"), "1s ≤ this ≤ 24h"),
    bad("token_ttl: 1h", "token_ttl: 0s", "issuer.token_ttl", 9, Some("0s"), "1s ≤ this ≤ 24h"),
    bad("token_ttl: 1h", "token_ttl: 1500ms", "issuer.token_ttl", 9, Some("1500ms"), "whole seconds"),
    bad("token_ttl: 1h", "token_ttl: 1 hour", "issuer.token_ttl", 9, Some("1 hour"), "whole numbers with the units"),
    bad("token_ttl: 1h", "token_ttl:", "issuer.token_ttl", 9, None, "needs a value"),
    bad("token_ttl: 1h", "token_ttl: [1h]", "issuer.token_ttl", 9, None, "a single value must stand here, not a list"),
    bad("token_ttl: 1h", "token_ttl: !h 1", "issuer.token_ttl", 9, None, "tags"),
    bad("token_ttl: 1h", "algorithm: HS256", "issuer.algorithm", 9, Some("HS256"), "one of `ES256`, `EdDSA` and `RS256`"),
    bad("token_ttl: 1h", "algorithm: es256", "issuer.algorithm", 9, Some("es256"), "one of `ES256`"),
    bad("token_ttl: 1h", "url: http://127.0.0.1:8080", "issuer.url", 9, None, "a key stands only once"),
    bad("token_ttl: 1h", "\"tokenTtl\": 1h", "issuer.tokenTtl", 9, None, "did you mean `token_ttl`?"),
];

#[rustfmt::skip] // a table: one case a line
const KEYS: &[Bad] = &[
    bad("{ file: data/keys }", "{ postgres: { url_file: x } }", "keys.store.postgres", 11, None, "`postgres` is not supported"),
    bad("{ file: data/keys }", "{}", "keys.store.file", 11, None, "this key is required"),
    bad("{ file: data/keys }", "data/keys", "keys.store", 11, None, "a map must stand here"),
    bad("[secrets/kek]", "[]", "keys.encryption_key_files", 12, None, "this key is required"),
    bad("[secrets/kek]", "['']", "keys.encryption_key_files[0]", 12, Some("\"\""), "a file path is"),
    bad("rotation_interval: 24h", "rotation_interval: 19m", "keys.rotation_interval", 13, None, "relation R4"),
    bad("rotation_interval: 24h", "idempotency_window: 9m", "keys.idempotency_window", 13, None, "relation R3"),
    bad("rotation_interval: 24h", "jwks_max_age: 301s", "keys.prepublish", 10, None, "relation R1"),
    bad("rotation_interval: 24h", "prepublish: 599s", "keys.prepublish", 13, None, "relation R1"),
    bad("rotation_interval: 24h", "barrier_timeout: 300s", "keys.prepublish", 10, None, "relation R2"),
    bad("rotation_interval: 24h", "barrier_timeout: 10s", "keys.barrier_timeout", 13, None, "relation R6"),
    bad("rotation_interval: 24h", "heartbeat: 10s", "keys.heartbeat", 13, None, "heartbeat < replica_lease"),
    bad("rotation_interval: 24h", "leeway: 61s", "keys.leeway", 13, Some("61s"), "0s ≤ this ≤ 1m"),
    bad("rotation_interval: 24h", "rotation_interval: 20m\n  sign_drain: 24h", "keys.rotation_interval", 13, None, "relation R5"),
    bad("rotation_interval: 24h", "isolation_grace: forever", "keys.isolation_grace", 13, Some("forever"), "`strict` or `offline`"),
    bad("rotation_interval: 24h", "clock_offset_max: 5000000d", "keys.clock_offset_max", 13, Some("5000000d"), "at most 3650d"),
    bad("rotation_interval: 24h", "token_ttl: 5s", "keys.token_ttl", 13, None, "unknown key `token_ttl`"),
    bad("rotation_interval: 24h", "rotation_interval: ${INTERVAL}", "keys.rotation_interval", 13, Some("${INTERVAL} (what the variable holds is not shown)"), "the environment variable `INTERVAL` is not set"),
    bad("rotation_interval: 24h", "rotation_interval: ${INTERVAL", "keys.rotation_interval", 13, Some("${INTERVAL (what the variable holds is not shown)"), "must be followed by a variable name"),
];

#[rustfmt::skip] // a table: one case a line
const CLIENTS: &[Bad] = &[
    bad("id: demo", "id: 'de:mo'", "clients[0].id", 15, Some("de:mo"), "printable ASCII characters without `:`"),
    bad("id: demo", "id: dém", "clients[0].id", 15, Some("dém"), "printable ASCII characters without `:`"),
    bad("id: demo", "id: ..", "clients[0].id", 15, Some(".."), "no URL can name it"),
    bad("  - id: demo\n    secret", "  - secret", "clients[0].id", 15, None, "this key is required"),
    bad("    secret_hash_file: secrets/demo.hash\n", "", "clients[0].secret_hash_file", 15, None, "this key is required"),
    bad("secret_hash_file: secrets/demo.hash", "secret: hunter2", "clients[0].secret", 16, None, "unknown key `secret`"),
    bad("secret_hash_file: secrets/demo.hash", "secret_hash: hunter2", "clients[0].secret_hash", 16, None, "argon2id PHC string"),
    bad("secret_hash_file: secrets/demo.hash", "secret_hash_file: a\n    secret_hash: hunter2", "clients[0].secret_hash", 17, None, "exactly one of"),
    bad("scopes: [read, write]", "scopes: ['read write']", "clients[0].scopes[0]", 17, Some("read write"), "RFC 6749 §3.3"),
    bad("scopes: [read, write]", "scopes: ['a\"b']", "clients[0].scopes[0]", 17, Some("a\"b"), "RFC 6749 §3.3"),
    bad("scopes: [read, write]", "scopes: read", "clients[0].scopes", 17, None, "a list must stand here"),
    bad("scopes: [read, write]", "token_ttl: 2d", "clients[0].token_ttl", 17, Some("2d"), "1s ≤ this ≤ 24h"),
    bad("upstreams:\n", "  - { id: demo, secret_hash_file: b }\nupstreams:\n", "clients[1].id", 18, Some("demo"), "only once"),
];

#[rustfmt::skip] // a table: one case a line
const UPSTREAMS: &[Bad] = &[
    bad("[\"127.0.0.1:9003\"]", "[\"127.0.0.1\"]", "upstreams.echo.endpoints[0]", 20, Some("127.0.0.1"), "an endpoint is `host:port`"),
    bad("[\"127.0.0.1:9003\"]", "[\"http://127.0.0.1:9003\"]", "upstreams.echo.endpoints[0]", 20, Some("http://127.0.0.1:9003"), "an endpoint is `host:port`"),
    bad("[\"127.0.0.1:9003\"]", "[\"a:1\",\n       \"a:1\"]", "upstreams.echo.endpoints[1]", 21, Some("a:1"), "only once"),
    bad("[\"127.0.0.1:9003\"]", "[]", "upstreams.echo.endpoints", 20, None, "at least one endpoint"),
    bad("endpoints:", "endpoint:", "upstreams.echo.endpoint", 20, None, "did you mean `endpoints`?"),
    bad("    endpoints:", "    tls: {}\n    endpoints:", "upstreams.echo.tls.server_name", 20, None, "this key is required"),
    bad("    endpoints:", "    tls: { server_name: 'a:443' }\n    endpoints:", "upstreams.echo.tls.server_name", 20, Some("a:443"), "a server name is"),
    bad("    endpoints:", "    connect_timeout: 0s\n    endpoints:", "upstreams.echo.connect_timeout", 20, Some("0s"), "1ms ≤ this ≤ 1m"),
    bad("    endpoints:", "    read_timeout: 2h\n    endpoints:", "upstreams.echo.read_timeout", 20, Some("2h"), "1ms ≤ this ≤ 1h"),
    bad("  echo:\n", "  echo: { endpoints: ['a:1'] }\n  echo:\n", "upstreams.echo", 20, None, "a key stands only once"),
    bad("  echo:\n", "  'e cho': { endpoints: ['a:1'] }\n  echo:\n", "upstreams.e cho", 19, None, "1 to 64 characters of"),
    bad("  echo:\n    endpoints: [\"127.0.0.1:9003\"]", "  - echo", "upstreams", 18, None, "a map of names must stand here, not a list"),
];

#[rustfmt::skip] // a table: one case a line
const ROUTES: &[Bad] = &[
    bad("name: api", "name: 'api!'", "routes[1].name", 26, Some("api!"), "1 to 64 characters of"),
    bad("name: api", "name: issuer", "routes[1].name", 26, Some("issuer"), "names of our own in metrics"),
    bad("name: api", "name: health", "routes[1].name", 26, Some("health"), "only once"),
    bad("    auth: none\n", "", "routes[0].auth", 22, None, "this key is required"),
    bad("auth: none", "auth: open", "routes[0].auth", 24, Some("open"), "`auth` is a map, or the word `none`"),
    bad("auth: none", "auth: false", "routes[0].auth", 24, Some("false"), "`auth` is a map, or the word `none`"),
    bad("auth: none", "auth: ~", "routes[0].auth", 24, None, "needs a value"),
    bad("    match: { path: /healthz }\n", "", "routes[0].match", 22, None, "this key is required"),
    bad("{ path: /healthz }", "{ host: a }", "routes[0].match", 23, None, "exactly one of `path`"),
    bad("{ path: /healthz }", "{ path: /healthz, prefix: / }", "routes[0].match.prefix", 23, None, "exactly one of `path`"),
    bad("path: /healthz", "path: healthz", "routes[0].match.path", 23, Some("healthz"), "a path starts with `/`"),
    bad("path: /healthz", "path: '/a?b'", "routes[0].match.path", 23, Some("/a?b"), "holds no `?`"),
    bad("path: /healthz", "path: /a//b", "routes[0].match.path", 23, Some("/a//b"), "no empty segment"),
    bad("path: /healthz", "path: /a/..", "routes[0].match.path", 23, Some("/a/.."), "no dot segments"),
    bad("path: /healthz", "path: /a%2Fb", "routes[0].match.path", 23, Some("/a%2Fb"), "percent-encoding"),
    bad("path: /healthz", "path: /a%c3", "routes[0].match.path", 23, Some("/a%c3"), "percent-encoding"),
    bad("path: /healthz", "path: /é", "routes[0].match.path", 23, Some("/é"), "a URL path may hold"),
    bad("prefix: /api", "prefix: /api/", "routes[1].match.prefix", 27, Some("/api/"), "does not end with a slash"),
    bad("prefix: /api", "prefix: /api, host: 'a:80'", "routes[1].match.host", 27, Some("a:80"), "without a port"),
    bad("prefix: /api", "prefix: /api, host: '*.a'", "routes[1].match.host", 27, Some("*.a"), "a host is `*`, a DNS name"),
    bad("methods: [GET]", "methods: [get]", "routes[1].match.methods[0]", 27, Some("get"), "one of `GET`"),
    bad("methods: [GET]", "methods: [TRACE]", "routes[1].match.methods[0]", 27, Some("TRACE"), "one of `GET`"),
    bad("methods: [GET]", "methods: []", "routes[1].match.methods", 27, None, "names at least one"),
    bad("methods: [GET]", "regex: x", "routes[1].match.regex", 27, None, "unknown key `regex`"),
    bad("path: /healthz", "prefix: /", "routes[1].match", 27, None, "the earlier route `health` takes every request that this one could"),
    bad("path: /healthz", "prefix: /%61pi", "routes[0].match.prefix", 23, Some("/%61pi"), "percent-encoding"),
    bad(
        "{ path: /healthz }\n    auth: none\n    upstream: echo\n  - name: api\n    match: { prefix: /api,",
        "{ prefix: /v1%3Aall }\n    auth: none\n    upstream: echo\n  - name: api\n    match: { prefix: '/v1:all',",
        "routes[1].match", 27, None, "a character and its percent-encoding are one",
    ),
    bad("scopes_any: [read]", "scopes_any: []", "routes[1].auth.scopes_any", 28, None, "would refuse every token"),
    bad("scopes_any: [read]", "audiences: []", "routes[1].auth.audiences", 28, None, "would refuse every token"),
    bad("scopes_any: [read]", "scope_any: [read]", "routes[1].auth.scope_any", 28, None, "did you mean `scopes_any`?"),
    bad("X-Auth-Subject: sub", "X_Auth_Subject: sub", "routes[1].identity_headers.X_Auth_Subject", 29, None, "holds no `_`"),
    bad("X-Auth-Subject: sub", "\"X_\\e[2J\": sub", "routes[1].identity_headers.X_\\u{1b}[2J", 29, None, "holds no `_`"),
    bad("X-Auth-Subject: sub", "Authorization: sub", "routes[1].identity_headers.Authorization", 29, None, "HTTP itself or proxies use"),
    bad("X-Auth-Subject: sub", "Connection: sub", "routes[1].identity_headers.Connection", 29, None, "HTTP itself or proxies use"),
    bad("X-Auth-Subject: sub", "Content-Length: sub", "routes[1].identity_headers.Content-Length", 29, None, "HTTP itself or proxies use"),
    bad("X-Auth-Subject: sub", "X-Auth Subject: sub", "routes[1].identity_headers.X-Auth Subject", 29, None, "RFC 9110 §5.1"),
    bad("X-Auth-Subject: sub", "X-Auth-Subject: email", "routes[1].identity_headers.X-Auth-Subject", 29, Some("email"), "one of `sub`"),
    bad("X-Auth-Subject: sub", "X-Who: sub, x-who: jti", "routes[1].identity_headers.x-who", 29, None, "names do not differ by case"),
    bad("auth: { scopes_any: [read] }", "auth: none", "routes[1].identity_headers", 29, None, "no verified claims"),
    bad("    identity_headers: { X-Auth-Subject: sub }\n    upstream: echo", "    upstream: ecoh", "routes[1].upstream", 29, Some("ecoh"), "stands below `upstreams`"),
    bad("identity_headers: { X-Auth-Subject: sub }", "forward_token: 1", "routes[1].forward_token", 29, Some("1"), "one of `true` and `false`"),
    bad("    identity_headers: { X-Auth-Subject: sub }\n    upstream: echo", "    forward_token: true", "routes[1].upstream", 26, None, "this key is required"),
];

#[rustfmt::skip] // a table: one case a line
const SETTINGS: &[Bad] = &[
    bad("routes:\n", "limits: { header_timeout: 11s }\nroutes:\n", "limits.header_timeout", 21, Some("11s"), "100ms ≤ this ≤ 10s"),
    bad("routes:\n", "limits: { max_body_bytes: 10MB }\nroutes:\n", "limits.max_body_bytes", 21, Some("10MB"), "KiB, MiB or GiB"),
    bad("routes:\n", "limits: { max_header_bytes: 2MiB }\nroutes:\n", "limits.max_header_bytes", 21, Some("2MiB"), "1KiB ≤ this ≤ 1MiB"),
    bad("routes:\n", "limits: { max_header_fields: 1 }\nroutes:\n", "limits.max_header_fields", 21, Some("1"), "a whole number from 10 to 256"),
    bad("routes:\n", "limits: { max_connections_per_address: -1 }\nroutes:\n", "limits.max_connections_per_address", 21, Some("-1"), "a whole number from 1"),
    bad("routes:\n", "limits: { forged_tokens: on }\nroutes:\n", "limits.forged_tokens", 21, Some("on"), "a map, or the word `off`"),
    bad("routes:\n", "limits: { forged_tokens: { burst: 0 } }\nroutes:\n", "limits.forged_tokens.burst", 21, Some("0"), "a whole number from 1 to 100000"),
    bad("routes:\n", "limits: { forged_tokens: { per_second: 10001 } }\nroutes:\n", "limits.forged_tokens.per_second", 21, Some("10001"), "a whole number from 1 to 10000"),
    bad("routes:\n", "limits: { allow_underscore_names: True }\nroutes:\n", "limits.allow_underscore_names", 21, Some("True"), "one of `true` and `false`"),
    bad("routes:\n", "server: { workers: 0 }\nroutes:\n", "server.workers", 21, Some("0"), "`auto` or a whole number from 1 to 20"),
    bad("routes:\n", "server: { workers: 21 }\nroutes:\n", "server.workers", 21, Some("21"), "`auto` or a whole number from 1 to 20"),
    bad("routes:\n", "server: { shutdown_grace: 11m }\nroutes:\n", "server.shutdown_grace", 21, Some("11m"), "0s ≤ this ≤ 10m"),
    bad("routes:\n", "access_log: on\nroutes:\n", "access_log", 21, Some("on"), "a map, or the word `off`"),
    bad("routes:\n", "access_log: { format: xml }\nroutes:\n", "access_log.format", 21, Some("xml"), "one of `json` and `common`"),
    bad("routes:\n", "access_log: { target: stout }\nroutes:\n", "access_log.target", 21, Some("stout"), "the path of a file with a `/` in it"),
    bad("routes:\n", "access_log: { sample_successes: 1.5 }\nroutes:\n", "access_log.sample_successes", 21, Some("1.5"), "a number from 0 to 1"),
    bad("routes:\n", "access_log: { sample_successes: -0 }\nroutes:\n", "access_log.sample_successes", 21, Some("-0"), "a number from 0 to 1"),
    bad("routes:\n", "access_log: { sample_successes: 1e-1 }\nroutes:\n", "access_log.sample_successes", 21, Some("1e-1"), "a number from 0 to 1"),
    bad("routes:\n", "tracing: on\nroutes:\n", "tracing", 21, Some("on"), "a map, or the word `off`"),
    bad("routes:\n", "tracing: { sample_ratio: 1 }\nroutes:\n", "tracing.otlp", 21, None, "this key is required"),
    bad("routes:\n", "tracing: { otlp: { timeout: 1s } }\nroutes:\n", "tracing.otlp.endpoint", 21, None, "this key is required"),
    bad("routes:\n", "tracing: { otlp: { endpoint: 'localhost:4318' } }\nroutes:\n", "tracing.otlp.endpoint", 21, Some("localhost:4318"), "an absolute http or https URL"),
    bad("routes:\n", "tracing: { otlp: { endpoint: 'http://me:pw@a.test' } }\nroutes:\n", "tracing.otlp.endpoint", 21, Some("(not shown, it holds an `@`)"), "an absolute http or https URL"),
    bad("routes:\n", "tracing: { otlp: { endpoint: 'http://a.test/?x' } }\nroutes:\n", "tracing.otlp.endpoint", 21, Some("http://a.test/?x"), "without user, query and fragment"),
    bad("routes:\n", "tracing: { otlp: { endpoint: 'https://a.test' } }\nroutes:\n", "tracing.otlp.ca_file", 21, None, "this key is required"),
    bad("routes:\n", "tracing: { otlp: { endpoint: 'http://a.test', protocol: grpc } }\nroutes:\n", "tracing.otlp.protocol", 21, Some("grpc"), "`http/protobuf` is the one protocol"),
    bad("routes:\n", "tracing: { otlp: { endpoint: 'http://a.test', timeout: 2m } }\nroutes:\n", "tracing.otlp.timeout", 21, Some("2m"), "100ms ≤ this ≤ 1m"),
    bad("routes:\n", "log: { format: xml }\nroutes:\n", "log.format", 21, Some("xml"), "one of `auto`, `json` and `human`"),
    bad("routes:\n", "<<: { a: 1 }\nroutes:\n", "<<", 21, None, "unknown key `<<`"),
    bad("routes:\n", "\"\\e[2J\\u202e\": 1\nroutes:\n", "\\u{1b}[2J\\u{202e}", 21, None, "unknown key `\\u{1b}[2J\\u{202e}`"),
];

#[test]
fn every_bad_input_gives_exactly_its_error() {
    let tables = [
        LISTENERS, ISSUER, KEYS, CLIENTS, UPSTREAMS, ROUTES, SETTINGS,
    ];
    let mut wrong = Vec::new();
    for case in tables.into_iter().flatten() {
        assert_eq!(
            GOOD.matches(case.replace).count(),
            1,
            "`{}` stands not once",
            case.replace
        );
        let text = GOOD.replace(case.replace, case.with);
        let outcome = match parse(&text) {
            Ok(_) => "is accepted".to_owned(),
            Err(errors) => match errors.errors.as_slice() {
                [error] if fits(error, case) => continue,
                _ => errors.to_string(),
            },
        };
        wrong.push(format!(
            "`{}` → `{}`, expected {}:{} {:?} {:?}\n{outcome}",
            case.replace, case.with, case.path, case.line, case.value, case.rule
        ));
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

fn fits(error: &ConfigError, case: &Bad) -> bool {
    error.path == case.path
        && error.line == Some(case.line)
        && error.value.as_deref() == case.value
        && error.rule.contains(case.rule)
        && !error.fix.is_empty()
        && !error.rule.ends_with('.')
        && !error.fix.ends_with('.')
        && !error
            .to_string()
            .chars()
            .any(|c| c.is_control() && c != '\n')
}

#[test]
fn the_text_that_the_table_spoils_is_good() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.warnings(), Vec::<String>::new());
    assert_eq!(config.listeners.admin.address, address("127.0.0.1:9901"));
    assert_eq!(
        config.listeners.metrics.unwrap().address,
        address("127.0.0.1:9902")
    );
    assert!(config.listeners.proxy[0].serves.routes && config.listeners.proxy[0].serves.issuer);
    assert!(!config.listeners.proxy[0].serves.health && !config.listeners.proxy[0].h2);
    assert_eq!(config.issuer.algorithm, Algorithm::Es256);
    assert_eq!(config.keys.timing, Timing::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(30));
    assert!((1..=20).contains(&config.server.workers));
    assert!(config.server.sharding);
    assert_eq!(config.log.format, LogFormat::Auto);
    assert_eq!(config.clients[0].token_ttl, Duration::from_secs(3600));
    assert_eq!(config.upstreams[0].connect_timeout, Duration::from_secs(5));
    assert_eq!(config.upstreams[0].read_timeout, Duration::from_secs(60));
    let Auth::Bearer(rules) = &config.routes[1].auth else {
        panic!("a protected route")
    };
    assert_eq!(
        rules.audiences,
        ["api"],
        "the issuer's, because none are written"
    );
    assert_eq!(
        config.routes[1].matcher.path,
        PathRule::Prefix("/api".to_owned())
    );
    assert!(!config.routes[1].forward_token);
}

#[test]
fn all_violations_are_reported_at_once_and_in_order() {
    let text = GOOD
        .replace("127.0.0.1:8080 }", "nowhere }")
        .replace("token_ttl: 1h", "token_ttl: 1")
        .replace("id: demo", "id: 'a:b'")
        .replace("path: /healthz", "path: x")
        .replace("auth: { scopes_any: [read] }", "auth: maybe");
    let errors = parse(&text).unwrap_err();
    let paths: Vec<&str> = errors
        .errors
        .iter()
        .map(|error| error.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "listeners.proxy.address",
            "issuer.token_ttl",
            "clients[0].id",
            "routes[0].match.path",
            "routes[1].auth"
        ]
    );
}

#[test]
fn all_misspelt_keys_are_reported_at_once() {
    let text = GOOD
        .replace("issuer:", "isuer:")
        .replace("routes:", "roots:")
        .replace("role:", "rôle:");
    let errors = parse(&text).unwrap_err();
    let rules: Vec<&str> = errors
        .errors
        .iter()
        .map(|error| error.rule.as_str())
        .collect();
    assert_eq!(
        rules,
        [
            "unknown key `rôle`, did you mean `role`?",
            "unknown key `isuer`, did you mean `issuer`?",
            "unknown key `roots`, did you mean `routes`?",
        ]
    );
}

#[test]
fn an_error_reads_well() {
    let text = GOOD
        .replace("listeners:", "lisener:")
        .replace("audience: [api]", "audience: api");
    assert_eq!(
        parse(&text).unwrap_err().to_string(),
        "\
the configuration has 2 errors

test.yaml:1: lisener
    rule:  unknown key `lisener`, did you mean `listeners`?
    fix:   the keys known here are `listeners`, `issuer`, `keys`, `clients`, `upstreams`, `routes`, `limits`, `server`, `log`, `access_log` and `tracing`

test.yaml:8: issuer.audience
    rule:  a list must stand here, not a single value
    fix:   write `key: [a, b]`, or one `- item` a line"
    );
    let text = GOOD.replace("token_ttl: 1h", "token_ttl: 25h");
    assert_eq!(
        parse(&text).unwrap_err().to_string(),
        "\
the configuration has 1 error

test.yaml:9: issuer.token_ttl
    value: 25h
    rule:  1s ≤ this ≤ 24h
    fix:   write a duration from 1s to 24h"
    );
}

#[test]
fn a_flood_of_errors_is_cut() {
    let items = "  - { name: 'x x', role: root }\n".repeat(1000);
    let text = format!(
        "listeners:\n  proxy: {{ address: 127.0.0.1:1 }}\n  admin:\n    tokens:\n{}",
        items.replace("  -", "    -")
    );
    let errors = parse(&text).unwrap_err();
    assert_eq!(errors.errors.len(), 50);
    assert!(errors.omitted > 100);
    assert!(errors.to_string().contains("more"));
}

#[test]
fn what_is_no_yaml_document_has_a_line() {
    for (text, line, rule) in [
        ("", None, "is empty"),
        ("# only a comment\n", None, "is empty"),
        ("a: [1\nb: 2\n", Some(2), "one YAML document"),
        ("listeners:\n\tproxy: 1\n", Some(2), "one YAML document"),
        ("listeners: *x\n", Some(1), "unknown anchor"),
        ("a: 1\n---\nb: 2\n", None, "more than one document"),
        ("? [a]\n: 1\n", Some(1), "one YAML document"),
        ("just text\n", Some(1), "a map must stand here"),
        ("- a\n", Some(1), "a map must stand here"),
        ("~\n", None, "is empty"),
    ] {
        let errors = parse(text).unwrap_err();
        assert_eq!(errors.errors[0].line, line, "{text:?}: {errors}");
        assert!(errors.errors[0].rule.contains(rule), "{text:?}: {errors}");
    }
}

#[test]
fn files_that_cannot_be_read_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str, bytes: Option<&[u8]>| {
        let path = dir.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        Config::load(&path, &no_env).unwrap_err()
    };
    let absent = load("absent.yaml", None);
    assert!(absent.to_string().contains("absent.yaml"), "{absent}");
    assert!(absent.to_string().contains("--config"), "{absent}");
    let latin1 = load("latin1.yaml", Some(b"a: 1\nb: \xe9\n"));
    assert_eq!(latin1.errors[0].line, Some(2), "{latin1}");
    let huge = load("huge.yaml", Some(&vec![b'#'; (1 << 20) + 1]));
    assert!(huge.to_string().contains("at most 1MiB"), "{huge}");
    let directory = Config::load(dir.path(), &no_env).unwrap_err();
    assert!(
        directory.to_string().contains("must be readable"),
        "{directory}"
    );
}

#[test]
fn values_come_from_the_environment() {
    let env = |name: &str| match name {
        "PORT" => Some("8443".to_owned()),
        "TTL" => Some("5m".to_owned()),
        "TRICK" => Some("api]\n  url: x".to_owned()),
        _ => None,
    };
    let parse = |text: &str| Config::parse(text, Path::new("test.yaml"), &env);
    let text = GOOD
        .replace("127.0.0.1:8080 }", "'127.0.0.1:${PORT}' }")
        .replace("token_ttl: 1h", "token_ttl: ${TTL}")
        .replace("data/keys", "'data/$${TTL}$'");
    let config = parse(&text).unwrap();
    assert_eq!(config.listeners.proxy[0].address, address("127.0.0.1:8443"));
    assert_eq!(config.issuer.token_ttl, Duration::from_secs(300));
    assert!(format!("{:?}", config.keys.store).contains("data/${TTL}$"));

    let errors = parse(&GOOD.replace("audience: [api]", "audience: ['${TRICK}']")).unwrap_err();
    assert_eq!(
        errors.errors[0].path, "issuer.audience[0]",
        "a variable cannot add keys"
    );
    assert!(
        !errors.to_string().contains("api]"),
        "what a variable holds is not shown: {errors}"
    );
}

#[test]
fn secrets_are_in_no_message() {
    const SECRET: &str = "hunter2hunter2";
    let env = |_: &str| Some(SECRET.to_owned());
    for (from, to) in [
        (
            "secret_hash_file: secrets/demo.hash",
            "secret: hunter2hunter2",
        ),
        (
            "secret_hash_file: secrets/demo.hash",
            "secret_hash: hunter2hunter2",
        ),
        (
            "secret_hash_file: secrets/demo.hash",
            "secret_hash: [hunter2hunter2]",
        ),
        (
            "secret_hash_file: secrets/demo.hash",
            "secret_hash: { hunter2hunter2: 1 }",
        ),
        (
            "secret_hash_file: secrets/demo.hash",
            "secret_hash: !hunter2hunter2 x",
        ),
        (
            "secret_hash_file: secrets/demo.hash",
            "secret_hash: ${SECRET}",
        ),
        ("token_ttl: 1h", "token_ttl: ${SECRET}"),
        (
            "http://127.0.0.1:8080\n",
            "https://me:hunter2hunter2@a.test\n",
        ),
    ] {
        let text = GOOD.replace(from, to);
        let errors = Config::parse(&text, Path::new("test.yaml"), &env).unwrap_err();
        let shown = format!("{errors} {errors:?}");
        assert!(!shown.contains(SECRET), "{to}: {shown}");
    }
    let hash = format!("sha256:{}:{}", "A".repeat(22), "A".repeat(43));
    let text = GOOD.replace(
        "secret_hash_file: secrets/demo.hash",
        &format!("secret_hash: {hash}"),
    );
    let config = parse(&text).unwrap();
    assert_eq!(
        config.clients[0].secret,
        ClientSecretSource::Hash(hash.clone())
    );
    assert!(!format!("{config:?}{}", config.summary()).contains(&hash));
}

#[test]
fn plain_text_beyond_loopback_must_be_meant() {
    for (listener, expected) in [
        ("address: 0.0.0.0:8080, insecure: true", PlainText::Insecure),
        (
            "address: 0.0.0.0:8080, serves: [routes]",
            PlainText::Unstated,
        ),
        (
            "address: 0.0.0.0:8080, tls: { cert_file: c, key_file: k }",
            PlainText::Unstated,
        ),
        ("address: '[::1]:8080'", PlainText::Unstated),
        ("address: 127.1.2.3:8080", PlainText::Unstated),
        ("address: '[::ffff:127.0.0.1]:8080'", PlainText::Unstated),
    ] {
        let config = parse(&GOOD.replace("address: 127.0.0.1:8080", listener)).unwrap();
        assert_eq!(config.listeners.proxy[0].plain_text, expected, "{listener}");
    }
    let behind = "address: 0.0.0.0:8080, behind_tls_proxy: [10.0.0.0/8, 'fd00::/8']";
    let config = parse(&GOOD.replace("address: 127.0.0.1:8080", behind)).unwrap();
    let PlainText::BehindTlsProxy(networks) = &config.listeners.proxy[0].plain_text else {
        panic!("networks")
    };
    assert!(networks[0].contains("10.1.2.3".parse().unwrap()));
    assert!(
        !networks
            .iter()
            .any(|network| network.contains("192.0.2.1".parse().unwrap()))
    );
}

#[test]
fn the_admin_listener_beyond_loopback_needs_tls_or_a_word() {
    let admin = |more: &str| parse(&GOOD.replace("    tokens:\n", &format!("{more}    tokens:\n")));
    let far = "    address: 192.0.2.1:9901\n";
    let error = admin(far).unwrap_err().to_string();
    assert!(
        error.contains("needs `tls`") && error.contains("insecure: true"),
        "{error}"
    );
    for meant in [
        "    insecure: true\n",
        "    behind_tls_proxy: [10.0.0.7/32]\n",
        "    tls: { cert_file: c, key_file: k }\n",
        "    tls: { cert_file: c, key_file: k, client_ca_file: a }\n",
    ] {
        admin(&format!("{far}{meant}")).unwrap();
    }
    let error = admin(&format!("{far}    insecure: false\n")).unwrap_err();
    assert!(error.to_string().contains("needs `tls`"), "{error}");
}

#[test]
fn sessions_end_in_time_by_default() {
    let admin = |more: &str| {
        let text = GOOD.replace("    tokens:\n", &format!("{more}    tokens:\n"));
        let admin = parse(&text).unwrap().listeners.admin;
        (
            admin.session_idle_timeout.as_secs(),
            admin.session_lifetime.as_secs(),
            admin.allowed_hosts,
        )
    };
    assert_eq!(admin(""), (1800, 43_200, Vec::new()));
    let short = "    session_lifetime: 10m\n    allowed_hosts: [Admin.Example]\n";
    assert_eq!(admin(short), (600, 600, vec!["admin.example".to_owned()]));
}

#[test]
fn workers_fit_into_the_socket_table() {
    let listeners = |count: usize| {
        let list: String = (0..count)
            .map(|i| format!("\n    - address: 127.0.0.1:80{i}"))
            .collect();
        GOOD.replace("{ address: 127.0.0.1:8080 }", &list)
    };
    let with = |count: usize, workers: &str| {
        let text = format!("{}server: {{ workers: {workers} }}\n", listeners(count));
        parse(&text).map(|config| config.server.workers)
    };
    assert_eq!(with(1, "20").unwrap(), 20);
    assert_eq!(with(2, "11").unwrap(), 11);
    assert!(
        with(2, "12")
            .unwrap_err()
            .to_string()
            .contains("at most 11 workers")
    );
    assert!(with(8, "auto").unwrap() <= 2);
    // Without shards a listener has one socket, however many threads serve it.
    assert_eq!(with(8, "20, sharding: false").unwrap(), 20);
    assert!(
        parse(&listeners(9))
            .unwrap_err()
            .to_string()
            .contains("at most 8 entries")
    );
}

#[test]
fn every_isolation_grace_can_be_written() {
    for (text, expected) in [
        ("strict", IsolationGrace::Strict),
        ("offline", IsolationGrace::Offline),
        ("90s", IsolationGrace::For(Duration::from_secs(90))),
    ] {
        let text = GOOD.replace(
            "rotation_interval: 24h",
            &format!("isolation_grace: {text}"),
        );
        assert_eq!(parse(&text).unwrap().keys.timing.isolation_grace, expected);
    }
}

#[test]
fn odd_settings_are_warned_of() {
    for (from, to, warning) in [
        (
            "[secrets/kek]",
            "[./data/x/../kek]",
            "lies in the same directory as the store",
        ),
        (
            "[secrets/kek]",
            "[data/keys/kek]",
            "lies in the same directory as the store",
        ),
        (
            "127.0.0.1:8080 }",
            "0.0.0.0:8080, insecure: true }",
            "cross the network in plain text",
        ),
        (
            "127.0.0.1:8080 }",
            "0.0.0.0:8080, serves: [routes] }",
            "access tokens cross the network",
        ),
        (
            "127.0.0.1:8080 }",
            "127.0.0.1:8080, serves: [routes] }",
            "no listener serves `issuer`",
        ),
        ("http://127.0.0.1:8080\n", "http://auth.test\n", "is http"),
        (
            "scopes_any: [read]",
            "scopes_any: [admin]",
            "no client has the scopes",
        ),
        (
            "scopes_any: [read]",
            "audiences: [other]",
            "no token has any of its audiences",
        ),
        (
            "127.0.0.1:9003",
            "127.0.0.1:9901",
            "leads to our own listener",
        ),
        (
            "routes:\n",
            "  spare: { endpoints: ['a:1'] }\nroutes:\n",
            "`spare` is used by no route",
        ),
    ] {
        let config = parse(&GOOD.replace(from, to)).unwrap();
        let all = config.warnings().join("\n");
        assert!(all.contains(warning), "{to}: {all}");
        assert!(config.summary().contains(warning), "{to}");
    }
}

#[test]
fn the_summary_says_what_would_run() {
    let summary = sample("portcullis.yaml").summary();
    for part in [
        "conf/portcullis.yaml",
        "proxy    127.0.0.1:8080  plain text  serves routes, issuer",
        "tokens: ops (admin, secrets/admin.token)",
        "http://127.0.0.1:8080",
        "ES256, live for 1h",
        "rotation_interval",
        "demo  scopes: read write  tokens live for 1h  secret hash in secrets/demo.hash",
        "health  every method  */healthz  PUBLIC",
        "token for api, scope read or write",
        "echo  127.0.0.1:9003  plain text",
    ] {
        assert!(summary.contains(part), "{part} is missing in\n{summary}");
    }
    assert!(!summary.contains("warning"), "{summary}");
}

#[test]
fn the_full_sample_holds_every_key() {
    let text = std::fs::read_to_string(conf("portcullis.full.yaml")).unwrap();
    let mut written = BTreeSet::new();
    let known: BTreeSet<String> = known_keys().into_iter().collect();
    keys_of(
        &serde_yaml::from_str(&text).unwrap(),
        "",
        &known,
        &mut written,
    );
    // It contradicts the TLS that stands there, so it is a comment.
    assert!(text.contains("\n    # behind_tls_proxy: ["));
    written.insert("listeners.admin.behind_tls_proxy".to_owned());
    assert_eq!(written, known);
}

#[test]
fn the_full_sample_states_the_defaults() {
    let full = sample("portcullis.full.yaml");
    // The same without each key that has a default.
    let text = std::fs::read_to_string(conf("portcullis.full.yaml")).unwrap();
    let with_default = |line: &&str| line.contains("# default ");
    let lines: Vec<&str> = text.lines().filter(|line| !with_default(line)).collect();
    let removed = text.lines().count() - lines.len();
    assert!(removed >= 30, "only {removed} lines have a default");
    let mut short = lines.join("\n");
    for section in ["limits:", "server:", "log:"] {
        let line = lines.iter().find(|line| line.starts_with(section)).unwrap();
        short = short.replace(&format!("\n{line}"), "\n");
    }
    let mut short = parse(&short).unwrap();
    short.source.clone_from(&full.source);
    assert_eq!(short, full);
    assert_eq!(full.limits, Limits::default());
    assert_eq!(full.keys.timing, Timing::default());
}

#[test]
fn every_sample_is_good() {
    for name in SAMPLES {
        let config = sample(name);
        assert!(!config.summary().is_empty());
        config.keys.timing.check().unwrap();
        if matches!(name, "portcullis.yaml" | "test-fast.yaml") {
            assert_eq!(config.warnings(), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn the_fast_sample_has_the_timings_of_the_design() {
    let ms = Duration::from_millis;
    let config = sample("test-fast.yaml");
    assert_eq!(
        config.keys.timing,
        Timing {
            max_token_ttl: ms(50_000),
            leeway: ms(0),
            jwks_max_age: ms(0),
            prepublish: ms(500),
            idempotency_window: ms(800),
            rotation_interval: ms(2_000),
            replica_lease: ms(200),
            heartbeat: ms(50),
            barrier_timeout: ms(300),
            isolation_grace: IsolationGrace::For(ms(1_000)),
            sign_drain: ms(1_500),
            clock_offset_max: ms(1_000),
            replicated: false,
        }
    );
    assert_eq!(config.issuer.token_ttl, ms(5_000));
    let replicated = Timing {
        replicated: true,
        ..config.keys.timing
    };
    replicated.check().unwrap();
    let plain = sample("portcullis.yaml");
    assert_eq!(config.routes, plain.routes);
}

#[test]
fn the_reference_describes_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    for key in known_keys() {
        let name = key.rsplit('.').next().unwrap();
        // A section has a heading, a key stands in a table or has a heading with its path.
        let places = [format!("`{name}`"), format!("## {key}\n")];
        let described = name == "*" || places.iter().any(|place| text.contains(place));
        assert!(described, "{key}");
    }
}

#[test]
fn records_of_requests_are_off_unless_asked_for() {
    let plain = parse(GOOD).unwrap();
    assert_eq!((&plain.access_log, &plain.tracing), (&None, &None));
    let off = parse(&format!("{GOOD}access_log: off\ntracing: off\n")).unwrap();
    assert_eq!(off, plain);
    let on = "access_log: {}\ntracing: { otlp: { endpoint: 'http://[::1]:4318/' } }\n";
    let on = parse(&format!("{GOOD}{on}")).unwrap();
    let access_log = on.access_log.unwrap();
    assert_eq!(access_log.format, AccessFormat::Json);
    assert_eq!(access_log.target, AccessTarget::Stdout);
    assert_eq!(access_log.sample_successes, SampleRate::ALL);
    let tracing = on.tracing.unwrap();
    assert_eq!(tracing.endpoint, "http://[::1]:4318/v1/traces");
    assert_eq!(tracing.timeout, Duration::from_secs(10));
    assert_eq!(tracing.sample_ratio.as_f64(), 0.1);
    let other = "tracing: { otlp: { endpoint: 'http://a.test/otlp' } }\n";
    let other = parse(&format!("{GOOD}{other}")).unwrap();
    assert_eq!(other.tracing.unwrap().endpoint, "http://a.test/otlp");
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("test.yaml"), &no_env)
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(name)
}

fn sample(name: &str) -> Config {
    match Config::load(&conf(name), &no_env) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The keys of a document as patterns; a key that is not known must be one that users choose.
fn keys_of(
    value: &serde_yaml::Value,
    prefix: &str,
    known: &BTreeSet<String>,
    written: &mut BTreeSet<String>,
) {
    match value {
        serde_yaml::Value::Mapping(entries) => {
            for (name, value) in entries {
                let dot = if prefix.is_empty() { "" } else { "." };
                let mut name = format!("{prefix}{dot}{}", name.as_str().unwrap());
                if !known.contains(&name) {
                    name = format!("{prefix}{dot}*");
                }
                keys_of(value, &name, known, written);
                written.insert(name);
            }
        }
        serde_yaml::Value::Sequence(items) => {
            for item in items {
                keys_of(item, &format!("{prefix}[]"), known, written);
            }
        }
        _ => {}
    }
}

/// A piece that is likely to hit something.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "[",
            "]",
            "{",
            "}",
            ":",
            ": ",
            "- ",
            "? ",
            "\n",
            "\n  ",
            "\t",
            "#",
            " #",
            "'",
            "\"",
            "|",
            ">",
            "|\n",
            "&a ",
            "*a",
            "!t ",
            "!!str ",
            "<<: ",
            "~",
            "null",
            "---\n",
            "...\n",
            "%YAML 1.2\n",
            "${",
            "${A}",
            "$$",
            "\\",
            "\u{0}",
            "\u{feff}",
            "é",
            "\u{202e}",
            "0",
            "-1",
            "1e400",
            "0x10",
            ".inf",
            "9999999999999999999999",
            "10m",
            "%2F",
            "//",
            "none",
            "auth: ",
            "tls: {}",
            "address: 0.0.0.0:1",
            "proxy: []",
            "token_ttl: 1ms",
        ])
        .prop_map(str::to_owned),
        "[ -~\n]{0,12}",
        any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(
        which in 0..SAMPLES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, fragment()), 1..8),
    ) {
        let mut text: Vec<char> = std::fs::read_to_string(conf(SAMPLES[which])).unwrap().chars().collect();
        for (place, length, piece) in edits {
            let start = place.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(config) => {
                prop_assert!(config.keys.timing.check().is_ok());
                prop_assert!(!config.summary().is_empty());
            }
            Err(errors) => {
                prop_assert!(!errors.errors.is_empty());
                // YAML has more line breaks than Rust.
                let breaks = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
                for error in &errors.errors {
                    prop_assert!(!error.rule.is_empty() && !error.fix.is_empty());
                    prop_assert!(error.line.is_none_or(|line| line <= breaks + 1), "{error}");
                }
                let shown = errors.to_string();
                prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
            }
        }
    }
}

#[test]
fn a_tls_proxy_that_may_be_anybody_is_warned_of() {
    for (network, is_warned_of) in [
        ("0.0.0.0/0", true),
        ("\"::/0\"", true),
        ("10.0.0.0/8", false),
    ] {
        let listener = format!("0.0.0.0:8080, behind_tls_proxy: [{network}] }}");
        let config = parse(&GOOD.replacen("127.0.0.1:8080 }", &listener, 1)).unwrap();
        let warnings = config.warnings();
        let found = warnings
            .iter()
            .any(|warning| warning.contains("takes every address for the TLS proxy"));
        assert_eq!(found, is_warned_of, "{network}: {warnings:?}");
    }
}
