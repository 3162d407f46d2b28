//! What `docs/metrics.md` says of each metric beyond what the registry knows: unit, fine print, an
//! example query, and why a histogram has the buckets that it has. For tests alone: the document is
//! made from this and from the registry, see [`super::document`].

/// A chapter of the document.
pub(super) struct Chapter {
    pub(super) title: &'static str,
    /// What holds for all of it; may be empty.
    pub(super) intro: &'static str,
    pub(super) entries: &'static [Entry],
}

/// One metric.
pub(super) struct Entry {
    /// Its full name.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// What its help text leaves out; may be empty.
    pub(super) more: &'static str,
    /// What the example answers; may be empty when the query says it.
    pub(super) asks: &'static str,
    /// A query that answers with at least one series while a gateway is scraped.
    pub(super) query: &'static str,
    /// Why a histogram has its buckets; empty for everything else.
    pub(super) buckets: &'static str,
}

const fn entry(
    name: &'static str,
    unit: &'static str,
    more: &'static str,
    asks: &'static str,
    query: &'static str,
) -> Entry {
    Entry {
        name,
        unit,
        more,
        asks,
        query,
        buckets: "",
    }
}

const fn histogram(
    name: &'static str,
    more: &'static str,
    asks: &'static str,
    query: &'static str,
    buckets: &'static str,
) -> Entry {
    Entry {
        name,
        unit: "seconds",
        more,
        asks,
        query,
        buckets,
    }
}

pub(super) const CHAPTERS: &[Chapter] = &[TRAFFIC, ACCESS, PURGES, KEYS, ISSUER, PROGRAM];

const TRAFFIC: Chapter = Chapter {
    title: "Traffic",
    intro: "",
    entries: &[
        entry(
            "portcullis_http_requests_total",
            "requests",
            "Routes and the issuer's endpoints alike; a series appears with its first request.",
            "share of failed requests",
            r#"sum(rate(portcullis_http_requests_total{code="5xx"}[5m])) / sum(rate(portcullis_http_requests_total[5m]))"#,
        ),
        entry(
            "portcullis_request_failures_total",
            "requests",
            "What an upstream itself answers is not in it. `internal` is the gateway's own fault, and what the error \
             budget in `conf/alerts.yml` is spent on; each of these answers carries a Log ID.",
            "failures that no upstream caused",
            r#"sum(rate(portcullis_request_failures_total{cause="internal"}[5m]))"#,
        ),
        histogram(
            "portcullis_http_request_duration_seconds",
            "",
            "",
            "histogram_quantile(0.99, sum by (le, route) (rate(portcullis_http_request_duration_seconds_bucket[5m])))",
            "The gateway's own share is well below a millisecond: the low end is fine enough to see it grow. From there \
             on it is the upstream's time, up to 30 s, beyond which people and most clients have given up.",
        ),
        entry(
            "portcullis_http_requests_in_flight",
            "requests",
            "",
            "",
            "sum(portcullis_http_requests_in_flight)",
        ),
        histogram(
            "portcullis_upstream_request_duration_seconds",
            "The body is not in it. An upstream that never answers leaves no observation, but a failure.",
            "",
            "histogram_quantile(0.99, sum by (le, upstream) (rate(portcullis_upstream_request_duration_seconds_bucket[5m])))",
            "The same as those of a whole request, so that the two can be laid over each other: what lies between them \
             is the gateway and the client's line.",
        ),
        entry(
            "portcullis_worker_connections",
            "connections",
            "Named as in a purge's receipt. The kernel spreads connections by a hash; a few long-lived ones may land on \
             one worker, see `docs/performance.md`.",
            "the busiest worker against the average",
            "max(portcullis_worker_connections) / avg(portcullis_worker_connections)",
        ),
    ],
};

const ACCESS: Chapter = Chapter {
    title: "Who was let in, who was not",
    intro: "Each request on a route counts exactly once, as allowed, denied or public, unless it was refused before its \
            token was looked at.",
    entries: &[
        entry(
            "portcullis_auth_allowed_total",
            "requests",
            "",
            "how much traffic still uses replaced keys",
            r#"sum(rate(portcullis_auth_allowed_total{key_state="deprecated"}[5m])) / sum(rate(portcullis_auth_allowed_total[5m]))"#,
        ),
        entry(
            "portcullis_auth_denied_total",
            "requests",
            "The reasons are listed below.",
            "the five commonest reasons",
            "topk(5, sum by (reason) (rate(portcullis_auth_denied_total[5m])))",
        ),
        entry(
            "portcullis_auth_public_total",
            "requests",
            "Such a route says `auth: none`.",
            "",
            "sum by (route) (rate(portcullis_auth_public_total[5m]))",
        ),
        histogram(
            "portcullis_auth_duration_seconds",
            "`none` when there was no token to look for.",
            "",
            "histogram_quantile(0.99, sum by (le) (rate(portcullis_auth_duration_seconds_bucket[5m])))",
            "About a microsecond when the cache knows the token, 30 to 300 µs when a signature is checked, by algorithm: \
             both lie in the middle of fine buckets. The upper end is only reached on an overloaded machine, and shows \
             that it is.",
        ),
        entry(
            "portcullis_token_cache_lookups_total",
            "lookups",
            "",
            "hit ratio",
            r#"sum(rate(portcullis_token_cache_lookups_total{result="hit"}[5m])) / sum(rate(portcullis_token_cache_lookups_total[5m]))"#,
        ),
        entry(
            "portcullis_token_cache_evictions_total",
            "tokens",
            "Many of them: the cache is too small for the tokens in use, see `server.token_cache`.",
            "",
            "rate(portcullis_token_cache_evictions_total[5m])",
        ),
        entry(
            "portcullis_token_cache_entries",
            "tokens",
            "Sampled once a second.",
            "",
            "portcullis_token_cache_entries",
        ),
        entry(
            "portcullis_token_cache_bytes",
            "bytes",
            "Sampled once a second.",
            "",
            "portcullis_token_cache_bytes",
        ),
    ],
};

const PURGES: Chapter = Chapter {
    title: "What a purge broke",
    intro: "A series with a `kid` is there, at 0, from the key's creation until its tombstone is forgotten, so that \
            `increase()` sees the first refused request. `kid=\"other\"` stands for old tombstones beyond 128.",
    entries: &[
        entry(
            "portcullis_purge_verification_failures_total",
            "requests",
            "Each of them would have been accepted after a plain rotation; nothing else moves this counter.",
            "requests that a purge broke in the last hour",
            "sum(increase(portcullis_purge_verification_failures_total[1h]))",
        ),
        entry(
            "portcullis_purge_affected_clients",
            "clients",
            "Survives a restart.",
            "whom purges broke",
            "sum(portcullis_purge_affected_clients)",
        ),
        entry(
            "portcullis_purge_recovered_clients",
            "clients",
            "A further failure takes a client back out.",
            "still broken",
            "sum(portcullis_purge_affected_clients) - sum(portcullis_purge_recovered_clients)",
        ),
        entry(
            "portcullis_compromised_key_use_total",
            "requests",
            "Tokens that outlive what the key could sign count as well. Nobody legitimate has that key any more. A thief \
             who dates a token back to before the purge counts as `key_purged`: nothing tells that token from an honest one.",
            "",
            "increase(portcullis_compromised_key_use_total[15m])",
        ),
        entry(
            "portcullis_lifecycle_violations_total",
            "requests",
            "A key retires only when its last token has expired.",
            "",
            "portcullis_lifecycle_violations_total",
        ),
    ],
};

const KEYS: Chapter = Chapter {
    title: "Keys, store, clock",
    intro: "",
    entries: &[
        entry(
            "portcullis_signing_keys",
            "keys",
            "Of retired and purged ones the tombstones are counted.",
            "",
            "sum by (state) (portcullis_signing_keys)",
        ),
        entry(
            "portcullis_live_tokens",
            "tokens",
            "Counted once a second.",
            "what a purge would break",
            "sum(portcullis_live_tokens)",
        ),
        entry(
            "portcullis_signing_key_not_after_timestamp_seconds",
            "seconds (Unix time)",
            "Absent while that is undecided: a key has no end before it is deprecated.",
            "hours left",
            "(portcullis_signing_key_not_after_timestamp_seconds - time()) / 3600",
        ),
        entry(
            "portcullis_key_rotations_total",
            "rotations",
            "`unchanged` when the idempotency window answered, or a purge was already done.",
            "failures today",
            r#"sum by (kind, trigger) (increase(portcullis_key_rotations_total{result="failure"}[1d]))"#,
        ),
        histogram(
            "portcullis_key_rotation_duration_seconds",
            "`unchanged` ones are not timed.",
            "",
            "histogram_quantile(0.99, sum by (le, kind) (rate(portcullis_key_rotation_duration_seconds_bucket[1d])))",
            "Milliseconds on a file store, up to seconds where RSA keys are made. 2 s is the deadline of a purge's \
             drain and 15 s that of a barrier between replicas, so the share that met either is exact.",
        ),
        entry(
            "portcullis_key_last_rotation_timestamp_seconds",
            "seconds (Unix time)",
            "By hand, by schedule or by a purge.",
            "age of the active key",
            "time() - portcullis_key_last_rotation_timestamp_seconds",
        ),
        entry(
            "portcullis_key_next_rotation_timestamp_seconds",
            "seconds (Unix time)",
            "",
            "seconds until then",
            "portcullis_key_next_rotation_timestamp_seconds - time()",
        ),
        entry(
            "portcullis_keyset_revision",
            "revision",
            "Every change of the key set raises it by one.",
            "changes today",
            "changes(portcullis_keyset_revision[1d])",
        ),
        entry(
            "portcullis_keyset_staleness_seconds",
            "seconds",
            "The gateway reads the key set back every 10 s. It grows when the store is gone, damaged or does not answer: \
             traffic goes on, a rotation or a purge would fail.",
            "",
            "max(portcullis_keyset_staleness_seconds)",
        ),
        entry(
            "portcullis_key_encryption_key_demanded",
            "–",
            "Keys were purged as compromised, and the file of key-encryption keys is not the gateway's to write, see \
             `docs/store.md`.",
            "",
            "max(portcullis_key_encryption_key_demanded)",
        ),
        entry(
            "portcullis_key_encryption_key_demanded_timestamp_seconds",
            "seconds (Unix time)",
            "",
            "",
            "portcullis_key_encryption_key_demanded_timestamp_seconds",
        ),
        entry(
            "portcullis_clock_step_pending_seconds",
            "seconds",
            "Beyond the time that passed. Automatic rotation and retirement wait meanwhile; Rotate and purge never do.",
            "",
            "portcullis_clock_step_pending_seconds",
        ),
        entry(
            "portcullis_clock_offset_seconds",
            "seconds",
            "The gateway's clock never follows a machine's back, so that no token looks as if it came from the future; it \
             waits until the machine has caught up. Others meanwhile see tokens that are dated ahead.",
            "",
            "portcullis_clock_offset_seconds",
        ),
    ],
};

const ISSUER: Chapter = Chapter {
    title: "Token endpoint, clients, admin API",
    intro: "",
    entries: &[
        entry(
            "portcullis_tokens_issued_total",
            "tokens",
            "",
            "",
            "sum by (grant) (rate(portcullis_tokens_issued_total[5m]))",
        ),
        entry(
            "portcullis_token_request_errors_total",
            "requests",
            "The codes of RFC 6749 §5.2; `server_error` and `temporarily_unavailable` are ours.",
            "guessing of secrets",
            r#"rate(portcullis_token_request_errors_total{error="invalid_client"}[5m])"#,
        ),
        entry(
            "portcullis_clients",
            "clients",
            "",
            "whether somebody was shut out or let in",
            r#"delta(portcullis_clients{state="disabled"}[1h])"#,
        ),
        entry(
            "portcullis_admin_requests_total",
            "requests",
            "`other` is anything that is not an endpoint.",
            "refused calls by endpoint",
            r#"sum by (endpoint) (increase(portcullis_admin_requests_total{code="4xx"}[1h]))"#,
        ),
        entry(
            "portcullis_admin_refusals_total",
            "requests",
            "Each is logged with a Log ID. `wrong_token` and `throttled` are guesses at admin tokens; `host_not_allowed`, \
             `cross_origin` and `csrf` are another web page in an operator's browser; `token_in_url` is a credential in a \
             query, to be replaced; `unauthenticated` and `session_ended` came without a token and with a session cookie \
             that is not good; `role` asked for more than the role allows.",
            "somebody guesses",
            r#"sum(increase(portcullis_admin_refusals_total{reason="wrong_token"}[15m]))"#,
        ),
    ],
};

const PROGRAM: Chapter = Chapter {
    title: "The program",
    intro: "`process_*` is read from Linux at each scrape.",
    entries: &[
        entry(
            "portcullis_build_info",
            "–",
            "",
            "versions in use",
            "count by (version) (portcullis_build_info)",
        ),
        entry(
            "portcullis_tls_certificate_not_after_timestamp_seconds",
            "seconds (Unix time)",
            "Of the chain that the listener serves, which is read at start; `listener` is `proxy ADDRESS`, `admin` or \
             `metrics`. Absent without TLS.",
            "days left",
            "(portcullis_tls_certificate_not_after_timestamp_seconds - time()) / 86400",
        ),
        entry(
            "portcullis_log_lines_dropped_total",
            "lines",
            "",
            "",
            "increase(portcullis_log_lines_dropped_total[1h])",
        ),
        entry(
            "process_cpu_seconds_total",
            "seconds",
            "",
            "cores in use",
            "rate(process_cpu_seconds_total[5m])",
        ),
        entry(
            "process_open_fds",
            "descriptors",
            "",
            "share in use",
            "process_open_fds / process_max_fds",
        ),
        entry(
            "process_max_fds",
            "descriptors",
            "",
            "",
            "process_max_fds",
        ),
        entry(
            "process_virtual_memory_bytes",
            "bytes",
            "",
            "",
            "process_virtual_memory_bytes",
        ),
        entry(
            "process_resident_memory_bytes",
            "bytes",
            "",
            "growth, bytes per second",
            "deriv(process_resident_memory_bytes[1h])",
        ),
        entry(
            "process_start_time_seconds",
            "seconds (Unix time)",
            "",
            "uptime",
            "time() - process_start_time_seconds",
        ),
        entry("process_threads", "threads", "", "", "process_threads"),
    ],
};
