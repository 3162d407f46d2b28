//! The decisions of the life cycle: from a key set, a moment and fresh keys to the next set.
//!
//! Each operation has two halves, so that keys are generated outside the transaction and the
//! reason is checked again inside it: `decide_*` says whether anything is to happen, the other
//! half makes the next set. Both are pure; `lifecycle` alone commits what they return.

mod import;
mod kek;
mod purge;
mod recover;
mod refusal;
mod restore;
mod upkeep;

use uuid::Uuid;

use crate::clock::Timestamp;

use super::audit::{Actor, AuditRecord, Event};
use super::idempotency::{self, Claim};
use super::key_set::{Activation, ActivationKind, KeySet, Trigger};
use super::signing_key::{
    ActiveKey, DeprecatedKey, End, FreshKey, PendingKey, PublicKey, Tombstone,
};
use super::timing::{MAX_KEYS, Timing};

pub use import::{Imported, import};
pub use kek::{demand_kek, reseal, settle_kek_demand};
pub use purge::{PurgeScope, decide_purge, decide_scoped_purge, doomed, purge, purge_all};
pub use recover::recover;
pub use refusal::Refusal;
pub use restore::{mark_compromised, restore};
pub use upkeep::{raise_max_ttl, replace_pending, retire};

/// Who asks for a step, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Identifier that the resulting rotation will carry.
    pub id: Uuid,
    /// Operator or schedule.
    pub trigger: Trigger,
    /// Who.
    pub actor: Actor,
    /// The operator's words.
    pub reason: Option<String>,
    /// The revision that the caller looked at, if it says so.
    pub seen_revision: Option<u64>,
    /// The caller's name for this attempt, if it gave one.
    pub claim: Option<Claim>,
}

impl Order {
    /// Refuses another set than the one that the caller looked at, if it says which that was.
    ///
    /// # Errors
    /// A [`Refusal`] that names both revisions.
    pub fn check_seen(&self, set: &KeySet) -> Result<(), Refusal> {
        refuse_ahead(set, self.seen_revision)?;
        match self.seen_revision {
            Some(seen) if seen != set.revision => Err(Refusal::StaleRevision {
                seen,
                current: set.revision,
            }),
            _ => Ok(()),
        }
    }
}

/// Whether a requested step is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is: generate keys and make the next set.
    Execute,
    /// It already happened; this is the result.
    Unchanged(Box<Activation>),
}

/// A set that an activation made, with the record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activated {
    /// The next set.
    pub set: KeySet,
    /// What was activated; also the set's `last_activation`.
    pub activation: Activation,
}

/// The first key set of an issuer, revision 1. Opens no idempotency window.
#[must_use]
pub fn bootstrap(
    issuer: &str,
    active: FreshKey,
    pending: FreshKey,
    timing: &Timing,
    actor: Actor,
    now: Timestamp,
) -> KeySet {
    let last_event = AuditRecord {
        activated: Some(active.kid.clone()),
        published: Some(pending.kid.clone()),
        ..AuditRecord::new(1, now, Event::Bootstrap, actor)
    };
    KeySet {
        issuer: issuer.to_owned(),
        revision: 1,
        pending: publish(pending, 1, timing, now),
        active: activate(publish(active, 1, timing, now), timing, now),
        deprecated: Vec::new(),
        tombstones: Vec::new(),
        last_activation: None,
        last_purge: None,
        idempotency: Vec::new(),
        kek_demand: None,
        restore_epoch: 0,
        last_event,
        high_water_time: now,
    }
}

/// Whether a plain rotation is to happen. `seen_revision` is what the caller looked at, if it says
/// so: inside the window it gets the earlier result all the same, outside a stale one is refused.
///
/// # Errors
/// A [`Refusal`] when the caller's view is stale, the set is full or the pending key is too young.
pub fn decide_rotate(
    set: &KeySet,
    timing: &Timing,
    seen_revision: Option<u64>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    refuse_ahead(set, seen_revision)?;
    if let Some(last) = &set.last_activation
        && now < last.at.plus(timing.idempotency_window)
    {
        return Ok(Decision::Unchanged(Box::new(last.clone())));
    }
    if let Some(seen) = seen_revision.filter(|seen| *seen != set.revision) {
        return Err(Refusal::StaleRevision {
            seen,
            current: set.revision,
        });
    }
    if set.len() >= MAX_KEYS {
        return Err(Refusal::KeySetFull(set.len()));
    }
    let ready_at = pending_ready_at(set, timing);
    if now < ready_at {
        return Err(Refusal::PendingTooYoung {
            kid: set.pending.public.kid.clone(),
            ready_at,
        });
    }
    Ok(Decision::Execute)
}

/// Pending becomes active, active becomes deprecated and loses its private half, `fresh` becomes
/// pending.
#[must_use]
pub fn rotate(
    set: &KeySet,
    fresh: FreshKey,
    order: &Order,
    timing: &Timing,
    now: Timestamp,
) -> Activated {
    let revision = set.revision + 1;
    let now = now.max(set.high_water_time);
    let old = &set.active;
    let deprecated = DeprecatedKey {
        public: old.public.clone(),
        activated_at: old.activated_at,
        deprecated_at: now,
        verify_until: timing.verify_until(now, old.public.max_ttl),
    };
    let activation = Activation {
        id: order.id,
        kind: ActivationKind::Rotate,
        trigger: order.trigger,
        at: now,
        revision,
        activated: set.pending.public.kid.clone(),
        replaced: old.public.kid.clone(),
        purged: Vec::new(),
        unseen: Vec::new(),
    };
    let set = KeySet {
        revision,
        last_event: AuditRecord {
            reason: order.reason.clone(),
            event_id: Some(order.id),
            activated: Some(activation.activated.clone()),
            deprecated: Some(activation.replaced.clone()),
            published: Some(fresh.kid.clone()),
            ..AuditRecord::new(revision, now, Event::Rotate, order.actor.clone())
        },
        pending: publish(fresh, revision, timing, now),
        active: activate(set.pending.clone(), timing, now),
        deprecated: std::iter::once(deprecated)
            .chain(set.deprecated.iter().cloned())
            .collect(),
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
    Activated { set, activation }
}

/// When the schedule next has something to do: the automatic rotation, or the end of a
/// deprecated key or of a tombstone.
#[must_use]
pub fn next_due(set: &KeySet, timing: &Timing) -> Timestamp {
    let ends = set.deprecated.iter().map(|key| key.verify_until);
    let forgotten = set
        .tombstones
        .iter()
        .map(|tombstone| tombstone.tombstone_until);
    ends.chain(forgotten)
        .fold(next_rotation_at(set, timing), Timestamp::min)
}

/// When the automatic rotation is due.
#[must_use]
pub fn next_rotation_at(set: &KeySet, timing: &Timing) -> Timestamp {
    set.active.activated_at.plus(timing.rotation_interval)
}

/// A revision that does not exist yet was seen by nobody.
fn refuse_ahead(set: &KeySet, seen_revision: Option<u64>) -> Result<(), Refusal> {
    match seen_revision.filter(|seen| *seen > set.revision) {
        Some(seen) => Err(Refusal::RevisionAhead {
            seen,
            current: set.revision,
        }),
        None => Ok(()),
    }
}

/// From when on the pending key may sign: every JWKS answer that can still be cached holds it.
/// At bootstrap that is at once, because no answer without it was ever given.
fn pending_ready_at(set: &KeySet, timing: &Timing) -> Timestamp {
    let pending = &set.pending.public;
    if pending.published_revision == 1 {
        pending.published_at
    } else {
        pending.published_at.plus(timing.prepublish)
    }
}

fn publish(fresh: FreshKey, revision: u64, timing: &Timing, now: Timestamp) -> PendingKey {
    PendingKey {
        public: PublicKey {
            kid: fresh.kid,
            alg: fresh.alg,
            jwk: fresh.jwk,
            created_at: fresh.created_at,
            published_at: now,
            published_revision: revision,
            max_ttl: timing.max_token_ttl,
            legacy: None,
        },
        sealed: fresh.sealed,
    }
}

fn activate(pending: PendingKey, timing: &Timing, now: Timestamp) -> ActiveKey {
    let max_ttl = timing.max_token_ttl;
    ActiveKey {
        public: PublicKey {
            max_ttl,
            ..pending.public
        },
        sealed: pending.sealed,
        activated_at: now,
    }
}

fn tombstone(
    key: &PublicKey,
    end: End,
    activated_at: Option<Timestamp>,
    verify_until: Timestamp,
    now: Timestamp,
) -> Tombstone {
    Tombstone {
        kid: key.kid.clone(),
        alg: key.alg,
        public_jwk: key.jwk.clone(),
        end,
        died_at: now,
        died_revision: 0,
        created_at: key.created_at,
        activated_at,
        deprecated_at: None,
        verify_until,
        max_ttl: key.max_ttl,
        tombstone_until: verify_until,
        purge_id: None,
        mistake_undo: false,
        legacy: key.legacy.clone(),
    }
}
