//! Verification: from the bytes of a token to an acceptance or exactly one [`Rejection`].
//!
//! The accept path of our own keys knows one door: the encoded header segment equals, byte for byte,
//! the one that a live key mints. Everything else takes the strict parser, to be classified and
//! refused; the tokens of an imported key alone may be accepted through it.

mod classify;
#[cfg(feature = "testing")]
pub mod vectors;

use std::str;
use std::sync::Arc;
use std::time::Duration;

use crate::clients::Revocations;
use crate::clock::Timestamp;
use crate::keys::{Kid, LegacyRules};

use super::claims::{Claims, RouteRules, TokenRules};
use super::compact::{Compact, Header, is_access_token_type};
use super::verification_keys::{LiveKey, Named, VerificationKeys};
use super::{MAX_TOKEN_BYTES, Rejection};

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
    /// Whether its signature was checked and is not its key's.
    pub forged: bool,
    /// Whether its signature had been verified before; `None` when no key's cache was asked.
    pub cached: Option<bool>,
}

impl Refused<'_> {
    const fn unnamed(rejection: Rejection) -> Self {
        Refused {
            rejection,
            kid: None,
            tombstone: None,
            client_id: None,
            alarm: None,
            forged: false,
            cached: None,
        }
    }
}

/// Whether a verification may check a signature that nobody has checked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// It may.
    Full,
    /// It may not: a token that is not known already, and that nothing cheaper refuses, is
    /// [`Rejection::RateLimited`].
    KnownOnly,
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
    verify_with(Effort::Full, token, keys, route, clients, now)
}

/// [`verify()`] with bounded effort.
///
/// # Errors
/// [`Refused`] with exactly one reason.
pub fn verify_with<'k>(
    effort: Effort,
    token: &[u8],
    keys: &'k VerificationKeys,
    route: &RouteRules,
    clients: &Revocations,
    now: Timestamp,
) -> Result<Accepted<'k>, Refused<'k>> {
    let case = Case {
        effort,
        keys,
        route,
        clients,
        now,
    };
    let known = match recognise(token, keys) {
        Some((key, Some(claims))) => return case.judge(claims, true, key),
        Some((key, None)) => Some(key),
        None => None,
    };
    let compact = Compact::split(token).map_err(|rejection| Refused {
        cached: known.map(|_asked| false),
        ..Refused::unnamed(rejection)
    })?;
    match known {
        Some(key) => case.verify_live(&compact, key),
        None => case.verify_parsed(&compact),
    }
}

/// The key that mints the token's header segment, and the token's claims if this key has verified it
/// before, byte for byte.
fn recognise<'k>(
    token: &[u8],
    keys: &'k VerificationKeys,
) -> Option<(&'k LiveKey, Option<Arc<Claims>>)> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let dot = token.iter().position(|byte| *byte == b'.')?;
    let segment = str::from_utf8(token.get(..dot)?).ok()?;
    let key = keys.by_segment(segment)?;
    Some((key, key.cache.get(token)))
}

/// What every token of a request is judged by, whatever its key.
#[derive(Clone, Copy)]
struct Case<'k, 'r> {
    effort: Effort,
    keys: &'k VerificationKeys,
    route: &'r RouteRules,
    clients: &'r Revocations,
    now: Timestamp,
}

impl<'k> Case<'k, '_> {
    /// A token that names `key` in a form that this key may have signed.
    fn verify_live(
        &self,
        compact: &Compact<'_>,
        key: &'k LiveKey,
    ) -> Result<Accepted<'k>, Refused<'k>> {
        let refuse = |rejection| Refused {
            kid: Some(&key.kid),
            cached: Some(false),
            ..Refused::unnamed(rejection)
        };
        // Of an imported key, whose headers do not lead straight to the cache.
        if let Some(claims) = key.cache.get(compact.whole) {
            return self.judge(claims, true, key);
        }
        self.may_check().map_err(refuse)?;
        if !key.verifier.verifies(compact.signed, compact.signature) {
            return Err(Refused {
                forged: true,
                ..refuse(Rejection::BadSignature)
            });
        }
        let claims = Claims::parse(&compact.payload, key.legacy.is_some()).map_err(refuse)?;
        let claims = Arc::new(claims);
        let verdict = self.judge(Arc::clone(&claims), false, key);
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

    /// The rules on the claims of a token whose signature is good: on a hit of the cache as on a
    /// miss.
    fn judge(
        &self,
        claims: Arc<Claims>,
        cached: bool,
        key: &'k LiveKey,
    ) -> Result<Accepted<'k>, Refused<'k>> {
        let verdict = match self.check(&claims, key.max_ttl, key.legacy.as_ref()) {
            Ok(()) if key.verify_until.is_some_and(|until| self.now >= until) => {
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
                alarm: rejection
                    .is_alarm()
                    .then_some("a token outlived the time until which its key verifies"),
                cached: Some(cached),
                ..Refused::unnamed(rejection)
            }),
        }
    }

    /// A token whose header no live key mints: one of an imported key, or to be refused.
    fn verify_parsed(&self, compact: &Compact<'_>) -> Result<Accepted<'k>, Refused<'k>> {
        let header = Header::parse(&compact.header_json).map_err(Refused::unnamed)?;
        let named = self.keys.by_kid(&header.kid);
        let is_legacy = named
            .and_then(|key| key.legacy().map(|legacy| legacy.is_typ(&header.typ)))
            .unwrap_or_default();
        if !is_access_token_type(&header.typ) && !is_legacy {
            return Err(Refused::unnamed(Rejection::BadType));
        }
        match named {
            None => Err(Refused::unnamed(Rejection::UnknownKey)),
            Some(Named::Live(key)) if key.legacy.is_some() && header.alg == key.alg => {
                self.verify_live(compact, key)
            }
            Some(Named::Live(key)) => Err(self.classify_live(compact, &header, key)),
            Some(Named::Dead(index, key)) => Err(self.classify_dead(compact, &header, index, key)),
        }
    }

    fn check(
        &self,
        claims: &Claims,
        max_ttl: Duration,
        legacy: Option<&LegacyRules>,
    ) -> Result<(), Rejection> {
        let rules = TokenRules {
            issuer: &self.keys.issuer,
            leeway: self.keys.leeway,
            max_ttl,
            legacy,
            clients: self.clients,
        };
        claims.check(rules, self.route, self.now)
    }

    /// Asked before every signature check, behind every memory of checks made before.
    const fn may_check(&self) -> Result<(), Rejection> {
        match self.effort {
            Effort::Full => Ok(()),
            Effort::KnownOnly => Err(Rejection::RateLimited),
        }
    }
}
