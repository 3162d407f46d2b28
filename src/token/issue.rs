//! Minting access tokens (RFC 9068 §2).

use std::time::Duration;

use ring::rand::SecureRandom;
use serde::Serialize;
use uuid::Uuid;

use crate::clock::Timestamp;

use super::jose::{KeyError, TokenSigner};

/// What a new token is to say.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// `iss`
    pub issuer: &'a str,
    /// `sub` and `client_id`: a client acts for itself (RFC 9068 §2.2).
    pub client_id: &'a str,
    /// `aud`
    pub audience: &'a [String],
    /// `scope`, space-separated
    pub scope: &'a str,
    /// `exp` − `iat`, at most the key's longest life time.
    pub ttl: Duration,
    /// `jti`
    pub token_id: Uuid,
}

#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    aud: Audience<'a>,
    exp: i64,
    iat: i64,
    jti: Uuid,
    scope: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Many(&'a [String]),
}

/// Signs a token issued at `now`.
///
/// # Errors
/// [`KeyError::Sign`] when the signature cannot be made.
pub fn mint(
    signer: &TokenSigner,
    grant: &Grant<'_>,
    now: Timestamp,
    rng: &dyn SecureRandom,
) -> Result<String, KeyError> {
    let iat = now.as_seconds();
    let ttl = i64::try_from(grant.ttl.as_secs()).unwrap_or(i64::MAX);
    let payload = Payload {
        iss: grant.issuer,
        sub: grant.client_id,
        client_id: grant.client_id,
        aud: match grant.audience {
            [one] => Audience::One(one),
            many => Audience::Many(many),
        },
        exp: iat.saturating_add(ttl),
        iat,
        jti: grant.token_id,
        scope: grant.scope,
    };
    let payload = serde_json::to_vec(&payload).map_err(|_unreachable| KeyError::Sign)?;
    signer.sign(&payload, rng)
}
