//! `GET logs` and `GET logs/{log_id}`: what the log says, as far as it is kept in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::log_id::LogId;

use super::AdminParts;
use super::api::json;
use super::auth::{Operator, Role};
use super::error::ApiError;

/// Lines of one answer, unless it is told otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// How long to wait for the writer of the log: a line may be asked for before it was written.
const PATIENCE: Duration = Duration::from_millis(500);

/// `GET logs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewestQuery {
    limit: Option<usize>,
    /// `warn`, the default, for warnings and errors; `info` for refusals as well.
    level: Option<Least>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Least {
    Info,
    Warn,
}

#[derive(Debug, Serialize)]
struct NewestView {
    /// Newest first.
    lines: Vec<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct LinesView {
    log_id: LogId,
    /// Oldest first.
    lines: Vec<Box<RawValue>>,
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
    let Query(query) = query.map_err(|rejection| ApiError::bad_query(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::bad_query(format!("limit is 1 to {MAX_PAGE}")));
    }
    let refusals = query.level == Some(Least::Info);
    Ok(NewestView {
        lines: objects(&parts.recent.newest(limit, refusals)),
    })
}

pub(super) async fn of_log_id(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    Path(log_id): Path<String>,
) -> Response {
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
