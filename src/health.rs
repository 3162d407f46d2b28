//! `/livez`, `/readyz` and `/metrics`. No credentials, no secrets. May import layers 0–3.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

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

async fn metrics(State(parts): State<HealthParts>, headers: HeaderMap) -> Response {
    let plain = parts.metrics.render();
    let packed = takes_gzip(&headers)
        .then(|| gzip(plain.as_bytes()))
        .flatten();
    let is_packed = packed.is_some();
    let mut response = Response::new(packed.map_or_else(|| Body::from(plain), Body::from));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether `Accept-Encoding` names gzip and does not forbid it (RFC 9110 §12.5.3). A wildcard is not
/// enough: plain text is always right.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(ACCEPT_ENCODING).iter();
    let texts = fields.filter_map(|field| field.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case("gzip")
            && weight
                .trim()
                .parse::<f32>()
                .is_ok_and(|weight| weight > 0.0)
    })
}

/// Quickly rather than tightly: the same names over and over shrink well at any level.
fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    packer.write_all(text).ok()?;
    packer.finish().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_whoever_asks_for_it() {
        let takes = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(ACCEPT_ENCODING, field.parse().unwrap());
            }
            takes_gzip(&headers)
        };
        assert!(takes(&["gzip"]));
        assert!(takes(&["deflate, GZIP;q=0.5"]));
        assert!(takes(&["br", "gzip; q=1"]));
        for fields in [
            &[][..],
            &["identity"],
            &["*"],
            &["gzip;q=0"],
            &["gzip; q=0.000"],
            &["gzip;q=x"],
            &["xgzip"],
        ] {
            assert!(!takes(fields), "{fields:?}");
        }
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        use std::io::Read as _;
        let text = "portcullis_http_requests_total 1\n".repeat(1000);
        let packed = gzip(text.as_bytes()).unwrap();
        assert!(packed.len() < text.len() / 10);
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_string(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, text);
    }
}
