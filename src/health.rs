//! `/livez`, `/readyz` and `/metrics`. No credentials, no secrets. May import layers 0–3.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use crate::http::Refusal;
use crate::lifecycle::Published;
use crate::telemetry::{Level, Log, METRICS_CONTENT_TYPE, Metrics};

/// Paths of the health endpoints.
pub const HEALTH_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// What the endpoints look at.
#[derive(Clone)]
pub struct HealthParts {
    /// Keys: without them nothing is ready.
    pub published: Arc<Published>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The log.
    pub log: Log,
    /// Whether not every listener is open: not yet, or no longer.
    pub unready: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for HealthParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthParts").finish_non_exhaustive()
    }
}

/// Health alone, for a proxy listener that `serves: [health]`.
pub fn health_router(parts: HealthParts) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(parts)
}

/// Health and metrics, for the metrics listener.
pub fn metrics_router(parts: HealthParts) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(parts)
}

async fn livez() -> Response {
    text(StatusCode::OK, "alive\n".to_owned())
}

async fn readyz(State(parts): State<HealthParts>) -> Response {
    if (parts.unready)() {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting or stopping\n".to_owned(),
        );
    }
    text(
        StatusCode::OK,
        format!(
            "ready, key set revision {}\n",
            parts.published.load().set.revision
        ),
    )
}

async fn metrics(State(parts): State<HealthParts>) -> Response {
    let mut response = text(StatusCode::OK, parts.metrics.render());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE));
    response
}

async fn not_found(State(parts): State<HealthParts>) -> Response {
    let rule = "this listener answers /metrics, /livez and /readyz";
    refuse(&parts, StatusCode::NOT_FOUND, rule)
}

async fn method_not_allowed(State(parts): State<HealthParts>) -> Response {
    refuse(
        &parts,
        StatusCode::METHOD_NOT_ALLOWED,
        "the endpoint takes GET and HEAD alone",
    )
}

/// An error answer, and the one line that its Log ID points to.
fn refuse(parts: &HealthParts, status: StatusCode, rule: &'static str) -> Response {
    let refusal = Refusal::new(status, rule, None);
    parts
        .log
        .event(Level::Info, "request_failed", rule)
        .log_id(refusal.log_id)
        .field("status", status.as_u16())
        .emit();
    refusal.response()
}

fn text(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
