//! Identity headers: stripped in every spelling on every route, then set from verified claims.
//!
//! Runs after Pingora's own sanitising, so that a `Connection` header cannot remove what is set
//! here.

use http::HeaderName;
use http::header::{AUTHORIZATION, HeaderValue};
use pingora::http::RequestHeader;

use crate::token::Claims;

use super::routes::{IdentityClaim, Route};

/// Stripped even when no route sets them: origins believe them out of habit. The last three are
/// what a client says of its own address, and credentials that are meant for us.
const ALWAYS: [&str; 6] = [
    "x-auth-subject",
    "x-auth-client-id",
    "x-auth-scopes",
    "forwarded",
    "x-real-ip",
    "proxy-authorization",
];

/// The names that only the gateway may set.
#[derive(Debug)]
pub(super) struct IdentityHeaders {
    names: Vec<String>,
}

impl IdentityHeaders {
    /// The names that any of the routes sets.
    #[must_use]
    pub(super) fn of(routes: &[Route]) -> Self {
        let configured = routes.iter().flat_map(|route| &route.identity_headers);
        let names = configured.map(|(name, _)| name.as_str().to_owned());
        let mut names: Vec<String> = names.chain(ALWAYS.map(str::to_owned)).collect();
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    /// Removes every spelling of every identity header, and the credentials.
    pub(super) fn strip(&self, request: &mut RequestHeader, keep_token: bool) {
        let spoofed: Vec<HeaderName> = request
            .headers
            .keys()
            .filter(|name| self.names.iter().any(|own| same(own, name.as_str())))
            .cloned()
            .collect();
        for name in spoofed {
            request.remove_header(&name);
        }
        if !keep_token {
            request.remove_header(&AUTHORIZATION);
        }
    }
}

/// Whether two names in lower case are one to a reader that takes `_` for `-`.
fn same(own: &str, other: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte };
    own.len() == other.len() && own.bytes().map(fold).eq(other.bytes().map(fold))
}

/// Sets a route's identity headers. Claims were checked to be header-safe at verification.
///
/// # Errors
/// When a claim cannot be a field value after all.
pub(super) fn set(
    request: &mut RequestHeader,
    headers: &[(HeaderName, IdentityClaim)],
    claims: &Claims,
) -> pingora::Result<()> {
    for (name, claim) in headers {
        let value = HeaderValue::from_str(claim.of(claims)).map_err(|cause| {
            pingora::Error::because(
                pingora::ErrorType::InternalError,
                "a claim is not a field value",
                cause,
            )
        })?;
        request.insert_header(name.clone(), value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn strips_every_spelling_and_the_credentials() {
        let identity = IdentityHeaders::of(&[]);
        let mut request = RequestHeader::build(Method::GET, b"/", None).unwrap();
        for name in [
            "X-Auth-Subject",
            "x_auth_subject",
            "X_Auth-Client_Id",
            "Authorization",
            "Proxy-Authorization",
            "Forwarded",
            "X-Real_IP",
            "X-Other",
        ] {
            request.append_header(name, "v").unwrap();
            request.append_header(name, "w").unwrap();
        }
        identity.strip(&mut request, false);
        let left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-other"]);
    }
}
