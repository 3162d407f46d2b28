//! What would happen to a request: the same checks in the same order as [`super::Gateway`] makes
//! them, on the same route table and by the same verifier, without a request.
//!
//! Invariants: nothing is counted, limited, logged or remembered; the keys verify without a cache,
//! so that no later request finds a trace.

mod say;

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Method};
use pingora::http::RequestHeader;

use crate::token::RouteRules;
use crate::token::explain::{
    Explain, Explanation, Ground, Judged, Question, RequestFacts, Verdict, judge, without_token,
};

use super::limits::{Limits, host_of};
use super::routes::{Auth, PlainPath, Route};
use super::target::target;
use super::{GatewayParts, bearer};

use say::{bad_request, facts, no_route, refused};

/// Longest token, host or path that is looked at, in bytes: what a request header may hold.
const MAX_TEXT: usize = 32 * 1024;

/// What a request is judged by beside keys: the route table and what stands before it.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    /// Routes in order; empty when no listener serves them.
    pub routes: Vec<&'a Route>,
    /// Exact paths that the gateway answers itself.
    pub own_paths: &'a [String],
    /// Host of a request that says none.
    pub host: &'a str,
    /// Limits.
    pub limits: &'a Limits,
}

/// Explains requests to a running gateway.
pub struct Explainer {
    parts: Arc<GatewayParts>,
    serves_routes: bool,
    own_paths: Vec<String>,
    host: String,
}

impl Explainer {
    /// An explainer of the gateway made of `parts`, whose listeners answer `own_paths` themselves.
    #[must_use]
    pub const fn new(
        parts: Arc<GatewayParts>,
        serves_routes: bool,
        own_paths: Vec<String>,
        host: String,
    ) -> Self {
        Self {
            parts,
            serves_routes,
            own_paths,
            host,
        }
    }
}

impl fmt::Debug for Explainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explainer").finish_non_exhaustive()
    }
}

impl Explain for Explainer {
    fn explain(&self, question: Question<'_>) -> Explanation {
        let snapshot = self.parts.published.load();
        let routes = self.parts.routes.iter().map(|prepared| &prepared.route);
        let table = Table {
            routes: routes.filter(|_| self.serves_routes).collect(),
            own_paths: &self.own_paths,
            host: &self.host,
            limits: &self.parts.limits,
        };
        // The same keys were parsed when they were published, so this cannot fail; if it did, the
        // keys in force would judge as well and only remember what they saw.
        let forgetful = snapshot.keys.without_memory(&snapshot.set).ok();
        let clients = self.parts.clients.view();
        explain(
            question,
            &table,
            Ground {
                set: &snapshot.set,
                keys: forgetful.as_ref().unwrap_or(&snapshot.keys),
                clients: clients.revocations(),
                now: self.parts.clock.now(),
            },
        )
    }
}

/// What would happen to the request, by `table` and the keys of `ground`.
#[must_use]
pub fn explain(question: Question<'_>, table: &Table<'_>, ground: Ground<'_>) -> Explanation {
    let host = question.host.unwrap_or(table.host);
    let blank = Explanation {
        now: ground.now.to_string(),
        verdict: Verdict::BadRequest,
        reason: None,
        what: String::new(),
        what_to_do: String::new(),
        answer: None,
        request: RequestFacts {
            method: question.method.to_owned(),
            host: host.to_owned(),
            path: question.path.to_owned(),
        },
        route: None,
        key: None,
        token: None,
    };
    match request(question, host) {
        Ok(request) => Case {
            question,
            table,
            ground,
            blank,
        }
        .of(request),
        Err(rule) => bad_request(blank, 400, rule),
    }
}

struct Case<'a> {
    question: Question<'a>,
    table: &'a Table<'a>,
    ground: Ground<'a>,
    blank: Explanation,
}

impl Case<'_> {
    /// Limits, own endpoints, path, route, token: the order of the request path.
    fn of(mut self, mut request: RequestHeader) -> Explanation {
        if let Err(violation) = self.table.limits.check(&request, None) {
            return bad_request(self.blank, violation.status, violation.rule);
        }
        let is_own = |path: &str| self.table.own_paths.iter().any(|own| own == path);
        if is_own(request.uri.path()) {
            return Explanation {
                verdict: Verdict::OwnEndpoint,
                what: "an endpoint of the gateway answers this itself; no route and no token is looked at"
                    .to_owned(),
                ..self.blank
            };
        }
        match target(&request) {
            Err(error) => return bad_request(self.blank, 400, error.rule()),
            Ok(Some(canonical)) => match canonical.parse() {
                Ok(uri) => request.set_uri(uri),
                Err(_not_a_uri) => {
                    return bad_request(self.blank, 400, "the request target is not a URI");
                }
            },
            Ok(None) => {}
        }
        let host = host_of(&request).to_owned();
        let path = request.uri.path().to_owned();
        let plain = PlainPath::of(&path);
        let takes = |route: &&&Route| route.matcher.takes(&host, &plain, &request.method);
        let route = self.table.routes.iter().find(takes).copied();
        self.blank.request.host.clone_from(&host);
        self.blank.request.path.clone_from(&path);
        let Some(route) = route else {
            return no_route(self.blank, self.table);
        };
        self.blank.route = Some(facts(route));
        match &route.auth {
            Auth::None => Explanation {
                verdict: Verdict::Public,
                what: format!(
                    "route `{}` is public: the request is forwarded, whatever token it carries",
                    route.name
                ),
                ..self.blank
            },
            Auth::Bearer(rules) => self.token(&request, route, rules),
        }
    }

    fn token(self, request: &RequestHeader, route: &Route, rules: &RouteRules) -> Explanation {
        let length = self.question.token.map_or(0, str::len);
        let token = match bearer::token(&request.headers) {
            Ok(token) => token,
            Err(rejection) => {
                let (what, what_to_do) = without_token(rejection, length);
                return refused(
                    rejection,
                    Explanation {
                        what,
                        what_to_do,
                        ..self.blank
                    },
                );
            }
        };
        let Judged {
            rejection,
            what,
            what_to_do,
            key,
            token,
        } = judge(token, &route.name, rules, self.ground);
        let explanation = Explanation {
            verdict: Verdict::Accepted,
            what,
            what_to_do,
            key,
            token: Some(token),
            ..self.blank
        };
        match rejection {
            None => explanation,
            Some(rejection) => refused(rejection, explanation),
        }
    }
}

/// The request as it would come over a connection.
fn request(question: Question<'_>, host: &str) -> Result<RequestHeader, &'static str> {
    let long = |text: &str| text.len() > MAX_TEXT;
    if long(host) || long(question.path) || question.token.is_some_and(long) {
        return Err("it is longer than a request header may be");
    }
    let method = Method::from_bytes(question.method.as_bytes())
        .map_err(|_not_a_method| "the method is not a method")?;
    // What cannot stand in a request line would never arrive.
    if question
        .path
        .bytes()
        .any(|byte| byte <= b' ' || byte == 0x7f)
    {
        return Err("the path has a character that is not allowed");
    }
    let mut request = RequestHeader::build(method, question.path.as_bytes(), None)
        .map_err(|_not_a_uri| "the request target is not a URI")?;
    request
        .insert_header(HOST, host)
        .map_err(|_not_a_field| "the request needs exactly one valid Host")?;
    if let Some(token) = question.token {
        let value = HeaderValue::try_from(format!("Bearer {token}"))
            // No token has such a character; a value that no token is stands for it.
            .unwrap_or(HeaderValue::from_static("Bearer \""));
        request
            .insert_header(AUTHORIZATION, value)
            .map_err(|_not_a_field| "the Authorization header cannot be sent")?;
    }
    Ok(request)
}
