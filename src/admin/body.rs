//! Request bodies: exactly the documented members; an unknown, repeated, null or wrongly typed one
//! is refused before anything happens.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::keys::Kid;
use crate::keys::timing::MAX_KEYS;

use super::error::ApiError;

/// Longest `reason` in characters.
const MAX_REASON: usize = 256;

/// `POST keys/rotate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateRequest {
    /// Whether every key that verifies dies at once.
    #[serde(default)]
    pub(super) purge: bool,
    /// The revision that the caller looked at; a purge demands it, `kids` or an idempotency key.
    #[serde(default, deserialize_with = "present")]
    pub(super) seen_revision: Option<u64>,
    /// The keys to purge; all by default.
    #[serde(default, deserialize_with = "present")]
    pub(super) kids: Option<Vec<Kid>>,
    /// With the active key among `kids`: the pending one is trusted and becomes active.
    #[serde(default, deserialize_with = "present")]
    pub(super) keep_pending: Option<bool>,
    /// The purge may be undone; otherwise the keys count as compromised.
    #[serde(default, deserialize_with = "present")]
    pub(super) mistake_undo: Option<bool>,
    /// Why, for the audit.
    #[serde(default, deserialize_with = "present")]
    pub(super) reason: Option<String>,
}

/// `POST keys/{kid}/restore`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreRequest {
    /// Why, for the audit.
    #[serde(default, deserialize_with = "present")]
    pub(super) reason: Option<String>,
}

/// A member that is there has a value: `null` is not the same as leaving it out.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Parses a JSON body.
pub(super) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, ApiError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::unsupported_media_type());
    }
    let text = std::str::from_utf8(body)
        .map_err(|_not_text| ApiError::bad_body("the body is not UTF-8".to_owned()))?;
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::bad_body(
            "the body must be a JSON object".to_owned(),
        ));
    }
    serde_json::from_str(text).map_err(|error| ApiError::bad_body(error.to_string()))
}

impl RotateRequest {
    pub(super) fn check(self) -> Result<Self, ApiError> {
        check_reason(self.reason.as_deref())?;
        let rule = |broken: bool, rule: &str| {
            if broken {
                Err(ApiError::bad_body(rule.to_owned()))
            } else {
                Ok(())
            }
        };
        let of_purge =
            self.kids.is_some() || self.keep_pending.is_some() || self.mistake_undo.is_some();
        rule(
            of_purge && !self.purge,
            "kids, keep_pending and mistake_undo belong to a purge: add \"purge\": true",
        )?;
        rule(
            self.kids
                .as_ref()
                .is_some_and(|kids| kids.is_empty() || kids.len() > MAX_KEYS),
            "kids names 1 to 64 keys",
        )?;
        rule(
            self.keep_pending.is_some() && self.kids.is_none(),
            "keep_pending needs kids: a purge of all keys keeps none",
        )?;
        Ok(self)
    }
}

impl RestoreRequest {
    pub(super) fn check(self) -> Result<Self, ApiError> {
        check_reason(self.reason.as_deref()).map(|()| self)
    }
}

pub(super) fn check_reason(reason: Option<&str>) -> Result<(), ApiError> {
    match reason {
        Some(reason) if reason.chars().count() > MAX_REASON => Err(ApiError::bad_body(format!(
            "reason is longer than {MAX_REASON} characters"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn rotate(body: &str) -> Result<RotateRequest, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        parse::<RotateRequest>(&headers, &Bytes::copy_from_slice(body.as_bytes()))
            .and_then(RotateRequest::check)
    }

    #[test]
    fn takes_exactly_the_documented_members() {
        let request = rotate(r#"{"purge":true,"seen_revision":7,"reason":"leak"}"#).unwrap();
        assert_eq!((request.purge, request.seen_revision), (true, Some(7)));
        assert!(!rotate("{}").unwrap().purge);
        for bad in [
            "",
            "null",
            "[]",
            "[true,1,\"x\"]",
            r#"{"purge":null}"#,
            r#"{"purge":"true"}"#,
            r#"{"purge":1}"#,
            r#"{"purge":true,"purge":false}"#,
            r#"{"Purge":true}"#,
            r#"{"purge":true,"seen_revision":null}"#,
            r#"{"purge":true,"seen_revision":-1}"#,
            r#"{"purge":true,"seen_revision":1.5}"#,
            r#"{"purge":true,"seen_revision":"1"}"#,
            r#"{"purge":true,"force":true}"#,
            r#"{"reason":null}"#,
            r#"{"kids":["a"]}"#,
            r#"{"purge":true,"kids":[]}"#,
            r#"{"purge":true,"kids":["a b"]}"#,
            r#"{"purge":true,"kids":"a"}"#,
            r#"{"purge":true,"seen_revision":1,"keep_pending":true}"#,
            r#"{"mistake_undo":true}"#,
            r#"{} {}"#,
            r#"{"purge":true"#,
        ] {
            assert!(rotate(bad).is_err(), "{bad}");
        }
        assert!(rotate(&format!(r#"{{"reason":"{}"}}"#, "x".repeat(257))).is_err());
    }
}
