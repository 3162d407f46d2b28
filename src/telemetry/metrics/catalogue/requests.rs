//! What happens to requests: traffic, admission, what a purge broke.

use super::{Chapter, entry, histogram};

pub(super) const TRAFFIC: Chapter = Chapter {
    title: "Traffic",
    intro: "",
    entries: &[
        entry(
            "portcullis_http_requests_total",
            "requests",
            "Routes and the issuer's endpoints alike; `route=\"none\"` for what nothing takes, with `method=\"other\"` also for \
             what is refused before any route is looked for, such as a malformed header. A series appears with its first \
             request, those of `5xx` are there from the start.",
            "share of failed requests",
            r#"sum(rate(portcullis_http_requests_total{code="5xx"}[5m])) / sum(rate(portcullis_http_requests_total[5m]))"#,
        ),
        entry(
            "portcullis_request_failures_total",
            "requests",
            "By cause. What an upstream itself answers is not in it. An answer broken off after its header counts here by \
             what broke it, and in `portcullis_http_requests_total` by the status that was sent. `internal` is the gateway's \
             own fault, and what the error budget in `conf/alerts.yml` is spent on; each of these requests has a line with a \
             Log ID.",
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
            "portcullis_upstream_endpoint_up",
            "–",
            "By health checks and by requests, see `upstreams.NAME.health_check` in `docs/configuration.md`. `endpoint` is \
             written as in the configuration.",
            "upstreams that serve nobody show 0",
            "max by (upstream) (portcullis_upstream_endpoint_up)",
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

pub(super) const ACCESS: Chapter = Chapter {
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

pub(super) const PURGES: Chapter = Chapter {
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
