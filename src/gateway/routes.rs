//! Routes: which request goes where, and what its token must allow.

use std::borrow::Cow;

use http::{HeaderName, Method};

use super::path::plain_form;

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

/// A path in the form by which routes are matched: all spellings of it are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainPath<'a>(Cow<'a, str>);

impl<'a> PlainPath<'a> {
    /// That of a canonical path. Allocates only when it holds a percent sign.
    #[must_use]
    pub fn of(canonical: &'a str) -> Self {
        Self(plain_form(canonical))
    }
}

/// A rule over the plain path; made by [`PathRule::exact`] and [`PathRule::prefix`] from what
/// somebody wrote.
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
    pub fn takes(&self, host: &str, path: &PlainPath<'_>, method: &Method) -> bool {
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

    /// The rule for a whole canonical path.
    #[must_use]
    pub fn exact(canonical: &str) -> Self {
        Self::Exact(plain_form(canonical).into_owned())
    }

    /// The rule for a canonical path and all below it.
    #[must_use]
    pub fn prefix(canonical: &str) -> Self {
        Self::Prefix(plain_form(canonical).into_owned())
    }

    /// Whether `path` falls under this rule.
    #[must_use]
    pub fn takes(&self, path: &PlainPath<'_>) -> bool {
        let path = &*path.0;
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
    use proptest::prelude::*;

    use super::super::path::canonical;
    use super::*;

    fn takes(rule: &PathRule, path: &str) -> bool {
        rule.takes(&PlainPath::of(path))
    }

    #[test]
    fn a_prefix_ends_on_a_segment_border() {
        let rule = PathRule::prefix("/api");
        for (path, taken) in [
            ("/api", true),
            ("/api/", true),
            ("/api/x", true),
            ("/apix", false),
            ("/", false),
            ("/x/api", false),
        ] {
            assert_eq!(takes(&rule, path), taken, "{path}");
        }
        let with_slash = PathRule::prefix("/api/");
        assert!(takes(&with_slash, "/api/x") && takes(&with_slash, "/api/"));
        assert!(!takes(&with_slash, "/apix"));
        assert!(takes(&PathRule::prefix("/"), "/anything"));
        assert_eq!(rule.template(), "/api/*");
        assert_eq!(with_slash.template(), "/api/*");
        assert_eq!(PathRule::prefix("/").template(), "/*");
        assert_eq!(PathRule::exact("/api").template(), "/api");
    }

    #[test]
    fn every_part_of_a_matcher_must_agree() {
        let matcher = Matcher {
            host: Some("a.test".to_owned()),
            path: PathRule::exact("/x"),
            methods: vec![Method::GET],
        };
        let takes = |host, path, method| matcher.takes(host, &PlainPath::of(path), &method);
        assert!(takes("a.test", "/x", Method::GET));
        assert!(takes("A.Test", "/x", Method::GET));
        assert!(!takes("b.test", "/x", Method::GET));
        assert!(!takes("a.test", "/x/", Method::GET));
        assert!(!takes("a.test", "/x", Method::HEAD));
    }

    /// A path byte by byte, and which of its bytes are to be encoded and in which case.
    fn spelt(path: &[u8], encoded: &[(bool, bool)]) -> String {
        let spell = |(byte, (encode, lower)): (&u8, &(bool, bool))| match (encode, lower) {
            _ if !byte.is_ascii_graphic() || b"\"<>[]^`{|}".contains(byte) => {
                format!("%{byte:02X}")
            }
            (true, true) => format!("%{byte:02x}"),
            (true, false) => format!("%{byte:02X}"),
            (false, _) => char::from(*byte).to_string(),
        };
        path.iter().zip(encoded).map(spell).collect()
    }

    /// Paths short enough, and of so few letters, that random rules often take them.
    fn path() -> impl Strategy<Value = String> {
        "(/[abA:@!$&'()*+,=~. \u{e9}|;%]{0,3}){1,3}"
    }

    fn choices() -> impl Strategy<Value = Vec<(bool, bool)>> {
        prop::collection::vec(any::<(bool, bool)>(), 64)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// However a path is spelt, it falls under the same rules or is refused; so does a rule.
        #[test]
        fn no_spelling_leads_to_another_route(
            path in path(),
            others in prop::collection::vec((path(), any::<bool>(), choices()), 0..4),
            one in choices(),
            two in choices(),
            own in any::<bool>(),
        ) {
            let spelling = |text: &str, how: &[(bool, bool)]| {
                let spelt = spelt(text.as_bytes(), how);
                let canonical = canonical(&spelt).ok()?;
                Some(canonical.unwrap_or(spelt))
            };
            let rules: Vec<PathRule> = others
                .iter()
                .map(|(text, exact, how)| (if own { &path } else { text }, exact, how))
                .filter_map(|(text, exact, how)| {
                    let text = spelling(text, how)?;
                    Some(if *exact { PathRule::exact(&text) } else { PathRule::prefix(&text) })
                })
                .collect();
            let route = |path: &str| rules.iter().position(|rule| takes(rule, path));
            if let (Some(one), Some(two)) = (spelling(&path, &one), spelling(&path, &two)) {
                prop_assert_eq!(route(&one), route(&two), "{} {}", one, two);
                prop_assert_eq!(PathRule::exact(&one), PathRule::exact(&two));
            }
        }
    }
}
