//! The endpoints that tell what a purge would break, and what one did break. None changes a key.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use uuid::Uuid;

use crate::keys::Kid;
use crate::keys::signing_key::KidError;
use crate::keys::transition::PurgeScope;
use crate::lifecycle::{Preview, Shadow};
use crate::telemetry::Level;

use super::AdminParts;
use super::api::json;
use super::auth::{Operator, Role};
use super::body::{self, ShadowRequest, parse};
use super::error::ApiError;
use super::impact_views::{PreviewView, PurgeSummaryView, PurgeView, ShadowView};

/// Clients of a purge that one answer lists, unless it is told otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// `GET keys/preview`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewQuery {
    purge: Option<bool>,
    /// Separated by commas.
    kids: Option<String>,
    keep_pending: Option<bool>,
}

/// `GET keys/purges/{id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    /// The last client of the page before.
    after: Option<String>,
}

pub(super) async fn preview(
    State(parts): State<Arc<AdminParts>>,
    query: Result<Query<PreviewQuery>, QueryRejection>,
) -> Response {
    match try_preview(&parts, query).await {
        Ok(preview) => json(StatusCode::OK, &PreviewView::of(&preview)),
        Err(error) => error.answer(&parts),
    }
}

async fn try_preview(
    parts: &AdminParts,
    query: Result<Query<PreviewQuery>, QueryRejection>,
) -> Result<Arc<Preview>, ApiError> {
    let scope = query_of(query)?.scope()?;
    let preview = parts.lifecycle.preview(&scope).await;
    preview.map_err(|refusal| ApiError::unknown_kid(&refusal))
}

impl PreviewQuery {
    fn scope(self) -> Result<PurgeScope, ApiError> {
        if self.purge == Some(false) {
            let rule = "a preview shows what a purge would break; a plain Rotate breaks nothing";
            return Err(ApiError::bad_query(rule.to_owned()));
        }
        let kids = self.kids.as_deref().map(|kids| {
            kids.split(',')
                .map(|kid| {
                    kid.parse()
                        .map_err(|error: KidError| format!("kids: {kid:?}: {error}"))
                })
                .collect::<Result<Vec<Kid>, String>>()
        });
        let kids = kids.transpose().map_err(ApiError::bad_query)?;
        body::check_scope(kids.as_deref(), self.keep_pending).map_err(ApiError::bad_query)?;
        Ok(body::scope(kids, self.keep_pending))
    }
}

/// Begins a shadow purge and answers at once; its address shows how far it is.
pub(super) async fn start_shadow(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_start_shadow(&parts, &operator, &headers, &body) {
        Ok(shadow) => {
            let view = ShadowView::of(&shadow, &parts.routes, parts.clock.now());
            let mut response = json(StatusCode::ACCEPTED, &view);
            if let Ok(location) = HeaderValue::from_str(&view.status_url) {
                response.headers_mut().insert(LOCATION, location);
            }
            response
        }
        Err(error) => error.answer(&parts),
    }
}

fn try_start_shadow(
    parts: &AdminParts,
    operator: &Operator,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Arc<Shadow>, ApiError> {
    let request: ShadowRequest = parse(headers, body)?;
    let (length, scope) = request.check()?;
    operator.needs(Role::Operator)?;
    let shadow = parts
        .lifecycle
        .start_shadow(&scope, length, parts.routes.len())
        .map_err(|refusal| ApiError::shadow(&refusal))?;
    parts
        .log
        .event(
            Level::Info,
            "shadow_purge_started",
            "a shadow purge counts what a purge would break; it changes nothing",
        )
        .field("shadow_id", shadow.id.to_string())
        .field("actor", operator.name.as_str())
        .field("ends_at", shadow.ends_at.to_string())
        .emit();
    Ok(shadow)
}

pub(super) async fn shadow(
    State(parts): State<Arc<AdminParts>>,
    Path(id): Path<String>,
) -> Response {
    let shadow = id
        .parse::<Uuid>()
        .ok()
        .and_then(|id| parts.lifecycle.shadow(id));
    match shadow {
        Some(shadow) => json(
            StatusCode::OK,
            &ShadowView::of(&shadow, &parts.routes, parts.clock.now()),
        ),
        None => ApiError::no_such_shadow().answer(&parts),
    }
}

/// Every purge that is remembered, newest first.
pub(super) async fn purges(State(parts): State<Arc<AdminParts>>) -> Response {
    let purges: Vec<PurgeSummaryView> = parts
        .lifecycle
        .receipts()
        .iter()
        .map(|receipt| {
            let recovery = parts.lifecycle.recovery(receipt.purge_id);
            PurgeSummaryView::of(receipt, &recovery)
        })
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "purges": purges }))
}

/// The receipt of a purge, and what became of the clients, as far as it is by now.
pub(super) async fn purge(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    match try_purge(&parts, &operator, &id, query) {
        Ok(view) => json(StatusCode::OK, &view),
        Err(error) => error.answer(&parts),
    }
}

fn try_purge(
    parts: &AdminParts,
    operator: &Operator,
    id: &str,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<PurgeView, ApiError> {
    let lifecycle = &parts.lifecycle;
    let page = query_of(query)?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::bad_query(format!("limit is 1 to {MAX_PAGE}")));
    }
    let receipt = id
        .parse::<Uuid>()
        .ok()
        .and_then(|id| lifecycle.receipt(id))
        .ok_or_else(ApiError::no_such_purge)?;
    let recovery = lifecycle.recovery(receipt.purge_id);
    // Who uses the services is not for every pair of eyes.
    let names = operator.role >= Role::Operator;
    let page = names.then_some((limit, page.after.as_deref()));
    let over_time = lifecycle.over_time(receipt.purge_id);
    let over_time = over_time.as_ref();
    Ok(PurgeView::of(
        &receipt,
        &recovery,
        over_time,
        page,
        &parts.clients,
    ))
}

fn query_of<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| ApiError::bad_query(rejection.body_text()))
}
