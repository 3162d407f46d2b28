//! The files of the console, embedded in the binary and served to anybody: they hold no data, and
//! the sign-in is one of them. What they show comes from the API, which asks who wants to know.
//!
//! To add a file, put it into `src/admin/console/` and write its row into [`FILES`].

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};

use super::AdminParts;
use super::error::ApiError;

/// The page: what `GET /` answers.
const PAGE: &str = "index.html";

/// Name below `/console/`, media type, content.
const FILES: &[(&str, &str, &[u8])] = &[
    (PAGE, HTML, include_bytes!("console/index.html")),
    ("actions.js", JS, include_bytes!("console/actions.js")),
    ("api.js", JS, include_bytes!("console/api.js")),
    ("app.js", JS, include_bytes!("console/app.js")),
    ("base.css", CSS, include_bytes!("console/base.css")),
    ("blast.js", JS, include_bytes!("console/blast.js")),
    ("chart.js", JS, include_bytes!("console/chart.js")),
    ("charts.css", CSS, include_bytes!("console/charts.css")),
    (
        "client_dialogs.js",
        JS,
        include_bytes!("console/client_dialogs.js"),
    ),
    ("dialog.js", JS, include_bytes!("console/dialog.js")),
    ("dialogs.css", CSS, include_bytes!("console/dialogs.css")),
    ("dom.js", JS, include_bytes!("console/dom.js")),
    ("events.js", JS, include_bytes!("console/events.js")),
    (
        "failures_chart.js",
        JS,
        include_bytes!("console/failures_chart.js"),
    ),
    ("favicon.svg", SVG, include_bytes!("console/favicon.svg")),
    ("format.js", JS, include_bytes!("console/format.js")),
    ("icons.js", JS, include_bytes!("console/icons.js")),
    (
        "key_tombstones.js",
        JS,
        include_bytes!("console/key_tombstones.js"),
    ),
    ("keys_panel.js", JS, include_bytes!("console/keys_panel.js")),
    ("live.js", JS, include_bytes!("console/live.js")),
    ("log_search.js", JS, include_bytes!("console/log_search.js")),
    ("page.js", JS, include_bytes!("console/page.js")),
    ("parts.css", CSS, include_bytes!("console/parts.css")),
    ("parts.js", JS, include_bytes!("console/parts.js")),
    ("receipt.js", JS, include_bytes!("console/receipt.js")),
    (
        "recovery_parts.js",
        JS,
        include_bytes!("console/recovery_parts.js"),
    ),
    ("rotate.js", JS, include_bytes!("console/rotate.js")),
    (
        "rotate_confirm.js",
        JS,
        include_bytes!("console/rotate_confirm.js"),
    ),
    (
        "rotate_result.js",
        JS,
        include_bytes!("console/rotate_result.js"),
    ),
    ("router.js", JS, include_bytes!("console/router.js")),
    ("runbook.md", TEXT, include_bytes!("../../docs/runbook.md")),
    ("session.js", JS, include_bytes!("console/session.js")),
    ("shell.css", CSS, include_bytes!("console/shell.css")),
    ("shell.js", JS, include_bytes!("console/shell.js")),
    ("store.js", JS, include_bytes!("console/store.js")),
    ("tables.css", CSS, include_bytes!("console/tables.css")),
    ("theme.js", JS, include_bytes!("console/theme.js")),
    ("theme_boot.js", JS, include_bytes!("console/theme_boot.js")),
    ("timeline.js", JS, include_bytes!("console/timeline.js")),
    ("tokens.css", CSS, include_bytes!("console/tokens.css")),
    ("view_audit.js", JS, include_bytes!("console/view_audit.js")),
    (
        "view_client.js",
        JS,
        include_bytes!("console/view_client.js"),
    ),
    (
        "view_clients.js",
        JS,
        include_bytes!("console/view_clients.js"),
    ),
    (
        "view_components.js",
        JS,
        include_bytes!("console/view_components.js"),
    ),
    ("view_home.js", JS, include_bytes!("console/view_home.js")),
    ("view_keys.js", JS, include_bytes!("console/view_keys.js")),
    ("view_logs.js", JS, include_bytes!("console/view_logs.js")),
    ("view_purge.js", JS, include_bytes!("console/view_purge.js")),
    (
        "view_purges.js",
        JS,
        include_bytes!("console/view_purges.js"),
    ),
    (
        "view_signin.js",
        JS,
        include_bytes!("console/view_signin.js"),
    ),
    ("views.css", CSS, include_bytes!("console/views.css")),
    (
        "view_runbook.js",
        JS,
        include_bytes!("console/view_runbook.js"),
    ),
];

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
/// Read by `view_runbook.js`; plain text for whoever opens it.
const TEXT: &str = "text/plain; charset=utf-8";

/// A file with its entity tag.
struct Asset {
    name: &'static str,
    media_type: HeaderValue,
    etag: HeaderValue,
    content: &'static [u8],
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| FILES.iter().filter_map(asset).collect());

/// A file whose row is right; a test looks at each.
fn asset(
    &(name, media_type, content): &(&'static str, &'static str, &'static [u8]),
) -> Option<Asset> {
    let digits: String = digest(&SHA256, content)
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(Asset {
        name,
        media_type: HeaderValue::from_static(media_type),
        etag: HeaderValue::from_str(&format!("\"{digits}\"")).ok()?,
        content,
    })
}

/// Whether a request is for the console's files, which need no authentication.
pub(super) fn is_console(path: &str) -> bool {
    path == "/" || path.starts_with("/console/")
}

pub(super) async fn page(State(parts): State<Arc<AdminParts>>, headers: HeaderMap) -> Response {
    serve(&parts, PAGE, &headers)
}

pub(super) async fn file(
    State(parts): State<Arc<AdminParts>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    serve(&parts, &name, &headers)
}

/// Always asked for again (`no-cache`), so that a new version of the program is seen at once; what
/// has not changed is not sent again.
fn serve(parts: &AdminParts, name: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return ApiError::not_found().answer(parts);
    };
    let mut response = Response::default();
    if is_known(headers, &asset.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(asset.content);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, asset.media_type.clone());
    }
    let fields = response.headers_mut();
    fields.insert(ETAG, asset.etag.clone());
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Whether the browser has this very version (RFC 9110 §13.1.2).
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let known = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
    };
    headers.get_all(IF_NONE_MATCH).iter().any(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_served_under_its_own_name() {
        assert_eq!(ASSETS.len(), FILES.len());
        for (index, asset) in ASSETS.iter().enumerate() {
            let name = asset.name;
            assert!(!asset.content.is_empty(), "{name} is empty");
            let tame = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            assert!(name.bytes().all(tame), "{name}");
            assert!(
                ASSETS
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.name != name),
                "{name} twice"
            );
            let expected = match name.rsplit_once('.').map(|(_, ending)| ending) {
                Some("html") => HTML,
                Some("js") => JS,
                Some("css") => CSS,
                Some("svg") => SVG,
                Some("md") => TEXT,
                other => panic!("{other:?}: say its media type here"),
            };
            assert_eq!(asset.media_type, expected, "{name}");
        }
        assert!(ASSETS.iter().any(|asset| asset.name == PAGE));
    }

    #[test]
    fn a_tag_is_found_among_others() {
        let etag = HeaderValue::from_static("\"ab\"");
        let known = |value: &'static str| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(value))]);
            is_known(&headers, &etag)
        };
        for good in ["\"ab\"", "W/\"ab\"", "\"x\", \"ab\"", "*"] {
            assert!(known(good), "{good}");
        }
        for bad in ["", "ab", "\"abc\"", "\"a\""] {
            assert!(!known(bad), "{bad}");
        }
    }
}
