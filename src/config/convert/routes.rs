//! `routes`: what goes where, and what its token must allow.

use http::HeaderName;

use crate::config::error::Broken;
use crate::config::forms::{Named, Scalar, WordOr};
use crate::config::path::KeyPath;
use crate::config::raw::{RawAuth, RawMatch, RawRoute};
use crate::config::{names, suggest, units, urls};
use crate::gateway::routes::{Auth, IdentityClaim, Matcher, PathRule, Route};
use crate::telemetry::{ISSUER_ROUTE, NO_ROUTE};
use crate::token::RouteRules;

use super::upstreams::Upstreams;
use super::{Cx, shadow};

/// Most routes; each is a metric label.
const MAX_ROUTES: usize = 512;

/// What metrics call requests that no configured route takes.
const RESERVED_NAMES: [&str; 2] = [ISSUER_ROUTE, NO_ROUTE];

/// Most identity headers of one route.
const MAX_IDENTITY_HEADERS: usize = 16;

/// Most scopes or audiences in one rule.
const MAX_RULE_ITEMS: usize = 32;

pub(super) fn routes(
    cx: &mut Cx<'_>,
    raw: Option<Vec<RawRoute>>,
    issuer_audience: &[String],
    upstreams: &Upstreams,
) -> Vec<Route> {
    let at = KeyPath::root().key("routes");
    let raw = raw.unwrap_or_default();
    cx.bound(&at, raw.len(), MAX_ROUTES);
    let mut routes: Vec<Route> = Vec::new();
    for (index, one) in raw.iter().enumerate().take(MAX_ROUTES) {
        let at = at.index(index);
        let Some(route) = route(cx, one, &at, issuer_audience, upstreams) else {
            continue;
        };
        if RESERVED_NAMES.contains(&route.name.as_str()) {
            cx.refuse(
                &at.key("name"),
                one.name.as_ref(),
                format!(
                    "{} are names of our own in metrics",
                    suggest::listed(&RESERVED_NAMES)
                ),
                "give the route another name",
            );
        }
        if routes.iter().any(|other| other.name == route.name) {
            cx.refuse(
                &at.key("name"),
                one.name.as_ref(),
                "a route name stands only once",
                "give it another name: metrics tell routes apart by it",
            );
        }
        if let Some(earlier) = routes
            .iter()
            .find(|earlier| shadow::covers(&earlier.matcher, &route.matcher))
        {
            let spelt_alike = earlier.matcher.path != route.matcher.path
                || raw.iter().take(index + 1).all(|raw| !is_encoded(raw));
            let rule = format!(
                "a route must be reachable; the earlier route `{}` takes every request that this one could{}",
                earlier.name,
                if spelt_alike {
                    ""
                } else {
                    ": a character and its percent-encoding are one"
                }
            );
            cx.refuse(
                &at.key("match"),
                None,
                rule,
                "put the narrower route first: the first match wins",
            );
        }
        routes.push(route);
    }
    routes
}

/// Whether a percent sign stands in its path.
fn is_encoded(raw: &RawRoute) -> bool {
    raw.r#match.as_ref().is_some_and(|raw| {
        [&raw.path, &raw.prefix]
            .into_iter()
            .flatten()
            .any(|text| text.0.contains('%'))
    })
}

fn route(
    cx: &mut Cx<'_>,
    raw: &RawRoute,
    at: &KeyPath,
    issuer_audience: &[String],
    upstreams: &Upstreams,
) -> Option<Route> {
    let name = cx.required(
        &at.key("name"),
        raw.name.as_ref(),
        "write a name for metrics and logs, such as `name: api`",
        names::name,
    );
    let matcher = matcher(cx, raw.r#match.as_ref(), &at.key("match"));
    let auth = auth(cx, raw.auth.as_ref(), &at.key("auth"), issuer_audience);
    let headers_at = at.key("identity_headers");
    let identity_headers = identity_headers(cx, raw.identity_headers.as_ref(), &headers_at);
    if auth == Some(Auth::None) && !identity_headers.is_empty() {
        cx.refuse(
            &headers_at,
            None,
            "a public route has no verified claims to put into headers",
            "remove `identity_headers`, or demand a token: `auth: {}`",
        );
    }
    let forward_token = cx.maybe(
        &at.key("forward_token"),
        raw.forward_token.as_ref(),
        units::boolean,
    );
    let upstream = upstream(cx, raw.upstream.as_ref(), &at.key("upstream"), upstreams);
    Some(Route {
        name: name?,
        matcher: matcher?,
        auth: auth?,
        identity_headers,
        forward_token: forward_token.unwrap_or(false),
        upstream: upstream?,
    })
}

fn upstream(
    cx: &mut Cx<'_>,
    raw: Option<&Scalar>,
    at: &KeyPath,
    upstreams: &Upstreams,
) -> Option<String> {
    cx.required(
        at,
        raw,
        "write the name of one of the `upstreams`",
        |text| {
            if upstreams.written.iter().any(|name| name == text) {
                return Ok(text.to_owned());
            }
            let known: Vec<&str> = upstreams.written.iter().map(String::as_str).collect();
            let fix = match suggest::nearest(text, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "define it below `upstreams:`".to_owned(),
                None => "define it below `upstreams:`, or name one that stands there".to_owned(),
            };
            Err(Broken::new(
                "the upstream of a route stands below `upstreams`",
                fix,
            ))
        },
    )
}

fn matcher(cx: &mut Cx<'_>, raw: Option<&RawMatch>, at: &KeyPath) -> Option<Matcher> {
    let Some(raw) = raw else {
        cx.missing(
            at,
            "write which requests it takes: `match: { prefix: / }` or `match: { path: /healthz }`",
        );
        return None;
    };
    let host = cx.maybe(&at.key("host"), raw.host.as_ref(), urls::host_pattern);
    let path = match (&raw.path, &raw.prefix) {
        (Some(_), None) => cx
            .maybe(&at.key("path"), raw.path.as_ref(), urls::path)
            .map(|path| PathRule::exact(&path)),
        (None, Some(_)) => cx
            .maybe(&at.key("prefix"), raw.prefix.as_ref(), urls::prefix)
            .map(|prefix| PathRule::prefix(&prefix)),
        (path, _) => {
            let place = if path.is_some() {
                at.key("prefix")
            } else {
                at.clone()
            };
            cx.refuse(
                &place,
                None,
                "a match has exactly one of `path` (that path alone) and `prefix` (it and all below)",
                "write one of the two; `prefix: /` takes every path",
            );
            None
        }
    };
    let methods_at = at.key("methods");
    let methods = cx.list(&methods_at, raw.methods.as_ref(), 7, names::method);
    if raw.methods.as_ref().is_some_and(Vec::is_empty) {
        cx.refuse(
            &methods_at,
            None,
            "a list of methods names at least one",
            "remove the key when every method is meant",
        );
    }
    Some(Matcher {
        host: host.flatten(),
        path: path?,
        methods,
    })
}

fn auth(
    cx: &mut Cx<'_>,
    raw: Option<&WordOr<RawAuth>>,
    at: &KeyPath,
    issuer_audience: &[String],
) -> Option<Auth> {
    match raw {
        None => {
            cx.missing(
                at,
                "write `auth: {}` to demand a token of this issuer, or `auth: none` to make the route public",
            );
            None
        }
        Some(WordOr::Word(word)) => cx.maybe(at, Some(word), |text| match text {
            "none" => Ok(Auth::None),
            _ => Err(Broken::new(
                "`auth` is a map, or the word `none` for a public route",
                "write `auth: { scopes_any: [read] }`, `auth: {}` or `auth: none`",
            )),
        }),
        Some(WordOr::Section(raw)) => Some(Auth::Bearer(rules(cx, raw, at, issuer_audience))),
    }
}

fn rules(cx: &mut Cx<'_>, raw: &RawAuth, at: &KeyPath, issuer_audience: &[String]) -> RouteRules {
    let audiences_at = at.key("audiences");
    let audiences = match &raw.audiences {
        None => issuer_audience.to_vec(),
        Some(_) => cx.list(
            &audiences_at,
            raw.audiences.as_ref(),
            MAX_RULE_ITEMS,
            names::audience,
        ),
    };
    let any_at = at.key("scopes_any");
    for (at, list) in [(&audiences_at, &raw.audiences), (&any_at, &raw.scopes_any)] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            cx.refuse(
                at,
                None,
                "an empty list would refuse every token",
                "write at least one item, or remove the key",
            );
        }
    }
    RouteRules {
        audiences,
        scopes_any: cx.list(
            &any_at,
            raw.scopes_any.as_ref(),
            MAX_RULE_ITEMS,
            names::scope,
        ),
        scopes_all: cx.list(
            &at.key("scopes_all"),
            raw.scopes_all.as_ref(),
            MAX_RULE_ITEMS,
            names::scope,
        ),
    }
}

fn identity_headers(
    cx: &mut Cx<'_>,
    raw: Option<&Named<Scalar>>,
    at: &KeyPath,
) -> Vec<(HeaderName, IdentityClaim)> {
    let raw = raw.map(|named| named.0.as_slice()).unwrap_or_default();
    cx.bound(at, raw.len(), MAX_IDENTITY_HEADERS);
    let mut headers: Vec<(HeaderName, IdentityClaim)> = Vec::new();
    for (name, claim) in raw.iter().take(MAX_IDENTITY_HEADERS) {
        let at = at.key(name);
        let claim = cx.maybe(&at, Some(claim), names::identity_claim);
        let header = match names::identity_header(name) {
            Ok(header) => header,
            Err(broken) => {
                cx.report(&at, None, broken);
                continue;
            }
        };
        if headers.iter().any(|(other, _)| *other == header) {
            cx.refuse(
                &at,
                None,
                "a header stands only once (names do not differ by case)",
                "remove one of them",
            );
        }
        headers.extend(claim.map(|claim| (header, claim)));
    }
    headers
}
