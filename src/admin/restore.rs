//! `POST keys/{kid}/restore`, the undo of a purge made with `mistake_undo`; and `POST
//! keys/{kid}/compromised`, the end of that possibility.

use std::sync::Arc;

use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;

use crate::keys::transition::Order;
use crate::keys::{Actor, KeySet, Kid};
use crate::lifecycle::Lifecycle;

use super::AdminParts;
use super::api::{IF_REVISION, KID, REVISION_TAG, key_set, kid_of, seen_revision, to_its_end};
use super::auth::{Operator, Role};
use super::body::{RestoreRequest, parse};
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};
use super::views::KeySetView;

const PATH_KID: &str = "The key's name, as `GET /admin/v1/keys` shows it.";

pub(super) fn describe_restore() -> Operation {
    Operation::post("/admin/v1/keys/{kid}/restore", "restoreKey", || post(restore))
        .label("keys_restore")
        .tag(Tag::Keys)
        .role(Role::Admin)
        .says(
            "Undo a purge made by mistake",
            "For one key, and only if it was purged with `mistake_undo`: it verifies again until its old \
             `verify_until`, and signs nothing.",
        )
        .in_path::<Kid>("kid", PATH_KID)
        .header::<String>("If-Match", IF_REVISION)
        .takes::<RestoreRequest>()
        .answers::<KeySetView>(200, "The key set with the key.")
        .with_header("ETag", REVISION_TAG)
        .refuses(400, &["BAD_HEADER"])
        .refuses(412, &["REVISION_AHEAD", "STALE_REVISION"])
        .refuses(500, &["ROTATION_FAILED"])
        .refuses(404, &["UNKNOWN_KID"])
        .refuses(
            409,
            &["COMPROMISED", "KEYSET_FULL", "NOTHING_TO_RESTORE", "NOT_PURGED"],
        )
        .example(
            Example::new(
                "restore",
                "A purge that was a mistake",
                200,
                include_str!("examples/restoreKey.restore.json"),
            )
            .with("kid", KID)
            .body(json!({ "reason": "the wrong environment" })),
        )
}

pub(super) async fn restore(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    kid: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_restore(&parts, operator, kid, &headers, &body).await {
        Ok(set) => key_set(&parts, &set).await,
        Err(error) => error.answer(&parts),
    }
}

async fn try_restore(
    parts: &AdminParts,
    operator: Operator,
    kid: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<KeySet, ApiError> {
    let (kid, order) = ordered(operator, kid, headers, body)?;
    let lifecycle = Arc::clone(&parts.lifecycle);
    to_its_end(async move { lifecycle.restore(&order, &kid).await }).await
}

pub(super) fn describe_compromised() -> Operation {
    let path = "/admin/v1/keys/{kid}/compromised";
    Operation::post(path, "markKeyCompromised", || post(compromised))
        .label("keys_compromised")
        .tag(Tag::Keys)
        .role(Role::Admin)
        .says(
            "Declare a purged key compromised after all",
            "Ends the possibility to restore it, for good, and seals what is left under a new key-encryption key as \
             a compromised purge does. Saying it again changes nothing.",
        )
        .in_path::<Kid>("kid", PATH_KID)
        .header::<String>("If-Match", IF_REVISION)
        .takes::<RestoreRequest>()
        .answers::<KeySetView>(200, "The key set with the mark.")
        .with_header("ETag", REVISION_TAG)
        .refuses(400, &["BAD_HEADER"])
        .refuses(412, &["REVISION_AHEAD", "STALE_REVISION"])
        .refuses(500, &["ROTATION_FAILED"])
        .refuses(404, &["UNKNOWN_KID"])
        .refuses(409, &["NOT_PURGED"])
        .example(
            Example::new(
                "mark",
                "It was no mistake",
                200,
                include_str!("examples/markKeyCompromised.mark.json"),
            )
            .with("kid", KID)
            .body(json!({ "reason": "the key was seen on a paste site" })),
        )
}

pub(super) async fn compromised(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    kid: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_compromised(&parts, operator, kid, &headers, &body).await {
        Ok(set) => key_set(&parts, &set).await,
        Err(error) => error.answer(&parts),
    }
}

async fn try_compromised(
    parts: &AdminParts,
    operator: Operator,
    kid: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<KeySet, ApiError> {
    let (kid, order) = ordered(operator, kid, headers, body)?;
    let lifecycle = Arc::clone(&parts.lifecycle);
    let marked = to_its_end(async move { lifecycle.mark_compromised(&order, &[kid]).await });
    marked.await.map(|(_changed, set)| set)
}

/// What a request about one key asks for, when its operator may.
fn ordered(
    operator: Operator,
    kid: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(Kid, Order), ApiError> {
    operator.needs(Role::Admin)?;
    let request: RestoreRequest = parse(headers, body).and_then(RestoreRequest::check)?;
    let kid = kid_of(kid)?;
    let order = Order {
        seen_revision: seen_revision(headers, None)?,
        ..Lifecycle::order(Actor::Admin(operator.name), request.reason)
    };
    Ok((kid, order))
}
