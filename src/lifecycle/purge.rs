//! Rotate and purge: only new keys are valid, from the answer on.
//!
//! Takes no lock and is never swallowed: it retries its commit until it wins, and it is over only
//! when no holder of an older snapshot is left.

use std::sync::Arc;
use std::time::Instant;

use crate::keys::timing::Timing;
use crate::keys::transition::{self, Activated, Decision, Order, PurgeScope};
use crate::keys::{FreshKey, KeySet, Kid};
use crate::telemetry::{Level, RotationKind};

use super::drain::Receipt;
use super::rotate::{RotationOutcome, recall};
use super::step::MAX_ATTEMPTS;
use super::{Lifecycle, LifecycleError};

/// Which keys to end, and what the caller knows of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeCommand {
    /// The keys.
    pub scope: PurgeScope,
    /// Whether the keys are declared not compromised, so that they can be restored.
    pub mistake_undo: bool,
    /// Whether it must not happen when the set is another one than the caller saw (RFC 9110
    /// §13.1.1); what has happened already is answered all the same.
    pub only_if_current: bool,
}

impl Lifecycle {
    /// Ends every key that verifies, provided that one which the caller saw at `seen_revision`
    /// still does.
    ///
    /// # Errors
    /// As [`Lifecycle::purge_scoped`].
    pub async fn purge(
        self: &Arc<Self>,
        order: &Order,
        seen_revision: u64,
    ) -> Result<RotationOutcome, LifecycleError> {
        let command = PurgeCommand {
            scope: PurgeScope::All,
            mistake_undo: false,
            only_if_current: false,
        };
        let order = Order {
            seen_revision: Some(seen_revision),
            ..order.clone()
        };
        self.purge_scoped(&order, &command).await
    }

    /// Ends the keys in scope, provided that one which the caller saw still verifies; answers when
    /// every worker has let go of the old keys, or after the deadline with the names of those that
    /// have not.
    ///
    /// # Errors
    /// [`LifecycleError`]; then the keys are as before.
    pub async fn purge_scoped(
        self: &Arc<Self>,
        order: &Order,
        command: &PurgeCommand,
    ) -> Result<RotationOutcome, LifecycleError> {
        let started = Instant::now();
        let result = self.try_purge(order, command).await;
        self.count(order, RotationKind::Purge, &result, started);
        result
    }

    async fn try_purge(
        self: &Arc<Self>,
        order: &Order,
        command: &PurgeCommand,
    ) -> Result<RotationOutcome, LifecycleError> {
        let PurgeCommand {
            scope,
            mistake_undo,
            only_if_current,
        } = command;
        let mut fresh = None;
        for _attempt in 0..MAX_ATTEMPTS {
            let loaded = self.load().await?;
            if let Some(earlier) = recall(&loaded.set, order, loaded.store_now)? {
                let receipt = self.drained_receipt(earlier.id).await;
                return Ok(RotationOutcome::replayed(earlier, loaded.set, receipt));
            }
            let decision =
                transition::decide_scoped_purge(&loaded.set, scope, order.seen_revision)?;
            if let Decision::Unchanged(earlier) = decision {
                let receipt = self.drained_receipt(earlier.id).await;
                return Ok(RotationOutcome {
                    receipt,
                    ..RotationOutcome::unchanged(*earlier, loaded.set)
                });
            }
            if *only_if_current {
                order.check_seen(&loaded.set)?;
            }
            // Whoever took the keys may have taken what seals them too.
            let demanded = if *mistake_undo {
                None
            } else {
                self.renew_kek(&loaded).await
            };
            let (set, now) = (loaded.set, loaded.store_now);
            let first_kek = self.parts.keyring.first_id();
            let made = fresh
                .take()
                .filter(|(active, pending)| sealed_under(&first_kek, active, pending));
            // Made first, then all is looked at again: a purge dated before its keys were made would
            // take what was issued meanwhile for the work of a thief.
            let Some(pair) = made else {
                fresh = Some((
                    self.fresh_key(set.revision).await?,
                    self.fresh_key(set.revision).await?,
                ));
                continue;
            };
            let timing = &self.policy.timing;
            let mut next =
                transition::purge(&set, scope, *mistake_undo, pair.clone(), order, timing, now);
            if !mistake_undo {
                self.seal_after_purge(&mut next.set, order.id, demanded.as_ref());
            }
            let admitted = self.published.admitted_by_kid();
            if self.commit(&set, next.set.clone()).await? {
                self.warn_if_demanded(&next.set, demanded.as_ref());
                let receipt = Arc::new(Receipt::new(&next.activation, admitted, timing));
                return Ok(self.finish(next, receipt).await);
            }
            fresh = Some(pair);
        }
        Err(LifecycleError::Contention(MAX_ATTEMPTS))
    }

    /// Undoes a purge that was declared a mistake, for one key: it verifies again until its old
    /// `verify_until`.
    ///
    /// # Errors
    /// [`LifecycleError`]; then the keys are as before.
    pub async fn restore(&self, order: &Order, kid: &Kid) -> Result<KeySet, LifecycleError> {
        for _attempt in 0..MAX_ATTEMPTS {
            let loaded = self.load().await?;
            let next = transition::restore(&loaded.set, kid, order, loaded.store_now)?;
            if self.commit(&loaded.set, next.clone()).await? {
                self.forget_proven(&loaded.set, kid);
                return Ok(next);
            }
        }
        Err(LifecycleError::Contention(MAX_ATTEMPTS))
    }

    /// Declares purged keys compromised after all: nothing can restore them from now on. False when
    /// they were already.
    ///
    /// # Errors
    /// [`LifecycleError`]; then the keys are as before.
    pub async fn mark_compromised(
        &self,
        order: &Order,
        kids: &[Kid],
    ) -> Result<(bool, KeySet), LifecycleError> {
        for _attempt in 0..MAX_ATTEMPTS {
            let loaded = self.load().await?;
            let next = transition::mark_compromised(&loaded.set, kids, order, loaded.store_now)?;
            let Some(mut next) = next else {
                return Ok((false, loaded.set));
            };
            // From now on it is as if the purge had been a compromised one.
            let demanded = self.renew_kek(&loaded).await;
            self.seal_after_purge(&mut next, order.id, demanded.as_ref());
            if self.commit(&loaded.set, next.clone()).await? {
                self.warn_if_demanded(&next, demanded.as_ref());
                return Ok((true, next));
            }
        }
        Err(LifecycleError::Contention(MAX_ATTEMPTS))
    }

    /// A key that lives again has no proven purged tokens.
    fn forget_proven(&self, before: &KeySet, kid: &Kid) {
        if let Some(dead) = before.tombstones.iter().find(|dead| dead.kid == *kid) {
            self.memory.proven.forget(dead.died_revision);
        }
    }

    async fn finish(self: &Arc<Self>, next: Activated, receipt: Arc<Receipt>) -> RotationOutcome {
        self.memory.remember(Arc::clone(&receipt));
        self.drain(&receipt).await;
        self.published.seat().answering(&receipt.kids);
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

fn sealed_under(kek: &str, active: &FreshKey, pending: &FreshKey) -> bool {
    [active, pending].iter().all(|key| key.sealed.kek == kek)
}

/// Until when a verifier elsewhere may accept a purged key from its cached JWKS.
pub(super) fn external_verifiers_until(
    committed_at: crate::clock::Timestamp,
    timing: &Timing,
) -> crate::clock::Timestamp {
    committed_at.plus(timing.jwks_max_age)
}
