//! `POST keys/import` and `POST keys/{kid}/compromised`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::keygen::import::ForeignKey;
use crate::keys::{Actor, KeySet, Kid, PublicJwk};
use crate::lifecycle::{ImportCommand, Lifecycle};

use super::AdminParts;
use super::api::{json, key_set_view, kid_of, to_its_end};
use super::auth::{Operator, Role};
use super::body::{RestoreRequest, check_reason, duration, parse, present};
use super::error::ApiError;

/// `POST keys/import`: exactly one of `pem` and `public_jwk`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportRequest {
    /// A private key in PKCS#8 or a public key.
    #[serde(default, deserialize_with = "present")]
    pem: Option<Zeroizing<String>>,
    /// The public half alone; enough unless `active`.
    #[serde(default, deserialize_with = "present")]
    public_jwk: Option<PublicJwk>,
    /// The name that its tokens carry.
    #[serde(default, deserialize_with = "present")]
    kid: Option<Kid>,
    /// Longest life time of the former system's tokens, such as `1h`.
    max_ttl: String,
    #[serde(default)]
    legacy: Legacy,
    /// Whether it is to sign from now on.
    #[serde(default)]
    active: bool,
    #[serde(default, deserialize_with = "present")]
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Legacy {
    #[serde(default, deserialize_with = "present")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<String>,
    #[serde(default, deserialize_with = "present")]
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

pub(super) async fn import(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_import(&parts, operator, &headers, &body).await {
        Ok(set) => answer(&parts, &set).await,
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
    let order = Lifecycle::order(Actor::Admin(operator.name), reason);
    let lifecycle = Arc::clone(&parts.lifecycle);
    to_its_end(async move { lifecycle.import(&order, command).await }).await
}

pub(super) async fn compromised(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
    Path(kid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_compromised(&parts, operator, &kid, &headers, &body).await {
        Ok(set) => answer(&parts, &set).await,
        Err(error) => error.answer(&parts),
    }
}

async fn try_compromised(
    parts: &AdminParts,
    operator: Operator,
    kid: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<KeySet, ApiError> {
    operator.needs(Role::Admin)?;
    let request: RestoreRequest = parse(headers, body).and_then(RestoreRequest::check)?;
    let kid = kid_of(kid)?;
    let order = Lifecycle::order(Actor::Admin(operator.name), request.reason);
    let lifecycle = Arc::clone(&parts.lifecycle);
    let marked = to_its_end(async move { lifecycle.mark_compromised(&order, &[kid]).await });
    marked.await.map(|(_changed, set)| set)
}

async fn answer(parts: &AdminParts, set: &KeySet) -> Response {
    json(StatusCode::OK, &key_set_view(parts, set).await)
}
