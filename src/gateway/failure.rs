//! Answers to what goes wrong outside of token verification: broken requests, missing routes,
//! upstreams that are dead or hang.

use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, ErrorType, Result};

use crate::http::Misframed;
use crate::telemetry::{CLIENT_GONE, Disposition, FailureCause, Level};

use super::Gateway;
use super::body::CRUMBLED;
use super::context::RequestContext;
use super::path::PathError;
use super::records::status as status_sent;
use super::reply::Reply;

/// Reason of a request that its upstream did not answer well.
pub(super) const UPSTREAM_FAILED: &str = "upstream_failed";

/// Reasons for the summary line of an overload.
pub const REASONS: [&str; 6] = [
    "bad_request",
    "request_timeout",
    "no_route",
    UPSTREAM_FAILED,
    "upstream_timeout",
    "internal",
];

impl Gateway {
    pub(super) async fn refuse_path(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        error: PathError,
    ) -> Result<bool> {
        self.refuse_request(session, ctx, 400, error.rule()).await
    }

    /// Answers a request that is refused before its token is looked at.
    pub(super) async fn refuse_request(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        status: u16,
        rule: &'static str,
    ) -> Result<bool> {
        if status != 404 {
            // Whoever breaks the framing may have smuggled a second request.
            session.set_keepalive(None);
        }
        self.reply(session, ctx, status, rule, None)
            .await
            .map(|()| true)
    }

    pub(super) async fn answer_failure(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        let (error_code, detail) = if waits_for_client(session, error, ctx) {
            SLOW
        } else {
            // When no connection came about that was noted already, and noting it again changes
            // nothing.
            self.note_failure(ctx, error);
            failure_answer(error)
        };
        session.set_keepalive(None);
        if error_code == 0 {
            ctx.told.reason.get_or_insert(CLIENT_GONE);
            return FailToProxy {
                error_code,
                can_reuse_downstream: false,
            };
        }
        // When the answer cannot be written the client is gone; the line is written all the same.
        let _gone = self
            .reply(session, ctx, error_code, detail, Some(error))
            .await;
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    async fn reply(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        status: u16,
        detail: &'static str,
        cause: Option<&Error>,
    ) -> Result<()> {
        if let Some(cause) = FailureCause::of(status) {
            self.metrics_of(session, ctx).failed(cause);
        }
        // Once a header is out the client has that status, whatever happened since.
        let sent = status_sent(session);
        let reason = reason_of(status);
        let disposition = self.parts.denials.note(self.parts.clock.now(), reason);
        let log_id = disposition.log_id();
        ctx.told.log_id = Some(log_id);
        ctx.told.reason = Some(reason);
        if let Disposition::Own(_) = disposition {
            let route = self.route(ctx);
            let level = if status >= 500 {
                Level::Warn
            } else {
                Level::Info
            };
            self.parts
                .log
                .event(level, "request_failed", detail)
                .log_id(log_id)
                .field("status", sent.unwrap_or(status))
                .field("broken_off", sent.is_some())
                .field(
                    "route",
                    route.map_or("none", |prepared| prepared.route.name.as_str()),
                )
                .field(
                    "upstream",
                    route.map(|prepared| prepared.upstream.name.as_str()),
                )
                .field("endpoints_tried", ctx.tries)
                .field("error", cause.map(|error| error.etype().as_str()))
                .outside("cause", cause.map(cause_of).unwrap_or_default())
                .outside("method", session.req_header().method.as_str())
                .outside("path", session.req_header().uri.path())
                .field("peer", session.client_addr().map(ToString::to_string))
                .emit();
        }
        if sent.is_some() {
            // The connection is cut, so that nobody takes the rest for whole.
            return Ok(());
        }
        Reply::plain(status, detail, log_id).send(session).await
    }
}

/// The innermost cause: the layers around it would fill the line.
fn cause_of(error: &Error) -> String {
    let root = error.root_cause();
    // What went wrong in a handshake or took too long Pingora tells in its own words alone, and keeps
    // the address of our socket in the place of the cause.
    let is_cause =
        root.downcast_ref::<Error>().is_none() && !root.to_string().starts_with("local address ");
    let mut words = error.context.as_ref();
    let mut layer = error;
    while let Some(inner) = layer
        .cause
        .as_ref()
        .and_then(|cause| cause.downcast_ref::<Box<Error>>())
    {
        words = inner.context.as_ref().or(words);
        layer = inner;
    }
    match words {
        Some(words) if !is_cause => {
            let words = words.as_str();
            let (_, words) = words.rsplit_once("cause: ").unwrap_or(("", words));
            words.to_owned()
        }
        _ => root.to_string(),
    }
}

const fn reason_of(status: u16) -> &'static str {
    match status {
        404 => "no_route",
        408 => "request_timeout",
        502 => UPSTREAM_FAILED,
        504 => "upstream_timeout",
        500..=599 => "internal",
        _ => "bad_request",
    }
}

/// Whether an upstream that says nothing still waits for the end of the request, as we do: no fault
/// of its own.
fn waits_for_client(session: &mut Session, error: &Error, ctx: &RequestContext) -> bool {
    *error.etype() == ErrorType::ReadTimedout
        && *error.esource() == ErrorSource::Upstream
        && ctx.answered.is_none()
        && !session.as_downstream_mut().is_body_done()
}

const SLOW: (u16, &str) = (408, "the request did not arrive in time");

/// Status and text of a failure; status 0 when the client is gone.
fn failure_answer(error: &Error) -> (u16, &'static str) {
    match (error.etype(), error.esource()) {
        _ if Misframed::is_cause_of(error) => (400, "the request body is malformed"),
        (ErrorType::HTTPStatus(413), _) => (413, "the request body is too large"),
        (ErrorType::Custom(CRUMBLED), _) => (
            400,
            "the request body comes in too many tiny pieces; send larger ones",
        ),
        (ErrorType::HTTPStatus(502), _) => (502, "the upstream has no endpoint"),
        (ErrorType::HTTPStatus(status @ 400..=499), _) => {
            (*status, "the request is not acceptable")
        }
        (ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout, _) => {
            (504, "the upstream could not be reached in time")
        }
        (ErrorType::ReadTimedout | ErrorType::WriteTimedout, ErrorSource::Upstream) => {
            (504, "the upstream did not answer in time")
        }
        (_, ErrorSource::Upstream) => (502, "the upstream could not be reached or broke off"),
        (
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::ConnectionClosed
            // A stream that its client reset.
            | ErrorType::H2Error
            // A client that reads no longer.
            | ErrorType::WriteTimedout,
            ErrorSource::Downstream,
        ) => (0, ""),
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => SLOW,
        (_, ErrorSource::Downstream) => (400, "the request is malformed"),
        (_, ErrorSource::Internal | ErrorSource::Unset) => {
            (500, "the request could not be handled")
        }
    }
}
