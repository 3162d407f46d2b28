//! The endpoints; the table is in [`super`].

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, IF_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::keys::signing_key::KidError;
use crate::keys::transition::Order;
use crate::keys::{Actor, KeySet, Kid};
use crate::lifecycle::{Lifecycle, LifecycleError, PurgeCommand, Resealed, RotationOutcome};

use super::AdminParts;
use super::auth::{Operator, Role};
use super::body::{ResealRequest, RestoreRequest, RotateRequest, parse, scope};
use super::clock::PauseView;
use super::error::ApiError;
use super::idempotency;
use super::kek_views::ResealView;
use super::views::{KeySetView, RotationView};

/// Says that an answer is the stored one of an earlier call with the same idempotency key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The metric label of a path.
pub(super) fn endpoint_label(path: &str) -> &'static str {
    match path {
        "/admin/v1/status" => "status",
        "/admin/v1/audit" => "audit",
        "/admin/v1/events" => "events",
        "/admin/v1/logs" => "logs",
        "/admin/v1/clock/confirm" => "clock_confirm",
        "/admin/v1/keys" => "keys",
        "/admin/v1/keys/preview" => "keys_preview",
        "/admin/v1/keys/reseal" => "keys_reseal",
        "/admin/v1/keys/rotate" => "keys_rotate",
        "/admin/v1/keys/import" => "keys_import",
        "/admin/v1/keys/purges" => "keys_purges",
        _ if path.starts_with("/admin/v1/logs/") => "logs",
        "/admin/v1/tokens/explain" => "tokens_explain",
        super::session_api::PATH => "session",
        _ if super::console::is_console(path) => "console",
        _ if path.starts_with("/admin/v1/keys/preview/shadows/") => "keys_shadows",
        _ if path.starts_with("/admin/v1/keys/purges/") => "keys_purges",
        _ if path.starts_with("/admin/v1/keys/") && path.ends_with("/compromised") => {
            "keys_compromised"
        }
        _ if path.starts_with("/admin/v1/keys/") && path.ends_with("/restore") => "keys_restore",
        _ => super::clients::endpoint_label(path).unwrap_or("other"),
    }
}

pub(super) async fn keys(State(parts): State<Arc<AdminParts>>) -> Response {
    let set = parts.lifecycle.current_set();
    let mut response = json(StatusCode::OK, &key_set_view(&parts, &set).await);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", set.revision)) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

/// A key set beside what its keys did.
pub(super) async fn key_set_view(parts: &AdminParts, set: &KeySet) -> KeySetView {
    let activity = parts.lifecycle.key_activity().await;
    let (timing, pause) = (parts.lifecycle.timing(), PauseView::of(parts));
    KeySetView::of(set, timing, pause, &activity)
}

pub(super) async fn rotate(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_rotate(&parts, operator, &headers, &body).await {
        Ok(outcome) => {
            let drained = outcome
                .receipt
                .as_ref()
                .is_none_or(|receipt| receipt.state().drained_at.is_some());
            let status = if drained {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            };
            let mut response = json(
                status,
                &RotationView::of(&outcome, parts.lifecycle.timing()),
            );
            if outcome.replayed {
                response
                    .headers_mut()
                    .insert(REPLAYED, HeaderValue::from_static("true"));
            }
            response
        }
        Err(error) => error.answer(&parts),
    }
}

async fn try_rotate(
    parts: &AdminParts,
    operator: Operator,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<RotationOutcome, ApiError> {
    let request: RotateRequest = parse(headers, body).and_then(RotateRequest::check)?;
    let needs = if request.purge {
        Role::Admin
    } else {
        Role::Operator
    };
    operator.needs(needs)?;
    let claim = idempotency::claim(headers, "POST /admin/v1/keys/rotate", body)?;
    let seen_revision = seen_revision(headers, request.seen_revision)?;
    let purge = purge_command(&request, seen_revision, claim.is_some(), parts)?;
    let running = match &claim {
        Some(claim) => Some(parts.running.enter(&operator.name, claim)?),
        None => None,
    };
    let order = Order {
        seen_revision,
        claim,
        ..Lifecycle::order(Actor::Admin(operator.name), request.reason)
    };
    let lifecycle = Arc::clone(&parts.lifecycle);
    to_its_end(async move {
        let _running = running;
        match purge {
            Some(command) => lifecycle.purge_scoped(&order, &command).await,
            None => lifecycle.rotate(&order).await,
        }
    })
    .await
}

/// Runs a change on a task of its own: the client may leave, the change runs to its end.
pub(super) async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, LifecycleError>> + Send + 'static,
) -> Result<T, ApiError> {
    let result = tokio::spawn(change).await;
    result
        .unwrap_or(Err(LifecycleError::TaskDied))
        .map_err(|error| ApiError::rotation(&error))
}

/// The key that a path names.
pub(super) fn kid_of(path: &str) -> Result<Kid, ApiError> {
    path.parse()
        .map_err(|error: KidError| ApiError::bad_body(error.to_string()))
}

/// The revision that the caller looked at: of the body, or of `If-Match` (RFC 9110 §13.1.1) with the
/// entity tag of `GET keys`.
fn seen_revision(headers: &HeaderMap, in_body: Option<u64>) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(in_body);
    };
    let tag = value.to_str().ok().and_then(|text| {
        text.strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .and_then(|revision| revision.parse().ok())
    });
    match (tag, in_body) {
        (None, _) => Err(ApiError::bad_header(
            "If-Match",
            "it must be the one ETag that GET keys answered with, like \"7\"",
        )),
        (Some(tag), Some(body)) if tag != body => Err(ApiError::bad_header(
            "If-Match",
            "it names another revision than seen_revision in the body",
        )),
        (tag, _) => Ok(tag),
    }
}

/// What to purge; it must say which keys it means, so that a retry cannot hit newer ones.
fn purge_command(
    request: &RotateRequest,
    seen_revision: Option<u64>,
    has_key: bool,
    parts: &AdminParts,
) -> Result<Option<PurgeCommand>, ApiError> {
    if !request.purge {
        return Ok(None);
    }
    let scope = match &request.kids {
        None if seen_revision.is_none() && !has_key => {
            return Err(ApiError::precondition_required(
                parts.lifecycle.current_set().revision,
            ));
        }
        kids => scope(kids.clone(), request.keep_pending),
    };
    Ok(Some(PurgeCommand {
        scope,
        mistake_undo: request.mistake_undo.unwrap_or_default(),
    }))
}

pub(super) async fn restore(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    Path(kid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_restore(&parts, operator, &kid, &headers, &body).await {
        Ok(set) => json(StatusCode::OK, &key_set_view(&parts, &set).await),
        Err(error) => error.answer(&parts),
    }
}

async fn try_restore(
    parts: &AdminParts,
    operator: Operator,
    kid: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<KeySet, ApiError> {
    let request: RestoreRequest = parse(headers, body).and_then(RestoreRequest::check)?;
    operator.needs(Role::Admin)?;
    let kid = kid_of(kid)?;
    let order = Lifecycle::order(Actor::Admin(operator.name), request.reason);
    let lifecycle = Arc::clone(&parts.lifecycle);
    to_its_end(async move { lifecycle.restore(&order, &kid).await }).await
}

pub(super) async fn reseal(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_reseal(&parts, operator, &headers, &body).await {
        Ok(resealed) => json(StatusCode::OK, &ResealView::of(&resealed)),
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
    let order = Lifecycle::order(Actor::Admin(operator.name), request.reason);
    let lifecycle = Arc::clone(&parts.lifecycle);
    to_its_end(async move { lifecycle.reseal(&order, request.new_kek).await }).await
}

pub(super) async fn not_found(State(parts): State<Arc<AdminParts>>) -> Response {
    ApiError::not_found().answer(&parts)
}

pub(super) async fn method_not_allowed(State(parts): State<Arc<AdminParts>>) -> Response {
    ApiError::method_not_allowed().answer(&parts)
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Serialising strings and numbers into a Vec cannot fail.
    let mut response = Response::new(Body::from(serde_json::to_vec(body).unwrap_or_default()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
