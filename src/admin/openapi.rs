//! The OpenAPI 3.1 document of the admin API, made from the table of operations and the types that
//! are parsed and sent; served, printed by `portcullis openapi`, and kept as `docs/openapi.json`.
//!
//! Invariants: it says nothing about this installation, so whoever reaches the listener may read it;
//! equal code gives equal bytes.

mod answers;
mod document;
mod prose;
mod schemas;

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::operation::{Example, Operation, Tag};

/// The document as text, indented, with a line feed at its end.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    // Strings, numbers and maps of them always serialise.
    serde_json::to_string_pretty(&document::document()).unwrap_or_default() + "\n"
});

/// `"` and half the digest of the document and `"`.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let digest = digest(&SHA256, TEXT.as_bytes());
    let digits = digest.as_ref().iter().take(16);
    let text: String = digits.map(|byte| format!("{byte:02x}")).collect();
    format!("\"{text}\"")
});

/// The document: OpenAPI 3.1 in JSON.
#[must_use]
pub fn openapi() -> &'static str {
    &TEXT
}

/// An OpenAPI document, for which this one cannot have a schema.
struct AnyDocument;

impl JsonSchema for AnyDocument {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyDocument".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": { "openapi": { "type": "string", "pattern": "^3\\.1\\." } },
            "required": ["openapi", "info", "paths"],
        })
    }
}

pub(super) fn describe() -> Operation {
    Operation::get("/admin/v1/openapi.json", "readOpenApi", || get(serve))
        .label("openapi")
        .tag(Tag::Document)
        .open()
        .says(
            "This document",
            "Needs no token: it is the same in every installation of a version. Send its `ETag` in \
             `If-None-Match` to fetch it only when it has changed.",
        )
        .header::<String>(
            "If-None-Match",
            "The `ETag` of a copy that you have, or `*`.",
        )
        .answers::<AnyDocument>(200, "The document.")
        .with_header("ETag", "Changes with the document.")
        .answers_nothing(304, "The copy named in `If-None-Match` is the current one.")
        .with_header("ETag", "Of the current document.")
        .example(Example::new("read", "Read it", 200, "{\"info\": {\"title\": \"Portcullis admin API\", \"version\": \"…\"}, \"openapi\": \"3.1.0\", \"paths\": {}}"))
}

async fn serve(headers: HeaderMap) -> Response {
    let known = headers.get_all(IF_NONE_MATCH).iter();
    let known = known.filter_map(|value| value.to_str().ok());
    let is_current = known
        .flat_map(|tags| tags.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == *TAG || tag == "*");
    let mut response = if is_current {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(Bytes::from_static(openapi().as_bytes())))
    };
    let headers = response.headers_mut();
    if !is_current {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&TAG) {
        headers.insert(ETAG, tag);
    }
    response
}
