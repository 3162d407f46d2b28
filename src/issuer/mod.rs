//! The authorization server: token endpoint, JWKS, metadata.
//!
//! | endpoint | what |
//! |---|---|
//! | `POST {issuer}/oauth2/token` | RFC 6749 §4.4 client_credentials |
//! | `GET {issuer}/.well-known/jwks.json` | RFC 7517 §5 |
//! | `GET /.well-known/oauth-authorization-server{issuer path}` | RFC 8414 §3 |
//!
//! Invariant: a token or a JWKS answer is handed out under a held snapshot, so a purge that has
//! answered is followed by none made from the keys it ended. May import layers 0–3.

mod credentials;
mod metadata;
mod oauth_error;
mod token_endpoint;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::keys::timing::Timing;
use crate::lifecycle::{Clients, IssuedTokens, Published};
use crate::telemetry::{DenialLog, Log, Metrics};

/// The client and its secret as a token request gives them; `None` when it is refused.
#[cfg(feature = "testing")]
#[must_use]
pub fn credentials_in(headers: &http::HeaderMap, body: &[u8]) -> Option<(String, Vec<u8>)> {
    let form = credentials::Form::parse(body).ok()?;
    let found = credentials::Credentials::of(headers, &form).ok()?;
    Some((found.client_id, found.secret.to_vec()))
}

/// What the issuer says of itself.
#[derive(Clone, Debug)]
pub struct IssuerSpec {
    /// The `iss` claim, and the base of the endpoints.
    pub url: String,
    /// `aud` of the tokens.
    pub audience: Vec<String>,
    /// Every scope that some client may ask for, for the metadata.
    pub scopes: Vec<String>,
    /// Timings, for the caching of JWKS.
    pub timing: Timing,
}

/// What the endpoints work with; one per worker, sharing everything but the number.
#[derive(Clone)]
pub struct IssuerParts {
    /// What the issuer says of itself.
    pub spec: Arc<IssuerSpec>,
    /// Keys.
    pub published: Arc<Published>,
    /// Counts what is issued.
    pub issued: IssuedTokens,
    /// Clients.
    pub clients: Arc<Clients>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The log.
    pub log: Log,
    /// Decides whether a refusal gets a line of its own.
    pub denials: DenialLog,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// How many slow secret checks may run at a time.
    pub slow_checks: Arc<Semaphore>,
    /// Randomness for signatures.
    pub rng: SystemRandom,
    /// Our number among the holders of snapshots.
    pub worker: usize,
}

impl fmt::Debug for IssuerParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerParts")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// How many slow secret checks may run at a time: each takes tens of megabytes and milliseconds.
pub const SLOW_CHECKS: usize = 4;

/// Paths of the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Token endpoint.
    pub token: String,
    /// Key set.
    pub jwks: String,
    /// Metadata.
    pub metadata: String,
}

impl IssuerSpec {
    /// Where the endpoints lie.
    #[must_use]
    pub fn paths(&self) -> Paths {
        let base = issuer_path(&self.url);
        Paths {
            token: format!("{base}/oauth2/token"),
            jwks: format!("{base}/.well-known/jwks.json"),
            metadata: format!("/.well-known/oauth-authorization-server{base}"),
        }
    }
}

impl Paths {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        vec![self.token.clone(), self.jwks.clone(), self.metadata.clone()]
    }
}

/// The endpoints of worker `parts.worker`.
pub fn router(parts: IssuerParts) -> Router {
    let paths = parts.spec.paths();
    Router::new()
        .route(&paths.token, post(token_endpoint::token))
        .route(&paths.jwks, get(metadata::jwks))
        .route(&paths.metadata, get(metadata::metadata))
        .method_not_allowed_fallback(oauth_error::method_not_allowed)
        .with_state(Arc::new(parts))
}

/// The path of the issuer URL without a trailing slash; empty for a bare origin.
fn issuer_path(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme
        .find('/')
        .and_then(|slash| after_scheme.get(slash..))
        .unwrap_or_default()
        .trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_lie_under_the_issuer() {
        assert_eq!(issuer_path("https://id.test"), "");
        assert_eq!(issuer_path("https://id.test/a/b"), "/a/b");
    }
}
