//! The clients broken by the end of one key: atomics that requests change without a lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::recovery::{ClientRecovery, KeyRecoveryRecord};
use crate::keys::{Kid, Tombstone};
use crate::lifecycle::stolen::Stolen;
use crate::lifecycle::table::{Place, Table};
use crate::telemetry::KeySeries;

use super::Shared;

/// States of [`Victim::recovered_at`] beside a moment.
const WAITING: i64 = 0;
const NEW: i64 = -1;

/// A moment that has not come.
const NEVER: i64 = 0;

/// The clients broken by the end of one key.
#[derive(Debug)]
pub struct KeyRecovery {
    pub(super) kid: Kid,
    pub(super) purge_id: Uuid,
    pub(super) died_at: Timestamp,
    victims: Table<Victim>,
    /// Signed: two that change at the same time may count in either order.
    pub(super) affected: AtomicI64,
    pub(super) recovered: AtomicI64,
    unlisted_failures: AtomicU64,
    stolen: Stolen,
    /// Grows with every change of its clients.
    pub(super) changes: AtomicU64,
    /// Since the process started, as is `recoveries`.
    pub(super) failures: AtomicU64,
    pub(super) recoveries: AtomicU64,
    /// `None` once the kid lives again and died another death.
    pub(super) series: ArcSwapOption<KeySeries>,
    shared: Arc<Shared>,
}

/// One client and one purged key; moments in Unix milliseconds.
#[derive(Debug)]
struct Victim {
    first_failure_at: AtomicI64,
    last_failure_at: AtomicI64,
    failures: AtomicU64,
    new_token_at: AtomicI64,
    recovered_at: AtomicI64,
    _place: Place,
}

impl KeyRecovery {
    pub(super) fn new(tombstone: &Tombstone, purge_id: Uuid, shared: &Arc<Shared>) -> Self {
        let record = KeyRecoveryRecord {
            kid: tombstone.kid.clone(),
            purge_id,
            died_at: tombstone.died_at,
            unlisted_failures: 0,
            compromised: None,
            clients: BTreeMap::new(),
        };
        Self::restore(record, Arc::clone(shared))
    }

    pub(super) fn restore(record: KeyRecoveryRecord, shared: Arc<Shared>) -> Self {
        let key = Self {
            kid: record.kid,
            purge_id: record.purge_id,
            died_at: record.died_at,
            victims: Table::new(),
            affected: AtomicI64::new(0),
            recovered: AtomicI64::new(0),
            unlisted_failures: AtomicU64::new(record.unlisted_failures),
            stolen: Stolen::of(record.compromised),
            changes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            recoveries: AtomicU64::new(0),
            series: ArcSwapOption::empty(),
            shared,
        };
        for (client, of) in record.clients {
            let place = || Some(Victim::of(&of, key.shared.room.take()?));
            if key
                .victims
                .get_or_insert(&client, |_| true, place)
                .is_none()
            {
                key.unlisted_failures.fetch_add(of.failures, SeqCst);
                continue;
            }
            key.affected.fetch_add(1, SeqCst);
            if of.recovered_at.is_some() {
                key.recovered.fetch_add(1, SeqCst);
            } else {
                key.shared.waiting.fetch_add(1, SeqCst);
            }
        }
        key
    }

    /// A request of `client` was refused because of this purge, and for no other reason.
    pub fn failed(&self, client: &str, now: Timestamp) {
        let at = now.as_millis();
        let new = || Some(Victim::new(at, self.shared.room.take()?));
        if let Some(victim) = self.victims.get_or_insert(client, |_| true, new) {
            victim.first_failure_at.fetch_min(at, SeqCst);
            victim.last_failure_at.fetch_max(at, SeqCst);
            victim.failures.fetch_add(1, SeqCst);
            match victim.recovered_at.swap(WAITING, SeqCst) {
                WAITING => {}
                before => {
                    self.shared.waiting.fetch_add(1, SeqCst);
                    if before == NEW {
                        self.affected.fetch_add(1, SeqCst);
                    } else {
                        self.recovered.fetch_sub(1, SeqCst);
                    }
                    self.show();
                }
            }
        } else {
            self.unlisted_failures.fetch_add(1, SeqCst);
        }
        self.failures.fetch_add(1, SeqCst);
        self.changed();
    }

    /// A token was shown that it signed although it was dead.
    pub fn used_after_death(&self, now: Timestamp) {
        self.stolen.used(now);
        self.changed();
    }

    /// A request of `client` was accepted.
    pub(super) fn accepted(&self, client: &str, issued_at: Timestamp, now: Timestamp) {
        self.victims.with(client, |victim| {
            let back = victim.recovered_at.compare_exchange(
                WAITING,
                now.as_millis().max(1),
                SeqCst,
                SeqCst,
            );
            if back.is_ok() {
                self.recovered.fetch_add(1, SeqCst);
                self.recoveries.fetch_add(1, SeqCst);
                self.shared.waiting.fetch_sub(1, SeqCst);
                // It may have had a newer token before its first failure, from another instance;
                // dates of issue are whole seconds.
                if issued_at.as_seconds() > self.died_at.as_seconds() {
                    self.renewed(victim, issued_at.as_millis());
                }
                self.show();
                self.changed();
            }
        });
    }

    /// A token was issued to `client`.
    pub(super) fn issued(&self, client: &str, now: Timestamp) {
        self.victims
            .with(client, |victim| self.renewed(victim, now.as_millis()));
    }

    fn renewed(&self, victim: &Victim, at: i64) {
        let first = victim
            .new_token_at
            .compare_exchange(NEVER, at.max(1), SeqCst, SeqCst);
        if first.is_ok() {
            self.changed();
        }
    }

    fn changed(&self) {
        self.changes.fetch_add(1, SeqCst);
        self.shared.changed();
    }

    /// An upper bound while a change is under way.
    pub(super) fn waiting(&self) -> u64 {
        let recovered = self.recovered.load(SeqCst);
        u64::try_from(self.affected.load(SeqCst).saturating_sub(recovered)).unwrap_or(0)
    }

    /// Sets the gauges; looks again after, so that the last one to set them sets the last value.
    pub(super) fn show(&self) {
        let Some(series) = &*self.series.load() else {
            return;
        };
        if series.is_shared() {
            return;
        }
        loop {
            let (affected, recovered) = (self.affected.load(SeqCst), self.recovered.load(SeqCst));
            series.show_clients(affected, recovered);
            let again = (self.affected.load(SeqCst), self.recovered.load(SeqCst));
            if again == (affected, recovered) {
                return;
            }
        }
    }

    pub(super) fn record(&self) -> KeyRecoveryRecord {
        let mut clients = BTreeMap::new();
        self.victims.for_each(|client, victim| {
            clients.insert(Arc::clone(client), victim.record());
        });
        KeyRecoveryRecord {
            kid: self.kid.clone(),
            purge_id: self.purge_id,
            died_at: self.died_at,
            unlisted_failures: self.unlisted_failures.load(SeqCst),
            compromised: self.stolen.record(),
            clients,
        }
    }
}

impl Drop for KeyRecovery {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(self.waiting(), SeqCst);
    }
}

impl Victim {
    const fn new(at: i64, place: Place) -> Self {
        Self {
            first_failure_at: AtomicI64::new(at),
            last_failure_at: AtomicI64::new(at),
            failures: AtomicU64::new(0),
            new_token_at: AtomicI64::new(NEVER),
            recovered_at: AtomicI64::new(NEW),
            _place: place,
        }
    }

    fn of(record: &ClientRecovery, place: Place) -> Self {
        let moment = |at: Option<Timestamp>| at.map_or(NEVER, |at| at.as_millis().max(1));
        Self {
            first_failure_at: AtomicI64::new(record.first_failure_at.as_millis()),
            last_failure_at: AtomicI64::new(record.last_failure_at.as_millis()),
            failures: AtomicU64::new(record.failures),
            new_token_at: AtomicI64::new(moment(record.new_token_at)),
            recovered_at: AtomicI64::new(moment(record.recovered_at)),
            _place: place,
        }
    }

    fn record(&self) -> ClientRecovery {
        let moment = |at: &AtomicI64| {
            let at = at.load(SeqCst);
            (at > 0).then(|| Timestamp::from_millis(at))
        };
        ClientRecovery {
            first_failure_at: Timestamp::from_millis(self.first_failure_at.load(SeqCst)),
            last_failure_at: Timestamp::from_millis(self.last_failure_at.load(SeqCst)),
            failures: self.failures.load(SeqCst),
            new_token_at: moment(&self.new_token_at),
            recovered_at: moment(&self.recovered_at),
        }
    }
}
