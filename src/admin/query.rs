//! What paths and queries say: identifiers, and pages of lists.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use uuid::Uuid;

use super::error::ApiError;

/// Items that one answer lists, unless it is told otherwise, and at most.
const PAGE: usize = 100;
pub(super) const MAX_PAGE: usize = 1000;

/// What a path names, if it can name anything.
pub(super) fn id_of(path: Result<Path<String>, PathRejection>) -> Option<Uuid> {
    path.ok()?.0.parse().ok()
}

pub(super) fn limit_of(limit: Option<usize>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::bad_query(format!("limit is 1 to {MAX_PAGE}")))
    }
}

pub(super) fn query_of<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|rejection| {
        let said = rejection.body_text();
        let rule = said.rsplit_once("query string: ").map(|(_, rule)| rule);
        ApiError::bad_query(format!(
            "the query is not understood: {}",
            rule.unwrap_or(&said)
        ))
    })
}
