//! Recover: the previous generation becomes current, because the key set was lost or damaged.

use crate::clock::Timestamp;
use crate::keys::audit::{AuditRecord, Event};
use crate::keys::key_set::KeySet;
use crate::keys::signing_key::{FreshKey, Kid};
use crate::keys::timing::Timing;

use super::{Order, PurgeScope, purge};

/// The set that follows `previous`, with a revision above `proven`, the highest one that is known
/// to have been stored.
///
/// Nobody can say what happened to the keys in between, so all of them die as compromised ones do,
/// and `fresh` replaces them. With `keep`, which names the keys that are known to have ended
/// later, these alone die (invariant 7).
#[must_use]
pub fn recover(
    previous: &KeySet,
    proven: u64,
    keep: Option<&[Kid]>,
    fresh: (FreshKey, FreshKey),
    order: &Order,
    timing: &Timing,
    now: Timestamp,
) -> KeySet {
    let base = KeySet {
        revision: proven.max(previous.revision),
        ..previous.clone()
    };
    let scope = match keep {
        None => PurgeScope::All,
        Some(ended) => PurgeScope::Kids {
            kids: ended.to_vec(),
            keep_pending: false,
        },
    };
    let dies = |kid: &Kid| keep.is_none_or(|ended| ended.contains(kid));
    let mut next = if base.verifying().any(|(_, key)| dies(&key.kid)) {
        purge(&base, &scope, false, fresh, order, timing, now).set
    } else {
        let now = now.max(base.high_water_time);
        let revision = base.revision + 1;
        KeySet {
            revision,
            last_event: AuditRecord {
                reason: order.reason.clone(),
                event_id: Some(order.id),
                ..AuditRecord::new(revision, now, Event::Recover, order.actor.clone())
            },
            high_water_time: now,
            ..base
        }
    };
    next.last_event.event = Event::Recover;
    next
}
