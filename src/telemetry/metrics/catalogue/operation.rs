//! What happens besides: keys, store and clock, issuer and admin API, the program.

use super::{Chapter, entry, histogram};

pub(super) const KEYS: Chapter = Chapter {
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
            "`unchanged` when the idempotency window answered, or a purge was already done; `refused` when the caller asked \
             for what cannot be (answers 4xx: a stale revision, an unknown key, a full key set); `failure` when it was \
             ours: store, key generation, key-encryption key. What keeps the schedule from rotating is always a `failure`.",
            "failures today",
            r#"sum by (kind, trigger) (increase(portcullis_key_rotations_total{result="failure"}[1d]))"#,
        ),
        histogram(
            "portcullis_key_rotation_duration_seconds",
            "`unchanged` and `refused` ones are not timed.",
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

pub(super) const ISSUER: Chapter = Chapter {
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

pub(super) const PROGRAM: Chapter = Chapter {
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
            "portcullis_access_log_dropped_total",
            "lines",
            "See `docs/logging.md`.",
            "",
            "increase(portcullis_access_log_dropped_total[1h])",
        ),
        entry(
            "portcullis_trace_spans_exported_total",
            "spans",
            "See `docs/tracing.md`.",
            "",
            "rate(portcullis_trace_spans_exported_total[5m])",
        ),
        entry(
            "portcullis_trace_spans_dropped_total",
            "spans",
            "`queue_full`, `undeliverable` (the collector was not reached, or refused the whole delivery), `refused` (it took \
             the delivery without them).",
            "",
            "sum by (reason) (increase(portcullis_trace_spans_dropped_total[1h]))",
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
        entry("process_max_fds", "descriptors", "", "", "process_max_fds"),
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
