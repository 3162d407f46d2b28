//! The endpoints that tell what a purge would break. None changes a key.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::keys::Kid;
use crate::keys::signing_key::KidError;
use crate::keys::timing::MAX_KEYS;
use crate::keys::transition::PurgeScope;
use crate::lifecycle::{Preview, Shadow};
use crate::telemetry::Level;

use super::AdminParts;
use super::api::{self, KID};
use super::auth::{Operator, Role};
use super::body::{self, ShadowRequest, parse};
use super::error::ApiError;
use super::impact_views::{PreviewView, ShadowView};
use super::operation::{Example, Operation, Tag};
use super::query::{id_of, query_of};

/// What stands for a shadow purge in examples.
const SHADOW_ID: &str = "c2a3f6de-3c52-4b4f-a2a5-2f9b1d6e7a40";

/// `GET keys/preview`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewQuery {
    /// Always true: a plain Rotate breaks nothing.
    #[schemars(extend("const" = true))]
    purge: Option<bool>,
    /// The keys of the purge, separated by commas; all by default.
    #[schemars(with = "Option<Vec<Kid>>", length(min = 1, max = MAX_KEYS))]
    kids: Option<String>,
    /// With the active key among `kids`: the pending one would be trusted.
    keep_pending: Option<bool>,
}

pub(super) fn describe_preview() -> Operation {
    Operation::get("/admin/v1/keys/preview", "previewPurge", || get(preview))
        .label("keys_preview")
        .tag(Tag::Purges)
        .says(
            "What a purge would break",
            "Upper bounds, at most a second old; nothing is changed.",
        )
        .query::<PreviewQuery>()
        .answers::<PreviewView>(200, "The figures, in all and by key.")
        .refuses(400, &["UNKNOWN_KID"])
        .example(
            Example::new(
                "all",
                "Of a purge of all keys",
                200,
                include_str!("examples/previewPurge.all.json"),
            )
            .with("purge", true),
        )
        .example(
            Example::new(
                "one",
                "Of a purge of one key",
                200,
                include_str!("examples/previewPurge.one.json"),
            )
            .with("kids", json!([KID])),
        )
}

pub(super) async fn preview(
    State(parts): State<Arc<AdminParts>>,
    query: Result<Query<PreviewQuery>, QueryRejection>,
) -> Response {
    match try_preview(&parts, query).await {
        Ok(preview) => api::json(StatusCode::OK, &PreviewView::of(&preview)),
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

pub(super) fn describe_start_shadow() -> Operation {
    Operation::post("/admin/v1/keys/preview", "startShadowPurge", || {
        post(start_shadow)
    })
    .label("keys_preview")
    .tag(Tag::Purges)
    .role(Role::Operator)
    .says(
        "Count on live traffic what a purge would refuse",
        "For one second to five minutes; one at a time. No request is treated any different.",
    )
    .takes::<ShadowRequest>()
    .answers::<ShadowView>(202, "It counts; `status_url` shows how far it is.")
    .with_header("Location", "The same as `status_url`.")
    .refuses(400, &["UNKNOWN_KID"])
    .refuses(409, &["SHADOW_RUNNING"])
    .example(
        Example::new(
            "start",
            "For thirty seconds",
            202,
            include_str!("examples/startShadowPurge.start.json"),
        )
        .body(json!({ "shadow": "30s" })),
    )
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
            let mut response = api::json(StatusCode::ACCEPTED, &view);
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

pub(super) fn describe_shadow() -> Operation {
    let path = "/admin/v1/keys/preview/shadows/{id}";
    Operation::get(path, "readShadowPurge", || get(shadow))
        .label("keys_shadows")
        .tag(Tag::Purges)
        .says(
            "What a shadow purge counted, so far or in the end",
            "The last 16 are remembered, until the process ends.",
        )
        .in_path::<Uuid>("id", "`shadow_id` of the answer that started it.")
        .answers::<ShadowView>(200, "The figures.")
        .refuses(404, &["NO_SUCH_SHADOW"])
        .example(
            Example::new(
                "read",
                "While it runs",
                200,
                include_str!("examples/readShadowPurge.read.json"),
            )
            .with("id", SHADOW_ID),
        )
}

pub(super) async fn shadow(
    State(parts): State<Arc<AdminParts>>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let shadow = id_of(id).and_then(|id| parts.lifecycle.shadow(id));
    match shadow {
        Some(shadow) => api::json(
            StatusCode::OK,
            &ShadowView::of(&shadow, &parts.routes, parts.clock.now()),
        ),
        None => ApiError::no_such_shadow().answer(&parts),
    }
}
