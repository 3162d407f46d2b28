//! Names, scopes, methods and header fields: text → value, each with its rule. Imports only the
//! error type, `net` and `units`.

use std::path::PathBuf;

use http::{HeaderName, Method};

use crate::clients::client::is_scope;
use crate::clients::{ClientId, ClientIdError};
use crate::gateway::routes::IdentityClaim;
use crate::keys::Algorithm;

use super::error::Broken;
use super::net::is_dns_name;
use super::units;

/// A name of ours: of a route, an upstream, an admin token. It becomes a metric label.
pub(super) fn name(text: &str) -> Result<String, Broken> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Broken::new(
        "a name is 1 to 64 characters of A-Z a-z 0-9 _ -",
        "choose a name of these characters",
    ))
}

/// A file path; relative ones are relative to the working directory.
pub(super) fn file(text: &str) -> Result<PathBuf, Broken> {
    let printable = !text.chars().any(char::is_control);
    if (1..=1024).contains(&text.len()) && printable {
        return Ok(PathBuf::from(text));
    }
    Err(Broken::new(
        "a file path is 1 to 1024 bytes without control characters",
        "write the path of a file, relative to the working directory or absolute",
    ))
}

/// A scope token (RFC 6749 §3.3).
pub(super) fn scope(text: &str) -> Result<String, Broken> {
    if is_scope(text) {
        return Ok(text.to_owned());
    }
    Err(Broken::new(
        "a scope is 1 to 128 printable ASCII characters without space, `\"` and `\\` (RFC 6749 §3.3)",
        "write each scope as an item of its own: `[read, write]`",
    ))
}

/// A value of the `aud` claim.
pub(super) fn audience(text: &str) -> Result<String, Broken> {
    if (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(Broken::new(
        "an audience is 1 to 256 printable ASCII characters without spaces",
        "write each audience as an item of its own: `[api, billing]`",
    ))
}

/// `client_id` (RFC 6749 appendix A.1), without the colon that ends it in HTTP Basic.
pub(super) fn client_id(text: &str) -> Result<String, Broken> {
    let id: ClientId = text.parse().map_err(|error: ClientIdError| {
        Broken::new(error.to_string(), "choose an id of these characters")
    })?;
    if id.is_dots() {
        return Err(Broken::new(
            "a client id is neither `.` nor `..`: no URL can name it",
            "choose another id",
        ));
    }
    Ok(id.into())
}

/// The name that an upstream's certificate must carry.
pub(super) fn server_name(text: &str) -> Result<String, Broken> {
    if is_dns_name(text) || text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(Broken::new(
        "a server name is a DNS name or an IP address, without brackets and port",
        "write the name that stands in the upstream's certificate",
    ))
}

/// A name by which browsers ask for a listener of ours; in lower case.
pub(super) fn host_name(text: &str) -> Result<String, Broken> {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(Broken::new(
            "addresses need no entry: a listener may always be asked by its address",
            "remove it, or write a DNS name",
        ));
    }
    if is_dns_name(text) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Broken::new(
        "a host is a DNS name without scheme, port and wildcard",
        "write each name as an item of its own: `[admin.example.com]`",
    ))
}

/// A method that a route can take; the edge refuses TRACE and CONNECT anyway.
pub(super) fn method(text: &str) -> Result<Method, Broken> {
    units::word(
        text,
        &[
            ("GET", Method::GET),
            ("HEAD", Method::HEAD),
            ("POST", Method::POST),
            ("PUT", Method::PUT),
            ("PATCH", Method::PATCH),
            ("DELETE", Method::DELETE),
            ("OPTIONS", Method::OPTIONS),
        ],
    )
}

/// A header field that we may set from a claim.
pub(super) fn identity_header(text: &str) -> Result<HeaderName, Broken> {
    const TAKEN: [&str; 26] = [
        "authorization",
        "age",
        "alt-svc",
        "cache-control",
        "connection",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "from",
        "host",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "referer",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "www-authenticate",
    ];
    const TAKEN_PREFIXES: [&str; 7] = [
        "accept",
        "access-control-",
        "content-",
        "if-",
        "proxy-",
        "sec-",
        "x-forwarded-",
    ];
    if text.contains('_') {
        return Err(Broken::new(
            "a header name holds no `_`: some upstreams read it as `-`",
            format!("write `{}`", text.replace('_', "-")),
        ));
    }
    let parsed = HeaderName::from_bytes(text.as_bytes()).ok();
    let Some(header) = parsed.filter(|_| text.len() <= 64) else {
        return Err(Broken::new(
            "a header name is a token of at most 64 characters (RFC 9110 §5.1)",
            "write for example `X-Auth-Subject`",
        ));
    };
    let lower = header.as_str();
    if TAKEN.contains(&lower)
        || TAKEN_PREFIXES
            .iter()
            .any(|prefix| lower.starts_with(prefix))
    {
        return Err(Broken::new(
            "an identity header must not be a field that HTTP itself or proxies use",
            "write a name of your own, for example `X-Auth-Subject`",
        ));
    }
    Ok(header)
}

/// A claim that can be put into a header field.
pub(super) fn identity_claim(text: &str) -> Result<IdentityClaim, Broken> {
    units::word(
        text,
        &[
            ("sub", IdentityClaim::Subject),
            ("client_id", IdentityClaim::ClientId),
            ("scope", IdentityClaim::Scope),
            ("iss", IdentityClaim::Issuer),
            ("jti", IdentityClaim::TokenId),
        ],
    )
}

/// The algorithm of new signing keys.
pub(super) fn algorithm(text: &str) -> Result<Algorithm, Broken> {
    let known = Algorithm::ALL.map(|algorithm| (algorithm.as_str(), algorithm));
    units::word(text, &known)
}
