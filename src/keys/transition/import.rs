//! Import: a signing key of a former system goes on verifying here, or goes on signing.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::keys::audit::{AuditRecord, Event};
use crate::keys::idempotency;
use crate::keys::key_set::{Activation, ActivationKind, KeySet};
use crate::keys::legacy::LegacyRules;
use crate::keys::signing_key::{
    ActiveKey, Algorithm, DeprecatedKey, Kid, PublicJwk, PublicKey, SealedPrivate,
};
use crate::keys::timing::{MAX_KEYS, MAX_TOKEN_TTL, Timing};

use super::{Order, Refusal};

/// A key of a former system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The name that its tokens carry.
    pub kid: Kid,
    /// Its thumbprint (RFC 7638): the same key under another name is found out by it.
    pub thumbprint: Kid,
    /// The only algorithm it may be used with.
    pub alg: Algorithm,
    /// Public half.
    pub jwk: PublicJwk,
    /// Longest life time of the tokens that the former system issued.
    pub max_ttl: Duration,
    /// What those tokens look like.
    pub legacy: LegacyRules,
    /// The private half, when it is to sign here from now on.
    pub signs: Option<SealedPrivate>,
}

/// Takes over a key: it verifies what the former system signed, as a deprecated key; or, with its
/// private half, becomes the active one and the active key so far deprecated.
///
/// An imported key that signs needs no time of publication: the verifiers of the former system
/// know it, and those of this issuer learn it with their next fetch. It opens the idempotency
/// window, as every activation does.
///
/// # Errors
/// A [`Refusal`] when the caller's view is stale, the name or the key is known already, the set is full, or `max_ttl` is out of
/// bounds.
pub fn import(
    set: &KeySet,
    imported: &Imported,
    order: &Order,
    timing: &Timing,
    now: Timestamp,
) -> Result<(KeySet, Option<Activation>), Refusal> {
    order.check_seen(set)?;
    let now = now.max(set.high_water_time);
    if imported.max_ttl.is_zero() || imported.max_ttl > MAX_TOKEN_TTL {
        return Err(Refusal::MaxTtl(imported.max_ttl));
    }
    if set.knows(&imported.kid) || set.knows_public_half(&imported.jwk) {
        return Err(Refusal::KnownKey(imported.kid.clone()));
    }
    // Names of our own keys are thumbprints: nobody may take one that is not its own.
    if set.knows(&imported.thumbprint) {
        return Err(Refusal::KnownKey(imported.thumbprint.clone()));
    }
    if set.len() >= MAX_KEYS {
        return Err(Refusal::KeySetFull(set.len()));
    }
    let revision = set.revision + 1;
    let public = |max_ttl| PublicKey {
        kid: imported.kid.clone(),
        alg: imported.alg,
        jwk: imported.jwk.clone(),
        created_at: now,
        published_at: now,
        published_revision: revision,
        max_ttl,
        legacy: Some(imported.legacy.clone()),
    };
    let event = AuditRecord {
        reason: order.reason.clone(),
        event_id: Some(order.id),
        imported: Some(imported.kid.clone()),
        ..AuditRecord::new(revision, now, Event::Import, order.actor.clone())
    };
    let deprecate = |public: PublicKey, activated_at| DeprecatedKey {
        verify_until: timing.verify_until(now, public.max_ttl),
        public,
        activated_at,
        deprecated_at: now,
    };
    let with_deprecated = |key: DeprecatedKey| {
        std::iter::once(key)
            .chain(set.deprecated.iter().cloned())
            .collect()
    };
    let Some(sealed) = &imported.signs else {
        let key = deprecate(public(imported.max_ttl), now);
        let next = KeySet {
            revision,
            deprecated: with_deprecated(key),
            last_event: event,
            high_water_time: now,
            ..set.clone()
        };
        return Ok((next, None));
    };
    let old = &set.active;
    let activation = Activation {
        id: order.id,
        kind: ActivationKind::Import,
        trigger: order.trigger,
        at: now,
        revision,
        activated: imported.kid.clone(),
        replaced: old.public.kid.clone(),
        purged: Vec::new(),
        unseen: Vec::new(),
    };
    let next = KeySet {
        revision,
        active: ActiveKey {
            public: public(imported.max_ttl.max(timing.max_token_ttl)),
            sealed: sealed.clone(),
            activated_at: now,
        },
        deprecated: with_deprecated(deprecate(old.public.clone(), old.activated_at)),
        last_event: AuditRecord {
            activated: Some(imported.kid.clone()),
            deprecated: Some(old.public.kid.clone()),
            ..event
        },
        idempotency: idempotency::remember(
            set,
            &order.actor,
            order.claim.as_ref(),
            &activation,
            now,
        ),
        last_activation: Some(activation.clone()),
        high_water_time: now,
        ..set.clone()
    };
    Ok((next, Some(activation)))
}
