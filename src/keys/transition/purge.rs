//! Rotate and purge: of every key, or of named ones.

use crate::clock::Timestamp;
use crate::keys::audit::{AuditRecord, Event};
use crate::keys::idempotency;
use crate::keys::key_set::{Activation, ActivationKind, KeySet, KeyState};
use crate::keys::signing_key::{DeprecatedKey, End, FreshKey, Kid, PublicKey, Tombstone};
use crate::keys::timing::{PURGED_TOMBSTONE_MIN, Timing};

use super::{Activated, Decision, Order, Refusal, activate, publish, refuse_ahead, tombstone};

/// Which keys a purge is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeScope {
    /// Every key that verifies.
    All,
    /// These. When the active one is among them the pending one dies too, because it lay in the
    /// same store, unless `keep_pending`: then it becomes active.
    Kids {
        /// The keys; those that are dead already are left alone.
        kids: Vec<Kid>,
        /// Whether the pending key is trusted although the active one is not.
        keep_pending: bool,
    },
}

/// Whether a purge of every verifying key is to happen: only when a key that the caller saw, at
/// `seen_revision`, still verifies. So a repeated call cannot kill clients that recovered.
///
/// # Errors
/// [`Refusal::RevisionAhead`] when the caller names a revision that does not exist yet.
pub fn decide_purge(set: &KeySet, seen_revision: u64) -> Result<Decision, Refusal> {
    decide_scoped_purge(set, &PurgeScope::All, Some(seen_revision))
}

/// Whether a purge is to happen: only when a key that the caller saw, by revision or by name, still
/// verifies.
///
/// # Errors
/// [`Refusal::RevisionAhead`] or [`Refusal::UnknownKid`] when the caller cannot have seen what it
/// names.
pub fn decide_scoped_purge(
    set: &KeySet,
    scope: &PurgeScope,
    seen_revision: Option<u64>,
) -> Result<Decision, Refusal> {
    refuse_ahead(set, seen_revision)?;
    let still_verifies = match scope {
        PurgeScope::All => set
            .verifying()
            .any(|(_, key)| seen_revision.is_none_or(|seen| key.published_revision <= seen)),
        PurgeScope::Kids { kids, .. } => {
            if let Some(unknown) = kids.iter().find(|kid| !set.knows(kid)) {
                return Err(Refusal::UnknownKid(unknown.clone()));
            }
            set.verifying().any(|(_, key)| kids.contains(&key.kid))
        }
    };
    match (&set.last_purge, still_verifies) {
        (Some(last), false) => Ok(Decision::Unchanged(Box::new(last.clone()))),
        // Without an earlier purge some key of every revision still verifies; purge to be safe.
        (_, true) | (None, false) => Ok(Decision::Execute),
    }
}

/// The keys that a purge of `scope` would end now, in the order of [`KeySet::verifying`].
///
/// # Errors
/// [`Refusal::UnknownKid`]
pub fn doomed(set: &KeySet, scope: &PurgeScope) -> Result<Vec<Kid>, Refusal> {
    if let PurgeScope::Kids { kids, .. } = scope
        && let Some(unknown) = kids.iter().find(|kid| !set.knows(kid))
    {
        return Err(Refusal::UnknownKid(unknown.clone()));
    }
    let fate = Fate::of(set, scope);
    let dies = |(state, key): &(KeyState, &PublicKey)| match state {
        KeyState::Active => fate.active_dies,
        KeyState::Pending => fate.pending_dies,
        KeyState::Deprecated => scope.names(&key.kid),
    };
    Ok(set
        .verifying()
        .filter(dies)
        .map(|(_, key)| key.kid.clone())
        .collect())
}

/// Ends every key that verifies and starts over with two fresh ones.
///
/// The pending key dies too: it lay in the same store as the leaked one.
#[must_use]
pub fn purge_all(
    set: &KeySet,
    active: FreshKey,
    pending: FreshKey,
    order: &Order,
    timing: &Timing,
    now: Timestamp,
) -> Activated {
    purge(
        set,
        &PurgeScope::All,
        false,
        (active, pending),
        order,
        timing,
        now,
    )
}

/// Ends the keys in `scope`. `fresh` replaces what dies of the active and the pending key; what is
/// not needed of it is dropped. `mistake_undo` declares the keys not compromised, so that they can
/// be restored.
#[must_use]
pub fn purge(
    set: &KeySet,
    scope: &PurgeScope,
    mistake_undo: bool,
    fresh: (FreshKey, FreshKey),
    order: &Order,
    timing: &Timing,
    now: Timestamp,
) -> Activated {
    let revision = set.revision + 1;
    let now = now.max(set.high_water_time);
    let fate = Fate::of(set, scope);
    let bury = |key: &PublicKey, activated_at, deprecated_at, verify_until: Timestamp| Tombstone {
        died_revision: revision,
        purge_id: Some(order.id),
        mistake_undo,
        deprecated_at,
        tombstone_until: verify_until.max(now.plus(PURGED_TOMBSTONE_MIN)),
        ..tombstone(key, End::Purged, activated_at, verify_until, now)
    };
    let unexpired = |key: &PublicKey| timing.verify_until(now, key.max_ttl);
    let mut buried = Vec::new();
    if fate.active_dies {
        let key = &set.active;
        buried.push(bury(
            &key.public,
            Some(key.activated_at),
            None,
            unexpired(&key.public),
        ));
    }
    if fate.pending_dies {
        let key = &set.pending.public;
        buried.push(bury(key, None, None, unexpired(key)));
    }
    let (dead, deprecated): (Vec<DeprecatedKey>, Vec<DeprecatedKey>) = set
        .deprecated
        .iter()
        .cloned()
        .partition(|key| scope.names(&key.public.kid));
    buried.extend(dead.iter().map(|key| {
        bury(
            &key.public,
            Some(key.activated_at),
            Some(key.deprecated_at),
            key.verify_until,
        )
    }));

    let new = |key| publish(key, revision, timing, now);
    let (active, pending) = match (fate.active_dies, fate.pending_dies) {
        (true, true) => (activate(new(fresh.0), timing, now), new(fresh.1)),
        (true, false) => (activate(set.pending.clone(), timing, now), new(fresh.0)),
        (false, true) => (set.active.clone(), new(fresh.0)),
        (false, false) => (set.active.clone(), set.pending.clone()),
    };
    let activation = Activation {
        id: order.id,
        kind: ActivationKind::Purge,
        trigger: order.trigger,
        at: now,
        revision,
        activated: active.public.kid.clone(),
        replaced: set.active.public.kid.clone(),
        purged: buried
            .iter()
            .map(|tombstone| tombstone.kid.clone())
            .collect(),
        unseen: unseen(set, &buried, order.seen_revision),
    };
    let published =
        (pending.public.published_revision == revision).then(|| pending.public.kid.clone());
    let next = KeySet {
        revision,
        last_event: AuditRecord {
            reason: order.reason.clone(),
            event_id: Some(order.id),
            activated: fate.active_dies.then(|| active.public.kid.clone()),
            published,
            purged: activation.purged.clone(),
            ..AuditRecord::new(revision, now, Event::RotateAndPurge, order.actor.clone())
        },
        active,
        pending,
        deprecated,
        tombstones: buried
            .into_iter()
            .chain(set.tombstones.iter().cloned())
            .collect(),
        // A purge that activates nothing opens no window.
        last_activation: if fate.active_dies {
            Some(activation.clone())
        } else {
            set.last_activation.clone()
        },
        last_purge: Some(activation.clone()),
        idempotency: idempotency::remember(
            set,
            &order.actor,
            order.claim.as_ref(),
            &activation,
            now,
        ),
        high_water_time: now,
        ..set.clone()
    };
    Activated {
        set: next,
        activation,
    }
}

/// The dead keys that the caller had not seen: what a stale purge ended beyond its knowledge.
fn unseen(set: &KeySet, buried: &[Tombstone], seen_revision: Option<u64>) -> Vec<Kid> {
    let new = |kid: &Kid| {
        set.verifying().any(|(_, key)| {
            key.kid == *kid && seen_revision.is_some_and(|seen| key.published_revision > seen)
        })
    };
    let kids = buried.iter().map(|tombstone| &tombstone.kid);
    kids.filter(|kid| new(kid)).cloned().collect()
}

/// What becomes of the two keys that a set always has.
struct Fate {
    active_dies: bool,
    pending_dies: bool,
}

impl Fate {
    fn of(set: &KeySet, scope: &PurgeScope) -> Self {
        let active_dies = scope.names(&set.active.public.kid);
        let named = scope.names(&set.pending.public.kid);
        let guilty = match scope {
            PurgeScope::All => true,
            PurgeScope::Kids { keep_pending, .. } => active_dies && !keep_pending,
        };
        Self {
            active_dies,
            pending_dies: named || guilty,
        }
    }
}

impl PurgeScope {
    fn names(&self, kid: &Kid) -> bool {
        match self {
            Self::All => true,
            Self::Kids { kids, .. } => kids.contains(kid),
        }
    }
}
