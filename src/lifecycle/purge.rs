//! Rotate and purge: only new keys are valid, from the answer on.
//!
//! Takes no lock and is never swallowed: it retries its commit until it wins, and it is over only
//! when no holder of an older snapshot is left.

use std::sync::Arc;
use std::time::Instant;

use crate::keys::timing::Timing;
use crate::keys::transition::{self, Activated, Decision, Order};
use crate::telemetry::{Level, RotationKind};

use super::drain::Receipt;
use super::rotate::RotationOutcome;
use super::step::MAX_ATTEMPTS;
use super::{Lifecycle, LifecycleError};

impl Lifecycle {
    /// Ends every key that verifies, provided that one which the caller saw at `seen_revision`
    /// still does; answers when every worker has let go of the old keys, or after the deadline
    /// with the names of those that have not.
    ///
    /// # Errors
    /// [`LifecycleError`]; then the keys are as before.
    pub async fn purge(
        self: &Arc<Self>,
        order: &Order,
        seen_revision: u64,
    ) -> Result<RotationOutcome, LifecycleError> {
        let started = Instant::now();
        let result = self.try_purge(order, seen_revision).await;
        self.count(order, RotationKind::Purge, &result, started);
        result
    }

    async fn try_purge(
        self: &Arc<Self>,
        order: &Order,
        seen_revision: u64,
    ) -> Result<RotationOutcome, LifecycleError> {
        let mut fresh = None;
        for _attempt in 0..MAX_ATTEMPTS {
            let loaded = self.load().await?;
            let (set, now) = (loaded.set, loaded.store_now);
            if let Decision::Unchanged(earlier) = transition::decide_purge(&set, seen_revision)? {
                let receipt = self.receipt(earlier.id);
                return Ok(RotationOutcome {
                    receipt,
                    ..RotationOutcome::unchanged(*earlier, set)
                });
            }
            let (active, pending) = match fresh.take() {
                Some(pair) => pair,
                None => (
                    self.fresh_key(set.revision).await?,
                    self.fresh_key(set.revision).await?,
                ),
            };
            let timing = &self.policy.timing;
            let next =
                transition::purge_all(&set, active.clone(), pending.clone(), order, timing, now);
            let admitted = self.published.admitted_by_kid();
            if self.commit(&set, next.set.clone()).await? {
                let receipt = Arc::new(Receipt::new(&next, admitted, timing));
                return Ok(self.finish(next, receipt).await);
            }
            fresh = Some((active, pending));
        }
        Err(LifecycleError::Contention(MAX_ATTEMPTS))
    }

    async fn finish(self: &Arc<Self>, next: Activated, receipt: Arc<Receipt>) -> RotationOutcome {
        self.remember(Arc::clone(&receipt));
        self.drain(&receipt).await;
        let state = receipt.state();
        let (level, message) = if state.drained_at.is_some() {
            (
                Level::Warn,
                "every earlier key is dead; no worker holds one",
            )
        } else {
            (
                Level::Error,
                "earlier keys are dead, but a worker still holds an old snapshot",
            )
        };
        self.parts
            .log
            .event(level, "keys_purged", message)
            .field("purge_id", receipt.purge_id.to_string())
            .field("revision", receipt.revision)
            .field("still_held_by", state.still_held_by)
            .field("open_requests", receipt.open_requests())
            .emit();
        RotationOutcome::changed(next, Some(receipt))
    }
}

/// Until when a verifier elsewhere may accept a purged key from its cached JWKS.
pub(super) fn external_verifiers_until(
    committed_at: crate::clock::Timestamp,
    timing: &Timing,
) -> crate::clock::Timestamp {
    committed_at.plus(timing.jwks_max_age)
}
