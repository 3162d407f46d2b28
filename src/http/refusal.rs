//! Answers that the transport gives by itself, without asking an application.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::AnswerNote;
use crate::log_id::{LOG_ID_FIELD, LogId};

/// Shows `log_id` in the header of an error answer.
pub fn show_log_id(headers: &mut HeaderMap, log_id: LogId) {
    // A UUID is always a field value.
    if let Ok(value) = HeaderValue::try_from(log_id.to_string()) {
        headers.insert(LOG_ID_FIELD, value);
    }
}

/// Writes the one log line that belongs to a refusal. Must not block.
pub type RefusalLog = Arc<dyn Fn(&Refusal) + Send + Sync>;

/// Why the transport refuses, in the words of the gateway's reasons.
pub const REFUSED: &str = "bad_request";

/// A request that the transport refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Joins the answer to its log line.
    pub log_id: LogId,
    /// Status of the answer.
    pub status: StatusCode,
    /// What the client did and which rule that breaks; the same text goes to the client.
    pub cause: &'static str,
    /// Downstream address, where the transport has one.
    pub peer: Option<SocketAddr>,
}

impl Refusal {
    /// A refusal with a fresh Log ID.
    #[must_use]
    pub fn new(status: StatusCode, cause: &'static str, peer: Option<SocketAddr>) -> Self {
        Self {
            log_id: LogId::random(),
            status,
            cause,
            peer,
        }
    }

    /// The body of the answer (RFC 9457).
    #[must_use]
    pub fn problem(&self) -> Vec<u8> {
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code(),
            detail: self.cause,
            log_id: self.log_id,
        };
        // Plain strings and numbers always serialise; an empty body is the harmless worst case.
        serde_json::to_vec(&problem).unwrap_or_default()
    }

    /// What kind of refusal it is, for programs.
    const fn code(&self) -> &'static str {
        match self.status {
            StatusCode::NOT_FOUND => "NOT_FOUND",
            StatusCode::METHOD_NOT_ALLOWED => "METHOD",
            StatusCode::REQUEST_TIMEOUT => "TOO_SLOW",
            StatusCode::PAYLOAD_TOO_LARGE => "TOO_LARGE",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "HEADER_TOO_LARGE",
            StatusCode::SERVICE_UNAVAILABLE => "NO_ROOM",
            _ => "MALFORMED",
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.problem()));
        *response.status_mut() = self.status;
        response
            .extensions_mut()
            .insert(AnswerNote::refusal(self.log_id, REFUSED));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        show_log_id(headers, self.log_id);
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "refused with {}: {}, log_id {}",
            self.status.as_u16(),
            self.cause,
            self.log_id
        )?;
        match self.peer {
            Some(peer) => write!(f, ", peer {peer}"),
            None => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'static str,
    log_id: LogId,
}
