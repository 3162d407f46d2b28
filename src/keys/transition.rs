//! The decisions of the life cycle: from a key set, a moment and fresh keys to the next set.
//!
//! Each operation has two halves, so that keys are generated outside the transaction and the
//! reason is checked again inside it: `decide_*` says whether anything is to happen, the other
//! half makes the next set. Both are pure; `lifecycle` alone commits what they return.

mod import;
mod kek;
mod purge;
mod recover;
mod restore;

use std::time::Duration;

use thiserror::Error;
use uuid::Uuid;

use crate::clock::Timestamp;

use super::audit::{Actor, AuditRecord, Event};
use super::idempotency::{self, Claim};
use super::key_set::{Activation, ActivationKind, KeySet, Trigger};
use super::signing_key::{
    ActiveKey, DeprecatedKey, End, FreshKey, Kid, PendingKey, PublicKey, Tombstone,
};
use super::timing::{MAX_KEYS, RETIRED_TOMBSTONE, Timing};

pub use import::{Imported, import};
pub use kek::{demand_kek, reseal, settle_kek_demand};
pub use purge::{PurgeScope, decide_purge, decide_scoped_purge, doomed, purge, purge_all};
pub use recover::recover;
pub use restore::{mark_compromised, restore};

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

/// Why a plain rotation or a purge cannot be carried out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Rotating would exceed [`MAX_KEYS`]; a live key is never dropped to make room.
    #[error(
        "the key set holds {0} keys, the most it may; wait until a deprecated key retires, or purge"
    )]
    KeySetFull(usize),
    /// Verifiers may still hold a JWKS answer without the pending key.
    #[error("the pending key {kid} was published too recently; it may sign from {ready_at}")]
    PendingTooYoung {
        /// The pending key.
        kid: Kid,
        /// When a rotation becomes possible.
        ready_at: Timestamp,
    },
    /// The caller names a key that this issuer never had, or forgot.
    #[error("there is no key {0}, alive or dead")]
    UnknownKid(Kid),
    /// The key is not a purged one.
    #[error("the key {0} was not purged, so there is nothing to restore")]
    NotPurged(Kid),
    /// The purge was not declared a mistake that may be undone.
    #[error(
        "the key {0} counts as compromised: its purge was not made with mistake_undo, so it stays dead"
    )]
    Compromised(Kid),
    /// Nothing that the key signed can be alive.
    #[error(
        "the key {0} would verify nothing any more: it never signed, or all its tokens have expired"
    )]
    NothingToRestore(Kid),
    /// The caller looked at an older key set than the one that a rotation would change.
    #[error(
        "seen_revision {seen} is not the current revision {current}: the key set has changed since; look again"
    )]
    StaleRevision {
        /// What the caller named.
        seen: u64,
        /// What is current.
        current: u64,
    },
    /// A key of that name or with that public half is known already.
    #[error("the key {0} is known already, alive or dead; a key is imported once")]
    KnownKey(Kid),
    /// A longer life time than any token may have.
    #[error("max_ttl {0:?} is out of bounds: 1s to 24h")]
    MaxTtl(Duration),
    /// The idempotency key was used for something else.
    #[error("this Idempotency-Key was used with another body; use a new one for a new request")]
    OtherBody,
    /// The actor has used up its idempotency keys for a day.
    #[error(
        "{max} results are stored for this actor already; use one Idempotency-Key per attempt, or none; the next is free at {free_at}",
        max = idempotency::MAX_PER_ACTOR
    )]
    IdempotencyFull {
        /// When the oldest is forgotten.
        free_at: Timestamp,
    },
    /// The caller names a revision that does not exist yet.
    #[error("seen_revision {seen} lies ahead of the current revision {current}")]
    RevisionAhead {
        /// What the caller named.
        seen: u64,
        /// What is current.
        current: u64,
    },
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
