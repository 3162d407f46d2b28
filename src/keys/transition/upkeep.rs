//! What the schedule and a changed configuration do to a set: retire, replace the pending key, raise
//! the longest life time of tokens.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::keys::audit::{Actor, AuditRecord, Event};
use crate::keys::key_set::KeySet;
use crate::keys::signing_key::{End, FreshKey, Tombstone};
use crate::keys::timing::{RETIRED_TOMBSTONE, Timing};

use super::{publish, tombstone};

/// Retires every deprecated key whose time is over and forgets tombstones whose time is over;
/// `None` when there is nothing to do.
#[must_use]
pub fn retire(set: &KeySet, now: Timestamp) -> Option<KeySet> {
    let (over, deprecated): (Vec<_>, Vec<_>) = set
        .deprecated
        .iter()
        .cloned()
        .partition(|key| now >= key.verify_until);
    let kept = set
        .tombstones
        .iter()
        .filter(|tombstone| now < tombstone.tombstone_until);
    if over.is_empty() && kept.clone().count() == set.tombstones.len() {
        return None;
    }
    let revision = set.revision + 1;
    let buried = over.iter().map(|key| Tombstone {
        died_revision: revision,
        tombstone_until: key.verify_until.plus(RETIRED_TOMBSTONE),
        ..tombstone(
            &key.public,
            End::Retired,
            Some(key.activated_at),
            key.verify_until,
            now,
        )
    });
    Some(KeySet {
        revision,
        last_event: AuditRecord {
            retired: over.iter().map(|key| key.public.kid.clone()).collect(),
            ..AuditRecord::new(revision, now, Event::Retire, Actor::Scheduler)
        },
        tombstones: buried.chain(kept.cloned()).collect(),
        deprecated,
        high_water_time: now.max(set.high_water_time),
        ..set.clone()
    })
}

/// Replaces a pending key of another algorithm than configured. It never signed, so nothing
/// breaks; the newcomer has to stand published for `prepublish` before it may sign.
#[must_use]
pub fn replace_pending(
    set: &KeySet,
    fresh: FreshKey,
    timing: &Timing,
    actor: Actor,
    now: Timestamp,
) -> KeySet {
    let revision = set.revision + 1;
    KeySet {
        revision,
        last_event: AuditRecord {
            published: Some(fresh.kid.clone()),
            ..AuditRecord::new(revision, now, Event::ReplacePending, actor)
        },
        pending: publish(fresh, revision, timing, now),
        high_water_time: now.max(set.high_water_time),
        ..set.clone()
    }
}

/// Raises the longest token life time of the active key to what the configuration allows; `None`
/// when it already covers it. Must be committed before a longer token is signed (invariant 4).
#[must_use]
pub fn raise_max_ttl(
    set: &KeySet,
    max_ttl: Duration,
    actor: Actor,
    now: Timestamp,
) -> Option<KeySet> {
    if set.active.public.max_ttl >= max_ttl {
        return None;
    }
    let revision = set.revision + 1;
    let mut next = set.clone();
    next.revision = revision;
    next.active.public.max_ttl = max_ttl;
    next.pending.public.max_ttl = next.pending.public.max_ttl.max(max_ttl);
    next.last_event = AuditRecord::new(revision, now, Event::RaiseMaxTtl, actor);
    next.high_water_time = now.max(set.high_water_time);
    Some(next)
}
