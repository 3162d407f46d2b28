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

use crate::lifecycle::Published;
use crate::telemetry::{METRICS_CONTENT_TYPE, Metrics};

/// Paths of the health endpoints.
pub const HEALTH_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// What the endpoints look at.
#[derive(Clone)]
pub struct HealthParts {
    /// Keys: without them nothing is ready.
    pub published: Arc<Published>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
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
        .with_state(parts)
}

/// Health and metrics, for the metrics listener.
pub fn metrics_router(parts: HealthParts) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
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
