//! Request bodies: exactly the documented members; an unknown, repeated, null or wrongly typed one
//! is refused before anything happens.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::keys::Kid;
use crate::keys::timing::MAX_KEYS;
use crate::keys::transition::PurgeScope;
use crate::lifecycle::shadow::{MAX_SHADOW, MIN_SHADOW};

use super::error::ApiError;

/// Longest `reason` in characters.
pub(super) const MAX_REASON: usize = 256;

/// What [`duration`] reads.
pub(super) const DURATION: &str = "^[0-9]+(ms|s|m|h)$";

/// Longest text of a duration that anybody needs.
pub(super) const MAX_DURATION: usize = 20;

/// `POST keys/rotate`.
#[derive(Debug, Deserialize, JsonSchema)]
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
    #[schemars(length(min = 1, max = MAX_KEYS))]
    pub(super) kids: Option<Vec<Kid>>,
    /// With the active key among `kids`: the pending one is trusted and becomes active.
    #[serde(default, deserialize_with = "present")]
    pub(super) keep_pending: Option<bool>,
    /// The purge may be undone; otherwise the keys count as compromised.
    #[serde(default, deserialize_with = "present")]
    pub(super) mistake_undo: Option<bool>,
    /// Why, for the audit.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(max = MAX_REASON))]
    pub(super) reason: Option<String>,
}

/// `POST keys/{kid}/restore`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreRequest {
    /// Why, for the audit.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(max = MAX_REASON))]
    pub(super) reason: Option<String>,
}

/// `500ms`, `30s`, `5m`, `1h`: a whole number and its unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `POST keys/reseal`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResealRequest {
    /// Whether the gateway makes a new key-encryption key first.
    #[serde(default)]
    pub(super) new_kek: bool,
    /// Why, for the audit.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(max = MAX_REASON))]
    pub(super) reason: Option<String>,
}

/// `POST keys/preview`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShadowRequest {
    /// For how long to count: `30s`, `5m`.
    #[schemars(extend("pattern" = DURATION), length(max = MAX_DURATION))]
    pub(super) shadow: String,
    /// The keys of the purge; all by default.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(min = 1, max = MAX_KEYS))]
    pub(super) kids: Option<Vec<Kid>>,
    /// With the active key among `kids`: the pending one would be trusted.
    #[serde(default, deserialize_with = "present")]
    pub(super) keep_pending: Option<bool>,
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
    serde_json::from_str(object_text(headers, body)?)
        .map_err(|error| ApiError::bad_body(error.to_string()))
}

/// Parses a JSON body with a secret in it: an error says where it is wrong and quotes nothing.
pub(super) fn parse_secretly<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<T, ApiError> {
    serde_json::from_str(object_text(headers, body)?).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let kind = if error.is_data() {
            "a member is missing, unknown, repeated or of the wrong type"
        } else {
            "it is not JSON"
        };
        ApiError::bad_body(format!("line {line}, column {column}: {kind}"))
    })
}

/// The text of a body that is declared and begins as a JSON object.
fn object_text<'a>(headers: &HeaderMap, body: &'a Bytes) -> Result<&'a str, ApiError> {
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
    Ok(text)
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
        check_scope(self.kids.as_deref(), self.keep_pending).map_err(ApiError::bad_body)?;
        Ok(self)
    }
}

impl ShadowRequest {
    /// For how long, and of which keys.
    pub(super) fn check(self) -> Result<(Duration, PurgeScope), ApiError> {
        let length = duration(&self.shadow)
            .filter(|length| (MIN_SHADOW..=MAX_SHADOW).contains(length))
            .ok_or_else(|| {
                ApiError::bad_body("shadow is a duration from 1s to 5m, such as \"30s\"".to_owned())
            })?;
        check_scope(self.kids.as_deref(), self.keep_pending).map_err(ApiError::bad_body)?;
        Ok((length, scope(self.kids, self.keep_pending)))
    }
}

/// The rules that a purge, a preview and a shadow purge share.
pub(super) fn check_scope(kids: Option<&[Kid]>, keep_pending: Option<bool>) -> Result<(), String> {
    if kids.is_some_and(|kids| kids.is_empty() || kids.len() > MAX_KEYS) {
        return Err("kids names 1 to 64 keys".to_owned());
    }
    if keep_pending.is_some() && kids.is_none() {
        return Err("keep_pending needs kids: a purge of all keys keeps none".to_owned());
    }
    Ok(())
}

/// All keys, or those named.
pub(super) fn scope(kids: Option<Vec<Kid>>, keep_pending: Option<bool>) -> PurgeScope {
    kids.map_or(PurgeScope::All, |kids| PurgeScope::Kids {
        kids,
        keep_pending: keep_pending.unwrap_or_default(),
    })
}

impl RestoreRequest {
    pub(super) fn check(self) -> Result<Self, ApiError> {
        check_reason(self.reason.as_deref()).map(|()| self)
    }
}

impl ResealRequest {
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

    #[test]
    fn a_shadow_purge_lasts_from_a_second_to_five_minutes() {
        let shadow = |body: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            parse::<ShadowRequest>(&headers, &Bytes::copy_from_slice(body.as_bytes()))
                .and_then(ShadowRequest::check)
        };
        for (text, millis) in [
            ("1s", 1000),
            ("1500ms", 1500),
            ("5m", 300_000),
            ("300s", 300_000),
        ] {
            let (length, scope) = shadow(&format!(r#"{{"shadow":"{text}"}}"#)).unwrap();
            assert_eq!((length.as_millis(), scope), (millis, PurgeScope::All));
        }
        for bad in [
            r#"{}"#,
            r#"{"shadow":30}"#,
            r#"{"shadow":"30"}"#,
            r#"{"shadow":"999ms"}"#,
            r#"{"shadow":"301s"}"#,
            r#"{"shadow":"99999999999999999999s"}"#,
            r#"{"shadow":"-1s"}"#,
            r#"{"shadow":"1h"}"#,
            r#"{"shadow":"30s","kids":[]}"#,
            r#"{"shadow":"30s","keep_pending":true}"#,
            r#"{"shadow":"30s","purge":true}"#,
        ] {
            assert!(shadow(bad).is_err(), "{bad}");
        }
    }
}
