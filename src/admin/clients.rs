//! `GET clients`, `POST clients`, `GET clients/{id}`, and what every change to clients shares.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::IF_MATCH;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::clients::client::{MAX_SCOPE, MAX_SCOPES};
use crate::clients::document::MAX_TOKEN_TTL;
use crate::clients::{ClientId, ClientRefusal};
use crate::keys::Actor;
use crate::lifecycle::ClientsError;
use crate::lifecycle::clients::{ClientOutcome, NewSecret};

use super::AdminParts;
use super::api::{json, tagged};
use super::auth::{Operator, Role};
use super::body::{MAX_REASON, check_reason, parse, present};
use super::client_views::{Activity, ClientChangeView, ClientDetailView, ClientListView, page};
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};
use super::query::query_of;

/// Clients on a page unless the caller says otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// What a scope looks like (RFC 6749 §3.3).
const SCOPE: &str = "^[!#-\\[\\]-~]+$";

/// What stands for a client in examples.
pub(super) const CLIENT: &str = "billing";

pub(super) const PATH_ID: &str = "The client's id.";
pub(super) const CLIENTS_TAG: &str = "The revision of all clients in quotes, for `If-Match`.";
pub(super) const IF_CLIENTS: &str =
    "The `ETag` of the clients that you looked at; when one has changed since, nothing is done.";

/// `?limit&after` of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Most clients on the page; 100 by default.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// The last client of the page before.
    after: Option<String>,
}

/// `POST clients`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddRequest {
    id: ClientId,
    /// Scopes it may ask for; none by default.
    #[serde(default)]
    #[schemars(length(max = MAX_SCOPES), inner(length(min = 1, max = MAX_SCOPE), regex(pattern = SCOPE)))]
    scopes: Vec<String>,
    /// Life time of its tokens; that of the issuer by default.
    #[serde(default, deserialize_with = "present")]
    #[schemars(range(min = 1, max = MAX_TOKEN_TTL))]
    token_ttl_seconds: Option<u64>,
    /// Why, for the history.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(max = MAX_REASON))]
    reason: Option<String>,
}

pub(super) fn describe_list() -> Operation {
    Operation::get("/admin/v1/clients", "listClients", || get(list))
        .label("clients")
        .tag(Tag::Clients)
        .says(
            "Every client and what was done to it",
            "In the order of their ids. A viewer sees the numbers alone, without `clients`.",
        )
        .query::<ListQuery>()
        .answers::<ClientListView<'static>>(200, "A page of them.")
        .with_header("ETag", CLIENTS_TAG)
        .example(
            Example::new(
                "list",
                "The first page",
                200,
                include_str!("examples/listClients.list.json"),
            )
            .with("limit", 10),
        )
        .example(
            Example::new(
                "next",
                "The page behind a client",
                200,
                include_str!("examples/listClients.next.json"),
            )
            .with("after", CLIENT),
        )
}

pub(super) async fn list(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let query = match query_of(query) {
        Ok(query) => query,
        Err(error) => return error.answer(&parts),
    };
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return ApiError::bad_query(format!("limit is 1 to {MAX_PAGE}")).answer(&parts);
    }
    let document = parts.clients.document();
    let names = operator.role >= Role::Operator;
    let after = query.after.unwrap_or_default();
    let (page, has_more) = page(&parts.clients, &document, &after, limit);
    let activity = if names {
        activity(&parts, &page).await
    } else {
        Activity::new()
    };
    let shown = (&*page, has_more);
    let view = ClientListView::of(&parts.clients, &document, names, shown, &activity);
    tagged(json(StatusCode::OK, &view), document.revision)
}

pub(super) fn describe_show() -> Operation {
    Operation::get("/admin/v1/clients/{id}", "readClient", || get(show))
        .label("clients")
        .tag(Tag::Clients)
        .role(Role::Operator)
        .says("One client with its last changes", "")
        .in_path::<ClientId>("id", PATH_ID)
        .answers::<ClientDetailView<'static>>(200, "The client; its newest change stands first.")
        .with_header("ETag", CLIENTS_TAG)
        .refuses(404, &["NO_SUCH_CLIENT"])
        .example(
            Example::new(
                "read",
                "A client of the store",
                200,
                include_str!("examples/readClient.read.json"),
            )
            .with("id", CLIENT),
        )
}

pub(super) async fn show(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    if let Err(error) = operator.needs(Role::Operator) {
        return error.answer(&parts);
    }
    let id = match client_id(id) {
        Ok(id) => id,
        Err(error) => return error.answer(&parts),
    };
    let document = parts.clients.document();
    let activity = activity(&parts, &[id.as_str()]).await;
    match ClientDetailView::of(&parts.clients, &document, id.as_str(), &activity) {
        Some(view) => tagged(json(StatusCode::OK, &view), document.revision),
        None => refusal(&ClientRefusal::Unknown(id)).answer(&parts),
    }
}

/// What these clients did.
async fn activity(parts: &AdminParts, ids: &[&str]) -> Activity {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let activity = parts.lifecycle.client_activity(ids.clone()).await;
    ids.into_iter().zip(activity).collect()
}

pub(super) fn describe_add() -> Operation {
    let of = Operation::post("/admin/v1/clients", "addClient", || post(add))
        .label("clients")
        .tag(Tag::Clients)
        .role(Role::Admin)
        .says(
            "A new client of the store",
            "Its secret is generated; it is in this answer alone and cannot be shown again.",
        )
        .header::<String>("If-Match", IF_CLIENTS)
        .takes::<AddRequest>();
    refuses_changes(of)
        .answers::<ClientChangeView<'static>>(201, "The client, and its secret.")
        .with_header("ETag", CLIENTS_TAG)
        .refuses(409, &["CLIENTS_FULL", "CLIENT_EXISTS", "CLIENT_STATIC"])
        .example(
            Example::new(
                "add",
                "A service that reads",
                201,
                include_str!("examples/addClient.add.json"),
            )
            .body(json!({
                "id": "reports",
                "scopes": ["read"],
                "token_ttl_seconds": 600,
                "reason": "the new reporting service",
            })),
        )
}

pub(super) async fn add(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let added = async {
        let request: AddRequest = parse(&headers, &body)?;
        check_reason(request.reason.as_deref())?;
        let actor = admin(operator)?;
        let ttl = request.token_ttl_seconds.map(Duration::from_secs);
        let new = NewSecret {
            client: request.id.clone(),
            new_client: Some((request.scopes, ttl)),
            actor,
            reason: request.reason,
        };
        let (outcome, secret) = with_new_secret(&parts, new, seen(&parts, &headers)?).await?;
        Ok((request.id, outcome, Some(secret)))
    };
    answer(&parts, StatusCode::CREATED, added.await)
}

/// Why a change to clients may not be carried out.
pub(super) fn refuses_changes(of: Operation) -> Operation {
    of.refuses(412, &["REVISION_CHANGED"])
        .refuses(500, &["CLIENT_CHANGE_FAILED"])
}

pub(super) async fn with_new_secret(
    parts: &AdminParts,
    new: NewSecret,
    seen: Option<u64>,
) -> Result<(ClientOutcome, Zeroizing<String>), ApiError> {
    let clients = Arc::clone(&parts.clients);
    let task = tokio::spawn(async move { clients.with_new_secret(new, seen).await });
    let result = task.await.unwrap_or(Err(ClientsError::TaskDied));
    result.map_err(|error| failure(&error))
}

pub(super) type Changed = (ClientId, ClientOutcome, Option<Zeroizing<String>>);

pub(super) fn answer(
    parts: &AdminParts,
    status: StatusCode,
    changed: Result<Changed, ApiError>,
) -> Response {
    match changed {
        Ok((id, outcome, secret)) => {
            let view = ClientChangeView::of(
                &parts.clients,
                &outcome,
                id.as_str(),
                secret.as_ref().map(|secret| secret.as_str()),
            );
            tagged(json(status, &view), outcome.document.revision)
        }
        Err(error) => error.answer(parts),
    }
}

pub(super) fn admin(operator: Operator) -> Result<Actor, ApiError> {
    operator.needs(Role::Admin)?;
    Ok(Actor::Admin(operator.name))
}

pub(super) fn client_id(id: Result<Path<String>, PathRejection>) -> Result<ClientId, ApiError> {
    let text = id.map(|Path(id)| id).unwrap_or_default();
    text.parse().map_err(|error| {
        let detail = format!("there is no such client: {error}");
        ApiError::new(StatusCode::NOT_FOUND, "NO_SUCH_CLIENT", detail)
    })
}

/// The revision that the caller looked at (RFC 9110 §13.1.1), if it says so.
pub(super) fn seen(parts: &AdminParts, headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let (first, more) = (values.next(), values.next());
    let Some(value) = first else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let tag = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match tag.and_then(|tag| tag.parse().ok()) {
        _ if more.is_some() => {}
        Some(revision) => return Ok(Some(revision)),
        None if text == "*" => return Ok(None),
        None => {}
    }
    let current = parts.clients.document().revision;
    Err(refusal(&ClientRefusal::Stale { current }))
}

fn refusal(refusal: &ClientRefusal) -> ApiError {
    let (status, code) = match refusal {
        ClientRefusal::Unknown(_) => (StatusCode::NOT_FOUND, "NO_SUCH_CLIENT"),
        ClientRefusal::Exists(_) => (StatusCode::CONFLICT, "CLIENT_EXISTS"),
        ClientRefusal::Static(_) => (StatusCode::CONFLICT, "CLIENT_STATIC"),
        ClientRefusal::Full => (StatusCode::CONFLICT, "CLIENTS_FULL"),
        ClientRefusal::Dots | ClientRefusal::Scopes | ClientRefusal::TokenTtl { .. } => {
            return ApiError::bad_body(refusal.to_string());
        }
        ClientRefusal::Stale { .. } => (StatusCode::PRECONDITION_FAILED, "REVISION_CHANGED"),
    };
    ApiError::new(status, code, refusal.to_string())
}

/// A change that did not happen. What the caller can mend is said; the rest is in the log.
pub(super) fn failure(error: &ClientsError) -> ApiError {
    match error {
        ClientsError::Refused(refused) => refusal(refused),
        ClientsError::Store(_)
        | ClientsError::Replaced
        | ClientsError::Document(_)
        | ClientsError::Random
        | ClientsError::TaskDied => ApiError::failed(
            "CLIENT_CHANGE_FAILED",
            "The client could not be changed; everything is as before. Check the system logs for more details.",
            error.to_string(),
        ),
    }
}
