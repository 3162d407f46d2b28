//! What verifiers and clients read: the JWKS (RFC 7517 §5) and the metadata (RFC 8414 §2).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::http::Hold;
use crate::keys::jwks::max_age;
use crate::lifecycle::Purpose;

use super::IssuerParts;

#[derive(Serialize)]
struct Metadata<'a> {
    issuer: &'a str,
    token_endpoint: String,
    jwks_uri: String,
    scopes_supported: &'a [String],
    response_types_supported: [&'static str; 0],
    grant_types_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 2],
}

/// The JWKS, under a held snapshot: after a purge has answered, no answer shows the dead keys.
pub(super) async fn jwks(State(parts): State<Arc<IssuerParts>>, headers: HeaderMap) -> Response {
    let holder = parts.published.hold(parts.worker, Purpose::Jwks);
    let snapshot = holder.snapshot();
    let seconds = max_age(&snapshot.set, &parts.spec.timing, parts.clock.now()).as_secs();
    let unchanged = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == snapshot.jwks_etag
        });
    let mut response = Response::new(if unchanged {
        Body::empty()
    } else {
        Body::from(snapshot.jwks.clone())
    });
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let etag = HeaderValue::from_str(&snapshot.jwks_etag);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/jwk-set+json"),
    );
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={seconds}")) {
        headers.insert(CACHE_CONTROL, value);
    }
    if let Ok(etag) = etag {
        headers.insert(ETAG, etag);
    }
    response
        .extensions_mut()
        .insert(Hold::new(holder.handing_out()));
    response
}

pub(super) async fn metadata(State(parts): State<Arc<IssuerParts>>) -> Response {
    let issuer = parts.spec.url.as_str();
    let document = Metadata {
        issuer,
        token_endpoint: format!("{issuer}/oauth2/token"),
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        scopes_supported: &parts.spec.scopes,
        response_types_supported: [],
        grant_types_supported: ["client_credentials"],
        token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
    };
    // Serialising strings into a Vec cannot fail.
    let mut response = Response::new(Body::from(
        serde_json::to_vec(&document).unwrap_or_default(),
    ));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    response
}
