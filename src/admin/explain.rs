//! `POST /admin/v1/tokens/explain`: what would happen to a request, and why.
//!
//! Invariants: the token comes in the body alone and goes nowhere: not into a log, an error or an
//! answer; asking counts in no metric of requests and in no limit.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::telemetry::Level;
use crate::token::explain::{Explanation, Question};

use super::AdminParts;
use super::api::json;
use super::auth::{Operator, Role};
use super::body::{parse_secretly, present};
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};

/// The body. Not `Debug`: it holds a token.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainRequest {
    /// The bearer token; left out for a request without one.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    token: Option<Zeroizing<String>>,
    /// Method; `GET` by default.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    method: Option<String>,
    /// `Host`; that of the issuer's URL by default.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    host: Option<String>,
    /// Path, with or without a query.
    path: String,
}

pub(super) fn describe_explain() -> Operation {
    Operation::post("/admin/v1/tokens/explain", "explainToken", || post(explain))
        .label("tokens_explain")
        .tag(Tag::Status)
        .role(Role::Operator)
        .says(
            "What would happen to a request, and why",
            "Which route takes it, which rule decides, which key and in which state. Counts in no \
             metric of requests and in no limit; says more than clients are told. Who asked is in \
             the log, the token is not.",
        )
        .takes::<ExplainRequest>()
        .answers::<Explanation>(200, "What would happen, whether good or bad.")
        .example(
            Example::new(
                "missing",
                "A request without a token",
                200,
                include_str!("examples/explainToken.missing.json"),
            )
            .body(json!({ "path": "/api/hello" })),
        )
}

pub(super) async fn explain(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_explain(&parts, &operator, &headers, &body) {
        Ok(explanation) => json(StatusCode::OK, &explanation),
        Err(error) => error.answer(&parts),
    }
}

fn try_explain(
    parts: &AdminParts,
    operator: &Operator,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Explanation, ApiError> {
    operator.needs(Role::Operator)?;
    let request: ExplainRequest = parse_secretly(headers, body)?;
    let explanation = parts.explainer.explain(Question {
        token: request.token.as_ref().map(|token| token.as_str()),
        method: request.method.as_deref().unwrap_or("GET"),
        host: request.host.as_deref(),
        path: &request.path,
    });
    // Who asks whether tokens are good can be seen.
    parts
        .log
        .event(
            Level::Info,
            "token_explained",
            "an operator asked what would happen to a request",
        )
        .field("actor", operator.name.as_str())
        .field(
            "route",
            explanation.route.as_ref().map(|route| route.name.as_str()),
        )
        .field("reason", explanation.reason)
        .emit();
    Ok(explanation)
}
