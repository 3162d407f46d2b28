//! The bridge from a Pingora session to a tower service: how an axum `Router` answers the
//! product's own endpoints (issuer, admin, health).
//!
//! Invariants: a request body never exceeds [`BridgeLimits::max_body`] in memory nor takes longer
//! than [`BridgeLimits::body_timeout`]; no single write waits longer than
//! [`BridgeLimits::write_timeout`]; a response cut short is never made to look complete; the
//! [`Hold`] of a response is dropped only after its last byte was handed to the transport.
//! May import `log_id` alone; used by the edges and by `listeners`.

mod body;
mod connection;
mod local;
mod misframed;
mod note;
mod refusal;
mod response;
mod stream;

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::time::timeout;
use tower::ServiceExt;

/// The methods that listeners know, as `Allow` names them (RFC 9110 §10.2.1).
pub const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

pub use body::discard;
pub use connection::ConnState;
pub use local::LocalApp;
pub use misframed::Misframed;
pub use note::AnswerNote;
pub use refusal::{REFUSED, Refusal, RefusalLog, show_log_id};
pub use stream::{Pieces, stream};

/// The downstream peer, in the extensions of every request the bridge hands to a router.
/// Absent when the transport has no internet address (an in-memory stream).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Whether the request came over TLS, in the extensions of every request the bridge hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverTls(pub bool);

/// Something that must outlive a response: a handler puts it into the response's extensions, and
/// it is dropped only when the whole response has been handed to the transport (on HTTP/1 the
/// operating system, on HTTP/2 the connection's send queue), or could not be.
#[derive(Clone)]
pub struct Hold {
    _kept: Arc<dyn Any + Send + Sync>,
}

impl Hold {
    /// Keeps `value` until the response that carries the hold is out.
    #[must_use]
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Self {
            _kept: Arc::new(value),
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

/// What one request to a local endpoint may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeLimits {
    /// Largest request body in bytes; a larger one is answered 413.
    pub max_body: usize,
    /// Time from the complete header to the last byte of the body; later is answered 408.
    pub body_timeout: Duration,
    /// Longest wait of one write for a client that does not read; then the connection is dropped.
    pub write_timeout: Duration,
}

impl Default for BridgeLimits {
    fn default() -> Self {
        Self {
            max_body: 64 * 1024,
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// How a request to a local endpoint ended.
#[derive(Clone, Debug)]
pub struct Served {
    /// Status that was sent; `None` when the client was gone before an answer could begin.
    pub status: Option<StatusCode>,
    /// Whether the whole answer was handed to the transport. When false the connection (on
    /// HTTP/2 the stream) is already unusable; the caller has nothing left to send.
    pub complete: bool,
    /// What the handler tells about its answer.
    pub note: Option<AnswerNote>,
}

/// A router together with the limits under which sessions may use it. Cheap to clone.
#[derive(Clone)]
pub struct Bridge {
    router: Router,
    limits: BridgeLimits,
    refusals: RefusalLog,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Bridge {
    /// A bridge to `router`. Answers that the bridge gives by itself (413, 408, 400) are told to
    /// `refusals`, which writes the log line that their Log ID points to.
    #[must_use]
    pub fn new(router: Router, limits: BridgeLimits, refusals: RefusalLog) -> Self {
        Self {
            router,
            limits,
            refusals,
        }
    }

    /// Serves the request whose header `session` has already read. From inside
    /// `ProxyHttp::request_filter`, return `Ok(true)` afterwards whatever the outcome.
    ///
    /// `stopping` ends answers of unknown length (event streams) when the service shuts down;
    /// without it they run until the client leaves. A handler is never cancelled because its
    /// client left, so a change of state runs to its end.
    pub async fn serve(
        &self,
        session: &mut ServerSession,
        stopping: Option<&ShutdownWatch>,
    ) -> Served {
        let bytes = match body::read(session, &self.limits).await {
            Ok(bytes) => bytes,
            Err(fault) => return self.refuse(session, fault).await,
        };
        let request = request(session, bytes);
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response::write(session, response, self.limits.write_timeout, stopping).await
    }

    async fn refuse(&self, session: &mut ServerSession, fault: body::Fault) -> Served {
        let Some((status, cause)) = fault.answer() else {
            return response::abandon(session, None).await;
        };
        let refusal = Refusal::new(status, cause, peer(session));
        (self.refusals)(&refusal);
        // The client may still be sending: the connection has no next request.
        session.set_keepalive(None);
        let timeout = self.limits.write_timeout;
        let served = response::write(session, refusal.response(), timeout, None).await;
        if served.complete {
            discard(session).await;
        }
        served
    }

    /// Answers a request whose header could not be parsed: the session then has no request that
    /// could be asked for anything.
    async fn refuse_malformed(&self, session: &mut ServerSession) {
        const CAUSE: &str = "the request header is not well-formed HTTP (RFC 9112 section 2.2)";
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, CAUSE, peer(session));
        (self.refusals)(&refusal);
        let body = refusal.problem();
        let (mut parts, _) = refusal.response().into_parts();
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let answer = session.write_error_response(ResponseHeader::from(parts), body.into());
        // The connection ends here in any case.
        let _written = timeout(self.limits.write_timeout, answer).await;
    }
}

fn request(session: &ServerSession, bytes: bytes::Bytes) -> Request<Body> {
    let mut request = Request::from_parts(session.req_header().as_owned_parts(), Body::from(bytes));
    let over_tls = session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some());
    request.extensions_mut().insert(OverTls(over_tls));
    if let Some(peer) = peer(session) {
        request.extensions_mut().insert(PeerAddr(peer));
    }
    request
}

fn peer(session: &ServerSession) -> Option<SocketAddr> {
    session.client_addr()?.as_inet().copied()
}
