//! Why a token is refused that names a key of ours but could not be accepted by it: the exact reason
//! behind the purge metric and the alarms (design invariant 15).

use std::sync::Arc;

use crate::keys::End;
use crate::token::Rejection;
use crate::token::claims::Claims;
use crate::token::compact::{Compact, Header};
use crate::token::proven::ProvenTokens;
use crate::token::verification_keys::{DeadKey, LiveKey};

use super::{Case, Refused};

/// A reason, the client if the signature proves it, and what should never happen.
type Classified = (Rejection, Option<String>, Option<&'static str>);

impl<'k> Case<'k, '_> {
    /// Names a live key but is not the header that this key mints.
    pub(super) fn classify_live(
        &self,
        compact: &Compact<'_>,
        header: &Header,
        key: &'k LiveKey,
    ) -> Refused<'k> {
        let (rejection, alarm) = if header.alg != key.alg {
            (Rejection::AlgNotAllowed, None)
        } else if let Err(limited) = self.may_check() {
            (limited, None)
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

    /// Names the dead key at `index` of the tombstones.
    pub(super) fn classify_dead(
        &self,
        compact: &Compact<'_>,
        header: &Header,
        index: usize,
        key: &'k DeadKey,
    ) -> Refused<'k> {
        let (rejection, client_id, alarm) = self.why_dead(compact, header, key);
        Refused {
            rejection,
            kid: Some(&key.kid),
            tombstone: Some(index),
            client_id,
            alarm,
            cached: false,
        }
    }

    fn why_dead(&self, compact: &Compact<'_>, header: &Header, key: &DeadKey) -> Classified {
        if header.alg != key.alg {
            return (Rejection::AlgNotAllowed, None, None);
        }
        let retired = matches!(key.end, End::Retired);
        let memory = self.keys.proven.as_deref().filter(|_| !retired);
        let known = memory.and_then(|memory| memory.get(key.died_revision, compact.whole));
        let claims = match known.map_or_else(|| self.prove(compact, key, memory), Ok) {
            Ok(claims) => claims,
            Err(classified) => return classified,
        };
        let client = Some(claims.client_id.clone());
        if retired {
            return if claims.expired(self.keys.leeway, self.now) {
                (Rejection::UnknownKey, client, None)
            } else {
                (
                    Rejection::LifecycleViolation,
                    client,
                    Some("a token outlived its retired key"),
                )
            };
        }
        if let Err(rejection) = self.check(&claims, key.max_ttl, key.legacy.as_ref()) {
            return (rejection, client, None);
        }
        // After its purge, or so late that it outlives what the key could sign while it signed: the
        // purge did not break it, a plain rotation would have ended it as well.
        let too_late = claims.issued_at > key.died_at.plus(self.keys.purge_slack)
            || self.now >= key.verify_until;
        if too_late {
            (
                Rejection::CompromisedKeyInUse,
                client,
                Some("a purged key is still being used to sign: its private half has leaked"),
            )
        } else {
            (Rejection::KeyPurged, client, None)
        }
    }

    /// The claims of a token that a dead key signed in its own form; a purged key's are remembered.
    fn prove(
        &self,
        compact: &Compact<'_>,
        key: &DeadKey,
        memory: Option<&ProvenTokens>,
    ) -> Result<Arc<Claims>, Classified> {
        self.may_check().map_err(|limited| (limited, None, None))?;
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
}
