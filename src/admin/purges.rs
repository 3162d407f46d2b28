//! `GET keys/purges` and `GET keys/purges/{id}`: what was purged, whom it broke, and who is back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::lifecycle::Lifecycle;

use super::AdminParts;
use super::api;
use super::auth::{Operator, Role};
use super::error::ApiError;
use super::impact_views::{PurgeListView, PurgeSummaryView, PurgeView};
use super::operation::{Example, Operation, Tag};
use super::query::{MAX_PAGE, id_of, limit_of, query_of};

/// What stands for a purge in examples.
const PURGE_ID: &str = "1d9ee5d0-5c8b-4b0e-8a53-0c4f6f5a2b17";

/// `GET keys/purges/{id}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Most clients on the page; 100 by default.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// The last client of the page before.
    after: Option<String>,
}

/// `GET keys/purges`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgesQuery {
    /// Most purges on the page; 100 by default.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// The last purge of the page before.
    before: Option<Uuid>,
}

pub(super) fn describe_purges() -> Operation {
    Operation::get("/admin/v1/keys/purges", "listPurges", || get(purges))
        .label("keys_purges")
        .tag(Tag::Purges)
        .says(
            "The purges that are remembered, newest first",
            "The last 64; the audit log has every one.",
        )
        .query::<PurgesQuery>()
        .answers::<PurgeListView>(200, "A page of them.")
        .example(
            Example::new(
                "list",
                "The newest",
                200,
                include_str!("examples/listPurges.list.json"),
            )
            .with("limit", 10),
        )
        .example(
            Example::new(
                "next",
                "The page behind one",
                200,
                include_str!("examples/listPurges.next.json"),
            )
            .with("before", PURGE_ID),
        )
}

pub(super) async fn purges(
    State(parts): State<Arc<AdminParts>>,
    query: Result<Query<PurgesQuery>, QueryRejection>,
) -> Response {
    match try_purges(&parts.lifecycle, query) {
        Ok(view) => api::json(StatusCode::OK, &view),
        Err(error) => error.answer(&parts),
    }
}

fn try_purges(
    lifecycle: &Lifecycle,
    query: Result<Query<PurgesQuery>, QueryRejection>,
) -> Result<PurgeListView, ApiError> {
    let query = query_of(query)?;
    let limit = limit_of(query.limit)?;
    let receipts = lifecycle.receipts();
    let skipped = match query.before {
        None => 0,
        Some(before) => {
            let at = receipts.iter().position(|of| of.purge_id == before);
            1 + at.ok_or_else(|| {
                let rule = "before names no purge that is remembered; start at the newest again";
                ApiError::bad_query(rule.to_owned())
            })?
        }
    };
    let mut rest = receipts.iter().skip(skipped);
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let has_more = rest.next().is_some();
    let last = page.last().filter(|_| has_more);
    Ok(PurgeListView {
        next: last.map(|last| last.purge_id),
        purges: page
            .into_iter()
            .map(|receipt| PurgeSummaryView::of(receipt, &lifecycle.recovery(receipt.purge_id)))
            .collect(),
    })
}

pub(super) fn describe_purge() -> Operation {
    Operation::get("/admin/v1/keys/purges/{id}", "readPurge", || get(purge))
        .label("keys_purges")
        .tag(Tag::Purges)
        .says(
            "The receipt of a purge, whom it broke, and who is back",
            "As it stands now: the receipt is complete once no worker holds a purged key. Clients by name are for \
             operators; their page goes on with `after` set to `recovery.next_after`.",
        )
        .in_path::<Uuid>("id", "`purge_id` of the purge's answer.")
        .query::<PageQuery>()
        .answers::<PurgeView>(200, "The receipt, and the recovery of the clients.")
        .refuses(404, &["NO_SUCH_PURGE"])
        .example(
            Example::new(
                "read",
                "After one client came back",
                200,
                include_str!("examples/readPurge.read.json"),
            )
            .with("id", PURGE_ID)
            .with("limit", 50),
        )
}

/// The receipt of a purge, and what became of the clients, as far as it is by now.
pub(super) async fn purge(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    match try_purge(&parts, &operator, id_of(id), query) {
        Ok(view) => api::json(StatusCode::OK, &view),
        Err(error) => error.answer(&parts),
    }
}

fn try_purge(
    parts: &AdminParts,
    operator: &Operator,
    id: Option<Uuid>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<PurgeView, ApiError> {
    let lifecycle = &parts.lifecycle;
    let page = query_of(query)?;
    let limit = limit_of(page.limit)?;
    let receipt = id
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
