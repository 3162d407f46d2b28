//! Refusals of the issuer's endpoints: RFC 6749 §5.2 JSON with a Log ID.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;

use crate::http::{AnswerNote, ConnState, show_log_id};
use crate::lifecycle::ClientFailure;
use crate::log_id::LogId;
use crate::telemetry::{Disposition, Level, TokenError};

use super::IssuerParts;

/// Why a token request is refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) error: TokenError,
    pub(super) description: &'static str,
    /// Whether the answer must challenge for Basic credentials.
    pub(super) challenge: bool,
    /// For the log, when it is a client's: who claims to ask.
    pub(super) claimed_client: Option<String>,
    /// For the log alone.
    pub(super) cause: Option<String>,
}

#[derive(Serialize)]
struct ErrorBody {
    error: &'static str,
    error_description: &'static str,
    log_id: LogId,
}

impl Refusal {
    pub(super) const fn new(error: TokenError, description: &'static str) -> Self {
        Self {
            error,
            description,
            challenge: false,
            claimed_client: None,
            cause: None,
        }
    }

    const fn status(&self) -> StatusCode {
        match self.error {
            TokenError::InvalidClient => StatusCode::UNAUTHORIZED,
            TokenError::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            TokenError::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            TokenError::InvalidRequest
            | TokenError::InvalidGrant
            | TokenError::UnauthorizedClient
            | TokenError::UnsupportedGrantType
            | TokenError::InvalidScope => StatusCode::BAD_REQUEST,
        }
    }

    /// Counts, logs and answers.
    pub(super) fn answer(&self, parts: &IssuerParts) -> Response {
        parts.metrics.token_error(self.error);
        let claimed = self.claimed_client.as_deref();
        if let Some(client) = claimed {
            let failure = ClientFailure::Request(self.error);
            let now = parts.clock.now();
            parts.clients.note_claimed_failure(client, failure, now);
        }
        let disposition = parts.denials.note(parts.clock.now(), self.error.as_str());
        let log_id = disposition.log_id();
        if let Disposition::Own(_) = disposition {
            let level = if self.status().is_server_error() {
                Level::Error
            } else {
                Level::Info
            };
            parts
                .log
                .event(level, "token_request_refused", self.description)
                .log_id(log_id)
                .field("error", self.error.as_str())
                .outside("client_id", shown_client(parts, claimed))
                .field("client_id_bytes", claimed.map(str::len))
                .field("peer", peer())
                .field("cause", self.cause.as_deref())
                .emit();
        }
        let body = ErrorBody {
            error: self.error.as_str(),
            error_description: self.description,
            log_id,
        };
        let mut response = json(self.status(), &body);
        response
            .extensions_mut()
            .insert(AnswerNote::refusal(log_id, self.error.as_str()));
        let headers = response.headers_mut();
        show_log_id(headers, log_id);
        if self.challenge || self.error == TokenError::InvalidClient {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"token endpoint\", charset=\"UTF-8\""),
            );
        }
        if self.error == TokenError::TemporarilyUnavailable {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The name of a client that there is; of any other nothing, since it may be a secret or a token in
/// the wrong place. Its length is told beside it.
fn shown_client<'a>(parts: &IssuerParts, claimed: Option<&'a str>) -> &'a str {
    match claimed {
        Some(client) if parts.clients.is_known(client) => client,
        Some(_) => "unknown",
        None => "",
    }
}

/// Where the request that is being answered came from.
fn peer() -> Option<String> {
    let peer = ConnState::with_current(ConnState::peer).flatten();
    peer.map(|peer| peer.to_string())
}

/// A JSON answer that no cache may keep (RFC 6749 §5.1).
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Serialising strings and numbers into a Vec cannot fail.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// 405 with a Log ID; axum adds `Allow`.
pub(super) async fn method_not_allowed(
    State(parts): State<Arc<IssuerParts>>,
    method: Method,
    uri: Uri,
) -> Response {
    let disposition = parts
        .denials
        .note(parts.clock.now(), TokenError::InvalidRequest.as_str());
    let log_id = disposition.log_id();
    if let Disposition::Own(_) = disposition {
        parts
            .log
            .event(
                Level::Info,
                "request_failed",
                "the endpoint does not take this method",
            )
            .log_id(log_id)
            .field("status", 405)
            .outside("method", method.as_str())
            .outside("path", uri.path())
            .field("peer", peer())
            .emit();
    }
    let body = ErrorBody {
        error: TokenError::InvalidRequest.as_str(),
        error_description: "the endpoint does not take this method",
        log_id,
    };
    let mut response = json(StatusCode::METHOD_NOT_ALLOWED, &body);
    response
        .extensions_mut()
        .insert(AnswerNote::refusal(log_id, body.error));
    show_log_id(response.headers_mut(), log_id);
    response
}
