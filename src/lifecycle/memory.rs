//! What a process knows beside the key set: receipts of purges and who recovers from them, which
//! outlive it in a document of their own; callers and proven purged tokens, which do not.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::over_time::OverTime;
use crate::keys::recovery::{PurgeRecovery, ReceiptRecord, RecoveryDocument};
use crate::keys::{End, KeySet};
use crate::store::{AuditPage, SideDocument, StoreError};
use crate::telemetry::Level;
use crate::token::{ProvenTokens, TokenCaches};

use super::admitted::MAX_CALLERS;
use super::drain::Receipt;
use super::purge::external_verifiers_until;
use super::recovery::Recovery;
use super::table::Room;
use super::{Lifecycle, Parts, Policy};

/// How many receipts are kept.
const MAX_RECEIPTS: usize = 64;

/// How far a purge has come: whenever something of it changes, this does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeProgress {
    /// Which one.
    pub purge_id: Uuid,
    is_drained: bool,
    held_by: usize,
    open_requests: u64,
    changes: u64,
}

/// Shared by all snapshots of a process.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) recovery: Arc<Recovery>,
    pub(super) proven: Arc<ProvenTokens>,
    pub(super) callers: Arc<Room>,
    pub(super) caches: TokenCaches,
    /// Newest first.
    receipts: Mutex<VecDeque<Arc<Receipt>>>,
    /// What each purge did over time; before it nothing is known.
    over_time: Mutex<HashMap<Uuid, OverTime>>,
    started_at: Timestamp,
    /// [`Recovery::changes`] when the document was last written.
    saved: AtomicU64,
}

impl Memory {
    /// What an earlier process knew. It only informs: an unreadable document is said aloud, and
    /// then what tombstones tell has to do.
    pub(super) async fn load(parts: &Parts, policy: &Policy, set: &KeySet) -> Self {
        let document = stored(parts).await.unwrap_or_else(|cause| {
            parts
                .log
                .event(
                    Level::Warn,
                    "recovery_lost",
                    "what is known of clients broken by purges cannot be read; it starts anew",
                )
                .field("cause", cause)
                .emit();
            RecoveryDocument::default()
        });
        let now = parts.clock.now();
        let mut receipts = document.receipts;
        receipts.extend(buried(set, policy, &receipts));
        receipts.sort_by_key(|receipt| std::cmp::Reverse(receipt.revision));
        receipts.truncate(MAX_RECEIPTS);
        let receipts = receipts
            .into_iter()
            .map(|receipt| Arc::new(Receipt::restored(receipt, now)));
        Self {
            recovery: Arc::new(Recovery::restore(document.keys)),
            proven: Arc::new(ProvenTokens::new()),
            callers: Arc::new(Room::of(MAX_CALLERS)),
            caches: TokenCaches::new(policy.token_cache),
            receipts: Mutex::new(receipts.collect()),
            over_time: Mutex::default(),
            started_at: now,
            saved: AtomicU64::new(0),
        }
    }

    pub(super) fn remember(&self, receipt: Arc<Receipt>) {
        let mut receipts = self.receipts();
        receipts.retain(|known| known.purge_id != receipt.purge_id);
        receipts.push_front(receipt);
        receipts.truncate(MAX_RECEIPTS);
        self.recovery.changed();
    }

    /// For one who met a purge in the store: who made it may be about to remember, and knows more.
    pub(super) fn remember_unless_known(&self, receipt: Arc<Receipt>) {
        let mut receipts = self.receipts();
        if receipts
            .iter()
            .all(|known| known.purge_id != receipt.purge_id)
        {
            receipts.push_front(receipt);
            receipts.truncate(MAX_RECEIPTS);
            self.recovery.changed();
        }
    }

    /// Makes room for callers of keys that are gone.
    pub(super) fn prune_callers(&self, now: Timestamp) {
        let receipts: Vec<Arc<Receipt>> = self.receipts().iter().map(Arc::clone).collect();
        for admitted in receipts.iter().flat_map(|receipt| receipt.admitted()) {
            admitted.prune(now);
        }
    }

    fn over_time(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, OverTime>> {
        // Counts are valid whatever panicked elsewhere.
        self.over_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn receipts(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Receipt>>> {
        // A queue of finished values is valid whatever panicked elsewhere.
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn stored(parts: &Parts) -> Result<RecoveryDocument, String> {
    let stored = parts.store.load_side(SideDocument::Recovery).await;
    match stored.map_err(|error| error.to_string())? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        None => Ok(RecoveryDocument::default()),
    }
}

/// Purges that the document does not know, because the process ended too soon after them; their
/// tombstones tell.
fn buried(set: &KeySet, policy: &Policy, known: &[ReceiptRecord]) -> Vec<ReceiptRecord> {
    let mut found: Vec<ReceiptRecord> = Vec::new();
    for dead in &set.tombstones {
        let Some(purge_id) = dead.purge_id.filter(|_| dead.end == End::Purged) else {
            continue;
        };
        if known.iter().any(|receipt| receipt.purge_id == purge_id) {
            continue;
        }
        if let Some(receipt) = found.iter_mut().find(|of| of.purge_id == purge_id) {
            receipt.kids.push(dead.kid.clone());
            continue;
        }
        found.push(ReceiptRecord {
            purge_id,
            revision: dead.died_revision,
            committed_at: dead.died_at,
            kids: vec![dead.kid.clone()],
            external_verifiers_until: external_verifiers_until(dead.died_at, &policy.timing),
            drained_at: None,
        });
    }
    found
}

impl Lifecycle {
    /// The receipt of a purge, while it is remembered.
    #[must_use]
    pub fn receipt(&self, purge_id: Uuid) -> Option<Arc<Receipt>> {
        self.receipts()
            .into_iter()
            .find(|receipt| receipt.purge_id == purge_id)
    }

    /// Every receipt that is remembered, newest first: at most the last 64.
    #[must_use]
    pub fn receipts(&self) -> Vec<Arc<Receipt>> {
        self.memory.receipts().iter().map(Arc::clone).collect()
    }

    /// A page of the audit log; see [`crate::store::KeyStore::audit_page`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit_page(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        self.parts.store.audit_page(before, limit).await
    }

    /// How far every purge that is remembered has come, in a form that is cheap to compare.
    #[must_use]
    pub fn purge_progress(&self) -> Vec<PurgeProgress> {
        let progress = |receipt: Arc<Receipt>| {
            let state = receipt.state();
            PurgeProgress {
                purge_id: receipt.purge_id,
                is_drained: state.drained_at.is_some(),
                held_by: state.still_held_by.len(),
                open_requests: receipt.open_requests(),
                changes: self.memory.recovery.changes_of(receipt.purge_id),
            }
        };
        self.receipts().into_iter().map(progress).collect()
    }

    /// Whom a purge broke, and who is back.
    #[must_use]
    pub fn recovery(&self, purge_id: Uuid) -> PurgeRecovery {
        self.memory.recovery.of_purge(purge_id)
    }

    /// What a purge did to clients over time, since it was made or the process started.
    #[must_use]
    pub fn over_time(&self, purge_id: Uuid) -> Option<OverTime> {
        self.sample_purges();
        self.memory.over_time().get(&purge_id).cloned()
    }

    /// Notes what every purge that is remembered did since it was looked at last.
    pub(super) fn sample_purges(&self) {
        let (receipts, now) = (self.receipts(), self.parts.clock.now());
        let mut over_time = self.memory.over_time();
        over_time.retain(|id, _| receipts.iter().any(|receipt| receipt.purge_id == *id));
        for receipt in receipts {
            let start = receipt.committed_at.max(self.memory.started_at);
            let counts = self.memory.recovery.counts_of(receipt.purge_id);
            over_time
                .entry(receipt.purge_id)
                .or_insert_with(|| OverTime::since(start))
                .take(counts, now);
        }
    }

    /// Writes the receipts and who recovers to their document, if anything changed; a failure is
    /// tried again next time.
    pub(super) async fn save_recovery(&self) {
        let memory = &self.memory;
        let remembered: Vec<Uuid> = self.receipts().iter().map(|of| of.purge_id).collect();
        memory
            .recovery
            .prune(&self.current_set(), &remembered, self.parts.clock.now());
        let changes = memory.recovery.changes();
        if memory.saved.load(SeqCst) == changes {
            return;
        }
        let document = RecoveryDocument {
            receipts: self.receipts().iter().map(|of| of.record()).collect(),
            keys: memory.recovery.records(),
        };
        // Serialising strings and numbers into a Vec cannot fail.
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        let saved = self
            .parts
            .store
            .save_side(SideDocument::Recovery, &bytes)
            .await;
        match saved {
            Ok(()) => memory.saved.store(changes, SeqCst),
            Err(error) => self
                .parts
                .log
                .event(
                    Level::Warn,
                    "recovery_not_saved",
                    "what is known of clients broken by purges could not be saved",
                )
                .field("cause", error.to_string())
                .emit(),
        }
    }
}
