//! The request target: what decides and is forwarded, in canonical form.

use http::Uri;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::path::{self, PathError};

/// The canonical path, when it is not what would be forwarded already. The raw target is looked at
/// and not only what the parser made of it: `admin/x` parses as a host with the path `/`, and would
/// be forwarded as it came.
pub(super) fn target(request: &RequestHeader) -> std::result::Result<Option<String>, PathError> {
    let raw = request.raw_path();
    let is_absolute = ["http://", "https://"].into_iter().any(|scheme| {
        raw.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    if !raw.starts_with(b"/") && !is_absolute {
        return Err(PathError::NotOrigin);
    }
    let path = request.uri.path();
    let canonical = path::canonical(path)?;
    // Towards an origin a target has origin form (RFC 9112 §3.2.1).
    Ok(canonical.or_else(|| is_absolute.then(|| path.to_owned())))
}

pub(super) fn has_many_credentials(session: &Session) -> bool {
    session
        .req_header()
        .headers
        .get_all(AUTHORIZATION)
        .iter()
        .nth(1)
        .is_some()
}

pub(super) fn rewrite_path(session: &mut Session, canonical: &str) -> Result<()> {
    let uri = &session.req_header().uri;
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let not_a_uri = || {
        Error::explain(
            ErrorType::HTTPStatus(400),
            "the request target is not a URI",
        )
    };
    // On HTTP/2 the authority stays: it becomes the Host.
    let mut parts = uri.clone().into_parts();
    let target: PathAndQuery = format!("{canonical}{query}")
        .parse()
        .map_err(|_invalid| not_a_uri())?;
    parts.path_and_query = Some(target);
    let uri = Uri::from_parts(parts).map_err(|_invalid| not_a_uri())?;
    session.req_header_mut().set_uri(uri);
    Ok(())
}
