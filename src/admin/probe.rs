//! The door through which fuzzing reaches request bodies. Only with the feature `testing`.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;

use super::body::{
    ResealRequest, RestoreRequest, RotateRequest, ShadowRequest, parse, parse_secretly,
};
use super::client_changes::ChangeRequest;
use super::clients::AddRequest;
use super::clock::ConfirmRequest;
use super::error::ApiError;
use super::explain::ExplainRequest;
use super::import::ImportRequest;
use super::session_api::SignInRequest;

/// Whether the endpoint takes `body`; `None` for an endpoint that has none.
#[must_use]
pub fn takes_body(endpoint: &str, body: &[u8]) -> Option<bool> {
    Some(match endpoint {
        "rotate" => read(body).and_then(RotateRequest::check).is_ok(),
        "restore" => read(body).and_then(RestoreRequest::check).is_ok(),
        "reseal" => read(body).and_then(ResealRequest::check).is_ok(),
        "shadow" => read(body)
            .and_then(|request: ShadowRequest| request.check())
            .is_ok(),
        "add" => read::<AddRequest>(body).is_ok(),
        "change" => read::<ChangeRequest>(body).is_ok(),
        "confirm" => read::<ConfirmRequest>(body).is_ok(),
        "session" => read::<SignInRequest>(body).is_ok(),
        "import" => read::<ImportRequest>(body).is_ok(),
        "explain" => {
            let (headers, body) = json(body);
            parse_secretly::<ExplainRequest>(&headers, &body).is_ok()
        }
        _ => return None,
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let (headers, body) = json(body);
    parse(&headers, &body)
}

fn json(body: &[u8]) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (headers, Bytes::copy_from_slice(body))
}
