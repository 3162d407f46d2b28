//! `POST /admin/v1/clock/confirm`: the operator says that the time after a step is right.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::ForwardStep;

use super::AdminParts;
use super::api;
use super::auth::{Operator, Role};
use super::body::{parse, present};
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};

/// Why automatic rotation and retirement wait; part of `GET keys`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SchedulePause")]
pub(super) struct PauseView {
    /// When the step was seen, by the clock after it; also what `clock/confirm` names it by.
    since: String,
    step_seconds: u64,
    /// When the schedule goes on by itself unless the clock steps again.
    resumes_at: String,
    /// What the gateway takes for the present, for comparison with another clock.
    now: String,
}

impl PauseView {
    /// What the schedule waits for now, if it does.
    pub(super) fn of(parts: &AdminParts) -> Option<Self> {
        let step = parts.lifecycle.schedule_pause()?;
        Some(Self::new(&step, parts))
    }

    fn new(step: &ForwardStep, parts: &AdminParts) -> Self {
        Self {
            since: step.since.to_string(),
            step_seconds: step.size.as_secs(),
            resumes_at: step.resumes_at.to_string(),
            now: parts.clock.now().to_string(),
        }
    }
}

/// The body: `{}`, or the step that the operator saw.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmRequest {
    /// `schedule_paused.since` as `GET keys` showed it; when the clock has stepped again since,
    /// nothing is confirmed.
    #[serde(default, deserialize_with = "present")]
    since: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClockConfirmation")]
struct ConfirmView {
    /// False when nothing waited to be confirmed.
    changed: bool,
    /// The step that was confirmed.
    confirmed: Option<PauseView>,
}

pub(super) fn describe_confirm() -> Operation {
    Operation::post("/admin/v1/clock/confirm", "confirmClock", || post(confirm))
        .label("clock_confirm")
        .tag(Tag::Clock)
        .role(Role::Operator)
        .says(
            "Say that the time after a step of the clock is right",
            "After a forward step of more than five minutes automatic rotation and retirement wait, as \
             `schedule_paused` of the key set shows; this ends the wait.",
        )
        .takes::<ConfirmRequest>()
        .answers::<ConfirmView>(200, "What was confirmed, if anything waited.")
        .refuses(409, &["CLOCK_STEPPED_AGAIN"])
        .example(
            Example::new(
                "nothing",
                "Nothing waits",
                200,
                include_str!("examples/confirmClock.nothing.json"),
            )
            .body(json!({})),
        )
}

pub(super) async fn confirm(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_confirm(&parts, &operator, &headers, &body) {
        Ok(confirmed) => api::json(
            StatusCode::OK,
            &ConfirmView {
                changed: confirmed.is_some(),
                confirmed,
            },
        ),
        Err(error) => error.answer(&parts),
    }
}

fn try_confirm(
    parts: &AdminParts,
    operator: &Operator,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Option<PauseView>, ApiError> {
    let request: ConfirmRequest = parse(headers, body)?;
    operator.needs(Role::Operator)?;
    let Some(step) = parts.lifecycle.schedule_pause() else {
        return Ok(None);
    };
    let view = PauseView::new(&step, parts);
    let meant = request.since.is_none_or(|since| since == view.since);
    if meant && parts.lifecycle.confirm_clock(step.since, &operator.name) {
        Ok(Some(view))
    } else {
        Err(ApiError::clock_stepped_again(&view.since))
    }
}
