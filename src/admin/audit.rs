//! `GET audit`: what was done to the keys, by whom, and whether the log of it is what was written.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::keys::audit::Event;
use crate::keys::{Actor, AuditRecord, Kid};
use crate::lifecycle::AuditPage;

use super::AdminParts;
use super::api::json;
use super::auth::{Operator, Role};
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};
use super::query::query_of;

/// Records on a page unless the caller says otherwise, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Only records of earlier revisions.
    before: Option<u64>,
    /// Most records on the page; 50 by default.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditPage")]
struct AuditView<'a> {
    /// Whether every line is what was written, and none is missing in between.
    verified: bool,
    problem: Option<ProblemView<'a>>,
    /// Newest first.
    records: Vec<RecordView<'a>>,
    /// `before` of the next page; null on the last one.
    next: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditProblem")]
struct ProblemView<'a> {
    /// The first bad line, from 1; null when there is no log.
    line: Option<u64>,
    rule: &'a str,
}

/// One event; what it did not touch is null or empty.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditRecord")]
struct RecordView<'a> {
    revision: u64,
    at: String,
    event: Event,
    actor: &'a Actor,
    reason: Option<&'a str>,
    /// Identifier of the rotation or purge.
    event_id: Option<Uuid>,
    activated: Option<&'a Kid>,
    deprecated: Option<&'a Kid>,
    published: Option<&'a Kid>,
    purged: &'a [Kid],
    retired: &'a [Kid],
    restored: Option<&'a Kid>,
    imported: Option<&'a Kid>,
    compromised: &'a [Kid],
}

pub(super) fn describe_audit() -> Operation {
    Operation::get("/admin/v1/audit", "listAuditRecords", || get(audit))
        .label("audit")
        .tag(Tag::Status)
        .role(Role::Operator)
        .says(
            "What was done to the keys, newest first",
            "And whether the log of it is intact: each record is chained to the one before.",
        )
        .query::<AuditQuery>()
        .answers::<AuditView<'static>>(200, "A page of records.")
        .refuses(500, &["AUDIT_UNREADABLE"])
        .example(
            Example::new(
                "list",
                "The newest two",
                200,
                include_str!("examples/listAuditRecords.list.json"),
            )
            .with("limit", 2),
        )
}

pub(super) async fn audit(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Response {
    match try_audit(&parts, &operator, query).await {
        Ok(page) => json(StatusCode::OK, &AuditView::of(&page)),
        Err(error) => error.answer(&parts),
    }
}

async fn try_audit(
    parts: &AdminParts,
    operator: &Operator,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<AuditPage, ApiError> {
    operator.needs(Role::Operator)?;
    let query = query_of(query)?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::bad_query(format!("limit is 1 to {MAX_PAGE}")));
    }
    let page = parts.lifecycle.audit_page(query.before, limit).await;
    page.map_err(|error| {
        let detail = "The audit log could not be read. Check the system logs for more details.";
        ApiError::failed("AUDIT_UNREADABLE", detail, error.to_string())
    })
}

/// A record as this API shows it, for whoever reads the log from the disk.
#[must_use]
pub fn audit_record(record: &AuditRecord) -> serde_json::Value {
    // Serialising strings and numbers cannot fail.
    serde_json::to_value(RecordView::of(record)).unwrap_or_default()
}

impl<'a> AuditView<'a> {
    fn of(page: &'a AuditPage) -> Self {
        Self {
            verified: page.problem.is_none(),
            problem: page.problem.as_ref().map(|problem| ProblemView {
                line: problem.line,
                rule: &problem.rule,
            }),
            records: page.records.iter().map(RecordView::of).collect(),
            next: page.next,
        }
    }
}

impl<'a> RecordView<'a> {
    fn of(record: &'a AuditRecord) -> Self {
        Self {
            revision: record.revision,
            at: record.at.to_string(),
            event: record.event,
            actor: &record.actor,
            reason: record.reason.as_deref(),
            event_id: record.event_id,
            activated: record.activated.as_ref(),
            deprecated: record.deprecated.as_ref(),
            published: record.published.as_ref(),
            purged: &record.purged,
            retired: &record.retired,
            restored: record.restored.as_ref(),
            imported: record.imported.as_ref(),
            compromised: &record.compromised,
        }
    }
}
