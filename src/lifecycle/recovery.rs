//! Whom a purge broke and who is back, kept up by the requests themselves.
//!
//! Requests lock nothing here. While nobody waits to recover, an accepted request and an issued
//! token cost one relaxed load; while somebody does, one look-up per purged key that is waited
//! for. A refused one may cost a little. Memory is bounded: [`MAX_VICTIMS`] pairs of key and
//! client; failures of clients beyond that are counted without a name.

mod key;

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::over_time::Counts;
use crate::keys::recovery::{KeyRecoveryRecord, PurgeRecovery};
use crate::keys::{End, KeySet, Tombstone};
use crate::telemetry::{KeySeries, Metrics};

use super::table::Room;

pub use key::KeyRecovery;

/// Most pairs of purged key and client remembered; about 8 MiB, also in the store.
pub const MAX_VICTIMS: usize = 20_000;

/// What is not published is not forgotten earlier: longer than any commit takes.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// The clients broken by every purge that is remembered.
#[derive(Debug)]
pub struct Recovery {
    shared: Arc<Shared>,
    keys: ArcSwap<Vec<Arc<KeyRecovery>>>,
    /// Held by life-cycle steps alone.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    /// Pairs of key and client that wait to recover.
    waiting: AtomicU64,
    /// Grows with every change that is worth saving.
    changes: AtomicU64,
    room: Arc<Room>,
}

impl Recovery {
    /// What an earlier process knew.
    pub(super) fn restore(records: Vec<KeyRecoveryRecord>) -> Self {
        let shared = Arc::new(Shared {
            waiting: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            room: Arc::new(Room::of(MAX_VICTIMS)),
        });
        let keys = records
            .into_iter()
            .map(|record| Arc::new(KeyRecovery::restore(record, Arc::clone(&shared))))
            .collect();
        Self {
            shared,
            keys: ArcSwap::from_pointee(keys),
            changing: Mutex::default(),
        }
    }

    /// A request of `client` was accepted, with a token issued at `issued_at`.
    pub(super) fn accepted(&self, client: &str, issued_at: Timestamp, now: Timestamp) {
        if self.shared.waiting.load(Relaxed) == 0 {
            return;
        }
        for key in &**self.keys.load() {
            if key.waiting() > 0 {
                key.accepted(client, issued_at, now);
            }
        }
    }

    /// A token was issued to `client`.
    pub(super) fn issued(&self, client: &str, now: Timestamp) {
        if self.shared.waiting.load(Relaxed) == 0 {
            return;
        }
        for key in &**self.keys.load() {
            if key.waiting() > 0 {
                key.issued(client, now);
            }
        }
    }

    /// What becomes of the clients of each tombstone of `set`, in their order, and the metrics of
    /// each. The set need not be published: what it does not know stays.
    pub(super) fn of_tombstones(
        &self,
        set: &KeySet,
        series: &[KeySeries],
        metrics: &Metrics,
    ) -> Vec<Option<Arc<KeyRecovery>>> {
        let _changing = self.changing();
        let mut keys = Vec::clone(&self.keys.load());
        let mut older = (0, 0);
        let of_tombstone = |(tombstone, series): (&Tombstone, &KeySeries)| {
            let purge_id = tombstone
                .purge_id
                .filter(|_| tombstone.end == End::Purged)?;
            for other in keys.iter().filter(|key| key.kid == tombstone.kid) {
                if other.purge_id != purge_id {
                    other.series.store(None);
                }
            }
            let same =
                |key: &&Arc<KeyRecovery>| key.kid == tombstone.kid && key.purge_id == purge_id;
            let known = keys.iter().find(same).map(Arc::clone);
            let key = known.unwrap_or_else(|| {
                let key = Arc::new(KeyRecovery::new(tombstone, purge_id, &self.shared));
                keys.push(Arc::clone(&key));
                key
            });
            if series.is_shared() {
                older.0 += key.affected.load(SeqCst);
                older.1 += key.recovered.load(SeqCst);
            }
            key.series.store(Some(Arc::new(series.clone())));
            key.show();
            Some(key)
        };
        let of_tombstones = set
            .tombstones
            .iter()
            .zip(series)
            .map(of_tombstone)
            .collect();
        metrics.older_purge_clients(older.0, older.1);
        self.keys.store(Arc::new(keys));
        of_tombstones
    }

    /// Forgets what belongs to no tombstone of the published `set` and to no purge in `remembered`.
    pub(super) fn prune(&self, set: &KeySet, remembered: &[Uuid], now: Timestamp) {
        let _changing = self.changing();
        let keys = self.keys.load_full();
        let keep = |key: &&Arc<KeyRecovery>| {
            remembered.contains(&key.purge_id)
                // It may belong to a set that is just being committed.
                || now.since(key.died_at) < FORGET_AFTER
                || set.tombstones.iter().any(|dead| {
                    dead.kid == key.kid && dead.purge_id == Some(key.purge_id)
                })
        };
        let kept: Vec<Arc<KeyRecovery>> = keys.iter().filter(keep).map(Arc::clone).collect();
        if kept.len() < keys.len() {
            self.keys.store(Arc::new(kept));
            self.shared.changed();
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of the clients of one purge, by now.
    #[must_use]
    pub fn of_purge(&self, purge_id: Uuid) -> PurgeRecovery {
        let keys = self.keys.load();
        let of_purge = keys.iter().filter(|key| key.purge_id == purge_id);
        PurgeRecovery::of(of_purge.map(|key| key.record()))
    }

    /// Grows whenever something becomes known of the clients of one purge.
    pub(super) fn changes_of(&self, purge_id: Uuid) -> u64 {
        let keys = self.keys.load();
        let of_purge = keys.iter().filter(|key| key.purge_id == purge_id);
        of_purge.map(|key| key.changes.load(SeqCst)).sum()
    }

    /// What one purge did to clients since the process started.
    pub(super) fn counts_of(&self, purge_id: Uuid) -> Counts {
        let keys = self.keys.load();
        let of_purge = keys.iter().filter(|key| key.purge_id == purge_id);
        of_purge.fold(Counts::default(), |counts, key| Counts {
            failures: counts.failures + key.failures.load(SeqCst),
            recovered: counts.recovered + key.recoveries.load(SeqCst),
        })
    }

    /// Everything worth keeping.
    pub(super) fn records(&self) -> Vec<KeyRecoveryRecord> {
        self.keys.load().iter().map(|key| key.record()).collect()
    }

    /// Grows with every change.
    pub(super) fn changes(&self) -> u64 {
        self.shared.changes.load(SeqCst)
    }

    /// Something beside it that is saved with it has changed.
    pub(super) fn changed(&self) {
        self.shared.changed();
    }
}

impl Shared {
    fn changed(&self) {
        self.changes.fetch_add(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::keys::recovery::CompromisedUses;

    fn record() -> KeyRecoveryRecord {
        KeyRecoveryRecord {
            kid: "k".parse().unwrap(),
            purge_id: Uuid::from_u128(1),
            died_at: Timestamp::from_seconds(100),
            unlisted_failures: 0,
            compromised: None,
            clients: BTreeMap::new(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    #[test]
    fn sums_stay_true_when_everybody_fails_and_recovers_at_once() {
        let recovery = Recovery::restore(vec![record()]);
        let key = Arc::clone(&recovery.keys.load()[0]);
        std::thread::scope(|scope| {
            for thread in 0..4_i64 {
                let (recovery, key) = (&recovery, &key);
                scope.spawn(move || {
                    for round in 0..2000_i64 {
                        let client = format!("c{}", (round * 7 + thread) % 13);
                        key.failed(&client, at(200 + round));
                        recovery.issued(&client, at(200 + round));
                        recovery.accepted(&client, at(50), at(200 + round));
                    }
                });
            }
        });
        key.failed("c0", at(9000));
        let all = recovery.of_purge(Uuid::from_u128(1));
        let sums = all.sums();
        assert_eq!((sums.affected, sums.failures), (13, 8001));
        let affected = u64::try_from(key.affected.load(SeqCst)).unwrap();
        assert_eq!(affected, sums.affected);
        let recovered = u64::try_from(key.recovered.load(SeqCst)).unwrap();
        assert_eq!(recovered, sums.recovered);
        assert_eq!(recovery.shared.waiting.load(SeqCst), affected - recovered);
        for client in 0..13 {
            recovery.accepted(&format!("c{client}"), at(50), at(9001));
        }
        assert_eq!(recovery.shared.waiting.load(SeqCst), 0);
        assert_eq!(recovery.of_purge(Uuid::from_u128(1)).sums().recovered, 13);

        // The next process goes on from there.
        for second in [9100, 9050] {
            key.used_after_death(at(second));
        }
        let uses = CompromisedUses {
            uses: 2,
            first_at: at(9100),
            last_at: at(9100),
        };
        let known = recovery.of_purge(Uuid::from_u128(1));
        assert_eq!(known.compromised, Some(uses));
        let next = Recovery::restore(recovery.records());
        assert_eq!(next.records(), recovery.records());
        assert_eq!(next.shared.waiting.load(SeqCst), 0);
    }

    #[test]
    fn clients_beyond_the_bound_are_counted_without_a_name() {
        let recovery = Recovery::restore(vec![record()]);
        let key = Arc::clone(&recovery.keys.load()[0]);
        for client in 0..=MAX_VICTIMS {
            key.failed(&format!("{client}"), at(200));
        }
        key.failed(&"x".repeat(1000), at(200));
        let all = recovery.of_purge(Uuid::from_u128(1));
        assert_eq!(all.clients.len(), MAX_VICTIMS);
        assert_eq!(all.unlisted_failures, 2);
        let bytes = serde_json::to_vec(&recovery.records()).unwrap();
        assert!(bytes.len() < 6 * 1024 * 1024, "{}", bytes.len());
    }

    #[test]
    fn what_is_forgotten_is_waited_for_no_longer() {
        let recovery = Recovery::restore(vec![record()]);
        recovery.keys.load()[0].failed("a", at(200));
        assert_eq!(recovery.shared.waiting.load(SeqCst), 1);
        recovery.keys.store(Arc::default());
        assert_eq!(recovery.shared.waiting.load(SeqCst), 0);
    }
}
