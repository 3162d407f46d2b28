//! The public JSON Web Key Set (RFC 7517 §5) and how long an answer may be cached.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;

use super::key_set::KeySet;
use super::signing_key::PublicJwk;
use super::timing::Timing;
use super::transition::next_rotation_at;

/// Even close to a change an answer may be cached this long (or `jwks_max_age`, if shorter), so
/// that a crowd of verifiers does not fetch on every request.
const MIN_MAX_AGE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Jwks<'a> {
    keys: Vec<Jwk<'a>>,
}

#[derive(Serialize)]
struct Jwk<'a> {
    kid: &'a str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    #[serde(flatten)]
    public: &'a PublicJwk,
}

/// The body of a JWKS answer: every verifying key, active first, then pending, then deprecated.
/// Equal key sets give equal bytes.
#[must_use]
pub fn document(set: &KeySet) -> Vec<u8> {
    let keys = std::iter::once(&set.active.public)
        .chain(std::iter::once(&set.pending.public))
        .chain(set.deprecated.iter().map(|key| &key.public))
        .map(|key| Jwk {
            kid: key.kid.as_str(),
            alg: key.alg.as_str(),
            usage: "sig",
            public: &key.jwk,
        })
        .collect();
    // Serialising strings into a Vec cannot fail.
    serde_json::to_vec(&Jwks { keys }).unwrap_or_default()
}

/// `max-age` of a JWKS answer given at `now`: `jwks_max_age`, less when a change is nearer.
#[must_use]
pub fn max_age(set: &KeySet, timing: &Timing, now: Timestamp) -> Duration {
    let to_rotation = next_rotation_at(set, timing).since(now);
    let to_end = set
        .deprecated
        .iter()
        .map(|key| key.verify_until.since(now))
        .min();
    let bound = timing
        .jwks_max_age
        .min(to_rotation)
        .min(to_end.unwrap_or(Duration::MAX));
    bound.max(MIN_MAX_AGE.min(timing.jwks_max_age))
}
