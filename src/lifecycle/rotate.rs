//! Plain rotation: idempotent for the window, by hand or by schedule.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Timestamp;
use crate::keys::idempotency::{self, Recalled};
use crate::keys::transition::{self, Activated, Decision, Order, Refusal};
use crate::keys::{Activation, KeySet, Trigger};
use crate::telemetry::{self, RotationKind, RotationResult};

use super::drain::Receipt;
use super::step::MAX_ATTEMPTS;
use super::{Lifecycle, LifecycleError};

/// What a rotation or a purge answers.
#[derive(Clone, Debug)]
pub struct RotationOutcome {
    /// False when it had already happened.
    pub changed: bool,
    /// It is the stored result of an earlier call with the same idempotency key.
    pub replayed: bool,
    /// The rotation, this one or the earlier one.
    pub activation: Activation,
    /// The key set after it.
    pub set: Arc<KeySet>,
    /// On a purge: who stopped when, and what is still open.
    pub receipt: Option<Arc<Receipt>>,
}

impl Lifecycle {
    /// Makes the pending key active and the active key deprecated; within the idempotency window
    /// it changes nothing and answers with the earlier result.
    ///
    /// # Errors
    /// [`LifecycleError`]; then the keys are as before and no window opens.
    pub async fn rotate(&self, order: &Order) -> Result<RotationOutcome, LifecycleError> {
        let started = Instant::now();
        let result = self.try_rotate(order).await;
        self.count(order, RotationKind::Rotate, &result, started);
        result
    }

    async fn try_rotate(&self, order: &Order) -> Result<RotationOutcome, LifecycleError> {
        let timing = &self.policy.timing;
        let mut fresh = None;
        for _attempt in 0..MAX_ATTEMPTS {
            let loaded = self.load().await?;
            let (set, now) = (loaded.set, loaded.store_now);
            if let Some(earlier) = recall(&set, order, now)? {
                return Ok(RotationOutcome::replayed(earlier, set, None));
            }
            let decision = transition::decide_rotate(&set, timing, order.seen_revision, now)?;
            if let Decision::Unchanged(earlier) = decision {
                return Ok(RotationOutcome::unchanged(*earlier, set));
            }
            refuse_unstorable(&set, order, now)?;
            // Made first, then all is looked at again: a new RSA key takes up to seconds, in which
            // the old key goes on signing. A rotation dated before them would end it too early.
            let Some(key) = fresh.take() else {
                fresh = Some(self.fresh_key(set.revision).await?);
                continue;
            };
            let next = transition::rotate(&set, key.clone(), order, timing, now);
            if self.commit(&set, next.set.clone()).await? {
                return Ok(RotationOutcome::changed(next, None));
            }
            fresh = Some(key);
        }
        Err(LifecycleError::Contention(MAX_ATTEMPTS))
    }

    pub(super) fn count(
        &self,
        order: &Order,
        kind: RotationKind,
        result: &Result<RotationOutcome, LifecycleError>,
        started: Instant,
    ) {
        self.trace(order, kind, result, started);
        let trigger = match order.trigger {
            Trigger::Manual => telemetry::Trigger::Manual,
            Trigger::Automatic => telemetry::Trigger::Automatic,
        };
        let result = match result {
            Ok(outcome) if outcome.changed && !outcome.replayed => RotationResult::Success,
            Ok(_) => RotationResult::Unchanged,
            // Whoever asked was told why and can mend it. The schedule has nobody to tell, so what keeps
            // it from rotating is a failure whatever it is.
            Err(LifecycleError::Refused(_)) if order.trigger == Trigger::Manual => {
                RotationResult::Refused
            }
            Err(_) => RotationResult::Failure,
        };
        self.parts
            .metrics
            .rotation(trigger, kind, result, started.elapsed().as_secs_f64());
    }
}

/// The result of an earlier call with the same idempotency key.
pub(super) fn recall(
    set: &KeySet,
    order: &Order,
    now: Timestamp,
) -> Result<Option<Activation>, Refusal> {
    let Some(claim) = &order.claim else {
        return Ok(None);
    };
    match idempotency::recall(set, &order.actor, claim, now) {
        Recalled::Nothing => Ok(None),
        Recalled::Result(stored) => Ok(Some(stored.activation.clone())),
        Recalled::OtherBody => Err(Refusal::OtherBody),
    }
}

/// A plain rotation whose result could not be kept would not be idempotent, as its caller expects.
fn refuse_unstorable(set: &KeySet, order: &Order, now: Timestamp) -> Result<(), Refusal> {
    let full = idempotency::full_until(set, &order.actor, now);
    match full.filter(|_| order.claim.is_some()) {
        Some(free_at) => Err(Refusal::IdempotencyFull { free_at }),
        None => Ok(()),
    }
}

impl RotationOutcome {
    pub(super) fn replayed(
        earlier: Activation,
        set: KeySet,
        receipt: Option<Arc<Receipt>>,
    ) -> Self {
        Self {
            changed: true,
            replayed: true,
            receipt,
            ..Self::unchanged(earlier, set)
        }
    }

    pub(super) fn unchanged(earlier: Activation, set: KeySet) -> Self {
        Self {
            changed: false,
            replayed: false,
            activation: earlier,
            set: Arc::new(set),
            receipt: None,
        }
    }

    pub(super) fn changed(next: Activated, receipt: Option<Arc<Receipt>>) -> Self {
        Self {
            changed: true,
            replayed: false,
            activation: next.activation,
            set: Arc::new(next.set),
            receipt,
        }
    }
}
