//! `POST keys/reseal`: everything that is stored moves to the first key-encryption key.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::keys::Actor;
use crate::keys::transition::Order;
use crate::lifecycle::{Lifecycle, Resealed};

use super::AdminParts;
use super::api::{self, IF_REVISION, REVISION_TAG, seen_revision, tagged, to_its_end};
use super::auth::{Operator, Role};
use super::body::{ResealRequest, parse};
use super::error::ApiError;
use super::kek_views::ResealView;
use super::operation::{Example, Operation, Tag};

pub(super) fn describe_reseal() -> Operation {
    Operation::post("/admin/v1/keys/reseal", "resealKeys", || post(reseal))
        .label("keys_reseal")
        .tag(Tag::Keys)
        .role(Role::Admin)
        .says(
            "Move everything stored to the first key-encryption key",
            "The files of key-encryption keys are read again first; with `new_kek` the gateway makes a new one, if it \
             manages the file. Signing keys stay as they are.",
        )
        .header::<String>("If-Match", IF_REVISION)
        .takes::<ResealRequest>()
        .answers::<ResealView>(200, "What everything is sealed under.")
        .with_header("ETag", REVISION_TAG)
        .refuses(400, &["BAD_HEADER"])
        .refuses(412, &["REVISION_AHEAD", "STALE_REVISION"])
        .refuses(500, &["ROTATION_FAILED"])
        .refuses(409, &["KEY_ENCRYPTION_KEY"])
        .example(
            Example::new(
                "new",
                "With a new key-encryption key",
                200,
                include_str!("examples/resealKeys.new.json"),
            )
            .body(json!({ "new_kek": true, "reason": "a backup medium was lost" })),
        )
}

pub(super) async fn reseal(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_reseal(&parts, operator, &headers, &body).await {
        Ok(resealed) => {
            let answer = api::json(StatusCode::OK, &ResealView::of(&resealed));
            tagged(answer, resealed.set.revision)
        }
        Err(error) => error.answer(&parts),
    }
}

async fn try_reseal(
    parts: &AdminParts,
    operator: Operator,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Resealed, ApiError> {
    let request: ResealRequest = parse(headers, body).and_then(ResealRequest::check)?;
    operator.needs(Role::Admin)?;
    let order = Order {
        seen_revision: seen_revision(headers, None)?,
        ..Lifecycle::order(Actor::Admin(operator.name), request.reason)
    };
    let lifecycle = Arc::clone(&parts.lifecycle);
    to_its_end(async move { lifecycle.reseal(&order, request.new_kek).await }).await
}
