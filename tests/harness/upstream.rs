//! An upstream in this process that answers every request with what reached it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, Uri};
use portcullis::gateway::limits::Limits;
use portcullis::http::{Bridge, BridgeLimits, LocalApp};
use portcullis::listeners::{Ephemeral, Shared, Sources, Stop, start_on_ephemeral};

/// A running upstream; ends when dropped.
pub struct Upstream {
    pub address: SocketAddr,
    _listener: Ephemeral,
}

impl Upstream {
    /// Answers with a JSON object: method, path, query, headers (a list of pairs), body.
    pub fn echo() -> Self {
        Self::of(Router::new().fallback(echo))
    }

    pub fn of(router: Router) -> Self {
        let limits = Limits {
            max_header_bytes: 256 * 1024,
            ..Limits::default()
        };
        let shared = Shared::new(Stop::new(Duration::from_secs(1)), &limits, Arc::new(|_| ()));
        let bridge_limits = BridgeLimits {
            max_body: 64 << 20,
            ..BridgeLimits::default()
        };
        let app = LocalApp::new(Bridge::new(router, bridge_limits, Arc::new(|_| ())));
        let listener =
            start_on_ephemeral(app, None, &Sources::new(0), &shared).expect("the upstream starts");
        Self {
            address: listener.address,
            _listener: listener,
        }
    }
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: bytes::Bytes) -> Response {
    let fields: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let seen = serde_json::json!({
        "method": method.as_str(),
        "path": uri.path(),
        "query": uri.query(),
        "headers": fields,
        "body": String::from_utf8_lossy(&body),
    });
    Response::new(Body::from(seen.to_string()))
}
