//! The codes of the admin API's errors and what each means. A code never changes its meaning.

/// Code, and what it says. In alphabetical order.
pub(super) const PROBLEMS: [(&str, &str); 48] = [
    (
        "AUDIT_UNREADABLE",
        "The audit log could not be read; the log has the cause under the Log ID.",
    ),
    (
        "BAD_BODY",
        "The body is not what the operation takes; the detail names the rule. Nothing was changed.",
    ),
    (
        "BAD_HEADER",
        "A header is not what the operation takes; the detail names it. Nothing was changed.",
    ),
    ("BAD_LOG_ID", "What stands in the path is no Log ID."),
    (
        "BAD_QUERY",
        "The query is not what the operation takes; the detail names the rule.",
    ),
    (
        "CLIENTS_FULL",
        "The store keeps as many clients as it may; remove some that nobody uses.",
    ),
    (
        "CLIENT_CHANGE_FAILED",
        "The change could not be saved; everything is as before. The log has the cause under the Log ID.",
    ),
    ("CLIENT_EXISTS", "There is a client of that id already."),
    (
        "CLIENT_STATIC",
        "The client stands in the configuration file, which alone can change it.",
    ),
    (
        "CLOCK_STEPPED_AGAIN",
        "The clock has stepped since; look at the time again, then confirm that step.",
    ),
    (
        "COMPROMISED",
        "The key's purge was not made with `mistake_undo`, or the key was declared compromised since; it stays dead.",
    ),
    (
        "CROSS_ORIGIN",
        "The request came from another origin, or a change with the session cookie lacks `X-Portcullis-Request: 1`.",
    ),
    (
        "HEADER_TOO_LARGE",
        "The request header is larger than the listener takes.",
    ),
    (
        "HOST_NOT_ALLOWED",
        "The Host is neither an address, nor `localhost`, nor in `listeners.admin.allowed_hosts`.",
    ),
    (
        "IDEMPOTENCY_FULL",
        "256 results are stored for this admin token already; the detail says when the next place is free.",
    ),
    (
        "IDEMPOTENCY_KEY_REUSED",
        "The Idempotency-Key was used with another body before.",
    ),
    (
        "KEYSET_FULL",
        "The key set holds 64 keys; wait until one retires, or purge.",
    ),
    (
        "KEY_ENCRYPTION_KEY",
        "The key-encryption keys do not allow it; the detail says what to do. Nothing was changed.",
    ),
    (
        "KNOWN_KEY",
        "A key of that name, or that key under another name, is known already.",
    ),
    (
        "LOG_ID_UNKNOWN",
        "No line with that Log ID is in memory; the log that the process writes may have it.",
    ),
    ("MALFORMED", "The request is not well-formed HTTP."),
    ("MAX_TTL", "`max_ttl` is out of bounds."),
    (
        "MEDIA_TYPE",
        "The body is not announced as `application/json`.",
    ),
    (
        "METHOD",
        "The endpoint does not take this method; `Allow` names those that it takes.",
    ),
    (
        "NOTHING_TO_RESTORE",
        "The key would verify nothing any more.",
    ),
    ("NOT_FOUND", "There is no such endpoint."),
    ("NOT_PURGED", "The key was not purged."),
    (
        "NO_SUCH_CLIENT",
        "There is no client of that id, and nothing was ever done to one.",
    ),
    (
        "NO_SUCH_PURGE",
        "No purge of that id is remembered; the audit log has every one.",
    ),
    (
        "NO_SUCH_SHADOW",
        "No shadow purge of that id is remembered.",
    ),
    (
        "PENDING_TOO_YOUNG",
        "Verifiers may not know the pending key yet; the detail says when it may sign.",
    ),
    ("REVISION_AHEAD", "The revision named does not exist yet."),
    (
        "REVISION_CHANGED",
        "The clients have changed since the revision in If-Match; look again.",
    ),
    ("ROLE", "The token's role does not allow it."),
    (
        "ROTATION_FAILED",
        "The change could not be made; the keys are as before. The log has the cause under the Log ID.",
    ),
    (
        "SEEN_REVISION_REQUIRED",
        "A purge must say which keys it means; the detail says the current revision.",
    ),
    (
        "SHADOW_RUNNING",
        "Another shadow purge runs; one at a time.",
    ),
    (
        "SIGN_IN_FAILED",
        "Signing in failed on our side; the log has the cause under the Log ID.",
    ),
    (
        "STALE_REVISION",
        "The key set has changed since the revision named; look again.",
    ),
    (
        "STILL_RUNNING",
        "A request with this Idempotency-Key has not answered yet; ask again after Retry-After.",
    ),
    (
        "THROTTLED",
        "Too many wrong tokens came from this address; the right one is still taken.",
    ),
    (
        "TOKEN_IN_URL",
        "A parameter of the URL is meant for a credential; replace the token if it was a real one.",
    ),
    ("TOO_LARGE", "The request body is larger than 64 KiB."),
    (
        "TOO_MANY_STREAMS",
        "32 event streams are open already, or 8 of this admin token; ask again after Retry-After, or `GET /admin/v1/status`.",
    ),
    ("TOO_SLOW", "The request body did not arrive in time."),
    (
        "UNAUTHENTICATED",
        "Neither one admin token nor the cookie of a session was sent, or the session has ended.",
    ),
    (
        "UNKNOWN_KID",
        "There is no key of that name, alive or dead.",
    ),
    ("WRONG_TOKEN", "The admin token is not valid."),
];
