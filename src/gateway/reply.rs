//! The gateway's own answers: RFC 9457 problem bodies, the RFC 6750 challenge, gRPC refusals.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use serde::Serialize;

use crate::http::{METHODS, discard};
use crate::log_id::{LOG_ID_FIELD, LogId};
use crate::token::{Rejection, RouteRules};

/// A refusal or failure on its way to the client.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// HTTP status.
    pub(super) status: u16,
    /// Text for the client; never from outside.
    pub(super) detail: &'static str,
    /// `WWW-Authenticate`, when credentials are in question.
    pub(super) challenge: Option<String>,
    /// `Retry-After` in whole seconds, when waiting helps.
    pub(super) retry_after: Option<u64>,
    /// Log ID of the line that says more.
    pub(super) log_id: LogId,
}

/// RFC 9457 §3.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    log_id: LogId,
}

impl Reply {
    /// An answer without a challenge.
    #[must_use]
    pub(super) const fn plain(status: u16, detail: &'static str, log_id: LogId) -> Self {
        Self {
            status,
            detail,
            challenge: None,
            retry_after: None,
            log_id,
        }
    }

    /// The answer to a refused token (RFC 6750 §3).
    #[must_use]
    pub(super) fn rejection(
        rejection: Rejection,
        realm: &str,
        rules: &RouteRules,
        log_id: LogId,
    ) -> Self {
        let answer = rejection.answer();
        let mut challenge = format!("Bearer realm=\"{realm}\"");
        if let Some(error) = answer.error {
            challenge.push_str(&format!(
                ", error=\"{error}\", error_description=\"{}\"",
                answer.description
            ));
        }
        if rejection == Rejection::InsufficientScope {
            let scopes: Vec<&str> = rules
                .scopes_all
                .iter()
                .chain(&rules.scopes_any)
                .map(String::as_str)
                .collect();
            challenge.push_str(&format!(", scope=\"{}\"", scopes.join(" ")));
        }
        Self {
            status: answer.status,
            detail: answer.description,
            challenge: Some(challenge),
            retry_after: None,
            log_id,
        }
    }

    /// The same answer with the time after which another try may succeed.
    #[must_use]
    pub(super) fn after(self, wait: Option<Duration>) -> Self {
        Self {
            // Rounded up: 0 would ask for a loop.
            retry_after: wait.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            ..self
        }
    }

    /// Sends the answer. The connection is kept only when the request has been read whole.
    ///
    /// # Errors
    /// When the client is gone.
    pub(super) async fn send(&self, session: &mut Session) -> pingora::Result<()> {
        if !session.is_body_done() {
            session.set_keepalive(None);
        }
        // Pingora does not say on which side its own answers fail.
        self.write(session)
            .await
            .map_err(|error| error.into_down())?;
        discard(session.as_downstream_mut()).await;
        Ok(())
    }

    async fn write(&self, session: &mut Session) -> pingora::Result<()> {
        let is_begun = session.response_written().is_some();
        if self.has_grpc_form() && !is_begun && is_grpc(session.get_header(CONTENT_TYPE)) {
            // gRPC is spoken over HTTP/2 alone.
            if let ServerSession::H2(h2) = session.as_downstream_mut() {
                // Through Pingora's own writer the stream would end with an empty DATA frame, and
                // the client would look for trailers that never come.
                return h2.write_response_header(Box::new(self.grpc_header()?), true);
            }
        }
        let body = self.body();
        let header = self.header(body.len())?;
        let head_only = session.req_header().method == Method::HEAD;
        session
            .write_response_header(Box::new(header), head_only)
            .await?;
        if head_only {
            Ok(())
        } else {
            session.write_response_body(Some(body), true).await
        }
    }

    /// Whether gRPC clients are told in their own terms: refused tokens and bodies. What else fails has
    /// a status that they translate themselves, and that balancers and metrics should see.
    const fn has_grpc_form(&self) -> bool {
        self.challenge.is_some() || matches!(self.status, 400 | 413)
    }

    fn header(&self, body_len: usize) -> pingora::Result<ResponseHeader> {
        let mut header = ResponseHeader::build(self.status, Some(8))?;
        header.insert_header(CONTENT_TYPE, "application/problem+json")?;
        header.insert_header(CONTENT_LENGTH, body_len)?;
        header.insert_header(CACHE_CONTROL, "no-store")?;
        header.insert_header(LOG_ID_FIELD, self.log_id.to_string())?;
        if let Some(challenge) = &self.challenge {
            header.insert_header(WWW_AUTHENTICATE, challenge)?;
        }
        if let Some(seconds) = self.retry_after {
            header.insert_header(RETRY_AFTER, seconds)?;
        }
        if self.status == 405 {
            header.insert_header(http::header::ALLOW, METHODS)?;
        }
        Ok(header)
    }

    fn body(&self) -> Bytes {
        let title = StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Error");
        let problem = Problem {
            r#type: "about:blank",
            title,
            status: self.status,
            detail: self.detail,
            log_id: self.log_id,
        };
        // Serialising fixed texts into a Vec cannot fail.
        Bytes::from(serde_json::to_vec(&problem).unwrap_or_default())
    }

    /// A trailers-only response: gRPC clients read the status there (gRPC over HTTP/2).
    fn grpc_header(&self) -> pingora::Result<ResponseHeader> {
        let mut header = ResponseHeader::build(200, Some(6))?;
        header.insert_header(CONTENT_TYPE, "application/grpc")?;
        header.insert_header("grpc-status", grpc_status(self.status))?;
        header.insert_header("grpc-message", self.detail)?;
        header.insert_header(LOG_ID_FIELD, self.log_id.to_string())?;
        if let Some(challenge) = &self.challenge {
            header.insert_header(WWW_AUTHENTICATE, challenge)?;
        }
        if let Some(seconds) = self.retry_after {
            header.insert_header(RETRY_AFTER, seconds)?;
        }
        Ok(header)
    }
}

/// Whether a `Content-Type` is that of gRPC: the name alone, or with a message format or parameters
/// behind it. `application/grpc-web` is another protocol.
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let Some((start, rest)) =
        content_type.and_then(|value| value.as_bytes().split_at_checked(NAME.len()))
    else {
        return false;
    };
    start.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The code of a refusal whose HTTP status is this one, as `google.rpc.Code` pairs them. A bad token
/// is UNAUTHENTICATED, a broken request for one INVALID_ARGUMENT, and what has to wait
/// RESOURCE_EXHAUSTED, which unlike UNAVAILABLE no client repeats at once.
const fn grpc_status(status: u16) -> &'static str {
    match status {
        400 => "3",
        403 => "7",
        413 | 429 => "8",
        _ => "16",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(rejection: Rejection) -> String {
        let rules = RouteRules {
            audiences: vec!["api".to_owned()],
            scopes_any: vec!["read".to_owned(), "write".to_owned()],
            scopes_all: Vec::new(),
        };
        Reply::rejection(rejection, "https://i", &rules, LogId::random())
            .challenge
            .unwrap()
    }

    #[test]
    fn challenges_are_exact() {
        assert_eq!(challenge(Rejection::Missing), "Bearer realm=\"https://i\"");
        assert_eq!(
            challenge(Rejection::Expired),
            "Bearer realm=\"https://i\", error=\"invalid_token\", error_description=\"the access token is not valid\""
        );
        assert_eq!(
            challenge(Rejection::InsufficientScope),
            "Bearer realm=\"https://i\", error=\"insufficient_scope\", error_description=\"the access token lacks a required scope\", scope=\"read write\""
        );
    }

    #[test]
    fn grpc_is_recognised_by_its_whole_name() {
        for (content_type, is) in [
            ("application/grpc", true),
            ("APPLICATION/gRPC", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc ; charset=utf-8", true),
            ("application/grpcfoo", false),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/json", false),
        ] {
            let value = HeaderValue::from_static(content_type);
            assert_eq!(is_grpc(Some(&value)), is, "{content_type}");
        }
        assert!(!is_grpc(None));
        let codes = [400, 401, 403, 413, 429].map(grpc_status);
        assert_eq!(codes, ["3", "16", "7", "8", "8"]);
    }

    #[test]
    fn bodies_are_problems_with_a_log_id() {
        let log_id = LogId::random();
        let body: serde_json::Value = serde_json::from_slice(
            &Reply::plain(404, "no route takes this request", log_id).body(),
        )
        .unwrap();
        assert_eq!(body["status"], 404);
        assert_eq!(body["title"], "Not Found");
        assert_eq!(body["log_id"], log_id.to_string());
    }
}
