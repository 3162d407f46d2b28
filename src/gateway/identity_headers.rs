//! Identity headers: stripped in every spelling on every route, then set from verified claims. With them
//! go the fields by which a client could tell the service another request than the one that was judged.
//!
//! Runs after Pingora's own sanitising, so that a `Connection` header cannot remove what is set
//! here.

use http::HeaderName;
use http::header::{AUTHORIZATION, HeaderValue};
use pingora::http::RequestHeader;

use crate::token::Claims;

use super::routes::{IdentityClaim, Route};

/// Stripped even when no route sets them: origins believe them out of habit. The others are what a
/// client says of its own address, credentials that are meant for us, and another path than the one
/// that was judged, which some frameworks take instead. No proxy may say who somebody is either.
const ALWAYS: [&str; 14] = [
    "x-auth-subject",
    "x-auth-client-id",
    "x-auth-scopes",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "forwarded",
    "x-real-ip",
    "proxy-authorization",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
];

/// Another method than the one that was judged; stripped where a route takes only some methods.
const METHODS: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// What a proxy before us would say of the request: its host, its path, its port. Only one whose word
/// is taken may; what is ours to say is set afterwards.
const OF_PROXIES: &str = "x-forwarded-";

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
        if routes.iter().any(|route| !route.matcher.methods.is_empty()) {
            names.extend(METHODS.map(str::to_owned));
        }
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    fn is_stripped(&self, name: &str, from_proxy: bool) -> bool {
        self.names.iter().any(|own| same(own, name))
            || (!from_proxy
                && name
                    .get(..OF_PROXIES.len())
                    .is_some_and(|start| same(OF_PROXIES, start)))
    }

    /// Removes every spelling of every identity header, and the credentials. A request that came from
    /// a proxy whose word is taken keeps what that says of it.
    pub(super) fn strip(&self, request: &mut RequestHeader, keep_token: bool, from_proxy: bool) {
        let spoofed: Vec<HeaderName> = request
            .headers
            .keys()
            .filter(|name| self.is_stripped(name.as_str(), from_proxy))
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
        let value = claim.of(claims);
        // A token of a former system need not have one; what a client sent is stripped already.
        if *claim == IdentityClaim::TokenId && value.is_empty() {
            continue;
        }
        let value = HeaderValue::from_str(value).map_err(|cause| {
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
        identity.strip(&mut request, false, false);
        let left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-other"]);
    }

    #[test]
    fn strips_what_would_be_another_request() {
        let plain = || IdentityHeaders::of(&[]);
        let route = |methods| Route {
            name: "a".to_owned(),
            matcher: super::super::routes::Matcher {
                host: None,
                path: super::super::routes::PathRule::Prefix("/".to_owned()),
                methods,
            },
            auth: super::super::routes::Auth::None,
            identity_headers: Vec::new(),
            forward_token: false,
            upstream: "a".to_owned(),
        };
        for (name, stripped) in [
            ("x-original-url", true),
            ("x_rewrite_url", true),
            ("x-forwarded-host", true),
            ("x_forwarded_host", true),
            ("x-forwarded-anything", true),
            ("x-forwarded", false),
            ("x-http-method-override", false),
        ] {
            assert_eq!(plain().is_stripped(name, false), stripped, "{name}");
        }
        for (name, stripped) in [
            ("x-forwarded-host", false),
            ("x-forwarded-proto", false),
            ("x-rewrite-url", true),
            ("x-forwarded-user", true),
            ("x_forwarded-email", true),
            ("x-forwarded-groups", true),
            ("x-forwarded-preferred_username", true),
            ("x-forwarded-access-token", true),
        ] {
            assert_eq!(plain().is_stripped(name, true), stripped, "{name}");
        }
        let by_method = IdentityHeaders::of(&[route(Vec::new()), route(vec![Method::GET])]);
        assert!(by_method.is_stripped("x-http-method-override", true));
        let of_every_method = IdentityHeaders::of(&[route(Vec::new())]);
        assert!(!of_every_method.is_stripped("x-http-method-override", false));
    }
}
