//! What a token says, read without any check. For explanations alone: nothing here decides.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::token::MAX_TOKEN_BYTES;
use crate::token::strict_json::parse_object;

use super::{TokenFacts, bounded};

/// Header parameters and claims that may be shown.
const HEADER: [&str; 3] = ["alg", "kid", "typ"];
const CLAIMS: [&str; 9] = [
    "iss",
    "sub",
    "client_id",
    "aud",
    "scope",
    "jti",
    "iat",
    "nbf",
    "exp",
];

/// Most audiences that are shown.
const MAX_LIST: usize = 64;

/// A token taken apart.
#[derive(Debug)]
pub(super) struct Peek {
    /// How many parts between dots.
    pub(super) parts: usize,
    /// Of the decoded header.
    pub(super) header_length: usize,
    /// `None` when it is not one JSON object without duplicate names.
    pub(super) header: Option<Map<String, Value>>,
    /// As `header`.
    pub(super) claims: Option<Map<String, Value>>,
}

impl Peek {
    pub(super) fn at(token: &[u8]) -> Self {
        let token = if token.len() > MAX_TOKEN_BYTES {
            &[]
        } else {
            token
        };
        let mut parts = token.split(|byte| *byte == b'.');
        let mut object = || {
            parse_object(
                &URL_SAFE_NO_PAD.decode(parts.next()?).ok()?,
                MAX_TOKEN_BYTES,
            )
        };
        Self {
            header_length: token
                .iter()
                .take_while(|byte| **byte != b'.')
                .count()
                .saturating_mul(3)
                / 4,
            header: object(),
            claims: object(),
            parts: token.split(|byte| *byte == b'.').count(),
        }
    }

    /// How many values are in the header, at all depths together.
    pub(super) fn header_values(&self) -> usize {
        self.header.as_ref().map_or(0, values_in)
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.header.as_ref()?.get("kid")?.as_str()
    }

    pub(super) fn header_text(&self, name: &str) -> Option<String> {
        self.header.as_ref()?.get(name)?.as_str().map(bounded)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.claims.as_ref()?.get(name)?.as_str().map(bounded)
    }

    pub(super) fn date(&self, name: &str) -> Option<Timestamp> {
        let seconds = self.claims.as_ref()?.get(name)?.as_i64()?;
        Some(Timestamp::from_seconds(seconds))
    }

    /// `aud`, as a list.
    pub(super) fn audience(&self) -> Vec<String> {
        let aud = self.claims.as_ref().and_then(|claims| claims.get("aud"));
        let list = aud.and_then(Value::as_array).map(Vec::as_slice);
        list.unwrap_or_else(|| aud.map(std::slice::from_ref).unwrap_or_default())
            .iter()
            .take(MAX_LIST)
            .filter_map(Value::as_str)
            .map(bounded)
            .collect()
    }

    /// What may be shown of it, not verified.
    pub(super) fn facts(&self) -> TokenFacts {
        let date = |name| self.date(name).map(|at| at.to_string());
        TokenFacts {
            verified: false,
            header: chosen(self.header.as_ref(), &HEADER),
            claims: chosen(self.claims.as_ref(), &CLAIMS),
            issued_at: date("iat"),
            expires_at: date("exp"),
            accepted_until: None,
        }
    }
}

/// The depth is bounded by the parser.
fn values_in(members: &Map<String, Value>) -> usize {
    members.values().map(|value| 1 + values_below(value)).sum()
}

fn values_below(value: &Value) -> usize {
    match value {
        Value::Object(members) => values_in(members),
        Value::Array(items) => items.iter().map(|item| 1 + values_below(item)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn chosen(members: Option<&Map<String, Value>>, names: &[&str]) -> Map<String, Value> {
    let one = |name: &&str| Some(((*name).to_owned(), short(members?.get(*name)?)?));
    names.iter().filter_map(one).collect()
}

/// Texts, numbers and lists of texts; anything else has no place in these members.
fn short(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => Some(Value::String(bounded(text))),
        Value::Number(_) => Some(value.clone()),
        Value::Array(items) => {
            let items = items.iter().take(MAX_LIST);
            Some(items.filter_map(Value::as_str).map(bounded).collect())
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}
