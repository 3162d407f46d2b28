//! Why a token is refused that names a key of ours but could not be accepted by it: the exact reason
//! behind the purge metric and the alarms (design invariant 15).

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::keys::End;
use crate::token::Rejection;
use crate::token::claims::Claims;
use crate::token::compact::{Compact, Header};
use crate::token::proven::ProvenTokens;
use crate::token::verification_keys::{DeadKey, LiveKey};

use super::{Case, Refused};

/// Why a dead key's token is refused.
struct Classified {
    rejection: Rejection,
    /// If the signature proves it.
    client_id: Option<String>,
    /// What should never happen.
    alarm: Option<&'static str>,
    /// Whether the signature was checked and is not the key's.
    forged: bool,
}

impl Classified {
    const fn of(rejection: Rejection) -> Self {
        Self {
            rejection,
            client_id: None,
            alarm: None,
            forged: false,
        }
    }
}

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
            forged: matches!(rejection, Rejection::BadSignature),
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
        let why = self.why_dead(compact, header, key);
        Refused {
            rejection: why.rejection,
            kid: Some(&key.kid),
            tombstone: Some(index),
            client_id: why.client_id,
            alarm: why.alarm,
            forged: why.forged,
            cached: None,
        }
    }

    fn why_dead(&self, compact: &Compact<'_>, header: &Header, key: &DeadKey) -> Classified {
        if header.alg != key.alg {
            return Classified::of(Rejection::AlgNotAllowed);
        }
        let retired = matches!(key.end, End::Retired);
        if retired && self.now >= self.nothing_left_of(key) {
            return Classified::of(Rejection::UnknownKey);
        }
        let memory = self.keys.proven.as_deref().filter(|_| !retired);
        let known = memory.and_then(|memory| memory.get(key.died_revision, compact.whole));
        let claims = match known.map_or_else(|| self.prove(compact, key, memory), Ok) {
            Ok(claims) => claims,
            Err(classified) => return classified,
        };
        let classified = |rejection, alarm| Classified {
            client_id: Some(claims.client_id.clone()),
            alarm,
            ..Classified::of(rejection)
        };
        if retired {
            return if claims.expired(self.keys.leeway, self.now) {
                classified(Rejection::UnknownKey, None)
            } else {
                classified(
                    Rejection::LifecycleViolation,
                    Some("a token outlived its retired key"),
                )
            };
        }
        if let Err(rejection) = self.check(&claims, key.max_ttl, key.legacy.as_ref()) {
            return classified(rejection, None);
        }
        // After its purge, or so late that it outlives what the key could sign while it signed: the
        // purge did not break it, a plain rotation would have ended it as well.
        let too_late = claims.issued_at > key.died_at.plus(self.keys.purge_slack)
            || self.now >= key.verify_until;
        if too_late {
            classified(
                Rejection::CompromisedKeyInUse,
                Some("a purged key is still being used to sign: its private half has leaked"),
            )
        } else {
            classified(Rejection::KeyPurged, None)
        }
    }

    /// From here on every token that a retired key can have signed before it retired has expired, so
    /// a signature by it would prove nothing and is not looked at.
    fn nothing_left_of(&self, key: &DeadKey) -> Timestamp {
        let slack = self.keys.purge_slack + self.keys.leeway;
        key.died_at.plus(key.max_ttl).plus(slack)
    }

    /// The claims of a token that a dead key signed in its own form; a purged key's are remembered.
    fn prove(
        &self,
        compact: &Compact<'_>,
        key: &DeadKey,
        memory: Option<&ProvenTokens>,
    ) -> Result<Arc<Claims>, Classified> {
        self.may_check().map_err(Classified::of)?;
        if !key.would_have_verified(compact.signed, compact.signature) {
            let rejection = if matches!(key.end, End::Retired) {
                Rejection::UnknownKey
            } else {
                Rejection::BadSignature
            };
            return Err(Classified {
                forged: true,
                ..Classified::of(rejection)
            });
        }
        if compact.header != key.header_segment && key.legacy.is_none() {
            return Err(Classified {
                alarm: Some("a dead key signed a header that it never minted"),
                ..Classified::of(Rejection::Malformed)
            });
        }
        let claims =
            Claims::parse(&compact.payload, key.legacy.is_some()).map_err(Classified::of)?;
        let claims = Arc::new(claims);
        if let Some(memory) = memory {
            memory.insert(key.died_revision, compact.whole, Arc::clone(&claims));
        }
        Ok(claims)
    }
}
