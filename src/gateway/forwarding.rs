//! What the upstream is told beside the request itself: where it came from, and its trace.

use http::header::COOKIE;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{ErrorType, OrErr as _, Result};

use crate::http::ConnState;
use crate::telemetry::{RequestTrace, is_tracestate};

static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Continues the trace of the request. Without one, traces are off and the fields pass as they came.
/// A `tracestate` belongs to the trace of its sender, so it ends where that trace does.
pub(super) fn trace(trace: Option<RequestTrace>, request: &mut RequestHeader) -> Result<()> {
    let Some(trace) = trace else {
        return Ok(());
    };
    let states = request.headers.get_all(&TRACESTATE).iter();
    if trace.parent.is_none() || !is_tracestate(states.map(HeaderValue::as_bytes)) {
        request.remove_header(&TRACESTATE);
    }
    request.insert_header("traceparent", trace.onwards().to_string())
}

/// An HTTP/2 client may send its cookies in several fields; for HTTP/1 they are one (RFC 9113 §8.2.3).
pub(super) fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let mut cookies = request.headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else {
        return Ok(());
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined))
        .or_err(ErrorType::InvalidHTTPHeader, "the cookies together")?;
    request.insert_header(COOKIE, joined)
}

/// For a session that no guard made.
fn address_of(session: &Session) -> Option<HeaderValue> {
    let address = session.client_addr()?.as_inet()?.ip().to_canonical();
    HeaderValue::try_from(address.to_string()).ok()
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Says where the request came from and by which scheme. What a client says about itself is replaced
/// by what the connection says, and other fields of that kind are stripped with the identity headers.
/// A proxy whose word is taken (`from_proxy`) keeps what it said, and gets its own address behind it.
pub(super) fn forwarded(
    session: &Session,
    request: &mut RequestHeader,
    from_proxy: bool,
) -> Result<()> {
    let known = ConnState::with_current(|conn| conn.forwarded_for().cloned());
    match known.unwrap_or_else(|| address_of(session)) {
        Some(address) if from_proxy => {
            let chain = chain(request, &address);
            request.insert_header(&X_FORWARDED_FOR, chain)?;
        }
        Some(address) => request.insert_header(&X_FORWARDED_FOR, address)?,
        None => drop(request.remove_header(&X_FORWARDED_FOR)),
    }
    if from_proxy && has_one_scheme(request) {
        return Ok(());
    }
    let scheme = if is_tls(session) { "https" } else { "http" };
    request.insert_header(&X_FORWARDED_PROTO, HeaderValue::from_static(scheme))
}

/// Whether the request came over TLS, by its connection.
pub(super) fn is_tls(session: &Session) -> bool {
    session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some())
}

/// The addresses that the request brings, and `last` behind them, in one field.
fn chain(request: &RequestHeader, last: &HeaderValue) -> HeaderValue {
    let mut chain = Vec::new();
    for hops in request.headers.get_all(&X_FORWARDED_FOR) {
        chain.extend_from_slice(hops.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(last.as_bytes());
    // Values joined by commas are a value again.
    HeaderValue::from_bytes(&chain).unwrap_or_else(|_never| last.clone())
}

/// Whether `X-Forwarded-Proto` says one scheme, and none that nobody speaks here.
fn has_one_scheme(request: &RequestHeader) -> bool {
    let mut schemes = request.headers.get_all(&X_FORWARDED_PROTO).iter();
    let is_scheme = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"https") || value.eq_ignore_ascii_case(b"http")
    };
    schemes.next().is_some_and(is_scheme) && schemes.next().is_none()
}
