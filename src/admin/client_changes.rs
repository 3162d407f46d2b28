//! `POST clients/{id}/…`: what can be done to a client that exists.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::clients::{ClientChange, ClientId, ClientOrder};
use crate::lifecycle::ClientsError;
use crate::lifecycle::clients::NewSecret;

use super::AdminParts;
use super::auth::{Operator, Role};
use super::body::{MAX_REASON, check_reason, parse, present};
use super::client_views::ClientChangeView;
use super::clients::{
    CLIENT, CLIENTS_TAG, Changed, IF_CLIENTS, PATH_ID, admin, answer, client_id, failure,
    refuses_changes, seen, with_new_secret,
};
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};

/// What can be done to a client that exists.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Disable,
    Enable,
    Invalidate,
    RotateSecret,
    DropOldSecret,
    Remove,
}

/// `POST clients/{id}/…`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRequest {
    /// Why, for the history.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(max = MAX_REASON))]
    reason: Option<String>,
}

/// What the operations on one client have in common.
fn of_client(of: Operation) -> Operation {
    let of = of
        .tag(Tag::Clients)
        .role(Role::Admin)
        .in_path::<ClientId>("id", PATH_ID)
        .header::<String>("If-Match", IF_CLIENTS)
        .takes::<ChangeRequest>();
    refuses_changes(of).refuses(404, &["NO_SUCH_CLIENT"])
}

pub(super) fn describe_disable() -> Operation {
    let path = "/admin/v1/clients/{id}/disable";
    of_client(Operation::post(path, "disableClient", || {
        change(Verb::Disable)
    }))
    .label("clients_disable")
    .says(
        "Shut a client out",
        "From the answer on it gets no token, and those it has are refused for good: after `enable` it needs new ones.",
    )
    .answers::<ClientChangeView<'static>>(200, "The client as it is now.")
    .with_header("ETag", CLIENTS_TAG)
    .refuses(409, &["CLIENTS_FULL"])
    .example(
        Example::new(
            "disable",
            "One that misbehaves",
            200,
            include_str!("examples/disableClient.disable.json"),
        )
        .with("id", CLIENT)
        .body(json!({ "reason": "it floods the shop" })),
    )
}

pub(super) fn describe_enable() -> Operation {
    let path = "/admin/v1/clients/{id}/enable";
    of_client(Operation::post(path, "enableClient", || {
        change(Verb::Enable)
    }))
    .label("clients_enable")
    .says(
        "Let a client in again",
        "It may fetch new tokens; those from before it was disabled, or ended by `invalidate`, stay refused.",
    )
    .answers::<ClientChangeView<'static>>(200, "The client as it is now.")
    .with_header("ETag", CLIENTS_TAG)
    .refuses(409, &["CLIENTS_FULL"])
    .example(
        Example::new(
            "enable",
            "After the incident",
            200,
            include_str!("examples/enableClient.enable.json"),
        )
        .with("id", CLIENT)
        .body(json!({})),
    )
}

pub(super) fn describe_invalidate() -> Operation {
    let path = "/admin/v1/clients/{id}/invalidate";
    of_client(Operation::post(path, "invalidateClient", || {
        change(Verb::Invalidate)
    }))
    .label("clients_invalidate")
    .says(
        "End the tokens of a client",
        "Those issued before the answer are refused; it may fetch new ones at once.",
    )
    .answers::<ClientChangeView<'static>>(200, "The client as it is now.")
    .with_header("ETag", CLIENTS_TAG)
    .refuses(409, &["CLIENTS_FULL"])
    .example(
        Example::new(
            "invalidate",
            "A token was seen in a log",
            200,
            include_str!("examples/invalidateClient.invalidate.json"),
        )
        .with("id", CLIENT)
        .body(json!({ "reason": "a token was seen in a log" })),
    )
}

pub(super) fn describe_rotate_secret() -> Operation {
    let path = "/admin/v1/clients/{id}/rotate-secret";
    of_client(Operation::post(path, "rotateClientSecret", || {
        change(Verb::RotateSecret)
    }))
    .label("clients_rotate_secret")
    .says(
        "Give a client of the store a new secret",
        "The last one stays good beside it; of two the older one ends at once, and `ended_secret_created_at` says which. \
         The new one is in this answer alone.",
    )
    .answers::<ClientChangeView<'static>>(200, "The client, and its new secret.")
    .with_header("ETag", CLIENTS_TAG)
    .refuses(409, &["CLIENTS_FULL", "CLIENT_STATIC"])
    .example(
        Example::new(
            "rotate",
            "A change-over",
            200,
            include_str!("examples/rotateClientSecret.rotate.json"),
        )
        .with("id", CLIENT)
        .body(json!({})),
    )
}

pub(super) fn describe_drop_old_secret() -> Operation {
    let path = "/admin/v1/clients/{id}/drop-old-secret";
    of_client(Operation::post(path, "dropOldClientSecret", || {
        change(Verb::DropOldSecret)
    }))
    .label("clients_drop_old_secret")
    .says(
        "End the older of two secrets",
        "After the client uses the newer one everywhere.",
    )
    .answers::<ClientChangeView<'static>>(200, "The client as it is now.")
    .with_header("ETag", CLIENTS_TAG)
    .refuses(409, &["CLIENTS_FULL", "CLIENT_STATIC"])
    .example(
        Example::new(
            "drop",
            "After a change-over",
            200,
            include_str!("examples/dropOldClientSecret.drop.json"),
        )
        .with("id", CLIENT)
        .body(json!({})),
    )
}

pub(super) fn describe_remove() -> Operation {
    let path = "/admin/v1/clients/{id}/remove";
    of_client(Operation::post(path, "removeClient", || {
        change(Verb::Remove)
    }))
    .label("clients_remove")
    .says(
        "Remove a client of the store",
        "Its secrets and its tokens end with it.",
    )
    .answers::<ClientChangeView<'static>>(
        200,
        "What is left of it: its history, for as long as a token of it might live.",
    )
    .with_header("ETag", CLIENTS_TAG)
    .refuses(409, &["CLIENTS_FULL", "CLIENT_STATIC"])
    .example(
        Example::new(
            "remove",
            "A service that was shut down",
            200,
            include_str!("examples/removeClient.remove.json"),
        )
        .with("id", CLIENT)
        .body(json!({ "reason": "shut down" })),
    )
}

/// The handler of a verb.
fn change(verb: Verb) -> MethodRouter<Arc<AdminParts>> {
    post(
        move |State(parts): State<Arc<AdminParts>>,
              Extension(operator): Extension<Operator>,
              id: Result<Path<String>, PathRejection>,
              headers: HeaderMap,
              body: Bytes| async move {
            let changed = try_change(&parts, verb, operator, id, &headers, &body).await;
            answer(&parts, StatusCode::OK, changed)
        },
    )
}

async fn try_change(
    parts: &AdminParts,
    verb: Verb,
    operator: Operator,
    id: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Changed, ApiError> {
    let request: ChangeRequest = parse(headers, body)?;
    check_reason(request.reason.as_deref())?;
    let actor = admin(operator)?;
    let client = client_id(id)?;
    let seen = seen(parts, headers)?;
    let change = match verb {
        Verb::Disable => ClientChange::Disable,
        Verb::Enable => ClientChange::Enable,
        Verb::Invalidate => ClientChange::Invalidate,
        Verb::DropOldSecret => ClientChange::DropOldSecret,
        Verb::Remove => ClientChange::Remove,
        Verb::RotateSecret => {
            let new = NewSecret {
                client: client.clone(),
                new_client: None,
                actor,
                reason: request.reason,
            };
            let (outcome, secret) = with_new_secret(parts, new, seen).await?;
            return Ok((client, outcome, Some(secret)));
        }
    };
    let order = ClientOrder {
        client: client.clone(),
        change,
        actor,
        reason: request.reason,
    };
    let clients = Arc::clone(&parts.clients);
    // On a task of its own: the caller may leave, the change runs to its end.
    let task = tokio::spawn(async move { clients.change(&order, seen).await });
    let outcome = task.await.unwrap_or(Err(ClientsError::TaskDied));
    Ok((client, outcome.map_err(|error| failure(&error))?, None))
}
