//! Verification: from the bytes of a token to an acceptance or exactly one [`Rejection`].
//!
//! The accept path of our own keys knows one door: the encoded header segment equals, byte for byte,
//! the one that a live key mints. Everything else takes the strict parser, to be classified and
//! refused; the tokens of an imported key alone may be accepted through it.

#[cfg(feature = "testing")]
pub mod vectors;

use std::str;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::clients::Revocations;
use crate::clock::Timestamp;
use crate::keys::signing_key::MAX_KID_BYTES;
use crate::keys::{Algorithm, End, Kid};

use super::claims::{Claims, RouteRules, TokenRules};
use super::proven::ProvenTokens;
use super::strict_json::parse_object;
use super::verification_keys::{DeadKey, LiveKey, Named, VerificationKeys};
use super::{MAX_TOKEN_BYTES, Rejection};

/// Header parameters that a token of ours never has; each one has been an attack (RFC 8725 §3.10,
/// RFC 7515 §4.1.11, RFC 7797, RFC 7516).
const FORBIDDEN_PARAMETERS: [&str; 10] = [
    "crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "enc", "zip",
];

/// An accepted token.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// Its claims.
    pub claims: Arc<Claims>,
    /// Whether its signature had been verified before.
    pub cached: bool,
    /// The key that signed it.
    pub key: &'a LiveKey,
}

/// A refused token.
#[derive(Debug)]
pub struct Refused<'a> {
    /// The one reason.
    pub rejection: Rejection,
    /// The key that the token names, when it is one of ours.
    pub kid: Option<&'a Kid>,
    /// Index into [`VerificationKeys::tombstones`] when a dead key was named.
    pub tombstone: Option<usize>,
    /// The client, when the signature proves it.
    pub client_id: Option<String>,
    /// Something that should never happen, for the log.
    pub alarm: Option<&'static str>,
    /// Whether its signature had been verified before.
    pub cached: bool,
}

impl Refused<'_> {
    const fn unnamed(rejection: Rejection) -> Self {
        Refused {
            rejection,
            kid: None,
            tombstone: None,
            client_id: None,
            alarm: None,
            cached: false,
        }
    }
}

/// The three segments of a compact JWS (RFC 7515 §3.1) with the decoded payload.
struct Compact<'a> {
    header: &'a str,
    payload: Vec<u8>,
    signature: &'a str,
    signed: &'a [u8],
    whole: &'a [u8],
}

/// Verifies `token` for a route at `now`; `clients` says whose tokens are revoked.
///
/// # Errors
/// [`Refused`] with exactly one reason.
pub fn verify<'k>(
    token: &[u8],
    keys: &'k VerificationKeys,
    route: &RouteRules,
    clients: &Revocations,
    now: Timestamp,
) -> Result<Accepted<'k>, Refused<'k>> {
    if let Some((key, claims)) = recognise(token, keys) {
        return judge(claims, true, key, keys, route, clients, now);
    }
    let compact = Compact::split(token).map_err(Refused::unnamed)?;
    match keys.by_segment(compact.header) {
        Some(key) => verify_live(&compact, key, keys, route, clients, now),
        None => verify_parsed(&compact, keys, route, clients, now),
    }
}

/// A token that its key has verified before, byte for byte.
fn recognise<'k>(token: &[u8], keys: &'k VerificationKeys) -> Option<(&'k LiveKey, Arc<Claims>)> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let dot = token.iter().position(|byte| *byte == b'.')?;
    let segment = str::from_utf8(token.get(..dot)?).ok()?;
    let key = keys.by_segment(segment)?;
    key.cache.get(token).map(|claims| (key, claims))
}

impl<'a> Compact<'a> {
    fn split(token: &'a [u8]) -> Result<Self, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::TooLarge);
        }
        let text = str::from_utf8(token).map_err(|_not_text| Rejection::Malformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Rejection::Malformed)?;
        let decoded = URL_SAFE_NO_PAD.decode(payload);
        // Strict base64url everywhere before any key is looked up; a stray dot is not base64url.
        let strict = is_strict_base64url(header) && is_strict_base64url(signature);
        match decoded {
            Ok(payload) if strict && !payload.is_empty() => Ok(Self {
                header,
                payload,
                signature,
                signed: signed.as_bytes(),
                whole: token,
            }),
            _ => Err(Rejection::Malformed),
        }
    }
}

/// Unpadded base64url with no stray bits in the last character (RFC 4648 §3.5).
fn is_strict_base64url(segment: &str) -> bool {
    let mut scratch = [0; MAX_TOKEN_BYTES];
    URL_SAFE_NO_PAD.decode_slice(segment, &mut scratch).is_ok()
}

fn verify_live<'k>(
    compact: &Compact<'_>,
    key: &'k LiveKey,
    keys: &VerificationKeys,
    route: &RouteRules,
    clients: &Revocations,
    now: Timestamp,
) -> Result<Accepted<'k>, Refused<'k>> {
    let refuse = |rejection| Refused {
        kid: Some(&key.kid),
        ..Refused::unnamed(rejection)
    };
    // Of an imported key, whose headers do not lead straight to the cache.
    if let Some(claims) = key.cache.get(compact.whole) {
        return judge(claims, true, key, keys, route, clients, now);
    }
    if !key.verifier.verifies(compact.signed, compact.signature) {
        return Err(refuse(Rejection::BadSignature));
    }
    let claims = Claims::parse(&compact.payload, key.legacy.is_some()).map_err(refuse)?;
    let claims = Arc::new(claims);
    let verdict = judge(Arc::clone(&claims), false, key, keys, route, clients, now);
    let reason = verdict.as_ref().err().map(|refused| refused.rejection);
    // What another route may accept is kept too; what no route ever will is not.
    if matches!(
        reason,
        None | Some(Rejection::BadAudience | Rejection::InsufficientScope)
    ) {
        key.cache.insert(compact.whole, &claims);
    }
    verdict
}

/// The rules on the claims of a token whose signature is good: on a hit of the cache as on a miss.
fn judge<'k>(
    claims: Arc<Claims>,
    cached: bool,
    key: &'k LiveKey,
    keys: &VerificationKeys,
    route: &RouteRules,
    clients: &Revocations,
    now: Timestamp,
) -> Result<Accepted<'k>, Refused<'k>> {
    let rules = TokenRules {
        issuer: &keys.issuer,
        leeway: keys.leeway,
        max_ttl: key.max_ttl,
        legacy: key.legacy.as_ref(),
        clients,
    };
    let verdict = match claims.check(rules, route, now) {
        Ok(()) if key.verify_until.is_some_and(|until| now >= until) => {
            Err(Rejection::LifecycleViolation)
        }
        verdict => verdict,
    };
    match verdict {
        Ok(()) => Ok(Accepted {
            claims,
            cached,
            key,
        }),
        Err(rejection) => Err(Refused {
            kid: Some(&key.kid),
            client_id: Some(claims.client_id.clone()),
            cached,
            ..Refused::unnamed(rejection)
        }),
    }
}

/// A token whose header no live key mints: one of an imported key, or to be refused.
fn verify_parsed<'k>(
    compact: &Compact<'_>,
    keys: &'k VerificationKeys,
    route: &RouteRules,
    clients: &Revocations,
    now: Timestamp,
) -> Result<Accepted<'k>, Refused<'k>> {
    let header = Header::parse(compact.header).map_err(Refused::unnamed)?;
    let named = keys.by_kid(&header.kid);
    let is_legacy = named
        .and_then(|key| key.legacy().map(|legacy| legacy.is_typ(&header.typ)))
        .unwrap_or_default();
    if !is_access_token_type(&header.typ) && !is_legacy {
        return Err(Refused::unnamed(Rejection::BadType));
    }
    match named {
        None => Err(Refused::unnamed(Rejection::UnknownKey)),
        Some(Named::Live(key)) if key.legacy.is_some() && header.alg == key.alg => {
            verify_live(compact, key, keys, route, clients, now)
        }
        Some(Named::Live(key)) => Err(classify_live(compact, &header, key)),
        Some(Named::Dead(index, key)) => {
            let (rejection, client_id, alarm) =
                classify_dead(compact, &header, key, keys, route, clients, now);
            Err(Refused {
                rejection,
                kid: Some(&key.kid),
                tombstone: Some(index),
                client_id,
                alarm,
                cached: false,
            })
        }
    }
}

/// Names a live key but is not the header that this key mints.
fn classify_live<'k>(compact: &Compact<'_>, header: &Header, key: &'k LiveKey) -> Refused<'k> {
    let (rejection, alarm) = if header.alg != key.alg {
        (Rejection::AlgNotAllowed, None)
    } else if key.verifier.verifies(compact.signed, compact.signature) {
        (
            Rejection::Malformed,
            Some("a live key signed a header that it never mints"),
        )
    } else {
        (Rejection::BadSignature, None)
    };
    Refused {
        kid: Some(&key.kid),
        alarm,
        ..Refused::unnamed(rejection)
    }
}

type Classified = (Rejection, Option<String>, Option<&'static str>);

fn classify_dead(
    compact: &Compact<'_>,
    header: &Header,
    key: &DeadKey,
    keys: &VerificationKeys,
    route: &RouteRules,
    clients: &Revocations,
    now: Timestamp,
) -> Classified {
    if header.alg != key.alg {
        return (Rejection::AlgNotAllowed, None, None);
    }
    let retired = matches!(key.end, End::Retired);
    let memory = keys.proven.as_deref().filter(|_| !retired);
    let known = memory.and_then(|memory| memory.get(key.died_revision, compact.whole));
    let claims = match known.map_or_else(|| prove(compact, key, memory), Ok) {
        Ok(claims) => claims,
        Err(classified) => return classified,
    };
    let client = Some(claims.client_id.clone());
    if retired {
        return if claims.expired(keys.leeway, now) {
            (Rejection::UnknownKey, client, None)
        } else {
            (
                Rejection::LifecycleViolation,
                client,
                Some("a token outlived its retired key"),
            )
        };
    }
    let rules = TokenRules {
        issuer: &keys.issuer,
        leeway: keys.leeway,
        max_ttl: key.max_ttl,
        legacy: key.legacy.as_ref(),
        clients,
    };
    match claims.check(rules, route, now) {
        Err(rejection) => (rejection, client, None),
        // After its purge, or so late that it outlives what the key could sign while it signed: the
        // purge did not break it, a plain rotation would have ended it as well (invariant 15).
        Ok(())
            if claims.issued_at > key.died_at.plus(keys.purge_slack) || now >= key.verify_until =>
        {
            (
                Rejection::CompromisedKeyInUse,
                client,
                Some("a purged key is still being used to sign: its private half has leaked"),
            )
        }
        Ok(()) => (Rejection::KeyPurged, client, None),
    }
}

/// The claims of a token that a dead key signed in its own form; a purged key's are remembered.
fn prove(
    compact: &Compact<'_>,
    key: &DeadKey,
    memory: Option<&ProvenTokens>,
) -> Result<Arc<Claims>, Classified> {
    if !key.would_have_verified(compact.signed, compact.signature) {
        let rejection = if matches!(key.end, End::Retired) {
            Rejection::UnknownKey
        } else {
            Rejection::BadSignature
        };
        return Err((rejection, None, None));
    }
    if compact.header != key.header_segment && key.legacy.is_none() {
        return Err((
            Rejection::Malformed,
            None,
            Some("a dead key signed a header that it never minted"),
        ));
    }
    let claims = Claims::parse(&compact.payload, key.legacy.is_some())
        .map_err(|rejection| (rejection, None, None))?;
    let claims = Arc::new(claims);
    if let Some(memory) = memory {
        memory.insert(key.died_revision, compact.whole, Arc::clone(&claims));
    }
    Ok(claims)
}

/// The header of a token that none of our keys mints.
struct Header {
    alg: Algorithm,
    kid: String,
    typ: String,
}

impl Header {
    fn parse(segment: &str) -> Result<Self, Rejection> {
        let (alg, members) = Self::members(segment)?;
        let typ = members
            .get("typ")
            .and_then(Value::as_str)
            .ok_or(Rejection::BadType)?;
        let kid = text(&members, "kid")?;
        if kid.len() > MAX_KID_BYTES {
            return Err(Rejection::Malformed);
        }
        Ok(Self {
            alg,
            kid: kid.to_owned(),
            typ: typ.to_owned(),
        })
    }

    /// The strict object with an algorithm of ours and nothing forbidden.
    fn members(segment: &str) -> Result<(Algorithm, Map<String, Value>), Rejection> {
        let json = URL_SAFE_NO_PAD
            .decode(segment)
            .map_err(|_not_base64url| Rejection::Malformed)?;
        let members = parse_object(&json).ok_or(Rejection::Malformed)?;
        let alg = text(&members, "alg")?
            .parse::<Algorithm>()
            .map_err(|_other| Rejection::AlgNotAllowed)?;
        if FORBIDDEN_PARAMETERS
            .iter()
            .any(|name| members.contains_key(*name))
        {
            return Err(Rejection::Malformed);
        }
        Ok((alg, members))
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, Rejection> {
    members
        .get(name)
        .and_then(Value::as_str)
        .ok_or(Rejection::Malformed)
}

/// RFC 9068 §4 with the optional prefix of RFC 7515 §4.1.9, case-insensitively.
fn is_access_token_type(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}
