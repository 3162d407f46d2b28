//! The key set, and its rotation; and what the endpoints share.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, IF_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::keys::signing_key::KidError;
use crate::keys::transition::Order;
use crate::keys::{Actor, IdempotencyKey, KeySet, Kid};
use crate::lifecycle::{Lifecycle, LifecycleError, PurgeCommand, RotationOutcome};

use super::AdminParts;
use super::auth::{Operator, Role};
use super::body::{RotateRequest, parse, scope};
use super::clock::PauseView;
use super::error::ApiError;
use super::idempotency;
use super::operation::{Example, Operation, Tag};
use super::views::{KeySetView, RotationView};

const ROTATE: &str = "/admin/v1/keys/rotate";

/// What stands for a key in examples.
pub(super) const KID: &str = "q0hDD0n6UOSDlL1LK8ZQ1dJEb4m9sCUXUd1dPDjqUvA";

/// What the entity tag of the key set is.
pub(super) const REVISION_TAG: &str = "The revision in quotes, for `If-Match`. It names the keys and their states: \
    figures beside them may change under the same tag, so `If-None-Match` is not looked at.";

/// What `If-Match` does for a change of the key set.
pub(super) const IF_REVISION: &str = "The `ETag` of the key set that you looked at, or `*`; when it has changed since, nothing is done.";

/// Says that an answer is the stored one of an earlier call with the same idempotency key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) fn describe_keys() -> Operation {
    Operation::get("/admin/v1/keys", "listKeys", || get(keys))
        .label("keys")
        .tag(Tag::Keys)
        .says(
            "The key set",
            "Public facts only: keys that verify, tombstones of those that did, the last rotation and the next.",
        )
        .answers::<KeySetView>(200, "The key set in force.")
        .with_header("ETag", REVISION_TAG)
        .example(Example::new(
            "list",
            "After a rotation",
            200,
            include_str!("examples/listKeys.list.json"),
        ))
}

pub(super) async fn keys(State(parts): State<Arc<AdminParts>>) -> Response {
    key_set(&parts, &parts.lifecycle.current_set()).await
}

/// A key set beside what its keys did, as an answer.
pub(super) async fn key_set(parts: &AdminParts, set: &KeySet) -> Response {
    let activity = parts.lifecycle.key_activity().await;
    let (timing, pause) = (parts.lifecycle.timing(), PauseView::of(parts));
    let view = KeySetView::of(set, timing, pause, &activity);
    tagged(json(StatusCode::OK, &view), set.revision)
}

/// An answer whose entity tag is a revision.
pub(super) fn tagged(mut response: Response, revision: u64) -> Response {
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

pub(super) fn describe_rotate() -> Operation {
    Operation::post(ROTATE, "rotateKeys", || post(rotate))
        .label("keys_rotate")
        .tag(Tag::Keys)
        .role(Role::Operator)
        .says(
            "Rotate, or rotate and purge",
            "Without `purge`: the pending key signs from now on, the active one verifies until its tokens have run \
             out, and nobody notices. Within the idempotency window it changes nothing and answers with the last \
             rotation, `changed` being false.\n\n\
             With `purge`: every key that verifies, or those in `kids`, are dead when this answers; tokens that they \
             signed are refused. It needs the role `admin`, and `seen_revision`, `If-Match`, `kids` or an \
             `Idempotency-Key`, so that a retry cannot end keys that nobody meant.",
        )
        .header::<IdempotencyKey>(
            "Idempotency-Key",
            "A name for this attempt, such as a UUID; sent again with the same body, it is answered with what the \
             first one did.",
        )
        .header::<String>(
            "If-Match",
            "The `ETag` of the key set that you looked at, or `*`. When it has changed since, nothing is done (412), also \
             of a purge; `seen_revision` lets a purge go on and names what was not seen in `unseen`.",
        )
        .takes::<RotateRequest>()
        .answers::<RotationView>(200, "It is done; of a purge, no worker holds a purged key any more.")
        .with_optional_header("Idempotency-Replayed", "`true` when an earlier request with the key did it.")
        .answers::<RotationView>(
            202,
            "The keys are purged, but workers named in `receipt.still_held_by` still hold one; follow \
             `GET /admin/v1/keys/purges/{id}`.",
        )
        .with_optional_header("Idempotency-Replayed", "`true` when an earlier request with the key did it.")
        .refuses(400, &["BAD_HEADER"])
        .refuses(404, &["UNKNOWN_KID"])
        .refuses(409, &["KEYSET_FULL", "PENDING_TOO_YOUNG", "STILL_RUNNING"])
        .refuses(412, &["REVISION_AHEAD", "STALE_REVISION"])
        .refuses(422, &["IDEMPOTENCY_KEY_REUSED"])
        .refuses(428, &["SEEN_REVISION_REQUIRED"])
        .refuses(429, &["IDEMPOTENCY_FULL"])
        .refuses(500, &["ROTATION_FAILED"])
        .example(
            Example::new(
                "rotate",
                "A plain Rotate",
                200,
                include_str!("examples/rotateKeys.rotate.json"),
            )
            .with("Idempotency-Key", "7f0c6b0e-2f5b-4f0e-9a34-6b1f2f5d9c11")
            .body(json!({ "reason": "the monthly rotation" })),
        )
        .example(
            Example::new(
                "purge",
                "Rotate and purge of all that the caller saw",
                200,
                include_str!("examples/rotateKeys.purge.json"),
            )
            .with("If-Match", "\"7\"")
            .body(json!({ "purge": true, "reason": "the key was in a public repository" })),
        )
        .example(
            Example::new(
                "mistake",
                "A purge of one key that can be undone",
                200,
                include_str!("examples/rotateKeys.mistake.json"),
            )
            .body(json!({ "purge": true, "kids": [KID], "mistake_undo": true })),
        )
        .example(
            Example::new(
                "unseen",
                "A purge that does not say which keys it means",
                428,
                include_str!("examples/rotateKeys.unseen.json"),
            )
            .body(json!({ "purge": true })),
        )
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
    let claim = idempotency::claim(headers, &format!("POST {ROTATE}"), body)?;
    let in_header = seen_revision(headers, request.seen_revision)?;
    let seen_revision = in_header.or(request.seen_revision);
    let purge = purge_command(&request, seen_revision, claim.is_some(), parts)?;
    let purge = purge.map(|command| PurgeCommand {
        only_if_current: in_header.is_some(),
        ..command
    });
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
    let log_id = lifecycle.failure_log_id(&order);
    let done = to_its_end(async move {
        let _running = running;
        match purge {
            Some(command) => lifecycle.purge_scoped(&order, &command).await,
            None => lifecycle.rotate(&order).await,
        }
    });
    done.await.map_err(|error| error.logged_as(log_id))
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
pub(super) fn kid_of(path: Result<Path<String>, PathRejection>) -> Result<Kid, ApiError> {
    let text = path.map(|Path(text)| text).unwrap_or_default();
    text.parse()
        .map_err(|error: KidError| ApiError::bad_body(error.to_string()))
}

/// The revision that the caller demands by `If-Match` (RFC 9110 §13.1.1) with the entity tag of
/// `GET keys`; `*` demands none, since there always is a key set. It must not contradict the body.
pub(super) fn seen_revision(
    headers: &HeaderMap,
    in_body: Option<u64>,
) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    if value == "*" {
        return Ok(None);
    }
    let tag = value.to_str().ok().and_then(|text| {
        text.strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .and_then(|revision| revision.parse().ok())
    });
    match (tag, in_body) {
        (None, _) => Err(ApiError::bad_header(
            "If-Match",
            "it must be `*` or the one ETag that GET keys answered with, like \"7\"",
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
        only_if_current: false,
    }))
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
