//! The endpoints below `/admin/v1/clients`; the table is in [`super`].

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::clients::{ClientChange, ClientId, ClientOrder, ClientRefusal};
use crate::keys::Actor;
use crate::lifecycle::ClientsError;
use crate::lifecycle::clients::{ClientOutcome, NewSecret};

use super::AdminParts;
use super::api::json;
use super::auth::{Operator, Role};
use super::body::{check_reason, parse, present};
use super::client_views::{Activity, ClientChangeView, ClientDetailView, ClientListView, page};
use super::error::ApiError;

/// Clients on a page unless the caller says otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// The metric label of a path below `/admin/v1/clients`.
pub(super) fn endpoint_label(path: &str) -> Option<&'static str> {
    let rest = path.strip_prefix("/admin/v1/clients")?;
    let Some(rest) = rest.strip_prefix('/') else {
        return rest.is_empty().then_some("clients");
    };
    Some(match rest.split_once('/') {
        None => "clients",
        Some((_, verb)) => Verb::parse(verb)?.label(),
    })
}

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

impl Verb {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "enable" => Self::Enable,
            "invalidate" => Self::Invalidate,
            "rotate-secret" => Self::RotateSecret,
            "drop-old-secret" => Self::DropOldSecret,
            "remove" => Self::Remove,
            _ => return None,
        })
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Disable => "clients_disable",
            Self::Enable => "clients_enable",
            Self::Invalidate => "clients_invalidate",
            Self::RotateSecret => "clients_rotate_secret",
            Self::DropOldSecret => "clients_drop_old_secret",
            Self::Remove => "clients_remove",
        }
    }
}

/// `?limit&after` of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: Option<usize>,
    after: Option<String>,
}

/// `POST clients`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddRequest {
    id: ClientId,
    /// Scopes it may ask for; none by default.
    #[serde(default)]
    scopes: Vec<String>,
    /// Life time of its tokens; that of the issuer by default.
    #[serde(default, deserialize_with = "present")]
    token_ttl_seconds: Option<u64>,
    /// Why, for the history.
    #[serde(default, deserialize_with = "present")]
    reason: Option<String>,
}

/// `POST clients/{id}/…`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRequest {
    /// Why, for the history.
    #[serde(default, deserialize_with = "present")]
    reason: Option<String>,
}

pub(super) async fn list(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return bad_query(&error.body_text()).answer(&parts),
    };
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return bad_query("limit is 1 to 1000").answer(&parts);
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

pub(super) async fn show(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    if let Err(error) = operator.needs(Role::Operator) {
        return error.answer(&parts);
    }
    let id = match client_id(id.map(|Path(id)| id)) {
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

pub(super) async fn change(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let changed = async {
        let (id, verb) = match path {
            Ok(Path((id, verb))) => (Ok(id), Verb::parse(&verb)),
            Err(error) => (Err(error), Some(Verb::Disable)),
        };
        let verb = verb.ok_or_else(ApiError::not_found)?;
        let request: ChangeRequest = parse(&headers, &body)?;
        check_reason(request.reason.as_deref())?;
        let actor = admin(operator)?;
        let client = client_id(id)?;
        let seen = seen(&parts, &headers)?;
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
                let (outcome, secret) = with_new_secret(&parts, new, seen).await?;
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
    };
    answer(&parts, StatusCode::OK, changed.await)
}

async fn with_new_secret(
    parts: &AdminParts,
    new: NewSecret,
    seen: Option<u64>,
) -> Result<(ClientOutcome, Zeroizing<String>), ApiError> {
    let clients = Arc::clone(&parts.clients);
    let task = tokio::spawn(async move { clients.with_new_secret(new, seen).await });
    let result = task.await.unwrap_or(Err(ClientsError::TaskDied));
    result.map_err(|error| failure(&error))
}

type Changed = (ClientId, ClientOutcome, Option<Zeroizing<String>>);

fn answer(parts: &AdminParts, status: StatusCode, changed: Result<Changed, ApiError>) -> Response {
    match changed {
        Ok((id, outcome, secret)) => {
            let view = ClientChangeView::of(
                &parts.clients,
                &outcome.document,
                id.as_str(),
                outcome.changed,
                secret.as_ref().map(|secret| secret.as_str()),
            );
            tagged(json(status, &view), outcome.document.revision)
        }
        Err(error) => error.answer(parts),
    }
}

fn admin(operator: Operator) -> Result<Actor, ApiError> {
    operator.needs(Role::Admin)?;
    Ok(Actor::Admin(operator.name))
}

fn client_id(id: Result<String, PathRejection>) -> Result<ClientId, ApiError> {
    let text = id.unwrap_or_default();
    text.parse().map_err(|error| {
        let detail = format!("there is no such client: {error}");
        ApiError::new(StatusCode::NOT_FOUND, "NO_SUCH_CLIENT", detail)
    })
}

/// The revision that the caller looked at (RFC 9110 §13.1.1), if it says so.
fn seen(parts: &AdminParts, headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
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

fn tagged(mut response: Response, revision: u64) -> Response {
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

fn bad_query(rule: &str) -> ApiError {
    let detail = format!("the query takes `limit` and `after`: {rule}");
    ApiError::new(StatusCode::BAD_REQUEST, "BAD_QUERY", detail)
}

fn refusal(refusal: &ClientRefusal) -> ApiError {
    let (status, code) = match refusal {
        ClientRefusal::Unknown(_) => (StatusCode::NOT_FOUND, "NO_SUCH_CLIENT"),
        ClientRefusal::Exists(_) => (StatusCode::CONFLICT, "CLIENT_EXISTS"),
        ClientRefusal::Static(_) => (StatusCode::CONFLICT, "CLIENT_STATIC"),
        ClientRefusal::Full => (StatusCode::CONFLICT, "CLIENTS_FULL"),
        ClientRefusal::Scopes | ClientRefusal::TokenTtl { .. } => {
            return ApiError::bad_body(refusal.to_string());
        }
        ClientRefusal::Stale { .. } => (StatusCode::PRECONDITION_FAILED, "REVISION_CHANGED"),
    };
    ApiError::new(status, code, refusal.to_string())
}

/// A change that did not happen. What the caller can mend is said; the rest is in the log.
fn failure(error: &ClientsError) -> ApiError {
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
