//! `POST keys/import`: takes over a signing key of a former system.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::keygen::import::{ForeignKey, MAX_PEM_BYTES};
use crate::keys::legacy::{MAX_TEXT, MAX_TYP};
use crate::keys::transition::Order;
use crate::keys::{Actor, KeySet, Kid, PublicJwk};
use crate::lifecycle::{ImportCommand, Lifecycle};

use super::AdminParts;
use super::api::{IF_REVISION, REVISION_TAG, key_set, seen_revision, to_its_end};
use super::auth::{Operator, Role};
use super::body::{DURATION, MAX_DURATION, MAX_REASON, check_reason, duration, parse, present};
use super::error::ApiError;
use super::operation::{Example, Operation, Tag};
use super::views::KeySetView;

/// `POST keys/import`: exactly one of `pem` and `public_jwk`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["pem"] }, { "required": ["public_jwk"] }]))]
pub(super) struct ImportRequest {
    /// A private key in PKCS#8 or a public key.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>", length(max = MAX_PEM_BYTES))]
    pem: Option<Zeroizing<String>>,
    /// The public half alone; enough unless `active`.
    #[serde(default, deserialize_with = "present")]
    public_jwk: Option<PublicJwk>,
    /// The name that its tokens carry.
    #[serde(default, deserialize_with = "present")]
    kid: Option<Kid>,
    /// Longest life time of the former system's tokens, such as `1h`.
    #[schemars(extend("pattern" = DURATION), length(max = MAX_DURATION))]
    max_ttl: String,
    #[serde(default)]
    legacy: Legacy,
    /// Whether it is to sign from now on.
    #[serde(default)]
    active: bool,
    /// Why, for the audit.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(max = MAX_REASON))]
    reason: Option<String>,
}

/// What the former system's tokens say; what ours say unless it is named.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Legacy {
    /// Their issuer.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(min = 1, max = MAX_TEXT))]
    iss: Option<String>,
    /// Their audience, which stands for every audience of this issuer.
    #[serde(default, deserialize_with = "present")]
    #[schemars(length(min = 1, max = MAX_TEXT))]
    aud: Option<String>,
    /// Their `typ`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(extend("pattern" = "^[!-~]+$"), length(min = 1, max = MAX_TYP))]
    typ: Option<String>,
}

impl ImportRequest {
    fn check(self, lifecycle: &Lifecycle) -> Result<(ImportCommand, Option<String>), ApiError> {
        let bad = |rule: &dyn std::fmt::Display| ApiError::bad_body(rule.to_string());
        check_reason(self.reason.as_deref())?;
        let max_ttl: Duration = duration(&self.max_ttl)
            .ok_or_else(|| bad(&"max_ttl is a duration from 1s to 24h, such as \"1h\""))?;
        let key = match (self.pem, self.public_jwk) {
            (Some(pem), None) => ForeignKey::from_pem(pem.as_bytes()),
            (None, Some(jwk)) => ForeignKey::from_jwk(jwk),
            _ => return Err(bad(&"send exactly one of pem and public_jwk")),
        };
        let key = key.map_err(|error| bad(&error))?;
        if self.active && key.private_pkcs8.is_none() {
            return Err(bad(&"an active key signs: send its private half as pem"));
        }
        let legacy = lifecycle
            .legacy_rules(self.legacy.iss, self.legacy.aud, self.legacy.typ)
            .map_err(|error| bad(&error))?;
        let command = ImportCommand {
            key,
            kid: self.kid,
            max_ttl,
            legacy,
            active: self.active,
        };
        Ok((command, self.reason))
    }
}

pub(super) fn describe_import() -> Operation {
    Operation::post("/admin/v1/keys/import", "importKey", || post(import))
        .label("keys_import")
        .tag(Tag::Keys)
        .role(Role::Admin)
        .says(
            "Take over a signing key of a former system",
            "Its tokens are accepted until they have run out; with `active` it signs here from now on. The public \
             half is enough unless it is to sign.",
        )
        .header::<String>("If-Match", IF_REVISION)
        .takes::<ImportRequest>()
        .answers::<KeySetView>(200, "The key set with the key.")
        .with_header("ETag", REVISION_TAG)
        .refuses(400, &["BAD_HEADER"])
        .refuses(412, &["REVISION_AHEAD", "STALE_REVISION"])
        .refuses(500, &["ROTATION_FAILED"])
        .refuses(400, &["MAX_TTL"])
        .refuses(409, &["KEYSET_FULL", "KNOWN_KEY"])
        .example(
            Example::new(
                "public",
                "The public half of a key on P-256",
                200,
                include_str!("examples/importKey.public.json"),
            )
            .body(json!({
                "public_jwk": {
                    "kty": "EC",
                    "crv": "P-256",
                    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
                },
                "kid": "old-signer-2024",
                "max_ttl": "1h",
                "legacy": { "iss": "https://login.example", "aud": "shop", "typ": "JWT" },
                "reason": "the move from the old gateway",
            })),
        )
}

pub(super) async fn import(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_import(&parts, operator, &headers, &body).await {
        Ok(set) => key_set(&parts, &set).await,
        Err(error) => error.answer(&parts),
    }
}

async fn try_import(
    parts: &AdminParts,
    operator: Operator,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<KeySet, ApiError> {
    operator.needs(Role::Admin)?;
    let request: ImportRequest = parse(headers, body)?;
    let (command, reason) = request.check(&parts.lifecycle)?;
    let order = Order {
        seen_revision: seen_revision(headers, None)?,
        ..Lifecycle::order(Actor::Admin(operator.name), reason)
    };
    let lifecycle = Arc::clone(&parts.lifecycle);
    to_its_end(async move { lifecycle.import(&order, command).await }).await
}
