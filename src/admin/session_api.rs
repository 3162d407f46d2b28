//! `/admin/v1/session`: sign in, who am I, sign out.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{delete, get, post};
use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use ring::rand::SystemRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::telemetry::Level;

use super::api::json;
use super::auth::Operator;
use super::body::parse;
use super::error::ApiError;
use super::guard::{self, Caller};
use super::operation::{Example, Operation, Tag};
use super::{AdminParts, cookie};

const PATH: &str = "/admin/v1/session";

/// What stands for an admin token in examples.
const TOKEN: &str = "an-admin-token-of-the-configuration";

/// `POST session`. No `Debug`: it holds an admin token.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInRequest {
    /// An admin token of the configuration.
    #[schemars(with = "String")]
    token: Zeroizing<String>,
}

/// Who the caller is, and until when.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
struct SessionView<'a> {
    name: &'a str,
    #[schemars(extend("enum" = ["viewer", "operator", "admin"]))]
    role: &'static str,
    /// `session` or `token`; with `token` there are no dates.
    #[schemars(extend("enum" = ["session", "token"]))]
    via: &'static str,
    signed_in_at: Option<String>,
    /// When the session ends whatever happens.
    expires_at: Option<String>,
    /// When it ends unless its operator does something.
    idle_expires_at: Option<String>,
}

impl<'a> SessionView<'a> {
    fn of(operator: &'a Operator) -> Self {
        let session = operator.session();
        Self {
            name: &operator.name,
            role: operator.role.as_str(),
            via: if session.is_some() {
                "session"
            } else {
                "token"
            },
            signed_in_at: session.map(|session| session.signed_in_at().to_string()),
            expires_at: session.map(|session| session.expires_at().to_string()),
            idle_expires_at: session.map(|session| session.idle_expires_at().to_string()),
        }
    }
}

pub(super) fn describe_sign_in() -> Operation {
    Operation::post(PATH, "signIn", || post(sign_in))
        .label("session")
        .tag(Tag::Session)
        .open()
        .says(
            "Sign in",
            "For browsers: the answer sets the cookie `portcullis_session` (under TLS \
             `__Host-portcullis_session`), which no script can read and which goes to no other site. A change \
             with it needs the header `X-Portcullis-Request: 1` too. The session ends by itself, at the latest with \
             its token.",
        )
        .takes::<SignInRequest>()
        .answers::<SessionView<'static>>(200, "Who signed in, and until when.")
        .with_header("Set-Cookie", "The session.")
        .refuses(401, &["WRONG_TOKEN"])
        .refuses(429, &["THROTTLED"])
        .refuses(500, &["SIGN_IN_FAILED"])
        .example(
            Example::new(
                "signIn",
                "With an admin token",
                200,
                include_str!("examples/signIn.signIn.json"),
            )
            .body(json!({ "token": TOKEN })),
        )
}

pub(super) async fn sign_in(
    State(parts): State<Arc<AdminParts>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_sign_in(&parts, caller, &headers, &body) {
        Ok((operator, set_cookie)) => {
            let mut response = json(StatusCode::OK, &SessionView::of(&operator));
            response.headers_mut().insert(SET_COOKIE, set_cookie);
            response
        }
        Err(error) => error.answer(&parts),
    }
}

fn try_sign_in(
    parts: &AdminParts,
    caller: Caller,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(Operator, HeaderValue), ApiError> {
    // What the parser says of a bad body may quote it, and it may hold a token.
    let request: SignInRequest = parse(headers, body)
        .map_err(|error: ApiError| error.without_quotes("the body is `{\"token\": \"…\"}`"))?;
    let credential = guard::credential(parts, request.token.trim().as_bytes(), caller.peer)?;
    let now = parts.clock.now();
    let (text, session) = parts
        .sessions
        .open(credential, &SystemRandom::new(), now)
        .map_err(|error| ApiError::sign_in_failed(error.to_string()))?;
    let set_cookie = cookie::set(&text, caller.secure)
        .ok_or_else(|| ApiError::sign_in_failed("the cookie is not a header value".to_owned()))?;
    // The browser forgets the session that it had; nobody else knows it.
    let before = cookie::read(headers, caller.secure)
        .and_then(|text| parts.sessions.find(text.as_bytes(), now));
    if let Some(before) = before {
        parts.sessions.end(&before);
    }
    let operator = Operator::of_session(credential, session);
    tell(
        parts,
        "admin_signed_in",
        "an operator signed in",
        &operator,
        caller,
    );
    Ok((operator, set_cookie))
}

pub(super) fn describe_show() -> Operation {
    Operation::get(PATH, "readSession", || get(show))
        .label("session")
        .tag(Tag::Session)
        .says("Who the caller is, and until when", "")
        .answers::<SessionView<'static>>(200, "The caller; without a session there are no dates.")
        .example(Example::new(
            "read",
            "Of a caller with a token",
            200,
            include_str!("examples/readSession.read.json"),
        ))
}

pub(super) async fn show(Extension(operator): Extension<Operator>) -> Response {
    json(StatusCode::OK, &SessionView::of(&operator))
}

pub(super) fn describe_sign_out() -> Operation {
    Operation::delete(PATH, "signOut", || delete(sign_out))
        .label("session")
        .tag(Tag::Session)
        .says(
            "Sign out",
            "Ends the session whose cookie is sent. An admin token cannot be given back: with one, nothing ends.",
        )
        .answers_nothing(204, "The caller has no session any more.")
        .with_optional_header("Set-Cookie", "Clears the cookie, when there was a session.")
        .example(Example::new("signOut", "Without a session", 204, ""))
}

pub(super) async fn sign_out(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    // An admin token cannot be given back: there is nothing to end.
    if let Some(session) = operator.session() {
        parts.sessions.end(session);
        tell(
            &parts,
            "admin_signed_out",
            "an operator signed out",
            &operator,
            caller,
        );
        if let Some(clear) = cookie::clear(caller.secure) {
            response.headers_mut().insert(SET_COOKIE, clear);
        }
    }
    response
}

fn tell(
    parts: &AdminParts,
    event: &'static str,
    message: &str,
    operator: &Operator,
    caller: Caller,
) {
    parts
        .log
        .event(Level::Info, event, message)
        .field("operator", operator.name.as_str())
        .field("role", operator.role.as_str())
        .field("peer", caller.peer.map(|peer| peer.to_string()))
        .emit();
}
