//! `GET client-changes`: what was last done to clients, by whom. The key set's audit log does not hold
//! it: it stands in the clients document, bounded, and is authenticated with it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clients::document::MAX_HISTORY;
use crate::clients::{ClientId, ClientsDocument};

use super::AdminParts;
use super::api::{json, tagged};
use super::auth::{Operator, Role};
use super::client_views::EventView;
use super::clients::CLIENTS_TAG;
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};
use super::query::query_of;

/// Changes on a page unless the caller says otherwise, and at most: all that is kept.
const PAGE: usize = 50;
const MAX_PAGE: usize = MAX_HISTORY;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    /// Only changes of earlier revisions of the clients.
    before: Option<u64>,
    /// Most changes on the page; 50 by default.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClientChangeList")]
struct ChangesView<'a> {
    /// Of the clients, now.
    revision: u64,
    /// Newest first.
    changes: Vec<ChangeView<'a>>,
    /// `before` of the next page; null on the last one.
    next: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ChangeOfClient")]
struct ChangeView<'a> {
    client: &'a ClientId,
    #[serde(flatten)]
    event: EventView<'a>,
}

pub(super) fn describe_changes() -> Operation {
    Operation::get("/admin/v1/client-changes", "listClientChanges", || {
        get(changes)
    })
    .label("client_changes")
    .tag(Tag::Clients)
    .role(Role::Operator)
    .says(
        "What was done to clients, newest first",
        "The last 1,000 changes of all clients, with who made them and why. They are kept beside the clients, under the \
         same authentication, and are not part of the chained log that `GET /admin/v1/audit` shows: whoever keeps such \
         records for longer takes the lines `client_changed` of the log.",
    )
    .query::<ChangesQuery>()
    .answers::<ChangesView<'static>>(200, "A page of changes.")
    .with_header("ETag", CLIENTS_TAG)
    .example(
        Example::new(
            "list",
            "The newest two",
            200,
            include_str!("examples/listClientChanges.list.json"),
        )
        .with("limit", 2),
    )
}

async fn changes(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Response {
    let document = parts.clients.document();
    match try_changes(&document, &operator, query) {
        Ok(view) => tagged(json(StatusCode::OK, &view), document.revision),
        Err(error) => error.answer(&parts),
    }
}

fn try_changes<'a>(
    document: &'a ClientsDocument,
    operator: &Operator,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Result<ChangesView<'a>, ApiError> {
    operator.needs(Role::Operator)?;
    let query = query_of(query)?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::bad_query(format!("limit is 1 to {MAX_PAGE}")));
    }
    let is_earlier = |revision: u64| query.before.is_none_or(|before| revision < before);
    let newest_first = document.history.iter().rev();
    let mut rest = newest_first.filter(|event| is_earlier(event.revision));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let has_more = rest.next().is_some();
    Ok(ChangesView {
        revision: document.revision,
        next: page.last().map(|last| last.revision).filter(|_| has_more),
        changes: page
            .into_iter()
            .map(|event| ChangeView {
                client: &event.client,
                event: EventView::of(event),
            })
            .collect(),
    })
}
