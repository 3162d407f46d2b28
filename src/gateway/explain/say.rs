//! How each end of a request's way is told.

use http::Method;

use crate::gateway::routes::{Auth, Matcher, PathRule, Route};
use crate::token::explain::{Explanation, RouteFacts, Verdict, WireAnswer};
use crate::token::{Rejection, RouteRules};

use super::Table;

pub(super) fn bad_request(blank: Explanation, status: u16, rule: &'static str) -> Explanation {
    Explanation {
        verdict: Verdict::BadRequest,
        what: format!("the request is refused before any route is looked for: {rule}"),
        what_to_do: "the client must send another request; its token was not looked at".to_owned(),
        answer: Some(WireAnswer {
            status,
            error: None,
            detail: rule,
        }),
        ..blank
    }
}

pub(super) fn no_route(blank: Explanation, table: &Table<'_>) -> Explanation {
    let what = if table.routes.is_empty() {
        "no listener serves routes".to_owned()
    } else {
        let request = &blank.request;
        format!(
            "no route takes {} {} on the host {}; what no route takes is 404, whatever its token",
            request.method, request.path, request.host
        )
    };
    Explanation {
        verdict: Verdict::NoRoute,
        what,
        what_to_do: "look at path, method and host of the routes in the configuration: `portcullis check` lists them".to_owned(),
        answer: Some(WireAnswer {
            status: 404,
            error: None,
            detail: "no route takes this request",
        }),
        ..blank
    }
}

pub(super) fn refused(rejection: Rejection, explanation: Explanation) -> Explanation {
    let answer = rejection.answer();
    Explanation {
        verdict: Verdict::Refused,
        reason: Some(rejection.as_str()),
        answer: Some(WireAnswer {
            status: answer.status,
            error: answer.error,
            detail: answer.description,
        }),
        ..explanation
    }
}

pub(super) fn facts(route: &Route) -> RouteFacts {
    let rules = match &route.auth {
        Auth::None => RouteRules::default(),
        Auth::Bearer(rules) => rules.clone(),
    };
    RouteFacts {
        name: route.name.clone(),
        takes: in_words(&route.matcher),
        upstream: route.upstream.clone(),
        audiences: rules.audiences,
        scopes_any: rules.scopes_any,
        scopes_all: rules.scopes_all,
    }
}

fn in_words(matcher: &Matcher) -> String {
    let methods: Vec<&str> = matcher.methods.iter().map(Method::as_str).collect();
    let methods = if methods.is_empty() {
        "every method".to_owned()
    } else {
        methods.join(", ")
    };
    let path = match &matcher.path {
        PathRule::Exact(path) => format!("the path {path}"),
        PathRule::Prefix(prefix) => format!("{prefix} and everything below"),
    };
    let host = matcher.host.as_deref().unwrap_or("every host");
    format!("{methods} of {path} on {host}")
}
