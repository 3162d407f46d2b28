//! Who may do what on the admin listener.
//!
//! Every request is checked in this order: Host (DNS rebinding), origin of unsafe requests (CSRF),
//! token. Wrong tokens are throttled per address; the right one always gets through, so that
//! nobody can lock an operator out of an emergency purge.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use crate::http::PeerAddr;
use crate::telemetry::CodeClass;

use super::AdminParts;
use super::error::ApiError;
#[cfg(debug_assertions)]
use super::error::Refused;
use super::table;

/// Wrong tokens that one address may send in [`WINDOW`] before it is told to wait.
const MAX_FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Most addresses remembered; beyond it the oldest is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// What an admin token allows; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees.
    Viewer,
    /// Rotates.
    Operator,
    /// Purges.
    Admin,
}

impl Role {
    /// Configuration and API value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// One admin token, as its SHA-256.
#[derive(Clone)]
pub struct AdminCredential {
    /// Who it is, for the audit.
    pub name: String,
    /// What it allows.
    pub role: Role,
    digest: [u8; 32],
}

impl AdminCredential {
    /// The credential of a plain token.
    #[must_use]
    pub fn of_token(name: String, role: Role, token: &[u8]) -> Self {
        Self {
            name,
            role,
            digest: sha256(token),
        }
    }

    /// The credential of a token whose SHA-256 is known.
    #[must_use]
    pub const fn of_digest(name: String, role: Role, digest: [u8; 32]) -> Self {
        Self { name, role, digest }
    }
}

impl fmt::Debug for AdminCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminCredential")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The operator behind a request, in its extensions.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    pub(super) name: String,
    pub(super) role: Role,
}

impl Operator {
    /// Refuses an operator of a lower role.
    pub(super) fn needs(&self, role: Role) -> Result<(), ApiError> {
        if self.role < role {
            Err(ApiError::forbidden(self.role, role))
        } else {
            Ok(())
        }
    }
}

/// Checks admin tokens.
#[derive(Debug)]
pub struct Authenticator {
    credentials: Vec<AdminCredential>,
    failures: Mutex<HashMap<IpAddr, Vec<Instant>>>,
}

impl Authenticator {
    /// An authenticator of these credentials.
    #[must_use]
    pub fn new(credentials: Vec<AdminCredential>) -> Self {
        Self {
            credentials,
            failures: Mutex::default(),
        }
    }

    /// Compares with every credential in constant time, so that neither length nor position leaks.
    fn find(&self, token: &[u8]) -> Option<&AdminCredential> {
        let presented = sha256(token);
        self.credentials.iter().fold(None, |found, credential| {
            let equal: bool = credential.digest.ct_eq(&presented).into();
            if equal { Some(credential) } else { found }
        })
    }

    /// Notes a wrong token; `Some(wait)` when the address has had its tries.
    fn failed(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address) {
            let oldest = failures
                .iter()
                .min_by_key(|(_, times)| times.last().copied());
            if let Some(address) = oldest.map(|(address, _)| *address) {
                failures.remove(&address);
            }
        }
        let times = failures.entry(address).or_default();
        times.retain(|at| now.duration_since(*at) < WINDOW);
        if times.len() >= MAX_FAILURES {
            let first = times.first().copied().unwrap_or(now);
            return Some(WINDOW.saturating_sub(now.duration_since(first)));
        }
        times.push(now);
        None
    }
}

/// The digest in `sha256:` and 64 hexadecimal digits, the form of a `hash_file`.
#[must_use]
pub fn parse_token_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?;
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The `hash_file` form of a token.
#[must_use]
pub fn token_hash(token: &[u8]) -> String {
    let digits: String = sha256(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digits}")
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The middleware in front of every endpoint; also counts and adds the security headers.
pub(super) async fn guard(
    State(parts): State<Arc<AdminParts>>,
    mut request: Request,
    next: Next,
) -> Response {
    let endpoint = table::endpoint_label(request.uri().path());
    #[cfg(debug_assertions)]
    let asked = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match authorize(&parts, &request) {
        Ok(operator) => {
            if let Some(operator) = operator {
                request.extensions_mut().insert(operator);
            }
            next.run(request).await
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
    for (name, value) in [
        ("cache-control", "no-store"),
        (
            "content-security-policy",
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Who asks; nobody where nobody is asked for.
fn authorize(parts: &AdminParts, request: &Request) -> Result<Option<Operator>, ApiError> {
    let headers = request.headers();
    if !is_host_allowed(
        headers,
        request.uri().authority().map(http::uri::Authority::as_str),
    ) {
        return Err(ApiError::misdirected());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) && !is_same_origin(headers) {
        return Err(ApiError::cross_origin());
    }
    if table::is_open(request.method(), request.uri().path()) {
        return Ok(None);
    }
    let token = bearer(headers).ok_or_else(ApiError::unauthenticated)?;
    if let Some(credential) = parts.authenticator.find(token) {
        return Ok(Some(Operator {
            name: credential.name.clone(),
            role: credential.role,
        }));
    }
    let unknown = IpAddr::from([0, 0, 0, 0]);
    let address = request
        .extensions()
        .get::<PeerAddr>()
        .map_or(unknown, |peer| peer.0.ip());
    match parts.authenticator.failed(address, Instant::now()) {
        Some(wait) => Err(ApiError::throttled(wait)),
        None => Err(ApiError::wrong_token()),
    }
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

/// DNS rebinding needs a name: an address literal, or `localhost`, cannot be rebound.
fn is_host_allowed(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts
        .next()
        .and_then(|host| host.to_str().ok())
        .or(authority);
    let Some(host) = host.filter(|_| hosts.next().is_none()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// A browser says where an unsafe request comes from; a tool says nothing.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let origin_ok = headers.get(ORIGIN).is_none_or(|origin| {
        let authority = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        authority.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    });
    let site_ok = headers
        .get("sec-fetch-site")
        .is_none_or(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    origin_ok && site_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_failure_within_a_minute_waits() {
        let authenticator = Authenticator::new(Vec::new());
        let (start, address) = (Instant::now(), IpAddr::from([127, 0, 0, 1]));
        for second in 0..5 {
            assert_eq!(
                authenticator.failed(address, start + Duration::from_secs(second)),
                None
            );
        }
        let wait = authenticator.failed(address, start + Duration::from_secs(10));
        assert_eq!(wait, Some(Duration::from_secs(50)));
        assert_eq!(
            authenticator.failed(IpAddr::from([127, 0, 0, 2]), start),
            None
        );
        assert_eq!(
            authenticator.failed(address, start + Duration::from_secs(61)),
            None
        );
    }

    #[test]
    fn only_addresses_and_localhost_are_hosts_of_ours() {
        let allowed = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            is_host_allowed(&headers, None)
        };
        for good in [
            "localhost",
            "LOCALHOST:9901",
            "127.0.0.1:9901",
            "[::1]:9901",
            "10.0.0.1",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "evil.test",
            "evil.test:9901",
            "127.0.0.1.evil.test",
            "",
            "localhost.evil.test",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn finds_the_token_and_nothing_else() {
        let credential = AdminCredential::of_token("ops".to_owned(), Role::Operator, b"secret");
        let authenticator = Authenticator::new(vec![credential]);
        assert_eq!(authenticator.find(b"secret").unwrap().name, "ops");
        assert!(authenticator.find(b"secre").is_none());
        assert!(authenticator.find(b"").is_none());
    }
}
