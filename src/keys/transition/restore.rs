//! Restore, the undo of a purge that was declared a mistake; and the end of that possibility.

use crate::clock::Timestamp;
use crate::keys::audit::{AuditRecord, Event};
use crate::keys::key_set::KeySet;
use crate::keys::signing_key::{DeprecatedKey, End, Kid, PublicKey, Tombstone};
use crate::keys::timing::MAX_KEYS;

use super::{Order, Refusal};

/// Brings a purged key back, to verify only: its private half is gone for good. `verify_until`
/// stays what it was (invariant 22), and a higher `restore_epoch` tells this set from a rollback.
///
/// # Errors
/// A [`Refusal`] when the caller's view is stale, the key was not purged, counts as compromised, or
/// could verify nothing.
pub fn restore(set: &KeySet, kid: &Kid, order: &Order, now: Timestamp) -> Result<KeySet, Refusal> {
    order.check_seen(set)?;
    let now = now.max(set.high_water_time);
    let Some(dead) = set
        .tombstones
        .iter()
        .find(|tombstone| tombstone.kid == *kid)
    else {
        return Err(if set.knows(kid) {
            Refusal::NotPurged(kid.clone())
        } else {
            Refusal::UnknownKid(kid.clone())
        });
    };
    if dead.end != End::Purged {
        return Err(Refusal::NotPurged(kid.clone()));
    }
    if !dead.mistake_undo {
        return Err(Refusal::Compromised(kid.clone()));
    }
    let Some(activated_at) = dead.activated_at.filter(|_| now < dead.verify_until) else {
        return Err(Refusal::NothingToRestore(kid.clone()));
    };
    if set.len() >= MAX_KEYS {
        return Err(Refusal::KeySetFull(set.len()));
    }
    let revision = set.revision + 1;
    let restored = DeprecatedKey {
        public: PublicKey {
            kid: kid.clone(),
            alg: dead.alg,
            jwk: dead.public_jwk.clone(),
            created_at: dead.created_at,
            published_at: now,
            published_revision: revision,
            max_ttl: dead.max_ttl,
            legacy: dead.legacy.clone(),
        },
        activated_at,
        deprecated_at: dead.deprecated_at.unwrap_or(dead.died_at),
        verify_until: dead.verify_until,
    };
    Ok(KeySet {
        revision,
        restore_epoch: set.restore_epoch + 1,
        last_event: AuditRecord {
            reason: order.reason.clone(),
            event_id: Some(order.id),
            restored: Some(kid.clone()),
            ..AuditRecord::new(revision, now, Event::Restore, order.actor.clone())
        },
        deprecated: std::iter::once(restored)
            .chain(set.deprecated.iter().cloned())
            .collect(),
        tombstones: set
            .tombstones
            .iter()
            .filter(|tombstone| tombstone.kid != *kid)
            .cloned()
            .collect(),
        high_water_time: now,
        ..set.clone()
    })
}

/// Declares purged keys compromised after all: they can never be restored from now on. The mark is
/// only ever raised. `None` when every key named counts as compromised already.
///
/// # Errors
/// A [`Refusal`] when the caller's view is stale, or a key named was not purged.
pub fn mark_compromised(
    set: &KeySet,
    kids: &[Kid],
    order: &Order,
    now: Timestamp,
) -> Result<Option<KeySet>, Refusal> {
    order.check_seen(set)?;
    let now = now.max(set.high_water_time);
    for kid in kids {
        let purged = |tombstone: &Tombstone| tombstone.kid == *kid && tombstone.end == End::Purged;
        if !set.tombstones.iter().any(purged) {
            return Err(if set.knows(kid) {
                Refusal::NotPurged(kid.clone())
            } else {
                Refusal::UnknownKid(kid.clone())
            });
        }
    }
    let raised = |tombstone: &Tombstone| tombstone.mistake_undo && kids.contains(&tombstone.kid);
    let compromised: Vec<Kid> = set
        .tombstones
        .iter()
        .filter(|tombstone| raised(tombstone))
        .map(|tombstone| tombstone.kid.clone())
        .collect();
    if compromised.is_empty() {
        return Ok(None);
    }
    let revision = set.revision + 1;
    let tombstones = set.tombstones.iter().cloned().map(|tombstone| Tombstone {
        mistake_undo: tombstone.mistake_undo && !kids.contains(&tombstone.kid),
        ..tombstone
    });
    Ok(Some(KeySet {
        revision,
        tombstones: tombstones.collect(),
        last_event: AuditRecord {
            reason: order.reason.clone(),
            event_id: Some(order.id),
            compromised,
            ..AuditRecord::new(revision, now, Event::MarkCompromised, order.actor.clone())
        },
        high_water_time: now,
        ..set.clone()
    }))
}
