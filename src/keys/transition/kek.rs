//! Key-encryption keys, as far as the key set knows them: reseal, and the demand for a new one
//! after a compromised purge.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::audit::{AuditRecord, Event};
use crate::keys::key_set::{KekDemand, KeySet};
use crate::keys::signing_key::SealedPrivate;

use super::Order;

/// The same keys with their private halves sealed anew; everything else about them stays.
#[must_use]
pub fn reseal(
    set: &KeySet,
    (active, pending): (SealedPrivate, SealedPrivate),
    order: &Order,
    now: Timestamp,
) -> KeySet {
    let now = now.max(set.high_water_time);
    let revision = set.revision + 1;
    let mut next = set.clone();
    next.revision = revision;
    next.active.sealed = active;
    next.pending.sealed = pending;
    next.last_event = AuditRecord {
        reason: order.reason.clone(),
        event_id: Some(order.id),
        ..AuditRecord::new(revision, now, Event::Reseal, order.actor.clone())
    };
    next.high_water_time = now;
    next
}

/// Notes that the purge `purge_id`, which made `set`, found no new key-encryption key. A demand
/// that is open already keeps its date: the alarm must not start over.
pub fn demand_kek(set: &mut KeySet, purge_id: Uuid, compromised: Vec<String>) {
    let (since, purge_id) = set
        .kek_demand
        .as_ref()
        .map_or((set.high_water_time, purge_id), |open| {
            (open.since, open.purge_id)
        });
    set.kek_demand = Some(KekDemand {
        since,
        purge_id,
        compromised,
    });
}

/// Ends the demand when neither the document, authenticated by `document_kek`, nor a private half
/// depends on a key-encryption key that may have leaked.
pub fn settle_kek_demand(set: &mut KeySet, document_kek: &str) {
    let halves = [&set.active.sealed.kek, &set.pending.sealed.kek];
    if set.kek_demand.as_ref().is_some_and(|demand| {
        let leaked = |id: &str| demand.compromised.iter().any(|known| known == id);
        !leaked(document_kek) && !halves.iter().any(|id| leaked(id))
    }) {
        set.kek_demand = None;
    }
}
