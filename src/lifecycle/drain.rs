//! Waiting until nobody holds an old snapshot, and the receipt that says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::recovery::ReceiptRecord;
use crate::keys::timing::Timing;
use crate::keys::{Activation, Kid};
use crate::telemetry::Level;

use super::Lifecycle;
use super::admitted::Admitted;
use super::purge::external_verifiers_until;

/// After this a purge answers even though a worker is stuck, and names it.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// Holders are gone within microseconds; a millisecond between two looks costs nobody anything.
const DRAIN_LOOK: Duration = Duration::from_millis(1);

/// After the deadline the wait goes on in the background, slower, and for no longer than this.
const BACKGROUND_LOOK: Duration = Duration::from_millis(50);
const BACKGROUND_DEADLINE: Duration = Duration::from_secs(3600);

/// What a purge answers: who stopped when, and what is still open.
#[derive(Debug)]
pub struct Receipt {
    /// Identifier of the purge, its `rotation_id`.
    pub purge_id: Uuid,
    /// Revision that the purge made.
    pub revision: u64,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// Keys that died.
    pub kids: Vec<Kid>,
    /// Until when verifiers elsewhere may go on accepting from a cached JWKS.
    pub external_verifiers_until: Timestamp,
    admitted: Vec<Arc<Admitted>>,
    state: Mutex<DrainState>,
}

/// How far the drain is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainState {
    /// When the last holder was gone; `None` while one is left.
    pub drained_at: Option<Timestamp>,
    /// Who still holds an old snapshot, as `worker (purpose)`.
    pub still_held_by: Vec<String>,
}

impl Receipt {
    pub(super) fn new(
        activation: &Activation,
        mut admitted: HashMap<Kid, Arc<Admitted>>,
        timing: &Timing,
    ) -> Self {
        Self {
            purge_id: activation.id,
            revision: activation.revision,
            committed_at: activation.at,
            kids: activation.purged.clone(),
            external_verifiers_until: external_verifiers_until(activation.at, timing),
            admitted: activation
                .purged
                .iter()
                .filter_map(|kid| admitted.remove(kid))
                .collect(),
            state: Mutex::default(),
        }
    }

    /// The receipt of a purge by an earlier process. Whoever held on to a purged key then is gone
    /// with that process, at `now` at the latest.
    pub(super) fn restored(record: ReceiptRecord, now: Timestamp) -> Self {
        Self {
            purge_id: record.purge_id,
            revision: record.revision,
            committed_at: record.committed_at,
            kids: record.kids,
            external_verifiers_until: record.external_verifiers_until,
            admitted: Vec::new(),
            state: Mutex::new(DrainState {
                drained_at: Some(record.drained_at.unwrap_or(now)),
                still_held_by: Vec::new(),
            }),
        }
    }

    /// What of it outlives the process.
    pub(super) fn record(&self) -> ReceiptRecord {
        ReceiptRecord {
            purge_id: self.purge_id,
            revision: self.revision,
            committed_at: self.committed_at,
            kids: self.kids.clone(),
            external_verifiers_until: self.external_verifiers_until,
            drained_at: self.state().drained_at,
        }
    }

    /// The counters of the keys that died.
    pub(super) fn admitted(&self) -> &[Arc<Admitted>] {
        &self.admitted
    }

    /// How far the drain is.
    #[must_use]
    pub fn state(&self) -> DrainState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Requests that a purged key admitted before the purge and that are still open.
    #[must_use]
    pub fn open_requests(&self) -> u64 {
        self.admitted.iter().map(|admitted| admitted.open()).sum()
    }

    /// Whether nobody has begun to wait for its holders.
    fn is_new(&self) -> bool {
        self.state() == DrainState::default()
    }

    fn update(&self, state: DrainState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Lifecycle {
    /// The receipt of an earlier purge. One whose commit nobody could answer for is drained now: the
    /// answer says that it is over.
    pub(super) async fn drained_receipt(self: &Arc<Self>, purge_id: Uuid) -> Option<Arc<Receipt>> {
        let receipt = self.receipt(purge_id)?;
        if receipt.is_new() {
            self.drain(&receipt).await;
        }
        Some(receipt)
    }

    /// Waits until no snapshot older than the purge is held, or the deadline has passed; then goes
    /// on waiting in the background, so that the receipt turns complete.
    pub(super) async fn drain(self: &Arc<Self>, receipt: &Arc<Receipt>) {
        if self.published.seat().drain_is_removed() {
            receipt.update(DrainState {
                drained_at: Some(self.parts.clock.now()),
                still_held_by: Vec::new(),
            });
            return;
        }
        if self.drain_within(receipt, DRAIN_DEADLINE, DRAIN_LOOK).await {
            return;
        }
        let (lifecycle, receipt) = (Arc::clone(self), Arc::clone(receipt));
        tokio::spawn(async move {
            if lifecycle
                .drain_within(&receipt, BACKGROUND_DEADLINE, BACKGROUND_LOOK)
                .await
            {
                lifecycle
                    .parts
                    .log
                    .event(
                        Level::Info,
                        "purge_drained",
                        "the last holder of a purged key let go",
                    )
                    .field("purge_id", receipt.purge_id.to_string())
                    .emit();
            }
        });
    }

    async fn drain_within(&self, receipt: &Receipt, patience: Duration, look: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let still_held_by = self.published.holders_before(receipt.revision);
            let done = still_held_by.is_empty();
            let drained_at = done.then(|| self.parts.clock.now());
            receipt.update(DrainState {
                drained_at,
                still_held_by,
            });
            if done || Instant::now() >= deadline {
                self.memory.recovery.changed();
                return done;
            }
            tokio::time::sleep(look).await;
        }
    }
}
