//! `GET logs` and `GET logs/{log_id}`: what the log says, as far as it is kept in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::log_id::LogId;

use super::AdminParts;
use super::api::json;
use super::auth::{Operator, Role};
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};
use super::query::query_of;

/// Lines of one answer, unless it is told otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// What stands for a Log ID in examples.
const LOG_ID: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";

/// How long to wait for the writer of the log: a line may be asked for before it was written.
const PATIENCE: Duration = Duration::from_millis(500);

/// `GET logs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewestQuery {
    /// Most lines; 100 by default.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// `warn`, the default, for warnings and errors; `info` for refusals as well.
    level: Option<Least>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LogLevel")]
enum Least {
    Info,
    Warn,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LogLines")]
struct NewestView {
    /// Newest first; each is an object as the log has it.
    #[schemars(with = "Vec<Map<String, Value>>")]
    lines: Vec<Box<RawValue>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LinesOfLogId")]
struct LinesView {
    #[schemars(with = "Uuid")]
    log_id: LogId,
    /// Oldest first; each is an object as the log has it.
    #[schemars(with = "Vec<Map<String, Value>>")]
    lines: Vec<Box<RawValue>>,
}

pub(super) fn describe_newest() -> Operation {
    Operation::get("/admin/v1/logs", "listLogLines", || get(newest))
        .label("logs")
        .tag(Tag::Status)
        .role(Role::Operator)
        .says(
            "The newest lines of the log that are kept in memory",
            "A bounded number of warnings and errors (`log.ring_lines`), until the process ends.",
        )
        .query::<NewestQuery>()
        .answers::<NewestView>(200, "The lines.")
        .example(
            Example::new(
                "newest",
                "The newest three",
                200,
                include_str!("examples/listLogLines.newest.json"),
            )
            .with("limit", 3),
        )
}

pub(super) async fn newest(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    query: Result<Query<NewestQuery>, QueryRejection>,
) -> Response {
    match try_newest(&parts, &operator, query) {
        Ok(view) => json(StatusCode::OK, &view),
        Err(error) => error.answer(&parts),
    }
}

fn try_newest(
    parts: &AdminParts,
    operator: &Operator,
    query: Result<Query<NewestQuery>, QueryRejection>,
) -> Result<NewestView, ApiError> {
    operator.needs(Role::Operator)?;
    let query = query_of(query)?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::bad_query(format!("limit is 1 to {MAX_PAGE}")));
    }
    let refusals = query.level == Some(Least::Info);
    Ok(NewestView {
        lines: objects(&parts.recent.newest(limit, refusals)),
    })
}

pub(super) fn describe_of_log_id() -> Operation {
    Operation::get("/admin/v1/logs/{log_id}", "readLogId", || get(of_log_id))
        .label("logs")
        .tag(Tag::Status)
        .role(Role::Operator)
        .says("The lines of a Log ID, as far as they are in memory", "")
        .in_path::<Uuid>("log_id", "As an error answer shows it.")
        .answers::<LinesView>(200, "The lines.")
        .refuses(400, &["BAD_LOG_ID"])
        .refuses(404, &["LOG_ID_UNKNOWN"])
        .example(
            Example::new(
                "read",
                "Of a request that was refused",
                200,
                include_str!("examples/readLogId.read.json"),
            )
            .with("log_id", LOG_ID),
        )
}

pub(super) async fn of_log_id(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    log_id: Result<Path<String>, PathRejection>,
) -> Response {
    let log_id = log_id.map(|Path(log_id)| log_id).unwrap_or_default();
    match try_of_log_id(&parts, &operator, &log_id).await {
        Ok(view) => json(StatusCode::OK, &view),
        Err(error) => error.answer(&parts),
    }
}

async fn try_of_log_id(
    parts: &Arc<AdminParts>,
    operator: &Operator,
    log_id: &str,
) -> Result<LinesView, ApiError> {
    operator.needs(Role::Operator)?;
    let log_id: LogId = log_id
        .parse()
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "BAD_LOG_ID", bad(&error)))?;
    let mut lines = parts.recent.find(log_id);
    if lines.is_empty() {
        let log = parts.log.clone();
        // In time or not: what is there by then is what there is.
        drop(tokio::task::spawn_blocking(move || log.settle(PATIENCE)).await);
        lines = parts.recent.find(log_id);
    }
    if lines.is_empty() {
        return Err(ApiError::unknown_log_id(parts.recent.most()));
    }
    Ok(LinesView {
        log_id,
        lines: objects(&lines),
    })
}

fn bad(error: &uuid::Error) -> String {
    format!("a Log ID is a UUID, such as 3f2504e0-4f89-41d3-9a0c-0305e82c3301: {error}")
}

/// Lines are JSON objects by construction.
fn objects(lines: &[Arc<str>]) -> Vec<Box<RawValue>> {
    lines
        .iter()
        .filter_map(|line| RawValue::from_string(line.to_string()).ok())
        .collect()
}
