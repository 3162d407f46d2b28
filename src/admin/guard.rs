//! The middleware in front of every endpoint: who is let in, and the security headers.
//!
//! Order: no token in the URL, a Host of ours (DNS rebinding), no other origin behind a change
//! (CSRF), then the credential, an admin token or a session cookie, then a query that the operation
//! knows. Each refusal is counted under a
//! reason of its own and logged with its Log ID. The right token is never throttled.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::clock::Timestamp;
use crate::http::PeerAddr;
use crate::telemetry::CodeClass;

use super::auth::{AdminCredential, Authenticator, Operator};
#[cfg(debug_assertions)]
use super::error::Refused;
use super::error::{ApiError, answering};
use super::origin::is_safe;
use super::session::{Session, Sessions};
use super::{AdminParts, console, cookie, table};

/// Marks a request that the page sends by itself: it does not keep the session from standing idle.
const BACKGROUND: &str = "x-portcullis-background";

/// The stream of events runs for as long as the page is open, used or not.
const EVENTS: &str = "/admin/v1/events";

const HEADERS: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Where a request comes from, in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// Absent when the transport has no internet address.
    pub(super) peer: Option<IpAddr>,
    /// Whether the browser speaks TLS, be it to us or to a proxy in front.
    pub(super) secure: bool,
}

/// Lets a request through or refuses it; also counts it and adds the security headers.
pub(super) async fn guard(
    State(parts): State<Arc<AdminParts>>,
    mut request: Request,
    next: Next,
) -> Response {
    let endpoint = table::endpoint_label(request.uri().path());
    #[cfg(debug_assertions)]
    let asked = (request.method().clone(), request.uri().path().to_owned());
    let caller = Caller {
        peer: peer(&request),
        secure: parts.origins.is_secure(&request),
    };
    let mut response = match admit(&parts, caller, &request) {
        Ok(operator) => {
            let extensions = request.extensions_mut();
            extensions.insert(caller);
            match operator {
                Some(operator) => {
                    let name = operator.name.clone();
                    extensions.insert(operator);
                    answering(name, next.run(request)).await
                }
                None => next.run(request).await,
            }
        }
        Err(error) => error.answer(&parts),
    };
    #[cfg(debug_assertions)]
    {
        let code = response.extensions().get::<Refused>().map(|of| of.0);
        let wrong = table::undocumented(&asked.0, &asked.1, response.status().as_u16(), code);
        debug_assert_eq!(wrong, None, "the OpenAPI document");
    }
    parts
        .metrics
        .admin_request(endpoint, CodeClass::of(response.status().as_u16()));
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Who sends the request; `None` where it does not matter.
fn admit(
    parts: &AdminParts,
    caller: Caller,
    request: &Request,
) -> Result<Option<Operator>, ApiError> {
    if request.uri().query().is_some_and(names_a_secret) {
        return Err(ApiError::token_in_url());
    }
    if !parts.origins.is_ours(request) {
        return Err(ApiError::misdirected());
    }
    if !is_safe(request.method()) && !parts.origins.is_not_foreign(request) {
        return Err(ApiError::cross_origin());
    }
    let operator = if is_for_anybody(request) {
        None
    } else if request.headers().contains_key(AUTHORIZATION) {
        Some(by_token(parts, caller, request.headers())?)
    } else {
        Some(by_cookie(parts, caller, request)?)
    };
    check_query(request).map(|()| operator)
}

/// What is misspelt in a query must not be left out in silence.
fn check_query(request: &Request) -> Result<(), ApiError> {
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    match table::unknown_in_query(request.method(), uri.path(), query) {
        None => Ok(()),
        Some((name, known)) => Err(ApiError::unknown_in_query(&name, known)),
    }
}

/// The console's files and the description of the API hold no data, and signing in is how a credential
/// comes about.
fn is_for_anybody(request: &Request) -> bool {
    let path = request.uri().path();
    console::is_console(path) || table::is_open(request.method(), path)
}

fn by_token(parts: &AdminParts, caller: Caller, headers: &HeaderMap) -> Result<Operator, ApiError> {
    let token = bearer(headers).ok_or_else(ApiError::unauthenticated)?;
    credential(parts, token, caller.peer).map(Operator::of_token)
}

/// The credential of a token. A wrong one is noted.
pub(super) fn credential<'a>(
    parts: &'a AdminParts,
    token: &[u8],
    peer: Option<IpAddr>,
) -> Result<&'a AdminCredential, ApiError> {
    if let Some(credential) = parts.authenticator.find(token) {
        return Ok(credential);
    }
    let unknown = IpAddr::from([0, 0, 0, 0]);
    let failed = parts
        .authenticator
        .failed(peer.unwrap_or(unknown), Instant::now());
    Err(match failed {
        Some(wait) => ApiError::throttled(wait),
        None => ApiError::wrong_token(),
    })
}

fn by_cookie(parts: &AdminParts, caller: Caller, request: &Request) -> Result<Operator, ApiError> {
    let text =
        cookie::read(request.headers(), caller.secure).ok_or_else(ApiError::unauthenticated)?;
    let now = parts.clock.now();
    let (credential, session) = signed_in(&parts.authenticator, &parts.sessions, text, now)
        .ok_or_else(ApiError::session_ended)?;
    let safe = is_safe(request.method());
    if !parts.origins.is_not_foreign(request) {
        return Err(ApiError::cross_origin());
    }
    if !safe && !parts.origins.is_from_page(request) {
        return Err(ApiError::not_from_page());
    }
    let by_itself = request.headers().contains_key(BACKGROUND) || request.uri().path() == EVENTS;
    if !(safe && by_itself) {
        session.touch(now);
    }
    Ok(Operator::of_session(credential, session))
}

/// The session that a cookie names, and whose it is. With its credential a session ends.
fn signed_in<'a>(
    authenticator: &'a Authenticator,
    sessions: &Sessions,
    text: &str,
    now: Timestamp,
) -> Option<(&'a AdminCredential, Arc<Session>)> {
    let session = sessions.find(text.as_bytes(), now)?;
    let credential = authenticator.by_digest(session.credential());
    if credential.is_none() {
        sessions.end(&session);
    }
    Some((credential?, session))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Whether a query holds a parameter that is meant for a credential, however its name is spelt.
fn names_a_secret(query: &str) -> bool {
    const NAMES: [&str; 17] = [
        "accesstoken",
        "admintoken",
        "apikey",
        "apitoken",
        "auth",
        "authorization",
        "authtoken",
        "bearer",
        "bearertoken",
        "clientsecret",
        "idtoken",
        "password",
        "portcullissession",
        "secret",
        "sessionid",
        "sessiontoken",
        "token",
    ];
    let mut pairs = query
        .split(';')
        .flat_map(|part| form_urlencoded::parse(part.as_bytes()));
    pairs.any(|(name, _)| {
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        let name: String = letters.map(|c| c.to_ascii_lowercase()).collect();
        NAMES.contains(&name.as_str())
    })
}

fn peer(request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<PeerAddr>();
    peer.map(|peer| peer.0.ip())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::rand::SystemRandom;

    use super::*;
    use crate::admin::{Role, SessionLimits};

    #[test]
    fn a_session_ends_with_its_credential() {
        let token =
            |name: &str| AdminCredential::of_token(name.to_owned(), Role::Admin, name.as_bytes());
        let sessions = Sessions::new(SessionLimits {
            idle_timeout: Duration::from_secs(60),
            lifetime: Duration::from_secs(60),
        });
        let now = Timestamp::from_seconds(1_700_000_000);
        let (text, session) = sessions
            .open(&token("alice"), &SystemRandom::new(), now)
            .unwrap();
        let both = Authenticator::new(vec![token("alice"), token("bob")]);
        let (credential, _) = signed_in(&both, &sessions, &text, now).unwrap();
        assert_eq!(credential.name, "alice");
        let operator = Operator::of_session(credential, session);
        assert!(operator.is_signed_in(now));
        let bob = Authenticator::new(vec![token("bob")]);
        assert!(signed_in(&bob, &sessions, &text, now).is_none());
        assert!(!operator.is_signed_in(now), "streams end as well");
        assert!(signed_in(&both, &sessions, &text, now).is_none());
        assert!(Operator::of_token(&token("alice")).is_signed_in(now));
    }

    #[test]
    fn credentials_in_a_query_are_seen_however_they_are_spelt() {
        for bad in [
            "token=x",
            "limit=1&access_token=x",
            "Admin-Token=x",
            "admin%5Ftoken=x",
            "%74oken=x",
            "token",
            "a=1;token=x",
            "API_KEY=",
            "token[]=x",
        ] {
            assert!(names_a_secret(bad), "{bad}");
        }
        for good in [
            "",
            "limit=100&after=token",
            "purge=true&kids=a,b",
            "tokens=1",
            "live_tokens=1",
        ] {
            assert!(!names_a_secret(good), "{good}");
        }
    }
}
