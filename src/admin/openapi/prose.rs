//! What the document says in words about all operations alike.

use std::fmt::Write as _;

use super::super::problems::PROBLEMS;

pub(super) const SUMMARY: &str =
    "Rotate and purge signing keys, see what that did, manage clients.";

pub(super) const TOKEN: &str = "An admin token of the configuration (`listeners.admin.tokens`), with its role: a `viewer` sees, \
     an `operator` rotates too, an `admin` may do everything.";

pub(super) const SESSION: &str = "The cookie of a session, for browsers; under TLS its name is `__Host-portcullis_session`. A change with \
     it needs `X-Portcullis-Request: 1` and an `Origin` of this listener.";

const RULES: &str = "\
## Requests
A body is JSON, announced as `application/json`, at most 64 KiB. An unknown, repeated or null member is \
refused before anything happens, and so is an unknown member of a query.

## Answers
JSON, never to be cached. Times are RFC 3339 in UTC, with milliseconds. Members may be added in any version, \
none is taken away or changes its meaning.

## Errors
Problem documents (RFC 9457) with a stable `code` and a `log_id`: exactly one line of the log carries that \
Log ID, and says more where there is more to say. The header field `X-Log-Id` repeats it.

## Lists
A list that can grow is answered in pages: `limit` bounds a page, within what the list says; the answer's \
`next` goes into `after`, or into `before` where the newest stands first, to fetch the page behind it. \
Without a `next` there is none.

## Conditional requests
The key set and the clients have a revision, which is their `ETag`. With it in `If-Match` a change is made \
only to what you looked at, else 412; `*` stands for any. `seen_revision` in the body of a purge is lenient: the \
purge happens all the same, and the answer names in `unseen` what was newer. `If-None-Match` is not looked at: \
figures beside a revision change without it.

## Repeating a request
A rotation or purge whose answer was lost can be sent again with the same `Idempotency-Key`: for 24 hours it \
is answered with what the first one did, and `Idempotency-Replayed: true`. Without one, a plain rotation \
within the idempotency window changes nothing (`changed` is false), and a purge must name what it saw.

## Codes
| code | meaning |
|---|---|
";

pub(super) fn description() -> String {
    let mut text = RULES.to_owned();
    for (code, meaning) in PROBLEMS {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "| `{code}` | {meaning} |");
    }
    text
}
