//! Errors of the admin API: RFC 9457 with a stable `code` and a Log ID that is in the log.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::http::{ConnState, show_log_id};
use crate::keys::transition::Refusal;
use crate::lifecycle::{LifecycleError, ShadowRefusal};
use crate::log_id::LogId;
use crate::telemetry::{AdminRefusal, Disposition, Level};

use super::AdminParts;

const BAD_BODY: &str = "BAD_BODY";

/// An error answer in the making: what the operator reads, and what only the log says.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// For the log alone.
    cause: Option<String>,
    retry_after: Option<Duration>,
    /// Whether the detail ends with the Log ID, in the words that operators search for.
    names_log_id: bool,
    /// The reason under which it is counted, when it is about who asks.
    refusal: Option<AdminRefusal>,
    /// What is wrong with a stored document: a member of its own, so that the detail keeps the
    /// words that operators search for.
    rule: Option<Box<str>>,
    /// The Log ID of its line, when a span bears it already.
    log_id: Option<LogId>,
}

/// An error answer (RFC 9457).
#[derive(Serialize, JsonSchema)]
pub(super) struct Problem<'a> {
    /// Names the kind of problem; says no more than `code`.
    #[schemars(extend("format" = "uri-reference"))]
    r#type: String,
    /// The status in words.
    title: &'a str,
    status: u16,
    /// Stable, for programs.
    code: &'a str,
    /// What happened, by which rule, and what to do next; for people.
    detail: String,
    /// What is wrong with a stored document that somebody has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// The one line of the log that carries it says more.
    #[schemars(with = "Uuid")]
    log_id: LogId,
}

/// The code of an error answer, in its extensions.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(debug_assertions),
    allow(dead_code, reason = "only debug builds compare it with the document")
)]
pub(super) struct Refused(pub(super) &'static str);

impl ApiError {
    pub(super) const fn new(status: StatusCode, code: &'static str, detail: String) -> Self {
        Self {
            status,
            code,
            detail,
            cause: None,
            retry_after: None,
            names_log_id: false,
            refusal: None,
            rule: None,
            log_id: None,
        }
    }

    /// Something that failed: the detail is for the operator and ends with the Log ID, the cause is
    /// for the log alone.
    pub(super) fn failed(code: &'static str, detail: &str, cause: String) -> Self {
        Self {
            cause: Some(cause),
            names_log_id: true,
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, detail.to_owned())
        }
    }

    /// Counted under this reason: somebody was not let in, or not as far as they wanted.
    pub(super) const fn counted_as(mut self, refusal: AdminRefusal) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// Its line gets this Log ID, unless it shares one with others.
    pub(super) const fn logged_as(mut self, log_id: LogId) -> Self {
        self.log_id = Some(log_id);
        self
    }

    /// Says how long to wait.
    pub(super) const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same for a body that nothing may be quoted from.
    pub(super) fn without_quotes(self, rule: &str) -> Self {
        if self.code == BAD_BODY {
            Self::bad_body(rule.to_owned())
        } else {
            self
        }
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "there is no such endpoint".to_owned(),
        )
    }

    pub(super) fn too_many_streams(why: &str) -> Self {
        let detail =
            format!("{why}; close a console that nobody looks at, or ask GET /admin/v1/status");
        Self {
            retry_after: Some(Duration::from_secs(5)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_STREAMS", detail)
        }
    }

    /// `kept` lines are in memory at most.
    pub(super) fn unknown_log_id(kept: usize) -> Self {
        let detail = format!(
            "no line with this Log ID is in memory: only the newest {kept} warnings and errors and as many refusals of \
             this process are kept there (`log.ring_lines`); look into the log that the process writes to its \
             standard output"
        );
        Self::new(StatusCode::NOT_FOUND, "LOG_ID_UNKNOWN", detail)
    }

    pub(super) fn no_such_purge() -> Self {
        let detail =
            "this process remembers no purge of that id; the audit log has every one".to_owned();
        Self::new(StatusCode::NOT_FOUND, "NO_SUCH_PURGE", detail)
    }

    pub(super) fn clock_stepped_again(since: &str) -> Self {
        let detail = format!(
            "nothing was confirmed: the step of the clock that waits now was seen at {since}; look at the time again, \
             then confirm that one"
        );
        Self::new(StatusCode::CONFLICT, "CLOCK_STEPPED_AGAIN", detail)
    }

    pub(super) fn bad_query(rule: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_QUERY", rule)
    }

    /// A query has a member that nobody looks at.
    pub(super) fn unknown_in_query(name: &str, known: &[String]) -> Self {
        let name: String = name.chars().take(64).collect();
        let known: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
        let known = match &*known {
            [] => "takes no query".to_owned(),
            known => format!("takes {}", known.join(", ")),
        };
        Self::bad_query(format!(
            "the query has an unknown member `{name}`: this operation {known}"
        ))
    }

    pub(super) fn unknown_kid(refusal: &Refusal) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "UNKNOWN_KID",
            format!("{refusal}; GET /admin/v1/keys lists them"),
        )
    }

    pub(super) fn no_such_shadow() -> Self {
        let detail = "this process remembers no shadow purge of that id: the last 16 are kept, and none outlives a restart"
            .to_owned();
        Self::new(StatusCode::NOT_FOUND, "NO_SUCH_SHADOW", detail)
    }

    pub(super) fn shadow(refusal: &ShadowRefusal) -> Self {
        match refusal {
            ShadowRefusal::Running { .. } => {
                Self::new(StatusCode::CONFLICT, "SHADOW_RUNNING", refusal.to_string())
            }
            ShadowRefusal::Scope(refusal) => Self::unknown_kid(refusal),
        }
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "the endpoint does not take this method".to_owned();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD", detail)
    }

    pub(super) fn unsupported_media_type() -> Self {
        let detail = "send a JSON body with `Content-Type: application/json`".to_owned();
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE", detail)
    }

    pub(super) fn bad_body(rule: String) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            BAD_BODY,
            format!("nothing was changed: {rule}"),
        )
    }

    pub(super) fn bad_header(name: &str, rule: &str) -> Self {
        let detail = format!("nothing was changed: {name}: {rule}");
        Self::new(StatusCode::BAD_REQUEST, "BAD_HEADER", detail)
    }

    pub(super) fn still_running() -> Self {
        let detail =
            "a request with this Idempotency-Key is still running; repeat it when that one \
                      has answered"
                .to_owned();
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::CONFLICT, "STILL_RUNNING", detail)
        }
    }

    pub(super) fn precondition_required(revision: u64) -> Self {
        let detail = format!(
            "a purge must say which keys it means: send \"seen_revision\" (the revision of the key set \
             you looked at), \"kids\" or an Idempotency-Key; the current revision is {revision}"
        );
        Self::new(
            StatusCode::PRECONDITION_REQUIRED,
            "SEEN_REVISION_REQUIRED",
            detail,
        )
    }

    /// A rotation that did not happen. What waiting or looking again can mend is said; the rest is
    /// in the log.
    pub(super) fn rotation(error: &LifecycleError) -> Self {
        let refused =
            |status, code, refusal: &Refusal| Self::new(status, code, refusal.to_string());
        match error {
            LifecycleError::Refused(refusal @ Refusal::KeySetFull(_)) => {
                refused(StatusCode::CONFLICT, "KEYSET_FULL", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::PendingTooYoung { .. }) => {
                refused(StatusCode::CONFLICT, "PENDING_TOO_YOUNG", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::RevisionAhead { .. }) => {
                refused(StatusCode::PRECONDITION_FAILED, "REVISION_AHEAD", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::StaleRevision { .. }) => {
                refused(StatusCode::PRECONDITION_FAILED, "STALE_REVISION", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::KnownKey(_)) => {
                refused(StatusCode::CONFLICT, "KNOWN_KEY", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::MaxTtl(_)) => {
                refused(StatusCode::BAD_REQUEST, "MAX_TTL", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::OtherBody) => refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "IDEMPOTENCY_KEY_REUSED",
                refusal,
            ),
            LifecycleError::Refused(refusal @ Refusal::IdempotencyFull { .. }) => {
                refused(StatusCode::TOO_MANY_REQUESTS, "IDEMPOTENCY_FULL", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::UnknownKid(_)) => {
                refused(StatusCode::NOT_FOUND, "UNKNOWN_KID", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::NotPurged(_)) => {
                refused(StatusCode::CONFLICT, "NOT_PURGED", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::Compromised(_)) => {
                refused(StatusCode::CONFLICT, "COMPROMISED", refusal)
            }
            LifecycleError::Refused(refusal @ Refusal::NothingToRestore(_)) => {
                refused(StatusCode::CONFLICT, "NOTHING_TO_RESTORE", refusal)
            }
            LifecycleError::Renewal(error) => Self::new(
                StatusCode::CONFLICT,
                "KEY_ENCRYPTION_KEY",
                format!("nothing was changed: {error}"),
            ),
            LifecycleError::Store(_)
            | LifecycleError::Contention(_)
            | LifecycleError::Keygen(_)
            | LifecycleError::Seal(_)
            | LifecycleError::Key(_)
            | LifecycleError::Thread(_)
            | LifecycleError::TaskDied => Self {
                rule: refused_document(error),
                cause: Some(error.to_string()),
                names_log_id: true,
                ..Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "ROTATION_FAILED",
                    "Manual signing key rotation could not be completed. Check the system logs for more details."
                        .to_owned(),
                )
            },
        }
    }

    /// Counts a refusal and writes its line; in a flood of them most share one.
    fn log(&self, parts: &AdminParts) -> LogId {
        let disposition = self.refusal.map(|refusal| {
            parts.metrics.admin_refused(refusal);
            parts.denials.note(parts.clock.now(), refusal.as_str())
        });
        let own = || self.log_id.unwrap_or_else(LogId::random);
        let log_id = disposition.map_or_else(own, Disposition::log_id);
        if matches!(disposition, Some(Disposition::Shared(_))) {
            return log_id;
        }
        let level = if self.status.is_server_error() {
            Level::Error
        } else {
            Level::Warn
        };
        parts
            .log
            .event(
                level,
                "admin_request_failed",
                "an admin request could not be carried out",
            )
            .log_id(log_id)
            .field("status", self.status.as_u16())
            .field("code", self.code)
            .outside("detail", &self.detail)
            .field("operator", operator())
            .field("peer", peer())
            .field("cause", self.cause.as_deref())
            .emit();
        log_id
    }

    /// Writes the line and builds the answer.
    pub(super) fn answer(&self, parts: &AdminParts) -> Response {
        let log_id = self.log(parts);
        let detail = if self.names_log_id {
            format!("{} Log ID: {log_id}", self.detail)
        } else {
            self.detail.clone()
        };
        let problem = Problem {
            r#type: format!(
                "urn:portcullis:problem:{}",
                self.code.to_ascii_lowercase().replace('_', "-")
            ),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail,
            rule: self.rule.as_deref(),
            log_id,
        };
        // Serialising strings and numbers into a Vec cannot fail.
        let mut response =
            Response::new(Body::from(serde_json::to_vec(&problem).unwrap_or_default()));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Refused(self.code));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        show_log_id(headers, log_id);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"portcullis admin\""),
            );
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

tokio::task_local! {
    static OPERATOR: String;
}

/// Answers in the name of the operator called `name`: the line of an error says so.
pub(super) async fn answering<F: Future>(name: String, answer: F) -> F::Output {
    OPERATOR.scope(name, answer).await
}

/// Whose request is being answered, once that is known.
fn operator() -> Option<String> {
    OPERATOR.try_with(String::clone).ok()
}

/// Where the request that is being answered came from.
fn peer() -> Option<String> {
    let peer = ConnState::with_current(ConnState::peer).flatten();
    peer.map(|peer| peer.ip().to_string())
}

/// A stored document that was refused, in words: what an operator has to know at once, because
/// somebody changed it and no later attempt will mend it.
fn refused_document(error: &LifecycleError) -> Option<Box<str>> {
    match error {
        LifecycleError::Store(error) if error.is_refused_document() => {
            Some(error.to_string().into())
        }
        _ => None,
    }
}
