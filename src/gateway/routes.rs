//! Routes: which request goes where, and what its token must allow.

use http::{HeaderName, Method};

/// The proxied routes in order; the first match wins, no match is 404.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name shown in metrics and logs.
    pub name: String,
    /// Which requests this route takes.
    pub matcher: Matcher,
    /// What the route demands of the token.
    pub auth: Auth,
    /// Header fields set from verified claims.
    pub identity_headers: Vec<(HeaderName, IdentityClaim)>,
    /// Whether the upstream receives the `Authorization` header.
    pub forward_token: bool,
    /// Name of the upstream.
    pub upstream: String,
}

/// Which requests a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// Lower-case host without port; `None` takes every host.
    pub host: Option<String>,
    /// The path rule.
    pub path: PathRule,
    /// Methods; empty takes every method.
    pub methods: Vec<Method>,
}

/// A rule over the canonical path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// The whole path.
    Exact(String),
    /// The path or anything below it, on a segment border.
    Prefix(String),
}

/// What a route demands of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Public: said explicitly in the configuration.
    None,
    /// A bearer token (RFC 6750).
    Bearer(crate::token::RouteRules),
}

/// A verified claim that may be put into a header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityClaim {
    /// `sub`
    Subject,
    /// `client_id`
    ClientId,
    /// `scope`
    Scope,
    /// `iss`
    Issuer,
    /// `jti`
    TokenId,
}

impl Matcher {
    /// Whether the request is this route's. `host` has no port.
    #[must_use]
    pub fn takes(&self, host: &str, path: &str, method: &Method) -> bool {
        self.host
            .as_deref()
            .is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            && self.path.takes(path)
            && (self.methods.is_empty() || self.methods.contains(method))
    }
}

impl PathRule {
    /// How spans show what it takes: `/path`, or `/path/*` for a path and what lies below it.
    #[must_use]
    pub fn template(&self) -> String {
        match self {
            Self::Exact(exact) => exact.clone(),
            Self::Prefix(prefix) => format!("{}/*", prefix.strip_suffix('/').unwrap_or(prefix)),
        }
    }

    /// Whether `path`, a canonical path, falls under this rule.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => {
                let base = prefix.strip_suffix('/').unwrap_or(prefix);
                path.strip_prefix(base)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl IdentityClaim {
    /// The claim's value in a verified token.
    #[must_use]
    pub fn of(self, claims: &crate::token::Claims) -> &str {
        match self {
            Self::Subject => &claims.subject,
            Self::ClientId => &claims.client_id,
            Self::Scope => &claims.scope,
            Self::Issuer => &claims.issuer,
            Self::TokenId => &claims.token_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_on_a_segment_border() {
        let rule = PathRule::Prefix("/api".to_owned());
        assert!(rule.takes("/api") && rule.takes("/api/") && rule.takes("/api/x"));
        assert!(!rule.takes("/apix") && !rule.takes("/") && !rule.takes("/x/api"));
        let with_slash = PathRule::Prefix("/api/".to_owned());
        assert!(
            with_slash.takes("/api/x") && with_slash.takes("/api/") && !with_slash.takes("/apix")
        );
        assert!(PathRule::Prefix("/".to_owned()).takes("/anything"));
        assert_eq!(rule.template(), "/api/*");
        assert_eq!(with_slash.template(), "/api/*");
        assert_eq!(PathRule::Prefix("/".to_owned()).template(), "/*");
        assert_eq!(PathRule::Exact("/api".to_owned()).template(), "/api");
    }

    #[test]
    fn every_part_of_a_matcher_must_agree() {
        let matcher = Matcher {
            host: Some("a.test".to_owned()),
            path: PathRule::Exact("/x".to_owned()),
            methods: vec![Method::GET],
        };
        assert!(matcher.takes("a.test", "/x", &Method::GET));
        assert!(matcher.takes("A.Test", "/x", &Method::GET));
        assert!(!matcher.takes("b.test", "/x", &Method::GET));
        assert!(!matcher.takes("a.test", "/x/", &Method::GET));
        assert!(!matcher.takes("a.test", "/x", &Method::HEAD));
    }
}
