//! Who is not let in, and who not as far as they wanted: the errors that count as refusals.

use std::time::Duration;

use http::StatusCode;

use crate::telemetry::AdminRefusal;

use super::auth::Role;
use super::error::ApiError;

impl ApiError {
    pub(super) fn token_in_url() -> Self {
        let detail = "credentials do not belong into a URL, where histories and logs keep them: send \
                      `Authorization: Bearer TOKEN`, and replace the token if this was a real one";
        Self::new(StatusCode::BAD_REQUEST, "TOKEN_IN_URL", detail.to_owned())
            .counted_as(AdminRefusal::TokenInUrl)
    }

    pub(super) fn misdirected() -> Self {
        let detail = "the Host is not this listener's; use its address or localhost, or add the name to \
                      listeners.admin.allowed_hosts";
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "HOST_NOT_ALLOWED",
            detail.to_owned(),
        )
        .counted_as(AdminRefusal::HostNotAllowed)
    }

    pub(super) fn cross_origin() -> Self {
        let detail = "a request that changes something must come from this origin";
        Self::new(StatusCode::FORBIDDEN, "CROSS_ORIGIN", detail.to_owned())
            .counted_as(AdminRefusal::CrossOrigin)
    }

    /// A change by cookie that does not show that a page of ours wants it.
    pub(super) fn not_from_page() -> Self {
        let detail = "a change with the session cookie needs this listener's Origin (or Sec-Fetch-Site: same-origin) \
                      and the header X-Portcullis-Request: 1; tools send an admin token instead";
        Self::new(StatusCode::FORBIDDEN, "CROSS_ORIGIN", detail.to_owned())
            .counted_as(AdminRefusal::Csrf)
    }

    pub(super) fn unauthenticated() -> Self {
        let detail = "send an admin token: `Authorization: Bearer TOKEN`, or sign in";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            detail.to_owned(),
        )
        .counted_as(AdminRefusal::Unauthenticated)
    }

    /// The same code: the caller does the same, sign in.
    pub(super) fn session_ended() -> Self {
        let detail = "the session has ended: sign in again";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            detail.to_owned(),
        )
        .counted_as(AdminRefusal::SessionEnded)
    }

    pub(super) fn wrong_token() -> Self {
        let detail = "the admin token is not valid";
        Self::new(StatusCode::UNAUTHORIZED, "WRONG_TOKEN", detail.to_owned())
            .counted_as(AdminRefusal::WrongToken)
    }

    pub(super) fn throttled(wait: Duration) -> Self {
        let detail = "too many wrong admin tokens from this address";
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "THROTTLED",
            detail.to_owned(),
        )
        .after(wait)
        .counted_as(AdminRefusal::Throttled)
    }

    pub(super) fn forbidden(has: Role, needs: Role) -> Self {
        let detail = format!(
            "this needs the role {}, the token has the role {}",
            needs.as_str(),
            has.as_str()
        );
        Self::new(StatusCode::FORBIDDEN, "ROLE", detail).counted_as(AdminRefusal::Role)
    }

    /// Something on our side kept somebody with the right token from signing in.
    pub(super) fn sign_in_failed(cause: String) -> Self {
        let detail = "Signing in could not be completed. Check the system logs for more details.";
        Self::failed("SIGN_IN_FAILED", detail, cause)
    }
}
